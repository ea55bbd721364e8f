//! Work on the names directly in one open directory.
//!
//! A name is one component: never a path, never `..`. A symbolic link is looked at, moved or removed itself; nothing here
//! goes through it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::owner::OWNER_ATTRIBUTE;
use super::{FileId, Root, Symlinks};

/// An open directory.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

impl Root {
    /// Opens the directory at `path` to work on what is in it.
    pub fn folder(&self, path: &Path, symlinks: Symlinks) -> io::Result<Folder> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0, symlinks)?;
        Ok(Folder { fd })
    }

    /// What is at `path` itself; no symlink is followed anywhere in it.
    pub fn stat(&self, path: &Path) -> io::Result<Stat> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, 0, Symlinks::Refuse)?;
        Ok(rustix::fs::fstat(fd)?)
    }
}

impl Folder {
    /// The names in it, sorted by bytes.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What has this name.
    pub fn stat(&self, name: &OsStr) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.fd, one(name)?, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Which file has this name.
    pub fn file_id(&self, name: &OsStr) -> io::Result<FileId> {
        Ok(FileId::at(&self.fd, one(name)?, false)?)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, name: &OsStr) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, one(name)?, Vec::new())?.into_bytes())
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.fd, one(name)?, flags, Mode::empty())?))
    }

    /// Makes a regular file, which its owner alone may read and write.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.fd, one(name)?, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Makes a directory, which its owner alone may enter.
    pub fn create_dir(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.fd, one(name)?, Mode::RWXU)?)
    }

    /// Makes a symbolic link.
    pub fn create_symlink(&self, name: &OsStr, target: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, one(name)?)?)
    }

    /// Makes a pipe, a socket or a device of the kind, mode and number that `like` has.
    pub fn create_special(&self, name: &OsStr, like: &Stat) -> io::Result<()> {
        let (kind, mode) = (FileType::from_raw_mode(like.st_mode), Mode::from_raw_mode(like.st_mode));
        Ok(rustix::fs::mknodat(&self.fd, one(name)?, kind, mode, like.st_rdev)?)
    }

    /// Makes another name of what is `name` in `of`.
    pub fn create_link(&self, to: &OsStr, of: &Self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(&of.fd, one(name)?, &self.fd, one(to)?, AtFlags::empty())?)
    }

    /// Moves what has this name to `to`, on the same file system, where nothing has it.
    pub fn move_one(&self, name: &OsStr, to: &Self) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, one(name)?, &to.fd, name)?)
    }

    /// Moves everything in it to `to`, on the same file system. What has such a name there gives way; a directory that
    /// is not empty does not.
    pub fn move_all(&self, to: &Self) -> io::Result<()> {
        for name in self.names()? {
            rustix::fs::renameat(&self.fd, &name, &to.fd, &name)?;
        }
        Ok(())
    }

    /// Gives it itself the owner, the mode and the written-down owner of another one.
    pub fn look_like(&self, other: &Self) -> io::Result<()> {
        let stat = rustix::fs::fstat(&other.fd)?;
        rustix::fs::fchown(&self.fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(stat.st_mode))?;
        let mut value = [0; 256];
        match rustix::fs::fgetxattr(&other.fd, OWNER_ATTRIBUTE, &mut value) {
            Ok(length) => {
                let value = &value[..length];
                Ok(rustix::fs::fsetxattr(&self.fd, OWNER_ATTRIBUTE, value, XattrFlags::empty())?)
            }
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what has this name, with all it holds; nothing is as good.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, one(name)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // The parent is held open, and removing a tree follows no link in it.
            Err(Errno::ISDIR | Errno::PERM) => {
                let path = self.path(name)?;
                // The first pass is the fast one.
                let removed = std::fs::remove_dir_all(&path).or_else(|_| {
                    self.open_up(name);
                    std::fs::remove_dir_all(&path)
                });
                removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the owner of the directories of a tree every right, as far as that is possible.
    fn open_up(&self, name: &OsStr) {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(place) = rustix::fs::openat(&self.fd, name, flags | OFlags::PATH, Mode::empty()) else {
            return;
        };
        let _ = set_mode_of_place(&place, Mode::RWXU);
        let Ok(fd) = rustix::fs::openat(&place, ".", flags | OFlags::RDONLY, Mode::empty()) else { return };
        let folder = Self { fd };
        for name in folder.names().unwrap_or_default() {
            folder.open_up(&name);
        }
    }

    /// Gives what has this name to a user and a group. That takes set-id bits and capabilities away.
    pub fn set_owner(&self, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(rustix::fs::chownat(&self.fd, one(name)?, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the mode of what the caller has just made here, and is no symbolic link.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::chmodat(&self.fd, one(name)?, Mode::from_raw_mode(mode), AtFlags::empty())?)
    }

    /// Sets the times of what has this name.
    pub fn set_times(&self, name: &OsStr, times: &Timestamps) -> io::Result<()> {
        Ok(rustix::fs::utimensat(&self.fd, one(name)?, times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The names of the extended attributes of what has this name, each with a zero byte behind it.
    pub fn xattr_names<'b>(&self, name: &OsStr, buffer: &'b mut [u8]) -> rustix::io::Result<&'b [u8]> {
        let length = rustix::fs::llistxattr(self.path(name)?, &mut *buffer)?;
        Ok(&buffer[..length])
    }

    /// An extended attribute of what has this name.
    pub fn xattr<'b>(
        &self,
        name: &OsStr,
        attribute: &OsStr,
        buffer: &'b mut [u8],
    ) -> rustix::io::Result<&'b [u8]> {
        let length = rustix::fs::lgetxattr(self.path(name)?, attribute, &mut *buffer)?;
        Ok(&buffer[..length])
    }

    /// Sets an extended attribute of what has this name.
    pub fn set_xattr(&self, name: &OsStr, attribute: &OsStr, value: &[u8]) -> rustix::io::Result<()> {
        rustix::fs::lsetxattr(self.path(name)?, attribute, value, XattrFlags::empty())
    }

    /// For calls that know no descriptors: a path that leads through this one.
    fn path(&self, name: &OsStr) -> rustix::io::Result<OsString> {
        let mut path = OsString::from(format!("/proc/self/fd/{}/", self.fd.as_raw_fd()));
        path.push(one(name)?);
        Ok(path)
    }
}

/// Sets the mode of what a descriptor stands for that was opened with `O_PATH`; fchmod(2) refuses these.
pub fn set_mode_of_place(place: &OwnedFd, mode: Mode) -> rustix::io::Result<()> {
    rustix::fs::chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), mode)
}

