//! One call: messages there and back, and how it ended.

use std::time::{Duration, Instant};

use super::channel::Channel;
use super::connection::{Connection, Event, Fault};
use super::frame;
use super::hpack::Header;
use super::status::{Code, Error};
use crate::http::percent_decoded;

/// Before each message stand whether it is compressed, and its length.
const PREFIX: usize = 5;
/// A call that may be silent gives a sign of life so often. Servers count more than one in five minutes as an attack.
const PING: Duration = Duration::from_secs(310);
/// So much of what a server says is looked at between two attempts to send.
const NEWS: usize = 1000;

/// What came of waiting for a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A message.
    Message(Vec<u8>),
    /// Nothing within the time that was given.
    Nothing,
    /// The call is over, and went well.
    End,
}

/// What bounds a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The longest message that is taken, in bytes.
    pub(super) message: usize,
    /// For so long the server may say nothing; `None` when it may be silent.
    pub(super) patience: Option<Duration>,
    /// By then the call is over; `None` when it may go on for as long as something comes of it.
    pub(super) deadline: Option<Instant>,
}

/// A call that was begun. What is dropped before its end is cancelled.
pub(crate) struct Call<'c> {
    channel: &'c Channel,
    /// Until the call is over.
    connection: Option<Connection>,
    bounds: Bounds,
    /// What came of messages that nobody took; the next begins at `at`.
    body: Vec<u8>,
    at: usize,
    /// The headers came.
    is_answered: bool,
    /// We said all that we had to say.
    is_closed: bool,
    end: Option<Result<(), Error>>,
    heard: Instant,
    pinged: Instant,
}

impl<'c> Call<'c> {
    /// On a connection on which it was begun.
    pub(super) fn new(channel: &'c Channel, connection: Connection, bounds: Bounds) -> Self {
        let now = Instant::now();
        Self {
            channel,
            connection: Some(connection),
            bounds,
            body: Vec::new(),
            at: 0,
            is_answered: false,
            is_closed: false,
            end: None,
            heard: now,
            pinged: now,
        }
    }

