//! An agent of key files.

use std::path::{Path, PathBuf};

use rsa::pkcs1v15::SigningKey;
use rsa::rand_core::{CryptoRngCore, OsRng};
use rsa::sha2::{Sha256, Sha512};
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Signer as _};
use rsa::{BigUint, RsaPrivateKey};
use ssh_key::private::{KeypairData, RsaKeypair};
use ssh_key::{Mpint, PrivateKey};

use super::AgentError;
use super::protocol::{
    IDENTITIES_ANSWER, LONGEST_BYTES, RSA_SHA2_256, RSA_SHA2_512, Request, SIGN_RESPONSE, parse, put,
};

/// A larger file is no key.
const LARGEST_BYTES: u64 = 1 << 20;

/// A private key, and its public half as the protocol has it.
struct Key {
    private: PrivateKey,
    public: Vec<u8>,
}

/// See the module.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Reads keys in OpenSSH's format, without passphrase.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, AgentError> {
        let keys: Result<Vec<Key>, AgentError> = paths
            .iter()
            .map(|path| load(path).map_err(|reason| AgentError::Key { path: path.clone(), reason }))
            .collect();
        let keys = Self(keys?);
        let size = keys.identities().len();
        if size > LONGEST_BYTES as usize { Err(AgentError::TooMany(size)) } else { Ok(keys) }
    }

    /// The answer to a request; `None` is a refusal.
    pub(super) fn answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        match parse(request)? {
            Request::Identities => Some(self.identities()),
            Request::Sign { public, data, flags } => {
                let key = self.0.iter().find(|key| key.public == public)?;
                let signature = match key.private.key_data() {
                    KeypairData::Rsa(pair) => sign_with_rsa(pair, data, flags, &mut OsRng)?,
                    _ => sign(&key.private, data)?,
                };
                let mut answer = vec![SIGN_RESPONSE];
                put(&mut answer, &signature);
                Some(answer)
            }
        }
    }

    fn identities(&self) -> Vec<u8> {
        let mut answer = vec![IDENTITIES_ANSWER];
        answer.extend((self.0.len() as u32).to_be_bytes());
        for key in &self.0 {
            put(&mut answer, &key.public);
            put(&mut answer, key.private.comment().as_bytes());
        }
        answer
    }
}

fn sign(key: &PrivateKey, data: &[u8]) -> Option<Vec<u8>> {
    Vec::try_from(key.try_sign(data).ok()?).ok()
}

/// SHA-1, which no flag asks for, is out of date. The private operation works on a number that `random` blinds: how long
/// it takes tells a step nothing of the key (RUSTSEC-2023-0071).
pub(super) fn sign_with_rsa(
    pair: &RsaKeypair,
    data: &[u8],
    flags: u32,
    random: &mut impl CryptoRngCore,
) -> Option<Vec<u8>> {
    let number = |number: &Mpint| number.as_positive_bytes().map(BigUint::from_bytes_be);
    let (public, private) = (&pair.public, &pair.private);
    let primes = vec![number(&private.p)?, number(&private.q)?];
    let key =
        RsaPrivateKey::from_components(number(&public.n)?, number(&public.e)?, number(&private.d)?, primes);
    let key = key.ok()?;
    let (name, signature) = if flags & RSA_SHA2_512 != 0 {
        ("rsa-sha2-512", SigningKey::<Sha512>::new(key).try_sign_with_rng(random, data).ok()?.to_vec())
    } else if flags & RSA_SHA2_256 != 0 {
        ("rsa-sha2-256", SigningKey::<Sha256>::new(key).try_sign_with_rng(random, data).ok()?.to_vec())
    } else {
        return None;
    };
    let mut blob = Vec::new();
    put(&mut blob, name.as_bytes());
    put(&mut blob, &signature);
    Some(blob)
}

fn load(path: &Path) -> Result<Key, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LARGEST_BYTES {
        return Err(format!("it has {size} bytes"));
    }
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    if text.starts_with(b"-----BEGIN ") && !text.starts_with(b"-----BEGIN OPENSSH ") {
        return Err("it is not in OpenSSH's format; `ssh-keygen -p -f FILE` rewrites it".into());
    }
    let private = PrivateKey::from_openssh(text).map_err(|error| error.to_string())?;
    if private.is_encrypted() {
        return Err(
            "it has a passphrase; add it to your agent with `ssh-add`, and give `--ssh default`".into()
        );
    }
    let public = private.public_key().to_bytes().map_err(|error| error.to_string())?;
    Ok(Key { private, public })
}
