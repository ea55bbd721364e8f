//! Compresses to deflate (RFC 1951) at the pace that a build wants: level 1.
//!
//! One pass finds repetitions through a table that remembers the last place of every four bytes, another writes them
//! with Huffman codes of their own for each block. libdeflate's level 1 takes 1.3 times as long for programs and 1.5
//! times for text, and makes 4 to 5 % less of them; ISA-L is faster, and its bytes depend on the processor. Here nothing
//! but the input decides: no instruction that one machine has and another has not, no state from one call to the next.
//!
//! What comes out is an open stream: blocks of which none is marked as the last, that refer to nothing before them and end with a
//! whole byte. So others may follow, and [`END`] after all of them.

mod bits;
mod block;
mod huffman;
mod matches;
mod reopen;
mod symbols;
#[cfg(test)]
mod tests;

use bits::Bits;
use matches::Finder;
pub(super) use reopen::{SLACK, reopen};

/// Goes up with every change of the bytes that come out.
pub(super) const VERSION: u32 = 2;

/// An empty block that is marked as the last one: ends what open streams began.
pub(super) const END: [u8; 2] = [3, 0];

/// Compresses `raw`, of less than 4 GiB, to an open stream at the start of `packed`, which grows as needed and is never
/// shortened; gives the number of bytes.
pub(super) fn compress(raw: &[u8], packed: &mut Vec<u8>) -> usize {
    let mut bits = blocks(raw, packed);
    if !bits.is_aligned() {
        block::store(&[], &mut bits);
    }
    bits.finish()
}

/// Copies `raw` into stored blocks, in the form that [`compress`] gives.
pub(super) fn store(raw: &[u8], packed: &mut Vec<u8>) -> usize {
    let mut bits = Bits::new(with_room(raw.len(), packed));
    block::store(raw, &mut bits);
    bits.finish()
}

/// To how many bytes `raw` would be compressed, the last one filled up.
pub(super) fn size(raw: &[u8]) -> usize {
    blocks(raw, &mut Vec::new()).finish()
}

fn blocks<'p>(raw: &[u8], packed: &'p mut Vec<u8>) -> Bits<'p> {
    let mut bits = Bits::new(with_room(raw.len(), packed));
    let mut finder = Finder::new(raw);
    loop {
        let block = finder.next_block();
        block::write(&block, &mut bits);
        if block.is_last {
            return bits;
        }
    }
}

/// No stream of so many bytes is longer: a block that does not shrink is stored, with 5 bytes for every 64 KiB, and has no
/// fewer bytes than tokens; one more, of 5 bytes, fills up the last byte.
fn with_room(len: usize, packed: &mut Vec<u8>) -> &mut [u8] {
    let blocks = len / matches::BLOCK_TOKENS + 2;
    let bound = len + 16 * blocks + bits::SLACK;
    if packed.len() < bound {
        packed.resize(bound, 0);
    }
    packed
}
