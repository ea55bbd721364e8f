//! Remembers the digests of context files by what `lstat` says of them, as git's index does, and the names in
//! directories, as git's untracked cache does.
//!
//! One file per context; the bytes are the affair of `format`. A record is written only if the file had been at rest
//! when it was digested: git's rule for racy timestamps, applied when writing, so a record that is there can be believed.
//! The cache is a cache: what is damaged, of another version or unwritable is silently not used.
//!
//! The names in a directory are believed while its inode, modification and change time are the same. That is safe
//! because no name comes, goes or changes without the kernel setting both times of the directory, and because nobody
//! can set the change time back; a change within the clock's granularity cannot hide, since only a directory that had
//! been at rest is remembered. It is not done where times prove less: on file systems that are put together from
//! others or made as a whole (overlayfs, squashfs, EROFS), on those that are not this machine's, and after another
//! boot, as a crash may have kept a name and lost the time. What is *in* the files is not a matter of the directory's times:
//! `lstat` is asked of each name, always.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::fstat;

use super::listing::{Entry, Listed, Meta};
use super::path;
use crate::store::supersede;
use format::{Directory, Encoder, Identity, Record, Table};

mod format;

/// Clocks that stamp files tick at least this often (10 ms at CONFIG_HZ=100), with room to spare.
const GRANULARITY: Duration = Duration::from_millis(40);
/// File systems that keep whole seconds only.
const COARSE_GRANULARITY: Duration = Duration::from_secs(2);
/// Records of files that this build did not look at are kept up to this number.
const KEPT_RECORDS: usize = 500_000;

/// The remembered digests of one context.
#[derive(Debug)]
pub struct StatCache {
    file: PathBuf,
    /// A hash of this boot's id.
    boot: u64,
    /// When it was opened, before anything was looked at.
    opened: SystemTime,
    /// Read when it is wanted for the first time.
    table: OnceLock<Table>,
    /// Whether the context's file system keeps stable inodes and change times; else nothing is read.
    trusted: bool,
    learned: Mutex<Learned>,
    /// What the file system of a device is good for.
    devices: Mutex<HashMap<u64, Trust>>,
}

/// What this build found out.
#[derive(Debug, Default)]
struct Learned {
    /// Directories that were read.
    listed: Vec<(Vec<u8>, Identity, Box<[u8]>)>,
    /// Files that were digested.
    found: Vec<(Listed, [u8; 32])>,
}

/// What stable inodes and change times of a file system prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Nothing,
    /// That a file is the same.
    Files,
    /// That a directory has the same names, too.
    Names,
}

