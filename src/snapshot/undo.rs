//! A root that was changed in place, made again what it was copied from.
//!
//! What was touched is told by a [`Listing`] of then beside one of now. Nothing that was not touched is looked at otherwise; in the end names,
//! sizes and times must be those of then. What cannot be made again for sure is not tried: the root is thrown away.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::Mode;

use super::listing::{Listed, Listing, Noted, join};
use super::part::Stack;
use super::{CopyJob, Error, make_dir};
use crate::rootfs::{Root, Symlinks};

/// With more changes it is as well to copy everything again.
const MOST: usize = 512;

/// What is to be done; paths in the root.
#[derive(Default)]
struct Changes {
    /// Was not there.
    added: Vec<Vec<u8>>,
    /// Is not there any more, or something else.
    missing: Vec<Vec<u8>>,
    /// Directories that look otherwise, or in which something was or will be changed.
    touched: BTreeSet<Vec<u8>>,
}

/// Undoes in `root` what happened to it since it looked like `before`, with what the trees of `job` have; the job's target is an empty folder
/// on the same file system. Tells whether the root is what it was; else it is of no use any more.
pub fn undo_changes(root: &Path, before: &Listing, job: &CopyJob) -> Result<bool, Error> {
    let Some(changes) = Changes::between(before, &Listing::of(root)?) else { return Ok(false) };
    let (opened, stack) = (Root::open(root).map_err(Error::io("open", root))?, Stack::open(job)?);
    let failed = |action, path: &[u8]| Error::io(action, root.join(OsStr::from_bytes(path)));
    for path in changes.added.iter().chain(&changes.missing) {
        let (folder, name) = parent_of(path);
        let folder = opened.folder(folder, Symlinks::Refuse).map_err(|error| failed("open", path)(error))?;
        folder.remove(name).map_err(|error| failed("remove", path)(error))?;
    }
    for (number, path) in changes.missing.iter().enumerate() {
        let target = job.target.join(number.to_string());
        make_dir(&target, 0o700)?;
        if stack.copy(Path::new(OsStr::from_bytes(path)), &target)?.is_none() {
            return Ok(false);
        }
        let made = Root::open(&target).map_err(Error::io("open", &target))?;
        let made = made.folder(Path::new(""), Symlinks::Refuse).map_err(Error::io("open", &target))?;
        let (folder, name) = parent_of(path);
        let folder = opened.folder(folder, Symlinks::Refuse).map_err(|error| failed("open", path)(error))?;
        made.move_one(name, &folder).map_err(|error| failed("put back", path)(error))?;
    }
    // What is in a directory is put back before its times are.
    for path in changes.touched.iter().rev() {
        if path.is_empty() {
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            let given = rustix::fs::fchown(&**opened.fd(), Some(uid), Some(gid));
            given.map_err(|error| failed("give away", path)(error.into()))?;
            let set = rustix::fs::fchmod(&**opened.fd(), Mode::from_raw_mode(0o755));
            set.map_err(|error| failed("set the mode of", path)(error.into()))?;
        } else if !stack.dress(Path::new(OsStr::from_bytes(path)), &opened)? {
            return Ok(false);
        }
    }
    Ok(is_alike(before, &Listing::of(root)?))
}

impl Changes {
    /// `None` when they are too many, or of a kind that is not undone.
    fn between(before: &Listing, now: &Listing) -> Option<Self> {
        let mut changes = Self::default();
        let mut level = vec![Vec::new()];
        while let Some(path) = level.pop() {
            let (old, new) = (before.directories().get(&path)?, now.directories().get(&path)?);
            let known = (changes.added.len(), changes.missing.len());
            changes.in_directory((&path, &mut level), old, new)?;
            if old.mark != new.mark || known != (changes.added.len(), changes.missing.len()) {
                changes.touched.insert(path);
            }
            if changes.added.len() + changes.missing.len() + changes.touched.len() > MOST {
                return None;
            }
        }
        Some(changes)
    }

    fn in_directory(
        &mut self,
        (path, below): (&[u8], &mut Vec<Vec<u8>>),
        old: &Listed,
        new: &Listed,
    ) -> Option<()> {
        let find = |listed: &Listed, noted: &Noted| {
            let at = listed.entries.binary_search_by(|one| one.name.as_bytes().cmp(noted.name.as_bytes()));
            at.ok().map(|at| listed.entries[at].clone())
        };
        for noted in &new.entries {
            if find(old, noted).is_none() {
                self.added.push(join(path, noted.name.as_bytes()));
            }
        }
        for noted in &old.entries {
            let (at, is_now) = (join(path, noted.name.as_bytes()), find(new, noted));
            match is_now {
                Some(now) if now.is_same_directory(noted) => below.push(at),
                Some(now) if now.mark == noted.mark && !noted.is_directory => {}
                // The other names would be files of their own then.
                now if noted.has_other_names || now.as_ref().is_some_and(|now| now.has_other_names) => {
                    return None;
                }
                _ => self.missing.push(at),
            }
        }
        Some(())
    }
}

fn parent_of(path: &[u8]) -> (&Path, &OsStr) {
    let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    (Path::new(OsStr::from_bytes(folder)), OsStr::from_bytes(name))
}

/// Whether both have the same names, of the same kind, size and time of modification.
fn is_alike(before: &Listing, now: &Listing) -> bool {
    let is_one = |(old, new): (&Noted, &Noted)| {
        old.name == new.name
            && old.is_directory == new.is_directory
            && old.has_other_names == new.has_other_names
            && old.mark.looks_like(&new.mark, old.is_directory)
    };
    let is_same = |path: &Vec<u8>, old: &Listed| {
        let Some(new) = now.directories().get(path) else { return false };
        old.entries.len() == new.entries.len() && old.entries.iter().zip(&new.entries).all(is_one)
    };
    before.directories().len() == now.directories().len()
        && before.directories().iter().all(|(path, old)| is_same(path, old))
}
