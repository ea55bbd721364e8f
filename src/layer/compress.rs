//! Compresses one segment of a layer: some blocks of one gzip member, or one zstd frame.
//!
//! Neither refers to what stands before it, and they may stand one after the other (RFC 1951, 2; RFC 8878, 3), so that
//! segments are compressed independently of one another and in any order.

use std::fmt;

use libdeflater::{CompressionLvl, Compressor, Decompressor};
use serde::{Deserialize, Serialize};

use super::deflate;
use super::member::{self, Sum};
use super::writer::TABLE_ANNOTATION;
use crate::busy;
use crate::oci::{Descriptor, MediaType};

/// How a layer blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all: the blob is the tar.
    None,
    /// gzip, level 0 to 12: 0 and 1 are our own encoder, the others are libdeflate's.
    Gzip {
        /// 0 stores, 12 takes longest.
        level: u8,
    },
    /// zstd, level 1 to 22 (negative ones are its fast levels).
    Zstd {
        /// As `zstd -LEVEL`.
        level: i32,
    },
    /// eStargz: gzip that begins anew with every file, and a table of where each is.
    Estargz {
        /// As for gzip.
        level: u8,
    },
}

impl Default for Compression {
    /// gzip, which every reader knows, at its fastest level.
    fn default() -> Self {
        Compression::Gzip { level: 1 }
    }
}

/// Why a segment could not be compressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// gzip knows levels 0 to 12.
    #[error("gzip has no level {0}, only 0 to 12")]
    GzipLevel(u8),
    /// zstd refused the level or the bytes.
    #[error("zstd: {0}")]
    Zstd(#[source] std::io::Error),
    /// libdeflate asked for more room than its own bound, which it promises not to.
    #[error("libdeflate exceeded its own bound")]
    Bound,
    /// libdeflate wrote something else than a deflate stream.
    #[error("libdeflate wrote no whole stream")]
    NoStream,
}

impl fmt::Display for Compression {
    /// Name and level, as keys and messages have them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::None => f.write_str("none"),
            Compression::Gzip { level } => write!(f, "gzip {level}"),
            Compression::Zstd { level } => write!(f, "zstd {level}"),
            Compression::Estargz { level } => write!(f, "estargz {level}"),
        }
    }
}

impl Compression {
    /// Whether a layer has this form, whatever its level: then it need not be made anew. eStargz is gzip to everybody, and
    /// known by its annotation alone; who asks for gzip does not want its table.
    pub fn is_form_of(self, layer: &Descriptor) -> bool {
        let is_estargz = layer.annotations.contains_key(TABLE_ANNOTATION);
        let is_alike = layer.media_type.to_oci_layer() == self.media_type();
        match self {
            Compression::None | Compression::Zstd { .. } => is_alike,
            Compression::Gzip { .. } => is_alike && !is_estargz,
            Compression::Estargz { .. } => is_alike && is_estargz,
        }
    }

    /// The media type of a layer compressed so.
    pub fn media_type(self) -> MediaType {
        match self {
            Compression::None => MediaType::LAYER,
            Compression::Gzip { .. } | Compression::Estargz { .. } => MediaType::LAYER_GZIP,
            Compression::Zstd { .. } => MediaType::LAYER_ZSTD,
        }
    }

    /// Names everything that decides which bytes come out, but for the bytes that go in.
    pub(super) fn encoder(self) -> String {
        match self {
            Compression::None => "none".to_owned(),
            Compression::Gzip { level } => {
                format!("gzip {level} {LIBDEFLATE} {} {NOISE_RULE}", deflate::VERSION)
            }
            Compression::Zstd { level } => format!("zstd {level} {ZSTD}"),
            Compression::Estargz { level } => format!("estargz {level} {LIBDEFLATE} {NOISE_RULE}"),
        }
    }

    /// Fails early on a level that does not exist.
    pub(super) fn check(self) -> Result<(), CompressError> {
        match self {
            Compression::Gzip { level } | Compression::Estargz { level } => gzip_level(level).map(drop),
            Compression::Zstd { .. } | Compression::None => Ok(()),
        }
    }