impl From<OwnedFd> for Folder {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<Folder> for OwnedFd {
    fn from(folder: Folder) -> Self {
        folder.fd
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether it names something in a directory.
fn one(name: &OsStr) -> rustix::io::Result<&OsStr> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        _ => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Two folders of one root, and something outside that links in them lead to.
    fn folders() -> (tempfile::TempDir, Folder, Folder) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root/a/full", "root/b", "outside"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        for name in ["outside/secret", "root/a/full/file"] {
            std::fs::write(dir.path().join(name), "text").unwrap();
        }
        std::os::unix::fs::symlink(dir.path().join("outside"), dir.path().join("root/a/link")).unwrap();
        let root = Root::open(&dir.path().join("root")).unwrap();
        let open = |name: &str| root.folder(Path::new(name), Symlinks::FollowInside).unwrap();
        let (a, b) = (open("a"), open("b"));
        assert!(root.folder(Path::new("a/link"), Symlinks::FollowInside).is_err());
        assert!(root.stat(Path::new("a/link/secret")).is_err());
        (dir, a, b)
    }

    #[test]
    fn a_name_is_one_component() {
        let (dir, a, b) = folders();
        for name in ["", ".", "..", "full/file", "/", "../b"].map(OsStr::new) {
            assert!(a.stat(name).is_err() && a.remove(name).is_err() && a.create_dir(name).is_err());
            assert!(b.create_link(OsStr::new("x"), &a, name).is_err() && a.path(name).is_err());
        }
        assert!(dir.path().join("root/a/full/file").exists());
    }

    #[test]
    fn links_are_moved_and_removed_themselves() {
        let (dir, a, b) = folders();
        a.move_all(&b).unwrap();
        assert_eq!((a.names().unwrap(), b.names().unwrap()), (vec![], vec!["full".into(), "link".into()]));
        for name in ["full", "link", "none"] {
            b.remove(OsStr::new(name)).unwrap();
        }
        assert_eq!(b.names().unwrap(), Vec::<OsString>::new());
        assert!(dir.path().join("outside/secret").exists());
    }

    #[test]
    fn directories_that_deny_their_owner_are_removed_too() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, a, _) = folders();
        let full = dir.path().join("root/a/full");
        std::os::unix::fs::symlink(dir.path().join("outside"), full.join("link")).unwrap();
        let closed = std::fs::Permissions::from_mode(0o0);
        std::fs::set_permissions(dir.path().join("outside"), std::fs::Permissions::from_mode(0o500)).unwrap();
        std::fs::create_dir(full.join("closed")).unwrap();
        for name in ["closed", ""] {
            std::fs::set_permissions(full.join(name), closed.clone()).unwrap();
        }
        a.remove(OsStr::new("full")).unwrap();
        assert_eq!(a.names().unwrap(), ["link"]);
        let mode = std::fs::metadata(dir.path().join("outside")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o500);
    }
}
