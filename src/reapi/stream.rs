//! Large blobs, in pieces (`google.bytestream`), taken up where they broke off.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::client::{Client, Error};
use super::messages::Blob;
use super::wire::{Writer, fields};
use crate::grpc::Code;

/// So much goes into one message.
const PIECE: usize = 1 << 20;
/// A call that moved so much before it broke does not count as a failed attempt.
const GOOD_PIECE: u64 = 4 << 20;
/// The longest message of a server. Most send pieces of 64 KiB to 2 MiB.
const MESSAGE: usize = 16 << 20;
/// Fast, since it is for the way alone.
const ZSTD_LEVEL: i32 = 1;
const READ: &str = "/google.bytestream.ByteStream/Read";
const WRITE: &str = "/google.bytestream.ByteStream/Write";
const STATUS: &str = "/google.bytestream.ByteStream/QueryWriteStatus";

/// Where the bytes of a blob are.
#[derive(Clone, Copy)]
pub(crate) enum Source<'s> {
    Bytes(&'s [u8]),
    File(&'s Path),
    /// Opened anew for each attempt.
    Opening(&'s (dyn Fn() -> io::Result<File> + Sync)),
}

impl<'s> Source<'s> {
    fn open(self) -> io::Result<Box<dyn Read + 's>> {
        Ok(match self {
            Self::Bytes(bytes) => Box::new(bytes),
            Self::File(path) => Box::new(File::open(path)?),
            Self::Opening(open) => Box::new(open()?),
        })
    }
}

/// Whether bytes become fewer on the way when the server takes them so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// They are packed already.
    Never,
    Zstd,
}

/// What became of an attempt to write.
enum Written {
    /// It is there.
    All,
    /// The server has so much of it.
    Part(u64),
}

impl Client {
    /// Sends a blob.
    ///
    /// # Errors
    /// Those of the call, and of reading the source.
    pub(crate) fn put_stream(&self, blob: Blob, source: Source<'_>, packing: Packing) -> Result<(), Error> {
        self.put_stream_while(blob, source, packing, &|| true)
    }

