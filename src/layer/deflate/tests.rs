#![allow(clippy::unwrap_used)]

use std::io::Read;

use proptest::prelude::*;

use super::huffman;

/// Compresses, has two other decoders read it, and gives the number of bytes.
fn check(raw: &[u8]) -> usize {
    let mut packed = vec![0xaa; 3];
    let len = super::compress(raw, &mut packed);
    check_open(&packed[..len], raw);
    assert!(super::size(raw) <= len && len <= super::size(raw) + 5);
    let mut stored = Vec::new();
    let len_stored = super::store(raw, &mut stored);
    check_open(&stored[..len_stored], raw);
    assert!(len_stored <= raw.len() + 5 * (raw.len() / 65_535 + 1));
    len
}

/// `packed` must be `raw`, and what may follow must be of no matter.
fn check_open(packed: &[u8], raw: &[u8]) {
    let mut unpacked = vec![0; raw.len()];
    let ended = [packed, &super::END].concat();
    let got = libdeflater::Decompressor::new().deflate_decompress(&ended, &mut unpacked).unwrap();
    assert!(got == raw.len() && unpacked == raw);
    unpacked.clear();
    let twice = [packed, packed, &super::END].concat();
    flate2::read::DeflateDecoder::new(twice.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == raw.repeat(2));
}

/// Has libdeflate compress, and opens that.
fn check_reopened(raw: &[u8], level: i32) {
    let level = libdeflater::CompressionLvl::new(level).unwrap();
    let mut encoder = libdeflater::Compressor::new(level);
    let mut packed = vec![0xaa; encoder.deflate_compress_bound(raw.len()) + super::SLACK];
    let closed = encoder.deflate_compress(raw, &mut packed).unwrap();
    let before = packed.clone();
    for wrong in [closed - 1, closed + 1] {
        assert_eq!(super::reopen(&mut packed, wrong), None);
        assert!(packed == before);
    }
    let len = super::reopen(&mut packed, closed).unwrap();
    assert!((closed..=closed + 5).contains(&len));
    check_open(&packed[..len], raw);
}

/// Numbers that look random, always the same.
fn numbers(mut state: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 20
    })
}

fn noise(len: usize) -> Vec<u8> {
    numbers(1).map(|number| number as u8).take(len).collect()
}

fn text(len: usize) -> Vec<u8> {
    let words = ["layer", "of", "an", "image", "index", "digest", "\n", "the"];
    numbers(2).flat_map(|number| format!("{} ", words[number as usize % 8]).into_bytes()).take(len).collect()
}

#[test]
fn what_is_compressed_comes_back() {
    for len in (0..600).chain([4096, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 7]) {
        for raw in [vec![0; len], noise(len), text(len)] {
            let packed = check(&raw);
            // 5 bytes for each 64 KiB or block of 32 Ki tokens, and at the end.
            assert!(packed <= len + 5 + 6 * (len / (1 << 15) + 1), "{len} to {packed}");
        }
    }
    let mut mixed = noise(300_000);
    mixed.extend(text(300_000));
    mixed.extend(vec![7; 300_000]);
    assert!(check(&mixed) < 400_000);
    assert!(check(&text(1 << 20)) < (1 << 20) / 4);
}

#[test]
fn every_length_and_distance_comes_back() {
    let filler = noise(40_000);
    for len in 3..=300 {
        let phrase = &noise(40_400)[40_000..40_000 + len];
        let raw = [phrase, &filler[..700], phrase, &[1; 300]].concat();
        check(&raw);
    }
    for distance in (1..300).chain([511, 512, 513, 4096, 32_767, 32_768, 32_769, 35_000]) {
        let phrase = &filler[..distance.min(200)];
        let raw = [phrase, &filler[300..300 + distance - phrase.len()], phrase, &[1; 300]].concat();
        check(&raw);
    }
}

#[test]
fn what_libdeflate_ended_goes_on() {
    let mut mixed = noise(200_000);
    mixed.extend(text(500_000));
    mixed.extend(vec![7; 300_000]);
    // Bytes of very different frequencies have the longest codes.
    let steep = numbers(5).map(|number| (number.trailing_zeros() * 7) as u8).take(300_000).collect();
    for raw in [mixed, text(1 << 20), noise(150_000), steep] {
        (0..=12).for_each(|level| check_reopened(&raw, level));
    }
    for len in (0..300).chain([5000, 10_000, 65_535, 65_536]) {
        for raw in [vec![0; len], noise(len), text(len)] {
            [2, 6, 9, 12].into_iter().for_each(|level| check_reopened(&raw, level));
        }
    }
}

/// `pieces` of bytes that look random, of so many letters each.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = (any::<u8>(), 1..2000_usize, 1..=255_u8);
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| {
        let random = |(seed, len, letters): (u8, usize, u8)| {
            numbers(u64::from(seed) + 1).map(move |number| (number % u64::from(letters)) as u8).take(len)
        };
        pieces.into_iter().flat_map(random).collect()
    })
}

proptest! {
    #[test]
    fn anything_goes_on_at_any_level(raw in any_bytes(), level in 0..=12) {
        check_reopened(&raw, level);
    }

    #[test]
    fn anything_comes_back(pieces in proptest::collection::vec((any::<u8>(), 1..2000_usize, 1..60_u8), 0..60)) {
        let mut raw = Vec::new();
        for (seed, len, letters) in pieces {
            let random = numbers(u64::from(seed) + 1).map(|number| (number % u64::from(letters)) as u8);
            raw.extend(random.take(len));
        }
        check(&raw);
    }

    #[test]
    fn lengths_make_a_whole_code(
        frequencies in proptest::collection::vec(prop_oneof![Just(0_u32), 1..4_u32, 1..30_000_u32], 286),
        steep in any::<bool>(),
    ) {
        let mut of = [0; 286];
        of.copy_from_slice(&frequencies);
        if steep {
            // Fibonacci's numbers make the longest codes.
            let (mut a, mut b) = (1, 1);
            for count in &mut of[..24] {
                *count = a;
                (a, b) = (b, a + b);
            }
        }
        for limit in [9, 15] {
            let lengths = huffman::lengths(&of, limit);
            let taken: u32 = lengths.iter().filter(|len| **len > 0).map(|len| 1 << (limit - usize::from(*len))).sum();
            prop_assert_eq!(taken, 1 << limit);
            prop_assert!(of.iter().zip(lengths).all(|(count, len)| *count == 0 || len > 0));
        }
    }
}

/// When this fails, other bytes come out: raise [`super::VERSION`], so that segments that were made before are not mixed
/// with new ones.
#[test]
fn the_bytes_are_those_of_the_version() {
    let raw = [text(200_000), noise(50_000), vec![0; 10_000]].concat();
    let mut packed = Vec::new();
    let len = super::compress(&raw, &mut packed);
    let digest = crate::oci::Digest::of(&packed[..len]).to_string();
    assert_eq!(
        (super::VERSION, digest.as_str()),
        (2, "sha256:1dcbc512396274d26fc71e25ed189396451a63f4700d65d821ba011264aea396")
    );
}
