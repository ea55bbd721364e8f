//! Frames of one connection: settings, windows, pings, farewells. At most one call uses it at a time.

use std::io;
use std::time::{Duration, Instant};

use super::frame::{self, Frame, flag, kind, setting};
use super::hpack::{Decoder, Header};
use crate::http::{Came, Socket};

/// How much the server may send of a call before it has to wait for us. What is not read stays with the kernel, so this is no memory
/// of ours.
const OUR_WINDOW: u32 = 8 << 20;
/// What the standard says until a setting says otherwise.
const USUAL_WINDOW: i64 = 65_535;
const LARGEST_WINDOW: i64 = 0x7fff_ffff;
/// A block of headers that is longer, packed, is not read.
const BLOCK_LIMIT: usize = 64 << 10;
/// Frames that say nothing to a call, in a row: a server that sends more of them wants to keep us busy.
const IDLE_FRAMES: u32 = 10_000;
/// Frames of data are gathered to so much before they are written.
const WRITE: usize = 256 << 10;
/// The rest of headers comes within this time after their beginning.
const REST: Duration = Duration::from_secs(10);

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(super) enum Fault {
    /// It broke.
    Broken(String),
    /// What comes is not HTTP/2.
    Protocol(String),
}

impl Fault {
    pub(super) fn io(error: &io::Error) -> Self {
        Self::Broken(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the connection stalled".to_owned(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                "the connection was closed".to_owned()
            }
            _ => error.to_string(),
        })
    }

    fn protocol(text: &str) -> Self {
        Self::Protocol(text.to_owned())
    }
}

/// What came for the call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing, within the time that was given.
    Nothing,
    Headers {
        headers: Vec<Header>,
        is_last: bool,
    },
    Data {
        bytes: Vec<u8>,
        is_last: bool,
    },
    /// The server ended the call, with HTTP/2's code of an error.
    Reset(u32),
    /// It may be that more can be sent.
    Window,
    /// The server closes the connection, and never saw the call.
    Refused(String),
}

/// A connection.
pub(super) struct Connection {
    socket: Socket,
    /// What came and is not looked at yet; the frame that is looked at begins at `at`.
    buffer: Vec<u8>,
    at: usize,
    decoder: Decoder,
    /// The call that uses it; 0 when none does.
    stream: u32,
    next_stream: u32,
    /// What may be sent: in all, and of this call.
    window: i64,
    stream_window: i64,
    peer_window: i64,
    peer_frame: usize,
    /// What came since the server was told that it may send more: in all, and of this call.
    taken: u32,
    stream_taken: u32,
    /// The server takes no further calls.
    is_leaving: bool,
}

