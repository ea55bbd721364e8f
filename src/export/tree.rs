//! Writes files below one directory; what was there gives way, and no symlink leads outside.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::Error;
use crate::layer::view::{Kind, Xattrs};
use crate::oci::Seconds;
use crate::rootfs::{Folder, Root, Symlinks};

/// The attribute that gives a program rights.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// What a file shall look like beside its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat<'v> {
    pub(super) mode: u32,
    pub(super) mtime: Seconds,
    pub(super) xattrs: Xattrs<'v>,
    /// Whether a program keeps its capabilities.
    pub(super) capabilities: bool,
}

impl Default for Stat<'_> {
    fn default() -> Self {
        Self { mode: 0o755, mtime: 0, xattrs: Xattrs::default(), capabilities: true }
    }
}

/// A directory that is being filled. Directories get their modes and times in [`Tree::finish`].
#[derive(Debug)]
pub(super) struct Tree {
    root: Root,
    directories: Vec<(PathBuf, u32, Seconds)>,
    /// The time of everything, in place of its own.
    time: Option<Seconds>,
}

impl Tree {
    /// In that directory.
    pub(super) fn of(root: Root) -> Self {
        Self { root, directories: Vec::new(), time: None }
    }

    /// Gives everything that time, if there is one.
    pub(super) fn dated(self, time: Option<Seconds>) -> Self {
        Self { time, ..self }
    }

    fn times(&self, mtime: Seconds) -> Timestamps {
        let time = Timespec { tv_sec: self.time.unwrap_or(mtime), tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }

    /// Goes on in that directory, to which the caller has moved everything.
    pub(super) fn moved(self, root: Root) -> Self {
        Self { root, ..self }
    }

    /// Makes a directory; one that exists stays, and gets the metadata.
    pub(super) fn directory(&mut self, path: &Path, stat: &Stat<'_>) -> Result<(), Error> {
        self.made("create", path, |parent, name| match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) if is_directory(parent, name) => Ok(()),
            other => other,
        })?;
        let open = || self.root.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0, Symlinks::Refuse);
        // One of our own that denies us: what goes into it needs the right.
        let fd = open().map_err(|e| self.error("open", path, e))?;
        let meta = rustix::fs::fstat(&fd).map_err(|e| self.error("open", path, e.into()))?;
        if meta.st_mode & 0o700 != 0o700 {
            rustix::fs::fchmod(&fd, Mode::RWXU).map_err(|e| self.error("set the mode of", path, e.into()))?;
        }
        set_xattrs(&fd, stat);
        self.directories.push((path.to_owned(), stat.mode, stat.mtime));
        Ok(())
    }

    /// Makes a symlink.
    pub(super) fn symlink(&self, path: &Path, target: &[u8], mtime: Seconds) -> Result<(), Error> {
        self.made("create", path, |parent, name| {
            rustix::fs::symlinkat(target, parent, name)?;
            rustix::fs::utimensat(parent, name, &self.times(mtime), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Makes a named pipe or a device.
    pub(super) fn special(&self, path: &Path, kind: Kind<'_>, stat: &Stat<'_>) -> Result<(), Error> {
        let device = |major, minor| rustix::fs::makedev(major, minor);
        let (kind, device) = match kind {
            Kind::CharDevice { major, minor } => (FileType::CharacterDevice, device(major, minor)),
            Kind::BlockDevice { major, minor } => (FileType::BlockDevice, device(major, minor)),
            _ => (FileType::Fifo, 0),
        };
        let mode = Mode::from_raw_mode(stat.mode);
        self.made("create", path, |parent, name| {
            rustix::fs::mknodat(parent, name, kind, mode, device)?;
            set_mode_of_special(parent, name, kind, mode)?;
            rustix::fs::utimensat(parent, name, &self.times(stat.mtime), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Makes a regular file.
    pub(super) fn file(&self, path: &Path, stat: &Stat<'_>, content: &mut dyn Read) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut made = None;
        self.made("create", path, |parent, name| {
            made = Some(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
            Ok(())
        })?;
        let mut file = File::from(made.expect("`made` succeeds only after the closure did"));
        io::copy(content, &mut file).map_err(|e| self.error("write", path, e))?;
        set_xattrs(&file, stat);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.mode))
            .and_then(|()| rustix::fs::futimens(&file, &self.times(stat.mtime)))
            .map_err(|e| self.error("write", path, e.into()))
    }

    /// Makes another name of the file `existing`.
    pub(super) fn link(&self, path: &Path, existing: &Path) -> Result<(), Error> {
        let found = self.root.parent_of(existing, Symlinks::Refuse);
        let (from, old_name) = found.map_err(|e| self.error("open", existing, e))?;
        self.made("create", path, |parent, name| {
            rustix::fs::linkat(&from, old_name, parent, name, AtFlags::empty())
        })
    }

    /// Gives the directories their modes and times, the deepest first: what is done inside a directory changes its
    /// time, and may need a right that its mode denies.
    pub(super) fn finish(self) -> Result<(), Error> {
        for (path, mode, mtime) in self.directories.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = self.root.open_at(path, flags, 0, Symlinks::Refuse);
            let fd = fd.map_err(|e| self.error("open", path, e))?;
            rustix::fs::futimens(&fd, &self.times(*mtime))
                .and_then(|()| rustix::fs::fchmod(&fd, Mode::from_raw_mode(*mode)))
                .map_err(|e| self.error("set the mode of", path, e.into()))?;
        }
        Ok(())
    }

    /// Calls `make` with the parent's descriptor and the name; when something else stands there, removes it and
    /// tries once more.
    fn made(
        &self,
        action: &'static str,
        path: &Path,
        mut make: impl FnMut(&std::os::fd::OwnedFd, &std::ffi::OsStr) -> rustix::io::Result<()>,
    ) -> Result<(), Error> {
        let found = self.root.parent_of(path, Symlinks::Refuse);
        let (parent, name) = found.map_err(|e| self.error(action, path, e))?;
        match make(&parent, name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|e| self.error(action, path, e.into())),
        }
        // By the descriptor: a path could lead elsewhere by now, if others may write to a folder on the way.
        let folder = Folder::from(parent);
        folder.remove(name).map_err(|e| self.error("replace", path, e))?;
        make(&folder.into(), name).map_err(|e| self.error(action, path, e.into()))
    }

    fn error(&self, action: &'static str, path: &Path, source: io::Error) -> Error {
        Error::io(action, &self.root.path().join(path), source)
    }
}

/// Sets the mode of what was just made, if it is still there: somebody could have put a link in its place.
fn set_mode_of_special(
    parent: impl AsFd,
    name: &std::ffi::OsStr,
    kind: FileType,
    mode: Mode,
) -> rustix::io::Result<()> {
    let made =
        rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&made)?.st_mode) != kind {
        return Err(Errno::EXIST);
    }
    crate::rootfs::set_mode_of_place(&made, mode)
}

fn is_directory(parent: impl AsFd, name: &std::ffi::OsStr) -> bool {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// As docker does it: what this user or this file system does not allow is left out.
fn set_xattrs(fd: impl AsFd, stat: &Stat<'_>) {
    for (name, value) in stat.xattrs.iter().filter(|(name, _)| stat.capabilities || *name != CAPABILITY) {
        let _ = rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty());
    }
}
