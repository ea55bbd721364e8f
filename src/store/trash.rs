//! Deleting in two steps: rename now, remove after the build.
//!
//! Some file systems make new files slow right after many were removed, and a rename is atomic: what
//! is thrown away is gone from its place at once.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Error, scratch};

/// Renames `path` into `trash_dir`; one that does not exist is as good as thrown away.
pub(super) fn throw(path: &Path, trash_dir: &Path) -> Result<(), Error> {
    match fs::rename(path, trash_dir.join(scratch::unique())) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(()),
        other => other.map_err(|e| Error::io("throw away", path, e)),
    }
}

/// Removes what is in `trash_dir`, and gives what could not be removed.
pub(super) fn empty(trash_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(trash_dir) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).map(|e| e.path());
    paths.filter(|path| !remove(path)).collect()
}

/// Whether nothing is left at `path`. Another process may be removing it at the same time.
fn remove(path: &Path) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return true };
    if !meta.is_dir() {
        return gone(fs::remove_file(path));
    }
    // The first pass is the fast one; a second is needed where directories deny their own owner.
    if gone(fs::remove_dir_all(path)) {
        return true;
    }
    open_up(path);
    gone(fs::remove_dir_all(path))
}

fn gone(result: io::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// Gives the owner of the directories below `path` every right; those of others stay as they are.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}
