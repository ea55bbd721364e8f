//! A root file system that entries are put into: the parent's, and over it what this step has put there so far.

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;

use super::Error;
use super::error::shown;
use super::tree::{FileTree, Item, ItemKind, Step, follow};
use crate::context::path;
use crate::layer::entry::{Content, Entry, EntryKind};
use crate::oci::Seconds;
use links::Links;
use put::{Mark, Put};

mod links;
mod put;

/// See the module. Paths are relative and clean; parents are looked at before what they hold.
pub(super) struct Overlaid<'p> {
    parent: &'p FileTree,
    new: Put,
    links: Links,
    /// Directories of the parent that something else has replaced.
    hidden: HashSet<Vec<u8>>,
    /// The latest mtime of what was brought, directories left aside.
    newest: Option<Seconds>,
}

/// Something put at a path.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) kind: PlacedKind,
    pub(super) attributes: Attributes,
}

/// What a [`Placed`] is.
#[derive(Debug, Clone)]
pub(super) enum PlacedKind {
    /// `is_fresh`: nothing of the parent is in it.
    Directory {
        is_fresh: bool,
    },
    File(Content),
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// Metadata of something put at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// `None`: the step's time.
    pub(super) mtime: Option<Seconds>,
    pub(super) capability: Option<Box<[u8]>>,
}

/// What is at a path.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Nothing,
    Directory(Attributes),
    Symlink(Vec<u8>),
    /// Words for people: `a file`.
    Other(&'static str),
}

/// How a directory's metadata meets a directory that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// It gets all of the new metadata.
    Overwrite,
    /// It gets the new mode and keeps its owner.
    OverwriteMode,
}

impl<'p> Overlaid<'p> {
    pub(super) fn new(parent: &'p FileTree) -> Self {
        let (new, links, hidden) = (Put::default(), Links::default(), HashSet::new());
        Self { parent, new, links, hidden, newest: None }
    }

    /// What is at `at`, no symlink followed.
    pub(super) fn look(&self, at: &[u8]) -> Result<Seen, Error> {
        if at.is_empty() {
            return Ok(Seen::Directory(Attributes::made(0o755, 0, 0)));
        }
        if let Some((entry, mark)) = self.new.get(at) {
            return Ok(seen_entry(entry, mark));
        }
        let is_beyond =
            self.new.get(path::split(at).0).is_some_and(|(dir, mark)| !may_hold_parents_files(dir, mark));
        if is_beyond || self.hidden.contains(at) {
            return Ok(Seen::Nothing);
        }
        Ok(self.parent.entry(at)?.map_or(Seen::Nothing, |item| seen(&item)))
    }

    /// Where `at` leads, all symlinks followed inside the root.
    pub(super) fn resolve(&self, at: &[u8]) -> Result<Vec<u8>, Error> {
        follow(at, |at| {
            Ok(match self.look(at)? {
                Seen::Nothing => Step::Nothing,
                Seen::Symlink(target) => Step::Symlink(target),
                Seen::Directory(_) | Seen::Other(_) => Step::Other,
            })
        })
    }

    /// Makes the directory `at` (resolved) and those above it, each new one with these attributes.
    pub(super) fn make_directories(&mut self, at: &[u8], attributes: &Attributes) -> Result<(), Error> {
        for prefix in path::prefixes(at) {
            match self.look(prefix)? {
                Seen::Directory(_) => {}
                Seen::Nothing => {
                    self.insert(prefix, PlacedKind::Directory { is_fresh: true }, attributes.clone());
                }
                Seen::Symlink(_) | Seen::Other(_) => {
                    return Err(Error::FileInTheWay { path: shown(at), obstacle: shown(prefix) });
                }
            }
        }
        Ok(())
    }

    /// Puts a directory at `at`, merged with one that is there. Its time is the step's where it is made or
    /// changed, unless the attributes name one.
    pub(super) fn put_directory(
        &mut self,
        at: &[u8],
        mut attributes: Attributes,
        existing: Existing,
    ) -> Result<(), Error> {
        if at.is_empty() {
            return Ok(());
        }
        let is_fresh = match self.look(at)? {
            Seen::Nothing => true,
            Seen::Directory(old) => {
                if existing == Existing::OverwriteMode {
                    (attributes.uid, attributes.gid) = (old.uid, old.gid);
                }
                if old.is_like(&attributes) {
                    return Ok(());
                }
                self.new.is_fresh(at)
            }
            Seen::Symlink(_) => return Err(Error::NotADirectory { path: shown(at), is: "a symlink" }),
            Seen::Other(is) => return Err(Error::NotADirectory { path: shown(at), is }),
        };
        self.insert(at, PlacedKind::Directory { is_fresh }, attributes);
        Ok(())
    }

