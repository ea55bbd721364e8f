//! Streams of a program in a pod: WebSocket (RFC 6455), and in its messages Kubernetes' channels (`v4.channel.k8s.io`).
//!
//! Messages of rbuild's own making, since what is needed of the protocol is this file, and reads that end in time work on the
//! sockets that are there. Nothing is compressed, no message is in several frames when it goes; when it comes, it may be.

use std::io;
use std::time::{Duration, Instant};

use sha1::{Digest as _, Sha1};

use super::connection::{Connection, Head};
use crate::http::Came;

/// The first that a server knows is used. The fifth can end standard input, which is not needed.
pub(super) const PROTOCOLS: &str = "v5.channel.k8s.io, v4.channel.k8s.io";
/// What a server makes of the key (RFC 6455, 1.3).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a message that goes: as kubectl's, which all servers take.
const PIECE: usize = 32 << 10;
/// A message that comes is shorter.
const MESSAGE: usize = 4 << 20;
/// Bytes that are gathered before they are written.
const GATHERED: usize = 256 << 10;
/// When nothing was said for so long, the server is asked for a sign of life.
const QUIET: Duration = Duration::from_secs(15);
/// And when none comes for so long, the connection is broken.
const DEAD: Duration = Duration::from_secs(60);

const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Which stream of a program.
pub(crate) mod channel {
    pub(crate) const STDIN: u8 = 0;
    pub(crate) const STDOUT: u8 = 1;
    pub(crate) const STDERR: u8 = 2;
    /// How the program ended.
    pub(crate) const STATUS: u8 = 3;
}

/// An open stream.
pub(crate) struct WebSocket {
    connection: Connection,
    /// A message whose last frame did not come yet.
    begun: Option<Vec<u8>>,
    heard: Instant,
    asked: Instant,
    /// When the first sign of life was asked for that did not come.
    unanswered: Option<Instant>,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// Bytes of a channel.
    Bytes(u8, Vec<u8>),
    /// Nothing in time.
    Nothing,
    End,
}

/// A key of a new connection.
pub(super) fn key() -> String {
    super::encoded(&random::<16>())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // What masks and keys guard against is what stands in between, not the server.
    if getrandom::getrandom(&mut bytes).is_err() {
        bytes.fill(0x5a);
    }
    bytes
}

impl WebSocket {
    pub(super) fn new(connection: Connection, head: &Head, key: &str) -> Result<Self, &'static str> {
        let expected = super::encoded(&Sha1::digest(format!("{key}{MAGIC}")));
        if head.header("sec-websocket-accept") != Some(&expected) {
            return Err("it opens no WebSocket");
        }
        let protocol = head.header("sec-websocket-protocol").unwrap_or_default();
        if !PROTOCOLS.split(", ").any(|known| known == protocol) {
            return Err("it knows neither version 4 nor 5 of its channels");
        }
        let now = Instant::now();
        Ok(Self { connection, begun: None, heard: now, asked: now, unanswered: None })
    }

    /// Sends bytes to a channel.
    pub(crate) fn send(&mut self, channel: u8, bytes: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(bytes.len().min(GATHERED) + 64);
        for piece in bytes.chunks(PIECE) {
            frame(&mut out, BINARY, &[&[channel], piece]);
            if out.len() >= GATHERED {
                self.connection.socket.write(&out)?;
                out.clear();
            }
        }
        self.connection.socket.write(&out)
    }

    /// Asks for a sign of life.
    pub(crate) fn ping(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        frame(&mut out, PING, &[]);
        self.asked = Instant::now();
        self.unanswered.get_or_insert(self.asked);
        self.connection.socket.write(&out)
    }

    /// What comes next, if it comes by then.
    ///
    /// # Errors
    /// A broken connection, also one on which nothing stirs.
    pub(crate) fn receive(&mut self, until: Instant) -> io::Result<Incoming> {
        loop {
            while let Some((kind, is_last, payload)) = parse(&mut self.connection.buffer)? {
                match kind {
                    PING => {
                        let mut out = Vec::new();
                        frame(&mut out, PONG, &[&payload]);
                        self.connection.socket.write(&out)?;
                    }
                    PONG => {}
                    CLOSE => return Ok(Incoming::End),
                    CONTINUED | TEXT | BINARY => {
                        let mut message = match (kind, self.begun.take()) {
                            (CONTINUED, Some(begun)) => begun,
                            (TEXT | BINARY, None) => Vec::new(),
                            _ => return Err(broken("a message begins in another one")),
                        };
                        message.extend(payload);
                        if message.len() > MESSAGE {
                            return Err(broken("a message is too long"));
                        }
                        if !is_last {
                            self.begun = Some(message);
                            continue;
                        }
                        // Servers open each channel with a message without bytes.
                        if message.len() > 1 {
                            let channel = message.remove(0);
                            return Ok(Incoming::Bytes(channel, message));
                        }
                    }
                    _ => return Err(broken("a frame is of no known kind")),
                }
            }
            let now = Instant::now();
            if now >= until {
                return Ok(Incoming::Nothing);
            }
            if now.duration_since(self.heard.max(self.asked)) > QUIET {
                self.ping()?;
            }
            let wait = until.duration_since(now).min(QUIET);
            match self.connection.socket.read_more(&mut self.connection.buffer, wait)? {
                Came::Bytes => {
                    self.heard = Instant::now();
                    self.unanswered = None;
                }
                // Judged once nothing is there to be read: what came while nobody read is a sign of life, too.
                Came::Nothing if is_dead(Instant::now(), self.heard, self.unanswered) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing stirs on it"));
                }
                Came::Nothing => {}
                Came::End => return Ok(Incoming::End),
            }
        }
    }
}

