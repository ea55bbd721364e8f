//! Writes bits, the lowest first (RFC 1951, 3.1.1).

/// So many bytes behind the last that counts may be overwritten.
pub(super) const SLACK: usize = 8;

/// Bits on their way to a buffer that has room for all of them and [`SLACK`] bytes more.
#[derive(Default)]
pub(super) struct Bits<'o> {
    out: &'o mut [u8],
    at: usize,
    waiting: u64,
    /// How many wait: less than 8 between calls.
    count: u32,
}

impl<'o> Bits<'o> {
    pub(super) fn new(out: &'o mut [u8]) -> Self {
        Self { out, at: 0, waiting: 0, count: 0 }
    }

    /// Writes the `count` low bits of `bits`, whose other bits are 0; at most 56.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.waiting |= bits << self.count;
        self.count += count;
        self.out[self.at..self.at + 8].copy_from_slice(&self.waiting.to_le_bytes());
        self.at += (self.count / 8) as usize;
        self.waiting >>= self.count & !7;
        self.count &= 7;
    }

    /// Whether the last byte is whole.
    pub(super) fn is_aligned(&self) -> bool {
        self.count == 0
    }

    /// Goes on with a whole byte.
    pub(super) fn align(&mut self) {
        self.put(0, (8 - self.count) & 7);
    }

    /// Writes whole bytes, after [`Bits::align`].
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// The number of bytes written, the last one filled up with zeros.
    pub(super) fn finish(mut self) -> usize {
        self.align();
        self.at
    }
}
