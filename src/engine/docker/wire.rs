//! HTTP/1.1 with a daemon: one request for each connection, which costs nothing on a socket of this machine.
//!
//! `http` is about servers on the network, by URL; this is about a socket, and about a body of gigabytes whose receiver
//! may say in the middle of it that it wants no more: then its answer is read.

use std::io::{self, BufRead as _, BufReader, Read, Write};

use super::super::archive::{Archive, Failure};
use super::address::Address;
use super::stream::Stream;
use crate::engine::Error;

/// The longest head of an answer.
const HEAD_LIMIT: u64 = 64 << 10;
/// The longest answer that is read whole.
const ANSWER_LIMIT: u64 = 64 << 20;

/// What a daemon said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Api-Version`
    pub(super) api_version: Option<String>,
    pub(super) body: Vec<u8>,
}

/// An answer whose body is read by and by.
pub(super) struct Streamed {
    pub(super) status: u16,
    pub(super) api_version: Option<String>,
    pub(super) body: Body,
}

/// The content of an answer.
pub(super) struct Body {
    stream: BufReader<Stream>,
    left: Left,
}

enum Left {
    /// So many bytes.
    Bytes(u64),
    /// In chunks; so many bytes of this one.
    Chunk(u64),
    /// As long as the connection lasts.
    Open,
    Done,
}

/// What a request carries.
pub(super) enum Payload<'a> {
    Nothing,
    Archive(&'a Archive<'a>, &'a (dyn Fn(u64, u64) + Sync)),
}

/// Asks, and reads the answer whole.
pub(super) fn ask(
    address: &Address,
    method: &str,
    path: &str,
    payload: &Payload<'_>,
) -> Result<Answer, Error> {
    let mut streamed = open(address, method, path, payload)?;
    let mut body = Vec::new();
    let read = (&mut streamed.body).take(ANSWER_LIMIT).read_to_end(&mut body);
    read.map_err(|source| broken(address, source))?;
    Ok(Answer { status: streamed.status, api_version: streamed.api_version, body })
}

/// Asks, and gives the answer as soon as its head is there.
pub(super) fn open(
    address: &Address,
    method: &str,
    path: &str,
    payload: &Payload<'_>,
) -> Result<Streamed, Error> {
    let mut stream = address.connect()?;
    let length = match payload {
        Payload::Nothing => 0,
        Payload::Archive(archive, _) => archive.size(),
    };
    let host = address.host();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rbuild/{}\r\nConnection: close\r\nContent-Length: {length}\r\n",
        env!("CARGO_PKG_VERSION")
    );
    if length > 0 {
        head.push_str("Content-Type: application/x-tar\r\n");
    }
    head.push_str("\r\n");
    let mut sent = stream.write_all(head.as_bytes()).and_then(|()| stream.flush());
    if let (Ok(()), Payload::Archive(archive, hear)) = (&sent, payload) {
        sent = match archive.write(&mut stream, *hear) {
            Ok(()) => stream.flush(),
            Err(Failure::Sink(source)) => Err(source),
            Err(Failure::Store(error)) => return Err(error.into()),
        };
    }
    // Who refuses in the middle says why before it closes.
    let mut stream = BufReader::new(stream);
    match (read_head(&mut stream), sent) {
        (Ok((status, api_version, left)), _) => {
            Ok(Streamed { status, api_version, body: Body { stream, left } })
        }
        (Err(_), Err(source)) | (Err(source), Ok(())) => Err(broken(address, source)),
    }
}

fn broken(address: &Address, source: io::Error) -> Error {
    Error::Broken { engine: "docker", place: address.to_string(), source }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn line(stream: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.take(HEAD_LIMIT).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(text) => Ok(text.strip_suffix('\r').unwrap_or(text).to_owned()),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(bad("what answers speaks no HTTP")),
    }
}

fn read_head(stream: &mut BufReader<Stream>) -> io::Result<(u16, Option<String>, Left)> {
    loop {
        let first = line(stream)?;
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
        let status = status.ok_or_else(|| bad("what answers speaks no HTTP"))?;
        let (mut left, mut api_version, mut read) = (Left::Open, None, 0);
        loop {
            let header = line(stream)?;
            read += header.len() as u64;
            if header.is_empty() {
                break;
            }
            if read > HEAD_LIMIT {
                return Err(bad("the head of the answer has no end"));
            }
            let Some((name, value)) = header.split_once(':') else { continue };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" if !matches!(left, Left::Chunk(_)) => {
                    left =
                        Left::Bytes(value.parse().map_err(|_| bad("the length of the answer is no number"))?);
                }
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => left = Left::Chunk(0),
                "api-version" => api_version = Some(value.to_owned()),
                _ => {}
            }
        }
        match status {
            100..=199 => continue,
            204 | 304 => return Ok((status, api_version, Left::Done)),
            _ => return Ok((status, api_version, left)),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Left::Chunk(0) = self.left {
            self.next_chunk()?;
        }
        let most = match self.left {
            Left::Bytes(left) | Left::Chunk(left) => left.min(buffer.len() as u64) as usize,
            Left::Open => buffer.len(),
            Left::Done => 0,
        };
        if most == 0 {
            return Ok(0);
        }
        let read = self.stream.read(&mut buffer[..most])?;
        match &mut self.left {
            Left::Bytes(_) | Left::Chunk(_) if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Left::Bytes(left) => *left -= read as u64,
            Left::Chunk(left) => {
                *left -= read as u64;
                if *left == 0 {
                    line(&mut self.stream)?;
                }
            }
            Left::Open | Left::Done => {}
        }
        Ok(read)
    }
}

impl Body {
    fn next_chunk(&mut self) -> io::Result<()> {
        let head = line(&mut self.stream)?;
        let size = head.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| bad("a chunk of the answer has no length"))?;
        self.left = if size == 0 { Left::Done } else { Left::Chunk(size) };
        Ok(())
    }
}
