//! One plain tree from stacked ones: the root file system where no overlay works.
//!
//! What is copied comes from images and steps, so every directory is opened by descriptor, with no link followed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Error;
use super::files::{self, is_directory, kind};
use crate::layer::unpack::OpaqueMark;
use crate::rootfs::{Folder, Root, Symlinks};

/// What to copy where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyJob {
    /// The trees, the top one first, with overlayfs's marks for what is deleted.
    pub lowers: Vec<PathBuf>,
    /// The directory to fill; it exists and is empty.
    pub target: PathBuf,
    /// Whose marks make a directory opaque.
    pub mark: OpaqueMark,
    /// Files are other names of those in the trees, where the file system can: for a target that nobody writes to.
    pub linked: bool,
}

/// Fills the target with what an overlay of the trees would show: owners, modes, times, attributes and hard
/// links within a tree. Data is shared where the file system can (reflinks), or files are, if the job says so.
pub fn copy_tree(job: &CopyJob) -> Result<(), Error> {
    let open = |path: &PathBuf| Root::open(path).map_err(Error::io("open", path));
    let to = open(&job.target)?;
    for lower in job.lowers.iter().rev() {
        let from = open(lower)?;
        for path in super::hidden_by(lower)? {
            remove(&to, Path::new(OsStr::from_bytes(&path)))?;
        }
        let (mark, linked) = (job.mark, job.linked);
        Copier { mark, linked, from: &from, to: &to, links: HashMap::new() }.tree()?;
    }
    Ok(())
}

/// Removes what a tree hides; where there is no such folder there is nothing to hide.
fn remove(root: &Root, path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let Ok(folder) = root.folder(parent, Symlinks::Refuse) else { return Ok(()) };
    folder.remove(name).map_err(|error| Error::io("remove", root.path().join(path))(error))
}

struct Copier<'a> {
    mark: OpaqueMark,
    linked: bool,
    from: &'a Root,
    to: &'a Root,
    /// Where the files with several names went (directory and name), by device and inode.
    links: HashMap<(u64, u64), (PathBuf, OsString)>,
}

/// A directory of the tree and the one that it goes to.
struct Pair<'p> {
    path: &'p Path,
    from: Folder,
    to: Folder,
}

/// A directory that was made but is not finished: its path and its metadata.
type Directory = (PathBuf, Stat);

impl Copier<'_> {
    fn tree(&mut self) -> Result<(), Error> {
        let mut directories = self.contents(Path::new(""))?;
        let mut next = 0;
        while let Some((path, _)) = directories.get(next) {
            let found = self.contents(path)?;
            directories.extend(found);
            next += 1;
        }
        // What is put into a directory changes its time, and its mode may forbid it: metadata comes last.
        directories.iter().rev().try_for_each(|(path, stat)| {
            let pair = self.pair(path.parent().unwrap_or(Path::new("")))?;
            let name = path.file_name().unwrap_or_default();
            dress(&pair, name, stat).map_err(self.failed("copy", &pair, name))
        })
    }

    fn pair<'p>(&self, path: &'p Path) -> Result<Pair<'p>, Error> {
        let open = |root: &Root| {
            let folder = root.folder(path, Symlinks::Refuse);
            folder.map_err(|error| Error::io("open", root.path().join(path))(error))
        };
        Ok(Pair { path, from: open(self.from)?, to: open(self.to)? })
    }

    /// What was tried on something of the tree.
    fn failed(&self, action: &'static str, pair: &Pair<'_>, name: &OsStr) -> impl FnOnce(io::Error) -> Error {
        let path = self.from.path().join(pair.path).join(name);
        move |error| Error::io(action, path)(error)
    }

    /// Copies what lies directly in the directory `path`; gives the directories, made but empty.
    fn contents(&mut self, path: &Path) -> Result<Vec<Directory>, Error> {
        let pair = self.pair(path)?;
        let mut directories = Vec::new();
        for name in pair.from.names().map_err(self.failed("list", &pair, OsStr::new("")))? {
            let stat = pair.from.stat(&name).map_err(self.failed("look at", &pair, &name))?;
            if files::is_whiteout(&stat) {
                pair.to.remove(&name).map_err(self.failed("remove", &pair, &name))?;
            } else if is_directory(&stat) {
                self.make_directory(&pair, &name).map_err(self.failed("copy", &pair, &name))?;
                directories.push((path.join(name), stat));
            } else {
                pair.to.remove(&name).map_err(self.failed("replace", &pair, &name))?;
                self.other(&pair, &name, &stat).map_err(self.failed("copy", &pair, &name))?;
            }
        }
        Ok(directories)
    }

    fn make_directory(&self, pair: &Pair<'_>, name: &OsStr) -> io::Result<()> {
        let is_there = pair.to.stat(name).is_ok_and(|there| is_directory(&there));
        if is_there && !self.is_opaque(pair, name)? {
            return Ok(());
        }
        pair.to.remove(name)?;
        pair.to.create_dir(name)
    }

    fn is_opaque(&self, pair: &Pair<'_>, name: &OsStr) -> io::Result<bool> {
        Ok(files::xattr(&pair.from, name, self.mark.xattr())?.is_some_and(|value| value == b"y"))
    }

    fn other(&mut self, pair: &Pair<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
        // A file may have as many names as it can, or lie on another file system: then there is a copy of it.
        if self.linked && pair.to.create_link(name, &pair.from, name).is_ok() {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some((folder, first)) = self.links.get(&id) {
                return pair.to.create_link(name, &self.to.folder(folder, Symlinks::Refuse)?, first);
            }
            self.links.insert(id, (pair.path.to_owned(), name.to_owned()));
        }
        match kind(stat) {
            FileType::RegularFile => {
                let (mut from, mut to) = (pair.from.open_file(name)?, pair.to.create_file(name)?);
                io::copy(&mut from, &mut to)?;
            }
            FileType::Symlink => pair.to.create_symlink(name, &pair.from.read_link(name)?)?,
            _ => pair.to.create_special(name, stat)?,
        }
        dress(pair, name, stat)
    }
}

/// Gives the copy the metadata of what it was copied from. The order matters: a change of owner clears capabilities and
/// the set-user-id bit, and everything changes times.
fn dress(pair: &Pair<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    pair.to.set_owner(name, stat.st_uid, stat.st_gid)?;
    if kind(stat) != FileType::Symlink {
        pair.to.set_mode(name, stat.st_mode & 0o7777)?;
    }
    copy_xattrs(pair, name)?;
    let time = |seconds: i64, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    pair.to.set_times(name, &times)
}

fn copy_xattrs(pair: &Pair<'_>, name: &OsStr) -> io::Result<()> {
    // As long as any list of names may be (XATTR_LIST_MAX).
    let mut names = [0; 65_536];
    let names = match pair.from.xattr_names(name, &mut names) {
        Err(Errno::NOTSUP) => &[][..],
        other => other?,
    };
    for attribute in names.split(|&c| c == 0).filter(|attribute| !attribute.is_empty()) {
        let is_mark =
            [&b"trusted.overlay."[..], b"user.overlay."].iter().any(|mark| attribute.starts_with(mark));
        // The labels of the host's security modules are given by the kernel.
        let is_label = attribute.starts_with(b"security.") && attribute != files::CAPABILITY.as_bytes();
        if !is_mark && !is_label {
            // As long as any value may be (XATTR_SIZE_MAX).
            let mut value = vec![0; 65_536];
            let attribute = OsStr::from_bytes(attribute);
            pair.to.set_xattr(name, attribute, pair.from.xattr(name, attribute, &mut value)?)?;
        }
    }
    Ok(())
}
