//! One plain tree from stacked ones: the root file system where no overlay works.
//!
//! What is copied comes from images and steps, so every directory is opened by descriptor, with no link followed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use rustix::fs::{FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Error;
use super::files::{self, is_directory, kind};
use crate::layer::unpack::OpaqueMark;
use crate::rootfs::{Folder, Root, Symlinks};
use crate::sync::lock;

/// What to copy where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyJob {
    /// The trees, the top one first, with overlayfs's marks for what is deleted.
    pub lowers: Vec<PathBuf>,
    /// The directory to fill; it exists.
    pub target: PathBuf,
    /// Whether something is in it, which the trees are then put upon.
    pub onto: bool,
    /// Whose marks make a directory opaque.
    pub mark: OpaqueMark,
    /// Files are other names of those in the trees, where the file system can: for a target that nobody writes to.
    pub linked: bool,
    /// Files, and directories that are not there yet, are moved: the trees are on the same file system and go.
    pub moved: bool,
    /// Several directories at once; not for a process that forks afterwards.
    pub on_threads: bool,
}

/// Fills the target with what an overlay of the trees would show: owners, modes, times, attributes and hard
/// links within a tree. Data is shared where the file system can (reflinks), or files are, if the job says so.
pub fn copy_tree(job: &CopyJob) -> Result<(), Error> {
    let open = |path: &PathBuf| Root::open(path).map_err(Error::io("open", path));
    let to = open(&job.target)?;
    for (at, lower) in job.lowers.iter().rev().enumerate() {
        let from = open(lower)?;
        for path in super::hidden_by(lower)? {
            remove(&to, Path::new(OsStr::from_bytes(&path)))?;
        }
        Copier::new(job, (&from, &to), at == 0 && !job.onto).tree()?;
    }
    Ok(())
}

/// Removes what a tree hides; where there is no such folder there is nothing to hide.
pub(super) fn remove(root: &Root, path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let Ok(folder) = root.folder(parent, Symlinks::Refuse) else { return Ok(()) };
    folder.remove(name).map_err(|error| Error::io("remove", root.path().join(path))(error))
}

/// Copies one tree.
pub(super) struct Copier<'a> {
    mark: OpaqueMark,
    linked: bool,
    moved: bool,
    on_threads: bool,
    /// Nothing is in the target yet.
    is_first: bool,
    from: &'a Root,
    to: &'a Root,
    /// Where the files with several names went (directory and name), by device and inode.
    links: Mutex<HashMap<(u64, u64), (PathBuf, OsString)>>,
    /// Whether the file system may be able to make files that share data: not, once it was asked in vain.
    can_clone: AtomicBool,
}

/// A directory of the tree and the one that it goes to.
struct Pair<'p> {
    path: &'p Path,
    from: Folder,
    to: Folder,
}

/// The directories directly in one, made but not finished: its path, their names and metadata.
type Directories = (PathBuf, Vec<(OsString, Stat)>);

/// With fewer directories threads are not worth it.
const MIN_PARALLEL: usize = 8;

impl<'a> Copier<'a> {
    pub(super) fn new(job: &CopyJob, (from, to): (&'a Root, &'a Root), is_first: bool) -> Self {
        let CopyJob { mark, linked, moved, on_threads, .. } = *job;
        Self {
            mark,
            linked,
            moved,
            on_threads,
            is_first,
            from,
            to,
            links: Mutex::default(),
            can_clone: AtomicBool::new(true),
        }
    }

    /// What is in the tree's root, all the way down. The root itself keeps its looks.
    pub(super) fn tree(&self) -> Result<(), Error> {
        let mut levels: Vec<Vec<Directories>> = Vec::new();
        let mut level = vec![PathBuf::new()];
        while !level.is_empty() {
            let found = self.each(&level, |path| Ok((path.clone(), self.contents(path)?)))?;
            let below = |(path, names): &Directories| {
                names.iter().map(|(name, _)| path.join(name)).collect::<Vec<_>>()
            };
            level = found.iter().flat_map(below).collect();
            levels.push(found);
        }
        // What is put into a directory changes its time, and its mode may forbid it: metadata comes last.
        for level in levels.iter().rev() {
            self.each(level, |(path, directories)| self.finish(path, directories))?;
        }
        Ok(())
    }