/// A path in the order of [`path::compare`].
#[derive(Debug, PartialEq, Eq)]
struct Key<'k>(&'k [u8]);

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        path::compare(self.0, other.0)
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl StatCache {
    /// The cache of the context at `context`, kept as a file in `folder`; empty when there is none yet, or when
    /// it cannot be used. `boot` is the kernel's id of this boot.
    pub fn open(folder: &Path, context: &Path, boot: &str) -> Self {
        let context = std::fs::canonicalize(context).unwrap_or_else(|_| context.to_owned());
        let name = blake3::hash(context.as_os_str().as_encoded_bytes()).to_hex();
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(boot.as_bytes()).as_bytes();
        Self {
            file: folder.join(&name[..32]),
            boot: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            opened: SystemTime::now(),
            table: OnceLock::new(),
            trusted: File::open(&context).is_ok_and(|dir| trust(dir) >= Trust::Files),
            learned: Mutex::default(),
            devices: Mutex::default(),
        }
    }

    fn table(&self) -> &Table {
        let read = || if self.trusted { Table::read(&self.file) } else { Table::default() };
        self.table.get_or_init(read)
    }

    /// The number of files whose digests were read from disk.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether nothing was read from disk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is remembered of the directory at `at`.
    pub(super) fn folder(&self, at: &[u8]) -> Option<Folder<'_>> {
        let directory = self.table().find(at)?;
        Some(Folder { cache: self, directory })
    }

    /// The digest of a file of which the scan found a record.
    pub(super) fn digest(&self, remembered: usize) -> [u8; 32] {
        self.table().record(remembered).digest
    }

    /// Remembers the digest of a file, unless it was changed so recently that a change right now could leave its times as
    /// they are.
    pub(super) fn digested(&self, entry: Entry<'_>, digest: &[u8; 32], file: &File) {
        let meta = entry.meta();
        if is_at_rest(&meta, self.opened) && self.trust(meta.device, file) >= Trust::Files {
            lock(&self.learned).found.push((entry.to_listed(), *digest));
        }
    }

    /// Remembers the names in the directory at `at`, under the same condition, if it still is what `lstat` said of it before
    /// they were read.
    pub(super) fn listed(&self, at: &[u8], own: &Meta, names: &[u8], directory: impl AsFd) {
        let identity = Identity::from(own);
        let is_same = || fstat(&directory).is_ok_and(|now| Identity::from(&Meta::from(&now)) == identity);
        if self.trusted
            && is_at_rest(own, self.opened)
            && self.trust(own.device, &directory) >= Trust::Names
            && is_same()
        {
            lock(&self.learned).listed.push((at.to_vec(), identity, names.into()));
        }
    }

    /// Writes what was learned, if anything was, in one atomic step. A failure costs only time in the next build,
    /// so it is for the caller to mention or not.
    pub fn save(&self) -> std::io::Result<()> {
        let learned = std::mem::take(&mut *lock(&self.learned));
        if learned.found.is_empty() && learned.listed.is_empty() {
            return Ok(());
        }
        let encoder = self.merged(&learned);
        let temporary = self.file.with_extension(format!("{}.new", std::process::id()));
        let write = || -> std::io::Result<()> {
            encoder.write(&mut File::create(&temporary)?, self.boot)?;
            supersede(&temporary, &self.file)
        };
        write().inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })
    }

    /// What was known before with what was learned in its place, directory by directory.
    fn merged(&self, learned: &Learned) -> Encoder {
        let table = self.table();
        let mut changes: BTreeMap<Key<'_>, Change<'_>> = BTreeMap::new();
        for (listed, digest) in &learned.found {
            let entry = listed.entry();
            let record = Record::new(&entry.meta(), *digest);
            changes.entry(Key(entry.place().0.path())).or_default().records.insert(entry.name(), record);
        }
        for (path, identity, names) in &learned.listed {
            changes.entry(Key(path)).or_default().names = Some((*identity, names));
        }
        let is_full = table.len() + learned.found.len() > KEPT_RECORDS;
        let mut encoder = Encoder::default();
        let mut changes = changes.into_iter().peekable();
        for old in table.directories().filter(|_| !is_full) {
            let at = table.path(old.number);
            while let Some((key, change)) = changes.next_if(|(key, _)| path::compare(key.0, at).is_lt()) {
                change.encode(key.0, &mut encoder);
            }
            let change =
                changes.next_if(|(key, _)| key.0 == at).map(|(_, change)| change).unwrap_or_default();
            self.replaced(&old, change).encode(at, &mut encoder);
        }
        changes.for_each(|(key, change)| change.encode(key.0, &mut encoder));
        encoder
    }

    /// `change` with what it leaves of an old directory.
    fn replaced<'c>(&'c self, old: &Directory, mut change: Change<'c>) -> Change<'c> {
        let table = self.table();
        let left: Option<HashSet<&[u8]>> =
            change.names.map(|(_, names)| names.split(|byte| *byte == 0).collect());
        for number in old.records.clone() {
            let name = table.name(number);
            if left.as_ref().is_none_or(|left| left.contains(name)) {
                change.records.entry(name).or_insert_with(|| table.record(number));
            }
        }
        let is_of_this_boot = table.boot == self.boot;
        let old_names = old.identity.filter(|_| is_of_this_boot).map(|identity| (identity, table.names(old)));
        change.names = change.names.or(old_names);
        change
    }

    fn trust(&self, device: u64, file: impl AsFd) -> Trust {
        *lock(&self.devices).entry(device).or_insert_with(|| trust(file))
    }
}

/// What is to be written of one directory.
#[derive(Debug, Default)]
struct Change<'c> {
    names: Option<(Identity, &'c [u8])>,
    records: BTreeMap<&'c [u8], Record>,
}

