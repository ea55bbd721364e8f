//! Files by both of their names: contexts are digested with BLAKE3, and a CAS names blobs by SHA-256. Which belongs to which is kept, so that
//! a file that did not change is not read to be placed again.
//!
//! ```text
//! "rbuild names 1\n"
//! BLAKE3 (32 bytes), SHA-256 (32), size (8, little-endian), and so on
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::oci::Digest;
use crate::reapi::Blob;
use crate::store::{Folder, Store};
use crate::sync::lock;

const MAGIC: &[u8] = b"rbuild names 1\n";
const RECORD: usize = 72;
/// With more files than that it begins anew.
const MOST: usize = 400_000;

/// The names that are known.
pub(super) struct Names {
    store: Store,
    file: PathBuf,
    known: Mutex<HashMap<[u8; 32], Blob>>,
    before: usize,
}

impl Names {
    /// Those of a store. What cannot be read is as good as absent.
    pub(super) fn open(store: &Store) -> Self {
        let file = store.private(Folder::StatCache).join("names");
        let bytes = std::fs::read(&file).unwrap_or_default();
        let known = parse(&bytes).unwrap_or_default();
        Self { store: store.clone(), file, before: known.len(), known: Mutex::new(known) }
    }

    /// The SHA-256 of what has this BLAKE3.
    pub(super) fn get(&self, content: &[u8; 32]) -> Option<Blob> {
        lock(&self.known).get(content).copied()
    }

    /// Keeps that both are of the same bytes.
    pub(super) fn add(&self, content: [u8; 32], blob: Blob) {
        lock(&self.known).insert(content, blob);
    }

    /// Writes what was added. Of two who write at once one's additions are found out again.
    pub(super) fn save(&self) {
        let known = lock(&self.known);
        if known.len() == self.before {
            return;
        }
        let mut bytes = MAGIC.to_vec();
        if known.len() <= MOST {
            for (content, blob) in known.iter() {
                bytes.extend(content);
                bytes.extend(blob.digest.as_bytes());
                bytes.extend(blob.size.to_le_bytes());
            }
        }
        if keep(&self.store, &self.file, &bytes).is_none() {
            tracing::debug!("names of files are not kept");
        }
    }
}

/// Puts `bytes` in the place of a file of the store. What goes wrong on the way, or is killed, leaves nothing that stays.
pub(super) fn keep(store: &Store, file: &Path, bytes: &[u8]) -> Option<()> {
    let scratch = store.scratch_dir().ok()?;
    let fresh = scratch.path().join("fresh");
    std::fs::write(&fresh, bytes).and_then(|()| std::fs::rename(&fresh, file)).ok()
}

fn parse(bytes: &[u8]) -> Option<HashMap<[u8; 32], Blob>> {
    let (records, []) = bytes.strip_prefix(MAGIC)?.as_chunks::<RECORD>() else { return None };
    let read = |record: &[u8; RECORD]| {
        let (content, rest) = record.split_first_chunk::<32>()?;
        let (digest, size) = rest.split_first_chunk::<32>()?;
        let size = u64::from_le_bytes(*size.first_chunk()?);
        Some((*content, Blob { digest: Digest::from_bytes(*digest), size }))
    };
    records.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_kept_and_what_is_damaged_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        std::fs::create_dir_all(store.private(Folder::StatCache)).unwrap();
        let (content, blob) = ([7; 32], Blob::of(b"text"));
        let names = Names::open(&store);
        assert_eq!(names.get(&content), None);
        names.add(content, blob);
        names.save();
        let again = Names::open(&store);
        assert_eq!((again.get(&content), again.get(&[8; 32])), (Some(blob), None));
        let bytes = std::fs::read(&again.file).unwrap();
        for bad in [&bytes[1..], &bytes[..bytes.len() - 1], b"", b"rbuild names 2\n"] {
            assert!(parse(bad).is_none());
        }
    }
}
