//! Attestations in the store, under referrers tags.

use std::collections::BTreeMap;

use super::{Artifact, Attestations, Error, merged, tagged};
use crate::image::MANIFEST_LIMIT;
use crate::oci::{Descriptor, Digest, Index, MediaType, Reference};
use crate::store::Store;

/// What the store has.
#[derive(Debug, Clone, Copy)]
pub struct Local<'s>(pub &'s Store);

impl Local<'_> {
    /// What the store lists of a manifest, whatever the repository.
    ///
    /// # Errors
    /// What the store says.
    pub fn list(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let tag = subject.referrers_tag();
        let mut found = BTreeMap::new();
        for (name, target) in self.0.tags()? {
            if name.tag() == Some(tag.as_str()) {
                found.extend(index(self.0, &target)?.into_iter().map(|entry| (entry.digest, entry)));
            }
        }
        Ok(found.into_values().collect())
    }

    /// A document that the store lists.
    ///
    /// # Errors
    /// Also when it is none.
    pub fn read(&self, entry: &Descriptor) -> Result<Artifact, Error> {
        let manifest = self.0.read_blob(entry, MANIFEST_LIMIT)?;
        Artifact::read((entry, manifest), super::DOCUMENT_LIMIT, |blob| {
            self.0.read_blob(blob, super::DOCUMENT_LIMIT)
        })?
    }
}

fn index(store: &Store, target: &Descriptor) -> Result<Vec<Descriptor>, Error> {
    if !target.media_type.is_index() {
        return Ok(Vec::new());
    }
    let bytes = store.read_blob(target, MANIFEST_LIMIT)?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Wrong { digest: target.digest, why: format!("it is no index: {error}") })?;
    Ok(index.manifests)
}

/// Keeps attestations beside every name of the image, each repository once.
///
/// # Errors
/// What the store says.
pub fn keep_all(store: &Store, names: &[Reference], attestations: &Attestations) -> Result<(), Error> {
    let mut repositories: Vec<&Reference> = Vec::new();
    for name in names {
        let is_same = |known: &&&Reference| {
            (known.registry(), known.repository()) == (name.registry(), name.repository())
        };
        if !repositories.iter().any(|known| is_same(&known)) {
            repositories.push(name);
        }
    }
    repositories.into_iter().try_for_each(|name| keep(store, name, &attestations.artifacts))
}

/// Keeps documents in the store, in the repository of `name`.
///
/// # Errors
/// What the store says.
pub fn keep(store: &Store, name: &Reference, artifacts: &[Artifact]) -> Result<(), Error> {
    let mut by_subject: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
    for artifact in artifacts {
        for bytes in [&artifact.config, &artifact.payload, &artifact.manifest] {
            store.put_blob(bytes)?;
        }
        by_subject.entry(artifact.subject).or_default().push(artifact.descriptor.clone());
    }
    for (subject, new) in by_subject {
        let Some(tag) = tagged(name, &subject) else { continue };
        let known = match store.tag(&tag)? {
            Some(target) => index(store, &target)?,
            None => Vec::new(),
        };
        let bytes = index_of(merged(known, new));
        store.put_blob(&bytes)?;
        let target = Descriptor::new(MediaType::INDEX, Digest::of(&bytes), bytes.len() as u64);
        store.set_tags([(&tag, &target)])?;
    }
    Ok(())
}

/// An index of referrers, as bytes.
pub(super) fn index_of(manifests: Vec<Descriptor>) -> Vec<u8> {
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::INDEX),
        manifests,
        annotations: BTreeMap::new(),
    };
    serde_json::to_vec(&index).unwrap_or_default()
}
