//! Opens the lower directories of an overlay, with a *mask* below each that hides more than it can say itself.
//!
//! A mask is a directory in memory with nothing but overlayfs's whiteouts and the directories that lead to them. It is the
//! next lower directory after the one that hides, so that directory's own names are seen, and its own directories say
//! what the ones in the mask look like.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::overlay::open_directory;
use crate::exec::failure::{Doing as _, Failure};
use crate::exec::spec::Hidden;

/// What the lower directories of a step hide, and where masks are made.
#[derive(Clone, Copy)]
pub(super) struct Masks<'a> {
    pub(super) hidden: &'a [Hidden],
    /// A file system out of the step's sight.
    pub(super) memory: &'a OwnedFd,
}

impl Masks<'_> {
    /// Opens the directories, top first; `called` is a name in memory that nobody else uses.
    pub(super) fn open(&self, lowers: &[PathBuf], called: &str) -> Result<Vec<OwnedFd>, Failure> {
        let mut opened = Vec::with_capacity(lowers.len());
        for (number, lower) in lowers.iter().enumerate() {
            opened.push(open_directory(lower)?);
            let hides = self.hidden.iter().find(|hidden| hidden.by == *lower);
            // Below the lowest there is nothing to hide.
            if let Some(hidden) = hides.filter(|_| number + 1 < lowers.len()) {
                opened.push(self.make(&hidden.paths, &format!("{called}-{number}"))?);
            }
        }
        Ok(opened)
    }

    fn make(&self, paths: &[Vec<u8>], name: &str) -> Result<OwnedFd, Failure> {
        let doing = || "make a mask in memory".to_owned();
        rustix::fs::mkdirat(self.memory, name, Mode::from_raw_mode(0o755)).doing(doing)?;
        let mask = open_below(self.memory, Path::new(name)).doing(doing)?;
        let mut paths: Vec<&Path> = paths.iter().map(|path| Path::new(OsStr::from_bytes(path))).collect();
        paths.sort_unstable();
        let mut last: Option<&Path> = None;
        for path in paths {
            // What is below something hidden is hidden already.
            if last.is_some_and(|last| path.starts_with(last)) {
                continue;
            }
            hide(&mask, path).doing(|| format!("hide {}", path.display()))?;
            last = Some(path);
        }
        Ok(mask)
    }
}

/// Makes a whiteout and what leads to it. Everything in a mask was made here, so there are no links to follow.
fn hide(mask: &OwnedFd, path: &Path) -> rustix::io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let mut folder = open_below(mask, Path::new("."))?;
    for component in parent {
        match rustix::fs::mkdirat(&folder, component, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        folder = open_below(&folder, Path::new(component))?;
    }
    rustix::fs::mknodat(&folder, name, FileType::CharacterDevice, Mode::empty(), rustix::fs::makedev(0, 0))
}

fn open_below(folder: &OwnedFd, name: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH
        | rustix::fs::OFlags::DIRECTORY
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}
