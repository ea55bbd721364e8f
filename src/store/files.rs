//! Small files that are read whole and replaced at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::Error;

/// Far more than any record has.
const LIMIT: u64 = 256 << 20;

/// The whole file, or `None` when there is none.
pub(super) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match crate::rootfs::open_regular(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    Ok(Some(bytes))
}

/// Like [`read_small`]; but a file without content, or with nothing but zeros, is what a crash of the machine
/// makes of one that was not yet written to disk, and counts as none.
pub(super) fn read_written(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    Ok(read_small(path)?.filter(|bytes| bytes.iter().any(|byte| *byte != 0)))
}

/// Creates `path`, which must not exist, with exactly this mode.
pub(super) fn create(path: &Path, mode: u32) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|e| Error::io("create", path, e))?;
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(|e| Error::io("create", path, e))?;
    Ok(file)
}

/// Writes a new file that nobody else may read, for folders of other modules.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// Writes `bytes` to `scratch`, which must not exist.
pub(super) fn write_new(scratch: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    write_new_with(scratch, mode, |file| file.write_all(bytes))
}

/// Lets `fill` write `scratch`, which must not exist.
pub(super) fn write_new_with(
    scratch: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), Error> {
    let result = create(scratch, mode)
        .and_then(|mut file| fill(&mut file).map_err(|e| Error::io("write", scratch, e)));
    if result.is_err() {
        let _ = fs::remove_file(scratch);
    }
    result
}

/// Writes `bytes` to `scratch` and renames it to `path`: readers see the old file or the new one.
pub(super) fn replace(scratch: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    write_new(scratch, bytes, mode)?;
    rename(scratch, path)
}

/// Renames a file of ours; when that fails, it is removed.
pub(super) fn rename(scratch: &Path, path: &Path) -> Result<(), Error> {
    fs::rename(scratch, path).map_err(|e| {
        let _ = fs::remove_file(scratch);
        Error::io("write", path, e)
    })
}

/// Renames a finished file to `path`, without the wait of rename(2) where something is there already: ext4 first sees
/// to the blocks of a file that is renamed over another (`auto_da_alloc`), 1.4 ms for each MB of it. So the two change
/// places, and the old one goes. For what can be made again: after a crash of the machine both may be gone.
pub(crate) fn supersede(fresh: &Path, path: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, fresh, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => fs::remove_file(fresh),
        // Nothing is there, or the file system cannot do it.
        Err(_) => fs::rename(fresh, path),
    }
}

/// Like [`replace`], but `false` and nothing changed when `path` exists.
pub(super) fn publish_new(scratch: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<bool, Error> {
    write_new(scratch, bytes, mode)?;
    // link(2) fails when the name is taken, on every file system that has hard links.
    let linked = fs::hard_link(scratch, path);
    let _ = fs::remove_file(scratch);
    match linked {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io("write", path, e)),
    }
}

/// Notes on a file of ours that it was used now. That it cannot be noted, as in a store of another user, costs nothing but
/// an earlier end.
pub(super) fn touch(path: &Path) {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let _ = rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty());
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// What is in a folder, with what is known of it, in no order. A folder that is not there is empty, and what goes
/// meanwhile is left out.
pub(super) fn list(folder: &Path) -> Result<Vec<(PathBuf, fs::Metadata)>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", folder, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io("read", folder, e))?.path();
        if let Ok(meta) = fs::symlink_metadata(&path) {
            found.push((path, meta));
        }
    }
    Ok(found)
}
