//! The files of an image: its layers as one root, and their contents layer by layer.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::contents::{Contents, Image};
use crate::image::{CONFIG_LIMIT, is_attestation};
use crate::layer::archive::{Limits, Names, Reader, decompress};
use crate::layer::index::Index;
use crate::layer::view::{Kind, RootView, ViewEntry};
use crate::oci::{Descriptor, DiffId, Digest, ImageConfig};
use crate::store::{Folder, Store};

/// The roots of several images, each with the folder that it goes to (empty: the top).
pub(super) type Roots = [(PathBuf, Files)];

/// Opens every image in `contents`; with `split`, by default if there are several, each gets a folder named after its
/// platform.
pub(super) fn open_all(
    store: &Store,
    contents: &Contents,
    split: Option<bool>,
) -> Result<Vec<(PathBuf, Files)>, Error> {
    let images: Vec<&Image> =
        contents.images.iter().filter(|image| !is_attestation(&image.descriptor)).collect();
    let split = split.unwrap_or(images.len() > 1);
    let mut roots = Vec::new();
    for image in images {
        let folder = if split { PathBuf::from(platform_name(image)) } else { PathBuf::new() };
        roots.push((folder, Files::open(store, image)?));
    }
    refuse_conflicts(&roots)?;
    Ok(roots)
}

/// The merged root of one image.
#[derive(Debug)]
pub(super) struct Files {
    /// Which image.
    pub(super) image: Digest,
    /// What it runs on, as a part of a file's name.
    pub(super) platform: String,
    /// Everything in it.
    pub(super) view: RootView,
    layers: Vec<Descriptor>,
}

impl Files {
    /// Finds out what the layers of `image` hold.
    pub(super) fn open(store: &Store, image: &Image) -> Result<Self, Error> {
        let layers = image.manifest.layers.clone();
        let bytes = store.read_blob(&image.manifest.config, CONFIG_LIMIT)?;
        let digest = image.manifest.config.digest;
        let bad = |reason: String| Error::BadManifest { digest, reason };
        let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        let diff_ids = config.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            let reason = format!("it names {} layers, and the manifest {}", diff_ids.len(), layers.len());
            return Err(bad(reason));
        }
        let mut view = RootView::default();
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            view = view.push(Arc::new(index(store, &layer.digest, diff_id)?));
        }
        Ok(Self { image: image.descriptor.digest, platform: platform_name(image), view, layers })
    }

    /// Gives each regular file once, with all of its names in byte order and its content, in the order of the
    /// layers' archives. Every layer that holds one is read once.
    pub(super) fn each_file(
        &self,
        store: &Store,
        mut give: impl FnMut(&[ViewEntry<'_>], &mut dyn Read) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut wanted: Vec<BTreeMap<u64, Vec<ViewEntry<'_>>>> = vec![BTreeMap::new(); self.layers.len()];
        for entry in self.view.walk(b"") {
            if let (Kind::File { .. }, Some((layer, inode))) = (entry.node.kind, entry.inode()) {
                wanted[layer].entry(inode).or_default().push(entry);
            }
        }
        for (layer, wanted) in self.layers.iter().zip(&mut wanted) {
            give_layer(store, layer, wanted, &mut give)?;
        }
        Ok(())
    }
}

fn give_layer(
    store: &Store,
    layer: &Descriptor,
    wanted: &mut BTreeMap<u64, Vec<ViewEntry<'_>>>,
    give: &mut impl FnMut(&[ViewEntry<'_>], &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let bad = |source| Error::BadLayer { digest: layer.digest, source };
    let blob = store.open_blob(&layer.digest)?;
    let stream = decompress(blob).map_err(|e| Error::io("read", &store.blob_path(&layer.digest), e))?;
    let mut reader = Reader::new(stream, Names::Layer, Limits::default());
    while let Some(member) = reader.next_member().map_err(bad)? {
        if let Some(names) = wanted.remove(&member.offset) {
            give(&names, &mut reader.data())?;
        }
        if wanted.is_empty() {
            return Ok(());
        }
    }
    // The index is kept by diff id: it was made of another blob, which this one's image claims to be, or of this one before it was damaged.
    Err(Error::LayerChanged { digest: layer.digest })
}

/// Other modules keep indexes by diff id; where there is none, the layer is read.
fn index(store: &Store, layer: &Digest, diff_id: DiffId) -> Result<Index, Error> {
    let kept = crate::rootfs::read_regular(&store.private(Folder::Indexes).join(diff_id.0.hex())).ok();
    if let Some(index) = kept.and_then(|bytes| Index::from_bytes(&bytes).ok()) {
        return Ok(index);
    }
    let blob = store.open_blob(layer)?;
    let read = Index::read(blob, Limits::default());
    let read = read.map_err(|source| Error::BadLayer { digest: *layer, source })?;
    if read.diff_id != diff_id {
        return Err(Error::WrongDiffId { layer: *layer, expected: diff_id, actual: read.diff_id });
    }
    Ok(read.index)
}

/// Without folders of their own, two images must not write to one path. Directories may meet.
fn refuse_conflicts(roots: &Roots) -> Result<(), Error> {
    let mut seen = HashMap::new();
    for (folder, files) in roots {
        for entry in files.view.walk(b"").filter(|entry| roots.len() > 1 && !entry.is_dir()) {
            let path = folder.join(bytes_path(entry.path));
            if let Some(first) = seen.insert(path.clone(), files.image) {
                return Err(Error::Conflict { path, first, second: files.image });
            }
        }
    }
    Ok(())
}

/// BuildKit's name for it: `linux_arm_v7`.
fn platform_name(image: &Image) -> String {
    let platform =
        image.descriptor.platform.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    platform.replace('/', "_")
}

/// A path of an image as the system takes it.
pub(super) fn bytes_path(path: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path))
}