    /// What a blob has before its segments.
    pub(super) fn head(self) -> Vec<u8> {
        match self {
            Compression::Gzip { level } => member::header(level).to_vec(),
            // Frames and members have heads of their own.
            Compression::None | Compression::Zstd { .. } | Compression::Estargz { .. } => Vec::new(),
        }
    }

    /// What [`Compression::tail`] wants of a segment: nothing, where it is empty.
    pub(super) fn sum(self, raw: &[u8]) -> Sum {
        match self {
            Compression::Gzip { .. } => Sum::of(raw),
            Compression::None | Compression::Zstd { .. } | Compression::Estargz { .. } => Sum::default(),
        }
    }

    /// What a blob has behind its segments, `sum` being that of all of them.
    pub(super) fn tail(self, sum: &Sum) -> Vec<u8> {
        match self {
            Compression::Gzip { .. } => sum.trailer().to_vec(),
            Compression::None | Compression::Zstd { .. } | Compression::Estargz { .. } => Vec::new(),
        }
    }

    /// Compresses a segment, `raw`, to the start of `packed`, which grows as needed and is never shortened, and
    /// gives the number of bytes. Nothing is written, and the answer is 0, for [`Compression::None`], and for
    /// [`Compression::Estargz`], whose members are made elsewhere.
    ///
    /// The encoder is made afresh for every segment: its output then cannot depend on what the thread
    /// compressed before, and making one costs less than a hundredth of using it.
    pub fn pack(self, raw: &[u8], packed: &mut Vec<u8>) -> Result<usize, CompressError> {
        match self {
            Compression::None | Compression::Estargz { .. } => Ok(0),
            Compression::Gzip { level } => busy::with("gzip", raw.len(), || {
                let level = if is_noise(raw) { STORED } else { level };
                deflated(raw, level, packed)
            }),
            Compression::Zstd { level } => busy::with("zstd", raw.len(), || {
                let mut encoder = zstd::bulk::Compressor::new(level).map_err(CompressError::Zstd)?;
                grow(packed, zstd::zstd_safe::compress_bound(raw.len()));
                encoder.compress_to_buffer(raw, &mut packed[..]).map_err(CompressError::Zstd)
            }),
        }
    }

    /// Decompresses what [`Compression::pack`] made of exactly `raw.len()` bytes, the first `len` bytes of `packed`; whether
    /// it was that. What is behind them may be overwritten.
    pub fn unpack(self, packed: &mut Vec<u8>, len: usize, raw: &mut [u8]) -> bool {
        let unpacked = match self {
            // Nothing is remembered of these.
            Compression::None | Compression::Estargz { .. } => None,
            Compression::Gzip { .. } => {
                let end = len + deflate::END.len();
                grow(packed, end);
                packed[len..end].copy_from_slice(&deflate::END);
                Decompressor::new().deflate_decompress(&packed[..end], raw).ok()
            }
            Compression::Zstd { .. } => zstd::bulk::decompress_to_buffer(&packed[..len], raw).ok(),
        };
        unpacked == Some(raw.len())
    }
}

/// The encoders' versions: another one may compress the same bytes to others.
const LIBDEFLATE: &str = "libdeflate-sys 1.26.1";
const ZSTD: &str = "zstd-sys 2.1.2+zstd.1.5.7";
/// Goes up with every change of [`is_noise`].
const NOISE_RULE: u32 = 2;

/// The levels that [`deflate`] is.
const STORED: u8 = 0;
const FASTEST: u8 = 1;

/// Deflate blocks that leave the stream open.
fn deflated(raw: &[u8], level: u8, packed: &mut Vec<u8>) -> Result<usize, CompressError> {
    match level {
        STORED => Ok(deflate::store(raw, packed)),
        FASTEST => Ok(deflate::compress(raw, packed)),
        _ => {
            let mut encoder = Compressor::new(gzip_level(level)?);
            grow(packed, encoder.deflate_compress_bound(raw.len()) + deflate::SLACK);
            let len = encoder.deflate_compress(raw, packed).map_err(|_| CompressError::Bound)?;
            deflate::reopen(packed, len).ok_or(CompressError::NoStream)
        }
    }
}

