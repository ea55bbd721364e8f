//! Remembers the compressed segments of layers, so that what did not change is not compressed again.
//!
//! A segment is known by the hash of its bytes and of the encoder: the same bytes always compress to the same, so a
//! layer that takes segments from an earlier one has the same bytes as one that was compressed as a whole. The
//! compressed bytes are not kept a second time: they are a part of the earlier layer's blob.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::layer::compress::Compression;

const MAGIC: &[u8; 8] = b"rbsegm\0\x01";
const RECORD_BYTES: usize = 32 + 8;

/// Segments of a layer in their order, as far as they can be used again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segments {
    list: Vec<Written>,
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// See [`identify`].
    pub(super) id: [u8; 32],
    /// How many bytes of the blob it became.
    pub(super) packed_bytes: u64,
}

/// What a segment is known by: its bytes, and how they are compressed.
pub(super) fn identify(compression: Compression, raw: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let encoder = compression.encoder();
    hasher.update(&(encoder.len() as u64).to_le_bytes());
    hasher.update(encoder.as_bytes());
    hasher.update(raw);
    *hasher.finalize().as_bytes()
}

impl Segments {
    pub(super) fn push(&mut self, segment: Written) {
        self.list.push(segment);
    }

    /// Whether there is nothing to be used again.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The file form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.list.len() * RECORD_BYTES);
        for Written { id, packed_bytes } in &self.list {
            body.extend_from_slice(id);
            body.extend_from_slice(&packed_bytes.to_le_bytes());
        }
        [MAGIC.as_slice(), blake3::hash(&body).as_bytes(), &body].concat()
    }

    /// Reads the file form; `None` for anything else, also for a file that was cut off.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (checksum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
        if body.len() % RECORD_BYTES != 0 || blake3::hash(body).as_bytes() != checksum {
            return None;
        }
        let record = |bytes: &[u8]| {
            let (id, len) = bytes.split_first_chunk::<32>()?;
            Some(Written { id: *id, packed_bytes: u64::from_le_bytes(*len.first_chunk()?) })
        };
        let list = body.chunks_exact(RECORD_BYTES).map(record).collect::<Option<_>>()?;
        Some(Self { list })
    }
}

/// The segments of an earlier layer and its blob, which the caller has found to be whole.
#[derive(Debug)]
pub struct Remembered {
    blob: File,
    /// Where each lies in the blob: first byte and number of bytes.
    places: HashMap<[u8; 32], (u64, u64)>,
}

impl Remembered {
    /// `segments` are those of `blob`.
    pub fn new(blob: File, segments: &Segments) -> Self {
        let mut at = 0;
        let place = |segment: &Written| {
            at += segment.packed_bytes;
            (segment.id, (at - segment.packed_bytes, segment.packed_bytes))
        };
        Self { blob, places: segments.list.iter().map(place).collect() }
    }

    /// Reads the compressed form of a segment to the start of `packed`, which grows as needed, and gives its length.
    /// `None` when there is none, or when it cannot be read: then it is compressed.
    pub(super) fn fetch(&self, id: &[u8; 32], packed: &mut Vec<u8>) -> Option<usize> {
        let (offset, len) = *self.places.get(id)?;
        let len = usize::try_from(len).ok()?;
        if packed.len() < len {
            packed.resize(len, 0);
        }
        self.blob.read_exact_at(&mut packed[..len], offset).ok()?;
        Some(len)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_file_form_comes_back_and_damage_is_found() {
        let list = (0..5).map(|at| Written { id: [at; 32], packed_bytes: u64::from(at) * 1000 }).collect();
        let segments = Segments { list };
        let bytes = segments.to_bytes();
        assert_eq!(Segments::from_bytes(&bytes), Some(segments));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Segments::from_bytes(&damaged), None, "byte {at}");
            assert_eq!(Segments::from_bytes(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_segment_is_known_by_its_encoder_too() {
        let forms = [
            Compression::Gzip { level: 1 },
            Compression::Gzip { level: 2 },
            Compression::Zstd { level: 1 },
            Compression::Zstd { level: 2 },
        ];
        let ids: std::collections::BTreeSet<_> = forms.iter().map(|form| identify(*form, b"x")).collect();
        assert_eq!(ids.len(), forms.len());
    }
}
