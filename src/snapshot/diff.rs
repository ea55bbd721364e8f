//! What a command changed, as entries of a layer.

mod owner;
mod same;
#[cfg(test)]
mod tests;
mod tracked;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use super::Error;
use super::files::{self, CAPABILITY, is_directory};
use super::ids::IdMap;
use super::listing::{Mark, Noted, Tracked, join};
use crate::layer::contents::{Wanted, are_equal};
use crate::layer::entry::{Content, DiskFile, Entry, EntryKind};
use crate::layer::unpack::OpaqueMark;
use crate::layer::view::{RootView, ViewEntry};
use crate::oci::Seconds;
use crate::rootfs::{FileId, Folder, RecordedDevice, Root, SpecialOwner, Symlinks};

/// What to compare, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiffJob {
    /// The upper directory, or the whole root.
    pub root: PathBuf,
    /// Which of the two.
    pub form: Form,
    /// The trees below, the top one first: only to tell whether a file was rewritten with the same bytes.
    pub lowers: Vec<PathBuf>,
    /// Mount points, relative to the root, that were made for the command; they are no change as long as they
    /// are empty and the parent has nothing there.
    pub stubs: Vec<PathBuf>,
    /// Who owns the files in the image.
    pub owners: Owners,
    /// Times after this one are set to it.
    pub newest: Option<Seconds>,
    /// For a whole root that was changed in place: what it was before. Not for a job of another process.
    #[serde(skip)]
    pub tracked: Option<Tracked>,
}

/// Who owns a file in the image, by its owner on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owners {
    /// The owner on disk, translated.
    OnDisk(IdMap),
    /// There was only one id: owners were written down with the files (see [`crate::rootfs::RecordedOwner`]), and beside for
    /// those that take no attributes. What nothing is known of is root's.
    Recorded {
        /// Owners of symbolic links and pipes.
        special: Vec<SpecialOwner>,
    },
}

/// How `root` shows what was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// An upper directory of overlayfs: deleted files are devices 0/0, a directory with this mark replaces the
    /// lower one.
    Overlay(OpaqueMark),
    /// A whole root: what is not in it was deleted.
    Whole,
}

/// The changes against `parent`, parents before children; deterministic, but not in the order of a layer.
///
/// The content of the files is not read yet; that happens when the layer is written, so `root` must stay as
/// it is until then. As in BuildKit, directories and files that were touched but are the same are left out,
/// sockets are dropped, and of attributes only capabilities are kept. The root itself is never an entry.
pub fn diff(job: &DiffJob, parent: &RootView) -> Result<Vec<Entry>, Error> {
    let root = Root::open(&job.root).map_err(Error::io("open", &job.root))?;
    let special = match &job.owners {
        Owners::OnDisk(_) => HashMap::new(),
        Owners::Recorded { special } => {
            special.iter().map(|owner| (owner.file, (owner.uid, owner.gid))).collect()
        }
    };
    let differ = Differ { job, parent, root, lowers: OnceLock::new(), special };
    let mut entries = differ.everything()?;
    drop_stubs(job, parent, &mut entries);
    let newest = job.newest.unwrap_or(Seconds::MAX);
    entries.iter_mut().for_each(|entry| entry.mtime = entry.mtime.min(newest));
    Ok(entries)
}

/// Drops the mount points that are still as they were made.
fn drop_stubs(job: &DiffJob, parent: &RootView, entries: &mut Vec<Entry>) {
    let mut stubs: Vec<&[u8]> = job.stubs.iter().map(|path| relative(path)).collect();
    stubs.retain(|path| parent.entry(path).is_none());
    // The inner ones first, so that the outer ones are seen empty.
    stubs.sort_unstable_by(|a, b| b.cmp(a));
    for stub in stubs {
        let is_below =
            |entry: &Entry| entry.path.strip_prefix(stub).is_some_and(|rest| rest.starts_with(b"/"));
        let is_untouched = |entry: &Entry| match &entry.kind {
            EntryKind::File(content) => content.is_empty(),
            EntryKind::Directory => true,
            _ => false,
        };
        if !entries.iter().any(is_below) {
            entries.retain(|entry| entry.path != stub || !is_untouched(entry));
        }
    }
}

