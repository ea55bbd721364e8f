//! Files that follow from layers, and can be made again: indexes, tables of digests, segments, notes, explanations.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::inventory::{Error, Inventory};
use crate::oci::{DiffId, Digest};
use crate::store::{Folder, Store};

/// What a derived file belongs to, by its name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Derived {
    OfLayer(DiffId),
    OfBlob(Digest),
    /// Notes cannot be made again.
    NoteOn(Digest),
    /// Its name says nothing, so nobody will ask for it.
    Unknown,
}

/// Folders whose files are called by a layer's identity, and those whose files are called by a blob's digest.
const OF_LAYERS: [Folder; 3] = [Folder::Indexes, Folder::Digests, Folder::Inventories];
const OF_BLOBS: [Folder; 1] = [Folder::Segments];

/// The derived files that are `unneeded`, and what they take up on disk.
pub(super) fn files(store: &Store, unneeded: impl Fn(Derived) -> bool) -> Result<Vec<(PathBuf, u64)>, Error> {
    let of_layers: fn(Digest) -> Derived = |digest| Derived::OfLayer(DiffId(digest));
    let layers = OF_LAYERS.iter().map(|folder| (*folder, of_layers));
    let blobs = OF_BLOBS.iter().map(|folder| (*folder, Derived::OfBlob as fn(Digest) -> Derived));
    let notes = [(Folder::Builds, Derived::NoteOn as fn(Digest) -> Derived)];
    let mut found = Vec::new();
    for (folder, derived) in layers.chain(blobs).chain(notes) {
        for (path, _) in store.entries_of(&store.folder(folder))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // What another place told of a layer goes with what the layer itself has.
            let name = name.strip_suffix(".told").unwrap_or(name);
            // Which diff id a blob was seen to have.
            let name = name.strip_suffix(".holds").unwrap_or(name);
            let digest = format!("sha256:{name}").parse::<Digest>();
            let derived = digest.map_or(Derived::Unknown, derived);
            if unneeded(derived) {
                let bytes = path.symlink_metadata().map_or(0, |meta| meta.blocks() * 512);
                found.push((path, bytes));
            }
        }
    }
    Ok(found)
}

/// Explanations that no record of `keys` and no slot asks for, slots that point at nothing, and their size on disk.
pub(super) fn explanations(
    store: &Store,
    inventory: &Inventory,
    keys: &BTreeSet<String>,
) -> Result<(Vec<String>, u64), Error> {
    let mut unneeded = Vec::new();
    let mut bytes = 0;
    for (name, state) in &inventory.notes {
        let is_needed = match name.rsplit_once('.') {
            Some((key, "why")) => keys.contains(key),
            Some((_, "slot")) => {
                let key = store.record(name)?.and_then(|text| String::from_utf8(text).ok());
                key.is_some_and(|key| keys.contains(key.trim_end()))
            }
            // What a newer version may keep there is not ours to judge.
            _ => true,
        };
        if !is_needed {
            unneeded.push(name.clone());
            bytes += state.disk_bytes;
        }
    }
    Ok((unneeded, bytes))
}
