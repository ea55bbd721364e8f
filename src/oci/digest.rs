//! Digests of blobs and of layers, which must not be confused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::SerializableState as _;

use crate::busy;

/// The SHA-256 of some bytes, written `sha256:<64 hex digits>` (image-spec, "Digests").
///
/// Other algorithms of the specification are refused: no registry in use hands them out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no digest of the form sha256:<64 lower-case hex digits>")]
pub struct DigestError(pub String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// A digest from its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The tag of a repository under which the referrers of this manifest are (distribution-spec, "Referrers Tag Schema").
    pub fn referrers_tag(&self) -> String {
        format!("sha256-{}", self.hex())
    }

    /// The 64 hex digits without the algorithm: the file name in `blobs/sha256/`.
    pub fn hex(&self) -> String {
        let mut out = String::with_capacity(64);
        for byte in self.0 {
            out.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            out.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        }
        out
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.short())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let fail = || DigestError(text.to_owned());
        let hex = text.strip_prefix("sha256:").ok_or_else(fail)?.as_bytes();
        if hex.len() != 64 {
            return Err(fail());
        }
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(fail()),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A [`Hasher`] at rest, in the form of the `sha2` crate: chaining value, length and what does not fill a block.
pub type HasherState = [u8; 104];

/// SHA-256 of bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        busy::with("SHA-256", bytes.len(), || self.0.update(bytes));
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }

    /// What it is after everything added, to go on from later with [`Hasher::resume`].
    pub fn state(&self) -> HasherState {
        self.0.serialize().into()
    }

    /// A hasher that has seen what the one of [`Hasher::state`] had. `None`: these bytes are no state.
    pub fn resume(state: &HasherState) -> Option<Self> {
        sha2::Sha256::deserialize(state.into()).ok().map(Self)
    }
}

/// The digest of a layer's *uncompressed* tar (image-spec, "Layer DiffID"); never a blob's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a stack of layers (image-spec, "Layer ChainID"); [`ChainId::EMPTY`] is the empty stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The stack without layers. The specification gives it no identity; 32 zero bytes are no SHA-256 anyone has seen.
    pub const EMPTY: ChainId = ChainId(Digest([0; 32]));

    /// The stack with one more layer on top.
    pub fn push(self, layer: DiffId) -> ChainId {
        if self == Self::EMPTY {
            return ChainId(layer.0);
        }
        ChainId(Digest::of(format!("{} {}", self.0, layer.0).as_bytes()))
    }

    /// The stack of `layers`, lowest first.
    pub fn of(layers: &[DiffId]) -> ChainId {
        layers.iter().fold(Self::EMPTY, |chain, layer| chain.push(*layer))
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints() {
        let digest = Digest::of(b"hello");
        assert_eq!(
            digest.to_string(),
            "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "",
            "sha256:",
            "sha512:00",
            "sha256:zz",
            "2cf24dba5fb0a30e",
            &format!("sha256:{}", "A".repeat(64)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_hasher_goes_on_from_its_state() {
        let mut hasher = Hasher::new();
        hasher.update(b"hel");
        let mut resumed = Hasher::resume(&hasher.state()).expect("the state of a hasher is one");
        resumed.update(b"lo");
        assert_eq!(resumed.finish(), Digest::of(b"hello"));
        assert!(Hasher::resume(&[0xff; 104]).is_none());
    }

    #[test]
    fn chain_ids_follow_the_image_spec() {
        let a = DiffId(Digest::of(b"a"));
        let b = DiffId(Digest::of(b"b"));
        assert_eq!(ChainId::of(&[a]).0, a.0);
        let text = format!("{} {}", a.0, b.0);
        assert_eq!(ChainId::of(&[a, b]).0, Digest::of(text.as_bytes()));
    }
}