fn relative(path: &Path) -> &[u8] {
    let path = path.as_os_str().as_bytes();
    path.strip_prefix(b"/").unwrap_or(path)
}

/// Whether what the parent has below a directory still shows through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lower {
    Visible,
    Hidden,
}

struct Differ<'a> {
    job: &'a DiffJob,
    parent: &'a RootView,
    root: Root,
    /// Opened when something is there to compare: most commands change nothing that was there.
    lowers: OnceLock<Vec<Root>>,
    special: HashMap<FileId, (u32, u32)>,
}

/// A directory that is to be looked into.
struct Directory {
    path: Vec<u8>,
    lower: Lower,
    mark: Mark,
}

/// Device and inode.
type Inode = (u64, u64);

/// A change, or what may be one.
struct Change {
    entry: Entry,
    /// Of a file with several names.
    inode: Option<Inode>,
    /// It is none if the file holds what the parent has there.
    unless: Option<Wanted>,
}

/// What was found directly in one directory.
#[derive(Default)]
struct Found {
    /// Changes; of files with several names also which file it is.
    entries: Vec<Change>,
    directories: Vec<Directory>,
    /// What is in it, if that is to be known.
    noted: Vec<Noted>,
}

impl Found {
    fn push(&mut self, entry: Entry) {
        self.entries.push(Change { entry, inode: None, unless: None });
    }
}

/// Something in one of the root's directories, and what it looks like.
struct OnDisk<'d> {
    /// The directory's path, for messages.
    dir: &'d Path,
    folder: &'d Folder,
    name: &'d OsStr,
    stat: Stat,
}

impl OnDisk<'_> {
    /// One of its extended attributes; see [`files::xattr`].
    fn xattr(&self, attribute: &str) -> Result<Option<Vec<u8>>, Error> {
        let value = files::xattr(self.folder, self.name, attribute);
        value.map_err(|error| Error::io("read attributes of", self.path())(error))
    }

    /// For messages.
    fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }
}

/// With fewer directories, starting threads would take longer than looking into them.
const MIN_PARALLEL: usize = 64;

impl<'a> Differ<'a> {
    /// All changes, one level of directories after the other: without recursion, because a command can nest
    /// directories deeper than a thread's stack is.
    fn everything(&self) -> Result<Vec<Entry>, Error> {
        let stat = rustix::fs::fstat(&**self.root.fd()).map_err(Error::io("look at", &self.job.root))?;
        let top = Directory { path: Vec::new(), lower: Lower::Visible, mark: Mark::of(&stat) };
        if let Some(tracked) = &self.job.tracked {
            let changes = self.without_doubts(self.since(tracked, top)?)?;
            return Ok(linked(changes));
        }
        let (mut level, mut changes) = (vec![top], Vec::new());
        while !level.is_empty() {
            let found = each(&level, MIN_PARALLEL, |dir| self.directory(dir))?;
            level.clear();
            for found in found {
                level.extend(found.directories);
                changes.extend(found.entries);
            }
        }
        Ok(linked(changes))
    }

    /// Leaves out what is no change: files of layers of which there is no tree are compared with what the blobs hold.
    fn without_doubts(&self, mut changes: Vec<Change>) -> Result<Vec<Change>, Error> {
        let Some(blobs) = self.job.tracked.as_ref().and_then(|tracked| tracked.blobs.as_ref()) else {
            return Ok(changes);
        };
        let mut files = Vec::new();
        for change in &changes {
            let Some(wanted) = change.unless else { continue };
            let path = Path::new(OsStr::from_bytes(&change.entry.path));
            let file = self.root.open_file(path).map_err(Error::io("open", self.job.root.join(path)))?;
            files.push((wanted, file));
        }
        if files.is_empty() {
            return Ok(changes);
        }
        let mut equal = are_equal(&files, &*blobs.0)?.into_iter();
        changes.retain(|change| change.unless.is_none() || equal.next() != Some(true));
        Ok(changes)
    }

