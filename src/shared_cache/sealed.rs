//! What is kept as a head, or beside it: packs of several writers, each with the signature of who wrote it.
//!
//! One pack without a signature is kept as it is. Several, and those with signatures, follow each other:
//!
//! ```text
//! rbuild-packs 1
//! [{"size":N,"time":T,"signature":"-----BEGIN SSH SIGNATURE-----…"},{"size":N}]
//! the bytes of the packs, one after the other
//! ```
//!
//! What is signed is a [`statement`]. A reader believes all packs, or those of the keys that it is given, and merges them in memory.
//! A writer merges only into packs of its own, and leaves those of others as they are: so nobody signs what somebody else found out.

use serde::{Deserialize, Serialize};

use super::backend::Error;
use super::merge::merge;
use super::pack::{COMPRESSED_LIMIT, LIMIT, Pack, without_checksum};
use crate::clock;
use crate::oci::{Descriptor, Digest, Seconds, rfc3339};
use crate::signature::{self, Refused, Signers, SigningKey};

/// For which kind of thing the keys sign.
pub const NAMESPACE: &str = "cache@rbuild";
const FIRST_LINE: &[u8] = b"rbuild-packs 1\n";
/// Packs in one head.
const MOST: usize = 256;

/// Whose packs are believed.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Trust {
    /// Everybody's who can write there.
    #[default]
    Anybody,
    /// Those that one of these keys signed.
    Signers(Signers),
}

/// Packs, and who signed them.
#[derive(Debug, Clone, Default)]
pub struct Sealed {
    parts: Vec<Part>,
}

/// A pack as its writer left it.
#[derive(Debug, Clone)]
struct Part {
    bytes: Vec<u8>,
    pack: Pack,
    seal: Option<Seal>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seal {
    time: Seconds,
    signature: String,
}

/// As written before the packs.
#[derive(Serialize, Deserialize)]
struct Line {
    size: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<Seconds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

/// The text that is signed for a pack: where it lies, when it was signed, and its bytes by their digest. These name layers, indexes
/// and all else by digest in turn.
pub fn statement(place: &str, time: Seconds, pack: &[u8]) -> String {
    format!("rbuild shared cache 1\nplace: {place}\ntime: {}\npack: {}\n", rfc3339(time), Digest::of(pack))
}

impl Sealed {
    /// A pack of one writer, signed if there is a key. `place` is [`Backend::place`](super::Backend::place).
    pub fn new(pack: &Pack, key: Option<&SigningKey>, place: &str) -> Result<Self, Error> {
        let bytes = pack.to_bytes();
        let time = clock::now();
        let seal = |key: &SigningKey| -> Result<Seal, Refused> {
            let signature = key.sign(NAMESPACE, statement(place, time, &bytes).as_bytes())?;
            Ok(Seal { time, signature })
        };
        let seal =
            key.map(seal).transpose().map_err(|e| Error::Server(format!("it cannot be signed: {e}")))?;
        Ok(Self { parts: vec![Part { bytes, pack: pack.clone(), seal }] })
    }

    /// As [`Sealed::parse`] for somebody who writes it anew: of what is damaged nothing is left. What another version wrote is none of
    /// our business.
    ///
    /// # Errors
    /// [`Error::NoPack`]
    pub(super) fn parse_whole(bytes: &[u8]) -> Result<Self, Error> {
        let is_whole = !bytes.starts_with(FIRST_LINE) && without_checksum(bytes).is_some();
        Self::parse(bytes).or_else(|error| if is_whole { Err(error) } else { Ok(Self::default()) })
    }

    /// What [`Sealed::to_bytes`] gave. Nothing is verified.
    ///
    /// # Errors
    /// [`Error::NoPack`]
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::NoPack("its packs are damaged".to_owned());
        let Some(rest) = bytes.strip_prefix(FIRST_LINE) else {
            let pack = Pack::parse(bytes).map_err(Error::NoPack)?;
            return Ok(Self { parts: vec![Part { bytes: bytes.to_vec(), pack, seal: None }] });
        };
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
        let (head, mut rest) = (&rest[..end], &rest[end + 1..]);
        let lines: Vec<Line> = serde_json::from_slice(head).map_err(|_| damaged())?;
        let (mut parts, mut limit) = (Vec::new(), LIMIT);
        for Line { size, time, signature } in lines.into_iter().take(MOST) {
            let (bytes, more) = rest.split_at_checked(size).ok_or_else(damaged)?;
            rest = more;
            // One writer's damage, or newer version, is not the others', and stays as it is.
            let pack = Pack::parse_within(bytes, &mut limit).unwrap_or_default();
            let seal = time.zip(signature).map(|(time, signature)| Seal { time, signature });
            parts.push(Part { bytes: bytes.to_vec(), pack, seal });
        }
        Ok(Self { parts })
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        if let [Part { bytes, seal: None, .. }] = self.parts.as_slice() {
            return bytes.clone();
        }
        let line = |part: &Part| Line {
            size: part.bytes.len(),
            time: part.seal.as_ref().map(|seal| seal.time),
            signature: part.seal.as_ref().map(|seal| seal.signature.clone()),
        };
        let lines: Vec<Line> = self.parts.iter().map(line).collect();
        let mut bytes = FIRST_LINE.to_vec();
        bytes.extend(serde_json::to_vec(&lines).expect("numbers and texts"));
        bytes.push(b'\n');
        self.parts.iter().for_each(|part| bytes.extend(&part.bytes));
        bytes
    }

