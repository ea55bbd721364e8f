//! A document as an artifact: its manifest, and the blobs that it names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{DOCUMENT_LIMIT, Error};
use crate::oci::{Descriptor, Digest, MediaType};
use crate::signature::image::BUNDLE;

/// An SPDX document as it is; what trivy and GUAC look for.
pub const SPDX: &str = "application/spdx+json";
/// A statement of in-toto.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The configuration of an artifact that has none (image-spec, "Guidance for an Empty Descriptor").
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// What a statement says, as BuildKit annotates it.
pub(super) const PREDICATE: &str = "in-toto.io/predicate-type";
/// Which of an index's platforms a document is about.
pub(super) const PLATFORM: &str = "io.rbuild.platform";
/// That rbuild wrote it, and may replace it.
pub(super) const WRITER: &str = "io.rbuild.version";
/// The name of a file (image-spec, "Pre-Defined Annotation Keys").
pub(super) const TITLE: &str = "org.opencontainers.image.title";
/// What cosign says of a bundle: what it holds, and what that says.
const BUNDLE_CONTENT: &str = "dev.sigstore.bundle.content";
const BUNDLE_PREDICATE: &str = "dev.sigstore.bundle.predicateType";
const CREATED: &str = "org.opencontainers.image.created";

/// The manifest of an artifact; its subject is what an image's has no field for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    pub(super) media_type: MediaType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    pub(super) config: Descriptor,
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// A document about an image.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// What it is about.
    pub subject: Digest,
    /// As an index lists it.
    pub descriptor: Descriptor,
    /// Its manifest; empty where it shares one with others.
    pub manifest: Vec<u8>,
    /// The configuration that the manifest names: `{}` of most.
    pub config: Vec<u8>,
    /// The document.
    pub payload: Vec<u8>,
}

/// What is said of a document beside what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// In RFC 3339.
    pub(super) created: &'a str,
    pub(super) platform: &'a str,
    /// What tells it from others.
    pub(super) title: Option<&'a str>,
}

