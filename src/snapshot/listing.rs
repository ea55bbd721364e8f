//! What a root looked like at some time: enough to tell which files were touched since.
//!
//! For roots that are changed in place. A file that has the same inode, size and time of change was not touched, and a directory
//! has the same names: nobody can set that time. The clock behind it may tick some milliseconds at a time, so the tick of the listing
//! must be over before the root is changed again ([`Listing::settle`]).

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;
use rustix::fs::Stat;

use super::Error;
use super::file_clock::{self, Time};
use super::files::is_directory;
use super::watch::Watch;
use crate::oci::ChainId;
use crate::rootfs::{Root, Symlinks};
use crate::sync::lock;

/// What is noted of a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    size: i64,
    modified: (i64, u64),
    pub(super) changed: Time,
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

impl Mark {
    /// Whether it was modified at the same time, and, if it is no directory, has the same size.
    pub(super) fn looks_like(&self, other: &Self, is_directory: bool) -> bool {
        self.modified == other.modified && (is_directory || self.size == other.size)
    }
}

/// Something in a directory.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) name: Box<OsStr>,
    pub(super) mark: Mark,
    pub(super) is_directory: bool,
    /// A file that can be written to elsewhere, too.
    pub(super) has_other_names: bool,
}

impl Noted {
    pub(super) fn new(name: &OsStr, stat: &Stat) -> Self {
        let is_directory = is_directory(stat);
        let has_other_names = !is_directory && stat.st_nlink > 1;
        Self { name: name.into(), mark: Mark::of(stat), is_directory, has_other_names }
    }
}

