//! One plain tree from stacked ones: the root file system where no overlay works.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Error;
use super::files::{self, lstat, make_dir};
use super::overlay::OpaqueMark;

/// What to copy where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyJob {
    /// The trees, the top one first, with overlayfs's marks for what is deleted.
    pub lowers: Vec<PathBuf>,
    /// The directory to fill; it exists and is empty.
    pub target: PathBuf,
    /// Whose marks make a directory opaque.
    pub mark: OpaqueMark,
}

/// Fills the target with what an overlay of the trees would show: owners, modes, times, attributes and hard
/// links within a tree. Data is shared where the file system can (reflinks).
pub fn copy_tree(job: &CopyJob) -> Result<(), Error> {
    for lower in job.lowers.iter().rev() {
        Copier { mark: job.mark, links: HashMap::new() }.tree(lower, &job.target)?;
    }
    Ok(())
}

struct Copier {
    mark: OpaqueMark,
    /// Where the files with several names went, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

/// A directory of a lower tree, where it goes, and its metadata.
type Directory = (PathBuf, PathBuf, Metadata);

impl Copier {
    fn tree(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        let mut directories = self.contents(from, to)?;
        let mut next = 0;
        while let Some((from, to, _)) = directories.get(next) {
            let found = self.contents(from, to)?;
            directories.extend(found);
            next += 1;
        }
        // What is put into a directory changes its time, and its mode may forbid it: metadata comes last.
        directories.iter().rev().try_for_each(|(from, to, meta)| dress(from, to, meta))
    }

    /// Copies what lies directly in `from`; gives the directories, made but empty.
    fn contents(&mut self, from: &Path, to: &Path) -> Result<Vec<Directory>, Error> {
        let mut directories = Vec::new();
        for name in files::names(from)? {
            let (from, to) = (from.join(&name), to.join(&name));
            let meta = lstat(&from)?;
            if files::is_whiteout(&meta) {
                files::remove(&to)?;
            } else if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
                // Trees on overlayfs, which lets nobody else make its whiteouts, have them as layers do.
                if hidden != b".wh..opq" {
                    files::remove(&to.with_file_name(OsStr::from_bytes(hidden)))?;
                }
            } else if meta.is_dir() {
                self.make_directory(&from, &to)?;
                directories.push((from, to, meta));
            } else {
                files::remove(&to)?;
                self.other(&from, &to, &meta)?;
            }
        }
        Ok(directories)
    }

    fn make_directory(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let is_there = to.symlink_metadata().is_ok_and(|there| there.is_dir());
        if is_there && !self.is_opaque(from)? {
            return Ok(());
        }
        files::remove(to)?;
        make_dir(to, 0o700)
    }

    fn is_opaque(&self, dir: &Path) -> Result<bool, Error> {
        let name = match self.mark {
            OpaqueMark::Trusted => "trusted.overlay.opaque",
            OpaqueMark::User => "user.overlay.opaque",
        };
        let is_marked = files::xattr(dir, name)?.is_some_and(|value| value == b"y");
        Ok(is_marked || dir.join(".wh..wh..opq").symlink_metadata().is_ok())
    }

    fn other(&mut self, from: &Path, to: &Path, meta: &Metadata) -> Result<(), Error> {
        if meta.nlink() > 1 {
            if let Some(first) = self.links.get(&(meta.dev(), meta.ino())) {
                return fs::hard_link(first, to).map_err(Error::io("link", to));
            }
            self.links.insert((meta.dev(), meta.ino()), to.to_owned());
        }
        if meta.is_file() {
            fs::copy(from, to).map_err(Error::io("copy", from))?;
        } else if meta.is_symlink() {
            let target = fs::read_link(from).map_err(Error::io("read", from))?;
            std::os::unix::fs::symlink(target, to).map_err(Error::io("make", to))?;
        } else {
            let kind = FileType::from_raw_mode(meta.mode());
            let mode = meta.permissions().mode().into();
            rustix::fs::mknodat(CWD, to, kind, mode, meta.rdev()).map_err(Error::io("make", to))?;
        }
        dress(from, to, meta)
    }
}

/// Gives `to` the metadata of `from`. The order matters: a change of owner clears capabilities and the
/// set-user-id bit, and everything changes times.
fn dress(from: &Path, to: &Path, meta: &Metadata) -> Result<(), Error> {
    std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid())).map_err(Error::io("chown", to))?;
    if !meta.is_symlink() {
        fs::set_permissions(to, meta.permissions()).map_err(Error::io("chmod", to))?;
    }
    copy_xattrs(from, to)?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: meta.atime(), tv_nsec: meta.atime_nsec() },
        last_modification: Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() },
    };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::io("set times of", to))
}

fn copy_xattrs(from: &Path, to: &Path) -> Result<(), Error> {
    // As long as any list of names may be (XATTR_LIST_MAX).
    let mut names = [0; 65_536];
    let len = match rustix::fs::llistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other.map_err(Error::io("read attributes of", from))?,
    };
    for name in names[..len].split(|&c| c == 0).filter(|name| !name.is_empty()) {
        let is_mark = [&b"trusted.overlay."[..], b"user.overlay."].iter().any(|mark| name.starts_with(mark));
        // The labels of the host's security modules are given by the kernel.
        let is_label = name.starts_with(b"security.") && name != files::CAPABILITY.as_bytes();
        if !is_mark && !is_label {
            copy_xattr(from, to, OsStr::from_bytes(name))?;
        }
    }
    Ok(())
}

fn copy_xattr(from: &Path, to: &Path, name: &OsStr) -> Result<(), Error> {
    // As long as any value may be (XATTR_SIZE_MAX).
    let mut value = vec![0; 65_536];
    let len =
        rustix::fs::lgetxattr(from, name, &mut value[..]).map_err(Error::io("read attributes of", from))?;
    rustix::fs::lsetxattr(to, name, &value[..len], XattrFlags::empty())
        .map_err(Error::io("set attributes of", to))
}