impl Artifact {
    /// Of a document of type `kind` about `subject`.
    pub(super) fn new(
        kind: &str,
        payload: Vec<u8>,
        predicate: Option<&str>,
        subject: &Descriptor,
        About { created, platform, title }: About<'_>,
    ) -> Self {
        let mut annotations = BTreeMap::from([
            (CREATED.to_owned(), created.to_owned()),
            (PLATFORM.to_owned(), platform.to_owned()),
            (WRITER.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        annotations.extend(predicate.map(|predicate| (PREDICATE.to_owned(), predicate.to_owned())));
        annotations.extend(title.map(|title| (TITLE.to_owned(), title.to_owned())));
        let mut layer = described(kind, &payload);
        layer.annotations.extend(predicate.map(|predicate| (PREDICATE.to_owned(), predicate.to_owned())));
        Self::annotated((kind, layer), payload, annotations, subject)
    }

    /// Of a bundle of Sigstore, with the annotations that cosign writes, but without a time: who signs the same once more adds nothing.
    pub fn bundle(bundle: Vec<u8>, predicate: &str, subject: &Descriptor) -> Self {
        let annotations = BTreeMap::from([
            (BUNDLE_CONTENT.to_owned(), "dsse-envelope".to_owned()),
            (BUNDLE_PREDICATE.to_owned(), predicate.to_owned()),
        ]);
        let layer = described(BUNDLE, &bundle);
        Self::annotated((BUNDLE, layer), bundle, annotations, subject)
    }

    fn annotated(
        (kind, layer): (&str, Descriptor),
        payload: Vec<u8>,
        annotations: BTreeMap<String, String>,
        subject: &Descriptor,
    ) -> Self {
        let manifest = Manifest {
            schema_version: 2,
            media_type: MediaType::MANIFEST,
            artifact_type: Some(kind.to_owned()),
            config: empty().0,
            layers: vec![layer],
            subject: Some(Descriptor::new(subject.media_type.clone(), subject.digest, subject.size)),
            annotations: annotations.clone(),
        };
        let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
        let mut descriptor = described(MediaType::MANIFEST.as_str(), &manifest);
        descriptor.artifact_type = Some(kind.to_owned());
        descriptor.annotations = annotations;
        Self { subject: subject.digest, descriptor, manifest, config: EMPTY.to_vec(), payload }
    }

    /// Of the manifest that `descriptor` names; `blob` gives what that names, of no more bytes than `limit`.
    ///
    /// # Errors
    /// [`Error::Foreign`] of what has another form, [`Error::Wrong`] of what is too large.
    pub(super) fn read<E>(
        (descriptor, manifest): (&Descriptor, Vec<u8>),
        limit: u64,
        blob: impl Fn(&Descriptor) -> Result<Vec<u8>, E>,
    ) -> Result<Result<Self, Error>, E> {
        let digest = descriptor.digest;
        let foreign = |why: String| Ok(Err(Error::Foreign { digest, why }));
        let parsed: Manifest = match serde_json::from_slice(&manifest) {
            Ok(parsed) => parsed,
            Err(error) => return foreign(format!("its manifest cannot be read: {error}")),
        };
        let [layer] = parsed.layers.as_slice() else {
            return foreign(format!("it has {} documents, not one", parsed.layers.len()));
        };
        let Some(subject) = parsed.subject else {
            return foreign("it is about nothing: it has no subject".to_owned());
        };
        let limit = limit.min(DOCUMENT_LIMIT);
        if let Some(large) = [layer, &parsed.config].into_iter().find(|blob| blob.size > limit) {
            let why = format!("it has {} bytes, more than {limit}", large.size);
            return Ok(Err(Error::Wrong { digest, why }));
        }
        let mut descriptor = descriptor.clone();
        descriptor.artifact_type = parsed.artifact_type.or(descriptor.artifact_type);
        descriptor.annotations.extend(parsed.annotations);
        // What rbuild writes need not be fetched.
        let own = [empty(), image_config(&parsed.layers)];
        let config = match own.into_iter().find(|(own, _)| own.digest == parsed.config.digest) {
            Some((_, bytes)) => bytes,
            None => blob(&parsed.config)?,
        };
        let payload = blob(layer)?;
        Ok(Ok(Self { subject: subject.digest, descriptor, manifest, config, payload }))
    }

    /// The same for a registry that knows no artifacts: it looks like an image, whose configuration comes with it. What it is says the index
    /// of referrers.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn as_image(&self) -> Result<Self, String> {
        let parsed: Manifest = serde_json::from_slice(&self.manifest)
            .map_err(|error| format!("its manifest cannot be read: {error}"))?;
        let (config, config_bytes) = image_config(&parsed.layers);
        let manifest = Manifest { artifact_type: None, config, ..parsed };
        let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
        let plain = described(MediaType::MANIFEST.as_str(), &manifest);
        let descriptor = Descriptor { digest: plain.digest, size: plain.size, ..self.descriptor.clone() };
        Ok(Self { descriptor, manifest, config: config_bytes, ..self.clone() })
    }

    /// Whether rbuild wrote it, and may write it in another form: others' documents are known by their digests.
    pub(super) fn is_own(&self) -> bool {
        self.descriptor.annotations.contains_key(WRITER)
    }

    /// Of a statement that BuildKit keeps in an index, about `subject`.
    pub fn in_index(descriptor: &Descriptor, subject: Digest, payload: Vec<u8>) -> Self {
        Self { subject, descriptor: descriptor.clone(), manifest: Vec::new(), config: Vec::new(), payload }
    }

    /// What the document is: its artifact's type.
    pub fn kind(&self) -> &str {
        self.descriptor.artifact_type.as_deref().unwrap_or("")
    }

    /// What a statement says, as it is listed.
    pub fn predicate(&self) -> Option<&str> {
        predicate(&self.descriptor)
    }

    /// Which platform it is about, if it says so.
    pub fn platform(&self) -> Option<&str> {
        self.descriptor.annotations.get(PLATFORM).map(String::as_str)
    }
}

/// What the statement says that an index lists, by itself or in a bundle.
pub fn predicate(entry: &Descriptor) -> Option<&str> {
    let told = |key: &str| entry.annotations.get(key).map(String::as_str);
    told(PREDICATE).or_else(|| told(BUNDLE_PREDICATE))
}

/// The configuration of what has none.
pub(super) fn empty() -> (Descriptor, Vec<u8>) {
    (described(EMPTY_TYPE, EMPTY), EMPTY.to_vec())
}

/// The configuration of an image that is none.
pub(super) fn image_config(layers: &[Descriptor]) -> (Descriptor, Vec<u8>) {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let config = json!({
        "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let bytes = config.to_string().into_bytes();
    (described(MediaType::CONFIG.as_str(), &bytes), bytes)
}

pub(super) fn described(kind: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::new(kind), Digest::of(bytes), bytes.len() as u64)
}
