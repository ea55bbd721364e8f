//! Attestations in registries: by the API for referrers, else under the referrers tag.
//!
//! Whether a registry has the API is asked, not believed: some answer a push with `OCI-Subject` and list nothing.

use std::collections::BTreeMap;

use super::local::index_of;
use super::{Artifact, Error, merged, tagged};
use crate::oci::{Descriptor, Digest, Index, MediaType, Reference};
use crate::registry::{Client, Error as RegistryError};

/// What a registry has.
#[derive(Debug)]
pub struct Remote {
    /// The documents that it lists.
    pub entries: Vec<Descriptor>,
    /// Whether it listed them by its API.
    pub has_api: bool,
}

/// What the repository of `name` lists of a manifest, under the tag as well as by its API.
///
/// # Errors
/// What the registry refuses.
pub fn fetch(client: &Client, name: &Reference, subject: &Digest) -> Result<Remote, Error> {
    let api = client.referrers(&name.pinned(*subject), subject)?;
    let has_api = api.is_some();
    let mut found: BTreeMap<Digest, Descriptor> =
        api.unwrap_or_default().into_iter().map(|entry| (entry.digest, entry)).collect();
    if let Some(tag) = tagged(name, subject)
        && let Some(bytes) = client.manifest(&tag)?
        && let Ok(index) = serde_json::from_slice::<Index>(&bytes)
    {
        found.extend(index.manifests.into_iter().map(|entry| (entry.digest, entry)));
    }
    Ok(Remote { entries: found.into_values().collect(), has_api })
}

impl Remote {
    /// A document that a registry lists.
    ///
    /// # Errors
    /// Also when it is none, or is not what was listed.
    pub fn read(client: &Client, name: &Reference, entry: &Descriptor) -> Result<Artifact, Error> {
        Self::read_within(client, name, entry, super::DOCUMENT_LIMIT)
    }

    /// The same of one that has no more than so many bytes, and no more than [`super::DOCUMENT_LIMIT`].
    ///
    /// # Errors
    /// Also when it is none, or is not what was listed.
    pub fn read_within(
        client: &Client,
        name: &Reference,
        entry: &Descriptor,
        limit: u64,
    ) -> Result<Artifact, Error> {
        let wrong = |why: String| Error::Wrong { digest: entry.digest, why };
        let manifest = client.manifest(&name.pinned(entry.digest))?;
        let manifest = manifest.ok_or_else(|| wrong("it is listed, and is not there".to_owned()))?;
        if Digest::of(&manifest) != entry.digest {
            return Err(wrong("the registry sent something else".to_owned()));
        }
        Artifact::read((entry, manifest), limit, |blob| client.read_blob(name, blob))?
    }
}

/// Sends documents to the repository of `name`, which has what they are about; says whether the API lists them.
///
/// # Errors
/// What the registry refuses.
pub fn push(client: &Client, name: &Reference, artifacts: &[Artifact]) -> Result<bool, Error> {
    let mut by_subject: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
    for artifact in artifacts {
        client.write_blob(name, &artifact.config)?;
        client.write_blob(name, &artifact.payload)?;
        let written = match put(client, name, artifact) {
            Err(refusal) if is_about_form(&refusal) && artifact.is_own() => {
                tracing::debug!(%refusal, "an artifact is not taken: an image in its place");
                let older = artifact
                    .as_image()
                    .map_err(|why| Error::Wrong { digest: artifact.descriptor.digest, why })?;
                client.write_blob(name, &older.config)?;
                put(client, name, &older)?;
                older.descriptor
            }
            other => other.map(|()| artifact.descriptor.clone())?,
        };
        by_subject.entry(artifact.subject).or_default().push(written);
    }
    let mut are_listed = true;
    for (subject, new) in by_subject {
        let listed = client.referrers(&name.pinned(subject), &subject)?;
        let is_listed =
            |entry: &Descriptor| listed.iter().flatten().any(|known| known.digest == entry.digest);
        if new.iter().all(is_listed) {
            continue;
        }
        are_listed = false;
        let Some(tag) = tagged(name, &subject) else { continue };
        let known = client.manifest(&tag)?.and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
        let known = known.map(|index| index.manifests).unwrap_or_default();
        client.write_manifest(&tag, &MediaType::INDEX, &index_of(merged(known, new)))?;
    }
    Ok(are_listed)
}

fn put(client: &Client, name: &Reference, artifact: &Artifact) -> Result<(), RegistryError> {
    let place = name.pinned(artifact.descriptor.digest);
    client.write_manifest(&place, &MediaType::MANIFEST, &artifact.manifest)
}

/// Whether a registry does not like what a manifest looks like: some know no artifacts.
pub fn is_about_form(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Status { status: 400 | 415 | 422, .. })
}
