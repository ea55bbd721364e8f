//! The gzip member that a layer is (RFC 1952): what stands before and behind its segments.
//!
//! A blob could have a member for each segment, and many readers would join them; but many do not: Python's
//! `tarfile.open(mode="r|gz")` takes the end of the first one for the end of the layer, and so does what asks for one member
//! of a library. So segments are deflate streams that are left open, as `pigz` writes them.

use super::deflate;

/// What the member begins with: magic, deflate, no flags, no time, how it was compressed, unknown system (RFC 1952, 2.3.1).
pub(super) fn header(level: u8) -> [u8; 10] {
    let how = match level {
        0 | 1 => 4,
        2..=7 => 0,
        _ => 2,
    };
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, how, 0xff]
}

/// The end of the deflate stream, CRC-32 and length.
const TRAILER_BYTES: usize = deflate::END.len() + 8;

/// A [`Sum`] at rest: its CRC-32 and how many bytes it is of, both the lowest byte first.
pub(super) type SumState = [u8; 12];

/// CRC-32 and length of bytes that are summed up piece by piece.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum(crc32fast::Hasher);

impl Sum {
    /// Of one piece.
    pub(super) fn of(raw: &[u8]) -> Self {
        // libdeflate's has the pace of the newer processors' instructions.
        Self(crc32fast::Hasher::new_with_initial_len(libdeflater::crc32(raw), raw.len() as u64))
    }

    /// Adds the piece behind.
    pub(super) fn append(&mut self, next: &Self) {
        self.0.combine(&next.0);
    }

    /// What the member ends with.
    pub(super) fn trailer(&self) -> [u8; TRAILER_BYTES] {
        let (crc, bytes) = self.parts();
        let mut trailer = [0; TRAILER_BYTES];
        trailer[..2].copy_from_slice(&deflate::END);
        trailer[2..6].copy_from_slice(&crc.to_le_bytes());
        // Modulo 2^32, as RFC 1952 has it.
        trailer[6..].copy_from_slice(&(bytes as u32).to_le_bytes());
        trailer
    }

    /// To go on from here later.
    pub(super) fn state(&self) -> SumState {
        let (crc, bytes) = self.parts();
        let mut state = [0; 12];
        state[..4].copy_from_slice(&crc.to_le_bytes());
        state[4..].copy_from_slice(&bytes.to_le_bytes());
        state
    }

    /// What was at rest.
    pub(super) fn resume(state: &SumState) -> Self {
        let [a, b, c, d, bytes @ ..] = *state;
        Self(crc32fast::Hasher::new_with_initial_len(
            u32::from_le_bytes([a, b, c, d]),
            u64::from_le_bytes(bytes),
        ))
    }

    /// How many bytes it is of.
    pub(super) fn bytes(&self) -> u64 {
        self.0.total_len()
    }

    fn parts(&self) -> (u32, u64) {
        (self.0.clone().finalize(), self.0.total_len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;
    use crate::layer::Compression;

    /// The member of these segments, of which two readers that know nothing of segments must find all.
    fn check(segments: &[Vec<u8>], level: u8) {
        let compression = Compression::Gzip { level };
        let (mut blob, mut sum, mut packed) = (compression.head(), Sum::default(), Vec::new());
        for raw in segments {
            let len = compression.pack(raw, &mut packed).unwrap();
            blob.extend_from_slice(&packed[..len]);
            sum = Sum::resume(&sum.state());
            sum.append(&compression.sum(raw));
        }
        blob.extend(compression.tail(&sum));
        let whole = segments.concat();
        let mut unpacked = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(blob.as_slice());
        decoder.read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == whole, "level {level}");
        assert!(decoder.into_inner().is_empty(), "level {level}: one member");
        unpacked.fill(0);
        libdeflater::Decompressor::new().gzip_decompress(&blob, &mut unpacked).unwrap();
        assert!(unpacked == whole, "level {level}");
    }

    fn segments() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let bytes = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            prop::collection::vec(b'a'..b'e', 0..6000),
            (any::<u8>(), 0..200_000_usize).prop_map(|(byte, len)| vec![byte; len]),
        ];
        prop::collection::vec(bytes, 0..8)
    }

    proptest! {
        #[test]
        fn any_segments_are_one_member_at_every_level(segments in segments(), level in 0..=12_u8) {
            check(&segments, level);
        }
    }

    #[test]
    fn sums_add_up() {
        let raw: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
        for cuts in [&[][..], &[0], &[1, 1, 2], &[50_000], &[99_999, 100_000]] {
            let (mut sum, mut begin) = (Sum::default(), 0);
            for end in cuts.iter().copied().chain([raw.len()]) {
                sum.append(&Sum::of(&raw[begin..end]));
                begin = end;
            }
            assert_eq!(sum.trailer(), Sum::of(&raw).trailer());
        }
    }

    /// Beyond 4 GiB the length begins again, and the CRC-32 goes on: that of 5 GiB of zeros, by `head -c 5G /dev/zero | gzip`.
    #[test]
    fn a_sum_of_more_than_four_gibibytes() {
        let one = Sum::of(&vec![0; 1 << 20]);
        let mut sum = Sum::default();
        (0..5 << 10).for_each(|_| sum.append(&one));
        assert_eq!(sum.trailer(), [3, 0, 0xc3, 0x38, 0x38, 0x19, 0, 0, 0, 0x40]);
    }
}
