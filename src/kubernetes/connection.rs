//! One connection of HTTP/1.1: a request, and what it is answered.

use std::io;
use std::time::{Duration, Instant};

use crate::http::{Came, Socket};

/// What comes before the body is shorter.
const HEAD: usize = 64 << 10;
/// An answer is shorter.
const BODY: usize = 32 << 20;
const HEADERS: usize = 100;
/// A read looks so often whether its time is over.
const LOOK: Duration = Duration::from_millis(500);

/// A connection, and what came that nobody read yet.
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) buffer: Vec<u8>,
}

/// What an answer begins with.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    /// Whether the connection can be used for another request.
    pub(super) is_kept: bool,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str, word: &str) -> bool {
        self.header(name)
            .is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it does not speak HTTP: {what}"))
}

impl Connection {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    /// Reads until the end of what comes before a body.
    pub(super) fn head(&mut self, until: Instant) -> io::Result<Head> {
        loop {
            let mut space = [httparse::EMPTY_HEADER; HEADERS];
            let mut response = httparse::Response::new(&mut space);
            match response.parse(&self.buffer) {
                Ok(httparse::Status::Complete(size)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let headers = response.headers.iter();
                    let headers: Vec<(String, String)> =
                        headers.map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect();
                    let status = response.code.unwrap_or_default();
                    self.buffer.drain(..size);
                    // What is said before the answer (RFC 9110, 15.2); 101 is one.
                    if (100..200).contains(&status) && status != 101 {
                        continue;
                    }
                    return Ok(Head { status, headers });
                }
                Ok(httparse::Status::Partial) if self.buffer.len() > HEAD => {
                    return Err(broken("its answer has no end"));
                }
                Ok(httparse::Status::Partial) => self.more(until)?,
                Err(e) => return Err(broken(&e.to_string())),
            }
        }
    }

    /// Reads the rest of an answer.
    pub(super) fn answer(&mut self, head: Head, until: Instant) -> io::Result<Answer> {
        let mut is_kept = !head.has("connection", "close");
        let body = if head.status == 204 || head.status == 304 {
            Vec::new()
        } else if head.has("transfer-encoding", "chunked") {
            self.chunks(until)?
        } else if let Some(length) = head.header("content-length") {
            let length = length.trim().parse().map_err(|_| broken("its length is none"))?;
            self.take(length, until)?
        } else {
            is_kept = false;
            self.rest(until)?
        };
        Ok(Answer { head, body, is_kept })
    }

    /// More bytes than there are; the end is an error.
    fn more(&mut self, until: Instant) -> io::Result<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.socket.read_more(&mut self.buffer, left.min(LOOK))? {
                Came::Bytes => return Ok(()),
                Came::Nothing => {}
                Came::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    fn take(&mut self, size: usize, until: Instant) -> io::Result<Vec<u8>> {
        if size > BODY {
            return Err(broken("its answer is too long"));
        }
        while self.buffer.len() < size {
            self.more(until)?;
        }
        Ok(self.buffer.drain(..size).collect())
    }

    fn rest(&mut self, until: Instant) -> io::Result<Vec<u8>> {
        loop {
            match self.more(until) {
                Ok(()) if self.buffer.len() > BODY => return Err(broken("its answer is too long")),
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn line(&mut self, until: Instant) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim().to_owned());
            }
            if self.buffer.len() > HEAD {
                return Err(broken("a line has no end"));
            }
            self.more(until)?;
        }
    }

    fn chunks(&mut self, until: Instant) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line(until)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| broken("a chunk has no size"))?;
            if size == 0 {
                // What may follow the last one.
                while !self.line(until)?.is_empty() {}
                return Ok(body);
            }
            if body.len().saturating_add(size) > BODY {
                return Err(broken("its answer is too long"));
            }
            body.extend(self.take(size, until)?);
            self.line(until)?;
        }
    }
}