impl Connection {
    /// Says the first words; the server's own are read with its first answer.
    pub(super) fn begin(socket: Socket) -> Result<Self, Fault> {
        let mut connection = Self {
            socket,
            buffer: Vec::new(),
            at: 0,
            decoder: Decoder::new(),
            stream: 0,
            next_stream: 1,
            window: USUAL_WINDOW,
            stream_window: USUAL_WINDOW,
            peer_window: USUAL_WINDOW,
            peer_frame: 16 << 10,
            taken: 0,
            stream_taken: 0,
            is_leaving: false,
        };
        let mut out = frame::PREFACE.to_vec();
        let settings = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, OUR_WINDOW),
            (setting::MAX_FRAME_SIZE, frame::OUR_MAX_FRAME as u32),
        ];
        frame::put_settings(&mut out, &settings);
        let more = OUR_WINDOW - USUAL_WINDOW as u32;
        frame::put(&mut out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        connection.write(&out)?;
        Ok(connection)
    }

    /// For so long a write may stand still.
    pub(super) fn set_patience(&self, patience: Duration) -> Result<(), Fault> {
        self.socket.set_patience(patience).map_err(|e| Fault::io(&e))
    }

    /// Whether it can be used for another call: the server neither left nor closed it, nor has it something to say that nobody read.
    pub(super) fn is_usable(&mut self) -> bool {
        self.stream = 0;
        // What came meanwhile, such as a ping or a farewell.
        for _ in 0..16 {
            if self.is_leaving || self.next_stream > 1 << 30 {
                return false;
            }
            if self.at == self.buffer.len() && self.socket.is_quiet() {
                return true;
            }
            if self.event(Instant::now()).is_err() {
                return false;
            }
        }
        false
    }

    /// Begins a call: its headers, as they are packed.
    pub(super) fn start(&mut self, block: &[u8]) -> Result<(), Fault> {
        self.stream = self.next_stream;
        self.next_stream += 2;
        self.stream_window = self.peer_window;
        self.stream_taken = 0;
        let mut out = Vec::with_capacity(block.len() + 64);
        let mut pieces = block.chunks(self.peer_frame).peekable();
        let mut kind = kind::HEADERS;
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
            frame::put(&mut out, kind, flags, self.stream, piece);
            kind = kind::CONTINUATION;
        }
        self.write(&out)
    }

    /// Sends as much of `bytes` as the windows allow, and gives how much that is. When it is all, the last of it ends our side of the
    /// call if `is_last`.
    pub(super) fn send(&mut self, bytes: &[u8], is_last: bool) -> Result<usize, Fault> {
        let room = usize::try_from(self.window.min(self.stream_window)).unwrap_or(0);
        let now = &bytes[..bytes.len().min(room)];
        let is_all = now.len() == bytes.len();
        if now.is_empty() && !is_all {
            return Ok(0);
        }
        let mut out = Vec::with_capacity(now.len().min(WRITE) + 1024);
        let mut rest = now;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(self.peer_frame));
            rest = after;
            let is_end = is_last && is_all && rest.is_empty();
            frame::put(&mut out, kind::DATA, if is_end { flag::END_STREAM } else { 0 }, self.stream, piece);
            if rest.is_empty() || out.len() >= WRITE {
                self.write(&out)?;
                out.clear();
            }
            if rest.is_empty() {
                break;
            }
        }
        self.window -= now.len() as i64;
        self.stream_window -= now.len() as i64;
        Ok(now.len())
    }

    /// Asks for a sign of life, so that nobody on the way takes the connection for forgotten.
    pub(super) fn ping(&mut self) -> Result<(), Fault> {
        let mut out = Vec::new();
        frame::put(&mut out, kind::PING, 0, 0, &[0; 8]);
        self.write(&out)
    }

    /// Whether something came that nobody looked at.
    pub(super) fn has_news(&self) -> bool {
        self.at < self.buffer.len() || !self.socket.is_quiet()
    }

    /// Ends the call before its time; the connection stays.
    pub(super) fn cancel(&mut self) -> Result<(), Fault> {
        const CANCEL: u32 = 8;
        let mut out = Vec::new();
        frame::put(&mut out, kind::RST_STREAM, 0, self.stream, &CANCEL.to_be_bytes());
        self.write(&out)
    }

    /// The next thing that comes for the call, until `until`.
    pub(super) fn event(&mut self, until: Instant) -> Result<Event, Fault> {
        for _ in 0..IDLE_FRAMES {
            let Some(frame) = self.frame(until)? else { return Ok(Event::Nothing) };
            if let Some(event) = self.take(&frame)? {
                return Ok(event);
            }
        }
        Err(Fault::protocol("it sends nothing but empty frames"))
    }

    /// The next frame, until `until`.
    fn frame(&mut self, until: Instant) -> Result<Option<Frame>, Fault> {
        let mut has_read = false;
        loop {
            let waiting = &self.buffer[self.at..];
            if frame::length(waiting).is_some_and(|length| length > frame::OUR_MAX_FRAME) {
                return Err(match waiting.starts_with(b"HTTP/1") {
                    true => Fault::protocol("it answers in HTTP/1"),
                    false => Fault::protocol("a frame is longer than was agreed on"),
                });
            }
            if let Some((frame, length)) = frame::take(waiting) {
                self.at += length;
                return Ok(Some(frame));
            }
            // Also when there is a byte of it now and then.
            if has_read && Instant::now() >= until {
                return Ok(None);
            }
            self.buffer.drain(..std::mem::take(&mut self.at));
            has_read = true;
            let wait = until.saturating_duration_since(Instant::now());
            match self.socket.read_more(&mut self.buffer, wait).map_err(|e| Fault::io(&e))? {
                Came::Bytes | Came::Nothing => {}
                Came::End => return Err(Fault::Broken("the connection was closed".to_owned())),
            }
        }
    }

    /// Does what a frame asks for, and gives what the call should know of it.
    fn take(&mut self, frame: &Frame) -> Result<Option<Event>, Fault> {
        let is_ours = self.stream != 0 && frame.stream == self.stream;
        match frame.kind {
            kind::DATA => self.data(frame, is_ours),
            kind::HEADERS => {
                let is_last = frame.has(flag::END_STREAM);
                let headers = self.headers(frame)?;
                Ok(is_ours.then_some(Event::Headers { headers, is_last }))
            }
            kind::RST_STREAM => {
                let code = frame.number().ok_or(Fault::protocol("a reset is too short"))?;
                Ok(is_ours.then_some(Event::Reset(code)))
            }
            kind::SETTINGS if frame.has(flag::ACK) => Ok(None),
            kind::SETTINGS => self.settings(&frame.payload).map(|()| Some(Event::Window)),
            kind::PING if frame.has(flag::ACK) => Ok(None),
            kind::PING => {
                let mut out = Vec::new();
                frame::put(&mut out, kind::PING, flag::ACK, 0, &frame.payload);
                self.write(&out).map(|()| None)
            }
            kind::GOAWAY => self.farewell(frame),
            kind::WINDOW_UPDATE => {
                let more = frame.number().ok_or(Fault::protocol("a window has no size"))?;
                let window = match (frame.stream, is_ours) {
                    (0, _) => &mut self.window,
                    (_, true) => &mut self.stream_window,
                    (_, false) => return Ok(None),
                };
                *window += i64::from(more);
                match *window > LARGEST_WINDOW {
                    true => Err(Fault::protocol("a window is too large")),
                    false => Ok(Some(Event::Window)),
                }
            }
            kind::PUSH_PROMISE => Err(Fault::protocol("it pushes, which it was asked not to")),
            kind::CONTINUATION => Err(Fault::protocol("headers go on that did not begin")),
            // The standard: what nobody knows is passed over.
            _ => Ok(None),
        }
    }

    fn data(&mut self, frame: &Frame, is_ours: bool) -> Result<Option<Event>, Fault> {
        // Padding counts, and so does what comes for a call that is over.
        let length = frame.payload.len() as u32;
        self.taken += length;
        let mut out = Vec::new();
        if self.taken >= OUR_WINDOW / 2 {
            frame::put(&mut out, kind::WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
        let is_last = frame.has(flag::END_STREAM);
        if is_ours {
            self.stream_taken += length;
            if self.stream_taken >= OUR_WINDOW / 2 && !is_last {
                frame::put(&mut out, kind::WINDOW_UPDATE, 0, frame.stream, &self.stream_taken.to_be_bytes());
                self.stream_taken = 0;
            }
        }
        if !out.is_empty() {
            self.write(&out)?;
        }
        let content = frame.content().ok_or(Fault::protocol("a frame is shorter than its padding"))?;
        Ok(is_ours.then(|| Event::Data { bytes: content.to_vec(), is_last }))
    }

    /// The headers that begin with `frame`. Nothing else may come before they are whole.
    fn headers(&mut self, frame: &Frame) -> Result<Vec<Header>, Fault> {
        let content = frame.content().ok_or(Fault::protocol("a frame is shorter than its padding"))?;
        let mut block = content.to_vec();
        let mut is_whole = frame.has(flag::END_HEADERS);
        let until = Instant::now() + REST;
        while !is_whole {
            let more = self.frame(until)?.ok_or(Fault::Broken("the connection stalled".to_owned()))?;
            if more.kind != kind::CONTINUATION || more.stream != frame.stream {
                return Err(Fault::protocol("headers break off"));
            }
            is_whole = more.has(flag::END_HEADERS);
            // Empty ones would go on for ever.
            if more.payload.is_empty() && !is_whole {
                return Err(Fault::protocol("headers go on with nothing"));
            }
            block.extend(more.payload);
            if block.len() > BLOCK_LIMIT {
                return Err(Fault::protocol("its headers are too long"));
            }
        }
        self.decoder.unpack(&block).ok_or(Fault::protocol("its headers cannot be read"))
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let (pairs, []) = payload.as_chunks::<6>() else {
            return Err(Fault::protocol("a setting is cut short"));
        };
        for [a, b, value @ ..] in pairs {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                setting::INITIAL_WINDOW_SIZE => {
                    let window = i64::from(value);
                    if window > LARGEST_WINDOW {
                        return Err(Fault::protocol("a window is too large"));
                    }
                    self.stream_window += window - self.peer_window;
                    self.peer_window = window;
                }
                setting::MAX_FRAME_SIZE => {
                    let is_one = (16 << 10..1 << 24).contains(&value);
                    self.peer_frame =
                        is_one.then_some(value as usize).ok_or(Fault::protocol("its frames have no size"))?;
                }
                _ => {}
            }
        }
        let mut out = Vec::new();
        frame::put(&mut out, kind::SETTINGS, flag::ACK, 0, &[]);
        self.write(&out)
    }

    fn farewell(&mut self, frame: &Frame) -> Result<Option<Event>, Fault> {
        self.is_leaving = true;
        let last = frame.number().ok_or(Fault::protocol("a farewell is too short"))?;
        let code =
            frame.payload.get(4..8).and_then(|code| code.try_into().ok()).map_or(0, u32::from_be_bytes);
        let said = String::from_utf8_lossy(frame.payload.get(8..).unwrap_or_default()).into_owned();
        // A call that it takes up to its end goes on.
        let is_refused = self.stream > last;
        let cause = match (code, said.is_empty()) {
            (0, true) => "the server leaves".to_owned(),
            (0, false) => format!("the server leaves: {said}"),
            _ => format!("the server closes the connection (error {code}): {said}"),
        };
        Ok(is_refused.then_some(Event::Refused(cause)))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.socket.write(bytes).map_err(|e| Fault::io(&e))
    }
}