    fn each<T: Sync, R: Send>(
        &self,
        some: &[T],
        work: impl Fn(&T) -> Result<R, Error> + Sync + Send,
    ) -> Result<Vec<R>, Error> {
        match self.on_threads && some.len() >= MIN_PARALLEL {
            true => some.par_iter().map(work).collect(),
            false => some.iter().map(work).collect(),
        }
    }

    fn finish(&self, path: &Path, directories: &[(OsString, Stat)]) -> Result<(), Error> {
        if directories.is_empty() {
            return Ok(());
        }
        let pair = self.pair(path)?;
        directories.iter().try_for_each(|(name, stat)| self.dress(&pair, name, stat))
    }

    fn dress(&self, pair: &Pair<'_>, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        dress(pair, name, stat).map_err(self.failed("copy", pair, name))
    }

    fn pair<'p>(&self, path: &'p Path) -> Result<Pair<'p>, Error> {
        let open = |root: &Root| {
            let folder = root.folder(path, Symlinks::Refuse);
            folder.map_err(|error| Error::io("open", root.path().join(path))(error))
        };
        Ok(Pair { path, from: open(self.from)?, to: open(self.to)? })
    }

    /// What was tried on something of the tree.
    fn failed(&self, action: &'static str, pair: &Pair<'_>, name: &OsStr) -> impl FnOnce(io::Error) -> Error {
        let path = self.from.path().join(pair.path).join(name);
        move |error| Error::io(action, path)(error)
    }

    /// Copies what lies directly in the directory `path`; gives the directories, made but empty.
    fn contents(&self, path: &Path) -> Result<Vec<(OsString, Stat)>, Error> {
        let pair = self.pair(path)?;
        let mut directories = Vec::new();
        for name in pair.from.names().map_err(self.failed("list", &pair, OsStr::new("")))? {
            let stat = pair.from.stat(&name).map_err(self.failed("look at", &pair, &name))?;
            if self.one(&pair, &name, &stat)? {
                directories.push((name, stat));
            }
        }
        Ok(directories)
    }

    /// One name of a tree; a directory is made, and its looks and what is in it come later.
    pub(super) fn alone(&self, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        self.one(&self.pair(Path::new(""))?, name, stat).map(drop)
    }

    /// The looks of a directory in the tree's root.
    pub(super) fn finish_one(&self, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        self.dress(&self.pair(Path::new(""))?, name, stat)
    }

    /// Gives whether it is a directory.
    fn one(&self, pair: &Pair<'_>, name: &OsStr, stat: &Stat) -> Result<bool, Error> {
        if files::is_whiteout(stat) {
            pair.to.remove(name).map_err(self.failed("remove", pair, name))?;
            return Ok(false);
        }
        if is_directory(stat) {
            return self.directory(pair, name).map_err(self.failed("copy", pair, name));
        }
        if !self.is_first {
            pair.to.remove(name).map_err(self.failed("replace", pair, name))?;
        }
        self.other(pair, name, stat).map_err(self.failed("copy", pair, name))?;
        Ok(false)
    }

    /// Gives whether its content and its looks are still to come.
    fn directory(&self, pair: &Pair<'_>, name: &OsStr) -> io::Result<bool> {
        if !self.is_first {
            let is_there = pair.to.stat(name).is_ok_and(|there| is_directory(&there));
            if is_there && !self.is_opaque(pair, name)? {
                return Ok(true);
            }
            pair.to.remove(name)?;
        }
        match self.moved {
            true => pair.from.move_one(name, &pair.to)?,
            false => pair.to.create_dir(name)?,
        }
        Ok(!self.moved)
    }

    fn is_opaque(&self, pair: &Pair<'_>, name: &OsStr) -> io::Result<bool> {
        Ok(files::xattr(&pair.from, name, self.mark.xattr())?.is_some_and(|value| value == b"y"))
    }

    fn other(&self, pair: &Pair<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
        if self.moved {
            return pair.from.move_one(name, &pair.to);
        }
        // A file may have as many names as it can, or lie on another file system: then there is a copy of it.
        if self.linked && pair.to.create_link(name, &pair.from, name).is_ok() {
            return Ok(());
        }
        if stat.st_nlink == 1 {
            return self.make(pair, name, stat);
        }
        // Until the first one is whole, the others have nothing to be names of.
        let mut links = lock(&self.links);
        let id = (stat.st_dev, stat.st_ino);
        if let Some((folder, first)) = links.get(&id) {
            return pair.to.create_link(name, &self.to.folder(folder, Symlinks::Refuse)?, first);
        }
        self.make(pair, name, stat)?;
        links.insert(id, (pair.path.to_owned(), name.to_owned()));
        Ok(())
    }

    fn make(&self, pair: &Pair<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
        match kind(stat) {
            FileType::RegularFile => {
                let (from, to) = (pair.from.open_file(name)?, pair.to.create_file(name)?);
                if stat.st_size > 0 {
                    self.fill(&from, &to, stat.st_size as u64)?;
                }
                return dress_file(pair, name, (&from, &to, stat));
            }
            FileType::Symlink => pair.to.create_symlink(name, &pair.from.read_link(name)?)?,
            _ => pair.to.create_special(name, stat)?,
        }
        dress(pair, name, stat)
    }

    fn fill(&self, mut from: &File, mut to: &File, size: u64) -> io::Result<()> {
        if self.can_clone.load(Ordering::Relaxed) {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                // Another file system, or one that cannot.
                Err(_) => self.can_clone.store(false, Ordering::Relaxed),
            }
        }
        if size > SMALL as u64 {
            return io::copy(&mut from, &mut to).map(drop);
        }
        // Faster than to have the kernel copy so little.
        thread_local!(static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SMALL]));
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                match from.read(buffer)? {
                    0 => return Ok(()),
                    length => to.write_all(&buffer[..length])?,
                }
            }
        })
    }
}

