//! What is said to a pod, and what it answers: frames on the standard input and output of a program there.
//!
//! ```text
//! kind (1 byte), size (4, big-endian), bytes
//! ```
//!
//! | asked | answered |
//! |---|---|
//! | `H` | `h` [`Hello`] |
//! | `M` names | `m` names that are not there |
//! | `P`, `D` pieces, `E` | `p` |
//! | `R` [`Run`] | `r` |
//! | `F` a place in the log | `l` pieces of the log from there, empty ones while nothing is said, `c` [`Done`] |
//! | `G` [`Get`] | `d` pieces, `g` |
//!
//! Instead of any answer there may be `x` with words, after which the program goes on. Names are 40 bytes each: SHA-256, and the size
//! in eight, big-endian. Pieces of `D` are one zstd stream of blobs, each behind its name.

use serde::{Deserialize, Serialize};

use crate::oci::Digest;
use crate::reapi::Blob;

/// Of what is said; a pod with another one is not used.
pub(super) const VERSION: u32 = 2;
/// A frame's bytes are fewer.
pub(super) const LIMIT: usize = 64 << 20;
/// Pieces are of that size.
pub(super) const PIECE: usize = 128 << 10;
/// Bytes of a name.
pub(super) const NAME: usize = 40;
const HEADER: usize = 5;

/// What a pod says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    /// rbuild's.
    pub(super) rbuild: String,
}

/// What is to be run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    /// rbuild's arguments.
    pub(super) words: Vec<String>,
    /// Where each file lies, and its name.
    pub(super) files: Vec<(String, String, u64)>,
    /// The folder whose files are the result.
    pub(super) output: Option<String>,
    /// It is ended after so many seconds.
    pub(super) timeout: Option<u64>,
}

/// How it ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) code: i32,
    pub(super) is_late: bool,
    /// The pod was told to end, and ended it.
    pub(super) is_stopped: bool,
    /// What killed it, if something did.
    pub(super) signal: Option<i32>,
    pub(super) took_ms: u64,
    /// The files of the result, each with its size.
    pub(super) files: Vec<(String, u64)>,
    /// What it printed, and is no log.
    pub(super) printed: Vec<u8>,
}

/// A file of the result.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Get {
    pub(super) path: String,
}

/// A frame as bytes.
pub(super) fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + bytes.len());
    out.push(kind);
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
    out
}

/// Frames out of bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// The next one that is whole; `Err` when it cannot be one.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, ()> {
        let Some((header, rest)) = self.0.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, size @ ..] = *header;
        let size = u32::from_be_bytes(size) as usize;
        if size > LIMIT {
            return Err(());
        }
        let Some(bytes) = rest.get(..size) else { return Ok(None) };
        let bytes = bytes.to_vec();
        self.0.drain(..HEADER + size);
        Ok(Some((kind, bytes)))
    }
}

/// Names as bytes.
pub(super) fn names(blobs: impl IntoIterator<Item = Blob>) -> Vec<u8> {
    blobs.into_iter().flat_map(name).collect()
}

pub(super) fn name(blob: Blob) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    bytes[..32].copy_from_slice(blob.digest.as_bytes());
    bytes[32..].copy_from_slice(&blob.size.to_be_bytes());
    bytes
}

/// Bytes as names; `None` when they are none.
pub(super) fn named(bytes: &[u8]) -> Option<Vec<Blob>> {
    let (names, rest) = bytes.as_chunks::<NAME>();
    rest.is_empty().then(|| names.iter().map(blob).collect())
}

pub(super) fn blob(name: &[u8; NAME]) -> Blob {
    let (mut digest, mut size) = ([0; 32], [0; 8]);
    digest.copy_from_slice(&name[..32]);
    size.copy_from_slice(&name[32..]);
    Blob { digest: Digest::from_bytes(digest), size: u64::from_be_bytes(size) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn frames_and_names_come_as_they_went() {
        let blobs = [Blob::of(b"a"), Blob::of(b"")];
        let bytes = names(blobs);
        assert_eq!(named(&bytes).unwrap(), blobs);
        assert!(named(&bytes[1..]).is_none());
        let all = [frame(b'M', &bytes), frame(b'E', b"")].concat();
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for byte in all {
            frames.push(&[byte]);
            found.extend(frames.next().unwrap());
        }
        assert_eq!(found, [(b'M', bytes), (b'E', Vec::new())]);
        frames.push(&[b'D', 0xff, 0, 0, 0]);
        assert!(frames.next().is_err());
    }
}
