//! Any bytes as a layer and as an archive for ADD: no panic, canonical entries, bounded work, and an index
//! that reads back as itself.
//!
//! Half of the inputs get valid checksums first, without which hardly any header would be looked at.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use rbuild::layer::archive::{Limits, Names, Reader, decompress, is_archive};
use rbuild::layer::index::Index;

const LIMITS: Limits = Limits { entries: 1_000, metadata_bytes: 1 << 20, archive_bytes: 4 << 20 };

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let repaired;
    let bytes = if mode & 1 == 0 {
        bytes
    } else {
        repaired = with_checksums(bytes);
        &repaired
    };
    let _ = is_archive(bytes);
    members(bytes);
    index(bytes);
});

fn members(bytes: &[u8]) {
    let Ok(stream) = decompress(bytes) else { return };
    let mut reader = Reader::new(stream, Names::Literal, LIMITS);
    while let Ok(Some(member)) = reader.next_member() {
        assert!(member.mode <= 0o7777);
        let path = member.path.as_slice();
        assert!(!path.starts_with(b"/") && !path.split(|b| *b == b'/').any(|part| part == b".."));
        let mut start = [0; 100];
        let _ = reader.data().read(&mut start);
    }
}

fn index(bytes: &[u8]) {
    let Ok(index) = Index::read_unhashed(bytes, LIMITS) else { return };
    let paths: Vec<&[u8]> = index.iter().map(|record| record.path).collect();
    assert!(paths.is_sorted());
    let stored = index.to_bytes();
    let again = Index::from_bytes(&stored).expect("what was stored can be read");
    assert_eq!(stored, again.to_bytes());
    let _ = Index::from_bytes(bytes);
}

/// Every block that may be a header gets the sum it should have.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[0] != 0) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}
