//! Finds, or makes, the place in a root where something is to be mounted.
//!
//! The walk goes component by component and never lets the kernel follow a symbolic link, so nothing in
//! an image (`/etc/hosts -> /proc/self/fd/5/...`) leads out of its root. What it makes is written down,
//! so that it can be removed again after the step.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, StatxFlags, Timespec, Timestamps, Uid};
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};

use crate::exec::owners::set_attribute;
use crate::rootfs::RecordedOwner;

/// As many symbolic links as the kernel follows.
const LINK_LIMIT: u32 = 40;

/// What to make where nothing is.
#[derive(Debug, Clone, Copy)]
pub(in crate::exec) enum Leaf {
    /// A directory.
    Directory,
    /// An empty file (parents are directories).
    File,
}

/// Who owns what is made, and whether it goes away again.
#[derive(Debug, Clone, Copy)]
pub(in crate::exec) enum Keep {
    /// A mount point: root's, removed after the step.
    Remove,
    /// A directory that stays: `/proc` of an empty root, or a working directory.
    Stay { uid: u32, gid: u32 },
}

/// What was made for mounts in the root itself, and which directories that touched.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::exec) struct Stubs {
    /// Real paths relative to the root, parents first.
    pub(in crate::exec) made: Vec<PathBuf>,
    /// Directories of the root that got new entries, as they were before.
    pub(super) touched: Vec<Touched>,
}

/// See [`Stubs`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Touched {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: (i64, i64),
    /// The upper directory had it already.
    pub(super) existed: bool,
}

/// A root being prepared.
pub(in crate::exec) struct Root<'r> {
    pub(super) directory: BorrowedFd<'r>,
    pub(in crate::exec) stubs: Stubs,
    /// Owners are written down with the files instead of given to them.
    pub(super) records_owners: bool,
    mount_id: Option<u64>,
    upper: Option<&'r Path>,
}

impl<'r> Root<'r> {
    /// `upper` receives the root's changes, if it is an overlay.
    pub(in crate::exec) fn new(directory: BorrowedFd<'r>, upper: Option<&'r Path>) -> Self {
        Self {
            directory,
            stubs: Stubs::default(),
            records_owners: false,
            mount_id: mount_id(directory),
            upper,
        }
    }

    /// Opens `path` (absolute, in the root) with O_PATH, making what is missing.
    pub(in crate::exec) fn open_or_make(&mut self, path: &str, leaf: Leaf, keep: Keep) -> Result<OwnedFd> {
        self.place(path, leaf, keep).map(|(found, _)| found)
    }

    /// As [`Self::open_or_make`]; gives also where that really is, relative to the root.
    pub(in crate::exec) fn place(
        &mut self,
        path: &str,
        leaf: Leaf,
        keep: Keep,
    ) -> Result<(OwnedFd, PathBuf)> {
        let mut walk = Walk { root: self.directory, above: Vec::new(), links: 0 };
        let mut rest: Vec<OsString> = components(OsStr::new(path));
        while let Some(name) = rest.pop() {
            let here = walk.here();
            match rustix::fs::openat(
                here,
                &name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                Ok(found) => walk.enter(found, name, &mut rest)?,
                Err(Errno::NOENT) => {
                    let kind = if rest.is_empty() { leaf } else { Leaf::Directory };
                    let made = self.make(&walk, &name, kind, keep)?;
                    walk.above.push((made, name));
                }
                Err(errno) => return Err(errno),
            }
        }
        let real = walk.above.iter().map(|(_, name)| name).collect();
        let found = match walk.above.pop() {
            Some((found, _)) => found,
            None => rustix::io::fcntl_dupfd_cloexec(self.directory, 3)?,
        };
        Ok((found, real))
    }

