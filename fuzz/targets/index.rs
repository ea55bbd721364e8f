//! Any bytes as the stored index of a layer, with a right checksum and lengths that fit: what is accepted is canonical, can
//! be searched, and is stored as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::layer::archive::clean;
use rbuild::layer::index::{Index, Kind, Record, What};

/// Magic, version, and the numbers of records and of bytes behind them.
const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 60;

fuzz_target!(|bytes: &[u8]| {
    let _ = Index::from_bytes(bytes);
    let sealed = sealed(bytes);
    let Ok(index) = Index::from_bytes(&sealed) else { return };
    assert_eq!(index.to_bytes(), sealed);
    for (at, record) in index.iter().enumerate() {
        assert_eq!(index.find(record.path), Some(at));
        is_valid(&record);
    }
});

fn is_valid(record: &Record<'_>) {
    assert_eq!(clean(record.path), record.path);
    assert!(!record.path.contains(&0));
    match record.what {
        What::Node(node) => {
            assert!(node.mode <= 0o7777);
            if let Kind::Symlink(target) = node.kind {
                assert!(!target.is_empty());
            }
            assert!(node.xattrs.iter().count() == 0 || !node.xattrs.is_empty());
        }
        What::LowerLink(target) => assert_eq!(clean(target), target),
        What::Implied | What::Whiteout => {}
    }
}

/// The bytes with counts that are theirs and the checksum behind.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(body) = bytes.len().checked_sub(HEADER_BYTES) {
        let wanted = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
        let count = wanted.min(body / RECORD_BYTES);
        bytes[12..16].copy_from_slice(&(count as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&((body - count * RECORD_BYTES) as u64).to_le_bytes());
    }
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}
