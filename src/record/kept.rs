//! Where records lie: in the store, a file for each build.
//!
//! ```text
//! ROOT/rbuild/history/<milliseconds>-<id>.begun   what was asked for, of a build that takes a while; locked as long as it runs
//! ROOT/rbuild/history/<milliseconds>-<id>.json    the whole record; then the other is gone
//! ```
//!
//! Names begin with the time in 13 digits, so the order of names is that of builds, and none is opened to find the last. A file appears
//! by rename, when it is whole.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::format::{FORMAT, Record, Status, VERSION};
use crate::oci::Digest;
use crate::store::{Folder, Store};
use crate::text::url::without_passwords;

/// So many builds keep their records, and some more until somebody looks, which one in sixteen does:
const BUILDS: usize = 100;
/// each for so long, in milliseconds,
const AGE_MS: u64 = 60 * 86_400_000;
/// as long as all together have no more bytes than this;
const BYTES: u64 = 64 << 20;
/// but so many in any case.
const LEAST: usize = 10;
/// Longer files are no records of rbuild's.
const LIMIT: u64 = 64 << 20;
/// Digits of a time in milliseconds, until the year 2286.
const DIGITS: usize = 13;

/// A record that is there; it was not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The build's id.
    pub id: String,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    path: PathBuf,
    is_whole: bool,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system says so.
    #[error("cannot read the record `{id}`: {source}")]
    Io {
        /// Of the build.
        id: String,
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// It is none.
    #[error("the record `{id}` is damaged: {reason}")]
    Damaged {
        /// Of the build.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A newer rbuild wrote it.
    #[error(
        "the record `{id}` was written by a newer rbuild (format {version}, and this one knows {VERSION})"
    )]
    Newer {
        /// Of the build.
        id: String,
        /// Of the format.
        version: u64,
    },
}

/// The record of a build that runs.
#[derive(Debug)]
pub(super) struct Begun {
    /// Locked until it is closed, which a killed process does, too.
    _lock: File,
    path: PathBuf,
}

/// A new id, of twelve hexadecimal digits. No output depends on it.
pub(super) fn new_id() -> String {
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{:012x}", random & 0xffff_ffff_ffff)
}

/// Says in the store that a build has begun. Whoever sees the file finds it whole, and locked.
pub(super) fn begin(store: &Store, record: &Record) -> io::Result<Begun> {
    let path = store.private(Folder::History).join(file_name(record, "begun"));
    let fresh = path.with_extension("new");
    let text = text(record)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    // A lock that cannot be had makes the build look as if it were killed until it ends.
    let _ = file.try_lock();
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&fresh, &path));
    match written {
        Ok(()) => Ok(Begun { _lock: file, path }),
        Err(error) => {
            // A full disk has room for nothing that is half there.
            let _ = fs::remove_file(&fresh);
            Err(error)
        }
    }
}

/// Puts the whole record, whose text this is, in its place; what was left of the beginning goes. Now and then, what is too old or too much makes room: to look
/// for that costs more than to write a record.
pub(super) fn finish(store: &Store, begun: Option<Begun>, record: &Record, text: &str) -> io::Result<()> {
    let folder = store.private(Folder::History);
    put(&folder.join(file_name(record, "json")), text)?;
    match begun.map(|begun| fs::remove_file(&begun.path)) {
        // Somebody has removed it: `rbuild history rm`, say.
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Some(_) | None => {}
    }
    if record.id.ends_with('0') {
        expire(&folder, record.started_ms);
    }
    Ok(())
}

fn file_name(record: &Record, kind: &str) -> String {
    format!("{:0DIGITS$}-{}.{kind}", record.started_ms, record.id)
}

/// The record as it is kept: no URL in it has a password, whoever wrote it. (A URL ends with the quotation mark of its text.)
fn text(record: &Record) -> io::Result<String> {
    let text = serde_json::to_string(record)?;
    Ok(match without_passwords(&text) {
        Cow::Owned(without) => without,
        Cow::Borrowed(_) => text,
    })
}

/// Takes the passwords of URLs out of a record, which others than the store are given, too; gives its text.
pub(super) fn clean(record: &mut Record) -> io::Result<String> {
    let text = serde_json::to_string(record)?;
    let Cow::Owned(without) = without_passwords(&text) else { return Ok(text) };
    // It is the same shape, with other texts in it; one that could not be read would be no record.
    let read = serde_json::from_str(&without).map_err(io::Error::from);
    let (clean, fault) = match read {
        Ok(clean) => (clean, Ok(())),
        Err(error) => (Record::default(), Err(error)),
    };
    *record = clean;
    fault.map(|()| without)
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let written = || {
        crate::store::write_private(&fresh, text.as_bytes())?;
        fs::rename(&fresh, path)
    };
    written().inspect_err(|_| drop(fs::remove_file(&fresh)))
}

