//! A folder as the entries of a manifest. Everything in it is a step's, so it is opened beneath the folder and through no link.
//!
//! Pipes, sockets and devices are left out: no cache is made of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::Error;
use super::manifest::{Content, Entry, INLINE, Kind, is_attribute, recorded};
use super::note::{Note, Seen};
use crate::layer::unpack::Owners;
use crate::rootfs::{Folder, OWNER_ATTRIBUTE, Root, Symlinks};
use crate::sync::lock;

/// What is in the folder.
pub(super) struct Found {
    /// Of a file that is not `read`, the size is known, and nothing else of its content.
    pub(super) entry: Entry,
    pub(super) seen: Seen,
    pub(super) is_read: bool,
}

/// All of it, sorted by path.
pub(super) fn scan(root: &Root, owners: Owners, note: &Note) -> Result<Vec<Found>, Error> {
    let mut scan = Scan { owners, known: note.known(), links: HashMap::new(), found: Vec::new() };
    scan.top(root)?;
    let mut left = vec![Vec::new()];
    while let Some(path) = left.pop() {
        scan.directory(root, &path, &mut left)?;
    }
    let mut found = scan.found;
    found.sort_unstable_by(|one, other| one.entry.path.cmp(&other.entry.path));
    first_names_first(&mut found);
    Ok(found)
}

struct Scan<'n> {
    owners: Owners,
    known: HashMap<&'n [u8], (&'n Entry, Seen)>,
    /// Files with several names, and where the first that was met is.
    links: HashMap<(u64, u64), Vec<u8>>,
    found: Vec<Found>,
}

impl Scan<'_> {
    fn top(&mut self, root: &Root) -> Result<(), Error> {
        let fault = Error::file("look at", b".");
        let look = || -> io::Result<(Stat, Option<(u32, u32)>)> {
            let folder = root.folder(Path::new("."), Symlinks::Refuse)?;
            let stat = rustix::fs::fstat(folder.as_fd())?;
            let mut buffer = [0; 256];
            let owner = match rustix::fs::fgetxattr(folder.as_fd(), OWNER_ATTRIBUTE, &mut buffer[..]) {
                Ok(length) => recorded(Some(&buffer[..length])),
                Err(_) => recorded(None),
            };
            Ok((stat, owner))
        };
        let (stat, owner) = look().map_err(fault)?;
        let mut entry = plain(Vec::new(), &stat, Kind::Directory);
        if self.owners == Owners::Record {
            (entry.uid, entry.gid) = owner.unwrap_or_default();
        }
        self.found.push(Found { entry, seen: Seen::of(&stat), is_read: true });
        Ok(())
    }

    fn directory(&mut self, root: &Root, path: &[u8], left: &mut Vec<Vec<u8>>) -> Result<(), Error> {
        let at = if path.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(path)) };
        let folder = root.folder(at, Symlinks::Refuse).map_err(Error::file("open", path))?;
        for name in folder.names().map_err(Error::file("read", path))? {
            let stat = folder.stat(&name).map_err(Error::file("look at", name.as_bytes()))?;
            let mut inner = path.to_vec();
            if !inner.is_empty() {
                inner.push(b'/');
            }
            inner.extend_from_slice(name.as_bytes());
            let one = self.one((&folder, &name), inner, &stat);
            let Some(found) = one.map_err(Error::file("read", name.as_bytes()))? else { continue };
            if found.entry.kind == Kind::Directory {
                left.push(found.entry.path.clone());
            }
            self.found.push(found);
        }
        Ok(())
    }

    /// What has this name; nothing for what no mount keeps.
    #[allow(clippy::unnecessary_cast, reason = "the types differ between machines")]
    fn one(
        &mut self,
        (folder, name): (&Folder, &OsStr),
        path: Vec<u8>,
        stat: &Stat,
    ) -> io::Result<Option<Found>> {
        let seen = Seen::of(stat);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink(folder.read_link(name)?),
            FileType::RegularFile => {
                let size = stat.st_size as u64;
                Kind::Packed(Content { size, hash: [0; 32] }, 0, 0)
            }
            _ => return Ok(None),
        };
        let is_file = matches!(kind, Kind::Packed(..));
        let mut found = Found { is_read: !is_file, entry: plain(path, stat, kind), seen };
        if is_file && stat.st_nlink > 1 {
            let first = self.links.entry((stat.st_dev as u64, stat.st_ino as u64));
            match first {
                std::collections::hash_map::Entry::Occupied(first) => {
                    found.entry.kind = Kind::Link(first.get().clone());
                    found.is_read = true;
                    return Ok(Some(found));
                }
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert(found.entry.path.clone());
                }
            }
        }
        let known = self.known.get(found.entry.path.as_slice()).filter(|(entry, before)| {
            let is_same_kind = match &found.entry.kind {
                Kind::Packed(content, ..) => entry.is_file() && entry.size() == content.size,
                kind => entry.kind == *kind,
            };
            is_same_kind && *before == seen && seen != Seen::default()
        });
        if let Some((known, _)) = known {
            found.entry.kind = known.kind.clone();
            found.entry.xattrs = known.xattrs.clone();
            if self.owners == Owners::Record {
                (found.entry.uid, found.entry.gid) = (known.uid, known.gid);
            }
            found.is_read = true;
            return Ok(Some(found));
        }
        let (xattrs, owner) = match found.entry.kind {
            Kind::Symlink(_) => (Vec::new(), None),
            _ => attributes(folder, name)?,
        };
        found.entry.xattrs = xattrs;
        if self.owners == Owners::Record {
            // A file that stands for a device is none that can be kept.
            let Some(owner) = recorded(owner.as_deref()) else { return Ok(None) };
            (found.entry.uid, found.entry.gid) = owner;
        }
        Ok(Some(found))
    }
}

