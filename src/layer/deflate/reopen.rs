//! Makes an open stream of one that ends.
//!
//! libdeflate marks its last block as the last of all. Where that block begins, only those before it tell (RFC 1951, 3.2.3), so
//! all symbols are passed over up to there; what they stand for does not matter. One look at a table passes several
//! literals or a length, and its distance, without a branch.

use super::block::ORDER;
use super::huffman;
use super::symbols::{self, DISTANCES, END, LENGTHS, LITERALS};

/// So many bytes behind a stream are read, and may be overwritten.
pub(in crate::layer) const SLACK: usize = 16;

/// Longer codes are rare: of a thousand symbols, five. Larger tables take longer to make than they spare.
const LITERAL_BITS: u32 = 11;
const LITERAL_PLACES: usize = 1 << LITERAL_BITS;
const DISTANCE_PLACES: usize = 1 << 8;
/// Enough for all.
const RUN_PLACES: usize = 1 << 7;

/// Opens the deflate stream that `packed` begins with, of `len` bytes, and gives the number of bytes after that; behind it
/// are at least [`SLACK`] more. `None` for what is no whole stream.
pub(in crate::layer) fn reopen(packed: &mut [u8], len: usize) -> Option<usize> {
    let mut reader = Reader { bytes: packed, at: 0 };
    let last = loop {
        let begin = reader.at;
        if reader.pass_block()? {
            break begin;
        }
    };
    let end = reader.at;
    if end.div_ceil(8) != len {
        return None;
    }
    packed[last / 8] &= !(1 << (last % 8));
    if end.is_multiple_of(8) {
        return Some(len);
    }
    // An empty stored block: its head of three bits and the rest of that byte, all 0, then its length twice.
    let lengths = (end + 3).div_ceil(8);
    packed.get_mut(len..lengths)?.fill(0);
    packed.get_mut(lengths..lengths + 4)?.copy_from_slice(&[0, 0, 0xff, 0xff]);
    Some(lengths + 4)
}

/// Reads bits, the lowest first.
struct Reader<'p> {
    bytes: &'p [u8],
    /// In bits.
    at: usize,
}

impl Reader<'_> {
    /// The next bits: at least 57, then zeros.
    #[inline(always)]
    fn peek(&self) -> Option<u64> {
        let word = self.bytes.get(self.at / 8..)?.first_chunk()?;
        Some(u64::from_le_bytes(*word) >> (self.at % 8))
    }

    /// The next `count` bits as a number.
    fn take(&mut self, count: u32) -> Option<usize> {
        let bits = self.peek()? & ((1 << count) - 1);
        self.at += count as usize;
        Some(bits as usize)
    }

    /// Passes a block; whether it is marked as the last.
    fn pass_block(&mut self) -> Option<bool> {
        let is_last = self.take(1)? == 1;
        match self.take(2)? {
            0 => self.pass_stored()?,
            1 => Codes::fixed().pass(self)?,
            2 => self.codes()?.pass(self)?,
            _ => return None,
        }
        Some(is_last)
    }

    fn pass_stored(&mut self) -> Option<()> {
        self.at = self.at.next_multiple_of(8);
        let len = self.take(16)?;
        self.at += 16 + 8 * len;
        Some(())
    }

    /// What a block tells of its codes (RFC 1951, 3.2.7).
    fn codes(&mut self) -> Option<Codes> {
        let (literals, distances) = (self.take(5)? + LENGTHS, self.take(5)? + 1);
        let mut run_lens = [0; 19];
        for symbol in &ORDER[..self.take(4)? + 4] {
            run_lens[*symbol] = self.take(3)? as u8;
        }
        let runs = Code::<RUN_PLACES>::new(&run_lens);
        let mut lens = Vec::with_capacity(literals + distances);
        while lens.len() < literals + distances {
            let (len, count) = match runs.symbol(self)? {
                16 => (*lens.last()?, self.take(2)? + 3),
                17 => (0, self.take(3)? + 3),
                18 => (0, self.take(7)? + 11),
                len => (len as u8, 1),
            };
            lens.extend(std::iter::repeat_n(len, count));
        }
        let (mut literal_lens, mut distance_lens) = ([0; 288], [0; 32]);
        literal_lens[..literals].copy_from_slice(&lens[..literals]);
        distance_lens[..distances].copy_from_slice(&lens[literals..][..distances]);
        Some(Codes::new(&literal_lens, &distance_lens))
    }
}

/// A code: a table tells the symbol that the next bits begin with.
struct Code<const PLACES: usize> {
    table: [Word; PLACES],
    /// Those that are longer, which are rare: with their bits.
    long: Vec<(u16, Word)>,
}

/// A symbol's length, in the low four bits, and the symbol; a length of 0 where no symbol is known.
#[derive(Clone, Copy)]
struct Word(u16);

impl Word {
    fn len(self) -> u32 {
        u32::from(self.0 & 15)
    }

    fn symbol(self) -> usize {
        usize::from(self.0 >> 4)
    }
}

