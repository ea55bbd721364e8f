//! Private keys as cosign keeps them: PKCS #8, encrypted with a password (scrypt, and NaCl's secretbox), as JSON in PEM.
//!
//! Format: <https://github.com/sigstore/sigstore/blob/main/pkg/cryptoutils/password.go> and `encrypted/encrypted.go` of
//! go-securesystemslib.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305};
use serde::Deserialize;

use super::KeyError;

/// The names of the PEM block.
const LABELS: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
/// What scrypt may cost: 1 GiB (cosign asks for 64 MiB).
const MAX_LOG_N: u8 = 20;
const MAX_R: u32 = 8;
const MAX_P: u32 = 4;

#[derive(Deserialize)]
struct Document {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Whether a PEM is such a key.
pub(super) fn is_encrypted(pem: &str) -> bool {
    LABELS.iter().any(|label| pem.contains(&format!("-----BEGIN {label}-----")))
}

/// The key as PKCS #8 in DER.
pub(super) fn decrypt(pem: &str, password: &str) -> Result<Vec<u8>, KeyError> {
    let damaged = || KeyError::Encryption("it is damaged");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let json = STANDARD.decode(body).map_err(|_| damaged())?;
    let Document { kdf, cipher, ciphertext } = serde_json::from_slice(&json).map_err(|_| damaged())?;
    if kdf.name != "scrypt" {
        return Err(KeyError::Encryption("not with scrypt"));
    }
    if cipher.name != "nacl/secretbox" {
        return Err(KeyError::Encryption("not with nacl/secretbox"));
    }
    let Params { n, r, p } = kdf.params;
    let log_n = n.trailing_zeros() as u8;
    if !n.is_power_of_two() || !(1..=MAX_LOG_N).contains(&log_n) || r > MAX_R || p > MAX_P {
        return Err(KeyError::Encryption("with parameters that cost too much"));
    }
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| damaged());
    let (salt, nonce, sealed) = (bytes(&kdf.salt)?, bytes(&cipher.nonce)?, bytes(&ciphertext)?);
    let nonce: [u8; 24] = nonce.try_into().map_err(|_| damaged())?;
    let params = scrypt::Params::new(log_n, r, p, 32)
        .map_err(|_| KeyError::Encryption("with parameters that cannot be"))?;
    let mut key = [0; 32];
    scrypt::scrypt(password.as_bytes(), &salt, &params, &mut key).map_err(|_| damaged())?;
    let opened = XSalsa20Poly1305::new(&key.into()).decrypt(&nonce.into(), sealed.as_slice());
    opened.map_err(|_| KeyError::WrongPassword)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use p256::pkcs8::DecodePrivateKey as _;

    use super::*;

    /// Sealed as cosign does it, with cheaper parameters.
    fn sealed(n: u64) -> String {
        let der = STANDARD
            .decode(
                "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQGhRANCAARv8DsU5F/UXqRG\
                 Ph6M2BSsUSuPhOPYxpW2g3+nR1Dvb4t0WqUGpcvS3L3HpUZvBsJcsTuJDhQKlrTKY9IdNgBR",
            )
            .unwrap();
        let mut key = [0; 32];
        scrypt::scrypt(b"secret", b"salt", &scrypt::Params::new(4, 8, 1, 32).unwrap(), &mut key).unwrap();
        let nonce = [7; 24];
        let text = XSalsa20Poly1305::new(&key.into()).encrypt(&nonce.into(), der.as_slice()).unwrap();
        let json = serde_json::json!({
            "kdf": {"name": "scrypt", "params": {"N": n, "r": 8, "p": 1}, "salt": STANDARD.encode("salt")},
            "cipher": {"name": "nacl/secretbox", "nonce": STANDARD.encode(nonce)},
            "ciphertext": STANDARD.encode(text),
        });
        let label = LABELS[0];
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(json.to_string()))
    }

    #[test]
    fn opens_with_the_password_only() {
        assert!(is_encrypted(&sealed(16)));
        let opened = decrypt(&sealed(16), "secret").unwrap();
        assert!(opened.starts_with(&[0x30, 0x81, 0x87]));
        let _ = p256::SecretKey::from_pkcs8_der(&opened);
        assert_eq!(decrypt(&sealed(16), "other"), Err(KeyError::WrongPassword));
        for bad in [0, 3, 1 << 40] {
            assert!(matches!(decrypt(&sealed(bad), "secret"), Err(KeyError::Encryption(_))), "{bad}");
        }
    }
}
