//! Remembers the digests of context files by what `lstat` says of them, as git's index does, and the names in
//! directories, as git's untracked cache does.
//!
//! One file per context; the bytes are the affair of `format`. The cache is a cache: what is damaged, of another version
//! or unwritable is silently not used.
//!
//! When a digest is believed: while device, inode, size, modification and change time of its file are the same. That is safe
//! because of what had to be so when it was remembered:
//!
//! - The file had been at rest, git's rule for racy timestamps: its times were older than a tick of the clock when the
//!   build began, so every later stamp differs from them. Nobody can set a change time back.
//! - From a moment on, *before* its bytes were read, every write to it was going to be stamped (`Watched`).
//!   A shared mapping stamps only the write that makes a page dirty, not those that follow until the page was written to
//!   disk. So either nobody had it open for writing or mapped so, which a read lease tells, and whoever comes later is stamped
//!   when they first write to a page; or its pages were written back, after which every mapping faults, and
//!   is stamped, again. A file system stamps first and lets the bytes be seen then.
//! - After its bytes were read, `lstat` still said what it said before. So they are the bytes of that moment, whatever
//!   was written without a stamp before it, and no others can come without a stamp.
//!
//! The names in a directory are believed while its inode, modification and change time are the same. That is safe
//! because no name comes, goes or changes without the kernel setting both times of the directory; a change within the
//! clock's granularity cannot hide, since only a directory that had been at rest is remembered. What is *in* the
//! files is not a matter of the directory's times: `lstat` is asked of each name, always.
//!
//! Neither is done where times prove less (`ground::Ground`):
//!
//! - squashfs, EROFS and other file systems that are made as a whole have whatever times their maker gave them; network and
//!   user-space ones (NFS, SMB, 9p, FUSE) may invent inodes and times. Nothing is remembered of them.
//! - tmpfs does not stamp a write to a page of a shared mapping that was read from first: names, but no digests.
//! - overlayfs is put together from others: digests, by writing back alone, as it grants leases blindly; but no names.
//! - A file system that was mounted anew may have been changed meanwhile by other means: all is forgotten with the mount that
//!   it was learned by. So it is with another boot, as a crash may have kept a time and lost the bytes.

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
use crate::sync::lock;
use format::{Directory, Encoder, Identity, Record, Table};
use ground::Ground;

mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod ground;

/// Clocks that stamp files tick at least this often (10 ms at CONFIG_HZ=100), with room to spare.
const GRANULARITY: Duration = Duration::from_millis(40);
/// File systems that keep whole seconds only.
const COARSE_GRANULARITY: Duration = Duration::from_secs(2);
/// After this time the kernel has written a page back, if it is not told otherwise (`vm.dirty_expire_centisecs` and
/// `vm.dirty_writeback_centisecs`); nothing relies on it but the time that is taken.
const WRITTEN_BACK_AFTER: Duration = Duration::from_secs(60);
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
    /// The device of the context's folder, and what it proves; nothing is read from disk if it proves nothing.
    home: Option<(u64, Ground)>,
    learned: Mutex<Learned>,
    /// What other devices in it prove.
    devices: Mutex<HashMap<u64, Option<Ground>>>,
}

/// What this build found out.
#[derive(Debug, Default)]
struct Learned {
    /// Directories that were read.
    listed: Vec<(Vec<u8>, Identity, Box<[u8]>)>,
    /// Files that were digested.
    found: Vec<(Listed, [u8; 32])>,
}