/// Files up to this size are read and written.
const SMALL: usize = 128 << 10;

/// As [`dress`], for a file that is open.
fn dress_file(pair: &Pair<'_>, name: &OsStr, (from, to, stat): (&File, &File, &Stat)) -> io::Result<()> {
    let made = rustix::fs::fstat(to)?;
    if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
        rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    // Most have none; too small a buffer for those that have any.
    if rustix::fs::flistxattr(from, &mut [0u8; 1][..]) != Ok(0) {
        copy_xattrs(pair, name)?;
    }
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

/// Gives the copy the metadata of what it was copied from. The order matters: a change of owner clears capabilities and
/// the set-user-id bit, and everything changes times.
fn dress(pair: &Pair<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    pair.to.set_owner(name, stat.st_uid, stat.st_gid)?;
    if kind(stat) != FileType::Symlink {
        pair.to.set_mode(name, stat.st_mode & 0o7777)?;
    }
    copy_xattrs(pair, name)?;
    pair.to.set_times(name, &times(stat))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn copy_xattrs(pair: &Pair<'_>, name: &OsStr) -> io::Result<()> {
    // As long as any list of names may be (XATTR_LIST_MAX).
    let mut names = [0; 65_536];
    let names = match pair.from.xattr_names(name, &mut names) {
        Err(Errno::NOTSUP) => &[][..],
        other => other?,
    };
    for attribute in names.split(|&c| c == 0).filter(|attribute| !attribute.is_empty()) {
        let is_mark =
            [&b"trusted.overlay."[..], b"user.overlay."].iter().any(|mark| attribute.starts_with(mark));
        // The labels of the host's security modules are given by the kernel.
        let is_label = attribute.starts_with(b"security.") && attribute != files::CAPABILITY.as_bytes();
        if !is_mark && !is_label {
            // As long as any value may be (XATTR_SIZE_MAX).
            let mut value = vec![0; 65_536];
            let attribute = OsStr::from_bytes(attribute);
            pair.to.set_xattr(name, attribute, pair.from.xattr(name, attribute, &mut value)?)?;
        }
    }
    Ok(())
}
