//! What a stack of layers looks like as one root file system, told from indexes alone.
//!
//! Paths are bytes relative to the root; a leading `/`, doubled slashes and `.` do no harm. Nothing here
//! opens a file; [`super::contents`] fetches the bytes.

mod changes;
mod merge;
mod resolve;

use std::borrow::Cow;
use std::sync::Arc;

use super::archive::clean;
use super::index::{Index, What};
pub use super::index::{Kind, Node, Xattrs};
pub(in crate::layer) use changes::{Change, changes, hides_something};
pub use resolve::{ResolveError, ResolvedPath};

/// The merged root of some layers. Immutable; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RootView {
    layers: Arc<Vec<Arc<Index>>>,
    slots: Arc<Vec<Slot>>,
}

/// One path that exists in the merged root.
#[derive(Debug, Clone)]
struct Slot {
    /// Number of the layer whose record says what is here; [`IMPLIED`] for directories no entry names.
    layer: u32,
    /// The record in it.
    record: u32,
    /// The path, where it is not that of the record.
    path: Option<Arc<[u8]>>,
}

const IMPLIED: u32 = u32::MAX;

/// Metadata of a directory that no layer names, and of the root.
const IMPLIED_NODE: Node<'static> = Node {
    kind: Kind::Directory,
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: 0,
    xattrs: Xattrs::NONE,
    inode: 0,
    has_links: false,
};

/// Something that exists in the root.
#[derive(Debug, Clone, Copy)]
pub struct ViewEntry<'v> {
    /// Its path; empty for the root.
    pub path: &'v [u8],
    /// Its metadata.
    pub node: Node<'v>,
    /// The layer that holds it, counted from the lowest, 0; `None` for a directory that no layer names.
    pub layer: Option<usize>,
}

impl<'v> ViewEntry<'v> {
    /// The last component of the path.
    pub fn name(&self) -> &'v [u8] {
        super::archive::split(self.path).1
    }

    /// Equal for two entries exactly when they are names of one file. Ask only where the node
    /// [has links](Node::has_links); `None` for directories that no layer names.
    pub fn inode(&self) -> Option<(usize, u64)> {
        Some((self.layer?, self.node.inode))
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.node.kind == Kind::Directory
    }
}

impl RootView {
    /// The root that `layers`, lowest first, make together. Costs one pass over all records of each layer.
    pub fn new(layers: Vec<Arc<Index>>) -> Self {
        layers.into_iter().fold(Self::default(), |view, layer| view.push(layer))
    }

    /// This root with one more layer on top.
    pub fn push(&self, layer: Arc<Index>) -> Self {
        let slots = merge::merge(self, &layer, self.layers.len() as u32);
        let mut layers = self.layers.as_ref().clone();
        layers.push(layer);
        Self { layers: Arc::new(layers), slots: Arc::new(slots) }
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Arc<Index>] {
        &self.layers
    }

    /// The number of paths, without the root.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is at `path` literally: no symlink is followed, neither on the way nor at its end. The root always is.
    pub fn entry(&self, path: &[u8]) -> Option<ViewEntry<'_>> {
        let path = canonical(path);
        if path.is_empty() {
            return Some(ViewEntry { path: b"", node: IMPLIED_NODE, layer: None });
        }
        self.find(&path).map(|at| self.at(at))
    }

    /// Follows `path` as a process inside the root would: symlinks on the way always, at the end if
    /// `follow_last`. Stops where nothing exists; the rest is [`ResolvedPath::missing`].
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<ResolvedPath, ResolveError> {
        resolve::resolve(self, path, follow_last)
    }

    /// Whether `path`, symlinks followed, is a directory.
    pub fn is_dir(&self, path: &[u8]) -> bool {
        let entry = self.resolve(path, true).ok().filter(ResolvedPath::exists);
        entry.is_some_and(|found| self.entry(&found.existing).is_some_and(|entry| entry.is_dir()))
    }

    /// What lies directly in the directory `dir` (taken literally, as in [`entry`](Self::entry)), in byte order.
    pub fn list(&self, dir: &[u8]) -> impl Iterator<Item = ViewEntry<'_>> {
        let prefix = prefix(&canonical(dir));
        let mut at = self.lower_bound(&prefix);
        std::iter::from_fn(move || {
            while at < self.slots.len() {
                let path = self.path(at);
                let name = path.strip_prefix(prefix.as_slice())?;
                match name.iter().position(|byte| *byte == b'/') {
                    None => {
                        at += 1;
                        return Some(self.at(at - 1));
                    }
                    // Skip the subtree: `0` is the byte after `/`.
                    Some(slash) => at = self.lower_bound(&[&path[..prefix.len() + slash], b"0"].concat()),
                }
            }
            None
        })
    }

    /// Everything below the directory `dir` (taken literally), without itself, in byte order of the paths. Every
    /// directory comes before what it holds.
    pub fn walk(&self, dir: &[u8]) -> impl Iterator<Item = ViewEntry<'_>> {
        let prefix = prefix(&canonical(dir));
        let start = self.lower_bound(&prefix);
        (start..self.slots.len())
            .take_while(move |at| self.path(*at).starts_with(&prefix))
            .map(|at| self.at(at))
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        self.slots.binary_search_by(|slot| self.path_of(slot).cmp(path)).ok()
    }

    fn lower_bound(&self, path: &[u8]) -> usize {
        self.slots.partition_point(|slot| self.path_of(slot) < path)
    }

    fn path(&self, at: usize) -> &[u8] {
        self.path_of(&self.slots[at])
    }

    fn path_of<'v>(&'v self, slot: &'v Slot) -> &'v [u8] {
        match &slot.path {
            Some(path) => path,
            None => self.layers[slot.layer as usize].path(slot.record as usize),
        }
    }

    fn at(&self, at: usize) -> ViewEntry<'_> {
        let slot = &self.slots[at];
        let path = self.path_of(slot);
        if slot.layer == IMPLIED {
            return ViewEntry { path, node: IMPLIED_NODE, layer: None };
        }
        let layer = slot.layer as usize;
        let node = match self.layers[layer].record(slot.record as usize).what {
            What::Node(node) => node,
            // `merge` makes no slot of these.
            What::Implied | What::LowerLink(_) | What::Whiteout => IMPLIED_NODE,
        };
        ViewEntry { path, node, layer: Some(layer) }
    }
}

/// `path` in the form that the slots have, without copying where it has that form already.
fn canonical(path: &[u8]) -> Cow<'_, [u8]> {
    let is_clean = path.is_empty()
        || path.split(|byte| *byte == b'/').all(|component| !matches!(component, b"" | b"." | b".."));
    if is_clean { Cow::Borrowed(path) } else { Cow::Owned(clean(path)) }
}

/// What the paths below `dir` begin with.
fn prefix(dir: &[u8]) -> Vec<u8> {
    if dir.is_empty() { Vec::new() } else { [dir, b"/"].concat() }
}

#[cfg(test)]
mod tests;
