//! Decompression by content: the first bytes decide, never a file's name or a media type.

use std::io::{self, BufRead, BufReader, Read};

/// How many bytes [`detect`] wants to see.
pub(super) const MAGIC_BYTES: usize = 8;
/// Compressed bytes are read in pieces of this size.
pub(super) const INPUT_BUFFER_BYTES: usize = 128 * 1024;
/// What a zstd frame may ask for as its window: 128 MiB, the limit of the `zstd` program.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What the xz decoder may allocate; `xz -9` needs 65 MiB.
pub(super) const XZ_MEMORY_BYTES: u64 = 256 << 20;

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952; any number of members.
    Gzip,
    /// RFC 8878; any number of frames, skippable ones among them.
    Zstd,
    /// Any number of streams.
    Bzip2,
    /// Any number of streams.
    Xz,
}

/// The compression format of a stream that begins with `start` (at least 8 bytes, unless the stream is
/// shorter); `None` for anything else. The same magic numbers as docker's.
pub fn detect(start: &[u8]) -> Option<Format> {
    let skippable_frame = start.len() >= 8 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
    if start.starts_with(b"BZh") {
        Some(Format::Bzip2)
    } else if start.starts_with(&[0x1f, 0x8b, 0x08]) {
        Some(Format::Gzip)
    } else if start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        Some(Format::Xz)
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable_frame {
        Some(Format::Zstd)
    } else {
        None
    }
}

type Input<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

/// A stream of uncompressed bytes; made by [`decompress`].
pub struct Decoder<R: Read> {
    inner: Inner<R>,
    /// Whether it is known to be damaged: not every decoder bears being asked again.
    is_damaged: bool,
}

enum Inner<R: Read> {
    Plain(Input<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Input<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Input<R>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<Input<R>>>),
    Xz(Box<liblzma::bufread::XzDecoder<Input<R>>>),
}

/// Decompresses `reader` according to its first bytes; what has no known format passes as it is. The
/// memory of the decoder is bounded, the length of its output is not (see [`super::Limits`]).
pub fn decompress<R: Read>(mut reader: R) -> io::Result<Decoder<R>> {
    let mut start = Vec::with_capacity(MAGIC_BYTES);
    reader.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
    let format = detect(&start);
    let input = BufReader::with_capacity(INPUT_BUFFER_BYTES, io::Cursor::new(start).chain(reader));
    let inner = match format {
        None => Inner::Plain(input),
        Some(Format::Gzip) => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        Some(Format::Zstd) => Inner::Zstd(Box::new(zstd_decoder(input)?)),
        Some(Format::Bzip2) => Inner::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(input))),
        Some(Format::Xz) => Inner::Xz(Box::new(xz_decoder(input)?)),
    };
    Ok(Decoder { inner, is_damaged: false })
}

pub(super) fn zstd_decoder<B: BufRead>(input: B) -> io::Result<zstd::stream::read::Decoder<'static, B>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

fn xz_decoder<B: BufRead>(input: B) -> io::Result<liblzma::bufread::XzDecoder<B>> {
    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES, liblzma::stream::CONCATENATED)?;
    Ok(liblzma::bufread::XzDecoder::new_stream(input, stream))
}

impl<R: Read> Decoder<R> {
    /// The format found; `None` for a stream that is passed as it is.
    pub fn format(&self) -> Option<Format> {
        match &self.inner {
            Inner::Plain(_) => None,
            Inner::Gzip(_) => Some(Format::Gzip),
            Inner::Zstd(_) => Some(Format::Zstd),
            Inner::Bzip2(_) => Some(Format::Bzip2),
            Inner::Xz(_) => Some(Format::Xz),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.is_damaged {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the stream is damaged"));
        }
        let read = match &mut self.inner {
            Inner::Plain(reader) => reader.read(into),
            Inner::Gzip(reader) => reader.read(into),
            Inner::Zstd(reader) => reader.read(into),
            Inner::Bzip2(reader) => reader.read(into),
            Inner::Xz(reader) => reader.read(into),
        };
        self.is_damaged = read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        read
    }
}
