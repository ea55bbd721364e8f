//! What a mount shows of a root: its files by what they are.
//!
//! As with COPY, times do not count. Everything else that a command can see does: unlike COPY also the directory itself,
//! and every extended attribute.

use std::collections::HashMap;

use super::Error;
use super::key::kind;
use super::tree::{CAPABILITY, FileTree, Item, layer_item, ranges};
use crate::cache::Preimage;
use crate::context::{FileDigest, path};
use crate::key::files::{self, FileState};
use crate::layer::view::ViewEntry;

/// What there is at `source` and below, symlinks on the way to it followed. `None` for the root itself, which is told
/// by its layers, for contexts, which become layers, and where nothing is.
pub fn mounted(tree: &FileTree, source: &[u8]) -> Result<Option<Preimage>, Error> {
    let base = tree.resolve(&path::below_root(source))?;
    let FileTree::Layers(layers) = tree else { return Ok(None) };
    let Some(own) = layers.view.entry(&base).filter(|_| !base.is_empty()) else { return Ok(None) };
    let entries: Vec<ViewEntry<'_>> = std::iter::once(own).chain(layers.view.walk(&base)).collect();
    let items: Vec<Item> = entries.iter().map(|entry| layer_item(*entry)).collect();
    let mut contents = layers.digests(&ranges(&items))?.into_iter();
    let mut first_names: HashMap<(u64, u64), &[u8]> = HashMap::new();
    let mut fields = files::mounted();
    for (entry, item) in entries.iter().zip(&items) {
        let path = entry.path.strip_prefix(base.as_slice()).unwrap_or_default();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let first_name = item.link.map(|inode| *first_names.entry(inode).or_insert(path));
        let first_name = first_name.filter(|first| *first != path);
        let content = item.is_file().then(|| contents.next()).flatten();
        let digest = content.map(|content| FileDigest { content, capability: item.capability.clone() });
        let kind = kind(item, digest.as_ref(), first_name, false);
        let state = FileState { kind, mode: item.mode, owner: Some((item.uid, item.gid)) };
        let (mut name, mut value) = (String::new(), String::new());
        files::push_name(&mut name, &[path]);
        state.push_to(&mut value);
        fields.push(name, value);
        for (name, value) in attributes(entry, item) {
            files::push_attribute(&mut fields, name, value);
        }
    }
    Ok(Some(fields))
}

/// The extended attributes that the value of a file has not.
fn attributes<'v>(entry: &ViewEntry<'v>, item: &Item) -> impl Iterator<Item = (&'v [u8], &'v [u8])> {
    let is_file = item.is_file();
    entry.node.xattrs.iter().filter(move |(name, _)| !is_file || *name != CAPABILITY)
}
