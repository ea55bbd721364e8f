//! Signatures with keys of OpenSSH, in the form of `ssh-keygen -Y` (PROTOCOL.sshsig): whoever has that program can check what rbuild
//! signed, and sign what rbuild checks.
//!
//! A signature is for a *namespace*, which says what kind of thing was signed, so that it proves nothing elsewhere. Keys are ed25519.
//! What is signed, and where signatures are kept, is the affair of whoever calls. No agent is asked and no certificate is believed.

pub mod image;
mod signers;

use std::fmt;
use std::path::{Path, PathBuf};

use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

pub use signers::Signers;

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no key to sign with.
    #[error("`{}` is no key to sign with: {reason}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// In words.
        reason: &'static str,
    },
    /// A line is no key to verify with.
    #[error("`{}`, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From one.
        line: usize,
        /// In words.
        reason: &'static str,
    },
}

/// Why a signature is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no signature.
    #[error("its signature cannot be read")]
    Unreadable,
    /// Nobody trusts the key, for this namespace or at that time.
    #[error("the key that signed it is none of those that are trusted")]
    Unknown,
    /// Something else was signed.
    #[error("its signature is not of what is there")]
    Wrong,
}

/// A private key.
pub struct SigningKey(PrivateKey);

impl SigningKey {
    /// Reads a key that `ssh-keygen -t ed25519` made, without a passphrase.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NoKey`]
    pub fn read(path: &Path) -> Result<Self, Error> {
        let no_key = |reason| Error::NoKey { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let key = PrivateKey::from_openssh(&bytes).map_err(|_| no_key("it is no private key of OpenSSH"))?;
        match (key.is_encrypted(), key.algorithm()) {
            (true, _) => Err(no_key("it has a passphrase, and nobody is there to type it")),
            (false, Algorithm::Ed25519) => Ok(Self(key)),
            (false, _) => Err(no_key("only ed25519 is supported (`ssh-keygen -t ed25519`)")),
        }
    }

    /// Signs, as `ssh-keygen -Y sign -n NAMESPACE` does.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> Result<String, Refused> {
        let signature = self.0.sign(namespace, HashAlg::Sha512, message).map_err(|_| Refused::Wrong)?;
        signature.to_pem(LineEnding::LF).map_err(|_| Refused::Unreadable)
    }

    /// Whether this key signed `message`.
    pub fn has_signed(&self, namespace: &str, message: &[u8], signature: &str) -> bool {
        let signature = SshSig::from_pem(signature);
        signature.is_ok_and(|signature| verify(self.0.public_key(), namespace, message, &signature).is_ok())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", fingerprint(self.0.public_key()))
    }
}

/// Whose signature it says that it is, as `ssh-keygen -l` prints it; nothing is verified.
pub fn claimed(signature: &str) -> Option<String> {
    let signature = SshSig::from_pem(signature).ok()?;
    Some(fingerprint(&PublicKey::from(signature.public_key().clone())))
}

/// Whether the key that a signature names made it, whoever's it is.
pub fn is_sound(namespace: &str, message: &[u8], signature: &str) -> bool {
    let Ok(signature) = SshSig::from_pem(signature) else { return false };
    let key = PublicKey::from(signature.public_key().clone());
    key.algorithm() == Algorithm::Ed25519 && verify(&key, namespace, message, &signature).is_ok()
}

fn verify(key: &PublicKey, namespace: &str, message: &[u8], signature: &SshSig) -> Result<(), Refused> {
    key.verify(namespace, message, signature).map_err(|_| Refused::Wrong)
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

#[cfg(test)]
mod tests;
