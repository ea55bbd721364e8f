//! What is known of layers is kept in the store, by what the layer holds and who looked.
//!
//! ```text
//! ROOT/rbuild/inventories/<diff id>    a line with the scanner's version, then JSON
//! ```

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;

use rayon::prelude::*;

use super::scan::{LayerInventory, scan, scan_parts};
use crate::layer::Segments;
use crate::layer::archive::{self, Decoder, Limits, decompress};
use crate::layer::contents::{ContentsError, Segmented};
use crate::layer::index::Index;
use crate::oci::{DiffId, Digest, Hasher, Layer};
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
    indexed(store, layer).map(|(index, _)| index)
}

/// Whether a blob holds what the configuration of its image says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// It was just read.
    Known,
    /// What is known is known of the diff id, which a configuration may say of any blob.
    Claimed,
}

fn indexed(store: &Store, layer: &Layer) -> Result<(Arc<Index>, Held), Error> {
    if let Some(index) = load_index(store, layer.diff_id) {
        return Ok((index, Held::Claimed));
    }
    let blob = layer.descriptor.digest;
    let read = Index::read(open(store, blob)?, Limits::default());
    let read = read.map_err(|source| Error::Archive { layer: blob, source })?;
    if read.diff_id != layer.diff_id {
        return Err(Error::WrongDiffId { layer: blob, expected: layer.diff_id, actual: read.diff_id });
    }
    save(store, Folder::Indexes, layer.diff_id, &read.index.to_bytes());
    Ok((Arc::new(read.index), Held::Known))
}

fn open(store: &Store, blob: Digest) -> Result<File, Error> {
    match store.open_blob(&blob) {
        Err(store::Error::NotFound { .. }) => Err(Error::Absent(blob)),
        opened => opened.map_err(Error::Store),
    }
}

fn one(store: &Store, layer: &Layer) -> Result<Layered, Error> {
    let (index, held) = indexed(store, layer)?;
    if let Some(inventory) = load(store, layer.diff_id) {
        let inventory = Arc::new(inventory);
        return Ok(Layered { layer: layer.clone(), index, inventory, was_read: false });
    }
    let inventory = match segmented(store, layer).map(|segmented| scan_parts(&index, &segmented)) {
        Some(Ok(inventory)) => inventory,
        // What is known of segments may be wrong: all of it is read.
        Some(Err(_)) | None => streamed(store, layer, &index, held)?,
    };
    if let Ok(json) = serde_json::to_vec(&inventory) {
        save(store, Folder::Inventories, layer.diff_id, &[VERSION.as_bytes(), b"\n", &json].concat());
    }
    Ok(Layered { layer: layer.clone(), index, inventory: Arc::new(inventory), was_read: true })
}

/// A layer that was written here, with its segments, if they say that it holds what its image's configuration says.
fn segmented(store: &Store, layer: &Layer) -> Option<Segmented> {
    let blob = layer.descriptor.digest;
    let bytes = crate::rootfs::read_regular(&store.folder(Folder::Segments).join(blob.hex())).ok()?;
    let segments = Segments::from_bytes(&bytes)?;
    if segments.diff_id() != Some(layer.diff_id) {
        return None;
    }
    Segmented::new(open(store, blob).ok()?, &segments)
}

/// The blob is read from its beginning. What is found is kept by what the configuration says, as the index was: of a blob that only claims to
/// hold that nothing is believed before its digest was taken.
fn streamed(store: &Store, layer: &Layer, index: &Index, held: Held) -> Result<LayerInventory, Error> {
    let blob = layer.descriptor.digest;
    let contents = |source| Error::Contents { layer: blob, source };
    let damaged = |source| contents(ContentsError::Layer { layer: 0, source });
    let tar = decompress(open(store, blob)?).map_err(damaged)?;
    let hasher = (held == Held::Claimed).then(Hasher::new);
    let tar = Hashed(Rc::new(RefCell::new((tar, hasher))));
    // Where the index has no file that tells of packages there is nothing to believe.
    let is_opened = Cell::new(false);
    let found = scan(index, &|_| {
        is_opened.set(true);
        Ok(Box::new(tar.clone()))
    });
    if held == Held::Claimed && is_opened.get() {
        // Another layer's files may lie elsewhere; that it is another's is what is to be told.
        io::copy(&mut tar.clone(), &mut io::sink()).map_err(damaged)?;
        let actual = tar.0.borrow_mut().1.take().map(|hasher| DiffId(hasher.finish()));
        if let Some(actual) = actual.filter(|actual| *actual != layer.diff_id) {
            return Err(Error::WrongDiffId { layer: blob, expected: layer.diff_id, actual });
        }
    }
    found.map_err(contents)
}

