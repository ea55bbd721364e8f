//! What a root looked like at some time: enough to tell which files were touched since.
//!
//! For roots that are changed in place. A file that has the same inode, size and time of change was not touched, and a directory
//! has the same names: nobody can set that time. The clock behind it ticks some milliseconds at a time, so what happens in the tick of the listing must be
//! over before the root is changed again ([`Listing::settle`]).

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use rustix::fs::Stat;

use super::Error;
use super::files::is_directory;
use crate::rootfs::{Root, Symlinks};

/// The kernel's clock for files ticks at least a hundred times a second.
const TICK: Duration = Duration::from_millis(11);

/// What is noted of a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Mark {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Something in a directory.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) name: Box<OsStr>,
    pub(super) mark: Mark,
    pub(super) is_directory: bool,
}

impl Noted {
    pub(super) fn new(name: &OsStr, stat: &Stat) -> Self {
        Self { name: name.into(), mark: Mark::of(stat), is_directory: is_directory(stat) }
    }
}

/// A directory with what is in it, sorted by name. As long as its own mark is the same, the names are.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) mark: Mark,
    pub(super) entries: Vec<Noted>,
}

/// Everything in a root, by the paths of directories.
#[derive(Debug, Default)]
pub struct Listing {
    directories: HashMap<Vec<u8>, Arc<Listed>>,
}

impl Listing {
    pub(super) fn new(directories: HashMap<Vec<u8>, Arc<Listed>>) -> Self {
        Self { directories }
    }

    /// Lists a root that nobody changes meanwhile.
    pub fn of(root: &Path) -> Result<Self, Error> {
        let opened = Root::open(root).map_err(Error::io("open", root))?;
        let stat = rustix::fs::fstat(&**opened.fd()).map_err(Error::io("look at", root))?;
        let mut directories = HashMap::new();
        let mut level = vec![(Vec::new(), Mark::of(&stat))];
        while !level.is_empty() {
            let list = |(path, mark): &(Vec<u8>, Mark)| contents(&opened, path, *mark);
            let found: Result<Vec<Listed>, Error> = level.par_iter().map(list).collect();
            let found: Vec<_> = level.into_iter().map(|(path, _)| path).zip(found?).collect();
            level = found.iter().flat_map(|(path, listed)| below(path, listed)).collect();
            directories.extend(found.into_iter().map(|(path, listed)| (path, Arc::new(listed))));
        }
        Ok(Self { directories })
    }

    /// Waits until the clock has gone on since the newest change.
    pub fn settle(&self) {
        let of_one = |listed: &Arc<Listed>| {
            let inside = listed.entries.iter().map(|noted| noted.mark.changed).max();
            inside.into_iter().chain([listed.mark.changed]).max()
        };
        let newest = self.directories.values().filter_map(of_one).max().unwrap_or_default();
        let newest = UNIX_EPOCH + Duration::new(u64::try_from(newest.0).unwrap_or(0), newest.1 as u32);
        if let Ok(left) = (newest + TICK).duration_since(SystemTime::now()) {
            std::thread::sleep(left.min(TICK));
        }
    }

    /// The directory at `path`, if it looks as it did.
    pub(super) fn same_directory(&self, path: &[u8], mark: Mark) -> Option<&Arc<Listed>> {
        self.directories.get(path).filter(|listed| listed.mark == mark)
    }

    /// What was at `path`, and was no directory.
    fn file(&self, path: &[u8]) -> Option<Mark> {
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        let entries = &self.directories.get(folder)?.entries;
        let at = entries.binary_search_by(|noted| noted.name.as_bytes().cmp(name)).ok()?;
        Some(entries[at].mark).filter(|_| !entries[at].is_directory)
    }
}

fn contents(root: &Root, path: &[u8], mark: Mark) -> Result<Listed, Error> {
    let path = Path::new(OsStr::from_bytes(path));
    let on_disk = || root.path().join(path);
    let folder = root.folder(path, Symlinks::Refuse).map_err(|error| Error::io("open", on_disk())(error))?;
    let names = folder.names().map_err(|error| Error::io("list", on_disk())(error))?;
    let look = |name: OsString| {
        let stat = folder.stat(&name);
        let stat = stat.map_err(|error| Error::io("look at", on_disk().join(&name))(error))?;
        Ok(Noted::new(&name, &stat))
    };
    Ok(Listed { mark, entries: names.into_iter().map(look).collect::<Result<_, Error>>()? })
}