/// Adds a record of another store; `false` if it is there already.
///
/// # Errors
/// Whatever the system refuses.
pub fn add(store: &Store, record: &Record) -> io::Result<bool> {
    if list(store).iter().any(|kept| kept.id == record.id) {
        return Ok(false);
    }
    put(&store.private(Folder::History).join(file_name(record, "json")), &text(record)?).map(|()| true)
}

/// Whether a text can be the id of a build: it is a part of file names.
pub fn is_id(text: &str) -> bool {
    (6..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// The records that there are, the newest first.
pub fn list(store: &Store) -> Vec<Kept> {
    entries(&store.folder(Folder::History))
}

/// The last build that made an image, and which of its targets that is. `digest` is that of its manifest, or of the index it is in.
pub fn of_image(store: &Store, digest: &Digest) -> Option<(Record, usize)> {
    let digest = digest.to_string();
    let finder = memchr::memmem::Finder::new(digest.as_bytes());
    list(store).iter().filter(|kept| kept.is_whole).find_map(|kept| {
        // Most records are of other images, and need not be understood.
        let record = parse(&kept.bytes().ok().filter(|bytes| finder.find(bytes).is_some())?).ok()?;
        let target = record.targets.iter().position(|target| {
            target.made.as_ref().is_some_and(|made| {
                made.digest == digest || made.images.iter().any(|image| image.manifest == digest)
            })
        })?;
        Some((record, target))
    })
}

fn entries(folder: &Path) -> Vec<Kept> {
    in_order(fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()))
}

fn in_order(files: impl IntoIterator<Item = PathBuf>) -> Vec<Kept> {
    let mut all: Vec<Kept> = files.into_iter().filter_map(named).collect();
    // A whole record goes before what its beginning left.
    all.sort_by(|a, b| (b.started_ms, &a.id, b.is_whole).cmp(&(a.started_ms, &b.id, a.is_whole)));
    all.dedup_by(|later, first| later.id == first.id);
    all
}

fn named(path: PathBuf) -> Option<Kept> {
    let is_whole = match path.extension()?.to_str()? {
        "json" => true,
        "begun" => false,
        _ => return None,
    };
    let (time, id) = path.file_stem()?.to_str()?.split_once('-')?;
    let (id, started_ms) = (id.to_owned(), time.parse().ok()?);
    is_id(&id).then_some(Kept { id, started_ms, path, is_whole })
}

impl Kept {
    /// Reads it. One whose build has not ended says what was asked for, and whether its process is still there.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn read(&self) -> Result<Record, Error> {
        let (bytes, is_running) = self.open().map_err(|source| Error::Io { id: self.id.clone(), source })?;
        self.understood(&bytes, is_running)
    }

    /// Its bytes, and whether its build is under way.
    fn open(&self) -> io::Result<(Vec<u8>, bool)> {
        let file = crate::rootfs::open_regular(&self.path)?;
        let is_running = !self.is_whole && matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        Ok((read_all(file)?, is_running))
    }

    fn understood(&self, bytes: &[u8], is_running: bool) -> Result<Record, Error> {
        let mut record = parse(bytes).map_err(|fault| fault.of(&self.id))?;
        if !self.is_whole {
            record.status = if is_running { Status::Running } else { Status::Killed };
        }
        Ok(record)
    }

    /// Reads it if its text has what is looked for; one that has not is none, as is one that cannot be read. Most records are of other
    /// things, and need not be understood.
    pub fn read_if(&self, finder: &memchr::memmem::Finder<'_>) -> Option<Record> {
        let (bytes, is_running) = self.open().ok()?;
        finder.find(&bytes)?;
        self.understood(&bytes, is_running).ok()
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        read_all(crate::rootfs::open_regular(&self.path)?)
    }

    /// Whether its build is under way.
    pub fn is_running(&self) -> bool {
        let locked = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        !self.is_whole && crate::rootfs::open_regular(&self.path).is_ok_and(locked)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn remove(&self) -> io::Result<()> {
        let other = self.path.with_extension(if self.is_whole { "begun" } else { "json" });
        let _ = fs::remove_file(other);
        fs::remove_file(&self.path)
    }
}

fn read_all(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).map(|_| bytes)
}

/// What is wrong with bytes that should be a record.
pub enum Fault {
    /// They are none.
    Damaged(String),
    /// They are of this version.
    Newer(u64),
}

impl Fault {
    /// As an error about the record of that id.
    pub fn of(self, id: &str) -> Error {
        let id = id.to_owned();
        match self {
            Fault::Damaged(reason) => Error::Damaged { id, reason },
            Fault::Newer(version) => Error::Newer { id, version },
        }
    }
}

