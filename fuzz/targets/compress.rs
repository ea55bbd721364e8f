//! Any bytes as a compressed stream: bounded memory and work. And any bytes compressed by each encoder: they come back, from
//! other decoders, too.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use rbuild::layer::archive::{Limits, Names, Reader, decompress, detect, is_archive};
use rbuild::layer::{Compression, repack};

const LIMITS: Limits = Limits { entries: 1_000, metadata_bytes: 1 << 20, archive_bytes: 1 << 20 };
/// How the magic numbers of gzip, zstd, bzip2 and xz begin, and what comes next in most of their streams.
const MAGIC: [&[u8]; 4] = [
    &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3],
    &[0x28, 0xb5, 0x2f, 0xfd],
    b"BZh9\x31\x41\x59\x26\x53\x59",
    &[0xfd, b'7', b'z', b'X', b'Z', 0],
];

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    if let Some(magic) = MAGIC.get(usize::from(mode % 16)) {
        hostile(&[magic, bytes].concat());
    } else {
        hostile(bytes);
        let form = match mode % 16 {
            4..8 => Compression::Gzip { level: 1 },
            8..12 => Compression::Gzip { level: mode / 16 % 13 },
            _ => Compression::Zstd { level: i32::from(mode / 16 % 4) },
        };
        round_trip(form, bytes);
    }
});

/// Reads as a layer is read, to its bound.
fn hostile(bytes: &[u8]) {
    let _ = is_archive(bytes);
    let Ok(stream) = decompress(bytes) else { return };
    assert_eq!(stream.format(), detect(bytes));
    let mut read = 0;
    let mut counted = Counted { stream, read: &mut read };
    let mut reader = Reader::new(&mut counted, Names::Layer, LIMITS);
    while let Ok(Some(_)) = reader.next_member() {}
    let _ = reader.finish();
    // One buffer more is seen to be too much.
    assert!(read <= LIMITS.archive_bytes + (64 << 10));
}

struct Counted<'c, R> {
    stream: R,
    read: &'c mut u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(into)?;
        *self.read += count as u64;
        Ok(count)
    }
}

fn round_trip(form: Compression, raw: &[u8]) {
    let mut packed = Vec::new();
    let len = form.pack(raw, &mut packed).expect("the level is one that there is");
    // The same bytes always.
    let mut again = vec![0xaa; 10];
    assert_eq!(form.pack(raw, &mut again).ok(), Some(len));
    assert_eq!(&again[..len], &packed[..len]);
    let mut unpacked = vec![0; raw.len()];
    assert!(form.unpack(&mut packed, len, &mut unpacked));
    assert_eq!(unpacked, raw);
    let mut blob = Vec::new();
    repack(raw, form, &mut blob).expect("the level is one that there is");
    let mut read = Vec::new();
    let mut stream = decompress(blob.as_slice()).expect("it begins as its format says");
    stream.read_to_end(&mut read).expect("what was compressed can be decompressed");
    assert_eq!(read, raw);
}
