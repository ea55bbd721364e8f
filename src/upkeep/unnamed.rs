//! Images that nothing points at: results of builds without `-t`, and images whose name went to a newer one.

use std::collections::BTreeSet;
use std::io::Read;

use serde::Deserialize;

use super::inventory::{Error, Inventory};
use crate::image::{Image, MANIFEST_LIMIT};
use crate::oci::{Descriptor, Digest, MediaType};
use crate::store::Store;

/// The fields that tell a manifest from an index, and both from other JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    media_type: Option<MediaType>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// Opens every blob that nothing names and that could be a manifest.
pub(super) fn find(store: &Store, inventory: &Inventory) -> Result<Vec<Image>, Error> {
    let named: BTreeSet<&Digest> = inventory.images().flat_map(|image| image.blobs.keys()).collect();
    let layers: BTreeSet<&Digest> =
        inventory.entries.iter().map(|entry| &entry.record.layer.descriptor.digest).collect();
    let mut found = Vec::new();
    for (digest, blob) in &inventory.blobs {
        let may_be = blob.bytes <= MANIFEST_LIMIT && !named.contains(digest) && !layers.contains(digest);
        if !may_be || !begins_as_json(store, digest) {
            continue;
        }
        if let Some(descriptor) = describe(store, digest, blob.bytes)? {
            found.push(Image::read(store, &descriptor)?);
        }
    }
    Ok(outermost(found))
}

/// The descriptor of a blob that is a manifest or an index.
fn describe(store: &Store, digest: &Digest, bytes: u64) -> Result<Option<Descriptor>, Error> {
    let guess = Descriptor::new(MediaType::MANIFEST, *digest, bytes);
    let content = match store.read_blob(&guess, MANIFEST_LIMIT) {
        Ok(content) => content,
        Err(Error::NotFound { .. } | Error::Damaged { .. } | Error::WrongSize { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(shape) = serde_json::from_slice::<Shape>(&content) else { return Ok(None) };
    let kind = match (shape.schema_version, shape.manifests, shape.config, shape.layers) {
        (2, Some(_), None, None) => MediaType::INDEX,
        (2, None, Some(_), _) => MediaType::MANIFEST,
        _ => return Ok(None),
    };
    let media_type = shape.media_type.filter(|t| t.is_index() || t.is_manifest()).unwrap_or(kind);
    Ok(Some(Descriptor { media_type, ..guess }))
}

/// Most blobs are compressed layers, which one byte tells.
fn begins_as_json(store: &Store, digest: &Digest) -> bool {
    let mut first = [0];
    store.open_blob(digest).is_ok_and(|mut file| file.read_exact(&mut first).is_ok()) && first == *b"{"
}

/// Without those that are part of another one.
fn outermost(images: Vec<Image>) -> Vec<Image> {
    let inner: BTreeSet<Digest> = images
        .iter()
        .flat_map(|image| image.blobs.keys().filter(|d| **d != image.target.digest))
        .copied()
        .collect();
    images.into_iter().filter(|image| !inner.contains(&image.target.digest)).collect()
}
