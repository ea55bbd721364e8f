//! The bytes of a stat cache: magic, checksum, record count; records; paths. Little-endian.
//!
//! It is read whole, not mapped: mapping needs `unsafe`, and reading the 6 MB of 50,000 files takes about as
//! long as the checksum over them.

use std::path::Path;

use crate::context::path;
use crate::context::scan::Meta;

const MAGIC: &[u8; 8] = b"rbstat\0\x01";
/// Magic, BLAKE3 of all that follows it, and the number of records.
const HEADER_BYTES: usize = 8 + 32 + 8;
const RECORD_BYTES: usize = 96;
/// 500,000 records with paths of 200 bytes stay well below this.
const SIZE_LIMIT_BYTES: u64 = 512 << 20;

/// What identified a file when it was digested, and the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    pub(super) digest: [u8; 32],
}

impl Record {
    pub(super) fn new(meta: &Meta, digest: [u8; 32]) -> Self {
        let Meta { mode: _, links: _, device, inode, size, mtime, ctime } = *meta;
        Self { device, inode, size, mtime, ctime, digest }
    }

    /// Whether `meta` is of the same, unchanged file.
    pub(super) fn describes(&self, meta: &Meta) -> bool {
        *self == Self::new(meta, self.digest)
    }
}

/// A cache file in memory: either whole and verified, or empty.
#[derive(Debug, Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    records: usize,
}

impl Table {
    /// Reads a cache file; anything wrong with it gives the empty table.
    pub(super) fn read(file: &Path) -> Self {
        let small = std::fs::metadata(file).is_ok_and(|metadata| metadata.len() <= SIZE_LIMIT_BYTES);
        let bytes = if small { std::fs::read(file).unwrap_or_default() } else { Vec::new() };
        Self::verify(bytes).unwrap_or_default()
    }

    fn verify(bytes: Vec<u8>) -> Option<Self> {
        let body = bytes.strip_prefix(MAGIC)?;
        let (checksum, body) = body.split_at_checked(32)?;
        if blake3::hash(body).as_bytes() != checksum {
            return None;
        }
        let records = usize::try_from(u64_at(body, 0)?).ok()?;
        let table = Self { bytes, records };
        let paths_at = records.checked_mul(RECORD_BYTES)?.checked_add(HEADER_BYTES)?;
        let fits = |index: usize| table.path_range(index).end <= table.bytes.len();
        (paths_at <= table.bytes.len() && (0..records).all(fits)).then_some(table)
    }

    pub(super) fn len(&self) -> usize {
        self.records
    }

    /// The path of record `index`, which must be below `len`.
    pub(super) fn path(&self, index: usize) -> &[u8] {
        &self.bytes[self.path_range(index)]
    }

    pub(super) fn record(&self, index: usize) -> Record {
        let bytes = self.record_bytes(index);
        let (u64_of, u32_of) = (|at| u64_at(bytes, at).unwrap_or(0), |at| u32_at(bytes, at).unwrap_or(0));
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[64..96]);
        Record {
            device: u64_of(8),
            inode: u64_of(16),
            size: u64_of(24),
            mtime: (u64_of(32) as i64, u32_of(40)),
            ctime: (u64_of(48) as i64, u32_of(44)),
            digest,
        }
    }

    /// The index of the record of `at`.
    pub(super) fn search(&self, at: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.records);
        while low < high {
            let middle = low + (high - low) / 2;
            match path::compare(self.path(middle), at) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn record_bytes(&self, index: usize) -> &[u8] {
        let start = HEADER_BYTES + index * RECORD_BYTES;
        &self.bytes[start..start + RECORD_BYTES]
    }

    fn path_range(&self, index: usize) -> std::ops::Range<usize> {
        let bytes = self.record_bytes(index);
        let (offset, len) = (u32_at(bytes, 0).unwrap_or(0), u32_at(bytes, 4).unwrap_or(0));
        let start = HEADER_BYTES + self.records * RECORD_BYTES + offset as usize;
        start..start + len as usize
    }
}

/// The whole file for `records`, which must be sorted by path.
pub(super) fn encode(records: &[(&[u8], Record)]) -> Vec<u8> {
    let paths: usize = records.iter().map(|(path, _)| path.len()).sum();
    let mut body = Vec::with_capacity(8 + records.len() * RECORD_BYTES + paths);
    body.extend((records.len() as u64).to_le_bytes());
    let mut offset = 0_u32;
    for (path, record) in records {
        let Record { device, inode, size, mtime, ctime, digest } = record;
        body.extend(offset.to_le_bytes());
        body.extend((path.len() as u32).to_le_bytes());
        body.extend([device, inode, size].into_iter().flat_map(|number| number.to_le_bytes()));
        body.extend(mtime.0.to_le_bytes());
        body.extend(mtime.1.to_le_bytes());
        body.extend(ctime.1.to_le_bytes());
        body.extend(ctime.0.to_le_bytes());
        body.extend([0; 8]);
        body.extend(digest);
        offset += path.len() as u32;
    }
    for (path, _) in records {
        body.extend(*path);
    }
    let mut bytes = Vec::with_capacity(body.len() + 40);
    bytes.extend(MAGIC);
    bytes.extend(blake3::hash(&body).as_bytes());
    bytes.extend(body);
    bytes
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
