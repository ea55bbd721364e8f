//! A connection to the program in a pod: frames over a channel of its node's, and what is sent as one stream.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write};
use std::time::{Duration, Instant};

use super::super::Fault;
use super::super::link::{self, Frames, PIECE};
use super::super::sending::{Package, changed};
use crate::kubernetes::{Incoming, WebSocket, channel};
use crate::reapi::Blob;
use crate::text::duration::seconds;
use crate::text::terminal::for_people;

/// How often whoever waits is asked whether to go on.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// From who follows a log or gets a file something comes at least so often.
pub(super) const SILENT: Duration = Duration::from_secs(60);
/// What a node says of a program that its image has not.
const NO_PROGRAM: &str = "executable file not found";
/// Of what a program says before it ends so much is told.
const WORDS: usize = 2000;

/// Why nothing is answered.
pub(super) enum Broken {
    /// The connection is gone, or the pod.
    Lost(String),
    /// It is answered that it cannot be done.
    Refused(String),
    /// Nobody wants the answer any more.
    Stopped,
    /// What is to be sent cannot be read, and the like.
    Other(Fault),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

pub(super) fn unexpected(kind: u8, bytes: &[u8]) -> Broken {
    match kind {
        b'x' => Broken::Refused(for_people(&String::from_utf8_lossy(bytes))),
        _ => Broken::Lost("it answers something else than what was asked".to_owned()),
    }
}

/// A connection to the program in a pod.
pub(super) struct Link {
    pub(super) socket: WebSocket,
    pub(super) frames: Frames,
    /// What the program said that is no answer.
    pub(super) said: Vec<u8>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link")
    }
}

impl Link {
    pub(super) fn send(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(channel::STDIN, &link::frame(kind, bytes))
    }

    pub(super) fn receive(&mut self, goes_on: &dyn Fn() -> bool) -> Result<(u8, Vec<u8>), Broken> {
        loop {
            match self.frames.next() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(()) => return Err(Broken::Lost("it says more than can be".to_owned())),
            }
            if !goes_on() {
                return Err(Broken::Stopped);
            }
            match self.socket.receive(Instant::now() + LOOK)? {
                Incoming::Bytes(channel::STDOUT, bytes) => self.frames.push(&bytes),
                Incoming::Bytes(channel::STDERR, bytes) if self.said.len() < WORDS => self.said.extend(bytes),
                Incoming::Bytes(channel::STATUS, status) => return Err(self.over(&status)),
                Incoming::End => return Err(self.over(b"")),
                Incoming::Bytes(..) | Incoming::Nothing => {}
            }
        }
    }

    /// The connection is over, with what the node says of the program.
    fn over(&self, status: &[u8]) -> Broken {
        let status: serde_json::Value = serde_json::from_slice(status).unwrap_or_default();
        let message = status["message"].as_str().unwrap_or_default().trim();
        let said = String::from_utf8_lossy(&self.said);
        let said: Vec<&str> = [said.trim(), message].into_iter().filter(|text| !text.is_empty()).collect();
        let said = for_people(&said.join("; "));
        if message.contains(NO_PROGRAM) {
            return Broken::Other(Fault::engine(format!("rbuild is not found in its pod's image ({said})")));
        }
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        Broken::Lost(format!("the connection to the pod ended{said}"))
    }

    /// As `receive`, from a program that says something again and again.
    pub(super) fn receive_soon(&mut self, goes_on: &dyn Fn() -> bool) -> Result<(u8, Vec<u8>), Broken> {
        let began = Instant::now();
        let is_silent = || began.elapsed() > SILENT;
        match self.receive(&|| goes_on() && !is_silent()) {
            Err(Broken::Stopped) if goes_on() => {
                Err(Broken::Lost(format!("the pod says nothing for {}", seconds(SILENT))))
            }
            received => received,
        }
    }

    pub(super) fn answer(&mut self, kind: u8, goes_on: &dyn Fn() -> bool) -> Result<Vec<u8>, Broken> {
        match self.receive(goes_on)? {
            (answered, bytes) if answered == kind => Ok(bytes),
            (other, bytes) => Err(unexpected(other, &bytes)),
        }
    }

    /// Sends blobs, packed as one stream.
    pub(super) fn put(
        &mut self,
        package: &Package,
        missing: &BTreeSet<Blob>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), Broken> {
        self.send(b'P', b"")?;
        let mut packed = zstd::stream::write::Encoder::new(Pieces { link: self, piece: Vec::new() }, 1)?;
        for blob in missing {
            if !goes_on() {
                return Err(Broken::Stopped);
            }
            packed.write_all(&link::name(*blob))?;
            let mut reader = package.read(blob).map_err(Broken::Other)?.take(blob.size);
            let (mut buffer, mut left) = (vec![0; PIECE], blob.size);
            while left > 0 {
                let size = match reader.read(&mut buffer) {
                    Ok(0) => {
                        let told = io::Error::other("it changed while it was read");
                        return Err(Broken::Other(changed(&told)));
                    }
                    Ok(size) => size,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(Broken::Other(changed(&e))),
                };
                packed.write_all(&buffer[..size])?;
                left -= size as u64;
                if !goes_on() {
                    return Err(Broken::Stopped);
                }
            }
        }
        packed.finish()?.flush()?;
        self.send(b'E', b"")?;
        self.answer(b'p', goes_on).map(drop)
    }
}

/// Bytes as frames of pieces.
struct Pieces<'l> {
    link: &'l mut Link,
    piece: Vec<u8>,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            let piece = std::mem::take(&mut self.piece);
            self.link.send(b'D', &piece)?;
        }
        Ok(())
    }
}