    /// All packs that are believed, as one. Gives also what is wrong with the others, if any were left out.
    pub fn believed(&self, trust: &Trust, place: &str) -> (Pack, Option<String>) {
        let mut wrong = None;
        let mut pack = Pack::default();
        for part in &self.parts {
            match part.refused(trust, place) {
                None => pack = merge(pack, part.pack.clone()),
                Some(why) => wrong = Some(why),
            }
        }
        (pack, wrong)
    }

    /// The packs of one writer, as one: those that `key` signed, or those without a signature.
    pub fn of(&self, key: Option<&SigningKey>, place: &str) -> Pack {
        let own = self.parts.iter().filter(|part| part.is_of(key, place));
        own.fold(Pack::default(), |pack, part| merge(pack, part.pack.clone()))
    }

    /// The packs of others, untouched.
    #[must_use]
    pub fn without(mut self, key: Option<&SigningKey>, place: &str) -> Self {
        self.parts.retain(|part| !part.is_of(key, place));
        self
    }

    /// Adds the packs of `other`. Signatures that are not what they say they are bring nothing.
    pub fn add(&mut self, other: Self, place: &str) {
        for part in other.parts {
            let is_known =
                self.parts.iter().any(|known| known.bytes == part.bytes && known.seal == part.seal);
            let room: usize = self.parts.iter().map(|part| part.bytes.len()).sum();
            let fits = self.parts.len() < MOST && (room + part.bytes.len()) as u64 <= COMPRESSED_LIMIT / 2;
            if !is_known && fits && part.is_sound(place) {
                self.parts.push(part);
            }
        }
    }

    /// Puts the packs of `own` at the end.
    pub fn push(&mut self, own: Self) {
        self.parts.extend(own.parts);
    }

    /// All blobs that its packs name, each once.
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut seen = std::collections::BTreeSet::new();
        let all = self.parts.iter().flat_map(|part| part.pack.blobs());
        all.filter(|blob| seen.insert(blob.digest)).collect()
    }

    /// Packs beside the head that are in it.
    pub fn folded(&self) -> std::collections::BTreeSet<String> {
        self.parts.iter().flat_map(|part| part.pack.folded.iter().cloned()).collect()
    }

    /// For each record of its packs who signed it, as they say.
    pub fn claims(&self) -> impl Iterator<Item = (&Pack, Option<String>)> {
        self.parts
            .iter()
            .map(|part| (&part.pack, part.seal.as_ref().and_then(|seal| signature::claimed(&seal.signature))))
    }
}

impl Part {
    fn statement(&self, place: &str, seal: &Seal) -> String {
        statement(place, seal.time, &self.bytes)
    }

    /// Why it is not believed.
    fn refused(&self, trust: &Trust, place: &str) -> Option<String> {
        let Trust::Signers(signers) = trust else { return None };
        let Some(seal) = &self.seal else { return Some("it is not signed".to_owned()) };
        let statement = self.statement(place, seal);
        let checked = signers.check(NAMESPACE, statement.as_bytes(), seal.time, &seal.signature);
        checked.err().map(|error| error.to_string())
    }

    fn is_of(&self, key: Option<&SigningKey>, place: &str) -> bool {
        match (key, &self.seal) {
            (None, None) => true,
            (Some(key), Some(seal)) => {
                key.has_signed(NAMESPACE, self.statement(place, seal).as_bytes(), &seal.signature)
            }
            _ => false,
        }
    }

    fn is_sound(&self, place: &str) -> bool {
        self.seal.as_ref().is_none_or(|seal| {
            signature::is_sound(NAMESPACE, self.statement(place, seal).as_bytes(), &seal.signature)
        })
    }
}
