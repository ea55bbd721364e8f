//! Writes a block: its codes, then its tokens in them; or its bytes, where that is shorter (RFC 1951, 3.2.3 to 3.2.7).

use super::bits::Bits;
use super::huffman;
use super::matches::{Block, Token};
use super::symbols::{self, DISTANCES, END, LENGTHS, LITERALS, MIN_LEN};

/// In this order the lengths of the codes for lengths are written.
pub(super) const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const STORED: u64 = 0;
const DYNAMIC: u64 = 2;
const MAX_STORED: usize = 0xffff;

/// Writes `block` in the shorter way. It is not marked as the last one, whatever follows.
pub(super) fn write(block: &Block<'_>, bits: &mut Bits<'_>) {
    let codes = Codes::of(block);
    if codes.size_bits(block) < stored_bits(block.raw.len()) {
        bits.put(DYNAMIC << 1, 3);
        codes.write(bits);
        // By value, so that it stays in registers.
        *bits = codes.write_tokens(block.tokens, std::mem::take(bits));
    } else {
        store(block.raw, bits);
    }
}

fn stored_bits(len: usize) -> u64 {
    (len + 5 * (len / MAX_STORED + 1)) as u64 * 8
}

/// Writes `raw` as it is; a whole number of bytes, if `bits` had one.
pub(super) fn store(raw: &[u8], bits: &mut Bits<'_>) {
    let mut rest = raw;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(MAX_STORED));
        bits.put(STORED << 1, 3);
        bits.align();
        let len = piece.len() as u16;
        bits.put(u64::from(len) | u64::from(!len) << 16, 32);
        bits.put_bytes(piece);
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

/// The codes of a block, and how they are told.
struct Codes {
    literal_lens: [u8; LITERALS],
    distance_lens: [u8; DISTANCES],
    /// Of the two lists of lengths.
    runs: Vec<Run>,
    literals: usize,
    distances: usize,
    /// Of the codes for `runs`.
    run_lens: [u8; 19],
    run_codes: usize,
}

/// A length of a code, or a repetition of one.
#[derive(Debug, Clone, Copy)]
struct Run {
    symbol: u8,
    extra: u8,
    extra_bits: u8,
}

impl Codes {
    fn of(block: &Block<'_>) -> Self {
        let literal_lens = huffman::lengths(&block.literals, 15);
        let distance_lens = huffman::lengths(&block.distances, 15);
        let literals = used(&literal_lens).max(LENGTHS);
        let distances = used(&distance_lens).max(1);
        let runs = runs(&[&literal_lens[..literals], &distance_lens[..distances]].concat());
        let mut counts = [0; 19];
        runs.iter().for_each(|run| counts[usize::from(run.symbol)] += 1);
        let run_lens = huffman::lengths(&counts, 7);
        let run_codes = used(&ORDER.map(|symbol| run_lens[symbol])).max(4);
        Self { literal_lens, distance_lens, runs, literals, distances, run_lens, run_codes }
    }

    /// What the whole block takes in these codes, or a little more.
    fn size_bits(&self, block: &Block<'_>) -> u64 {
        let run = |run: &Run| u64::from(self.run_lens[usize::from(run.symbol)] + run.extra_bits);
        let literal = |(symbol, (count, len)): (usize, (&u32, &u8))| {
            let extra = symbol.checked_sub(LENGTHS).map_or(0, |symbol| symbols::len_range(symbol).extra_bits);
            u64::from(*count) * u64::from(u32::from(*len) + extra)
        };
        let distance = |(symbol, (count, len)): (usize, (&u32, &u8))| {
            u64::from(*count) * u64::from(u32::from(*len) + symbols::dist_range(symbol).extra_bits)
        };
        let literals = block.literals.iter().zip(&self.literal_lens).enumerate().map(literal);
        let distances = block.distances.iter().zip(&self.distance_lens).enumerate().map(distance);
        let head = 3 + 5 + 5 + 4 + 3 * self.run_codes as u64;
        head + self.runs.iter().map(run).sum::<u64>() + literals.sum::<u64>() + distances.sum::<u64>()
    }