impl Change<'_> {
    fn encode(&self, path: &[u8], encoder: &mut Encoder) {
        encoder.add(path, self.names, self.records.iter().map(|(name, record)| (*name, *record)));
    }
}

/// A poisoned lock holds nothing that could be half-done here.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is remembered of one directory.
#[derive(Debug, Clone)]
pub(super) struct Folder<'c> {
    cache: &'c StatCache,
    directory: Directory,
}

impl<'c> Folder<'c> {
    /// All names in the directory, sorted, a zero byte behind each, if it still is what `lstat` says now.
    pub(super) fn names(&self, own: &Meta) -> Option<&'c [u8]> {
        let table = self.cache.table();
        let holds = table.boot == self.cache.boot && self.directory.identity == Some(own.into());
        holds.then(|| table.names(&self.directory))
    }

    /// The number of the record of `name`, if `meta` is of the file that was digested. `next` is where it is looked for
    /// first, and then where the next name is likely to be; it begins at 0.
    pub(super) fn find(&self, name: &[u8], meta: &Meta, next: &mut usize) -> Option<usize> {
        let table = self.cache.table();
        let records = &self.directory.records;
        let near = records.start + *next;
        let number = if records.contains(&near) && table.name(near) == name {
            near
        } else {
            table.find_record(records.clone(), name)?
        };
        *next = number + 1 - records.start;
        table.record(number).describes(meta).then_some(number)
    }
}

fn is_at_rest(meta: &Meta, now: SystemTime) -> bool {
    let whole_seconds = meta.ctime.1 == 0;
    let granularity = if whole_seconds { COARSE_GRANULARITY } else { GRANULARITY };
    let latest = meta.mtime.max(meta.ctime);
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(granularity);
    latest < (since_epoch.as_secs() as i64, since_epoch.subsec_nanos())
}

