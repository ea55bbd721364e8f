//! Compresses to gzip (RFC 1951 and 1952) at the pace that a build wants: level 1.
//!
//! One pass finds repetitions through a table that remembers the last place of every four bytes, another writes them
//! with Huffman codes of their own for each block. libdeflate's level 1 takes 1.3 times as long for programs and 1.5
//! times for text, and makes 4 to 5 % less of them; ISA-L is faster, and its bytes depend on the processor. Here nothing
//! but the input decides: no instruction that one machine has and another has not, no state from one call to the next.

mod bits;
mod block;
mod huffman;
mod matches;
mod symbols;
#[cfg(test)]
mod tests;

use bits::Bits;
use matches::Finder;

/// Goes up with every change of the bytes that come out.
pub(super) const VERSION: u32 = 1;

/// Magic, deflate, no flags, no time, fastest, unknown system (RFC 1952, 2.3.1).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// Compresses `raw`, of less than 4 GiB, to one gzip member at the start of `packed`, which grows as needed and is never
/// shortened; gives the number of bytes.
pub(super) fn gzip(raw: &[u8], packed: &mut Vec<u8>) -> usize {
    let bound = bound(raw.len());
    if packed.len() < bound {
        packed.resize(bound, 0);
    }
    packed[..HEADER.len()].copy_from_slice(&HEADER);
    let mut bits = Bits::new(&mut packed[HEADER.len()..]);
    let mut finder = Finder::new(raw);
    loop {
        let block = finder.next_block();
        block::write(&block, &mut bits);
        if block.is_last {
            break;
        }
    }
    let end = HEADER.len() + bits.finish();
    packed[end..end + 4].copy_from_slice(&libdeflater::crc32(raw).to_le_bytes());
    packed[end + 4..end + 8].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    end + 8
}

/// No member is longer: a block that does not shrink is stored, with 5 bytes for every 64 KiB, and has no fewer bytes
/// than tokens.
fn bound(len: usize) -> usize {
    let blocks = len / matches::BLOCK_TOKENS + 1;
    HEADER.len() + len + 16 * blocks + 8 + bits::SLACK
}
