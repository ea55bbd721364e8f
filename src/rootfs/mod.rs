//! Opens and changes paths that cannot leave one root directory.
//!
//! Everything goes through `openat2(2)` (Linux 5.6), or a walk of our own where that is missing: no component of a
//! path, symlink or mount of the host can lead outside, also while someone renames things underneath.

mod folder;
mod owner;
mod regular;
mod walk;
pub mod writers;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

pub use folder::{Folder, set_mode_of_place};
pub use owner::{FileId, NoRecord, OWNER_ATTRIBUTE, RecordedDevice, RecordedOwner, SpecialOwner};
pub use regular::{open_regular, read_regular, read_regular_text};

/// A directory that paths cannot leave. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Root {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

/// How symlinks in a path are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symlinks {
    /// Any symlink is an error (`ELOOP`).
    Refuse,
    /// Followed as if the root were `/`; absolute targets and `..` stay inside.
    FollowInside,
}

impl Symlinks {
    fn flags(self) -> ResolveFlags {
        match self {
            Symlinks::Refuse => {
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
            }
            Symlinks::FollowInside => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        }
    }
}

impl Root {
    /// Opens the directory at `path`, following symlinks of the host on the way to it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { fd: Arc::new(fd), path: path.to_owned() })
    }

    /// Takes a directory that is open already; `path` is for messages.
    pub fn from_fd(fd: Arc<OwnedFd>, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// The path it was opened by, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Opens `path` (relative; a leading `/` is ignored) with `flags` (`O_CLOEXEC` is added) and, for a new
    /// file, `mode` less the umask.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: u32, symlinks: Symlinks) -> io::Result<OwnedFd> {
        let path = relative(path);
        let flags = flags | OFlags::CLOEXEC;
        let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) {
            Mode::from_raw_mode(mode)
        } else {
            Mode::empty()
        };
        // EAGAIN: something was renamed while the kernel walked the path; it asks to try again.
        for _ in 0..64 {
            let opened = match rustix::fs::openat2(&*self.fd, path, flags, mode, symlinks.flags()) {
                Err(error) if walk::is_needed(error) => {
                    walk::open(self.fd.as_fd(), path, flags, mode, symlinks)
                }
                opened => opened,
            };
            match opened {
                Err(rustix::io::Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
        Err(rustix::io::Errno::AGAIN.into())
    }

    /// Opens a file for reading; no symlink is followed anywhere in the path.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(File::from(self.open_at(path, flags, 0, Symlinks::Refuse)?))
    }

    /// Opens the directory that holds `path`, and gives the last component's name. `path` must have one.
    pub fn parent_of<'p>(&self, path: &'p Path, symlinks: Symlinks) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.open_at(parent, flags, 0, symlinks)?, name))
    }

    /// Makes the directory `path` and the missing ones above it, each with `mode` less the umask; symlinks to
    /// directories are followed inside the root.
    pub fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        let path = relative(path);
        if self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, 0, Symlinks::FollowInside).is_ok() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.create_dir_all(parent, mode)?;
        }
        let (parent, name) = self.parent_of(path, Symlinks::FollowInside)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
            Err(rustix::io::Errno::EXIST) => {
                self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, 0, Symlinks::FollowInside).map(drop)
            }
            other => Ok(other?),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `path` without a leading `/`; the root itself is `.`.
fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;

    #[test]
    fn symlinks_stay_inside_or_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "host").unwrap();
        let root_path = dir.path().join("root");
        std::fs::create_dir_all(root_path.join("d")).unwrap();
        std::fs::write(root_path.join("secret"), "inside").unwrap();
        std::os::unix::fs::symlink("../../secret", root_path.join("d/up")).unwrap();
        std::os::unix::fs::symlink("/secret", root_path.join("abs")).unwrap();
        let root = Root::open(&root_path).unwrap();
        assert!(root.open_file(Path::new("abs")).is_err());
        assert!(root.open_file(Path::new("../secret")).is_err());
        for path in ["d/up", "abs", "/abs"] {
            let fd = root.open_at(Path::new(path), OFlags::RDONLY, 0, Symlinks::FollowInside).unwrap();
            let mut text = String::new();
            File::from(fd).read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside");
        }
    }

    #[test]
    fn makes_directories_through_symlinks() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("/real", dir.path().join("alias")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.create_dir_all(Path::new("/alias/a/b"), 0o755).unwrap();
        assert!(dir.path().join("real/a/b").is_dir());
    }
}
