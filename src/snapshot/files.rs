//! Small answers about files on disk, and removing trees.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::io::Errno;

use super::Error;

/// The attribute that holds a file's capabilities: the only one that images carry. BuildKit drops all
/// others too, so that `user.*` is lost.
pub(super) const CAPABILITY: &str = "security.capability";

/// The extended attribute `name` of `path` itself; empty when it is longer than 256 bytes, which none that
/// means anything here is; `None` if there is none or the file system knows no such attributes.
pub(super) fn xattr(path: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let mut value = [0; 256];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(len) => Ok(Some(value[..len].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(Errno::RANGE) => Ok(Some(Vec::new())),
        Err(error) => Err(Error::io("read attributes of", path)(error)),
    }
}

/// Whether this is overlayfs's mark of something deleted: a character device 0/0.
pub(super) fn is_whiteout(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    meta.file_type().is_char_device() && meta.rdev() == 0
}

/// The names in a directory, sorted by bytes.
pub(super) fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
    let mut names = names.map_err(Error::io("list", dir))?;
    names.sort_unstable();
    Ok(names)
}

pub(super) fn lstat(path: &Path) -> Result<fs::Metadata, Error> {
    fs::symlink_metadata(path).map_err(Error::io("look at", path))
}

/// Makes a directory with exactly this mode, whatever the umask.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
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
