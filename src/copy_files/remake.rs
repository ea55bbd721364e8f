//! The entries of a layer that another machine made of the same files.

use std::collections::BTreeMap;

use super::copy_into::{Destination, copy_into};
use super::select::{Selected, What as Pick};
use super::tree::FileTree;
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::index::{Index, Kind, Node, What};
use crate::plan::graph::CopyOp;

/// The entries that `index` tells of, times and owners included, with the contents of the files that were selected. `None` where
/// it tells of others, or where a plain look does not say which file is which: links that lead the destination elsewhere, hard links,
/// archives. Whether the layer is the same shows only when it is written.
pub fn remake<R: Clone>(selected: &Selected, op: &CopyOp<R>, index: &Index) -> Option<Vec<Entry>> {
    if selected.picks.iter().any(|pick| matches!(pick.what, Pick::Archive(..))) {
        return None;
    }
    let op = CopyOp { chown: None, ..op.clone() };
    let destination = Destination {
        parent: &FileTree::empty(),
        parent_time: 0,
        accounts: &|_| Ok(None),
        scratch: &|| Err(std::io::ErrorKind::Unsupported.into()),
    };
    let placed = copy_into(selected, &op, &destination).ok()?.entries;
    let mut contents: BTreeMap<Vec<u8>, EntryKind> =
        placed.into_iter().map(|entry| (entry.path, entry.kind)).collect();
    let mut entries = Vec::with_capacity(index.len());
    for record in index.iter() {
        let What::Node(node) = record.what else { return None };
        if record.is_opaque || node.has_links {
            return None;
        }
        let kind = kind(&node, contents.remove(record.path))?;
        entries.push(entry(record.path, kind, &node));
    }
    // Directories that are there already are none of the layer's.
    contents.values().all(|kind| matches!(kind, EntryKind::Directory)).then_some(entries)
}

fn kind(node: &Node<'_>, found: Option<EntryKind>) -> Option<EntryKind> {
    match (node.kind, found) {
        (Kind::Directory, None | Some(EntryKind::Directory)) => Some(EntryKind::Directory),
        (Kind::File { size, .. }, Some(EntryKind::File(content))) => {
            (content.len() == size).then_some(EntryKind::File(content))
        }
        (Kind::Symlink(target), Some(EntryKind::Symlink(found))) => {
            (*target == *found).then_some(EntryKind::Symlink(found))
        }
        _ => None,
    }
}

fn entry(path: &[u8], kind: EntryKind, node: &Node<'_>) -> Entry {
    let Node { mode, uid, gid, mtime, .. } = *node;
    Entry { path: path.to_vec(), kind, mode, uid, gid, mtime, xattrs: node.xattrs.to_map() }
}
