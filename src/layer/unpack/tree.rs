//! File operations on one name in one open directory; none follows a symlink.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::{Note, Owners, UnpackError};
use crate::layer::archive::split;
use crate::oci::Seconds;
use crate::rootfs::{OWNER_ATTRIBUTE, RecordedDevice, RecordedOwner, Root, Symlinks};

/// Metadata to be applied.
pub(super) struct Metadata<'m> {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Seconds,
    pub(super) xattrs: Vec<(&'m [u8], &'m [u8])>,
}

/// A name in an open directory, and its path for messages.
pub(super) struct Spot<'s> {
    pub(super) parent: &'s OwnedFd,
    pub(super) path: &'s [u8],
}

pub(super) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Makes a function that wraps errors of `action` on `path`.
pub(super) fn failed<E: Into<io::Error>>(
    action: &'static str,
    path: &[u8],
) -> impl FnOnce(E) -> UnpackError + use<E> {
    let path = String::from_utf8_lossy(path).into_owned();
    move |error| UnpackError::File { action, path, source: error.into() }
}

impl Spot<'_> {
    fn name(&self) -> &OsStr {
        OsStr::from_bytes(split(self.path).1)
    }

    /// Makes a file that did not exist before, open for writing.
    pub(super) fn create_file(&self, root: &Root) -> Result<OwnedFd, UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(self.parent, self.name(), flags, Mode::from_raw_mode(0o600));
        self.replacing(root, create).map_err(failed("create", self.path))
    }

    pub(super) fn symlink(&self, root: &Root, target: &[u8]) -> Result<(), UnpackError> {
        let create = || rustix::fs::symlinkat(OsStr::from_bytes(target), self.parent, self.name());
        self.replacing(root, create).map_err(failed("create the symlink", self.path))
    }

    /// Makes this another name of what is at `target`.
    pub(super) fn link(&self, root: &Root, target: &Spot<'_>) -> Result<(), UnpackError> {
        let create =
            || rustix::fs::linkat(target.parent, target.name(), self.parent, self.name(), AtFlags::empty());
        self.replacing(root, create).map_err(failed("create the hard link", self.path))
    }

    /// Makes a pipe or device; `false` if devices are not allowed here.
    pub(super) fn node(&self, root: &Root, kind: FileType, dev: (u32, u32)) -> Result<bool, UnpackError> {
        let dev = rustix::fs::makedev(dev.0, dev.1);
        let mode = Mode::from_raw_mode(0o600);
        match self.replacing(root, || rustix::fs::mknodat(self.parent, self.name(), kind, mode, dev)) {
            Ok(()) => Ok(true),
            Err(Errno::PERM) if kind != FileType::Fifo => Ok(false),
            Err(error) => Err(failed("create the device", self.path)(error)),
        }
    }

    /// Makes a directory, unless one is there already. Anything else in the way is replaced.
    pub(super) fn directory(&self, root: &Root) -> Result<(), UnpackError> {
        let create = || rustix::fs::mkdirat(self.parent, self.name(), Mode::from_raw_mode(0o700));
        match create() {
            Err(Errno::EXIST) if self.is(FileType::Directory) => Ok(()),
            Err(Errno::EXIST) => {
                self.replacing(root, create).map_err(failed("create the directory", self.path))
            }
            other => other.map_err(failed("create the directory", self.path)),
        }
    }

    /// Makes a directory that no entry names, unless one is there already. Anything else in the way was put
    /// there by the layer itself, where a lower symlink leads: no process could go that way.
    pub(super) fn implied_directory(&self) -> Result<(), UnpackError> {
        match rustix::fs::mkdirat(self.parent, self.name(), Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) if self.is(FileType::Directory) => Ok(()),
            Err(Errno::EXIST) => Err(failed("create the directory", self.path)(Errno::NOTDIR)),
            other => other.map_err(failed("create the directory", self.path)),
        }
    }

    /// Whether something of this type is here.
    pub(super) fn is(&self, file_type: FileType) -> bool {
        let stat = rustix::fs::statat(self.parent, self.name(), AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == file_type)
    }

    /// Runs `create`; when something is in the way, removes that and runs it again.
    fn replacing<T>(&self, root: &Root, create: impl Fn() -> rustix::io::Result<T>) -> Result<T, Errno> {
        match create() {
            Err(Errno::EXIST) => {
                remove(root, self.path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                create()
            }
            other => other,
        }
    }

    /// Applies metadata by name, for what cannot be opened: symlinks, pipes, devices. Owners of these are not
    /// recorded: no attribute can be set on them.
    pub(super) fn set_metadata(
        &self,
        metadata: &Metadata<'_>,
        is_symlink: bool,
        owners: Owners,
        notes: &mut Vec<Note>,
    ) -> Result<(), UnpackError> {
        if owners == Owners::Apply {
            let (uid, gid) = ids(metadata);
            rustix::fs::chownat(self.parent, self.name(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| owner_error(error, self.path, metadata))?;
        }
        if !is_symlink {
            // `fchmodat` would follow a symlink, but this name was just made as something else, in a
            // directory that nobody else writes to.
            rustix::fs::chmodat(
                self.parent,
                self.name(),
                Mode::from_raw_mode(metadata.mode),
                AtFlags::empty(),
            )
            .map_err(failed("set the mode of", self.path))?;
        }
        for (name, _) in &metadata.xattrs {
            // There is no call that sets attributes by name in a directory; images have none on such files.
            notes.push(Note::Xattr { path: self.path.to_vec(), name: name.to_vec() });
        }
        rustix::fs::utimensat(self.parent, self.name(), &times(metadata.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the time of", self.path))
    }
}

/// Applies metadata to an open file or directory. The owner goes first, because a change of owner takes setuid
/// bits and capabilities away; the time last.
pub(super) fn set_metadata(
    fd: impl AsFd,
    path: &[u8],
    metadata: &Metadata<'_>,
    owners: Owners,
    notes: &mut Vec<Note>,
) -> Result<(), UnpackError> {
    match owners {
        Owners::Apply => {
            let (uid, gid) = ids(metadata);
            rustix::fs::fchown(&fd, uid, gid).map_err(|error| owner_error(error, path, metadata))?;
        }
        Owners::Record => record(&fd, path, RecordedOwner::new(metadata.uid, metadata.gid), notes)?,
    }
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(metadata.mode)).map_err(failed("set the mode of", path))?;
    // What another builder wrote down is nothing to us.
    let foreign = |name: &[u8]| owners == Owners::Record && name == OWNER_ATTRIBUTE.as_bytes();
    for (name, value) in metadata.xattrs.iter().filter(|(name, _)| !foreign(name)) {
        match rustix::fs::fsetxattr(&fd, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP | Errno::PERM) => {
                notes.push(Note::Xattr { path: path.to_vec(), name: name.to_vec() });
            }
            Err(error) => return Err(failed("set an attribute of", path)(error)),
        }
    }
    rustix::fs::futimens(&fd, &times(metadata.mtime)).map_err(failed("set the time of", path))
}

/// Writes an owner down, unless it is root. Without the attribute RUN sees root's file.
fn record(
    fd: impl AsFd,
    path: &[u8],
    owner: RecordedOwner,
    notes: &mut Vec<Note>,
) -> Result<(), UnpackError> {
    if owner.is_usual() {
        return Ok(());
    }
    let value = owner.to_string();
    match rustix::fs::fsetxattr(&fd, OWNER_ATTRIBUTE, value.as_bytes(), XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::NOTSUP | Errno::PERM) => {
            notes.push(Note::Xattr { path: path.to_vec(), name: OWNER_ATTRIBUTE.as_bytes().to_vec() });
            Ok(())
        }
        Err(error) => Err(failed("write down the owner of", path)(error)),
    }
}

