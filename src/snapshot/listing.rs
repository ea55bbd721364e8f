//! What a root looked like at some time: enough to tell which files were touched since.
//!
//! For roots that are changed in place. A file that has the same inode, size and time of change was not touched: nobody can
//! set that time. The clock behind it ticks some milliseconds at a time, so what happens in the tick of the listing must be
//! over before the root is changed again ([`Listing::settle`]).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
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

/// What is noted of a file.
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

/// Everything in a root that is no directory, by its path.
#[derive(Debug, Default)]
pub struct Listing {
    marks: HashMap<Vec<u8>, Mark>,
}

impl Listing {
    pub(super) fn new(marks: HashMap<Vec<u8>, Mark>) -> Self {
        Self { marks }
    }

    /// Lists a root that nobody changes meanwhile.
    pub fn of(root: &Path) -> Result<Self, Error> {
        let opened = Root::open(root).map_err(Error::io("open", root))?;
        let mut marks = HashMap::new();
        let mut level = vec![Vec::new()];
        while !level.is_empty() {
            let found: Result<Vec<_>, Error> = level.par_iter().map(|path| contents(&opened, path)).collect();
            level.clear();
            for (path, stat) in found?.into_iter().flatten() {
                if is_directory(&stat) {
                    level.push(path);
                } else {
                    marks.insert(path, Mark::of(&stat));
                }
            }
        }
        Ok(Self { marks })
    }

    /// Waits until the clock has gone on since the newest change. What is moved out of the root before it is changed, and
    /// back again, does not count.
    pub fn settle(&self) {
        let newest = self.marks.values().map(|mark| mark.changed).max().unwrap_or_default();
        let newest = UNIX_EPOCH + Duration::new(u64::try_from(newest.0).unwrap_or(0), newest.1 as u32);
        if let Ok(left) = (newest + TICK).duration_since(SystemTime::now()) {
            std::thread::sleep(left.min(TICK));
        }
    }
}

fn contents(root: &Root, path: &[u8]) -> Result<Vec<(Vec<u8>, Stat)>, Error> {
    let path = Path::new(OsStr::from_bytes(path));
    let on_disk = root.path().join(path);
    let folder = root.folder(path, Symlinks::Refuse).map_err(Error::io("open", &on_disk))?;
    let names = folder.names().map_err(Error::io("list", &on_disk))?;
    let look = |name: std::ffi::OsString| {
        let stat = folder.stat(&name).map_err(|error| Error::io("look at", on_disk.join(&name))(error))?;
        Ok((path.join(name).into_os_string().into_encoded_bytes(), stat))
    };
    names.into_iter().map(look).collect()
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
        self.before.marks.get(path).is_some_and(|before| Mark { changed: mark.changed, ..*before } == mark)
    }

    /// Whether there was a file at `path`.
    pub(super) fn had(&self, path: &[u8]) -> bool {
        self.before.marks.contains_key(path)
    }

    /// Whether what is at `path` was not touched.
    pub(super) fn is_untouched(&self, path: &[u8], mark: Mark) -> bool {
        let Some(before) = self.before.marks.get(path) else { return false };
        // To move a file changes its time of change.
        let is_put_back = || self.put_back.contains(Path::new(OsStr::from_bytes(path)));
        *before == mark || Mark { changed: mark.changed, ..*before } == mark && is_put_back()
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
