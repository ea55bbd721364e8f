//! Where records lie: in the store, a file for each build that took a while, and one for all that did not.
//!
//! ```text
//! ROOT/rbuild/history/<milliseconds>-<id>.begun   what was asked for, of a build that takes a while; locked as long as it runs
//! ROOT/rbuild/history/<milliseconds>-<id>.json    the whole record; then the other is gone
//! ROOT/rbuild/history/recent                      those of builds that were over before they had the first, line by line (`recent`)
//! ```
//!
//! Names begin with the time in 13 digits, so the order of names is that of builds. A file appears by rename, when it is whole.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{FORMAT, Record, Status, VERSION};
use super::recent;
use crate::oci::Digest;
use crate::store::{Folder, Store};
use crate::text::url::without_passwords;

/// So many builds keep their records, and some more until somebody looks, which one in sixteen does, and until lines are taken out:
const BUILDS: usize = 100;
/// so many of them at once, for that takes as long as to write all the others again;
const MORE: usize = 32;
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
    at: At,
}

/// Where a record is.
#[derive(Clone, PartialEq, Eq)]
enum At {
    /// In a file of its own.
    Whole(PathBuf),
    /// In one that says what was asked for, of a build that has not ended or was killed.
    Begun(PathBuf),
    /// In a line of the file with all that were over soon, which is in this folder and was read.
    Line { folder: PathBuf, read: Arc<Vec<u8>>, at: Range<usize> },
}

impl std::fmt::Debug for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::Whole(path) | At::Begun(path) => write!(f, "{}", path.display()),
            At::Line { folder, at, .. } => write!(f, "{}:{at:?}", recent::path(folder).display()),
        }
    }
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
    let folder = store.folder(Folder::History);
    if begun.is_none() && text.len() <= recent::LONGEST {
        let append = || recent::append(&folder, &stem(record), text);
        match append() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                store.private(Folder::History);
                append()
            }
            appended => appended,
        }?;
    } else {
        put(&store.private(Folder::History).join(file_name(record, "json")), text)?;
    }
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
    format!("{}.{kind}", stem(record))
}

fn stem(record: &Record) -> String {
    format!("{:0DIGITS$}-{}", record.started_ms, record.id)
}

/// Most records are not longer.
const USUAL: usize = 4 << 10;

fn written(record: &Record) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(USUAL);
    serde_json::to_writer(&mut bytes, record)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// The record as it is kept: no URL in it has a password, whoever wrote it. (A URL ends with the quotation mark of its text.)
fn text(record: &Record) -> io::Result<String> {
    let text = written(record)?;
    Ok(match without_passwords(&text) {
        Cow::Owned(without) => without,
        Cow::Borrowed(_) => text,
    })
}

