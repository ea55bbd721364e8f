//! Compares a file that is in several segments with its digest.
//!
//! A segment has 1 MiB of such a file at most, always from a multiple of 1 MiB on: a subtree of BLAKE3's tree (section 2.1
//! of its paper). So threads hash the pieces in any order, and what they got is merged in the order of the file.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::layout::MAX_SEGMENT;

const _: () = assert!(MAX_SEGMENT.is_power_of_two() && MAX_SEGMENT >= blake3::CHUNK_LEN as u64);

/// What a segment has of a file that others have parts of, too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// The number of the file's entry.
    pub(super) entry: usize,
    /// What its bytes are in the tree.
    pub(super) value: ChainingValue,
    /// Where it ends in the file.
    pub(super) end: u64,
}

/// What `bytes`, which are in the file from `offset` on and not all of it, are in the tree.
pub(super) fn value(bytes: &[u8], offset: u64) -> ChainingValue {
    blake3::Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}

/// The pieces so far of the file that is being written.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    values: Vec<ChainingValue>,
}

impl Pieces {
    /// Adds the next piece; the digest of the whole file, of `size` bytes, if it is the last.
    pub(super) fn push(&mut self, piece: &Piece, size: u64) -> Option<[u8; 32]> {
        self.values.push(piece.value);
        (piece.end == size).then(|| {
            let values = std::mem::take(&mut self.values);
            let (left, right) = halves(&values);
            *merge_subtrees_root(&merged(left), &merged(right), Mode::Hash).as_bytes()
        })
    }
}

fn merged(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [value] => *value,
        _ => {
            let (left, right) = halves(values);
            merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
        }
    }
}

/// Cuts two or more as the tree is: the left half is full, and the right one has no more than it.
fn halves(values: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    values.split_at(values.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_digest_of_the_whole() {
        let bytes: Vec<u8> = (0..6 * MAX_SEGMENT).map(|at| (at % 251) as u8).collect();
        for whole in 1..6 {
            for more in [1, 1023, 1024, 1025, MAX_SEGMENT - 1, MAX_SEGMENT] {
                let size = whole * MAX_SEGMENT + more;
                let bytes = &bytes[..size as usize];
                let (mut pieces, mut offset, mut digest) = (Pieces::default(), 0, None);
                for part in bytes.chunks(MAX_SEGMENT as usize) {
                    assert_eq!(digest, None);
                    let end = offset + part.len() as u64;
                    digest = pieces.push(&Piece { entry: 0, value: value(part, offset), end }, size);
                    offset = end;
                }
                assert_eq!(digest, Some(*blake3::hash(bytes).as_bytes()), "{size}");
            }
        }
    }
}