    fn write(&self, bits: &mut Bits<'_>) {
        bits.put((self.literals - LENGTHS) as u64, 5);
        bits.put((self.distances - 1) as u64, 5);
        bits.put((self.run_codes - 4) as u64, 4);
        for symbol in &ORDER[..self.run_codes] {
            bits.put(self.run_lens[*symbol].into(), 3);
        }
        let codes = huffman::codes(&self.run_lens);
        for run in &self.runs {
            let symbol = usize::from(run.symbol);
            bits.put(codes[symbol].into(), self.run_lens[symbol].into());
            bits.put(run.extra.into(), run.extra_bits.into());
        }
    }

    /// With the end of the block.
    fn write_tokens<'o>(&self, tokens: &[Token], mut bits: Bits<'o>) -> Bits<'o> {
        let (values, distances) = (self.values(), self.distances());
        for token in tokens {
            let value = values[token.value()];
            let distance = distances[token.distance_symbol()];
            let extra = token.distance_less() - distance.base_less;
            // At most 15 and 5 bits for a length, and 15 and 13 for a distance.
            let both =
                u64::from(value.bits) | u64::from(distance.code | extra << distance.code_bits) << value.count;
            bits.put(both, value.count + distance.count);
        }
        let end = huffman::codes(&self.literal_lens)[END];
        bits.put(end.into(), self.literal_lens[END].into());
        bits
    }

    /// By [`Token::value`].
    fn values(&self) -> [Value; 512] {
        let codes = huffman::codes(&self.literal_lens);
        let of =
            |symbol: usize| Value { bits: codes[symbol].into(), count: self.literal_lens[symbol].into() };
        std::array::from_fn(|value| {
            let Some(less) = value.checked_sub(256) else { return of(value) };
            let symbol = symbols::len_symbol(less as u8);
            let (code, range) = (of(LENGTHS + symbol), symbols::len_range(symbol));
            let extra = (less + MIN_LEN) as u32 - range.base;
            Value { bits: code.bits | extra << code.count, count: code.count + range.extra_bits }
        })
    }

    /// By [`Token::distance_symbol`]: nothing for that of a literal.
    fn distances(&self) -> [Distance; 32] {
        let codes = huffman::codes(&self.distance_lens);
        std::array::from_fn(|symbol| {
            let Some(code) = codes.get(symbol) else { return Distance::default() };
            let (range, code_bits) = (symbols::dist_range(symbol), self.distance_lens[symbol].into());
            let count = code_bits + range.extra_bits;
            Distance { code: (*code).into(), code_bits, base_less: range.base - 1, count }
        })
    }
}

/// A literal's code, or a length's with its extra bits.
#[derive(Clone, Copy)]
struct Value {
    bits: u32,
    count: u32,
}

/// A distance's code; the extra bits come from the token.
#[derive(Clone, Copy, Default)]
struct Distance {
    code: u32,
    code_bits: u32,
    /// The least distance, less one.
    base_less: u32,
    /// Of code and extra bits.
    count: u32,
}

/// Up to the last that is not 0.
fn used(lengths: &[u8]) -> usize {
    lengths.iter().rposition(|len| *len > 0).map_or(0, |last| last + 1)
}

/// Lengths of codes with what is repeated (RFC 1951, 3.2.7).
fn runs(lengths: &[u8]) -> Vec<Run> {
    let mut runs = Vec::with_capacity(lengths.len());
    for same in lengths.chunk_by(|a, b| a == b) {
        let (symbol, mut left) = (same[0], same.len());
        let one = Run { symbol, extra: 0, extra_bits: 0 };
        if symbol != 0 {
            runs.push(one);
            left -= 1;
        }
        while left >= 3 {
            let (symbol, least, most, extra_bits) = match (symbol, left) {
                (0, ..11) => (17, 3, 10, 3),
                (0, _) => (18, 11, 138, 7),
                _ => (16, 3, 6, 2),
            };
            let now = left.min(most);
            runs.push(Run { symbol, extra: (now - least) as u8, extra_bits });
            left -= now;
        }
        runs.extend(std::iter::repeat_n(one, left));
    }
    runs
}