/// How far inode numbers and change times can be believed: only on file systems of this machine. Network and
/// user-space ones (NFS, SMB, 9p, FUSE) may invent both.
fn trust(file: impl AsFd) -> Trust {
    const NAMES: &[i64] = &[
        0xef53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0x0102_1994, // tmpfs
        0x8584_58f6, // ramfs
        0x2fc1_2fc1, // zfs
        0xf2f5_2010, // f2fs
        0xca45_1a4e, // bcachefs
        0x3153_464a, // jfs
    ];
    const FILES: &[i64] = &[
        0x794c_7630, // overlayfs: inodes of regular files are those of its layers, times of directories those of one layer
        0xe0f5_e1e2, // erofs
        0x7371_7368, // squashfs
    ];
    match rustix::fs::fstatfs(file).map(|fs| fs.f_type & 0xffff_ffff) {
        Ok(kind) if NAMES.contains(&kind) => Trust::Names,
        Ok(kind) if FILES.contains(&kind) => Trust::Files,
        Ok(_) | Err(_) => Trust::Nothing,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::listing::Entry;
    use super::super::scan::Context;
    use super::*;
    use std::fs;

    const BOOT: &str = "this one";

    struct Fixture {
        context: tempfile::TempDir,
        folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new(files: &[&str]) -> Self {
            let fixture =
                Self { context: tempfile::tempdir().unwrap(), folder: tempfile::tempdir().unwrap() };
            for file in files {
                fixture.write(file, file);
            }
            fixture
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.context.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn settle(&self) {
            std::thread::sleep(GRANULARITY * 2);
        }

        /// Digests everything; says how many records were there and which digests were found.
        fn build(&self) -> (usize, Vec<[u8; 32]>) {
            let cache = StatCache::open(self.folder.path(), self.context.path(), BOOT);
            let records = cache.len();
            let context = Context::open(self.context.path(), None, Some(cache)).unwrap();
            let mut files: Vec<Entry<'_>> = Vec::new();
            let mut visit = |_: &[u8], entry| files.push(entry);
            context.walk(context.top(), &mut visit).unwrap();
            files.retain(Entry::is_file);
            let digests = context.digests(files.len(), |number| files[number]).unwrap();
            context.save_digests().unwrap();
            (records, (0..files.len()).map(|number| *digests.content(number)).collect())
        }

        fn cache_file(&self) -> PathBuf {
            fs::read_dir(self.folder.path()).unwrap().next().unwrap().unwrap().path()
        }
    }

    fn digest(text: &str) -> [u8; 32] {
        *blake3::hash(text.as_bytes()).as_bytes()
    }

    #[test]
    fn remembers_and_notices_changes() {
        let fixture = Fixture::new(&["a", "b/c", "b-d"]);
        fixture.settle();
        let expected = vec![digest("a"), digest("b/c"), digest("b-d")];
        assert_eq!(fixture.build(), (0, expected.clone()));
        assert_eq!(fixture.build(), (3, expected));
        // Same size, and the old modification time forged: the change time betrays it.
        let time = fs::metadata(fixture.context.path().join("a")).unwrap().modified().unwrap();
        fixture.write("a", "x");
        File::options()
            .write(true)
            .open(fixture.context.path().join("a"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        fixture.write("b/new", "new");
        let expected = vec![digest("x"), digest("b/c"), digest("new"), digest("b-d")];
        assert_eq!(fixture.build(), (3, expected.clone()));
        assert_eq!(fixture.build().1, expected);
    }

    #[test]
    fn a_file_changed_just_now_is_not_remembered() {
        let fixture = Fixture::new(&["a"]);
        let meta = |mtime, ctime| Meta { mode: 0, size: 0, inode: 0, device: 0, links: 1, mtime, ctime };
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        for (mtime, ctime, expected) in [
            ((999, 900_000_000), (999, 900_000_000), true),
            ((1, 0), (999, 990_000_000), false),
            ((1, 0), (1001, 1), false),
            ((1001, 1), (1, 1), false),
            ((1, 0), (999, 0), false),
            ((1, 0), (997, 0), true),
        ] {
            assert_eq!(is_at_rest(&meta(mtime, ctime), now), expected, "{mtime:?} {ctime:?}");
        }
        fixture.settle();
        fixture.build();
        assert_eq!(fixture.build().0, 1);
    }

    #[test]
    fn a_damaged_cache_is_not_used() {
        let fixture = Fixture::new(&["a", "b"]);
        fixture.settle();
        fixture.build();
        let file = fixture.cache_file();
        let good = fs::read(&file).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bad in [flipped, good[..good.len() - 1].to_vec(), good[..20].to_vec(), Vec::new(), vec![0; 4096]]
        {
            fs::write(&file, bad).unwrap();
            assert_eq!(fixture.build(), (0, vec![digest("a"), digest("b")]));
            assert_eq!(fixture.build().0, 2);
        }
    }

    #[test]
    fn records_of_files_not_looked_at_stay() {
        let fixture = Fixture::new(&["a", "b", "c"]);
        fixture.settle();
        fixture.build();
        fixture.write("b", "new b");
        fixture.settle();
        let cache = StatCache::open(fixture.folder.path(), fixture.context.path(), BOOT);
        let context = Context::open(fixture.context.path(), None, Some(cache)).unwrap();
        context.digest(context.entry(b"b").unwrap().unwrap()).unwrap();
        context.save_digests().unwrap();
        assert_eq!(fixture.build(), (3, vec![digest("a"), digest("new b"), digest("c")]));
    }

    impl Fixture {
        /// The names that are believed to be in the directory at `at`.
        fn names(&self, at: &str, boot: &str) -> Option<String> {
            let cache = StatCache::open(self.folder.path(), self.context.path(), boot);
            let stat = rustix::fs::stat(self.context.path().join(at)).unwrap();
            let folder = cache.folder(at.as_bytes())?;
            let names = folder.names(&Meta::from(&stat))?;
            Some(String::from_utf8_lossy(names).replace('\0', " ").trim_end().to_owned())
        }

        /// Everything that a build sees, as paths.
        fn seen(&self, rules: &str) -> String {
            let cache = StatCache::open(self.folder.path(), self.context.path(), BOOT);
            let ignore = super::super::ignore::parse(rules.as_bytes(), "rules").unwrap();
            let context = Context::open(self.context.path(), Some(ignore), Some(cache)).unwrap();
            let mut paths = Vec::new();
            context
                .walk(context.top(), &mut |path, _| paths.push(String::from_utf8_lossy(path).into_owned()))
                .unwrap();
            context.save_digests().unwrap();
            paths.join(" ")
        }

        fn path(&self, name: &str) -> PathBuf {
            self.context.path().join(name)
        }
    }

    #[test]
    fn names_are_believed_while_their_directory_is_the_same() {
        let fixture = Fixture::new(&["a", "b/c", "b/d"]);
        fixture.settle();
        assert_eq!(fixture.names("b", BOOT), None);
        assert_eq!(fixture.seen(""), "a b b/c b/d");
        assert_eq!(fixture.names("", BOOT).as_deref(), Some("a b"));
        assert_eq!(fixture.names("b", BOOT).as_deref(), Some("c d"));
        // A crash in between may have kept a name and lost the directory's time.
        assert_eq!(fixture.names("b", "another"), None);
        // What is in a file is no matter of its directory.
        fixture.write("b/c", "other");
        assert_eq!(fixture.names("b", BOOT).as_deref(), Some("c d"));
        assert_eq!(fixture.seen(""), "a b b/c b/d");
        assert_eq!(fixture.build().1, [digest("a"), digest("other"), digest("b/d")]);
    }

    type Deed = fn(&Fixture);

    #[test]
    fn names_that_come_go_or_change_are_seen() {
        let deeds: [(Deed, &str); 7] = [
            (|f| f.write("b/e", "new"), "a b b/c b/d b/e"),
            (|f| fs::remove_file(f.path("b/c")).unwrap(), "a b b/d"),
            (|f| fs::rename(f.path("b/c"), f.path("b/x")).unwrap(), "a b b/d b/x"),
            (|f| fs::rename(f.path("a"), f.path("b/c")).unwrap(), "b b/c b/d"),
            (|f| fs::hard_link(f.path("a"), f.path("b/x")).unwrap(), "a b b/c b/d b/x"),
            (
                |f| {
                    fs::remove_dir_all(f.path("b")).unwrap();
                    f.write("b/y", "y");
                },
                "a b b/y",
            ),
            (
                |f| {
                    // The change time betrays that the modification time was set back.
                    let time = fs::metadata(f.path("b")).unwrap().modified().unwrap();
                    f.write("b/z", "z");
                    File::open(f.path("b")).unwrap().set_modified(time).unwrap();
                },
                "a b b/c b/d b/z",
            ),
        ];
        for (deed, expected) in deeds {
            let fixture = Fixture::new(&["a", "b/c", "b/d"]);
            fixture.settle();
            fixture.build();
            assert!(fixture.names("b", BOOT).is_some());
            deed(&fixture);
            // At once, when the directory is not at rest, and later, when it is remembered again, and from there.
            assert_eq!(fixture.seen(""), expected);
            fixture.settle();
            assert_eq!(fixture.seen(""), expected);
            assert!(fixture.names("b", BOOT).is_some());
            assert_eq!(fixture.seen(""), expected);
        }
    }

    #[test]
    fn names_in_a_directory_changed_just_now_are_not_remembered() {
        let fixture = Fixture::new(&["a", "b/c"]);
        fixture.settle();
        fixture.write("b/d", "d");
        assert_eq!(fixture.seen(""), "a b b/c b/d");
        assert_eq!(fixture.names("b", BOOT), None);
        assert_eq!(fixture.names("", BOOT).as_deref(), Some("a b"));
    }

    #[test]
    fn what_one_build_ignores_another_sees() {
        let fixture = Fixture::new(&["a", "b/c", "b/d"]);
        fixture.settle();
        assert_eq!(fixture.seen("a\nb/c"), "b b/d");
        assert_eq!(fixture.names("b", BOOT).as_deref(), Some("c d"));
        assert_eq!(fixture.seen(""), "a b b/c b/d");
    }

    #[test]
    fn records_of_removed_files_go() {
        let fixture = Fixture::new(&["a", "b/c", "b/d"]);
        fixture.settle();
        fixture.build();
        fs::remove_file(fixture.path("b/c")).unwrap();
        fixture.settle();
        fixture.build();
        assert_eq!(fixture.build(), (2, vec![digest("a"), digest("b/d")]));
    }
}
