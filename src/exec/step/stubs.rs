//! Removes, after a step, what was made in its root only to mount on.
//!
//! Works on the upper directory (or the plain root) when the mounts are gone. Nothing here can fail the
//! step: what cannot be removed stays, as an empty file that the diff then shows.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};

use super::target::{Stubs, Touched, restore_times};
use crate::exec::spec::RootSource;

/// What was made in a root, and where that is when the mounts are gone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::exec) struct Made {
    base: PathBuf,
    /// The base holds changes only, not the whole root.
    is_upper: bool,
    stubs: Stubs,
}

impl Made {
    pub(in crate::exec) fn new(root: &RootSource, stubs: Stubs) -> Self {
        let (base, is_upper) = match root {
            RootSource::Overlay { upper, .. } => (upper, true),
            RootSource::Plain { dir } => (dir, false),
        };
        Self { base: base.clone(), is_upper, stubs }
    }
}

pub(in crate::exec) fn remove(Made { base, is_upper, stubs }: &Made) {
    if stubs.made.is_empty() {
        return;
    }
    // Children were made after their parents.
    for path in stubs.made.iter().rev() {
        let _ = remove_one(base, path);
    }
    if *is_upper {
        let mut touched: Vec<&Touched> = stubs.touched.iter().collect();
        touched.sort_by_key(|touched| std::cmp::Reverse(touched.path.components().count()));
        for touched in touched {
            let _ = forget_copy(base, touched);
        }
    }
}

/// Removes an empty file or directory, leaving its parent's times as they are.
fn remove_one(base: &Path, path: &Path) -> rustix::io::Result<()> {
    let (parent, name) = open_parent(base, path)?;
    let before = rustix::fs::fstat(&parent)?;
    let stat = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)?,
        FileType::RegularFile if stat.st_size == 0 => rustix::fs::unlinkat(&parent, &name, AtFlags::empty())?,
        _ => return Ok(()),
    }
    restore_times(parent.as_fd(), &before)
}

/// Making a mount point in a directory of a lower layer copied that directory up. When the step did
/// nothing to it, the copy is empty and equal to the original, and goes away.
fn forget_copy(base: &Path, touched: &Touched) -> rustix::io::Result<()> {
    let (parent, name) = open_parent(base, &touched.path)?;
    let stat = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
    let directory = rustix::fs::openat(
        &parent,
        &name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if !touched.existed && is_as_before(&stat, touched) && !is_opaque(&directory) {
        let before = rustix::fs::fstat(&parent)?;
        rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)?;
        restore_times(parent.as_fd(), &before)?;
    }
    Ok(())
}

fn is_as_before(stat: &Stat, touched: &Touched) -> bool {
    let modified = (stat.st_mtime, stat.st_mtime_nsec as i64);
    (stat.st_mode, stat.st_uid, stat.st_gid, modified)
        == (touched.mode, touched.uid, touched.gid, touched.modified)
}

fn is_opaque(directory: &OwnedFd) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|name| rustix::fs::fgetxattr(directory, *name, &mut [0u8; 8]).is_ok())
}

/// The command may have put symbolic links in the way: nothing is followed.
pub(in crate::exec) fn open_parent(base: &Path, path: &Path) -> rustix::io::Result<(OwnedFd, PathBuf)> {
    open_parent_at(rustix::fs::open(base, PLACE, Mode::empty())?, path)
}

const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// As [`open_parent`], wherever the base has been moved.
pub(in crate::exec) fn open_parent_at(base: OwnedFd, path: &Path) -> rustix::io::Result<(OwnedFd, PathBuf)> {
    let name = path.file_name().ok_or(rustix::io::Errno::INVAL)?;
    let mut parent = base;
    for component in path.parent().unwrap_or(Path::new("")) {
        parent = rustix::fs::openat(&parent, component, PLACE, Mode::empty())?;
    }
    Ok((parent, PathBuf::from(name)))
}
