//! Finds repetitions: bytes to tokens, block by block.

use super::symbols::{self, DISTANCES, END, LENGTHS, LITERALS, MAX_LEN, MIN_LEN};

/// A block ends with so many tokens: enough for its codes to pay for themselves.
pub(super) const BLOCK_TOKENS: usize = 1 << 15;

/// How far back a repetition may lie (RFC 1951, 2).
const WINDOW: usize = 1 << 15;

/// 64 KiB of places. More find a little more, and no longer fit the processor's first cache together with the window.
const HASH_BITS: u32 = 14;

/// A literal, or a repetition: 15 bits of distance less one, 9 bits that are a byte or 256 and the length less three,
/// 5 bits of the distance's symbol. A literal has a symbol of which nothing is written, so that both are written alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(u32);

/// The distance's symbol of a literal.
pub(super) const NO_DISTANCE: usize = 31;

impl Token {
    #[inline(always)]
    fn literal(byte: u8) -> Self {
        Self((NO_DISTANCE as u32) << 24 | u32::from(byte) << 15)
    }

    #[inline(always)]
    fn repetition(len_less: u8, distance_less: u32, symbol: u32) -> Self {
        Self(symbol << 24 | (256 + u32::from(len_less)) << 15 | distance_less)
    }

    /// Below 512: the byte, or 256 and the length less [`MIN_LEN`].
    #[inline(always)]
    pub(super) fn value(self) -> usize {
        (self.0 >> 15 & 511) as usize
    }

    /// Below 32.
    #[inline(always)]
    pub(super) fn distance_symbol(self) -> usize {
        (self.0 >> 24 & 31) as usize
    }

    /// 0 for a literal.
    #[inline(always)]
    pub(super) fn distance_less(self) -> u32 {
        self.0 & 0x7fff
    }
}

/// What is written with one pair of codes.
pub(super) struct Block<'f> {
    pub(super) tokens: &'f [Token],
    /// How often each symbol occurs, the end once.
    pub(super) literals: [u32; LITERALS],
    pub(super) distances: [u32; DISTANCES],
    /// What the tokens stand for.
    pub(super) raw: &'f [u8],
    pub(super) is_last: bool,
}

/// Goes through `input`.
pub(super) struct Finder<'i> {
    input: &'i [u8],
    at: usize,
    /// Where four bytes of this hash began last.
    places: Box<[u32; 1 << HASH_BITS]>,
    tokens: Box<[Token; BLOCK_TOKENS]>,
}

/// How often each token's parts occur in a block.
struct Counts {
    bytes: [u32; 256],
    /// By length less [`MIN_LEN`].
    lengths: [u32; 256],
    /// By symbol.
    distances: [u32; 32],
}

impl<'i> Finder<'i> {
    pub(super) fn new(input: &'i [u8]) -> Self {
        Self { input, at: 0, places: array(0), tokens: array(Token(0)) }
    }

    /// Tokens up to the end of the input, or as many as a block has.
    pub(super) fn next_block(&mut self) -> Block<'_> {
        let begin = self.at;
        let mut counts = Counts { bytes: [0; 256], lengths: [0; 256], distances: [0; 32] };
        let found = self.find(&mut counts);
        let rest = self.literals(found, &mut counts);
        let mut literals = [0; LITERALS];
        literals[..256].copy_from_slice(&counts.bytes);
        literals[END] = 1;
        for (less, count) in (0..=u8::MAX).zip(counts.lengths) {
            literals[LENGTHS + symbols::len_symbol(less)] += count;
        }
        let mut distances = [0; DISTANCES];
        distances.copy_from_slice(&counts.distances[..DISTANCES]);
        Block {
            tokens: &self.tokens[..rest],
            literals,
            distances,
            raw: &self.input[begin..self.at],
            is_last: self.at == self.input.len(),
        }
    }

    /// Finds until the block is full or the end is near, and gives the number of tokens.
    #[inline(never)]
    fn find(&mut self, counts: &mut Counts) -> usize {
        let (input, places, tokens) = (self.input, &mut *self.places, &mut *self.tokens);
        // Words are read without looking where the input ends.
        let end = input.len().saturating_sub(MAX_LEN + 16);
        let (mut at, mut count) = (self.at, 0);
        while at < end && count < BLOCK_TOKENS {
            let here = word(input, at);
            let place = &mut places[hash(here)];
            let before = *place as usize;
            *place = at as u32;
            // At the very beginning this is no distance but a huge number.
            let less = at.wrapping_sub(before).wrapping_sub(1);
            let differs = if less < WINDOW { here ^ word(input, before) } else { 1 };
            if differs as u32 != 0 {
                tokens[count] = Token::literal(here as u8);
                counts.bytes[usize::from(here as u8)] += 1;
                at += 1;
            } else {
                let same = same_bytes(input, differs, at, before);
                let (len_less, symbol) = ((same - MIN_LEN) as u8, symbols::dist_symbol(less as u32));
                tokens[count] = Token::repetition(len_less, less as u32, symbol);
                counts.lengths[usize::from(len_less)] += 1;
                counts.distances[(symbol & 31) as usize] += 1;
                // Of the places that are passed over, those at the borders find most.
                places[hash(here >> 8)] = at as u32 + 1;
                at += same;
                let tail = word(input, at - 2);
                places[hash(tail)] = at as u32 - 2;
                places[hash(tail >> 8)] = at as u32 - 1;
            }
            count += 1;
        }
        self.at = at;
        count
    }

    /// The last bytes of the input as they are.
    fn literals(&mut self, mut count: usize, counts: &mut Counts) -> usize {
        while count < BLOCK_TOKENS && self.at < self.input.len() {
            let byte = self.input[self.at];
            self.tokens[count] = Token::literal(byte);
            counts.bytes[usize::from(byte)] += 1;
            self.at += 1;
            count += 1;
        }
        count
    }
}

/// Lengths that the compiler knows spare a look at each access. Made from a vector, because a boxed array is made on the
/// stack first.
fn array<T: Copy, const N: usize>(value: T) -> Box<[T; N]> {
    vec![value; N].into_boxed_slice().try_into().unwrap_or_else(|_| Box::new([value; N]))
}

/// How many bytes at `before` are as those at `at`, up to [`MAX_LEN`]; `differs` is where the first eight do.
#[inline(always)]
fn same_bytes(input: &[u8], mut differs: u64, at: usize, before: usize) -> usize {
    let mut same = 0;
    while differs == 0 && same < MAX_LEN - 8 {
        same += 8;
        differs = word(input, at + same) ^ word(input, before + same);
    }
    (same + differs.trailing_zeros() as usize / 8).min(MAX_LEN)
}

/// Eight bytes, the first one lowest, so that all processors see the same number.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// Of the low four bytes. The factor is 2^32 by the golden ratio.
#[inline(always)]
fn hash(word: u64) -> usize {
    ((word as u32).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}
