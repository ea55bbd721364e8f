//! What the fuzz target `statcache` holds the format to.

use std::collections::BTreeMap;

use super::format::{Encoder, MAGIC, Record, Table};

/// Reads a cache file, of which what follows the checksum is given: what is accepted names files in the context only, can be
/// searched, and written again it says the same.
pub fn check(body: &[u8]) {
    let Some(boot) = body.first_chunk::<8>().map(|boot| u64::from_le_bytes(*boot)) else { return };
    let whole = [MAGIC, blake3::hash(body).as_bytes().as_slice(), body].concat();
    let Some(table) = Table::verify(whole, boot) else { return };
    let mut encoder = Encoder::default();
    for directory in table.directories() {
        let names = table.names(&directory);
        let parts = || names.split(|byte| *byte == 0);
        assert!(!names.contains(&b'/') && parts().all(|name| !matches!(name, b"." | b"..")));
        let records: BTreeMap<&[u8], Record> =
            directory.records.clone().map(|number| (table.name(number), table.record(number))).collect();
        let all = directory.identity.map(|identity| (identity, names));
        encoder.add(table.path(directory.number), all, records.iter().map(|(name, record)| (*name, *record)));
    }
    let mut written = Vec::new();
    let encoder = encoder.found_by(table.mounts().collect());
    encoder.write(&mut written, boot).expect("memory takes everything");
    let again = Table::verify(written, boot).expect("what was written can be read");
    if is_sorted(&table) {
        same(&table, &again);
    }
}

/// Whether the table is as the encoder makes them; what is not is searched in vain, and no more.
fn is_sorted(table: &Table) -> bool {
    let mut last: Option<&[u8]> = None;
    table.directories().all(|directory| {
        let at = table.path(directory.number);
        let follows = last.is_none_or(|last| super::path::compare(last, at).is_lt());
        let names: Vec<&[u8]> = directory.records.clone().map(|number| table.name(number)).collect();
        last = Some(at);
        follows && names.is_sorted_by(|a, b| a < b) && names.iter().all(|name| !name.contains(&0))
    })
}

fn same(table: &Table, again: &Table) {
    for old in table.directories() {
        let at = table.path(old.number);
        assert_eq!(table.find(at).map(|found| found.number), Some(old.number));
        let new = again.find(at).expect("the directory was written");
        for number in old.records.clone() {
            let name = table.name(number);
            assert_eq!(table.find_record(old.records.clone(), name), Some(number));
            let found = again.find_record(new.records.clone(), name).map(|number| again.record(number));
            assert_eq!(found, Some(table.record(number)), "{name:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::check;

    /// Real files, and what once was too much.
    #[test]
    fn the_inputs_of_fuzzing() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/statcache");
        let mut count = 0;
        for input in std::fs::read_dir(folder).unwrap() {
            check(&std::fs::read(input.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0);
    }
}
