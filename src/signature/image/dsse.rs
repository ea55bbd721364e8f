//! Signed statements: envelopes of DSSE, which cosign's attestations are.
//!
//! Format: <https://github.com/secure-systems-lab/dsse/blob/master/envelope.md> and `protocol.md` there.

use base64::Engine as _;
use base64::alphabet::{STANDARD as ALPHABET, URL_SAFE};
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use super::{PrivateKey, PublicKey, Refused};

/// The media type of an envelope.
pub const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// What is in it, where it is a statement of in-toto.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// So many signatures in one envelope are looked at.
const MAX_SIGNATURES: usize = 16;

/// A document with signatures of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Signs a statement. The same statement has the same envelope.
    pub fn sign(statement: &[u8], key: &PrivateKey) -> Self {
        let signature =
            Signature { keyid: String::new(), sig: STANDARD.encode(key.sign(&signed(IN_TOTO, statement))) };
        Self {
            payload_type: IN_TOTO.to_owned(),
            payload: STANDARD.encode(statement),
            signatures: vec![signature],
        }
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The statement in an envelope that one of `keys` signed.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn verified(bytes: &[u8], keys: &[PublicKey]) -> Result<Vec<u8>, Refused> {
        let envelope: Self =
            serde_json::from_slice(bytes).map_err(|error| Refused::Envelope(error.to_string()))?;
        envelope.verify(keys)
    }

    /// The same of one that was read.
    pub(super) fn verify(&self, keys: &[PublicKey]) -> Result<Vec<u8>, Refused> {
        let payload = self.payload()?;
        let message = signed(&self.payload_type, &payload);
        let mut signatures = self.signatures.iter().take(MAX_SIGNATURES).filter_map(|one| decode(&one.sig));
        match signatures.any(|signature| keys.iter().any(|key| key.has_signed(&message, &signature))) {
            true => Ok(payload),
            false => Err(Refused::Key),
        }
    }

    /// The statement, whoever signed it.
    pub(super) fn payload(&self) -> Result<Vec<u8>, Refused> {
        let damaged = |why: String| Refused::Envelope(why);
        if self.payload_type != IN_TOTO {
            return Err(damaged(format!("it holds `{}`", self.payload_type)));
        }
        decode(&self.payload).ok_or_else(|| damaged("what it holds is not in base64".to_owned()))
    }
}

/// What is signed: the "pre-authentication encoding" of the protocol.
fn signed(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// Readers take both alphabets of base64.
fn decode(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = |alphabet| GeneralPurpose::new(alphabet, lenient);
    engine(&ALPHABET).decode(text).or_else(|_| engine(&URL_SAFE).decode(text)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n-----END PRIVATE KEY-----\n";

    #[test]
    fn what_is_signed_is_the_protocols_example() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(signed("http://example.com/HelloWorld", b"hello world"), expected);
    }

    #[test]
    fn only_what_a_key_signed_is_believed() {
        let key = PrivateKey::parse(KEY, None).unwrap();
        let other = KEY.replace("AQEB", "AgIC");
        let other = PrivateKey::parse(&other, None).map(|key| key.public());
        let envelope = Envelope::sign(b"{\"a\":1}", &key);
        let bytes = envelope.to_bytes();
        assert_eq!(Envelope::verified(&bytes, &[key.public()]).unwrap(), b"{\"a\":1}");
        if let Ok(other) = other {
            assert_eq!(Envelope::verified(&bytes, &[other]), Err(Refused::Key));
        }
        let changed = Envelope { payload: STANDARD.encode(b"{\"a\":2}"), ..envelope.clone() };
        assert_eq!(Envelope::verified(&changed.to_bytes(), &[key.public()]), Err(Refused::Key));
        let unsigned = Envelope { signatures: Vec::new(), ..envelope.clone() };
        assert_eq!(Envelope::verified(&unsigned.to_bytes(), &[key.public()]), Err(Refused::Key));
        // A signature in the other alphabet, without padding, behind one that is none.
        let urls = envelope.signatures[0].sig.replace('+', "-").replace('/', "_").replace('=', "");
        let signatures = ["?".to_owned(), urls].map(|sig| Signature { keyid: "k".to_owned(), sig });
        let several = Envelope { signatures: signatures.to_vec(), ..envelope.clone() };
        assert!(Envelope::verified(&several.to_bytes(), &[key.public()]).is_ok());
        for bad in [
            &b"no json"[..],
            b"{}",
            &Envelope { payload_type: "text/plain".to_owned(), ..envelope.clone() }.to_bytes(),
            &Envelope { payload: "???".to_owned(), ..envelope }.to_bytes(),
        ] {
            assert!(matches!(Envelope::verified(bad, &[key.public()]), Err(Refused::Envelope(_))));
        }
    }
}
