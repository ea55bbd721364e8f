//! Keys of P-256 and ed25519, in PEM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{Signer as _, Verifier as _};
use p256::ecdsa;
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};

use super::encrypted;

/// A key that signs.
pub enum PrivateKey {
    /// ECDSA with SHA-256; signatures are DER.
    P256(Box<ecdsa::SigningKey>),
    /// Ed25519; signatures have 64 bytes.
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

/// A key that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// ECDSA with SHA-256.
    P256(Box<ecdsa::VerifyingKey>),
    /// Ed25519.
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no PEM, or of another kind.
    #[error("it is no {0} key in PEM of P-256 or ed25519")]
    Unknown(&'static str),
    /// It is encrypted, and no password is there.
    #[error("it is encrypted, and no password was given")]
    NoPassword,
    /// It is encrypted with another password, or damaged.
    #[error("the password is not the right one, or the key is damaged")]
    WrongPassword,
    /// It is encrypted in a way that is not known.
    #[error("it is encrypted in an unknown way: {0}")]
    Encryption(&'static str),
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a private key")
    }
}

impl PrivateKey {
    /// Reads PKCS #8, SEC 1 (`EC PRIVATE KEY`), or what cosign encrypts, with its password.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn parse(pem: &str, password: Option<&str>) -> Result<Self, KeyError> {
        if encrypted::is_encrypted(pem) {
            let der = encrypted::decrypt(pem, password.ok_or(KeyError::NoPassword)?)?;
            return Self::of_der(&der).ok_or(KeyError::Unknown("private"));
        }
        if let Ok(key) = p256::SecretKey::from_sec1_pem(pem) {
            return Ok(Self::P256(Box::new(key.into())));
        }
        if let Ok(key) = ecdsa::SigningKey::from_pkcs8_pem(pem) {
            return Ok(Self::P256(Box::new(key)));
        }
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(pem);
        key.map(|key| Self::Ed25519(Box::new(key))).map_err(|_| KeyError::Unknown("private"))
    }

    fn of_der(der: &[u8]) -> Option<Self> {
        if let Ok(key) = ecdsa::SigningKey::from_pkcs8_der(der) {
            return Some(Self::P256(Box::new(key)));
        }
        ed25519_dalek::SigningKey::from_pkcs8_der(der).ok().map(|key| Self::Ed25519(Box::new(key)))
    }

    /// Signs. The same message has the same signature (RFC 6979, RFC 8032).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
        }
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::P256(key) => PublicKey::P256(Box::new(*key.verifying_key())),
            Self::Ed25519(key) => PublicKey::Ed25519(Box::new(key.verifying_key())),
        }
    }
}

impl PublicKey {
    /// Reads `PUBLIC KEY`, as cosign and `openssl pkey -pubout` write it.
    ///
    /// # Errors
    /// [`KeyError::Unknown`]
    pub fn parse(pem: &str) -> Result<Self, KeyError> {
        let pem = pem.trim();
        if let Ok(key) = ecdsa::VerifyingKey::from_public_key_pem(pem) {
            return Ok(Self::P256(Box::new(key)));
        }
        let key = ed25519_dalek::VerifyingKey::from_public_key_pem(pem);
        key.map(|key| Self::Ed25519(Box::new(key))).map_err(|_| KeyError::Unknown("public"))
    }

    /// What a bundle calls it: the digest of the key as DER, in base64, as cosign has it.
    pub fn hint(&self) -> String {
        let der = match self {
            Self::P256(key) => key.to_public_key_der(),
            Self::Ed25519(key) => key.to_public_key_der(),
        };
        // What was read can be written.
        der.map(|der| STANDARD.encode(Sha256::digest(der.as_bytes()))).unwrap_or_default()
    }

    /// Whether its private key signed `message`.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => ecdsa::Signature::from_der(signature).is_ok_and(|signature| {
                // Others write either of the two values that are right.
                let signature = signature.normalize_s().unwrap_or(signature);
                key.verify(message, &signature).is_ok()
            }),
            Self::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    fn openssl(arguments: &[&str]) -> String {
        let out = Command::new("openssl").args(arguments).output().unwrap();
        assert!(out.status.success(), "{arguments:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// Keys and signatures that openssl makes and takes.
    #[test]
    fn keys_are_those_of_openssl() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for (kind, more) in [("EC", &["-pkeyopt", "ec_paramgen_curve:P-256"][..]), ("ED25519", &[])] {
            let private = openssl(&[&["genpkey", "-algorithm", kind], more].concat());
            std::fs::write(path("key"), &private).unwrap();
            let public = openssl(&["pkey", "-in", &path("key"), "-pubout"]);
            std::fs::write(path("pub"), &public).unwrap();
            let (signing, verifying) =
                (PrivateKey::parse(&private, None).unwrap(), PublicKey::parse(&public).unwrap());
            assert_eq!(signing.public(), verifying);
            std::fs::write(path("public"), &public).unwrap();
            let (pem, der) = (path("public"), path("der"));
            openssl(&["pkey", "-pubin", "-in", &pem, "-outform", "DER", "-out", &der]);
            assert_eq!(
                verifying.hint(),
                STANDARD.encode(Sha256::digest(std::fs::read(path("der")).unwrap()))
            );
            let signature = signing.sign(b"message");
            assert!(verifying.has_signed(b"message", &signature));
            assert!(
                !verifying.has_signed(b"other", &signature)
                    && !verifying.has_signed(b"message", b"no signature")
            );
            std::fs::write(path("message"), "message").unwrap();
            std::fs::write(path("signature"), &signature).unwrap();
            let (key, signature, message) = (path("pub"), path("signature"), path("message"));
            let mut check = vec![
                "pkeyutl", "-verify", "-pubin", "-inkey", &key, "-sigfile", &signature, "-in", &message,
                "-rawin",
            ];
            if kind == "EC" {
                check.extend(["-digest", "sha256"]);
            }
            assert!(openssl(&check).contains("Successfully"));
        }
        let sec1 = openssl(&["ecparam", "-genkey", "-noout", "-name", "prime256v1"]);
        assert!(sec1.contains("EC PRIVATE KEY") && PrivateKey::parse(&sec1, None).is_ok());
        let rsa = openssl(&["genpkey", "-algorithm", "RSA"]);
        assert_eq!(PrivateKey::parse(&rsa, None).unwrap_err(), KeyError::Unknown("private"));
        assert_eq!(PublicKey::parse("nothing").unwrap_err(), KeyError::Unknown("public"));
    }
}
