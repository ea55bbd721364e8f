//! What is known of layers is kept in the store, by what the layer holds and who looked.
//!
//! ```text
//! ROOT/rbuild/inventories/<diff id>    a line with the scanner's version, then JSON
//! ```

use std::fs::File;
use std::sync::Arc;

use rayon::prelude::*;

use super::scan::{LayerInventory, scan, scan_parts};
use crate::layer::Segments;
use crate::layer::archive::{self, Limits};
use crate::layer::contents::{ContentsError, Segmented};
use crate::layer::index::Index;
use crate::oci::{DiffId, Digest, Layer};
use crate::store::{self, Folder, Store};

/// Changes whenever the same layer may be told of otherwise.
const VERSION: &str = "rbuild inventory 1";

/// Why the packages of a layer are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its blob is not there.
    #[error("layer {0} is not in the local store")]
    Absent(Digest),
    /// The store could not give it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Its blob is no layer.
    #[error("layer {layer} cannot be read: {source}")]
    Archive {
        /// The blob.
        layer: Digest,
        /// What the reader of archives met.
        source: archive::Error,
    },
    /// Its blob holds other files than the configuration of its image says.
    #[error("the files of layer {layer} are {actual}, but the image's configuration says {expected}")]
    WrongDiffId {
        /// The blob.
        layer: Digest,
        /// What the configuration says.
        expected: DiffId,
        /// What the blob holds.
        actual: DiffId,
    },
    /// Its contents are not what its index says.
    #[error("layer {layer} cannot be read: {source}")]
    Contents {
        /// The blob.
        layer: Digest,
        /// What went wrong.
        source: ContentsError,
    },
}

/// A layer, what it holds, and what that says.
#[derive(Debug, Clone)]
pub struct Layered {
    /// The layer.
    pub layer: Layer,
    /// Its entries.
    pub index: Arc<Index>,
    /// Its packages.
    pub inventory: Arc<LayerInventory>,
    /// Whether it had to be read for that.
    pub was_read: bool,
}

/// What is known of these layers; what is not yet is read from their blobs, several at once.
///
/// # Errors
/// The first layer that is not here or cannot be read.
pub fn layered(store: &Store, layers: &[Layer]) -> Result<Vec<Layered>, Error> {
    // The largest go first: whoever comes to them last makes all others wait.
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(layers[*at].descriptor.size));
    let mut found: Vec<(usize, Result<Layered, Error>)> =
        order.into_par_iter().with_max_len(1).map(|at| (at, one(store, &layers[at]))).collect();
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, known)| known).collect()
}

/// What a layer holds: from the store's folder of indexes, else read from its blob, and then kept there.
///
/// # Errors
/// When the layer is not here, or cannot be read.
pub fn index(store: &Store, layer: &Layer) -> Result<Arc<Index>, Error> {
    if let Some(index) = load_index(store, layer.diff_id) {
        return Ok(index);
    }
    let blob = layer.descriptor.digest;
    let read = Index::read(open(store, blob)?, Limits::default());
    let read = read.map_err(|source| Error::Archive { layer: blob, source })?;
    if read.diff_id != layer.diff_id {
        return Err(Error::WrongDiffId { layer: blob, expected: layer.diff_id, actual: read.diff_id });
    }
    save(store, Folder::Indexes, layer.diff_id, &read.index.to_bytes());
    Ok(Arc::new(read.index))
}

fn open(store: &Store, blob: Digest) -> Result<File, Error> {
    match store.open_blob(&blob) {
        Err(store::Error::NotFound { .. }) => Err(Error::Absent(blob)),
        opened => opened.map_err(Error::Store),
    }
}

fn one(store: &Store, layer: &Layer) -> Result<Layered, Error> {
    let index = index(store, layer)?;
    if let Some(inventory) = load(store, layer.diff_id) {
        let inventory = Arc::new(inventory);
        return Ok(Layered { layer: layer.clone(), index, inventory, was_read: false });
    }
    let inventory = match segmented(store, layer).map(|segmented| scan_parts(&index, &segmented)) {
        Some(Ok(inventory)) => inventory,
        // What is known of segments may be wrong: the whole is read.
        Some(Err(_)) | None => streamed(store, layer, &index)?,
    };
    if let Ok(json) = serde_json::to_vec(&inventory) {
        save(store, Folder::Inventories, layer.diff_id, &[VERSION.as_bytes(), b"\n", &json].concat());
    }
    Ok(Layered { layer: layer.clone(), index, inventory: Arc::new(inventory), was_read: true })
}

/// A layer that was written here, with its segments.
fn segmented(store: &Store, layer: &Layer) -> Option<Segmented> {
    let blob = layer.descriptor.digest;
    let bytes = crate::rootfs::read_regular(&store.folder(Folder::Segments).join(blob.hex())).ok()?;
    Segmented::new(open(store, blob).ok()?, &Segments::from_bytes(&bytes)?)
}

fn streamed(store: &Store, layer: &Layer, index: &Index) -> Result<LayerInventory, Error> {
    let blob = layer.descriptor.digest;
    open(store, blob)?;
    let reader = |_| -> std::io::Result<Box<dyn std::io::Read>> {
        Ok(Box::new(store.open_blob(&blob).map_err(std::io::Error::other)?))
    };
    scan(index, &reader).map_err(|source| Error::Contents { layer: blob, source })
}

/// What cannot be read, or is of another version, is as good as absent: the blob tells it again.
fn load(store: &Store, diff_id: DiffId) -> Option<LayerInventory> {
    let bytes = crate::rootfs::read_regular(&store.folder(Folder::Inventories).join(diff_id.0.hex())).ok()?;
    serde_json::from_slice(bytes.strip_prefix(VERSION.as_bytes())?.strip_prefix(b"\n")?).ok()
}

fn load_index(store: &Store, diff_id: DiffId) -> Option<Arc<Index>> {
    let bytes = crate::rootfs::read_regular(&store.folder(Folder::Indexes).join(diff_id.0.hex())).ok()?;
    Index::from_bytes(&bytes).ok().map(Arc::new)
}

/// What cannot be saved costs the next time some time, nothing else.
fn save(store: &Store, folder: Folder, diff_id: DiffId, bytes: &[u8]) {
    let path = store.private(folder).join(diff_id.0.hex());
    let write = || -> std::io::Result<()> {
        let scratch = store.scratch_dir().map_err(std::io::Error::other)?;
        let temporary = scratch.path().join("derived");
        store::write_private(&temporary, bytes)?;
        store::supersede(&temporary, &path)
    };
    if let Err(error) = write() {
        tracing::warn!(%error, path = %path.display(), "cannot save what is known of a layer");
    }
}