/// The proof that since it was made, no byte of a file changes without its times.
#[derive(Debug)]
pub(super) struct Watched(());

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
            home: home(&context),
            learned: Mutex::default(),
            devices: Mutex::default(),
        }
    }

    fn table(&self) -> &Table {
        let read = |_| Table::read(&self.file, self.boot);
        self.table.get_or_init(|| self.home.map(read).unwrap_or_default())
    }

    /// The number of files whose digests were read from disk.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether nothing was read from disk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is remembered of the directory at `at`, of which `lstat` said `own`, if it is in the same mount as then.
    /// `open` opens it, if need be.
    pub(super) fn folder<D: AsFd>(
        &self,
        at: &[u8],
        own: &Meta,
        open: impl FnOnce() -> Option<D>,
    ) -> Option<Folder<'_>> {
        let directory = self.table().find(at)?;
        let ground = self.ground(own.device, open)?;
        let holds = self.table().mount(own.device) == Some(ground.mount);
        holds.then_some(Folder { cache: self, directory, device: own.device })
    }

    /// The digest of a file of which the scan found a record.
    pub(super) fn digest(&self, remembered: usize) -> [u8; 32] {
        self.table().record(remembered).digest
    }

    /// To be called before the bytes of a file are read of which `lstat` said `meta`: whether its digest will be worth
    /// remembering. Not if it was changed so recently that a change right now could leave its times as they are, or if
    /// somebody could write to it without changing them.
    pub(super) fn watch(&self, meta: &Meta, file: &File) -> Option<Watched> {
        let ground = self.ground(meta.device, || Some(file)).filter(Ground::keeps_digests)?;
        let is_old = is_older(meta, self.opened, WRITTEN_BACK_AFTER);
        (is_at_rest(meta, self.opened) && ground.watch(file, is_old)).then_some(Watched(()))
    }

    /// Remembers the digest of a file that has been watched since before it was read, and of which `lstat` says the same
    /// after it was read.
    pub(super) fn digested(&self, entry: Entry<'_>, digest: &[u8; 32], _: Watched) {
        lock(&self.learned).found.push((entry.to_listed(), *digest));
    }

    /// Remembers the names in the directory at `at`, if it is at rest and still is what `lstat` said of it before they were
    /// read.
    pub(super) fn listed(&self, at: &[u8], own: &Meta, names: &[u8], directory: impl AsFd) {
        let identity = Identity::from(own);
        let is_same = || fstat(&directory).is_ok_and(|now| Identity::from(&Meta::from(&now)) == identity);
        let proves = |ground: Ground| ground.names;
        if is_at_rest(own, self.opened)
            && self.ground(own.device, || Some(&directory)).is_some_and(proves)
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
        let mounts = self.mounts();
        // What was learned by a mount that is gone is not vouched for by the one in its place.
        let holds = |identity: &Identity| {
            let now = mounts.get(&identity.device);
            now.is_some() && now.copied() == table.mount(identity.device)
        };
        let mut encoder = Encoder::default();
        let mut changes = changes.into_iter().peekable();
        for old in table.directories().filter(|_| !is_full) {
            let at = table.path(old.number);
            while let Some((key, change)) = changes.next_if(|(key, _)| path::compare(key.0, at).is_lt()) {
                change.encode(key.0, &mut encoder);
            }
            let change =
                changes.next_if(|(key, _)| key.0 == at).map(|(_, change)| change).unwrap_or_default();
            self.replaced(&old, change, &holds).encode(at, &mut encoder);
        }
        changes.for_each(|(key, change)| change.encode(key.0, &mut encoder));
        encoder.found_by(mounts)
    }

    /// `change` with what it leaves of an old directory, as far as that `holds`.
    fn replaced<'c>(
        &'c self,
        old: &Directory,
        mut change: Change<'c>,
        holds: &dyn Fn(&Identity) -> bool,
    ) -> Change<'c> {
        let table = self.table();
        let left: Option<HashSet<&[u8]>> =
            change.names.map(|(_, names)| names.split(|byte| *byte == 0).collect());
        for number in old.records.clone() {
            let name = table.name(number);
            let record = table.record(number);
            if left.as_ref().is_none_or(|left| left.contains(name)) && holds(&record.identity) {
                change.records.entry(name).or_insert(record);
            }
        }
        let old_names = old.identity.filter(holds).map(|identity| (identity, table.names(old)));
        change.names = change.names.or(old_names);
        change
    }

    /// What `device` proves; `open` opens something on it. Nothing if the context's folder is on a file system that proves nothing.
    fn ground<D: AsFd>(&self, device: u64, open: impl FnOnce() -> Option<D>) -> Option<Ground> {
        match self.home? {
            (home, ground) if home == device => Some(ground),
            _ => {
                let find = || open().and_then(|file| Ground::of(file, device));
                *lock(&self.devices).entry(device).or_insert_with(find)
            }
        }
    }

    /// The mount by which each device was looked at, now or, where it was not looked at now, before.
    fn mounts(&self) -> BTreeMap<u64, u64> {
        let mut mounts: BTreeMap<u64, u64> = self.table().mounts().collect();
        mounts.extend(self.home.map(|(device, ground)| (device, ground.mount)));
        for (device, ground) in &*lock(&self.devices) {
            match ground {
                Some(ground) => drop(mounts.insert(*device, ground.mount)),
                None => drop(mounts.remove(device)),
            }
        }
        mounts
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

/// What is remembered of one directory.
#[derive(Debug, Clone)]
pub(super) struct Folder<'c> {
    cache: &'c StatCache,
    directory: Directory,
    /// The only device that its mount vouches for.
    device: u64,
}

impl<'c> Folder<'c> {
    /// All names in the directory, sorted, a zero byte behind each, if it still is what `lstat` says now.
    pub(super) fn names(&self, own: &Meta) -> Option<&'c [u8]> {
        let holds = self.directory.identity == Some(own.into());
        holds.then(|| self.cache.table().names(&self.directory))
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
        (meta.device == self.device && table.record(number).describes(meta)).then_some(number)
    }
}

/// The device of the folder at `context`, and what it proves.
fn home(context: &Path) -> Option<(u64, Ground)> {
    let folder = File::open(context).ok()?;
    let device = fstat(&folder).ok()?.st_dev;
    Ground::of(folder, device).map(|ground| (device, ground))
}

fn is_at_rest(meta: &Meta, now: SystemTime) -> bool {
    let whole_seconds = meta.ctime.1 == 0;
    is_older(meta, now, if whole_seconds { COARSE_GRANULARITY } else { GRANULARITY })
}

/// Whether it was not changed within `age` before `now`.
fn is_older(meta: &Meta, now: SystemTime, age: Duration) -> bool {
    let latest = meta.mtime.max(meta.ctime);
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(age);
    latest < (since_epoch.as_secs() as i64, since_epoch.subsec_nanos())
}

#[cfg(test)]
mod tests;