impl Noted {
    /// Whether both are the same directory, whatever is in it.
    pub(super) fn is_same_directory(&self, other: &Self) -> bool {
        self.is_directory && other.is_directory && self.mark.inode == other.mark.inode
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

/// All directories that have to be looked at: nothing happened to any other, nor to what is in it.
#[derive(Debug)]
pub(super) struct Touched {
    /// All that is directly in these is looked at.
    folders: HashSet<Vec<u8>>,
    /// These, and those above.
    above: HashSet<Vec<u8>>,
}

impl Touched {
    fn new(folders: HashSet<Vec<u8>>) -> Self {
        let mut above = HashSet::new();
        for folder in &folders {
            let ends = folder.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            above.extend(ends.chain([0, folder.len()]).map(|end| folder[..end].to_vec()));
        }
        Self { folders, above }
    }

    pub(super) fn is_touched(&self, folder: &[u8]) -> bool {
        self.folders.contains(folder)
    }

    /// Whether this is a directory that was touched, or one is below.
    pub(super) fn is_above(&self, folder: &[u8]) -> bool {
        self.above.contains(folder)
    }
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

    /// Waits until whatever is changed from now on gets a later time than all that is listed. `beside` is a folder on the same file
    /// system that is not in the root.
    pub fn settle(&self, beside: &Path) -> Result<(), Error> {
        let of_one = |listed: &Arc<Listed>| {
            let inside = listed.entries.iter().map(|noted| noted.mark.changed).max();
            inside.into_iter().chain([listed.mark.changed]).max()
        };
        let newest = self.directories.values().filter_map(of_one).max().unwrap_or_default();
        file_clock::pass(newest, beside).map_err(Error::io("tell the time of files in", beside))
    }

    pub(super) fn directories(&self) -> &HashMap<Vec<u8>, Arc<Listed>> {
        &self.directories
    }

    /// The directories with files that have other names, too.
    fn with_links(&self) -> impl Iterator<Item = &Vec<u8>> {
        let has_links = |listed: &Listed| listed.entries.iter().any(|noted| noted.has_other_names);
        self.directories.iter().filter(move |(_, listed)| has_links(listed)).map(|(path, _)| path)
    }

    /// The directories that `before` has not, and those that were touched: what was removed can have been made again with the number that it
    /// had.
    fn new_since<'l>(&'l self, before: &'l Self) -> impl Iterator<Item = &'l Vec<u8>> {
        let was_there = |path: &Vec<u8>, listed: &Listed| {
            before.directories.get(path).is_some_and(|old| old.mark == listed.mark)
        };
        self.directories.iter().filter(move |(path, listed)| !was_there(path, listed)).map(|(path, _)| path)
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
    /// Inodes of files whose time does not tell whether they were written to.
    pub mapped: HashSet<u64>,
    /// Whether something was done of which the kernel may not have told: see `super::watch`.
    pub unseen: bool,
    /// What the root was copied from, as long as that can be made again.
    origin: Option<Arc<Origin>>,
    /// Where something happened.
    watch: Option<Arc<Mutex<Watch>>>,
    /// What it looks like when its changes have been found.
    pub after: Arc<OnceLock<Listing>>,
    /// Opens the blob of one of the parent's layers, where that is wanted.
    pub blobs: Option<Blobs>,
}

/// What a root was copied from.
#[derive(Debug)]
pub struct Origin {
    /// What the trees show.
    pub chain: ChainId,
    /// What the root looked like then.
    pub listing: Arc<Listing>,
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

    /// Has the kernel tell from now on where in `root` something happens, so that the rest need not be looked at. Where it cannot,
    /// all is.
    pub fn watched(self, root: &Path) -> Self {
        let watch = Watch::on(root, self.before.directories.keys());
        Self { watch: watch.map(|watch| Arc::new(Mutex::new(watch))), ..self }
    }

    /// The root is a copy of what `chain` shows, and nothing else.
    pub fn copied_from(self, chain: ChainId) -> Self {
        let origin = Origin { chain, listing: Arc::clone(&self.before) };
        Self { origin: Some(Arc::new(origin)), ..self }
    }

    /// What the root was copied from, if that can still be told from what happened to it.
    pub fn origin(&self) -> Option<&Arc<Origin>> {
        self.origin.as_ref().filter(|_| self.mapped.is_empty())
    }

    /// The same root, with something else upon it.
    pub fn descended_from(self, other: Option<&Self>) -> Self {
        Self { origin: other.and_then(Self::origin).cloned(), ..self }
    }

    /// What has to be looked at; `None` for everything.
    pub(super) fn touched(&self) -> Option<Touched> {
        let mut watch = lock(self.watch.as_ref().filter(|_| !self.unseen && self.mapped.is_empty())?);
        let mut folders = watch.happened(&self.put_back)?.clone();
        folders.extend(self.before.with_links().cloned());
        Some(Touched::new(folders))
    }

    /// As the root is now, when its changes have been found.
    pub fn go_on(self) -> Option<Self> {
        let after = Arc::into_inner(self.after)?.into_inner()?;
        let watch = self.watch.filter(|watch| {
            let mut watch = lock(watch);
            let goes_on = match watch.happened(&self.put_back) {
                Some(_) => watch.add(after.new_since(&self.before)),
                None => false,
            };
            watch.forget();
            goes_on
        });
        let origin = self.origin.filter(|_| self.mapped.is_empty());
        Some(Self { watch, origin, ..Self::new(after, self.covered) })
    }

    /// Whether nobody wrote to what is at `path`, unless its time was set back afterwards.
    pub(super) fn seems_unwritten(&self, path: &[u8], mark: Mark) -> bool {
        self.before.file(path).is_some_and(|before| Mark { changed: mark.changed, ..before } == mark)
    }

    /// Whether the mark of a file tells that it was not written to.
    pub(super) fn is_telling(&self, mark: Mark) -> bool {
        !self.mapped.contains(&mark.inode)
    }

    /// Whether there was a file at `path`.
    pub(super) fn had(&self, path: &[u8]) -> bool {
        self.before.file(path).is_some()
    }

    /// Whether what is at `path` was not touched.
    pub(super) fn is_untouched(&self, path: &[u8], mark: Mark) -> bool {
        let Some(before) = self.before.file(path).filter(|_| self.is_telling(mark)) else { return false };
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
        let (folder, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = folder.path();
        fs::create_dir(root.join("d")).unwrap();
        for name in ["same", "d/written", "d/moved", "gone"] {
            fs::write(root.join(name), "x").unwrap();
        }
        let before = Listing::of(root).unwrap();
        before.settle(beside.path()).unwrap();
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
