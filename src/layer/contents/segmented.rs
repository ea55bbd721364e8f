//! Ranges of a layer that was written here: it is known where its segments begin, and only those are decompressed that have something of a
//! range, in any order and by several threads.
//!
//! What is said of a segment is checked: its compressed bytes have a digest, and what comes of them a length.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::layer::Segments;
use crate::layer::deflate::END;
use crate::layer::writer::Place;

/// Longer segments are nobody's.
const MAX_SEGMENT: u64 = 64 << 20;
/// What a layer compressed with gzip begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A layer's blob, and where what is in it.
#[derive(Debug)]
pub struct Segmented {
    blob: File,
    places: Vec<Place>,
}

impl Segmented {
    /// `segments` are those of `blob`; `None` for a layer in another form than gzip's, or if they cannot be so.
    pub fn new(blob: File, segments: &Segments) -> Option<Self> {
        let mut start = [0; 2];
        blob.read_exact_at(&mut start, 0).ok()?;
        let places = segments.places()?;
        let is_small = |place: &Place| {
            place.raw.end - place.raw.start <= MAX_SEGMENT && place.packed_bytes <= MAX_SEGMENT
        };
        (start == GZIP && places.iter().all(is_small)).then_some(Self { blob, places })
    }

    /// Reads; each thread has one of its own.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            layer: self,
            inflate: libdeflater::Decompressor::new(),
            current: None,
            raw: Vec::new(),
            packed: Vec::new(),
        }
    }
}

/// Reads ranges; fastest where one is behind the other.
pub struct Reader<'s> {
    layer: &'s Segmented,
    inflate: libdeflater::Decompressor,
    /// The segment that is in `raw`.
    current: Option<usize>,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

impl Reader<'_> {
    /// Fills `into` with what the tar has at `offset`.
    ///
    /// # Errors
    /// The blob is not what was written, or has less.
    pub fn read(&mut self, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let places = &self.layer.places;
            let number = places.partition_point(|place| place.raw.end <= offset);
            let place = places.get(number).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.load(number, place)?;
            // The segments have no gaps, and begin with the tar.
            let from = usize::try_from(offset - place.raw.start).map_err(io::Error::other)?;
            let len = into.len().min(self.raw.len() - from);
            let (now, rest) = into.split_at_mut(len);
            now.copy_from_slice(&self.raw[from..from + len]);
            (into, offset) = (rest, offset + len as u64);
        }
        Ok(())
    }

    fn load(&mut self, number: usize, place: &Place) -> io::Result<()> {
        if self.current == Some(number) {
            return Ok(());
        }
        self.current = None;
        let len = usize::try_from(place.packed_bytes).map_err(io::Error::other)?;
        self.packed.resize(len, 0);
        self.layer.blob.read_exact_at(&mut self.packed, place.packed_at)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a segment is not what was written");
        if *blake3::hash(&self.packed).as_bytes() != place.packed {
            return Err(damaged());
        }
        self.packed.extend_from_slice(&END);
        let raw = usize::try_from(place.raw.end - place.raw.start).map_err(io::Error::other)?;
        self.raw.resize(raw, 0);
        match self.inflate.deflate_decompress(&self.packed, &mut self.raw) {
            Ok(len) if len == raw => self.current = Some(number),
            Ok(_) | Err(_) => return Err(damaged()),
        }
        Ok(())
    }
}