/// Whether compressing would be in vain, as for archives, pictures and whatever else is compressed already:
/// deflate takes several times as long for such bytes as for text, only to store them in the end. (zstd sees it
/// by itself.)
///
/// Looks at samples: first whether all byte values are equally frequent in them, which costs next to nothing;
/// if so, whether one really does not compress. Integers only, so that all machines decide alike.
pub(super) fn is_noise(raw: &[u8]) -> bool {
    if raw.len() < SAMPLES * SAMPLE_LEN * 2 {
        return false;
    }
    let sample = |index: usize| &raw[index * (raw.len() / SAMPLES)..][..SAMPLE_LEN];
    let mut counts = [0_u64; 256];
    for byte in (0..SAMPLES).flat_map(sample) {
        counts[usize::from(*byte)] += 1;
    }
    // Where all are equally frequent, the sum of the squares is smallest: n * n / 256.
    let total = (SAMPLES * SAMPLE_LEN) as u64;
    let squares: u64 = counts.iter().map(|count| count * count).sum();
    if squares * 100 > total * total / 256 * 105 {
        return false;
    }
    let middle = &raw[raw.len() / 2..][..SAMPLES * SAMPLE_LEN / 4];
    deflate::size(middle) + GZIP_BYTES >= middle.len()
}

/// 64 KiB of every segment.
const SAMPLES: usize = 16;
const SAMPLE_LEN: usize = 4096;
/// Header and trailer of a gzip member.
const GZIP_BYTES: usize = 18;

pub(super) fn gzip_level(level: u8) -> Result<CompressionLvl, CompressError> {
    CompressionLvl::new(i32::from(level)).map_err(|_| CompressError::GzipLevel(level))
}

fn grow(buffer: &mut Vec<u8>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn only_noise_is_stored() {
        let random = noise(1 << 20);
        let ramp: Vec<u8> = (0..1 << 20).map(|at| at as u8).collect();
        let mut mixed = noise(1 << 20);
        mixed[..1 << 19].fill(b'x');
        let cases = [(&random, true), (&ramp, false), (&mixed, false), (&noise(100_000), false)];
        for (bytes, expected) in cases {
            assert_eq!(is_noise(bytes), expected);
            let mut packed = Vec::new();
            let len = Compression::default().pack(bytes, &mut packed).unwrap();
            assert_eq!(len > bytes.len(), expected || bytes.len() == 100_000);
            let mut unpacked = vec![0; bytes.len()];
            assert!(Compression::default().unpack(&mut packed, len, &mut unpacked));
            assert!(unpacked == *bytes);
            assert!(!Compression::default().unpack(&mut packed, len - 1, &mut unpacked));
            assert!(!Compression::default().unpack(&mut packed, len, &mut unpacked[1..]));
        }
    }

    /// When this fails after an update of dependencies: write the new versions into the constants, so that segments
    /// that the old encoder made are not mixed with those of the new one.
    #[test]
    fn the_encoders_are_those_that_are_named() {
        let lock = include_str!("../../Cargo.lock");
        for named in [LIBDEFLATE, ZSTD] {
            let (name, version) = named.split_once(' ').unwrap();
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"");
            assert!(lock.contains(&entry), "{named}");
        }
    }

    #[test]
    fn forms_of_layers() {
        let digest = crate::oci::Digest::of(b"");
        let plain = |media_type| Descriptor::new(media_type, digest, 0);
        let mut lazy = plain(MediaType::LAYER_GZIP);
        lazy.annotations.insert(TABLE_ANNOTATION.to_owned(), digest.to_string());
        let layers = [
            plain(MediaType::LAYER),
            plain(MediaType::DOCKER_LAYER_GZIP),
            plain(MediaType::LAYER_ZSTD),
            lazy,
            plain(MediaType::new("application/x-other")),
        ];
        let forms = [
            Compression::None,
            Compression::Gzip { level: 9 },
            Compression::Zstd { level: 1 },
            Compression::Estargz { level: 1 },
        ];
        for (at, form) in forms.iter().enumerate() {
            let found: Vec<usize> = (0..layers.len()).filter(|i| form.is_form_of(&layers[*i])).collect();
            assert_eq!(found, [at], "{form}");
        }
    }

    #[test]
    fn a_level_that_does_not_exist_is_refused() {
        assert!(matches!(Compression::Gzip { level: 13 }.check(), Err(CompressError::GzipLevel(13))));
        assert!(Compression::Gzip { level: 12 }.check().is_ok());
    }
}
