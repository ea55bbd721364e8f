//! Where everything lies in the tar, and where it is cut.
//!
//! A cut depends on what stands beside it, not on how many bytes went before, so that a file put in
//! moves the cuts near it and no others: segments after it keep their bytes.

use crate::layer::entry::Entry;
use crate::layer::header::{self, BLOCK};

/// A segment is not longer than this and one header.
pub(super) const MAX_SEGMENT: u64 = 1 << 20;

/// From this length on a segment may end before an entry whose path says so.
const MIN_SEGMENT: u64 = 256 << 10;

/// One of so many paths says so: with files of a few KiB, segments get about 700 KiB.
const CUT_ONE_IN: u32 = 64;

/// Two blocks of zeros end a tar (POSIX, pax interchange format).
const END: u64 = 2 * BLOCK as u64;

/// The places of all entries, and the segments.
#[derive(Debug)]
pub(super) struct Layout {
    /// Where each entry's headers begin.
    pub(super) starts: Vec<u64>,
    /// Where each entry's content begins.
    pub(super) data_offsets: Vec<u64>,
    /// Length of the tar.
    pub(super) size: u64,
    /// The segments in order; together they are the tar.
    pub(super) segments: Vec<Segment>,
}

impl Layout {
    /// Where the last entry ends and the final zeros begin.
    pub(super) fn data_end(&self) -> u64 {
        self.size - END
    }
}

/// A piece of the tar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// Its first byte.
    pub(super) start: u64,
    /// The byte after its last.
    pub(super) end: u64,
    /// The entry that it begins in or with.
    pub(super) entry: usize,
}

/// Plans the tar of `entries`.
pub(super) fn plan(entries: &[Entry]) -> Layout {
    let mut starts = Vec::with_capacity(entries.len());
    let mut data_offsets = Vec::with_capacity(entries.len());
    let mut cutter = Cutter { segments: Vec::new(), start: 0, entry: 0 };
    let mut at = 0;
    for (index, entry) in entries.iter().enumerate() {
        let header_len = header::encoded_len(entry) as u64;
        let data_len = header::data_len(entry).next_multiple_of(BLOCK as u64);
        cutter.entry(index, at, header_len, data_len, &entry.path);
        starts.push(at);
        data_offsets.push(at + header_len);
        at += header_len + data_len;
    }
    let size = at + END;
    cutter.cut(size, entries.len());
    Layout { starts, data_offsets, size, segments: cutter.segments }
}

struct Cutter {
    segments: Vec<Segment>,
    start: u64,
    entry: usize,
}

impl Cutter {
    /// Cuts before and within one entry where needed. What fits in one segment is not torn.
    fn entry(&mut self, index: usize, at: u64, header_len: u64, data_len: u64, path: &[u8]) {
        let (len, end) = (at - self.start, at + header_len + data_len);
        if len + header_len + data_len > MAX_SEGMENT || (len >= MIN_SEGMENT && is_cut(path)) {
            self.cut(at, index);
        }
        let mut next = at + header_len + MAX_SEGMENT;
        while next < end {
            self.cut(next, index);
            next += MAX_SEGMENT;
        }
    }

    /// Ends the segment at `end`; the next begins in entry `next`.
    fn cut(&mut self, end: u64, next: usize) {
        if end > self.start {
            self.segments.push(Segment { start: self.start, end, entry: self.entry });
        }
        self.start = end;
        self.entry = next;
    }
}

/// FNV-1a, 32 bits: all that is asked of it is to spread paths evenly, always the same.
fn is_cut(path: &[u8]) -> bool {
    let hash = path.iter().fold(0x811c_9dc5_u32, |hash, &c| (hash ^ u32::from(c)).wrapping_mul(0x0100_0193));
    (hash >> 16) % CUT_ONE_IN == 0
}
