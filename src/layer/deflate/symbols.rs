//! Which symbols stand for lengths and distances (RFC 1951, 3.2.5).

/// Ends a block.
pub(super) const END: usize = 256;
/// Literals, the end, and lengths.
pub(super) const LITERALS: usize = 286;
/// The first symbol of a length.
pub(super) const LENGTHS: usize = 257;
pub(super) const DISTANCES: usize = 30;
/// The shortest length that a symbol stands for.
pub(super) const MIN_LEN: usize = 3;
/// The longest.
pub(super) const MAX_LEN: usize = 258;

const LEN_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LEN_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DIST_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];
const DIST_EXTRA: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];

/// A symbol's least value and the number of bits that are added to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) base: u32,
    pub(super) extra_bits: u32,
}

/// Of a symbol of a length, counted from [`LENGTHS`].
pub(super) fn len_range(symbol: usize) -> Range {
    Range { base: LEN_BASE[symbol].into(), extra_bits: LEN_EXTRA[symbol].into() }
}

pub(super) fn dist_range(symbol: usize) -> Range {
    Range { base: DIST_BASE[symbol].into(), extra_bits: DIST_EXTRA[symbol].into() }
}

/// The symbol of a length less [`MIN_LEN`], counted from [`LENGTHS`].
#[inline(always)]
pub(super) fn len_symbol(less: u8) -> usize {
    LEN_SYMBOL[usize::from(less)].into()
}

/// The symbol of a distance less one.
#[inline(always)]
pub(super) fn dist_symbol(less: u32) -> u32 {
    let index = if less < 256 { less } else { 256 + (less >> 7) };
    DIST_SYMBOL[(index & 511) as usize].into()
}

static LEN_SYMBOL: [u8; 256] = {
    let mut table = [0; 256];
    let (mut less, mut symbol) = (0, 0);
    while less < 256 {
        while symbol + 1 < LEN_BASE.len() && LEN_BASE[symbol + 1] as usize <= less + MIN_LEN {
            symbol += 1;
        }
        table[less] = symbol as u8;
        less += 1;
    }
    table
};

/// Of the first 256 directly, of all others by what is left without the low 7 bits, which are extra bits there.
static DIST_SYMBOL: [u8; 512] = {
    let mut table = [0; 512];
    let mut index = 0;
    while index < 512 {
        let distance = if index < 256 { index + 1 } else { ((index - 256) << 7) + 1 };
        let mut symbol = 0;
        while symbol + 1 < DIST_BASE.len() && DIST_BASE[symbol + 1] as usize <= distance {
            symbol += 1;
        }
        table[index] = symbol as u8;
        index += 1;
    }
    table
};
