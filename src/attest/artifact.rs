//! A document as an artifact: its manifest, and the blobs that it names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::oci::{Descriptor, Digest, MediaType};

/// An SPDX document as it is; what trivy and GUAC look for.
pub const SPDX: &str = "application/spdx+json";
/// A statement of in-toto.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The configuration of an artifact that has none (image-spec, "Guidance for an Empty Descriptor").
pub const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// What a statement says, as BuildKit annotates it.
pub(super) const PREDICATE: &str = "in-toto.io/predicate-type";
/// Which of an index's platforms a document is about.
pub(super) const PLATFORM: &str = "io.rbuild.platform";
/// That rbuild wrote it, and may replace it.
pub(super) const WRITER: &str = "io.rbuild.version";
const CREATED: &str = "org.opencontainers.image.created";

/// The manifest of an artifact; its subject is what an image's has no field for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: MediaType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// A document about an image.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// What it is about.
    pub subject: Digest,
    /// As an index lists it.
    pub descriptor: Descriptor,
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// The document.
    pub payload: Vec<u8>,
}

impl Artifact {
    /// Of a document of type `kind` about `subject`.
    pub(super) fn new(
        kind: &str,
        payload: Vec<u8>,
        predicate: Option<&str>,
        subject: &Descriptor,
        (created, platform): (&str, &str),
    ) -> Self {
        let mut annotations = BTreeMap::from([
            (CREATED.to_owned(), created.to_owned()),
            (PLATFORM.to_owned(), platform.to_owned()),
            (WRITER.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        annotations.extend(predicate.map(|predicate| (PREDICATE.to_owned(), predicate.to_owned())));
        let mut layer = described(kind, &payload);
        layer.annotations.extend(predicate.map(|predicate| (PREDICATE.to_owned(), predicate.to_owned())));
        let manifest = Manifest {
            schema_version: 2,
            media_type: MediaType::MANIFEST,
            artifact_type: Some(kind.to_owned()),
            config: described(EMPTY_TYPE, EMPTY),
            layers: vec![layer],
            subject: Some(Descriptor::new(subject.media_type.clone(), subject.digest, subject.size)),
            annotations: annotations.clone(),
        };
        let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
        let mut descriptor = described(MediaType::MANIFEST.as_str(), &manifest);
        descriptor.artifact_type = Some(kind.to_owned());
        descriptor.annotations = annotations;
        Self { subject: subject.digest, descriptor, manifest, payload }
    }

    /// Of the manifest that `descriptor` names; `blob` gives what that names.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub(super) fn read<E>(
        descriptor: &Descriptor,
        manifest: Vec<u8>,
        blob: impl FnOnce(&Descriptor) -> Result<Vec<u8>, E>,
    ) -> Result<Result<Self, String>, E> {
        let parsed: Manifest = match serde_json::from_slice(&manifest) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(format!("its manifest cannot be read: {error}"))),
        };
        let [layer] = parsed.layers.as_slice() else {
            return Ok(Err(format!("it has {} documents, not one", parsed.layers.len())));
        };
        let Some(subject) = parsed.subject else {
            return Ok(Err("it is about nothing: it has no subject".to_owned()));
        };
        if layer.size > super::DOCUMENT_LIMIT {
            return Ok(Err(format!("it has {} bytes, more than {}", layer.size, super::DOCUMENT_LIMIT)));
        }
        let mut descriptor = descriptor.clone();
        descriptor.artifact_type = parsed.artifact_type.or(descriptor.artifact_type);
        descriptor.annotations.extend(parsed.annotations);
        let payload = blob(layer)?;
        Ok(Ok(Self { subject: subject.digest, descriptor, manifest, payload }))
    }

    /// What the document is: its artifact's type.
    pub fn kind(&self) -> &str {
        self.descriptor.artifact_type.as_deref().unwrap_or("")
    }

    /// What a statement says.
    pub fn predicate(&self) -> Option<&str> {
        self.descriptor.annotations.get(PREDICATE).map(String::as_str)
    }

    /// Which platform it is about, if it says so.
    pub fn platform(&self) -> Option<&str> {
        self.descriptor.annotations.get(PLATFORM).map(String::as_str)
    }
}

fn described(kind: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::new(kind), Digest::of(bytes), bytes.len() as u64)
}