    /// Sends a blob while `goes_on` says so, which is asked before each piece.
    ///
    /// # Errors
    /// As [`put_stream`](Self::put_stream), and [`Error::Unable`] when it does not go on.
    pub(crate) fn put_stream_while(
        &self,
        blob: Blob,
        source: Source<'_>,
        packing: Packing,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let can = self.capabilities()?;
        if can.blob_limit != 0 && blob.size > can.blob_limit {
            let limit = crate::text::size::bytes(can.blob_limit);
            return Err(Error::Unable(format!("the server takes blobs of up to {limit}")));
        }
        let is_packed = packing == Packing::Zstd && can.takes_zstd;
        let kind = if is_packed { "compressed-blobs/zstd" } else { "blobs" };
        let name = format!("uploads/{}/{kind}/{}/{}", uuid(), blob.digest.hex(), blob.size);
        let name = self.resource(&name);
        let (mut from, mut schedule) = (0, self.channel.schedule());
        loop {
            let reader = source.open().map_err(Error::Here)?;
            let written = match is_packed {
                true => {
                    let packed = zstd::stream::read::Encoder::new(reader, ZSTD_LEVEL).map_err(Error::Here)?;
                    self.write_from(&name, packed, from, goes_on)
                }
                false => self.write_from(&name, reader, from, goes_on),
            };
            let error = match written {
                Ok(Written::All) => return Ok(()),
                // How long it is on the way says nothing of what the server made of it.
                Ok(Written::Part(_)) if is_packed => {
                    let is_there = self.missing(&[blob])?.is_empty();
                    let lacks = || Error::Unable(format!("it took {}, and does not have it", blob.digest));
                    return if is_there { Ok(()) } else { Err(lacks()) };
                }
                Ok(Written::Part(size)) if size == blob.size => return Ok(()),
                Ok(Written::Part(size)) => {
                    let digest = blob.digest;
                    return Err(Error::Unable(format!("it took {size} of {} bytes of {digest}", blob.size)));
                }
                Err(Error::Grpc(error)) if error.code() == Some(Code::AlreadyExists) => return Ok(()),
                Err(Error::Grpc(error)) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            let Some(wait) = schedule.next(None) else { return Err(error.into()) };
            std::thread::sleep(wait);
            let committed = match self.committed(&name)? {
                Written::All => return Ok(()),
                Written::Part(size) => size,
            };
            if committed >= from + GOOD_PIECE {
                schedule = self.channel.schedule();
            }
            from = committed;
        }
    }

    /// Sends what `reader` has from byte `from` on.
    fn write_from(
        &self,
        name: &str,
        mut reader: impl Read,
        from: u64,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Written, Error> {
        let skipped = io::copy(&mut reader.by_ref().take(from), &mut io::sink()).map_err(Error::Here)?;
        if skipped < from {
            return Err(Error::Unable("the server has more of a blob than there is".to_owned()));
        }
        let mut call = self.channel.stream(WRITE, MESSAGE)?;
        let (mut offset, mut name) = (from, name);
        // One piece ahead, to know which is the last.
        let mut piece = next_piece(&mut reader)?;
        loop {
            if !goes_on() {
                return Err(Error::Unable("it was interrupted".to_owned()));
            }
            let next = if piece.len() < PIECE { Vec::new() } else { next_piece(&mut reader)? };
            let is_last = next.is_empty();
            let message = Writer::new().bytes(1, std::mem::take(&mut name)).number(2, offset);
            let message = message.number(3, is_last.into()).bytes(10, &piece).done();
            // When the server has enough, its answer says why.
            if !call.send(&message, is_last)? || is_last {
                break;
            }
            offset += piece.len() as u64;
            piece = next;
        }
        let answer = call.only()?;
        let mut committed = 0;
        for field in fields(&answer) {
            if let (1, value) = self.read(field)? {
                committed = value.number();
            }
        }
        // -1: it has the blob, and nobody knows how long it would be in this form.
        Ok(if committed == u64::MAX { Written::All } else { Written::Part(committed) })
    }

    /// How much of a blob the server has.
    fn committed(&self, name: &str) -> Result<Written, Error> {
        let request = Writer::new().bytes(1, name).done();
        let answer = match self.channel.unary(STATUS, &request, MESSAGE) {
            Ok(answer) => answer,
            // It keeps nothing of what broke off.
            Err(error) if matches!(error.code(), Some(Code::NotFound | Code::Unimplemented)) => {
                return Ok(Written::Part(0));
            }
            Err(error) => return Err(error.into()),
        };
        let (mut size, mut is_complete) = (0, false);
        for field in fields(&answer) {
            match self.read(field)? {
                (1, value) => size = value.number(),
                (2, value) => is_complete = value.number() != 0,
                _ => {}
            }
        }
        Ok(if is_complete { Written::All } else { Written::Part(size) })
    }

    /// Brings a blob. Whoever has the bytes compares them with the digest.
    ///
    /// # Errors
    /// [`Error::NoBlob`], those of the call, and of writing.
    pub(crate) fn read_stream(&self, blob: Blob, packing: Packing, out: &mut dyn Write) -> Result<(), Error> {
        let is_packed = packing == Packing::Zstd && self.capabilities()?.takes_zstd;
        let kind = if is_packed { "compressed-blobs/zstd" } else { "blobs" };
        let name = self.resource(&format!("{kind}/{}/{}", blob.digest.hex(), blob.size));
        let mut counted = Counted { out, written: 0, limit: blob.size };
        let mut schedule = self.channel.schedule();
        loop {
            let from = counted.written;
            let read = match is_packed {
                true => {
                    let unpacked = zstd::stream::write::Decoder::new(&mut counted).map_err(Error::Here)?;
                    self.read_from(&name, from, unpacked)
                }
                false => self.read_from(&name, from, &mut counted),
            };
            let error = match read {
                Ok(()) if counted.written == blob.size => return Ok(()),
                Ok(()) => {
                    let written = counted.written;
                    return Err(Error::Unable(format!("it gave {written} of {} bytes", blob.size)));
                }
                Err(Error::Grpc(error)) if error.code() == Some(Code::NotFound) => {
                    return Err(Error::NoBlob(blob.digest));
                }
                Err(Error::Grpc(error)) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            if counted.written >= from + GOOD_PIECE {
                schedule = self.channel.schedule();
            }
            let Some(wait) = schedule.next(None) else { return Err(error.into()) };
            std::thread::sleep(wait);
        }
    }

    /// Brings what there is from byte `from` on.
    fn read_from(&self, name: &str, from: u64, mut out: impl Write) -> Result<(), Error> {
        let request = Writer::new().bytes(1, name).number(2, from).done();
        let mut call = self.channel.stream(READ, MESSAGE)?;
        call.send(&request, true)?;
        while let Some(message) = call.receive()? {
            for field in fields(&message) {
                if let (10, value) = self.read(field)? {
                    out.write_all(value.bytes()).map_err(Error::Here)?;
                }
            }
        }
        out.flush().map_err(Error::Here)
    }

    /// The last bytes of a blob, `size` at most. Of a part nobody can tell whether it is what the blob's name says.
    ///
    /// # Errors
    /// Those of the call; what is cut off is not asked for again.
    pub(crate) fn read_end(&self, blob: Blob, size: u64) -> Result<Vec<u8>, Error> {
        let from = blob.size.saturating_sub(size);
        let name = self.resource(&format!("blobs/{}/{}", blob.digest.hex(), blob.size));
        let mut bytes = Vec::new();
        self.read_from(&name, from, Counted { out: &mut bytes, written: 0, limit: blob.size - from })?;
        Ok(bytes)
    }

    /// A blob of any size, in memory and verified. `blob.size` is what the caller allows.
    ///
    /// # Errors
    /// As [`read_stream`](Self::read_stream), and [`Error::OtherBytes`].
    pub(crate) fn read_blob(&self, blob: Blob) -> Result<Vec<u8>, Error> {
        if self.is_small(blob.size)? {
            return self.read_small(blob);
        }
        let mut bytes = Vec::new();
        self.read_stream(blob, Packing::Never, &mut bytes)?;
        match crate::oci::Digest::of(&bytes) {
            actual if actual == blob.digest => Ok(bytes),
            actual => Err(Error::OtherBytes { expected: blob.digest, actual }),
        }
    }

    /// Sends a blob that may have any size.
    ///
    /// # Errors
    /// As [`put_small`](Self::put_small) and [`put_stream`](Self::put_stream).
    pub(crate) fn put_blob(&self, blob: Blob, bytes: &[u8]) -> Result<(), Error> {
        match self.is_small(blob.size)? {
            true => self.put_small(&[(blob, bytes)]),
            false => self.put_stream(blob, Source::Bytes(bytes), Packing::Never),
        }
    }
}

fn next_piece(reader: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut piece = Vec::new();
    reader.take(PIECE as u64).read_to_end(&mut piece).map_err(Error::Here)?;
    Ok(piece)
}

/// Counts what is written, and takes no more than there should be.
struct Counted<'o> {
    out: &'o mut dyn Write,
    written: u64,
    limit: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.limit {
            return Err(io::Error::other("the server gives more than there should be"));
        }
        let n = self.out.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A name that nobody else takes (RFC 9562, version 4).
fn uuid() -> String {
    let mut bytes = [0; 16];
    // Without random numbers of the system the time and the process are as good: it is no secret.
    if getrandom::getrandom(&mut bytes).is_err() {
        let seed = format!("{:?} {}", std::time::Instant::now(), std::process::id());
        bytes.copy_from_slice(&crate::oci::Digest::of(seed.as_bytes()).as_bytes()[..16]);
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
