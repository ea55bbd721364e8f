//! Compresses a plain tar as a layer, as it is: entries and their order stay, and so does the diff id.
//!
//! eStargz would need the entries, which nobody reads here.

use std::io::{self, Read, Write};

use rayon::prelude::*;

use super::compress::{CompressError, Compression};
use super::member::Sum;
use crate::oci::{DiffId, Digest, Hasher};

/// Borders follow from the bytes alone, so that the same tar always gives the same blob.
const SEGMENT_BYTES: usize = 1 << 20;
/// What is read at once, and compressed while the next is read.
const PIECE_BYTES: usize = 16 * SEGMENT_BYTES;

/// What became of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repacked {
    /// Of the blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Of the tar.
    pub diff_id: DiffId,
}

/// Writes what `tar` holds to `blob`, compressed as `compression` says. At most 48 MiB are held in memory.
///
/// # Errors
/// What reading, compressing or writing says; and eStargz, which needs the entries, is refused.
pub fn repack(
    mut tar: impl Read + Send,
    compression: Compression,
    blob: &mut impl Write,
) -> io::Result<Repacked> {
    if let Compression::Estargz { .. } = compression {
        return Err(io::Error::other("a tar cannot be made an eStargz layer without reading its entries"));
    }
    let mut tar_hasher = Hasher::new();
    let mut blob = Blob { sink: blob, hasher: Hasher::new(), size: 0 };
    let mut sum = Sum::default();
    blob.put(&compression.head())?;
    let mut is_first = true;
    let mut raw = piece(&mut tar)?;
    loop {
        // The next ones are read, and these hashed, while these are compressed.
        let read = || match raw.len() < PIECE_BYTES {
            true => Ok(Vec::new()),
            false => piece(&mut tar),
        };
        let (next, (packed, ())) = rayon::join(read, || {
            rayon::join(|| pack(&raw, compression, is_first), || tar_hasher.update(&raw))
        });
        for segment in packed.map_err(io::Error::other)? {
            blob.put(&segment.packed)?;
            sum.append(&segment.sum);
        }
        is_first = false;
        raw = next?;
        if raw.is_empty() {
            blob.put(&compression.tail(&sum))?;
            let (diff_id, digest) = (DiffId(tar_hasher.finish()), blob.hasher.finish());
            return Ok(Repacked { digest, size: blob.size, diff_id });
        }
    }
}

/// The sink, and what was written to it.
struct Blob<'s, S> {
    sink: &'s mut S,
    hasher: Hasher,
    size: u64,
}

impl<S: Write> Blob<'_, S> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.sink.write_all(bytes)
    }
}

struct Segment {
    packed: Vec<u8>,
    sum: Sum,
}

/// The next bytes: fewer than [`PIECE_BYTES`] only at the end.
fn piece(tar: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    tar.take(PIECE_BYTES as u64).read_to_end(&mut raw)?;
    Ok(raw)
}

/// The segments of `raw`, compressed. A blob has at least one, as no bytes at all are not zstd.
fn pack(raw: &[u8], compression: Compression, is_first: bool) -> Result<Vec<Segment>, CompressError> {
    let pack = |segment: &[u8]| -> Result<Segment, CompressError> {
        let sum = compression.sum(segment);
        if compression == Compression::None {
            return Ok(Segment { packed: segment.to_vec(), sum });
        }
        let mut packed = Vec::new();
        let len = compression.pack(segment, &mut packed)?;
        packed.truncate(len);
        Ok(Segment { packed, sum })
    };
    match raw.is_empty() && is_first {
        true => pack(raw).map(|only| vec![only]),
        false => raw.par_chunks(SEGMENT_BYTES).map(pack).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::layer::archive::decompress;

    const FORMS: [Compression; 4] = [
        Compression::None,
        Compression::Gzip { level: 1 },
        Compression::Gzip { level: 6 },
        Compression::Zstd { level: 3 },
    ];

    /// Gives its bytes in small, uneven pieces, as decoders do.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let wanted = into.len().min(70_001);
            self.0.read(&mut into[..wanted])
        }
    }

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|at| ((at / 7) ^ (at >> 13)) as u8).collect()
    }

    #[test]
    fn the_tar_stays() {
        let lens = [0, 1, SEGMENT_BYTES, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES];
        for (tar, form) in lens.iter().flat_map(|len| FORMS.map(|form| (text(*len), form))) {
            let mut blob = Vec::new();
            let repacked = repack(Trickle(&tar), form, &mut blob).unwrap();
            let expected = Repacked {
                digest: Digest::of(&blob),
                size: blob.len() as u64,
                diff_id: DiffId(Digest::of(&tar)),
            };
            assert_eq!(repacked, expected, "{form}, {} bytes", tar.len());
            let mut unpacked = Vec::new();
            let mut decoder = decompress(blob.as_slice()).unwrap();
            assert_eq!(decoder.format().is_some(), form != Compression::None, "{form}");
            decoder.read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == tar, "{form}, {} bytes", tar.len());
            if let Compression::Gzip { .. } = form {
                // A reader of one member finds all of it, too.
                unpacked.clear();
                flate2::read::GzDecoder::new(blob.as_slice()).read_to_end(&mut unpacked).unwrap();
                assert!(unpacked == tar, "{form}, {} bytes", tar.len());
            }
        }
    }

    #[test]
    fn threads_do_not_change_the_blob() {
        let tar = text(PIECE_BYTES + SEGMENT_BYTES / 2);
        for form in FORMS {
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| repack(tar.as_slice(), form, &mut Vec::new()).unwrap())
            };
            assert_eq!(with(1), with(5), "{form}");
        }
    }

    #[test]
    fn a_fault_while_reading_is_told() {
        let tar = text(PIECE_BYTES);
        let broken = Trickle(&tar).chain(Fault);
        let error = repack(broken, Compression::default(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "it broke");
        assert!(repack([].as_slice(), Compression::Estargz { level: 1 }, &mut Vec::new()).is_err());
    }

    struct Fault;

    impl Read for Fault {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("it broke"))
        }
    }
}
