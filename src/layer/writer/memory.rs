//! Remembers the compressed segments of layers, so that what did not change is not compressed again.
//!
//! A segment is known by a hash of what it is made of and of the encoder: the same always compresses to the same, so a
//! layer that takes segments from an earlier one has the same bytes as one that was compressed as a whole. The
//! compressed bytes are not kept a second time: they are a part of the earlier layer's blob.
//!
//! What a segment is made of is either its bytes, or headers and the digests of files, for which nothing need be
//! read. With each segment goes what the tar's digest and sum were after it, so that a layer which begins with the segments of
//! the earlier one goes on from there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::layer::member::{Sum, SumState};
use crate::oci::{DiffId, Hasher, HasherState};

mod identity;

pub(super) use identity::{of_bytes, of_sources};

/// Ends with a version: 2 had a gzip member for each segment.
const MAGIC: &[u8; 8] = b"rbsegm\0\x03";
const RECORD_BYTES: usize = 32 + 8 + 8 + 32 + size_of::<HasherState>() + size_of::<SumState>();

/// How much of a blob is in memory while it is copied, in bytes.
const COPY_BYTES: usize = 256 << 10;

/// Segments of a layer in their order, as far as they can be used again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segments {
    list: Vec<Written>,
}

/// Where a segment is.
#[derive(Debug, Clone)]
pub(in crate::layer) struct Place {
    /// What it is of the tar.
    pub(in crate::layer) raw: Range<u64>,
    /// Its first byte in the blob.
    pub(in crate::layer) packed_at: u64,
    /// How many bytes of the blob it is.
    pub(in crate::layer) packed_bytes: u64,
    /// BLAKE3 of those bytes.
    pub(in crate::layer) packed: [u8; 32],
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// See [`of_sources`] and [`of_bytes`].
    pub(super) id: [u8; 32],
    /// Its first byte in the blob.
    pub(super) packed_at: u64,
    /// How many bytes of the blob it became.
    pub(super) packed_bytes: u64,
    /// BLAKE3 of those bytes.
    pub(super) packed: [u8; 32],
    /// The tar's hasher after it.
    pub(super) raw: HasherState,
    /// The tar's sum after it.
    pub(super) sum: SumState,
}

impl From<Vec<Written>> for Segments {
    fn from(list: Vec<Written>) -> Self {
        Self { list }
    }
}

impl Segments {
    pub(super) fn push(&mut self, segment: Written) {
        self.list.push(segment);
    }

    /// Whether there is nothing to be used again.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Where they are, in the order of the tar; `None` if that cannot be so.
    pub(in crate::layer) fn places(&self) -> Option<Vec<Place>> {
        let mut start = 0;
        let place = |written: &Written| {
            let end = Sum::resume(&written.sum).bytes();
            let raw = start..end;
            start = end;
            let Written { packed_at, packed_bytes, packed, .. } = *written;
            (raw.start <= raw.end).then_some(Place { raw, packed_at, packed_bytes, packed })
        };
        self.list.iter().map(place).collect()
    }

    /// What the layer that ends with them holds; of one that has something behind them (eStargz) it is another.
    pub fn diff_id(&self) -> Option<DiffId> {
        Some(DiffId(Hasher::resume(&self.list.last()?.raw)?.finish()))
    }

    /// The file form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.list.len() * RECORD_BYTES);
        for Written { id, packed_at, packed_bytes, packed, raw, sum } in &self.list {
            body.extend_from_slice(id);
            body.extend_from_slice(&packed_at.to_le_bytes());
            body.extend_from_slice(&packed_bytes.to_le_bytes());
            body.extend_from_slice(packed);
            body.extend_from_slice(raw);
            body.extend_from_slice(sum);
        }
        [MAGIC.as_slice(), blake3::hash(&body).as_bytes(), &body].concat()
    }

    /// Reads the file form; `None` for anything else, also for a file that was cut off.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (checksum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
        if body.len() % RECORD_BYTES != 0 || blake3::hash(body).as_bytes() != checksum {
            return None;
        }
        let list = body.chunks_exact(RECORD_BYTES).map(Written::from_bytes).collect::<Option<_>>()?;
        Some(Self { list })
    }
}

impl Written {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, bytes) = bytes.split_first_chunk::<32>()?;
        let (packed_at, bytes) = bytes.split_first_chunk()?;
        let (packed_bytes, bytes) = bytes.split_first_chunk()?;
        let (packed, bytes) = bytes.split_first_chunk::<32>()?;
        let (raw, sum) = bytes.split_first_chunk()?;
        Some(Self {
            id: *id,
            packed_at: u64::from_le_bytes(*packed_at),
            packed_bytes: u64::from_le_bytes(*packed_bytes),
            packed: *packed,
            raw: *raw,
            sum: sum.try_into().ok()?,
        })
    }
}

