//! A folder from a manifest and packs.
//!
//! Everything is made in a folder that is not in its place yet, which the caller puts there when it is whole. The manifest was
//! checked when it was parsed; every path is opened beneath the folder and through no link all the same. Directories get their
//! owners and modes last, so that nothing is in the way of those who fill them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use serde::{Deserialize, Serialize};

use super::manifest::{Entry, Kind, Manifest};
use super::note::{self, Note, Seen};
use super::scan::in_parallel;
use super::{Error, PackRef};
use crate::layer::unpack::Owners;
use crate::oci::Digest;
use crate::rootfs::{Folder, OWNER_ATTRIBUTE, RecordedOwner, Root, Symlinks};
use crate::sync::lock;

/// Small files that one worker makes before it takes others.
const AT_ONCE: usize = 256;

/// What is to be restored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restore {
    /// The folder that has manifest and packs, each under the digits of its digest, by which they were verified.
    pub blobs: PathBuf,
    /// The manifest.
    pub manifest: Digest,
    /// Where; it is made.
    pub fresh: PathBuf,
    /// How owners are kept.
    pub owners: Owners,
    /// So many bytes its files may have.
    pub limit: u64,
}

/// Makes the folder, and a note about it at `note`.
///
/// # Errors
/// When the manifest or a pack is not what it should be, or the files cannot be made; then what is at `fresh` is to be thrown away.
pub fn restore(job: &Restore, note: &Path) -> Result<(), Error> {
    let read = |digest: &Digest| crate::rootfs::read_regular(&job.blobs.join(digest.hex()));
    let bytes = read(&job.manifest).map_err(Error::file("read", b"its manifest"))?;
    let manifest = Manifest::parse(&bytes)?;
    let bytes = manifest.bytes();
    if bytes > job.limit {
        return Err(Error::TooLarge { bytes, limit: job.limit });
    }
    std::fs::create_dir(&job.fresh).map_err(Error::file("make", b"."))?;
    let root = Root::open(&job.fresh).map_err(Error::file("open", b"."))?;
    let mut seen = Making { root: &root, manifest: &manifest, job }.all()?;
    // The other names of a file change it.
    for (at, entry) in manifest.entries.iter().enumerate() {
        if let Kind::Link(target) = &entry.kind
            && let Ok(of) = manifest.entries.binary_search_by(|one| one.path.cmp(target))
        {
            let stat = root.stat(path_of(&entry.path)).map_err(Error::file("look at", &entry.path))?;
            (seen[at], seen[of]) = (Seen::of(&stat), Seen::of(&stat));
        }
    }
    // Without a note everything is read when the mount is saved.
    let _ = Note::write(note, (&job.manifest, &manifest), &seen, note::now());
    Ok(())
}

fn path_of(path: &[u8]) -> &Path {
    Path::new(if path.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(path) })
}

/// What one worker does before it asks for more.
enum Work {
    /// These small files, which stand in the manifest.
    Inline(Vec<usize>),
    /// All files of a pack.
    Pack(usize, Vec<usize>),
    /// One file of several packs.
    Split(usize),
}

#[derive(Clone, Copy)]
struct Making<'m> {
    root: &'m Root,
    manifest: &'m Manifest,
    job: &'m Restore,
}