    /// Puts anything but a directory at `at`, in place of anything but a directory.
    pub(super) fn put(
        &mut self,
        at: &[u8],
        mut kind: PlacedKind,
        attributes: Attributes,
    ) -> Result<(), Error> {
        if let Seen::Directory(_) = self.look(at)? {
            return Err(Error::ReplaceDirectory(shown(at)));
        }
        self.newest = self.newest.max(attributes.mtime);
        if let PlacedKind::HardLink(target) = &mut kind {
            *target = self.links.add(target, at);
        }
        self.insert(at, kind, attributes);
        Ok(())
    }

    /// Puts a directory where nothing is left after [`Overlaid::clear`].
    pub(super) fn put_fresh_directory(&mut self, at: &[u8], attributes: Attributes) {
        self.insert(at, PlacedKind::Directory { is_fresh: true }, attributes);
    }

    /// Takes away whatever is at `at`, with everything below it; something else must take its place.
    pub(super) fn clear(&mut self, at: &[u8]) -> Result<(), Error> {
        if let Seen::Directory(_) = self.look(at)? {
            if !self.new.is_fresh(at) {
                self.hidden.insert(at.to_vec());
            }
            for path in self.new.below(at) {
                self.remove(&path);
            }
        }
        self.remove(at);
        Ok(())
    }

    /// The entry that this step has put at `at`.
    pub(super) fn placed(&self, at: &[u8]) -> Option<Placed> {
        let mut found = self.new.get(at).and_then(|(entry, mark)| placed(entry, mark))?;
        if let PlacedKind::HardLink(target) = &mut found.kind {
            *target = self.links.target(target);
        }
        Some(found)
    }

    /// How much this step holds in memory: entries, and bytes of their paths.
    pub(super) fn held(&self) -> (u64, u64) {
        self.new.held()
    }

    /// The step's time, as if it had nothing else to do: the latest of `parent_time` and what was brought.
    pub(super) fn time(&self, parent_time: Seconds) -> Seconds {
        self.newest.map_or(parent_time, |newest| newest.max(parent_time))
    }

    /// All that was put, sorted by path. What has no time of its own gets the step's, but a directory gets the
    /// latest time of what this step put below it: so one changed file changes the headers of the directories
    /// above it, not those of all, and the rest of the layer stays as it was. With `epoch` that is the time of
    /// everything without one.
    pub(super) fn finish(mut self, time: Seconds, epoch: Option<Seconds>) -> Vec<Entry> {
        if epoch.is_none() {
            self.time_directories();
        }
        let hidden = self.hidden;
        let mut entries = self.new.finish(time);
        for entry in &mut entries {
            if let EntryKind::HardLink(target) = &mut entry.kind {
                *target = self.links.target(target);
            }
        }
        if !hidden.is_empty() {
            let is_opaque =
                |entry: &&Entry| matches!(entry.kind, EntryKind::Directory) && hidden.contains(&entry.path);
            let opaque: Vec<Entry> = entries.iter().filter(is_opaque).cloned().collect();
            entries.extend(opaque.into_iter().map(|e| Entry { kind: EntryKind::OpaqueWhiteout, ..e }));
        }
        // The mark that a directory is opaque stands before it.
        let is_mark = |entry: &Entry| matches!(entry.kind, EntryKind::OpaqueWhiteout);
        entries.par_sort_unstable_by(|a, b| a.path.cmp(&b.path).then_with(|| is_mark(b).cmp(&is_mark(a))));
        entries
    }

    /// Gives each directory without a time the latest of what is below it, if anything there has one.
    fn time_directories(&mut self) {
        let mut latest: HashMap<Vec<u8>, Seconds> = HashMap::new();
        let mut directories = Vec::new();
        for (entry, mark) in self.new.iter() {
            if matches!(entry.kind, EntryKind::Directory) {
                directories.push(entry.path.clone());
            } else if mark.is_timed {
                raise(&mut latest, path::split(&entry.path).0, entry.mtime);
            }
        }
        // A path is longer than that of the directory it lies in.
        directories.sort_unstable_by_key(|at| std::cmp::Reverse(at.len()));
        for at in directories {
            let Some((entry, mark)) = self.new.get_mut(&at) else { continue };
            if let (false, Some(mtime)) = (mark.is_timed, latest.get(&at)) {
                (entry.mtime, mark.is_timed) = (*mtime, true);
            }
            let mtime = mark.is_timed.then_some(entry.mtime);
            if let Some(mtime) = mtime {
                raise(&mut latest, path::split(&at).0, mtime);
            }
        }
    }

    fn insert(&mut self, at: &[u8], kind: PlacedKind, attributes: Attributes) {
        self.promote_link(at);
        let (entry, mark) = entry(at.to_vec(), kind, attributes);
        self.new.insert(entry, mark);
    }

    fn remove(&mut self, at: &[u8]) {
        self.promote_link(at);
        self.new.remove(at);
    }

    /// Before the name of a file that has the content goes, gives it to the next name.
    fn promote_link(&mut self, at: &[u8]) {
        let Self { links, new, .. } = self;
        let is_link = |path: &[u8], link: &[u8]| {
            let kind = new.get(path).map(|(entry, _)| &entry.kind);
            matches!(kind, Some(EntryKind::HardLink(to)) if to == link)
        };
        let Some(next) = links.pass_on(at, is_link) else { return };
        if let Some((file, mark)) = new.get(at).map(|(entry, mark)| (entry.clone(), mark)) {
            new.insert(Entry { path: next, ..file }, mark);
        }
    }
}

