//! Any bytes as a record of the cache, behind a right checksum, and as the fields that made a key: what is accepted is written as what is read back
//! as the same, and any two lists of fields can be compared.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::cache::{Key, Preimage, Record, difference, write_json};

fuzz_target!(|bytes: &[u8]| {
    let with_checksum = [bytes, blake3::hash(bytes).to_hex().as_bytes(), b"\n"].concat();
    if let Some(record) = Record::parse(&with_checksum) {
        assert_eq!(Key::from_hex(&record.key.hex()), Some(record.key));
        assert_eq!(Record::parse(&record.to_bytes()), Some(record));
    }
    let (first, second) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    let (first, second) = (Preimage::parse(first), Preimage::parse(second.get(1..).unwrap_or_default()));
    for preimage in [&first, &second].into_iter().flatten() {
        let mut written = Vec::new();
        write_json(preimage, &mut written).expect("memory takes everything");
        let again = Preimage::parse(&written).expect("what was written can be read");
        assert_eq!((&again, again.key()), (preimage, preimage.key()));
        assert!(!difference(preimage, &Preimage::default()).is_empty());
    }
    if let (Some(first), Some(second)) = (&first, &second) {
        assert_eq!(first == second, first.key() == second.key());
        for clause in [difference(first, second), difference(second, first)] {
            assert!(!clause.is_empty());
        }
    }
});