/// The directories in one.
fn below<'l>(path: &'l [u8], listed: &'l Listed) -> impl Iterator<Item = (Vec<u8>, Mark)> + 'l {
    let directories = listed.entries.iter().filter(|noted| noted.is_directory);
    directories.map(|noted| (join(path, noted.name.as_bytes()), noted.mark))
}

/// The path of what has this name in a directory.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// How a root that is changed in place is followed.
#[derive(Debug, Clone, Default)]
pub struct Tracked {
    /// What it looked like before.
    pub before: Arc<Listing>,
    /// So many of the parent's layers, from the lowest, are what the trees of [`super::DiffJob::lowers`] show.
    pub covered: usize,
    /// Paths in it that were out of it meanwhile, and are as before.
    pub put_back: HashSet<PathBuf>,
    /// What it looks like when its changes have been found.
    pub after: Arc<OnceLock<Listing>>,
    /// Opens the blob of one of the parent's layers, where that is wanted.
    pub blobs: Option<Blobs>,
}

/// See [`Tracked::blobs`].
#[derive(Clone)]
pub struct Blobs(pub Arc<Open>);

/// Opens a blob by the number of its layer.
pub type Open = dyn Fn(usize) -> io::Result<Box<dyn io::Read>> + Send + Sync;

impl std::fmt::Debug for Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blobs")
    }
}

impl Tracked {
    /// A root that looks like this.
    pub fn new(before: Listing, covered: usize) -> Self {
        Self { before: Arc::new(before), covered, ..Self::default() }
    }

    /// As the root is now, when its changes have been found.
    pub fn go_on(self) -> Option<Self> {
        let after = Arc::into_inner(self.after)?.into_inner()?;
        Some(Self::new(after, self.covered))
    }

    /// Whether nobody wrote to what is at `path`, unless its time was set back afterwards.
    pub(super) fn seems_unwritten(&self, path: &[u8], mark: Mark) -> bool {
        self.before.file(path).is_some_and(|before| Mark { changed: mark.changed, ..before } == mark)
    }

    /// Whether there was a file at `path`.
    pub(super) fn had(&self, path: &[u8]) -> bool {
        self.before.file(path).is_some()
    }

    /// Whether what is at `path` was not touched.
    pub(super) fn is_untouched(&self, path: &[u8], mark: Mark) -> bool {
        let Some(before) = self.before.file(path) else { return false };
        // To move a file changes its time of change.
        let is_put_back = || self.put_back.contains(Path::new(OsStr::from_bytes(path)));
        before == mark || Mark { changed: mark.changed, ..before } == mark && is_put_back()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn what_was_touched_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("d")).unwrap();
        for name in ["same", "d/written", "d/moved", "gone"] {
            fs::write(root.join(name), "x").unwrap();
        }
        let before = Listing::of(root).unwrap();
        before.settle();
        fs::write(root.join("d/written"), "y").unwrap();
        fs::rename(root.join("d/moved"), folder.path().join("aside")).unwrap();
        fs::rename(folder.path().join("aside"), root.join("d/moved")).unwrap();
        let mut tracked = Tracked::new(before, 0);
        let untouched = |tracked: &Tracked, name: &str| {
            let stat = rustix::fs::lstat(root.join(name)).unwrap();
            tracked.is_untouched(name.as_bytes(), Mark::of(&stat))
        };
        assert!(untouched(&tracked, "same"));
        assert!(!untouched(&tracked, "d/written"));
        assert!(!untouched(&tracked, "d/moved"));
        tracked.put_back.insert("d/moved".into());
        assert!(untouched(&tracked, "d/moved"));
        assert!(!tracked.is_untouched(b"new", Mark::of(&rustix::fs::lstat(root.join("same")).unwrap())));
    }
}
