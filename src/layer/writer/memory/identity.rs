//! What a segment is known by.

use rayon::prelude::*;

use crate::layer::compress::Compression;
use crate::layer::entry::{Content, Entry, EntryKind};
use crate::layer::header;
use crate::layer::writer::layout::{Layout, Segment};

/// The two ways never give the same id.
const BYTES: u8 = 0;
const SOURCES: u8 = 1;

/// Of a segment with these bytes.
pub(in crate::layer::writer) fn of_bytes(compression: Compression, raw: &[u8]) -> [u8; 32] {
    let mut hasher = hasher(compression, BYTES);
    hasher.update(raw);
    *hasher.finalize().as_bytes()
}

/// Of each segment by its headers and the digests of its files. `None` where one has to look at the bytes: a file of
/// which no digest is known, and a piece of a larger file, as that is compared with the digest only when all of it is read.
pub(in crate::layer::writer) fn of_sources(
    compression: Compression,
    entries: &[Entry],
    layout: &Layout,
) -> Vec<Option<[u8; 32]>> {
    let id = |segment: &Segment| of_segment(compression, entries, layout, *segment);
    layout.segments.par_iter().map(id).collect()
}

fn of_segment(
    compression: Compression,
    entries: &[Entry],
    layout: &Layout,
    segment: Segment,
) -> Option<[u8; 32]> {
    let mut hasher = hasher(compression, SOURCES);
    hasher.update(&(segment.end - segment.start).to_le_bytes());
    let mut encoded = Vec::new();
    for (index, entry) in entries.iter().enumerate().skip(segment.entry) {
        let start = layout.starts[index];
        if start >= segment.end {
            break;
        }
        if start < segment.start || layout.data_offsets[index] + header::data_len(entry) > segment.end {
            return None;
        }
        encoded.clear();
        header::encode(entry, &mut encoded);
        hasher.update(&encoded);
        if let EntryKind::File(content) = &entry.kind {
            hasher.update(&digest(content)?);
        }
    }
    Some(*hasher.finalize().as_bytes())
}

fn digest(content: &Content) -> Option<[u8; 32]> {
    match content {
        Content::Bytes(bytes) => Some(*blake3::hash(bytes).as_bytes()),
        Content::Disk(file) => file.digest(),
        Content::Slice { .. } => None,
    }
}

fn hasher(compression: Compression, way: u8) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    let encoder = compression.encoder();
    hasher.update(&(encoder.len() as u64).to_le_bytes());
    hasher.update(encoder.as_bytes());
    hasher.update(&[way]);
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_known_by_its_encoder_too() {
        let forms = [
            Compression::Gzip { level: 1 },
            Compression::Gzip { level: 2 },
            Compression::Zstd { level: 1 },
            Compression::Zstd { level: 2 },
            Compression::Estargz { level: 1 },
        ];
        let ids: std::collections::BTreeSet<_> = forms.iter().map(|form| of_bytes(*form, b"x")).collect();
        assert_eq!(ids.len(), forms.len());
    }
}
