//! Compresses the members of one segment.

use libdeflater::Compressor;

use super::cut::pieces;
use crate::layer::compress::{CompressError, gzip_level, is_noise};
use crate::layer::entry::Entry;
use crate::layer::writer::layout::{Layout, Segment};
use crate::oci::{Digest, Hasher};

/// A member that was compressed.
#[derive(Debug, Clone, Copy)]
pub(in crate::layer::writer) struct Member {
    raw_bytes: usize,
    pub(super) packed_bytes: usize,
    /// What the file is that it begins with; `None` where there are but headers.
    pub(super) chunk: Option<Chunk>,
}

/// A piece of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    bytes: usize,
    pub(super) digest: Digest,
    is_first: bool,
    is_last: bool,
}

/// Compresses the bytes `raw` of `segment` to the start of `packed`, which grows as needed and is never shortened, and
/// gives their number. `members` becomes a description of what is there.
///
/// One encoder makes all members of a segment, as making one costs more than a small file; libdeflate's takes nothing
/// along from one call to the next.
pub(in crate::layer::writer) fn pack(
    level: u8,
    (entries, layout, segment): (&[Entry], &Layout, Segment),
    raw: &[u8],
    packed: &mut Vec<u8>,
    members: &mut Vec<Member>,
) -> Result<usize, CompressError> {
    let (mut encoder, mut store) = (Compressor::new(gzip_level(level)?), Compressor::new(gzip_level(0)?));
    let mut at = 0;
    members.clear();
    for piece in pieces(entries, layout, segment) {
        let raw = &raw[(piece.start - segment.start) as usize..(piece.end - segment.start) as usize];
        let encoder = if is_noise(raw) { &mut store } else { &mut encoder };
        let bound = at + encoder.gzip_compress_bound(raw.len());
        if packed.len() < bound {
            packed.resize(bound, 0);
        }
        let packed_bytes = encoder.gzip_compress(raw, &mut packed[at..]).map_err(|_| CompressError::Bound)?;
        let content = piece.content as usize;
        let chunk = (content > 0).then(|| Chunk {
            bytes: content,
            digest: Digest::of(&raw[..content]),
            is_first: piece.is_first,
            is_last: piece.is_last,
        });
        members.push(Member { raw_bytes: raw.len(), packed_bytes, chunk });
        at += packed_bytes;
    }
    Ok(at)
}

/// Hashes files of several pieces, which different threads compress: the table tells their digests as a whole.
#[derive(Default)]
pub(in crate::layer::writer) struct FileDigests {
    hasher: Hasher,
    done: Vec<Digest>,
}

impl FileDigests {
    /// Takes the next segment.
    pub(in crate::layer::writer) fn update(&mut self, raw: &[u8], members: &[Member]) {
        let mut at = 0;
        for member in members {
            if let Some(Chunk { bytes, is_first, is_last, .. }) = member.chunk
                && !(is_first && is_last)
            {
                self.hasher.update(&raw[at..at + bytes]);
                if is_last {
                    self.done.push(std::mem::take(&mut self.hasher).finish());
                }
            }
            at += member.raw_bytes;
        }
    }

    /// In the order of the layer.
    pub(in crate::layer::writer) fn finish(self) -> Vec<Digest> {
        self.done
    }
}