    /// Opens `path` without making anything; `None` when it is not there.
    pub(in crate::exec) fn open(&self, path: &str) -> Result<Option<OwnedFd>> {
        let mut walk = Walk { root: self.directory, above: Vec::new(), links: 0 };
        let mut rest = components(OsStr::new(path));
        while let Some(name) = rest.pop() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(walk.here(), &name, flags, Mode::empty()) {
                Ok(found) => walk.enter(found, name, &mut rest)?,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        match walk.above.pop() {
            Some((found, _)) => Ok(Some(found)),
            None => rustix::io::fcntl_dupfd_cloexec(self.directory, 3).map(Some),
        }
    }

    fn make(&mut self, walk: &Walk<'_>, name: &OsStr, kind: Leaf, keep: Keep) -> Result<OwnedFd> {
        let parent = walk.here();
        let before = rustix::fs::fstat(parent)?;
        let parent_path: PathBuf = walk.above.iter().map(|(_, name)| name).collect();
        let existed = self.upper.is_none_or(|upper| rustix::fs::lstat(upper.join(&parent_path)).is_ok());
        match kind {
            Leaf::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Leaf::File => drop(rustix::fs::openat(
                parent,
                name,
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o644),
            )?),
        }
        let made = rustix::fs::openat(
            parent,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        // Only what is in the root itself has to be undone: what is inside a mount goes with it, or,
        // in a cache, belongs there.
        let in_root = mount_id(parent) == self.mount_id;
        match keep {
            Keep::Stay { uid: 0, gid: 0 } => {}
            Keep::Stay { uid, gid } => {
                self.give(parent, name, uid, gid)?;
            }
            Keep::Remove if in_root => {
                self.note(parent_path, name, &before, existed);
                restore_times(parent, &before)?;
            }
            Keep::Remove => {}
        }
        Ok(made)
    }

    /// Makes what was just made in `parent` that user's.
    pub(super) fn give(&self, parent: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
        if !self.records_owners {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            return rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        }
        let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name.as_bytes()].concat();
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        match set_attribute(&path, false, RecordedOwner::new(uid, gid)) {
            // A file system that keeps no attributes, in memory: the file belongs to root, who can use it.
            Err(Errno::NOTSUP) => Ok(()),
            other => other,
        }
    }

    fn note(&mut self, parent: PathBuf, name: &OsStr, before: &rustix::fs::Stat, existed: bool) {
        self.stubs.made.push(parent.join(name));
        if !self.stubs.made.contains(&parent) && !self.stubs.touched.iter().any(|t| t.path == parent) {
            self.stubs.touched.push(Touched {
                path: parent,
                mode: before.st_mode,
                uid: before.st_uid,
                gid: before.st_gid,
                modified: (before.st_mtime, before.st_mtime_nsec as i64),
                existed,
            });
        }
    }
}

/// Gives a directory the times it had.
pub(in crate::exec) fn restore_times(directory: BorrowedFd<'_>, before: &rustix::fs::Stat) -> Result<()> {
    let time = |seconds: i64, nanos: i64| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    let times = Timestamps {
        last_access: time(before.st_atime, before.st_atime_nsec as i64),
        last_modification: time(before.st_mtime, before.st_mtime_nsec as i64),
    };
    // An O_PATH descriptor has no futimens; `.` below it does.
    rustix::fs::utimensat(directory, ".", &times, AtFlags::empty())
}

struct Walk<'r> {
    root: BorrowedFd<'r>,
    /// The directories from the root to here, and in the end what was looked for.
    above: Vec<(OwnedFd, OsString)>,
    links: u32,
}

impl Walk<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        self.above.last().map_or(self.root, |(fd, _)| fd.as_fd())
    }

    fn enter(&mut self, found: OwnedFd, name: OsString, rest: &mut Vec<OsString>) -> Result<()> {
        if name == ".." {
            self.above.pop();
            return Ok(());
        }
        let stat = rustix::fs::fstat(&found)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            self.above.push((found, name));
            return Ok(());
        }
        self.links += 1;
        if self.links > LINK_LIMIT {
            return Err(Errno::LOOP);
        }
        let text = rustix::fs::readlinkat(&found, "", Vec::new())?;
        let text = OsString::from_vec(text.into_bytes());
        if text.as_bytes().starts_with(b"/") {
            self.above.clear();
        }
        rest.extend(components(&text));
        Ok(())
    }
}

/// The components in reverse order, `.` and empty ones left out.
fn components(path: &OsStr) -> Vec<OsString> {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
        .rev()
        .collect()
}

/// Kernels before 5.8 do not tell; then everything counts as one mount.
fn mount_id(file: BorrowedFd<'_>) -> Option<u64> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}