/// The segments of an earlier layer and its blob.
#[derive(Debug)]
pub struct Remembered {
    blob: File,
    list: Vec<Written>,
    /// By id, the number of each.
    numbers: HashMap<[u8; 32], usize>,
}

impl Remembered {
    /// `segments` are those of `blob`.
    pub fn new(blob: File, segments: &Segments) -> Self {
        let numbers =
            segments.list.iter().enumerate().map(|(number, segment)| (segment.id, number)).collect();
        Self { blob, list: segments.list.clone(), numbers }
    }

    /// Reads the compressed form of a segment to the start of `packed`, which grows as needed.
    /// `None` when there is none, or when the blob does not have it any more: then it is compressed.
    pub(super) fn fetch(&self, id: &[u8; 32], packed: &mut Vec<u8>) -> Option<Fetched> {
        let segment = &self.list[*self.numbers.get(id)?];
        let len = self.read(segment, packed)?;
        Some(Fetched { len, hash: segment.packed })
    }

    fn read(&self, segment: &Written, packed: &mut Vec<u8>) -> Option<usize> {
        let len = usize::try_from(segment.packed_bytes).ok()?;
        if packed.len() < len {
            packed.resize(len, 0);
        }
        self.blob.read_exact_at(&mut packed[..len], segment.packed_at).ok()?;
        (*blake3::hash(&packed[..len]).as_bytes() == segment.packed).then_some(len)
    }

    /// What a layer of segments with these ids, and `head` before them, begins with, as the earlier one does.
    pub(super) fn start(&self, head: Vec<u8>, ids: &[Option<[u8; 32]>]) -> Start<'_> {
        let is_same = |(id, written): &(&Option<[u8; 32]>, &Written)| **id == Some(written.id);
        let count = ids.iter().zip(&self.list).take_while(is_same).count();
        let start = Start::new(head);
        self.checked(&self.list[..count], start.clone()).unwrap_or(start)
    }

    /// `start` and then `segments`, if the blob still has the bytes that were written.
    fn checked<'m>(&'m self, segments: &'m [Written], mut start: Start<'m>) -> Option<Start<'m>> {
        let last = segments.last()?;
        (start.raw, start.sum) = (Hasher::resume(&last.raw)?, Sum::resume(&last.sum));
        let mut buffer = Vec::new();
        for segment in segments {
            let len = self.read(segment, &mut buffer)?;
            start.packed.update(&buffer[..len]);
            start.size = (segment.packed_at == start.size).then_some(start.size + segment.packed_bytes)?;
        }
        (start.segments, start.blob) = (segments, Some(&self.blob));
        Some(start)
    }
}

/// The compressed form of a segment.
pub(super) struct Fetched {
    /// In bytes.
    pub(super) len: usize,
    /// Its BLAKE3.
    pub(super) hash: [u8; 32],
}

/// What a layer begins with: its head, what it takes from the beginning of an earlier one, and its hashers after that.
#[derive(Clone)]
pub(super) struct Start<'m> {
    head: Vec<u8>,
    pub(super) segments: &'m [Written],
    pub(super) raw: Hasher,
    pub(super) sum: Sum,
    pub(super) packed: Hasher,
    /// Of the blob, in bytes.
    pub(super) size: u64,
    blob: Option<&'m File>,
}

impl Start<'_> {
    /// Of a layer that takes nothing.
    pub(super) fn new(head: Vec<u8>) -> Self {
        let mut packed = Hasher::new();
        packed.update(&head);
        let size = head.len() as u64;
        Self { head, segments: &[], raw: Hasher::new(), sum: Sum::default(), packed, size, blob: None }
    }

    /// Writes the blob's beginning.
    pub(super) fn copy_to(&self, sink: &mut impl Write) -> io::Result<()> {
        sink.write_all(&self.head)?;
        let Some(blob) = self.blob else { return Ok(()) };
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = self.head.len() as u64;
        while at < self.size {
            let len = (self.size - at).min(COPY_BYTES as u64) as usize;
            blob.read_exact_at(&mut buffer[..len], at)?;
            sink.write_all(&buffer[..len])?;
            at += len as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_file_form_comes_back_and_damage_is_found() {
        let segment = |at: u8| Written {
            id: [at; 32],
            packed_at: u64::from(at) * 10_000,
            packed_bytes: u64::from(at) * 1000,
            packed: [at + 1; 32],
            raw: Hasher::new().state(),
            sum: Sum::of(&[at]).state(),
        };
        let segments = Segments { list: (0..5).map(segment).collect() };
        let bytes = segments.to_bytes();
        assert_eq!(Segments::from_bytes(&bytes), Some(segments));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Segments::from_bytes(&damaged), None, "byte {at}");
            assert_eq!(Segments::from_bytes(&bytes[..at]), None, "cut at {at}");
        }
        // Version 2, whose segments were gzip members.
        let earlier = [b"rbsegm\0\x02".as_slice(), blake3::hash(b"").as_bytes()].concat();
        assert_eq!(Segments::from_bytes(&earlier), None);
    }
}
