//! Attestations in OCI layouts: artifacts and indexes of referrers in `index.json` (image-spec, "Image Layout"; distribution-spec,
//! "Referrers Tag Schema"), for some readers look for the one and some for the other.

use std::collections::BTreeMap;

use serde_json::Value;

use super::local::index_of;
use super::{Artifact, Attestations, DOCUMENT_LIMIT, Error, merged};
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
        for bytes in [&artifact.config, &artifact.payload, &artifact.manifest] {
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

/// What a layout has beside the image of this digest; among it what has a form that is passed over.
///
/// # Errors
/// Documents that are listed and missing, damaged, or too large.
pub fn in_layout(
    store: &Store,
    source: &Source,
    subject: &Digest,
) -> Result<Vec<Result<Artifact, Error>>, Error> {
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
        let manifest = source.document(store, &entry, MANIFEST_LIMIT)?;
        if is_about(&manifest, subject) {
            found.push(match read(store, source, &entry, manifest) {
                Err(foreign @ Error::Foreign { .. }) => Err(foreign),
                other => Ok(other?),
            });
        }
    }
    Ok(found)
}

/// Whether a manifest, whatever else it is, has this subject.
fn is_about(manifest: &[u8], subject: &Digest) -> bool {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    manifest["subject"]["digest"].as_str() == Some(subject.to_string().as_str())
}

fn read(store: &Store, source: &Source, entry: &Descriptor, manifest: Vec<u8>) -> Result<Artifact, Error> {
    let blob = |layer: &Descriptor| source.document(store, layer, DOCUMENT_LIMIT);
    Artifact::read::<import::Error>((entry, manifest), super::DOCUMENT_LIMIT, blob)?
}
