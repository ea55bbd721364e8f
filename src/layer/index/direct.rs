//! The index of a layer that we wrote ourselves, in one pass over its entries.
//!
//! Entries that are sorted, each at a path of its own, neither marks nor links, are the records already: nothing
//! replaces anything, and no path passes a symlink. What is not so goes through the [`Builder`](super::Builder),
//! with the same outcome.

use super::build::Flattener;
use super::{Index, archive};
use crate::layer::archive::split;
use crate::layer::entry::{Entry, EntryKind};

/// Whether the entries are the records.
pub(super) fn applies(entries: &[Entry]) -> bool {
    let is_plain = |entry: &Entry| {
        !matches!(entry.kind, EntryKind::HardLink(_) | EntryKind::Whiteout | EntryKind::OpaqueWhiteout)
    };
    entries.iter().all(is_plain)
        && entries.is_sorted_by(|a, b| a.path < b.path)
        && entries.first().is_none_or(|first| !first.path.is_empty())
        && lie_in_directories(entries)
}

/// Whether no path passes anything but directories, as far as the entries tell.
fn lie_in_directories(entries: &[Entry]) -> bool {
    let mut checked: &[u8] = b"";
    for entry in entries {
        let own = split(&entry.path).0;
        let mut parent = own;
        // Siblings mostly follow one another, so few parents are looked up.
        while !parent.is_empty() && parent != checked {
            let found = entries.binary_search_by(|other| other.path.as_slice().cmp(parent));
            if found.is_ok_and(|at| !matches!(entries[at].kind, EntryKind::Directory)) {
                return false;
            }
            parent = split(parent).0;
        }
        checked = own;
    }
    true
}

/// The index; see [`applies`].
pub(super) fn index(entries: &[Entry], offsets: &[u64]) -> Result<Index, archive::Error> {
    let mut flattener = Flattener::default();
    let records = entries.iter().zip(offsets).map(|(entry, offset)| flattener.single(entry, *offset));
    let records = records.collect();
    flattener.finish(records)
}