impl<const PLACES: usize> Code<PLACES> {
    fn new<const N: usize>(lens: &[u8; N]) -> Self {
        let mut code = Self { table: [Word(0); PLACES], long: Vec::new() };
        for ((symbol, len), bits) in (0..).zip(*lens).zip(huffman::codes(lens)) {
            let word = Word(symbol << 4 | u16::from(len));
            match code.table.get_mut(usize::from(bits)..) {
                _ if len == 0 => {}
                Some(places) if 1 << len <= PLACES => {
                    places.iter_mut().step_by(1 << len).for_each(|place| *place = word);
                }
                _ => code.long.push((bits, word)),
            }
        }
        code
    }

    /// Passes one symbol and tells which.
    fn symbol(&self, reader: &mut Reader<'_>) -> Option<usize> {
        let bits = reader.peek()?;
        let mut word = self.table[bits as usize % PLACES];
        if word.len() == 0 {
            let is_next = |(code, word): &&(u16, Word)| bits & ((1 << word.len()) - 1) == u64::from(*code);
            word = self.long.iter().find(is_next)?.1;
        }
        reader.at += word.len() as usize;
        Some(word.symbol())
    }
}

/// Both codes of a block, and how many bits what comes next has.
struct Codes {
    literals: Code<LITERAL_PLACES>,
    distances: Code<DISTANCE_PLACES>,
    literal_steps: Box<[Step; LITERAL_PLACES]>,
    distance_steps: [Step; DISTANCE_PLACES],
}

/// In the low byte a number of bits to pass, or [`STOP`]; in the high one a mask for the step of the distance that follows.
type Step = u16;

/// For a length: its distance follows.
const WITH_DISTANCE: Step = 0xff00;
/// For both: here is the end of the block, or a code that is in no table.
const STOP: Step = 1 << 7;

impl Codes {
    fn new(literal_lens: &[u8; 288], distance_lens: &[u8; 32]) -> Self {
        let (literals, distances) = (Code::new(literal_lens), Code::new(distance_lens));
        let mut literal_steps = Box::new([0; LITERAL_PLACES]);
        for (bits, step) in literal_steps.iter_mut().enumerate() {
            *step = literal_step(&literals, bits);
        }
        let distance_steps = distances.table.map(|word| match word.len() {
            0 => STOP,
            len => (len + distance_extra(word.symbol())) as Step,
        });
        Self { literals, distances, literal_steps, distance_steps }
    }

    /// RFC 1951, 3.2.6.
    fn fixed() -> Self {
        let len = |symbol| match symbol {
            0..144 => 8,
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        };
        Self::new(&std::array::from_fn(len), &[5; 32])
    }

    /// Passes everything up to the end of the block.
    fn pass(&self, reader: &mut Reader<'_>) -> Option<()> {
        loop {
            self.pass_steps(reader)?;
            // What stopped there is the end, or no entry of a table.
            match self.literals.symbol(reader)? {
                END => return Some(()),
                ..END => continue,
                symbol => reader.at += length_extra(symbol) as usize,
            }
            let symbol = self.distances.symbol(reader)?;
            reader.at += distance_extra(symbol) as usize;
        }
    }

    /// Passes what tables tell: whole pairs of a length and its distance.
    #[inline(never)]
    fn pass_steps(&self, reader: &mut Reader<'_>) -> Option<()> {
        let (literal_steps, distance_steps) = (&*self.literal_steps, &self.distance_steps);
        let (mut bits, mut count, mut next) = (0, 0, reader.at / 8);
        let mut passed = reader.at % 8;
        loop {
            // Some of these bits may be there already: the same ones.
            let word = reader.bytes.get(next..)?.first_chunk()?;
            bits |= u64::from_le_bytes(*word) << count;
            next += (63 - count) / 8;
            count |= 56;
            bits >>= passed;
            count -= passed;
            let literal = literal_steps[bits as usize % LITERAL_PLACES];
            let after = bits >> (literal & 63);
            let distance = distance_steps[after as usize % DISTANCE_PLACES] & (literal >> 8);
            if (literal | distance) & STOP != 0 {
                reader.at = next * 8 - count;
                return Some(());
            }
            bits = after >> (distance & 63);
            count -= usize::from(literal & 63) + usize::from(distance & 63);
            passed = 0;
        }
    }
}

/// As many literals as `bits` have, and the length behind them.
fn literal_step(code: &Code<LITERAL_PLACES>, bits: usize) -> Step {
    let mut passed = 0;
    loop {
        let word = code.table[bits >> passed];
        let with = passed + word.len();
        // What was shifted in is not known.
        if word.len() == 0 || word.symbol() == END || with > LITERAL_BITS {
            return if passed > 0 { passed as Step } else { STOP };
        }
        if word.symbol() > END {
            return (with + length_extra(word.symbol())) as Step | WITH_DISTANCE;
        }
        passed = with;
    }
}

fn length_extra(symbol: usize) -> u32 {
    if symbol < LITERALS { symbols::len_range(symbol - LENGTHS).extra_bits } else { 0 }
}

fn distance_extra(symbol: usize) -> u32 {
    if symbol < DISTANCES { symbols::dist_range(symbol).extra_bits } else { 0 }
}
