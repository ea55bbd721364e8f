//! Deleting in two steps: rename now, remove after the build.
//!
//! Some file systems make new files slow right after many were removed, and a rename is atomic: what
//! is thrown away is gone from its place at once.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Error, scratch, undo};

/// Renames `path` into `trash_dir`; one that does not exist is as good as thrown away. What is noted in it is undone before.
pub(super) fn throw(path: &Path, trash_dir: &Path) -> Result<(), Error> {
    undo::undo(path);
    match fs::rename(path, trash_dir.join(scratch::unique())) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(()),
        other => other.map_err(|e| Error::io("throw away", path, e)),
    }
}

/// Removes what is in `trash_dir`, and gives what could not be removed.
pub(super) fn empty(trash_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(trash_dir) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).map(|e| e.path());
    paths
        .filter(|path| {
            remove_below(path);
            remove_tree(path).is_err()
        })
        .collect()
}

/// Removes the directories below `path`, several at once: somebody waits for the end of the build. What does not go is
/// left to [`remove_tree`].
fn remove_below(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let below: Vec<PathBuf> =
        entries.filter_map(Result::ok).filter(is_directory).map(|entry| entry.path()).collect();
    below.par_iter().for_each(|path| {
        remove_below(path);
        let _ = fs::remove_dir_all(path);
    });
}

/// Removes whatever is at `path`, also directories that deny their own owner. Nothing there is no error: another
/// process may be removing it at the same time.
fn remove_tree(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !meta.is_dir() {
        return missing_is_fine(fs::remove_file(path));
    }
    // The first pass is the fast one.
    missing_is_fine(fs::remove_dir_all(path)).or_else(|_| {
        open_up(path);
        missing_is_fine(fs::remove_dir_all(path))
    })
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
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