/// Makes an empty file that stands for a device; `file` is new and was made for it.
pub(super) fn set_device(
    file: &OwnedFd,
    path: &[u8],
    metadata: &Metadata<'_>,
    device: RecordedDevice,
    notes: &mut Vec<Note>,
) -> Result<(), UnpackError> {
    let owner = RecordedOwner { uid: metadata.uid, gid: metadata.gid, device: Some(device) };
    record(file, path, owner, notes)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(metadata.mode)).map_err(failed("set the mode of", path))?;
    rustix::fs::futimens(file, &times(metadata.mtime)).map_err(failed("set the time of", path))
}

/// Whether an open file stands for a device.
pub(super) fn is_device(file: impl AsFd) -> bool {
    let mut value = [0; 64];
    let read = rustix::fs::fgetxattr(file, OWNER_ATTRIBUTE, &mut value[..]);
    read.is_ok_and(|length| RecordedOwner::from_bytes(&value[..length]).is_some_and(|o| o.device.is_some()))
}

fn ids(metadata: &Metadata<'_>) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (Some(rustix::fs::Uid::from_raw(metadata.uid)), Some(rustix::fs::Gid::from_raw(metadata.gid)))
}

fn owner_error(error: Errno, path: &[u8], metadata: &Metadata<'_>) -> UnpackError {
    match error {
        Errno::INVAL => UnpackError::Owner {
            path: String::from_utf8_lossy(path).into_owned(),
            uid: metadata.uid,
            gid: metadata.gid,
        },
        error => failed("set the owner of", path)(error),
    }
}

fn times(mtime: Seconds) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Opens the directory at `path` for changes of its metadata.
pub(super) fn open_directory(root: &Root, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    root.open_at(as_path(path), flags, 0, Symlinks::Refuse)
}

/// Removes what is at `path`, with all it holds. Every step starts at the root again: archives nest deeper
/// than a process may have files open.
fn remove(root: &Root, path: &[u8]) -> io::Result<()> {
    let mut left = vec![path.to_vec()];
    while let Some(path) = left.last().cloned() {
        let (parent, name) = root.parent_of(as_path(&path), Symlinks::Refuse)?;
        let is_gone = match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
            other => other,
        };
        match is_gone {
            Ok(()) | Err(Errno::NOENT) => drop(left.pop()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => left.extend(children(root, &path)?),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn children(root: &Root, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut children = Vec::new();
    for entry in rustix::fs::Dir::new(open_directory(root, path)?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            children.push([path, b"/", name].concat());
        }
    }
    Ok(children)
}