    /// The changes directly in one directory.
    fn directory(&self, dir: &Directory) -> Result<Found, Error> {
        let Directory { path: dir, lower, .. } = dir;
        let lower = *lower;
        let folder = self.root.folder(Path::new(OsStr::from_bytes(dir)), Symlinks::Refuse);
        let on_disk = self.job.root.join(OsStr::from_bytes(dir));
        let folder = folder.map_err(Error::io("open", &on_disk))?;
        let names = folder.names().map_err(Error::io("list", &on_disk))?;
        let mut found = Found::default();
        for name in &names {
            let stat = folder.stat(name).map_err(|error| Error::io("look at", on_disk.join(name))(error))?;
            if self.job.tracked.is_some() {
                found.noted.push(Noted::new(name, &stat));
            }
            let path = join(dir, name.as_bytes());
            self.name(path, &OnDisk { dir: &on_disk, folder: &folder, name, stat }, lower, &mut found)?;
        }
        if self.job.form == Form::Whole && lower == Lower::Visible {
            for child in self.parent.list(dir) {
                let is_gone = names.binary_search_by(|name| name.as_bytes().cmp(child.name())).is_err();
                if is_gone && self.was_there(child.path, child.is_dir())? {
                    found.push(removed(child.path.to_vec(), EntryKind::Whiteout));
                }
            }
        }
        Ok(found)
    }

    /// Whether any tree had something at `path`: devices, which cannot be made without root, never were.
    fn was_there(&self, path: &[u8], is_dir: bool) -> Result<bool, Error> {
        if let Some(tracked) = &self.job.tracked {
            return Ok(is_dir || tracked.had(path));
        }
        let path = Path::new(OsStr::from_bytes(path));
        Ok(self.lowers()?.iter().any(|lower| lower.stat(path).is_ok()))
    }

    /// The changes at one name, which is `path` in the image.
    fn name(
        &self,
        path: Vec<u8>,
        on_disk: &OnDisk<'_>,
        lower: Lower,
        found: &mut Found,
    ) -> Result<(), Error> {
        if self.job.form != Form::Whole && files::is_whiteout(&on_disk.stat) {
            // A whiteout of what the parent does not have says nothing: the command made and removed it.
            if lower == Lower::Visible && self.parent.entry(&path).is_some() {
                found.push(removed(path, EntryKind::Whiteout));
            }
            return Ok(());
        }
        let below = if lower == Lower::Visible { self.parent.entry(&path) } else { None };
        if is_directory(&on_disk.stat) {
            self.subdirectory(path, on_disk, below, found)
        } else if self.is_untouched(&path, on_disk) {
            Ok(())
        } else {
            found.entries.extend(self.other(path, on_disk, below)?);
            Ok(())
        }
    }

    /// Whether a file of a root that was changed in place is what it was.
    fn is_untouched(&self, path: &[u8], on_disk: &OnDisk<'_>) -> bool {
        let tracked = self.job.tracked.as_ref();
        tracked.is_some_and(|tracked| tracked.is_untouched(path, Mark::of(&on_disk.stat)))
    }

    /// The directory itself; what is in it comes later.
    fn subdirectory(
        &self,
        path: Vec<u8>,
        on_disk: &OnDisk<'_>,
        below: Option<ViewEntry<'a>>,
        found: &mut Found,
    ) -> Result<(), Error> {
        let below = below.filter(ViewEntry::is_dir);
        let is_opaque = self.is_opaque(on_disk)?;
        // Over something that is no directory, the directory's own entry does what an opaque mark would.
        if is_opaque && below.is_some() && self.parent.list(&path).next().is_some() {
            found.push(removed(path.clone(), EntryKind::OpaqueWhiteout));
        }
        let entry = self.entry(path.clone(), EntryKind::Directory, on_disk)?;
        if !below.is_some_and(|below| same::metadata(&entry, &below)) {
            found.push(entry);
        }
        let lower = if is_opaque || below.is_none() { Lower::Hidden } else { Lower::Visible };
        found.directories.push(Directory { path, lower, mark: Mark::of(&on_disk.stat) });
        Ok(())
    }