/// Links name the first of a file's names in the order of paths, which need not be the one that was met first.
fn first_names_first(found: &mut [Found]) {
    let mut first: HashMap<Vec<u8>, usize> = HashMap::new();
    for at in 0..found.len() {
        let Kind::Link(target) = &found[at].entry.kind else { continue };
        let target = target.clone();
        let named = *first.entry(target.clone()).or_insert(at);
        if named == at && target > found[at].entry.path {
            let Ok(other) = found.binary_search_by(|one| one.entry.path.cmp(&target)) else { continue };
            let kind = std::mem::replace(&mut found[other].entry.kind, Kind::Directory);
            found[other].entry.kind = Kind::Link(found[at].entry.path.clone());
            found[at].entry.kind = kind;
            found[at].is_read = found[other].is_read;
            found[other].is_read = true;
        } else if found[named].entry.is_file() {
            found[at].entry.kind = Kind::Link(found[named].entry.path.clone());
        }
    }
}

#[allow(clippy::unnecessary_cast, reason = "the types differ between machines")]
fn plain(path: Vec<u8>, stat: &Stat, kind: Kind) -> Entry {
    let mtime = (stat.st_mtime as i64, stat.st_mtime_nsec as u32);
    let (uid, gid) = (stat.st_uid, stat.st_gid);
    Entry { path, mode: stat.st_mode & 0o7777, uid, gid, mtime, xattrs: Vec::new(), kind }
}

type Attributes = (Vec<(Vec<u8>, Vec<u8>)>, Option<Vec<u8>>);

/// Those that mounts keep, and the one that says who owns the file.
fn attributes(folder: &Folder, name: &OsStr) -> io::Result<Attributes> {
    let mut buffer = vec![0; 64 << 10];
    let names = match folder.xattr_names(name, &mut buffer) {
        Ok(names) => names.to_vec(),
        Err(Errno::NOTSUP) => return Ok((Vec::new(), None)),
        Err(error) => return Err(error.into()),
    };
    let (mut kept, mut owner) = (Vec::new(), None);
    for attribute in names.split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let value = folder.xattr(name, OsStr::from_bytes(attribute), &mut buffer)?.to_vec();
        match attribute == OWNER_ATTRIBUTE.as_bytes() {
            true => owner = Some(value),
            false if is_attribute(attribute, &value) => kept.push((attribute.to_vec(), value)),
            false => {}
        }
    }
    Ok((kept, owner))
}