/// A record from its bytes.
///
/// # Errors
/// As [`Fault`] says.
pub fn parse(bytes: &[u8]) -> Result<Record, Fault> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: String,
        version: u64,
    }
    let damaged = |error: serde_json::Error| Fault::Damaged(error.to_string());
    let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
    match (head.format == FORMAT, head.version) {
        (false, _) => Err(Fault::Damaged(format!("its format is `{}`", head.format))),
        (true, version) if version > u64::from(VERSION) => Err(Fault::Newer(version)),
        (true, _) => serde_json::from_slice(bytes).map_err(damaged),
    }
}

/// Removes what is too old or too much.
fn expire(folder: &Path, now_ms: u64) {
    let files: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
    let (others, files): (Vec<PathBuf>, Vec<PathBuf>) =
        files.into_iter().partition(|path| path.extension().is_some_and(|e| e == "new"));
    let mut sum = 0;
    for (at, kept) in in_order(files).iter().enumerate() {
        if at >= LEAST {
            sum += fs::metadata(&kept.path).map_or(0, |file| file.len());
        }
        if at >= BUILDS || kept.started_ms.saturating_add(AGE_MS) < now_ms || sum > BYTES {
            let _ = kept.remove();
        }
    }
    // What a killed process left of one that it was about to put in its place.
    for path in others {
        let is_old =
            |file: fs::Metadata| file.modified().ok()?.elapsed().ok().map(|age| age.as_secs() > 3600);
        if fs::metadata(&path).ok().and_then(is_old) == Some(true) {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s")).unwrap();
        (dir, store)
    }

    fn record(started_ms: u64) -> Record {
        Record { format: FORMAT.to_owned(), version: VERSION, id: new_id(), started_ms, ..Record::default() }
    }

    #[test]
    fn a_build_is_seen_before_it_ends_and_after_it_was_killed() {
        let (_dir, store) = store();
        let record = record(1_800_000_000_000);
        let begun = begin(&store, &record).unwrap();
        let status = || list(&store)[0].read().unwrap().status;
        assert_eq!(status(), Status::Running);
        let path = begun.path.clone();
        drop(begun);
        assert_eq!(status(), Status::Killed);
        let begun = Begun { _lock: File::open(&path).unwrap(), path };
        let whole = Record { status: Status::Completed, ..record.clone() };
        finish(&store, Some(begun), &whole, &text(&whole).unwrap()).unwrap();
        assert_eq!(status(), Status::Completed);
        assert_eq!(fs::read_dir(store.folder(Folder::History)).unwrap().count(), 1);
        assert!(!add(&store, &record).unwrap());
        list(&store)[0].remove().unwrap();
        assert!(list(&store).is_empty() && add(&store, &record).unwrap());
    }

    /// A file that a reader sees is whole and locked; one that cannot be had leaves nothing, and what somebody removed is no fault.
    #[test]
    fn a_beginning_appears_whole_or_not_at_all() {
        let (_dir, store) = store();
        let record = record(1_800_000_000_000);
        let folder = store.private(Folder::History);
        let begun = folder.join(file_name(&record, "begun"));
        // Nothing can take the place of a folder.
        fs::create_dir(&begun).unwrap();
        assert!(begin(&store, &record).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir(&begun).unwrap();
        let left = begin(&store, &record).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_file(&begun).unwrap();
        finish(&store, Some(left), &record, &text(&record).unwrap()).unwrap();
        assert!(list(&store)[0].is_whole);
    }

    #[test]
    fn old_records_make_room() {
        let (_dir, store) = store();
        let start = 1_800_000_000_000;
        // The last is one of those that look.
        for at in 0..=BUILDS as u64 + 12 {
            let record = Record { id: format!("{at:012x}"), ..record(start + at) };
            finish(&store, None, &record, &text(&record).unwrap()).unwrap();
        }
        let kept = list(&store);
        assert_eq!((kept.len(), kept[0].started_ms), (BUILDS, start + BUILDS as u64 + 12));
        expire(&store.folder(Folder::History), start + AGE_MS + 1000);
        assert!(list(&store).is_empty());
    }

    #[test]
    fn what_is_no_record_is_told_as_such() {
        let (_dir, store) = store();
        let folder = store.private(Folder::History);
        for (text, expected) in [
            ("", "is damaged"),
            ("{\"format\":\"x\",\"version\":1}", "its format is `x`"),
            ("{\"format\":\"rbuild.build-record\",\"version\":99}", "newer rbuild (format 99"),
            ("{\"format\":\"rbuild.build-record\",\"version\":1,\"id\":3}", "is damaged"),
        ] {
            fs::write(folder.join("1800000000000-abcdef.json"), text).unwrap();
            let told = list(&store)[0].read().unwrap_err().to_string();
            assert!(told.contains(expected), "{text}: {told}");
        }
        for other in ["x.json", "1-../x.json", "1800000000000-ABCDEF.json", "1800000000000-abcdef.txt"] {
            let _ = fs::write(folder.join(other), "");
        }
        assert_eq!(list(&store).len(), 1);
    }
}