    fn is_opaque(&self, on_disk: &OnDisk<'_>) -> Result<bool, Error> {
        let names: &[&str] = match self.job.form {
            Form::Whole => &[],
            Form::Overlay(OpaqueMark::Trusted) => &["trusted.overlay."],
            Form::Overlay(OpaqueMark::User) => &["user.overlay."],
        };
        for prefix in names {
            if on_disk.xattr(&format!("{prefix}redirect"))?.is_some() {
                return Err(Error::Redirected(on_disk.path()));
            }
            // `x` means that the directory may hold whiteouts in the form of attributes, not that it is opaque.
            if on_disk.xattr(&format!("{prefix}opaque"))?.is_some_and(|value| value == b"y") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Anything that is no directory, if it changed.
    fn other(
        &self,
        path: Vec<u8>,
        on_disk: &OnDisk<'_>,
        below: Option<ViewEntry<'a>>,
    ) -> Result<Option<Change>, Error> {
        let stat = &on_disk.stat;
        let Some(kind) = self.kind(&path, on_disk)? else { return Ok(None) };
        let entry = self.entry(path, kind, on_disk)?;
        let mut unless = None;
        if let Some(below) = below {
            if self.is_same(&entry, stat, &below)? {
                return Ok(None);
            }
            unless = self.doubt(&entry, stat, &below);
        }
        let inode = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        Ok(Some(Change { entry, inode, unless }))
    }

    /// `None` for sockets, which mean nothing without the process behind them.
    fn kind(&self, path: &[u8], on_disk: &OnDisk<'_>) -> Result<Option<EntryKind>, Error> {
        let stat = &on_disk.stat;
        let kind = files::kind(stat);
        let device = if kind == FileType::RegularFile { self.record(on_disk)?.device } else { None };
        if let Some(RecordedDevice { is_block, major, minor }) = device {
            return Ok(Some(match is_block {
                true => EntryKind::BlockDevice { major, minor },
                false => EntryKind::CharDevice { major, minor },
            }));
        }
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        Ok(Some(match kind {
            FileType::RegularFile => EntryKind::File(Content::Disk(self.disk_file(path, stat).into())),
            FileType::Symlink => {
                let target = on_disk.folder.read_link(on_disk.name);
                EntryKind::Symlink(target.map_err(Error::io("read", on_disk.path()))?)
            }
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Directory | FileType::Socket | FileType::Unknown => return Ok(None),
        }))
    }

    fn disk_file(&self, path: &[u8], stat: &Stat) -> DiskFile {
        DiskFile {
            root: Arc::clone(self.root.fd()),
            path: OsStr::from_bytes(path).into(),
            size: stat.st_size as u64,
            inode: stat.st_ino,
            device: stat.st_dev,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
            digest: None,
        }
    }

    fn entry(&self, path: Vec<u8>, kind: EntryKind, on_disk: &OnDisk<'_>) -> Result<Entry, Error> {
        let capability = match kind {
            EntryKind::File(_) => on_disk.xattr(CAPABILITY)?,
            _ => None,
        };
        let (uid, gid) = self.owner(on_disk)?;
        Ok(Entry {
            path,
            mode: if matches!(kind, EntryKind::Symlink(_)) { 0o777 } else { on_disk.stat.st_mode & 0o7777 },
            kind,
            uid,
            gid,
            mtime: on_disk.stat.st_mtime,
            xattrs: capability
                .into_iter()
                .map(|value| (CAPABILITY.into(), owner::without_root_id(value)))
                .collect(),
        })
    }
}

/// Does something with each directory, in their order.
fn each<R: Send>(
    level: &[Directory],
    min_parallel: usize,
    work: impl Fn(&Directory) -> Result<R, Error> + Sync + Send,
) -> Result<Vec<R>, Error> {
    match level.len() < min_parallel {
        true => level.iter().map(work).collect(),
        false => level.par_iter().map(work).collect(),
    }
}

/// The entries, of files with several names one file and links to it.
fn linked(changes: Vec<Change>) -> Vec<Entry> {
    let mut links = HashMap::new();
    changes.into_iter().map(|change| link(change.entry, change.inode, &mut links)).collect()
}

/// Makes `entry` a hard link if its file was met before under another path.
fn link(mut entry: Entry, id: Option<Inode>, first_paths: &mut HashMap<Inode, Vec<u8>>) -> Entry {
    if let Some(id) = id {
        let first = first_paths.entry(id).or_insert_with(|| entry.path.clone());
        if *first != entry.path {
            entry.kind = EntryKind::HardLink(first.clone());
        }
    }
    entry
}

fn removed(path: Vec<u8>, kind: EntryKind) -> Entry {
    // A deletion has no owner, and its time would differ from build to build for nothing.
    Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
}
