//! eStargz: a tar in gzip of which a reader can fetch single files.
//!
//! Every piece of at most 1 MiB of a file begins a gzip member. Behind the tar comes one more member with a table, in JSON,
//! of where each piece begins and which SHA-256 it has, and then a footer that tells where the table is. For a reader who
//! knows nothing of this, the blob is a tar in gzip like any other: it ends before the table.
//!
//! The format is that of `docs/estargz.md` in github.com/containerd/stargz-snapshotter; which of its freedoms are used,
//! BuildKit decides: no landmark files, hence nothing in the layer that the build did not put there. What the table says
//! beyond the entries is what is kept until the end: 40 bytes for each piece.

mod cut;
mod pack;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(super) use cut::segments;
pub(super) use pack::{FileDigests, Member, pack};
pub(super) use table::{Chunks, End, Table, write};

use super::{WriteError, show};
use crate::layer::entry::{Entry, EntryKind};
use crate::oci::Digest;

/// The longest piece of a file. Readers take any length, as the table tells it. BuildKit's pieces have 4 MiB: with those, a file
/// of 512 MB, half of it noise, took 5.5 s of processor time in place of 3.8 s, as less of it could be stored, and 60 MB of
/// memory in place of 23 MB.
const CHUNK_BYTES: u64 = 1 << 20;

/// The table's name in the tar around it.
const TABLE_NAME: &str = "stargz.index.json";

/// What a layer's descriptor must say for its table to be believed.
/// Has the digest of the table; a layer without it is no eStargz to those who mount it.
pub(in crate::layer) const TABLE_ANNOTATION: &str = "containerd.io/snapshot/stargz/toc.digest";
/// The number of bytes of the whole, decompressed, which is nowhere else in a manifest.
const SIZE_ANNOTATION: &str = "io.containers.estargz.uncompressed-size";

/// Refuses what the table cannot hold: JSON has no other names than Unicode's, and the table's own name is taken.
pub(super) fn check(entries: &[Entry]) -> Result<(), WriteError> {
    for entry in entries {
        if entry.path == TABLE_NAME.as_bytes() && !matches!(entry.kind, EntryKind::Whiteout) {
            return Err(WriteError::TableName);
        }
        let link: &[u8] = match &entry.kind {
            EntryKind::Symlink(target) => target,
            _ => b"",
        };
        let mut texts = entry.xattrs.keys().map(Vec::as_slice).chain([entry.path.as_slice(), link]);
        if texts.any(|text| std::str::from_utf8(text).is_err()) {
            return Err(WriteError::NotUnicode(show(&entry.path)));
        }
    }
    Ok(())
}

/// What the descriptor of a layer with this table says. `uncompressed_bytes` are those of the whole.
pub(super) fn annotations(table: Digest, uncompressed_bytes: u64) -> BTreeMap<String, String> {
    BTreeMap::from([
        (TABLE_ANNOTATION.to_owned(), table.to_string()),
        (SIZE_ANNOTATION.to_owned(), uncompressed_bytes.to_string()),
    ])
}
