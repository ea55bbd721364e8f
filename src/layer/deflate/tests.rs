#![allow(clippy::unwrap_used)]

use std::io::Read;

use proptest::prelude::*;

use super::huffman;

/// Compresses, has two other decoders read it, and gives the number of bytes.
fn check(raw: &[u8]) -> usize {
    let mut packed = vec![0xaa; 3];
    let len = super::gzip(raw, &mut packed);
    let packed = &packed[..len];
    let mut unpacked = vec![0; raw.len()];
    let got = libdeflater::Decompressor::new().gzip_decompress(packed, &mut unpacked).unwrap();
    assert!(got == raw.len() && unpacked == raw);
    unpacked.clear();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == raw);
    len
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
            // The head, the tail, and 5 bytes for each 64 KiB or block of 32 Ki tokens.
            assert!(packed <= len + 18 + 6 * (len / (1 << 15) + 1), "{len} to {packed}");
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

proptest! {
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
    let len = super::gzip(&raw, &mut packed);
    let digest = crate::oci::Digest::of(&packed[..len]).to_string();
    assert_eq!(
        (super::VERSION, digest.as_str()),
        (1, "sha256:8430903284a20ef528075cfb0883ea5c00755ef565044ce4e68439b67d7623e4")
    );
}