/// Takes the passwords of URLs out of a record, which others than the store are given, too; gives its text.
pub(super) fn clean(record: &mut Record) -> io::Result<String> {
    let text = written(record)?;
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
    list(store).iter().filter(|kept| kept.is_whole()).find_map(|kept| {
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
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    in_order(files.filter_map(named).chain(lines(folder)))
}

/// Those that are lines of one file.
fn lines(folder: &Path) -> Vec<Kept> {
    let read = crate::rootfs::open_regular(&recent::path(folder)).and_then(|file| read_all(&file));
    // Whatever is wrong with it hides no other record.
    let read = Arc::new(read.unwrap_or_default());
    let line = |(stem, at)| {
        let at = At::Line { folder: folder.to_owned(), read: Arc::clone(&read), at };
        kept(stem, at)
    };
    recent::lines(&read).filter_map(line).collect()
}

fn in_order(all: impl IntoIterator<Item = Kept>) -> Vec<Kept> {
    let mut all: Vec<Kept> = all.into_iter().collect();
    // A whole record goes before what its beginning left.
    all.sort_by(|a, b| (b.started_ms, &a.id, b.is_whole()).cmp(&(a.started_ms, &b.id, a.is_whole())));
    all.dedup_by(|later, first| later.id == first.id);
    all
}

fn named(path: PathBuf) -> Option<Kept> {
    let stem = path.file_stem()?.to_str()?.to_owned();
    let at = match path.extension()?.to_str()? {
        "json" => At::Whole(path),
        "begun" => At::Begun(path),
        _ => return None,
    };
    kept(&stem, at)
}

fn kept(stem: &str, at: At) -> Option<Kept> {
    let (time, id) = stem.split_once('-')?;
    let (id, started_ms) = (id.to_owned(), time.parse().ok()?);
    is_id(&id).then_some(Kept { id, started_ms, at })
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
    fn open(&self) -> io::Result<(Cow<'_, [u8]>, bool)> {
        let (At::Whole(path) | At::Begun(path)) = &self.at else { return Ok((self.bytes()?, false)) };
        let file = crate::rootfs::open_regular(path)?;
        let is_running = !self.is_whole() && matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        Ok((read_all(&file)?.into(), is_running))
    }

    /// Whether its build came to an end.
    fn is_whole(&self) -> bool {
        match self.at {
            At::Whole(_) | At::Line { .. } => true,
            At::Begun(_) => false,
        }
    }

    fn understood(&self, bytes: &[u8], is_running: bool) -> Result<Record, Error> {
        let mut record = parse(bytes).map_err(|fault| fault.of(&self.id))?;
        if !self.is_whole() {
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

    fn bytes(&self) -> io::Result<Cow<'_, [u8]>> {
        match &self.at {
            At::Whole(path) | At::Begun(path) => Ok(read_all(&crate::rootfs::open_regular(path)?)?.into()),
            At::Line { read, at, .. } => Ok(read[at.clone()].into()),
        }
    }

    /// Whether its build is under way.
    pub fn is_running(&self) -> bool {
        let locked = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        match &self.at {
            At::Whole(_) | At::Line { .. } => false,
            At::Begun(path) => crate::rootfs::open_regular(path).is_ok_and(locked),
        }
    }

    /// Forgets it.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn remove(&self) -> io::Result<()> {
        let (path, other) = match &self.at {
            At::Whole(path) => (path, "begun"),
            At::Begun(path) => (path, "json"),
            At::Line { folder, .. } => return recent::retain(folder, |stem| !self.is_called(stem)),
        };
        let _ = fs::remove_file(path.with_extension(other));
        fs::remove_file(path)
    }

    fn is_called(&self, stem: &str) -> bool {
        stem.split_once('-').is_some_and(|(_, id)| id == self.id)
    }
}

/// All of a file of records.
pub(super) fn read_all(file: &File) -> io::Result<Vec<u8>> {
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
    let (mut sum, mut surplus) = (0, BTreeSet::new());
    for (at, kept) in in_order(files.into_iter().filter_map(named).chain(lines(folder))).iter().enumerate() {
        if at >= LEAST {
            sum += match &kept.at {
                At::Whole(path) | At::Begun(path) => fs::metadata(path).map_or(0, |file| file.len()),
                At::Line { at, .. } => at.len() as u64,
            };
        }
        if at >= BUILDS || kept.started_ms.saturating_add(AGE_MS) < now_ms || sum > BYTES {
            match &kept.at {
                At::Whole(_) | At::Begun(_) => drop(kept.remove()),
                At::Line { .. } => drop(surplus.insert(kept.id.clone())),
            }
        }
    }
    let is_surplus = |stem: &str| stem.split_once('-').is_some_and(|(_, id)| surplus.contains(id));
    if surplus.len() >= MORE {
        let _ = recent::retain(folder, |stem| !is_surplus(stem));
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
        assert!(list(&store)[0].is_whole());
    }

    #[test]
    fn old_records_make_room() {
        let (_dir, store) = store();
        let start = 1_800_000_000_000;
        let end = (BUILDS + 60) as u64;
        // Some have files of their own: such as old ones have, and such as are long.
        let long = format!("RUN {}", "x".repeat(recent::LONGEST));
        for at in 0..=end {
            let notes = if at % 7 == 0 { vec![long.clone()] } else { Vec::new() };
            let record = Record { id: format!("{at:012x}"), notes, ..record(start + at) };
            finish(&store, None, &record, &text(&record).unwrap()).unwrap();
            let most = if at % 16 == 0 { BUILDS + MORE } else { BUILDS + MORE + 16 };
            assert!(list(&store).len() <= most, "{at}");
        }
        let kept = list(&store);
        assert!(kept.len() >= BUILDS && kept.iter().any(|kept| matches!(kept.at, At::Whole(_))));
        let newest = kept.iter().zip((0..=end).rev()).take(BUILDS);
        newest.for_each(|(kept, at)| assert_eq!(kept.started_ms, start + at));
        kept.iter().for_each(|kept| assert_eq!(kept.read().unwrap().started_ms, kept.started_ms));
        expire(&store.folder(Folder::History), start + AGE_MS + 1000);
        assert!(list(&store).is_empty());
    }

    /// Records of builds that were soon over are lines of one file.
    #[test]
    fn one_of_many_lines_is_removed() {
        let (_dir, store) = store();
        for at in 0..3 {
            let record = record(1_800_000_000_000 + at);
            finish(&store, None, &record, &text(&record).unwrap()).unwrap();
        }
        let kept = list(&store);
        assert_eq!(fs::read_dir(store.folder(Folder::History)).unwrap().count(), 1);
        kept[1].remove().unwrap();
        assert_eq!(list(&store).iter().map(|kept| &kept.id).collect::<Vec<_>>(), [&kept[0].id, &kept[2].id]);
        assert!(
            !add(&store, &kept[0].read().unwrap()).unwrap() && add(&store, &kept[1].read().unwrap()).unwrap()
        );
        assert_eq!(list(&store).len(), 3);
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
