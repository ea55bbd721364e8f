//! Compresses a plain tar as a layer, as it is: entries and their order stay.
//!
//! The compression is the usual one. (eStargz would need the entries, which nobody reads here.)

use std::io::{self, Read, Write};

use rayon::prelude::*;

use super::compress::{CompressError, Compression};
use crate::oci::{DiffId, Digest, Hasher};

/// Borders follow from the bytes alone, so that the same tar always gives the same blob.
const SEGMENT_BYTES: usize = 1 << 20;
/// Segments that are compressed at the same time, and held in memory.
const SEGMENTS_AT_ONCE: usize = 16;

/// What became of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repacked {
    /// Of the blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Of the tar.
    pub diff_id: DiffId,
}

/// Writes what `tar` holds to `blob`, compressed as [`Compression::default`] says.
///
/// # Errors
/// What reading, compressing or writing says.
pub fn repack(mut tar: impl Read, blob: &mut impl Write) -> io::Result<Repacked> {
    let mut hashers = (Hasher::new(), Hasher::new());
    let mut size = 0;
    loop {
        let mut raw = Vec::new();
        tar.by_ref().take((SEGMENT_BYTES * SEGMENTS_AT_ONCE) as u64).read_to_end(&mut raw)?;
        let pack = |segment: &[u8]| -> Result<Vec<u8>, CompressError> {
            let mut packed = Vec::new();
            let len = Compression::default().pack(segment, &mut packed)?;
            packed.truncate(len);
            Ok(packed)
        };
        let packed: Result<Vec<Vec<u8>>, CompressError> = raw.par_chunks(SEGMENT_BYTES).map(pack).collect();
        hashers.0.update(&raw);
        for segment in packed.map_err(io::Error::other)? {
            hashers.1.update(&segment);
            size += segment.len() as u64;
            blob.write_all(&segment)?;
        }
        if raw.len() < SEGMENT_BYTES * SEGMENTS_AT_ONCE {
            let (diff_id, digest) = (DiffId(hashers.0.finish()), hashers.1.finish());
            return Ok(Repacked { digest, size, diff_id });
        }
    }
}
