//! Descriptors, manifests and indexes (image-spec), also in Docker's dialect (schema 2).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{DiffId, Digest, Platform};

/// What kind of thing a blob is; unknown kinds are kept as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(std::borrow::Cow<'static, str>);

impl MediaType {
    /// OCI image index.
    pub const INDEX: MediaType = MediaType::fixed("application/vnd.oci.image.index.v1+json");
    /// OCI image manifest.
    pub const MANIFEST: MediaType = MediaType::fixed("application/vnd.oci.image.manifest.v1+json");
    /// OCI image configuration.
    pub const CONFIG: MediaType = MediaType::fixed("application/vnd.oci.image.config.v1+json");
    /// Plain tar layer.
    pub const LAYER: MediaType = MediaType::fixed("application/vnd.oci.image.layer.v1.tar");
    /// Layer in gzip.
    pub const LAYER_GZIP: MediaType = MediaType::fixed("application/vnd.oci.image.layer.v1.tar+gzip");
    /// Layer in zstd.
    pub const LAYER_ZSTD: MediaType = MediaType::fixed("application/vnd.oci.image.layer.v1.tar+zstd");
    /// Bytes of which nothing is said (RFC 2046).
    pub const OCTET_STREAM: MediaType = MediaType::fixed("application/octet-stream");
    /// Docker's manifest list.
    pub const DOCKER_LIST: MediaType =
        MediaType::fixed("application/vnd.docker.distribution.manifest.list.v2+json");
    /// Docker's manifest, schema 2.
    pub const DOCKER_MANIFEST: MediaType =
        MediaType::fixed("application/vnd.docker.distribution.manifest.v2+json");
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: MediaType = MediaType::fixed("application/vnd.docker.container.image.v1+json");
    /// Docker's layer in gzip.
    pub const DOCKER_LAYER_GZIP: MediaType =
        MediaType::fixed("application/vnd.docker.image.rootfs.diff.tar.gzip");
    /// Docker's plain layer.
    pub const DOCKER_LAYER: MediaType = MediaType::fixed("application/vnd.docker.image.rootfs.diff.tar");

    const fn fixed(text: &'static str) -> Self {
        MediaType(std::borrow::Cow::Borrowed(text))
    }

    /// A media type from its text.
    pub fn new(text: impl Into<String>) -> Self {
        MediaType(std::borrow::Cow::Owned(text.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names a list of manifests, OCI's or Docker's.
    pub fn is_index(&self) -> bool {
        *self == Self::INDEX || *self == Self::DOCKER_LIST
    }

    /// Whether it names one image's manifest, OCI's or Docker's.
    pub fn is_manifest(&self) -> bool {
        *self == Self::MANIFEST || *self == Self::DOCKER_MANIFEST
    }

    /// The OCI name of a Docker layer type; others stay.
    pub fn to_oci_layer(&self) -> MediaType {
        if *self == Self::DOCKER_LAYER_GZIP {
            Self::LAYER_GZIP
        } else if *self == Self::DOCKER_LAYER {
            Self::LAYER
        } else {
            self.clone()
        }
    }
}

impl MediaType {
    /// Docker's name of an OCI type, where it has one; others stay.
    pub fn to_dockers(&self) -> MediaType {
        let pairs = [
            (Self::INDEX, Self::DOCKER_LIST),
            (Self::MANIFEST, Self::DOCKER_MANIFEST),
            (Self::CONFIG, Self::DOCKER_CONFIG),
            (Self::LAYER_GZIP, Self::DOCKER_LAYER_GZIP),
            (Self::LAYER, Self::DOCKER_LAYER),
        ];
        pairs.into_iter().find(|(oci, _)| oci == self).map_or_else(|| self.clone(), |(_, dockers)| dockers)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Points at a blob (image-spec, "OCI Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: MediaType,
    /// The SHA-256 of the blob.
    pub digest: Digest,
    /// Its size in bytes.
    #[serde(deserialize_with = "blob_size")]
    pub size: u64,
    /// Places to fetch foreign layers from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: the platform of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor of a blob of `size` bytes, with nothing else said.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// One image: its configuration and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MediaType::MANIFEST`] or Docker's; some writers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The configuration blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// Free-form facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Several manifests, one for each platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`MediaType::INDEX`] or Docker's list; some writers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The manifests, in order of preference.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// Free-form facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A layer's blob together with the identity of what it holds. Comes only from a finished writer, or
/// from a manifest and a configuration that were read together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
}

/// Go writes empty maps and lists as `null`.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
/// No blob is larger, and the sizes of all that one manifest can name do not exceed 64 bits together.
const LARGEST_BLOB_BYTES: u64 = 1 << 46;

fn blob_size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    match size <= LARGEST_BLOB_BYTES {
        true => Ok(size),
        false => Err(serde::de::Error::custom(format!("a blob of {size} bytes cannot be"))),
    }
}
