//! Any bytes as the JSON of packs of records: what is accepted is written as what reads as the same, and of two packs the same comes out in
//! either order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::shared_cache::{Bounds, Pack, bound, merge};

fn read(json: &[u8]) -> Option<Pack> {
    let pack = Pack::parse_json(json).ok()?;
    assert_eq!(Pack::parse(&pack.to_bytes()).as_ref(), Ok(&pack));
    Some(pack)
}

fuzz_target!(|bytes: &[u8]| {
    let _ = Pack::parse(bytes);
    let (first, second) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    let (Some(first), second) = (read(first), read(second.get(1..).unwrap_or_default())) else { return };
    let second = second.unwrap_or_default();
    let merged = merge(first.clone(), second.clone());
    assert_eq!(merged, merge(second, first));
    assert_eq!(merged, merge(merged.clone(), merged.clone()));
    let mut bounded = merged.clone();
    let dropped = bound(&mut bounded, Bounds { size: Some(1000), ..Bounds::default() }, 0);
    assert_eq!(bounded.entries.len() + dropped, merged.entries.len());
    let sizes = bounded.blobs().into_iter().map(|blob| blob.size);
    assert!(sizes.fold(0_u64, u64::saturating_add) <= 1000 || !bounded.indexes.is_empty());
});