/// Whether a sign of life was asked for long ago, and nothing came since.
fn is_dead(now: Instant, heard: Instant, unanswered: Option<Instant>) -> bool {
    unanswered.is_some_and(|asked| now.saturating_duration_since(asked.max(heard)) > DEAD)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Adds a whole message, masked as those of clients are.
fn frame(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    out.push(0x80 | kind);
    match size {
        0..126 => out.push(0x80 | size as u8),
        126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend((size as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((size as u64).to_be_bytes());
        }
    }
    let mask: [u8; 4] = random();
    out.extend(mask);
    let start = out.len();
    parts.iter().for_each(|part| out.extend(*part));
    out[start..].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Takes a frame out of what came: its kind, whether it is the last of its message, and its bytes.
fn parse(buffer: &mut Vec<u8>) -> io::Result<Option<(u8, bool, Vec<u8>)>> {
    let [first, second, rest @ ..] = buffer.as_slice() else { return Ok(None) };
    let (is_last, kind) = (first & 0x80 != 0, first & 0x0f);
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(broken("a frame is none that a server may send"));
    }
    let (size, header) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(size) => (u64::from(u16::from_be_bytes(*size)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(size) => (u64::from_be_bytes(*size), 10),
            None => return Ok(None),
        },
        size => (u64::from(size), 2),
    };
    if size > MESSAGE as u64 || (kind >= CLOSE && (size > 125 || !is_last)) {
        return Err(broken("a frame is too long"));
    }
    let end = header + size as usize;
    if buffer.len() < end {
        return Ok(None);
    }
    let payload = buffer[header..end].to_vec();
    buffer.drain(..end);
    Ok(Some((kind, is_last, payload)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// As a server sends it.
    fn plain(kind: u8, is_last: bool, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![u8::from(is_last) << 7 | kind];
        match payload.len() {
            size @ 0..126 => out.push(size as u8),
            size @ 126..0x1_0000 => {
                out.push(126);
                out.extend((size as u16).to_be_bytes());
            }
            size => {
                out.push(127);
                out.extend((size as u64).to_be_bytes());
            }
        }
        out.extend(payload);
        out
    }

    #[test]
    fn silence_counts_from_the_first_question() {
        let heard = Instant::now();
        let at = |seconds| heard + Duration::from_secs(seconds);
        // Nobody asked: it was written for long, or not used.
        assert!(!is_dead(at(500), heard, None));
        assert!(!is_dead(at(500), heard, Some(at(470))));
        assert!(is_dead(at(500), heard, Some(at(430))));
    }

    #[test]
    fn frames_are_read_as_they_come() {
        for size in [0, 1, 125, 126, 0xffff, 0x1_0000] {
            let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let whole = plain(BINARY, size != 1, &payload);
            if size < 200 {
                for cut in 0..whole.len() {
                    assert_eq!(parse(&mut whole[..cut].to_vec()).unwrap(), None, "{size} {cut}");
                }
            }
            let mut two = [whole.as_slice(), b"\x89"].concat();
            assert_eq!(parse(&mut two).unwrap(), Some((BINARY, size != 1, payload)));
            assert_eq!(two, b"\x89");
        }
        for bad in [
            &[0xc2, 0][..],
            &[0x82, 0x80],
            &[0x89, 126, 0, 200],
            &[0x09, 0],
            &[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0],
        ] {
            assert!(parse(&mut bad.to_vec()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn frames_that_go_are_masked() {
        for size in [0, 5, 125, 126, 0xfffe, 0x1_0000] {
            let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let mut out = Vec::new();
            frame(&mut out, BINARY, &[&[7], &payload]);
            assert_eq!(out[0], 0x82);
            assert_eq!(out[1] & 0x80, 0x80);
            let header = match out[1] & 0x7f {
                126 => 4,
                127 => 10,
                _ => 2,
            };
            let mask = out[header..header + 4].to_vec();
            let shown: Vec<u8> =
                out[header + 4..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(shown, [&[7], payload.as_slice()].concat());
        }
    }
}
