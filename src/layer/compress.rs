//! Compresses one segment of a layer: one gzip member or one zstd frame.
//!
//! Members and frames may stand one after the other in a blob (RFC 1952, 2.2; RFC 8878, 3), so that
//! segments are compressed independently of one another and in any order.

use libdeflater::{CompressionLvl, Compressor};

use crate::oci::MediaType;

/// How a layer blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: the blob is the tar.
    None,
    /// gzip through libdeflate, level 0 to 12.
    Gzip {
        /// 0 stores, 12 takes longest.
        level: u8,
    },
    /// zstd, level 1 to 22 (negative ones are its fast levels).
    Zstd {
        /// As `zstd -LEVEL`.
        level: i32,
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
}

impl Compression {
    /// The media type of a layer compressed so.
    pub fn media_type(self) -> MediaType {
        match self {
            Compression::None => MediaType::LAYER,
            Compression::Gzip { .. } => MediaType::LAYER_GZIP,
            Compression::Zstd { .. } => MediaType::LAYER_ZSTD,
        }
    }

    /// Fails early on a level that does not exist.
    pub(super) fn check(self) -> Result<(), CompressError> {
        match self {
            Compression::Gzip { level } => gzip_level(level).map(drop),
            Compression::Zstd { .. } | Compression::None => Ok(()),
        }
    }

    /// Compresses `raw` to the start of `packed`, which grows as needed and is never shortened, and
    /// gives the number of bytes. For [`Compression::None`] nothing is written and the answer is 0.
    ///
    /// The encoder is made afresh for every segment: its output then cannot depend on what the thread
    /// compressed before, and making one costs less than a hundredth of using it.
    pub(super) fn pack(self, raw: &[u8], packed: &mut Vec<u8>) -> Result<usize, CompressError> {
        match self {
            Compression::None => Ok(0),
            Compression::Gzip { level } => {
                let mut encoder = Compressor::new(gzip_level(level)?);
                grow(packed, encoder.gzip_compress_bound(raw.len()));
                encoder.gzip_compress(raw, packed).map_err(|_| CompressError::Bound)
            }
            Compression::Zstd { level } => {
                let mut encoder = zstd::bulk::Compressor::new(level).map_err(CompressError::Zstd)?;
                grow(packed, zstd::zstd_safe::compress_bound(raw.len()));
                encoder.compress_to_buffer(raw, &mut packed[..]).map_err(CompressError::Zstd)
            }
        }
    }
}

fn gzip_level(level: u8) -> Result<CompressionLvl, CompressError> {
    CompressionLvl::new(i32::from(level)).map_err(|_| CompressError::GzipLevel(level))
}

fn grow(buffer: &mut Vec<u8>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
}
