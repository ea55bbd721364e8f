//! What a scanner found, by the names of the files; and what lies across two segments.

use super::layout::Layout;
use super::show;
use crate::layer::entry::Entry;
use crate::tripwire::{Found, Hit, Scanner, WINDOW_BYTES};

/// The ends of segments, which come in their order.
pub(super) struct Borders<'s> {
    scanner: &'s Scanner,
    /// The last bytes so far.
    end: Vec<u8>,
    /// How many bytes there were so far, those before the first segment included.
    at: u64,
}

impl<'s> Borders<'s> {
    /// The first segment begins at `start`.
    pub(super) fn new(scanner: &'s Scanner, start: u64) -> Self {
        Self { scanner, end: Vec::new(), at: start }
    }

    /// Adds what begins before `raw` and ends in it.
    pub(super) fn push(&mut self, raw: &[u8], hits: &mut Vec<Hit>) {
        let before = self.end.len();
        self.end.extend_from_slice(&raw[..raw.len().min(WINDOW_BYTES)]);
        if before > 0 {
            // What lies in one of the two is found twice, and told once.
            self.scanner.scan(&self.end, self.at - before as u64, hits);
        }
        self.at += raw.len() as u64;
        if raw.len() >= WINDOW_BYTES {
            self.end.clear();
            self.end.extend_from_slice(&raw[raw.len() - WINDOW_BYTES..]);
        } else {
            self.end.drain(..self.end.len().saturating_sub(WINDOW_BYTES));
        }
    }
}

/// The files that `hits` lie in, by their paths.
pub(super) fn found(scanner: &Scanner, hits: Vec<Hit>, layout: &Layout, entries: &[Entry]) -> Vec<Found> {
    let entry_at = |at: u64| layout.starts.partition_point(|start| *start <= at).checked_sub(1);
    let found = hits.into_iter().filter_map(|hit| {
        let path = show(&entries.get(entry_at(hit.at)?)?.path);
        Some(Found { path, what: scanner.what(hit).clone() })
    });
    let mut found: Vec<Found> = found.collect();
    found.sort();
    found.dedup();
    found
}
