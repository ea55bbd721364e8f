//! Remembers the digests of context files by what `lstat` says of them, as git's index does.
//!
//! One file per context: a header, records of fixed size sorted by path, then the paths. A record is written
//! only if the file had been at rest when it was digested: git's rule for racy timestamps, applied when
//! writing, so a record that is there can be believed. The cache is a cache: what is damaged, of another
//! version or unwritable is silently not used.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::path;
use super::scan::Meta;
use crate::store::supersede;
use format::{Record, Table};

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
    /// Read when it is wanted for the first time.
    table: OnceLock<Table>,
    /// Whether the context's file system keeps stable inodes and change times; else nothing is read.
    trusted: bool,
    found: Mutex<BTreeMap<Key, Record>>,
    /// Whether the file system of a device keeps stable inodes and change times.
    trusted_devices: Mutex<HashMap<u64, bool>>,
}

/// A path in the order of [`path::compare`].
#[derive(Debug, PartialEq, Eq)]
struct Key(Vec<u8>);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        path::compare(&self.0, &other.0)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl StatCache {
    /// The cache of the context at `context`, kept as a file in `folder`; empty when there is none yet, or when
    /// it cannot be used.
    pub fn open(folder: &Path, context: &Path) -> Self {
        let context = std::fs::canonicalize(context).unwrap_or_else(|_| context.to_owned());
        let name = blake3::hash(context.as_os_str().as_encoded_bytes()).to_hex();
        let file = folder.join(&name[..32]);
        let trusted = File::open(&context).is_ok_and(|dir| is_local(&dir));
        let (table, found, trusted_devices) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Self { file, table, trusted, found, trusted_devices }
    }

    fn table(&self) -> &Table {
        let read = || if self.trusted { Table::read(&self.file) } else { Table::default() };
        self.table.get_or_init(read)
    }

    /// The number of records read from disk.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether nothing was read from disk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks records up; quick when asked in the order of a walk.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { table: self.table(), next: 0 }
    }

    /// Begins to remember what is digested from now on.
    pub(super) fn recording(&self) -> Recording<'_> {
        Recording { cache: self, began: SystemTime::now() }
    }

    /// Writes what was learned, if anything was, in one atomic step. A failure costs only time in the next build,
    /// so it is for the caller to mention or not.
    pub fn save(&self) -> std::io::Result<()> {
        let found = std::mem::take(&mut *lock(&self.found));
        if found.is_empty() {
            return Ok(());
        }
        let bytes = format::encode(&self.merged(&found));
        let temporary = self.file.with_extension(format!("{}.new", std::process::id()));
        let write = || -> std::io::Result<()> {
            File::create(&temporary)?.write_all(&bytes)?;
            supersede(&temporary, &self.file)
        };
        write().inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })
    }

    /// Old and new records in order; a new one replaces the old one of its path.
    fn merged<'c>(&'c self, found: &'c BTreeMap<Key, Record>) -> Vec<(&'c [u8], Record)> {
        let old = if self.table().len() + found.len() > KEPT_RECORDS { 0 } else { self.table().len() };
        let mut merged = Vec::with_capacity(old + found.len());
        let mut fresh = found.iter().peekable();
        for index in 0..old {
            let at = self.table().path(index);
            while let Some((key, record)) = fresh.next_if(|(key, _)| path::compare(&key.0, at).is_lt()) {
                merged.push((key.0.as_slice(), *record));
            }
            match fresh.next_if(|(key, _)| key.0 == at) {
                Some((key, record)) => merged.push((key.0.as_slice(), *record)),
                None => merged.push((at, self.table().record(index))),
            }
        }
        merged.extend(fresh.map(|(key, record)| (key.0.as_slice(), *record)));
        merged
    }

    fn is_trusted(&self, device: u64, file: &File) -> bool {
        *lock(&self.trusted_devices).entry(device).or_insert_with(|| is_local(file))
    }
}

/// A poisoned lock holds nothing that could be half-done here.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// See [`StatCache::cursor`].
pub(super) struct Cursor<'c> {
    table: &'c Table,
    next: usize,
}

impl Cursor<'_> {
    /// The digest of the file at `at`, if it still is what it was when it was digested.
    pub(super) fn find(&mut self, at: &[u8], meta: &Meta) -> Option<[u8; 32]> {
        let index = self.seek(at)?;
        self.next = index + 1;
        let record = self.table.record(index);
        record.describes(meta).then_some(record.digest)
    }

    fn seek(&self, at: &[u8]) -> Option<usize> {
        // In a walk the record is the next one, or near: removed files leave small gaps.
        let near = self.next..self.table.len().min(self.next + 8);
        for index in near {
            match path::compare(self.table.path(index), at) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(index),
                std::cmp::Ordering::Greater => break,
            }
        }
        self.table.search(at)
    }
}

/// See [`StatCache::recording`].
pub(super) struct Recording<'c> {
    cache: &'c StatCache,
    began: SystemTime,
}

impl Recording<'_> {
    /// Remembers the digest of `file`, unless it was changed so recently that a change right now could leave its
    /// times as they are.
    pub(super) fn add(&self, at: &[u8], meta: &Meta, digest: &[u8; 32], file: &File) {
        if !is_at_rest(meta, self.began) || !self.cache.is_trusted(meta.device, file) {
            return;
        }
        lock(&self.cache.found).insert(Key(at.to_vec()), Record::new(meta, *digest));
    }
}

fn is_at_rest(meta: &Meta, now: SystemTime) -> bool {
    let whole_seconds = meta.ctime.1 == 0;
    let granularity = if whole_seconds { COARSE_GRANULARITY } else { GRANULARITY };
    let latest = meta.mtime.max(meta.ctime);
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(granularity);
    latest < (since_epoch.as_secs() as i64, since_epoch.subsec_nanos())
}

/// Whether inode numbers and change times can be believed: only for file systems of this machine. Network and
/// user-space ones (NFS, SMB, 9p, FUSE) may invent both.
fn is_local(file: &File) -> bool {
    const LOCAL: &[i64] = &[
        0xef53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0x0102_1994, // tmpfs
        0x8584_58f6, // ramfs
        0x794c_7630, // overlayfs: inodes of regular files are those of its layers
        0x2fc1_2fc1, // zfs
        0xf2f5_2010, // f2fs
        0xca45_1a4e, // bcachefs
        0x3153_464a, // jfs
        0xe0f5_e1e2, // erofs
        0x7371_7368, // squashfs
    ];
    rustix::fs::fstatfs(file).is_ok_and(|fs| LOCAL.contains(&(fs.f_type & 0xffff_ffff)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scan::Context;
    use super::*;
    use std::fs;

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
            let cache = StatCache::open(self.folder.path(), self.context.path());
            let records = cache.len();
            let context = Context::open(self.context.path(), None, Some(cache)).unwrap();
            let mut files = Vec::new();
            context
                .walk(context.top(), b"", &mut |path, node| {
                    if !node.is_dir() {
                        files.push((path.to_vec(), node.meta()));
                    }
                })
                .unwrap();
            let digests = context.digests(&files).unwrap();
            context.save_digests().unwrap();
            (records, digests.into_iter().map(|digest| digest.content).collect())
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
        let cache = StatCache::open(fixture.folder.path(), fixture.context.path());
        let context = Context::open(fixture.context.path(), None, Some(cache)).unwrap();
        let node = context.entry(b"b").unwrap().unwrap();
        context.digests(&[("b", node.meta())]).unwrap();
        context.save_digests().unwrap();
        assert_eq!(fixture.build(), (3, vec![digest("a"), digest("new b"), digest("c")]));
    }
}