/// A layer's tar, and the hasher of what was read of it, if anybody wants to know.
#[derive(Clone)]
struct Hashed(Rc<RefCell<(Decoder<File>, Option<Hasher>)>>);

impl Read for Hashed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (tar, hasher) = &mut *self.0.borrow_mut();
        let count = tar.read(into)?;
        if let Some(hasher) = hasher {
            hasher.update(&into[..count]);
        }
        Ok(count)
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::inventory::catalog::Tells;
    use crate::layer::entry::{Content, Entry, EntryKind};
    use crate::layer::{Compression, WriteOptions, write_remembering};
    use crate::oci::{Descriptor, MediaType};

    fn layer(store: &Store, release: &str) -> Layer {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_path("etc/os-release").unwrap();
        header.set_mode(0o644);
        header.set_size(release.len() as u64);
        header.set_cksum();
        tar.append(&header, release.as_bytes()).unwrap();
        let tar = tar.into_inner().unwrap();
        store.put_blob(&tar).unwrap();
        let digest = Digest::of(&tar);
        let descriptor = Descriptor::new(MediaType::LAYER_GZIP, digest, tar.len() as u64);
        Layer { descriptor, diff_id: DiffId(digest) }
    }

    /// A layer as a build writes it, with its segments.
    fn written(store: &Store, release: &str) -> Layer {
        let entry = |path: String, content: &[u8]| Entry {
            path: path.into(),
            kind: EntryKind::File(Content::Bytes(content.into())),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: std::collections::BTreeMap::new(),
        };
        // Of few segments nothing is remembered.
        let large = vec![0; 1 << 20];
        let mut entries: Vec<Entry> =
            (0..10).map(|number| entry(format!("large/{number}"), &large)).collect();
        entries.push(entry("etc/os-release".to_owned(), release.as_bytes()));
        let options = WriteOptions { compression: Compression::Gzip { level: 1 } };
        let mut blob = Vec::new();
        let written = write_remembering(entries, &options, (None, None), &mut blob).unwrap();
        store.put_blob(&blob).unwrap();
        save(store, Folder::Segments, DiffId(written.digest), &written.segments.to_bytes());
        let descriptor = Descriptor::new(MediaType::LAYER_GZIP, written.digest, written.size);
        Layer { descriptor, diff_id: written.diff_id }
    }

    /// An image says of a layer of its own that it is one that is known. Nothing of it is believed, and what is known stays.
    #[test]
    fn what_is_known_of_a_layer_is_not_taken_from_another() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s")).unwrap();
        // The other may fit the index of the first, be shorter, or have its files elsewhere.
        for evil in ["ID=evil\n", "", "ID=evil and much longer than the other is\n"] {
            let (good, bad) = (layer(&store, "ID=good\n"), layer(&store, evil));
            index(&store, &good).unwrap();
            let lies = Layer { diff_id: good.diff_id, ..bad };
            assert!(matches!(layered(&store, &[lies]), Err(Error::WrongDiffId { .. })), "{evil}");
            let known = layered(&store, std::slice::from_ref(&good)).unwrap();
            let told = &known[0].inventory.told[0].tells;
            assert!(matches!(told.as_slice(), [Tells::Release(release)] if release.id == "good"), "{told:?}");
            std::fs::remove_dir_all(store.folder(Folder::Inventories)).unwrap();
        }
    }

    /// The same where it was written here, and it is known where it can be cut.
    #[test]
    fn segments_of_another_layer_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s")).unwrap();
        let (good, bad) = (written(&store, "ID=good\n"), written(&store, "ID=evil\n"));
        assert!(segmented(&store, &good).is_some(), "only parts of it are read");
        index(&store, &good).unwrap();
        let lies = Layer { diff_id: good.diff_id, ..bad };
        assert!(segmented(&store, &lies).is_none());
        assert!(matches!(layered(&store, &[lies]), Err(Error::WrongDiffId { .. })));
    }
}
