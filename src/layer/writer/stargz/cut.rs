//! Where the gzip members begin.

use super::CHUNK_BYTES;
use crate::layer::entry::Entry;
use crate::layer::header;
use crate::layer::writer::layout::{Layout, MAX_SEGMENT, Segment};

/// Entries without content, one after the other, are in one member until they are longer than this: then a million
/// directories need no more memory than a few files.
const MAX_HEADERS: u64 = 1 << 20;

/// What one member holds: bytes of a file, unless `content` is 0, and the headers up to the next such bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its first byte in the tar.
    pub(super) start: u64,
    /// The byte after its last.
    pub(super) end: u64,
    /// The entry that it begins in or with.
    pub(super) entry: usize,
    /// How many bytes of a file it begins with.
    pub(super) content: u64,
    /// Whether these are the file's first and last ones.
    pub(super) is_first: bool,
    pub(super) is_last: bool,
}

/// Groups pieces to segments, which are worth a thread's while. They decide nothing about the blob.
pub(in crate::layer::writer) fn segments(entries: &[Entry], layout: &Layout) -> Vec<Segment> {
    let whole = Segment { start: 0, end: layout.size, entry: 0 };
    let mut segments: Vec<Segment> = Vec::new();
    for Piece { start, end, entry, .. } in pieces(entries, layout, whole) {
        match segments.last_mut() {
            Some(last) if end - last.start <= MAX_SEGMENT => last.end = end,
            _ => segments.push(Segment { start, end, entry }),
        }
    }
    segments
}

/// The pieces of a segment, which begins and ends where pieces do.
pub(super) fn pieces<'a>(entries: &'a [Entry], layout: &'a Layout, segment: Segment) -> Pieces<'a> {
    Pieces { entries, layout, left: segment }
}

/// See [`pieces`].
pub(super) struct Pieces<'a> {
    entries: &'a [Entry],
    layout: &'a Layout,
    left: Segment,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let Segment { start, end, entry } = self.left;
        if start == end {
            return None;
        }
        let (done, left) = self.content_at(start, entry);
        let content = left.min(CHUNK_BYTES);
        let is_last = content == left;
        (self.left.start, self.left.entry) = match is_last {
            true => self.next_content(start + content, entry + usize::from(content > 0)),
            false => (start + content, entry),
        };
        Some(Piece { start, end: self.left.start, entry, content, is_first: done == 0, is_last })
    }
}

impl Pieces<'_> {
    /// How much of an entry's content lies before and behind `at`.
    fn content_at(&self, at: u64, entry: usize) -> (u64, u64) {
        match (self.entries.get(entry), self.layout.data_offsets.get(entry)) {
            (Some(entry), Some(&first)) if at >= first => {
                (at - first, header::data_len(entry) - (at - first))
            }
            _ => (0, 0),
        }
    }

    /// The next place that begins a member, and its entry. Entries before `first` are done.
    fn next_content(&self, from: u64, first: usize) -> (u64, usize) {
        for (index, entry) in self.entries.iter().enumerate().skip(first) {
            if self.layout.starts[index] >= from + MAX_HEADERS {
                return (self.layout.starts[index], index);
            }
            if header::data_len(entry) > 0 {
                return (self.layout.data_offsets[index], index);
            }
        }
        (self.layout.size, self.entries.len())
    }
}