/// Reads what is not known: the bytes of small files, the hashes of others.
pub(super) fn read_unknown(root: &Root, found: &mut [Found]) -> Result<(), Error> {
    let unknown: Vec<&mut Entry> = found
        .iter_mut()
        .filter(|found| !found.is_read)
        .map(|found| {
            found.is_read = true;
            &mut found.entry
        })
        .collect();
    let mut pieces: Vec<Vec<&mut Entry>> = (0..threads()).map(|_| Vec::new()).collect();
    let count = pieces.len();
    unknown.into_iter().enumerate().for_each(|(at, entry)| pieces[at % count].push(entry));
    let read = |entries: Vec<&mut Entry>| -> Result<(), Error> {
        let mut buffer = vec![0; 256 << 10];
        entries.into_iter().try_for_each(|entry| read_one(root, entry, &mut buffer))
    };
    let pieces = Mutex::new(pieces);
    let work = || -> Result<(), Error> {
        loop {
            let piece = lock(&pieces).pop();
            let Some(entries) = piece else { return Ok(()) };
            read(entries)?;
        }
    };
    std::thread::scope(|scope| {
        let workers = helpers(scope, count - 1, &work);
        let own = work();
        workers.into_iter().try_for_each(join).and(own)
    })
}

/// Starts up to so many threads that do `work`. Where no more can be had, whoever asks does it alone.
fn helpers<'s, T: Send + 's>(
    scope: &'s std::thread::Scope<'s, '_>,
    count: usize,
    work: &'s (impl Fn() -> T + Sync),
) -> Vec<std::thread::ScopedJoinHandle<'s, T>> {
    let start = |_| std::thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, work).ok();
    (0..count).map_while(start).collect()
}

fn read_one(root: &Root, entry: &mut Entry, buffer: &mut [u8]) -> Result<(), Error> {
    let Kind::Packed(content, ..) = &mut entry.kind else { return Ok(()) };
    let fault = Error::file("read", &entry.path);
    let mut read = |content: &mut Content| -> io::Result<Option<Vec<u8>>> {
        let mut file = root.open_file(Path::new(OsStr::from_bytes(&entry.path)))?;
        let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
        loop {
            let length = file.read(buffer)?;
            if length == 0 {
                break;
            }
            size += length as u64;
            if content.size <= INLINE && length as u64 == content.size {
                return Ok(Some(buffer[..length].to_vec()));
            }
            hasher.update(&buffer[..length]);
        }
        if size != content.size {
            return Err(io::Error::other("it changed meanwhile"));
        }
        content.hash = *hasher.finalize().as_bytes();
        Ok((size == 0).then(Vec::new))
    };
    if let Some(bytes) = read(content).map_err(fault)? {
        entry.kind = Kind::Inline(bytes);
    }
    Ok(())
}

/// Workers for files.
pub(super) fn threads() -> usize {
    crate::sync::processors().clamp(2, 8)
}

pub(super) fn join<T>(worker: std::thread::ScopedJoinHandle<'_, T>) -> T {
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Does `work` with each number below `count`, several at the same time, and gives what came of it in that order.
pub(super) fn in_parallel<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let next = AtomicUsize::new(0);
    let turn = || -> Result<Vec<(usize, T)>, Error> {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return Ok(done);
            }
            let made = work(at);
            if made.is_err() {
                next.store(count, Ordering::Relaxed);
            }
            done.push((at, made?));
        }
    };
    let mut all = Vec::with_capacity(count);
    std::thread::scope(|scope| {
        let workers = helpers(scope, threads().min(count).saturating_sub(1), &turn);
        let own = turn();
        for worker in workers {
            all.extend(join(worker)?);
        }
        all.extend(own?);
        Ok::<(), Error>(())
    })?;
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, made)| made).collect())
}
