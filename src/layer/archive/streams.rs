//! Decompression that ends where the compressed streams end, whatever stands behind them.
//!
//! Tar and tape drives fill up with zeros, and docker's unpacker, which stops at the end of the archive, never sees them.
//! Layers are read by [`super::decompress`], which takes nothing behind them.

use std::io::{self, BufRead, Read};

use super::compression::{Format, INPUT_BUFFER_BYTES, MAGIC_BYTES, XZ_MEMORY_BYTES, detect, zstd_decoder};

/// The uncompressed bytes of the streams of one format with which an input begins; what has no known format passes as it
/// is. Damage inside of a stream is an error.
pub struct Streams<R: Read>(State<R>);

enum State<R: Read> {
    Plain(Input<R>),
    Gzip(Box<flate2::bufread::GzDecoder<Input<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Input<R>>>),
    Bzip2(Box<bzip2::bufread::BzDecoder<Input<R>>>),
    Xz(Box<liblzma::bufread::XzDecoder<Input<R>>>),
    /// Nothing more comes: at the end, and after an error, because not every decoder bears being asked again.
    Over,
}

impl<R: Read> Streams<R> {
    /// Looks at the first bytes of `reader`. The decoder's memory is bounded, the length of its output is not.
    pub fn new(reader: R) -> io::Result<Self> {
        let mut input = Input::new(reader);
        match detect(input.peek(MAGIC_BYTES)?) {
            None => Ok(Self(State::Plain(input))),
            Some(format) => open(format, input).map(Self),
        }
    }
}

impl<R: Read> Read for Streams<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            let read = match &mut self.0 {
                State::Plain(reader) => return reader.read(into),
                State::Over => return Ok(0),
                State::Gzip(reader) => reader.read(into),
                State::Zstd(reader) => reader.read(into),
                State::Bzip2(reader) => reader.read(into),
                State::Xz(reader) => reader.read(into),
            };
            match read {
                Ok(0) => self.0 = next(std::mem::replace(&mut self.0, State::Over))?,
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.0 = State::Over;
                    return Err(error);
                }
            }
        }
        Ok(0)
    }
}

/// The stream behind one that has ended, if there is another of its format.
fn next<R: Read>(ended: State<R>) -> io::Result<State<R>> {
    let (format, mut input) = match ended {
        State::Gzip(reader) => (Format::Gzip, reader.into_inner()),
        State::Zstd(reader) => (Format::Zstd, reader.finish()),
        State::Bzip2(reader) => (Format::Bzip2, reader.into_inner()),
        State::Xz(reader) => (Format::Xz, reader.into_inner()),
        State::Plain(_) | State::Over => return Ok(State::Over),
    };
    // xz knows zeros between streams ("Stream Padding").
    while format == Format::Xz && input.peek(1)? == [0] {
        input.consume(1);
    }
    match detect(input.peek(MAGIC_BYTES)?) == Some(format) {
        true => open(format, input),
        false => Ok(State::Over),
    }
}

fn open<R: Read>(format: Format, input: Input<R>) -> io::Result<State<R>> {
    Ok(match format {
        Format::Gzip => State::Gzip(Box::new(flate2::bufread::GzDecoder::new(input))),
        Format::Zstd => State::Zstd(Box::new(zstd_decoder(input)?.single_frame())),
        Format::Bzip2 => State::Bzip2(Box::new(bzip2::bufread::BzDecoder::new(input))),
        Format::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES, 0)?;
            State::Xz(Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream)))
        }
    })
}

/// Bytes that can be looked at before they are read.
struct Input<R> {
    reader: R,
    buffer: Box<[u8]>,
    /// What of the buffer is still to be read.
    start: usize,
    end: usize,
}

impl<R: Read> Input<R> {
    fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; INPUT_BUFFER_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }

    /// The next `count` bytes; fewer at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.end - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + count)])
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)?;
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}
