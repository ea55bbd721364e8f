//! The contents of a directory: blocks of entries, sorted by name from the first to the last.
//!
//! Each block holds the fixed parts of its entries and then their names, so that a name is found by looking at
//! the first one of some blocks.

use super::BLOCK_BYTES;

const ENTRY_BYTES: usize = 12;

/// One name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'n> {
    pub(super) name: &'n [u8],
    /// The number of its inode.
    pub(super) inode: u64,
    /// Its type, as in `DT_*` of the kernel's own table.
    pub(super) file_type: u8,
}

/// How many of the names, which are sorted, go into each block.
fn blocks<'n>(names: impl Iterator<Item = &'n [u8]>) -> Vec<usize> {
    let (mut counts, mut used) = (Vec::new(), 0);
    for name in names {
        let need = ENTRY_BYTES + name.len();
        match counts.last_mut() {
            Some(count) if used + need <= BLOCK_BYTES as usize => *count += 1,
            _ => {
                counts.push(1);
                used = 0;
            }
        }
        used += need;
    }
    counts
}

/// The number of bytes that a directory of these names, sorted, takes up.
pub(super) fn size<'n>(names: impl Iterator<Item = &'n [u8]> + Clone) -> u64 {
    let counts = blocks(names.clone());
    let before = counts.iter().rev().skip(1).sum();
    let in_last: usize = names.skip(before).map(|name| ENTRY_BYTES + name.len()).sum();
    counts.len().saturating_sub(1) as u64 * BLOCK_BYTES + in_last as u64
}

/// The contents, [`size`] bytes.
pub(super) fn to_bytes(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = entries;
    for count in blocks(entries.iter().map(|entry| entry.name)) {
        let (block, after) = rest.split_at(count);
        out.resize(out.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        let mut name_at = count * ENTRY_BYTES;
        for entry in block {
            out.extend_from_slice(&entry.inode.to_le_bytes());
            // Less than a block.
            out.extend_from_slice(&(name_at as u16).to_le_bytes());
            out.extend_from_slice(&[entry.file_type, 0]);
            name_at += entry.name.len();
        }
        block.iter().for_each(|entry| out.extend_from_slice(entry.name));
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_filled_to_the_last_byte_and_no_further() {
        // 244 and 12 bytes, twice: one block.
        let long = [b'a'; 244];
        for (names, expected) in [
            (vec![&long[..], &long[..]], vec![2]),
            (vec![&long[..], &long[..], b"b"], vec![2, 1]),
            (vec![&[b'a'; 245][..], &long[..]], vec![1, 1]),
            (vec![&[b'x'; 255][..]; 3], vec![1, 1, 1]),
            (vec![], vec![]),
        ] {
            assert_eq!(blocks(names.iter().copied()), expected);
            let entries: Vec<Entry<'_>> =
                names.iter().map(|name| Entry { name, inode: 1, file_type: 1 }).collect();
            assert_eq!(to_bytes(&entries).len() as u64, size(names.iter().copied()));
        }
    }
}
