//! Several layers as one: what they change of what lies below, and nothing that a later one of them took away again.

use std::collections::{BTreeMap, BTreeSet};

use super::environment::Services;
use super::error::Error;
use super::layers;
use super::state::RootState;
use super::trees;
use crate::copy_files::FileTree;
use crate::copy_files::tree::{LayerTree, Range};
use crate::key::LayerOptions;
use crate::layer::entry::{Content, Entry, EntryKind};
use crate::layer::view::{Kind, RootView, ViewEntry};
use crate::oci::Layer;

/// One layer that makes of the first `below` of `layers` what all of them together are.
///
/// A file of a lower layer that got another name is in it, with all of its names. Nothing is remembered: the caller knows what
/// for.
pub fn squashed(
    services: &Services,
    form: LayerOptions,
    layers: &[Layer],
    below: usize,
) -> Result<Layer, Error> {
    let whole = tree(services, layers)?;
    let base = services.indexes.view(&layers[..below])?;
    let new = New::of(&base, &whole.view, below);
    let ranges: Vec<Range> = new.files.values().map(|(_, range)| *range).collect();
    let contents = whole.bytes.contents(&ranges).map_err(|source| Error::Squash { source })?;
    let contents: BTreeMap<Inode, Content> = new.files.keys().copied().zip(contents).collect();
    let mut entries: Vec<Entry> = new.entries.iter().map(|entry| made(entry, &new, &contents)).collect();
    entries.extend(gone(&base, &whole.view));
    // Of layers that were searched when they were made.
    layers::of_entries(services, form, entries, (None, None))
}

fn tree(services: &Services, layers: &[Layer]) -> Result<LayerTree, Error> {
    let root = layers.iter().fold(RootState::empty(0), |root, layer| root.with(layer.clone(), 0));
    match trees::of_root(services, &root)? {
        FileTree::Layers(tree) => Ok(tree),
        _ => unreachable!("the files of a root are those of its layers"),
    }
}

/// A file by its layer and its number there.
type Inode = (usize, u64);

/// What the layer has to have.
struct New<'v> {
    entries: Vec<ViewEntry<'v>>,
    /// The first name of each regular file, and where its bytes are.
    files: BTreeMap<Inode, (&'v [u8], Range)>,
}

impl<'v> New<'v> {
    fn of(base: &RootView, whole: &'v RootView, below: usize) -> Self {
        let is_as_before = |entry: &ViewEntry<'_>| match (entry.layer, base.entry(entry.path)) {
            (_, None) => false,
            // A directory that no layer names, and that was something else.
            (None, Some(old)) => old.is_dir(),
            (Some(layer), Some(old)) => {
                layer < below && old.layer == entry.layer && old.node.inode == entry.node.inode
            }
        };
        let mut entries: Vec<ViewEntry<'v>> = whole.walk(b"").filter(|entry| !is_as_before(entry)).collect();
        // All names of a file of the base are names of one file only if they are in one layer.
        let is_of_base =
            |entry: &&ViewEntry<'_>| entry.layer.is_some_and(|layer| layer < below) && !entry.is_dir();
        let linked: BTreeSet<Inode> =
            entries.iter().filter(is_of_base).filter_map(ViewEntry::inode).collect();
        if !linked.is_empty() {
            let is_name = |entry: &ViewEntry<'_>| {
                entry.inode().is_some_and(|inode| linked.contains(&inode)) && is_as_before(entry)
            };
            entries.extend(whole.walk(b"").filter(is_name));
            entries.sort_by(|a, b| a.path.cmp(b.path));
        }
        let mut files = BTreeMap::new();
        for entry in &entries {
            if let (Kind::File { size, offset }, Some(inode)) = (entry.node.kind, entry.inode()) {
                let range = Range { layer: inode.0, offset, len: size };
                files.entry(inode).or_insert((entry.path, range));
            }
        }
        Self { entries, files }
    }
}

fn made(entry: &ViewEntry<'_>, new: &New<'_>, contents: &BTreeMap<Inode, Content>) -> Entry {
    let file = entry.inode().and_then(|inode| Some((new.files.get(&inode)?.0, contents.get(&inode)?)));
    let kind = match (entry.node.kind, file) {
        (Kind::Directory, _) => EntryKind::Directory,
        (Kind::File { .. }, Some((first, content))) if first == entry.path => {
            EntryKind::File(content.clone())
        }
        (Kind::File { .. }, Some((first, _))) => EntryKind::HardLink(first.to_vec()),
        (Kind::File { .. }, None) => unreachable!("every regular file that is new was gathered"),
        (Kind::Symlink(target), _) => EntryKind::Symlink(target.to_vec()),
        (Kind::Fifo, _) => EntryKind::Fifo,
        (Kind::CharDevice { major, minor }, _) => EntryKind::CharDevice { major, minor },
        (Kind::BlockDevice { major, minor }, _) => EntryKind::BlockDevice { major, minor },
    };
    Entry {
        path: entry.path.to_vec(),
        kind,
        mode: entry.node.mode,
        uid: entry.node.uid,
        gid: entry.node.gid,
        mtime: entry.node.mtime,
        xattrs: entry.node.xattrs.to_map(),
    }
}

/// Whiteouts of what the base has and the whole has not; what was in a folder that is gone goes with it.
fn gone(base: &RootView, whole: &RootView) -> Vec<Entry> {
    let is_gone = |entry: &ViewEntry<'_>| {
        let parent = parent(entry.path);
        whole.entry(entry.path).is_none()
            && parent.is_none_or(|parent| whole.entry(parent).is_some_and(|p| p.is_dir()))
    };
    let whiteout = |entry: ViewEntry<'_>| Entry {
        path: entry.path.to_vec(),
        kind: EntryKind::Whiteout,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: BTreeMap::new(),
    };
    base.walk(b"").filter(is_gone).map(whiteout).collect()
}

/// What comes before the last slash.
fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|byte| *byte == b'/').map(|at| &path[..at])
}
