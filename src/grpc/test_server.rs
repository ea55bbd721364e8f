//! A server that says, frame by frame, what a test wants.

#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::frame::{self, Frame, flag, kind};
use super::hpack::{Decoder, Header, Keeping, pack};
use super::{Address, Channel, Metadata};
use crate::http::{Environment, Settings};

/// The server's end of one connection.
pub(crate) struct Peer {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
    decoder: Decoder,
    /// The client does not take what is said.
    pub(super) is_gone: bool,
    /// Which connection it is, from 0.
    pub(super) number: usize,
}

/// A call as it came.
pub(crate) struct Asked {
    pub(crate) stream: u32,
    pub(super) headers: Vec<Header>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    /// The method that was called.
    pub(crate) fn method(&self) -> &str {
        let path = self.headers.iter().find(|(name, _)| name == ":path");
        path.map_or("", |(_, path)| path.rsplit('/').next().unwrap_or_default())
    }

    /// The only message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.body[5..]
    }
}

impl Peer {
    pub(super) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = frame::take(&self.buffer) {
                self.buffer.drain(..length);
                return Some(frame);
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.buffer.extend(&piece[..n]),
            }
        }
    }

    /// The next call, with all that the client says of it.
    pub(crate) fn asked(&mut self) -> Option<Asked> {
        let (mut headers, mut body, mut block) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let frame = self.next()?;
            match frame.kind {
                kind::HEADERS | kind::CONTINUATION => {
                    block.extend(frame.content()?);
                    if frame.has(flag::END_HEADERS) {
                        headers = self.decoder.unpack(&block)?;
                    }
                }
                kind::DATA => {
                    body.extend(frame.content()?);
                    if frame.has(flag::END_STREAM) {
                        return Some(Asked { stream: frame.stream, headers, body });
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut out = Vec::new();
        frame::put(&mut out, kind, flags, stream, payload);
        self.is_gone |= self.stream.write_all(&out).is_err();
    }

    pub(crate) fn begin(&mut self, stream: u32) {
        self.say(kind::HEADERS, flag::END_HEADERS, stream, &block(&GOOD));
    }

    pub(crate) fn end(&mut self, stream: u32) {
        let trailers = block(&[("grpc-status", "0")]);
        self.say(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &trailers);
    }

    /// The connection is gone.
    pub(crate) fn hang_up(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// One message of several.
    pub(crate) fn message(&mut self, stream: u32, message: &[u8]) {
        self.say(kind::DATA, 0, stream, &prefixed(message));
    }

    /// The end of a call, with a status that is not good.
    pub(crate) fn refuse(&mut self, stream: u32, status: &str) {
        let headers = block(&[GOOD[0], GOOD[1], ("grpc-status", status)]);
        self.say(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &headers);
    }

    pub(crate) fn answer(&mut self, stream: u32, message: &[u8]) {
        self.begin(stream);
        self.say(kind::DATA, 0, stream, &prefixed(message));
        self.end(stream);
    }
}

pub(super) const GOOD: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/grpc+proto")];

pub(super) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    headers.iter().for_each(|(name, value)| pack(&mut block, name, value, Keeping::Usual));
    block
}

pub(super) fn prefixed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

/// A server, each of whose connections `script` serves.
pub(crate) fn server(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Channel {
    patient_server(Duration::from_secs(20), script)
}

/// One that may be silent for so long.
pub(super) fn patient_server(
    patience: Duration,
    script: impl Fn(&mut Peer) + Send + Sync + 'static,
) -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (script, mut stream) = (Arc::clone(&script), stream.unwrap());
            std::thread::spawn(move || {
                let mut preface = [0; frame::PREFACE.len()];
                if stream.read_exact(&mut preface).is_ok() && preface == frame::PREFACE {
                    script(&mut Peer {
                        stream,
                        buffer: Vec::new(),
                        decoder: Decoder::new(),
                        is_gone: false,
                        number,
                    });
                }
            });
        }
    });
    let settings = Settings {
        stall_timeout: patience,
        backoff: Duration::from_millis(1),
        attempts: 2,
        ..Settings::with_environment(Environment::empty())
    };
    let token = Metadata { name: "authorization".to_owned(), value: "Bearer hidden-word".to_owned() };
    Channel::new(Address::parse(&format!("grpc://127.0.0.1:{port}")).unwrap(), vec![token], settings)
}
