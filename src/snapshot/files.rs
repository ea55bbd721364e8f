//! Small answers about files on disk, and removing trees.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::Error;
use crate::rootfs::Folder;

/// The attribute that holds a file's capabilities: the only one that images carry. BuildKit drops all
/// others too, so that `user.*` is lost.
pub(super) const CAPABILITY: &str = "security.capability";

/// The extended attribute `attribute` of what is called `name` itself; empty when it is longer than 256 bytes, which none that
/// means anything here is; `None` if there is none or the file system knows no such attributes.
pub(super) fn xattr(folder: &Folder, name: &OsStr, attribute: &str) -> io::Result<Option<Vec<u8>>> {
    match folder.xattr(name, OsStr::new(attribute), &mut [0; 256]) {
        Ok(value) => Ok(Some(value.to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(Errno::RANGE) => Ok(Some(Vec::new())),
        Err(error) => Err(error.into()),
    }
}

/// Whether this is overlayfs's mark of something deleted: a character device 0/0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    kind(stat) == FileType::Directory
}

/// Makes a directory with exactly this mode, whatever the umask.
pub fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    let make = || {
        fs::DirBuilder::new().mode(mode).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    make().map_err(Error::io("make", path))
}

/// Removes whatever is at `path`; nothing is as good. Without root, files of other ids can only be removed
/// by a process inside the user namespace that made them.
pub fn remove(path: &Path) -> Result<(), Error> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("look at", path))?,
    };
    let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io("remove", path)),
    }
}