impl Attributes {
    /// Of what the instruction makes itself.
    pub(super) fn made(mode: u32, uid: u32, gid: u32) -> Self {
        Self { mode, uid, gid, mtime: None, capability: None }
    }

    /// Whether a directory need not change to get these; a time that nobody named does not count.
    fn is_like(&self, other: &Self) -> bool {
        let same_time = other.mtime.is_none() || other.mtime == self.mtime;
        (self.mode, self.uid, self.gid) == (other.mode, other.uid, other.gid) && same_time
    }
}

fn may_hold_parents_files(entry: &Entry, mark: Mark) -> bool {
    matches!(entry.kind, EntryKind::Directory) && !mark.is_fresh
}

fn seen_entry(entry: &Entry, mark: Mark) -> Seen {
    match &entry.kind {
        EntryKind::Directory => Seen::Directory(attributes(entry, mark)),
        EntryKind::Symlink(target) => Seen::Symlink(target.clone()),
        EntryKind::File(_) | EntryKind::HardLink(_) => Seen::Other("a file"),
        EntryKind::Fifo => Seen::Other("a named pipe"),
        EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => Seen::Other("a device"),
        // Nothing puts these.
        EntryKind::Whiteout | EntryKind::OpaqueWhiteout => Seen::Nothing,
    }
}

/// What was put, as it is kept: an entry that may still have no time, and what else is known of it.
fn entry(path: Vec<u8>, kind: PlacedKind, attributes: Attributes) -> (Entry, Mark) {
    let Attributes { mode, uid, gid, mtime, capability } = attributes;
    let is_fresh = matches!(kind, PlacedKind::Directory { is_fresh: true });
    let kind = match kind {
        PlacedKind::Directory { .. } => EntryKind::Directory,
        PlacedKind::File(content) => EntryKind::File(content),
        PlacedKind::HardLink(target) => EntryKind::HardLink(target),
        PlacedKind::Symlink(target) => EntryKind::Symlink(target),
        PlacedKind::Fifo => EntryKind::Fifo,
        PlacedKind::CharDevice(major, minor) => EntryKind::CharDevice { major, minor },
        PlacedKind::BlockDevice(major, minor) => EntryKind::BlockDevice { major, minor },
    };
    let xattrs = capability.map(|value| (super::tree::CAPABILITY.to_vec(), value.into_vec()));
    let xattrs: BTreeMap<_, _> = xattrs.into_iter().collect();
    let mark = Mark { is_fresh, is_timed: mtime.is_some(), is_gone: false };
    (Entry { path, kind, mode, uid, gid, mtime: mtime.unwrap_or_default(), xattrs }, mark)
}

/// The other way round.
fn placed(entry: &Entry, mark: Mark) -> Option<Placed> {
    let kind = match entry.kind.clone() {
        EntryKind::Directory => PlacedKind::Directory { is_fresh: mark.is_fresh },
        EntryKind::File(content) => PlacedKind::File(content),
        EntryKind::HardLink(target) => PlacedKind::HardLink(target),
        EntryKind::Symlink(target) => PlacedKind::Symlink(target),
        EntryKind::Fifo => PlacedKind::Fifo,
        EntryKind::CharDevice { major, minor } => PlacedKind::CharDevice(major, minor),
        EntryKind::BlockDevice { major, minor } => PlacedKind::BlockDevice(major, minor),
        EntryKind::Whiteout | EntryKind::OpaqueWhiteout => return None,
    };
    Some(Placed { kind, attributes: attributes(entry, mark) })
}

fn attributes(entry: &Entry, mark: Mark) -> Attributes {
    let capability = entry.xattrs.get(super::tree::CAPABILITY);
    Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: mark.is_timed.then_some(entry.mtime),
        capability: capability.map(|value| value.as_slice().into()),
    }
}

/// Makes the time of `at` at least `mtime`.
fn raise(latest: &mut HashMap<Vec<u8>, Seconds>, at: &[u8], mtime: Seconds) {
    match latest.get_mut(at) {
        Some(time) => *time = mtime.max(*time),
        None => drop(latest.insert(at.to_vec(), mtime)),
    }
}

fn seen(item: &Item) -> Seen {
    match &item.kind {
        ItemKind::Directory => Seen::Directory(Attributes {
            mtime: Some(item.mtime),
            ..Attributes::made(item.mode, item.uid, item.gid)
        }),
        ItemKind::Symlink(target) => Seen::Symlink(target.to_vec()),
        ItemKind::File(_) => Seen::Other("a file"),
        ItemKind::Fifo => Seen::Other("a named pipe"),
        ItemKind::CharDevice(..) | ItemKind::BlockDevice(..) => Seen::Other("a device"),
    }
}
