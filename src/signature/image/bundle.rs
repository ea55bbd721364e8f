//! Sigstore's bundles: a signed statement in one document, with what is needed to find its key. cosign 3 looks for nothing else.
//!
//! Format: <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>, as JSON, and
//! <https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md>. Bundles that were signed with an identity, with a certificate and
//! entries of a log, are read like the others, and believed only if a key that is trusted signed them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dsse::Envelope;
use super::{PrivateKey, PublicKey, Refused};
use crate::oci::Digest;

/// The media type of a bundle, as it is written.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What those of all versions begin with.
const ANY: &str = "application/vnd.dev.sigstore.bundle";
/// What a statement says that signs an image, as cosign 3 has it.
pub const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// What kind of statement it is.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// Whether a media type, or the type of an artifact, is that of bundles.
pub fn is_bundle(media_type: &str) -> bool {
    media_type.starts_with(ANY)
}

/// A signed statement, and which key signed it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    media_type: String,
    #[serde(default, skip_deserializing)]
    verification_material: Material,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dsse_envelope: Option<Envelope>,
}

/// What says which key it is; whoever reads it tries all that are trusted.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Hint,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Hint {
    hint: String,
}

impl Bundle {
    /// Signs a statement. The same statement has the same bundle.
    pub fn sign(statement: &[u8], key: &PrivateKey) -> Self {
        Self {
            media_type: BUNDLE.to_owned(),
            verification_material: Material { public_key: Hint { hint: key.public().hint() } },
            dsse_envelope: Some(Envelope::sign(statement, key)),
        }
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The statement in a bundle that one of `keys` signed.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn verified(bytes: &[u8], keys: &[PublicKey]) -> Result<Vec<u8>, Refused> {
        Self::envelope(bytes)?.verify(keys)
    }

    /// The statement in a bundle, whoever signed it.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn statement(bytes: &[u8]) -> Result<Vec<u8>, Refused> {
        Self::envelope(bytes)?.payload()
    }

    fn envelope(bytes: &[u8]) -> Result<Envelope, Refused> {
        let damaged = |why: String| Refused::Bundle(why);
        let bundle: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if !is_bundle(&bundle.media_type) {
            return Err(damaged(format!("its media type is `{}`", bundle.media_type)));
        }
        bundle.dsse_envelope.ok_or_else(|| damaged("it holds no statement".to_owned()))
    }
}

/// The statement by which the image of this digest is signed.
pub fn image_statement(digest: &Digest, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    let mut subject = json!({ "digest": { "sha256": digest.hex() } });
    if !annotations.is_empty() {
        subject["annotations"] = json!(annotations);
    }
    let statement =
        json!({ "_type": STATEMENT, "subject": [subject], "predicateType": SIGNED, "predicate": {} });
    statement.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n-----END PRIVATE KEY-----\n";

    #[test]
    fn only_what_a_key_signed_is_believed() {
        let key = PrivateKey::parse(KEY, None).unwrap();
        let bytes = Bundle::sign(b"{\"a\":1}", &key).to_bytes();
        assert_eq!(Bundle::verified(&bytes, &[key.public()]).unwrap(), b"{\"a\":1}");
        assert_eq!(Bundle::verified(&bytes, &[]), Err(Refused::Key));
        assert_eq!(Bundle::statement(&bytes).unwrap(), b"{\"a\":1}");
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let hint = document["verificationMaterial"]["publicKey"]["hint"].as_str().unwrap();
        assert_eq!(hint, key.public().hint());
        let changed = |path: &str, value: serde_json::Value| {
            let mut document = document.clone();
            *document.pointer_mut(path).unwrap() = value;
            Bundle::verified(document.to_string().as_bytes(), &[key.public()])
        };
        // Of an older version, with material of another kind.
        let older = json!("application/vnd.dev.sigstore.bundle+json;version=0.2");
        assert!(changed("/mediaType", older).is_ok());
        assert!(changed("/verificationMaterial", json!({"certificate": {"rawBytes": "AA=="}})).is_ok());
        assert_eq!(changed("/dsseEnvelope/payload", json!("eyJhIjoyfQ==")), Err(Refused::Key));
        for (path, value) in [("/mediaType", json!("text/plain")), ("/dsseEnvelope", json!(null))] {
            assert!(matches!(changed(path, value), Err(Refused::Bundle(_))), "{path}");
        }
        assert!(matches!(Bundle::verified(b"no json", &[]), Err(Refused::Bundle(_))));
    }
}