    /// Sends a message, which is the last one if `is_last`. `false`: the server ended the call already, and [`receive`](Self::receive) tells
    /// how.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn send(&mut self, message: &[u8], is_last: bool) -> Result<bool, Error> {
        let mut bytes = Vec::with_capacity(PREFIX + message.len());
        bytes.push(0);
        bytes.extend((message.len() as u32).to_be_bytes());
        bytes.extend(message);
        let (mut at, mut moved) = (0, Instant::now());
        loop {
            // What the server says meanwhile: that it takes more, or that it has enough.
            for _ in 0..NEWS {
                let has_news = self.connection.as_ref().is_some_and(Connection::has_news);
                if !has_news || !self.look(Instant::now())? {
                    break;
                }
            }
            let Some(connection) = &mut self.connection else { return Ok(false) };
            let sent = connection.send(&bytes[at..], is_last);
            let sent = sent.map_err(|fault| self.fault(fault))?;
            at += sent;
            if at == bytes.len() {
                self.is_closed |= is_last;
                return Ok(true);
            }
            let now = Instant::now();
            if self.is_late(now) {
                return Err(self.late());
            }
            if sent > 0 {
                (self.heard, moved) = (now, now);
                continue;
            }
            // Windows that open by nothing are no progress.
            let until = moved + self.channel.patience();
            if until <= now {
                return Err(self.stalled());
            }
            self.look(self.bounds.deadline.map_or(until, |deadline| deadline.min(until)))?;
        }
    }

    /// The next message, however long it takes as far as the bounds allow; `None` when the call is over, and went well.
    ///
    /// # Errors
    /// What the server said in the end, or what broke.
    pub(crate) fn receive(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            match self.receive_until(Instant::now() + PING)? {
                Received::Message(message) => return Ok(Some(message)),
                Received::Nothing => {}
                Received::End => return Ok(None),
            }
        }
    }

    /// The next message, until `until`.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub(crate) fn receive_until(&mut self, until: Instant) -> Result<Received, Error> {
        // What waits here was said in time, even if nobody listened.
        let is_waiting = self.connection.as_ref().is_some_and(Connection::has_news);
        if self.bounds.patience.is_some() && is_waiting {
            self.heard = Instant::now();
        }
        loop {
            if let Some(message) = self.message()? {
                return Ok(Received::Message(message));
            }
            match &self.end {
                Some(Ok(())) => return Ok(Received::End),
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
            let silent_until = self.bounds.patience.map(|patience| self.heard + patience);
            let ends = [silent_until, self.bounds.deadline].into_iter().flatten();
            let came = self.look(ends.fold(until, Instant::min))?;
            let now = Instant::now();
            // Something that says nothing to the call may come without end, so the time counts then, too.
            let silent_until = self.bounds.patience.map(|patience| self.heard + patience);
            let is_silent = silent_until.is_some_and(|silent| silent <= now);
            if came && (self.end.is_some() || !is_silent && !self.is_late(now) && now < until) {
                continue;
            }
            if let Some(message) = self.message()? {
                return Ok(Received::Message(message));
            }
            if self.is_late(now) {
                return Err(self.late());
            }
            if is_silent {
                return Err(self.stalled());
            }
            if self.bounds.patience.is_none() && now.duration_since(self.heard.max(self.pinged)) >= PING {
                self.pinged = now;
                let pinged = self.connection.as_mut().map_or(Ok(()), Connection::ping);
                pinged.map_err(|fault| self.fault(fault))?;
            }
            if until <= now {
                return Ok(Received::Nothing);
            }
        }
    }

    /// The only message of a call that has one.
    ///
    /// # Errors
    /// As [`receive`](Self::receive), and when there is none, or are several.
    pub(crate) fn only(&mut self) -> Result<Vec<u8>, Error> {
        let Some(message) = self.receive()? else { return Err(self.protocol("an answer has no message")) };
        match self.receive()? {
            None => Ok(message),
            Some(_) => Err(self.protocol("an answer has several messages")),
        }
    }

    /// Takes a message of what came.
    fn message(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let waiting = &self.body[self.at..];
        let Some([compressed, length @ ..]) = waiting.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if *compressed != 0 {
            return Err(self.protocol("a message is compressed, which was not agreed on"));
        }
        if length > self.bounds.message {
            return Err(self.protocol(&format!("a message has {length} bytes, which is too much")));
        }
        let Some(message) = waiting.get(PREFIX..PREFIX + length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.at += PREFIX + length;
        if self.at == self.body.len() {
            (self.at, self.body) = (0, Vec::new());
        }
        Ok(Some(message))
    }

    /// Waits for the next event until `until`, and takes it. Whether there was one.
    fn look(&mut self, until: Instant) -> Result<bool, Error> {
        let Some(connection) = &mut self.connection else { return Ok(false) };
        match connection.event(until).map_err(|fault| self.fault(fault))? {
            Event::Nothing => return Ok(false),
            Event::Window => return Ok(true),
            Event::Headers { headers, is_last } => self.headers(&headers, is_last),
            Event::Data { bytes, is_last } => {
                self.body.drain(..std::mem::take(&mut self.at));
                self.body.extend(bytes);
                // Also while nobody takes messages, since there is more to be sent.
                if self.body.len() > self.bounds.message.saturating_add(PREFIX + frame::OUR_MAX_FRAME) {
                    return Err(self.protocol("it sends more than there may be"));
                }
                if !self.is_answered {
                    return Err(self.protocol("an answer has no headers"));
                }
                if is_last {
                    let cut = self.broken("the answer broke off");
                    self.finish(Err(cut));
                }
            }
            Event::Reset(code) => {
                let error = self.reset(code);
                self.finish(Err(error));
            }
            Event::Refused(cause) => {
                let error = self.broken(&cause);
                self.connection = None;
                self.end = Some(Err(error));
            }
        }
        self.heard = Instant::now();
        self.channel.was_heard();
        Ok(true)
    }

    fn headers(&mut self, headers: &[Header], is_last: bool) {
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let status = value(":status");
        if let Some(status) = status
            && !is_last
        {
            // Those of the kind 1xx come before the answer.
            if status.starts_with('1') {
                return;
            }
            let is_grpc = value("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
            if status != "200" || !is_grpc {
                let error = self.no_grpc(status, value("content-type").unwrap_or("none"));
                return self.finish(Err(error));
            }
        }
        self.is_answered = true;
        if !is_last {
            return;
        }
        let end = match (value("grpc-status").map(str::parse), status) {
            (Some(Ok(0)), _) => Ok(()),
            (Some(number), _) => {
                let code = number.map_or(Code::Unknown, Code::from_number);
                let message = percent_decoded(value("grpc-message").unwrap_or_default());
                Err(self.channel.status(code, &String::from_utf8_lossy(&message)))
            }
            (None, Some(status)) => Err(self.no_grpc(status, value("content-type").unwrap_or("none"))),
            (None, None) => Err(self.protocol("an answer ends without a status")),
        };
        self.finish(end);
    }

    /// An answer that something else than a server of gRPC gave, such as a proxy.
    fn no_grpc(&self, status: &str, kind: &str) -> Error {
        match status {
            "200" => self.protocol(&format!("it answers with content of the type `{kind}`")),
            _ => self.channel.status(Code::from_http(status), &format!("HTTP status {status}")),
        }
    }

    /// gRPC's table of HTTP/2's codes.
    fn reset(&self, code: u32) -> Error {
        match code {
            // No error: it does not want what is still to come, and said nothing. Refused: it did nothing.
            0 | 7 => self.channel.status(Code::Unavailable, "the call was refused"),
            8 => self.channel.status(Code::Cancelled, "the server cancelled the call"),
            11 => self.channel.status(Code::ResourceExhausted, "the server wants fewer calls"),
            12 => self.channel.status(Code::PermissionDenied, "the connection is not safe enough"),
            _ => self.broken(&format!("the call was reset (error {code})")),
        }
    }

    /// The call is over, and its connection is kept for the next.
    fn finish(&mut self, end: Result<(), Error>) {
        let Some(mut connection) = self.connection.take() else { return };
        let is_whole = self.is_closed || connection.cancel().is_ok();
        // What came in the wrong form may go on in it.
        let is_sound = !matches!(end, Err(Error::Protocol { .. } | Error::Broken { .. }));
        if is_whole && is_sound {
            self.channel.keep(connection);
        }
        self.end = Some(end);
    }

    fn fault(&mut self, fault: Fault) -> Error {
        self.connection = None;
        let error = self.channel.fault(fault);
        self.end = Some(Err(error.clone()));
        error
    }

    fn is_late(&self, now: Instant) -> bool {
        self.bounds.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn stalled(&mut self) -> Error {
        self.channel.was_silent();
        self.given_up("the connection stalled")
    }

    fn late(&mut self) -> Error {
        self.given_up("the call takes too long")
    }

    fn given_up(&mut self, cause: &str) -> Error {
        let error = self.broken(cause);
        if let Some(mut connection) = self.connection.take() {
            // The server need not go on; whether it hears that is another matter.
            let _ = connection.cancel();
        }
        self.end = Some(Err(error.clone()));
        error
    }

    fn broken(&self, cause: &str) -> Error {
        self.channel.fault(Fault::Broken(cause.to_owned()))
    }

    fn protocol(&self, cause: &str) -> Error {
        self.channel.fault(Fault::Protocol(cause.to_owned()))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let _ = connection.cancel();
        }
    }
}
