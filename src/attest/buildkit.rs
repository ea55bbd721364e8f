//! BuildKit's way: an index names the image, and beside it a manifest of what is attested (moby/buildkit,
//! `docs/attestations/attestation-storage.md`).

use std::collections::BTreeMap;

use super::artifact::{IN_TOTO, Manifest, PLATFORM, PREDICATE, described, empty, image_config};
use super::document::Documented;
use super::wanted::Layout;
use crate::oci::{Descriptor, Digest, Index, MediaType, Platform, Reference};
use crate::record::provenance::image_purl;

/// What a manifest of attestations is about.
pub const ABOUT: &str = "vnd.docker.reference.digest";
const TYPE: &str = "vnd.docker.reference.type";
const ATTESTATIONS: &str = "attestation-manifest";
const ARTIFACT_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// A manifest of attestations.
#[derive(Debug, Clone)]
pub struct InIndex {
    /// Its entry in the index.
    pub entry: Descriptor,
    /// All that it consists of, itself last.
    pub blobs: Vec<Vec<u8>>,
}

/// The manifest of what is attested so of an image that has these `names`; `None` where nothing is. With `is_artifact` it is one of OCI's
/// artifacts, as BuildKit writes it since 0.31; else what older readers took for an image.
pub fn in_index(documented: &Documented, names: &[Reference], is_artifact: bool) -> Option<InIndex> {
    let image = &documented.image;
    let (mut layers, mut blobs) = (Vec::new(), Vec::new());
    for document in documented.in_layout(Layout::BuildKit) {
        let mut called: Vec<String> =
            names.iter().map(|name| image_purl(name, Some(&documented.platform))).collect();
        if called.is_empty() {
            // What BuildKit calls a thing without a name.
            called.push("_".to_owned());
        }
        let statement = document.statement(called.into_iter().map(|name| (name, image.digest)));
        let mut layer = described(IN_TOTO, &statement);
        layer.annotations.insert(PREDICATE.to_owned(), document.predicate_type.clone());
        layers.push(layer);
        blobs.push(statement);
    }
    if layers.is_empty() {
        return None;
    }
    let (config, config_bytes) = match is_artifact {
        true => empty(),
        false => image_config(&layers),
    };
    let subject = Descriptor::new(image.media_type.clone(), image.digest, image.size);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MediaType::MANIFEST,
        artifact_type: is_artifact.then(|| ARTIFACT_TYPE.to_owned()),
        config,
        layers,
        subject: is_artifact.then_some(subject),
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    let mut entry = described(MediaType::MANIFEST.as_str(), &bytes);
    entry.annotations.insert(ABOUT.to_owned(), image.digest.to_string());
    entry.annotations.insert(TYPE.to_owned(), ATTESTATIONS.to_owned());
    entry.platform = Some(Platform::new("unknown", "unknown"));
    blobs.extend([config_bytes, bytes]);
    Some(InIndex { entry, blobs })
}

/// What attests an image in an index: the manifest of attestations, and the digest of what it is about. Others than those of BuildKit's are
/// passed over.
pub fn attesting(index: &Index) -> Vec<(Descriptor, Digest)> {
    let about = |entry: &Descriptor| {
        let is_one = entry.annotations.get(TYPE).is_some_and(|kind| kind == ATTESTATIONS);
        entry.annotations.get(ABOUT).filter(|_| is_one)?.parse().ok()
    };
    index.manifests.iter().filter_map(|entry| Some((entry.clone(), about(entry)?))).collect()
}

/// The statements that a manifest of attestations names, each as an index of referrers would list it; `platform` is that of the image.
///
/// # Errors
/// Why it cannot be read, in words.
pub fn statements(manifest: &[u8], platform: Option<&Platform>) -> Result<Vec<Descriptor>, String> {
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|error| format!("its manifest cannot be read: {error}"))?;
    let listed = |layer: Descriptor| {
        let mut annotations = layer.annotations.clone();
        annotations.extend(platform.map(|platform| (PLATFORM.to_owned(), platform.to_string())));
        Descriptor { artifact_type: Some(layer.media_type.to_string()), annotations, ..layer }
    };
    Ok(manifest.layers.into_iter().filter(|layer| layer.media_type.as_str() == IN_TOTO).map(listed).collect())
}
