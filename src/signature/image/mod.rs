//! Signatures of images with keys, in the form of cosign's first signatures: a *simple signing* document that names the image by its
//! digest, and a signature of that document's bytes. skopeo, podman, cosign and admission controllers read it.
//!
//! Signed statements are in `dsse`, and documents with such a statement and all that it takes to verify it in `bundle`.
//!
//! Format: <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>. Where documents are kept is the affair of whoever calls.

mod bundle;
mod dsse;
mod encrypted;
mod keys;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::oci::Digest;

pub use bundle::{BUNDLE, Bundle, SIGNED, image_statement, is_bundle};
pub use dsse::{ENVELOPE, Envelope};
pub use keys::{KeyError, PrivateKey, PublicKey};

/// The media type of the document.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of its descriptor that has the signature, in base64.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What `critical.type` says.
const TYPE: &str = "cosign container image signature";

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    critical: Critical,
    #[serde(default)]
    optional: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Why a signature is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No key that is trusted made it.
    #[error("none of the keys that are trusted made it")]
    Key,
    /// Its document is none that is known.
    #[error("its document is no simple signing document: {0}")]
    Document(String),
    /// It is no envelope of a statement.
    #[error("it is no signed statement of in-toto: {0}")]
    Envelope(String),
    /// It is no bundle of a statement.
    #[error("it is no bundle of Sigstore with a statement: {0}")]
    Bundle(String),
    /// It is listed, and the registry does not give it.
    #[error("it cannot be had: {0}")]
    Lost(String),
    /// It is of another image.
    #[error("it is of {0}")]
    OtherImage(String),
}

impl Payload {
    /// About the image of this digest, under this name: repository with registry, without a tag.
    pub fn new(repository: &str, digest: &Digest, optional: BTreeMap<String, String>) -> Self {
        let values = optional.into_iter().map(|(key, value)| (key, value.into()));
        let optional: BTreeMap<String, serde_json::Value> = values.collect();
        Self {
            critical: Critical {
                identity: Identity { docker_reference: repository.to_owned() },
                image: Image { digest: digest.to_string() },
                kind: TYPE.to_owned(),
            },
            optional: Some(optional).filter(|optional| !optional.is_empty()),
        }
    }

    /// The bytes that are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what was signed, and checks that one of `keys` signed it and that it is about `digest`.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn verified(
        bytes: &[u8],
        signature: &[u8],
        keys: &[PublicKey],
        digest: &Digest,
    ) -> Result<Self, Refused> {
        if !keys.iter().any(|key| key.has_signed(bytes, signature)) {
            return Err(Refused::Key);
        }
        let payload: Self =
            serde_json::from_slice(bytes).map_err(|error| Refused::Document(error.to_string()))?;
        if payload.critical.kind != TYPE {
            return Err(Refused::Document(format!("its type is `{}`", payload.critical.kind)));
        }
        match payload.critical.image.digest == digest.to_string() {
            true => Ok(payload),
            false => Err(Refused::OtherImage(payload.critical.image.digest)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_document_is_cosigns() {
        let digest = Digest::of(b"image");
        let payload = Payload::new("registry.example.org/app", &digest, BTreeMap::new());
        let text = String::from_utf8(payload.to_bytes()).unwrap();
        assert_eq!(
            text,
            format!(
                "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"registry.example.org/app\"}},\
                 \"image\":{{\"docker-manifest-digest\":\"{digest}\"}},\"type\":\"cosign container image signature\"}},\"optional\":null}}"
            )
        );
    }
}
