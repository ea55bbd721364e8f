//! Where the entries of a layer land in a given root.

use std::borrow::Cow;
use std::collections::HashMap;

use super::RootView;
use crate::layer::archive::{join, split};
use crate::layer::index::{Index, Kind, Record, What};

/// A record of the upper layer, at the path where it lands.
pub(in crate::layer) struct Change<'i> {
    pub(in crate::layer) path: Cow<'i, [u8]>,
    pub(in crate::layer) is_moved: bool,
    pub(in crate::layer) record: u32,
    pub(in crate::layer) is_opaque: bool,
    pub(in crate::layer) what: What<'i>,
}

/// The layer's records by the paths where they land: those whose path passes a symlink of `below` are moved to
/// where it leads. The unpacker and the view both place entries by this.
pub(in crate::layer) fn changes<'i>(below: &RootView, layer: &'i Index) -> Vec<Change<'i>> {
    let mut parents = Parents { below, layer, known: HashMap::new() };
    let mut changes = Vec::with_capacity(layer.len());
    for (at, record) in layer.iter().enumerate() {
        let Record { path, is_opaque, what } = record;
        let moved = parents.placement(path, &what);
        let change = Change {
            is_moved: moved.is_some(),
            path: moved.map_or(Cow::Borrowed(path), Cow::Owned),
            record: at as u32,
            is_opaque,
            what,
        };
        changes.push(change);
    }
    if changes.iter().any(|change| change.is_moved) {
        settle(&mut changes);
    }
    changes
}

/// Whether a whiteout hides anything of `below`; `opaque` are the paths of the layer's opaque changes, sorted.
///
/// One over nothing would be visible: a directory that only one layer has is shown by overlayfs as it is, with the
/// devices in it. (Its own opaque mark makes the whiteout needless as well.)
pub(in crate::layer) fn hides_something(below: &RootView, change: &Change<'_>, opaque: &[&[u8]]) -> bool {
    let mut parent = split(&change.path).0;
    loop {
        if opaque.binary_search(&parent).is_ok() {
            return false;
        }
        if parent.is_empty() {
            return below.entry(&change.path).is_some();
        }
        parent = split(parent).0;
    }
}

/// Leaves one change for each path. Where entries meet because one of them passed a symlink, the later in the
/// archive wins, and whiteouts concern lower layers only.
fn settle(changes: &mut Vec<Change<'_>>) {
    let rank = |change: &Change<'_>| match change.what {
        What::Node(node) => Some(node.inode),
        What::LowerLink(_) => Some(0),
        What::Implied | What::Whiteout => None,
    };
    changes.sort_by(|a, b| a.path.cmp(&b.path).then(rank(b).cmp(&rank(a))));
    changes.dedup_by(|other, kept| {
        let is_same = other.path == kept.path;
        kept.is_opaque |= is_same && other.is_opaque;
        is_same
    });
}

/// Finds out where the directories of the layer land.
struct Parents<'v> {
    below: &'v RootView,
    layer: &'v Index,
    /// Where a directory lands, if not at its own path.
    known: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Parents<'_> {
    /// The path where a record lands, if that is another one than its own.
    fn placement(&mut self, path: &[u8], what: &What<'_>) -> Option<Vec<u8>> {
        if matches!(what, What::Implied) {
            // An opaque mark lies in the directory, which may be reached through a symlink.
            return self.directory(path);
        }
        let (parent, name) = split(path);
        self.directory(parent).map(|parent| join(&parent, name))
    }

    fn directory(&mut self, dir: &[u8]) -> Option<Vec<u8>> {
        if dir.is_empty() {
            return None;
        }
        if let Some(known) = self.known.get(dir) {
            return known.clone();
        }
        let (parent, name) = split(dir);
        let moved = self.directory(parent).map(|parent| join(&parent, name));
        let found = self.follow(dir, moved.as_deref().unwrap_or(dir)).or(moved);
        self.known.insert(dir.to_vec(), found.clone());
        found
    }

    /// Where the directory `dir`, which stands at `at`, leads if a lower symlink is there.
    fn follow(&self, dir: &[u8], at: &[u8]) -> Option<Vec<u8>> {
        // A directory of the layer itself replaces the symlink.
        let own = self.layer.find(dir).map(|at| self.layer.record(at).what);
        if matches!(own, Some(What::Node(_) | What::Whiteout)) {
            return None;
        }
        match self.below.entry(at)?.node.kind {
            Kind::Symlink(_) => Some(self.below.resolve(at, true).ok()?.path()),
            _ => None,
        }
    }
}