impl Making<'_> {
    fn all(self) -> Result<Vec<Seen>, Error> {
        let entries = &self.manifest.entries;
        let seen = Mutex::new(vec![Seen::default(); entries.len()]);
        let is_directory = |entry: &&Entry| entry.kind == Kind::Directory;
        let mut last = Parent::default();
        for entry in entries.iter().skip(1).filter(is_directory) {
            let (folder, name) = last.of(self.root, entry)?;
            folder.create_dir(name).map_err(Error::file("make", &entry.path))?;
        }
        let work = self.work();
        in_parallel(work.len(), |at| {
            let made = self.make(&work[at])?;
            let mut seen = lock(&seen);
            made.into_iter().for_each(|(at, one)| seen[at] = one);
            Ok(())
        })?;
        let mut seen = crate::sync::into_inner(seen);
        for (at, entry) in entries.iter().enumerate() {
            if matches!(entry.kind, Kind::Symlink(_) | Kind::Link(_)) {
                let (folder, name) = last.of(self.root, entry)?;
                let made = self.link((folder, name), entry);
                seen[at] = made.map_err(Error::file("make", &entry.path))?;
            }
        }
        // What is inside comes first: it changes the times of what it is in.
        for (at, entry) in entries.iter().enumerate().rev().filter(|(_, entry)| is_directory(entry)) {
            let folder = self.root.folder(path_of(&entry.path), Symlinks::Refuse);
            let finished = folder.and_then(|folder| self.finish(folder, entry));
            seen[at] = finished.map_err(Error::file("make", &entry.path))?;
        }
        Ok(seen)
    }

    /// What there is to do, the longest first.
    fn work(&self) -> Vec<Work> {
        let (mut work, mut inline) = (Vec::new(), Vec::new());
        let mut packs: Vec<Vec<usize>> = vec![Vec::new(); self.manifest.packs.len()];
        for (at, entry) in self.manifest.entries.iter().enumerate() {
            match &entry.kind {
                Kind::Inline(_) => inline.push(at),
                Kind::Packed(_, pack, _) => packs[*pack as usize].push(at),
                Kind::Split(..) => work.push(Work::Split(at)),
                Kind::Directory | Kind::Symlink(_) | Kind::Link(_) => {}
            }
        }
        let used = packs.into_iter().enumerate().filter(|(_, files)| !files.is_empty());
        work.extend(used.map(|(pack, files)| Work::Pack(pack, files)));
        work.extend(inline.chunks(AT_ONCE).map(|files| Work::Inline(files.to_vec())));
        work
    }

    fn make(&self, work: &Work) -> Result<Vec<(usize, Seen)>, Error> {
        let entry = |at: usize| &self.manifest.entries[at];
        let mut last = Parent::default();
        let mut made = Vec::new();
        match work {
            Work::Inline(files) => {
                for at in files {
                    let Kind::Inline(bytes) = &entry(*at).kind else { continue };
                    made.push((*at, self.file(&mut last, entry(*at), &[bytes])?));
                }
            }
            Work::Pack(pack, files) => {
                let bytes = self.pack(&self.manifest.packs[*pack])?;
                for at in files {
                    let Kind::Packed(content, _, offset) = &entry(*at).kind else { continue };
                    let piece = usize::try_from(*offset)
                        .ok()
                        .and_then(|offset| bytes.get(offset..)?.get(..usize::try_from(content.size).ok()?));
                    let piece = piece.ok_or_else(|| Error::hostile("a pack is too small"))?;
                    if *blake3::hash(piece).as_bytes() != content.hash {
                        return Err(other_content(entry(*at)));
                    }
                    made.push((*at, self.file(&mut last, entry(*at), &[piece])?));
                }
            }
            Work::Split(at) => made.push((*at, self.large(&mut last, entry(*at))?)),
        }
        Ok(made)
    }

    fn pack(&self, pack: &PackRef) -> Result<Vec<u8>, Error> {
        let path = self.job.blobs.join(pack.digest.hex());
        let compressed = crate::rootfs::read_regular(&path).map_err(Error::file("read", b"a pack"))?;
        let raw = usize::try_from(pack.raw).unwrap_or(0);
        match zstd::bulk::decompress(&compressed, raw) {
            Ok(bytes) if bytes.len() == raw => Ok(bytes),
            _ => Err(Error::hostile(format!("the pack {} is damaged", pack.digest))),
        }
    }

    fn file(&self, last: &mut Parent, entry: &Entry, pieces: &[&[u8]]) -> Result<Seen, Error> {
        let (folder, name) = last.of(self.root, entry)?;
        let make = || {
            let mut file = folder.create_file(name)?;
            pieces.iter().try_for_each(|piece| file.write_all(piece))?;
            self.finish(file, entry)
        };
        make().map_err(Error::file("make", &entry.path))
    }

    /// Makes a file of several packs, one after the other.
    fn large(&self, last: &mut Parent, entry: &Entry) -> Result<Seen, Error> {
        let Kind::Split(content, packs) = &entry.kind else { return Ok(Seen::default()) };
        let (folder, name) = last.of(self.root, entry)?;
        let mut file: File = folder.create_file(name).map_err(Error::file("make", &entry.path))?;
        let mut hasher = blake3::Hasher::new();
        for pack in packs {
            let bytes = self.pack(&self.manifest.packs[*pack as usize])?;
            hasher.update(&bytes);
            file.write_all(&bytes).map_err(Error::file("write", &entry.path))?;
        }
        match *hasher.finalize().as_bytes() == content.hash {
            true => self.finish(file, entry).map_err(Error::file("make", &entry.path)),
            false => Err(other_content(entry)),
        }
    }

    fn link(&self, (folder, name): (&Folder, &OsStr), entry: &Entry) -> std::io::Result<Seen> {
        match &entry.kind {
            Kind::Symlink(target) => {
                folder.create_symlink(name, target)?;
                if self.job.owners == Owners::Apply {
                    folder.set_owner(name, entry.uid, entry.gid)?;
                }
                folder.set_times(name, &times(entry))?;
            }
            Kind::Link(target) => {
                let path = path_of(target);
                let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
                let of = self.root.folder(parent.unwrap_or(Path::new(".")), Symlinks::Refuse)?;
                folder.create_link(name, &of, path.file_name().unwrap_or_default())?;
            }
            Kind::Directory | Kind::Inline(_) | Kind::Packed(..) | Kind::Split(..) => {}
        }
        Ok(Seen::of(&folder.stat(name)?))
    }

    /// Gives what was just made its owner, attributes, mode and time, in this order: each may undo what comes after it.
    fn finish(&self, made: impl AsFd, entry: &Entry) -> std::io::Result<Seen> {
        let owner = (entry.uid, entry.gid);
        match self.job.owners {
            Owners::Apply => {
                rustix::fs::fchown(&made, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
            }
            Owners::Record if owner != (0, 0) => {
                let owner = RecordedOwner::new(owner.0, owner.1).to_string();
                rustix::fs::fsetxattr(&made, OWNER_ATTRIBUTE, owner.as_bytes(), XattrFlags::empty())?;
            }
            Owners::Record => {}
        }
        for (name, value) in &entry.xattrs {
            rustix::fs::fsetxattr(&made, OsStr::from_bytes(name), value, XattrFlags::empty())?;
        }
        rustix::fs::fchmod(&made, Mode::from_raw_mode(entry.mode))?;
        rustix::fs::futimens(&made, &times(entry))?;
        let stat: Stat = rustix::fs::fstat(&made)?;
        Ok(Seen::of(&stat))
    }
}

#[allow(clippy::useless_conversion, reason = "the types differ between machines")]
fn times(entry: &Entry) -> Timestamps {
    let (seconds, nanoseconds) = entry.mtime;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    }
}

fn other_content(entry: &Entry) -> Error {
    Error::hostile(format!("`{}` is not what its hash says", String::from_utf8_lossy(&entry.path)))
}

/// The directory that was worked in last; the next file is mostly in the same.
#[derive(Default)]
struct Parent(Option<(Vec<u8>, Folder)>);

impl Parent {
    fn of<'e>(&mut self, root: &Root, entry: &'e Entry) -> Result<(&Folder, &'e OsStr), Error> {
        let (parent, name) = entry.split();
        let is_open = self.0.as_ref().is_some_and(|(path, _)| path == parent);
        if !is_open {
            let folder = root.folder(path_of(parent), Symlinks::Refuse);
            self.0 = Some((parent.to_vec(), folder.map_err(Error::file("open", parent))?));
        }
        match &self.0 {
            Some((_, folder)) => Ok((folder, OsStr::from_bytes(name))),
            None => Err(Error::hostile("it has no directory")),
        }
    }
}
