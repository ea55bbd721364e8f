//! Attestations in OCI layouts: artifacts and indexes of referrers in `index.json` (image-spec, "Image Layout"; distribution-spec,
//! "Referrers Tag Schema"), for some readers look for the one and some for the other.

use std::collections::BTreeMap;

use super::local::index_of;
use super::{Artifact, Attestations, DOCUMENT_LIMIT, EMPTY, Error, merged};
use crate::export::entry_of_referrers;
use crate::image::MANIFEST_LIMIT;
use crate::import::{self, Source};
use crate::oci::{Descriptor, Digest, Index, MediaType};
use crate::store::Store;

/// The label of a layout's entry (image-spec, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Puts documents into the store, and gives the entries by which a layout's `index.json` lists them.
///
/// # Errors
/// What the store says.
pub fn entries(store: &Store, attestations: &Attestations) -> Result<Vec<Descriptor>, Error> {
    let mut by_subject: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
    for artifact in &attestations.artifacts {
        for bytes in [EMPTY, &artifact.payload, &artifact.manifest] {
            store.put_blob(bytes)?;
        }
        by_subject.entry(artifact.subject).or_default().push(artifact.descriptor.clone());
    }
    let mut entries = Vec::new();
    for (subject, listed) in by_subject {
        // As the store keeps it under the referrers tag.
        let listed = merged(Vec::new(), listed);
        let bytes = index_of(listed.clone());
        store.put_blob(&bytes)?;
        let index = Descriptor::new(MediaType::INDEX, Digest::of(&bytes), bytes.len() as u64);
        entries.push(entry_of_referrers(&subject, &index));
        entries.extend(listed);
    }
    Ok(entries)
}

/// What a layout has beside the image of this digest.
///
/// # Errors
/// Documents that are listed and missing, damaged, or none.
pub fn in_layout(store: &Store, source: &Source, subject: &Digest) -> Result<Vec<Artifact>, Error> {
    let mut listed: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    for entry in source.entries()? {
        if entry.annotations.get(REF_NAME) == Some(&subject.referrers_tag()) && entry.media_type.is_index() {
            let index = source.document(store, &entry, MANIFEST_LIMIT)?;
            let index: Index = serde_json::from_slice(&index).map_err(|error| Error::Wrong {
                digest: entry.digest,
                why: format!("it is no index: {error}"),
            })?;
            listed.extend(index.manifests.into_iter().map(|entry| (entry.digest, entry)));
        } else if entry.artifact_type.is_some() {
            listed.entry(entry.digest).or_insert(entry);
        }
    }
    let mut found = Vec::new();
    for entry in listed.into_values() {
        let read = read(store, source, &entry)?;
        found.extend(read.filter(|artifact| artifact.subject == *subject));
    }
    Ok(found)
}

/// A document; `None` of an artifact that is about nothing.
fn read(store: &Store, source: &Source, entry: &Descriptor) -> Result<Option<Artifact>, Error> {
    let manifest = source.document(store, entry, MANIFEST_LIMIT)?;
    let blob = |layer: &Descriptor| source.document(store, layer, DOCUMENT_LIMIT);
    let read = Artifact::read::<import::Error>(entry, manifest, blob)?;
    Ok(read.ok())
}
