//! A server: its connections, what each call tells it, and trying again.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::call::{Bounds, Call};
use super::connection::{Connection, Fault};
use super::hpack::{Keeping, pack};
use super::status::{Code, Error};
use crate::http::{
    Origin, Protocol, Schedule, Settings, Socket, Tls, client_config, origin_of, proxy_for, split_port,
};
use crate::sync::lock;

/// Connections that are kept open between calls.
const IDLE: usize = 8;
/// A call with one answer takes so many times the patience at most.
const WHOLE: u32 = 4;

/// Where a server is: `grpc://HOST:PORT`, or `grpcs://HOST[:PORT]` over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    origin: Origin,
}

impl Address {
    /// Reads `grpc[s]://HOST[:PORT]`; a port is needed without TLS. `None` when it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (secure, authority) = match text.split_once("://")? {
            ("grpc", rest) => (false, rest),
            ("grpcs", rest) => (true, rest),
            _ => return None,
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let is_plain = !authority.contains(['/', '?', '#', '@', ' ']) && !authority.is_empty();
        let has_port = split_port(authority).1.is_some();
        if !is_plain || (!secure && !has_port) {
            return None;
        }
        let scheme = if secure { "https" } else { "http" };
        origin_of(&format!("{scheme}://{authority}/")).ok().map(|origin| Self { origin })
    }

    /// Whether it is reached over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.origin.secure
    }

    /// Whether it is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.origin.is_loopback()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.origin.secure { "grpcs" } else { "grpc" };
        write!(f, "{scheme}://{}:{}", self.origin.host, self.origin.port)
    }
}

/// A header of every call, such as a token. Its value is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

/// A server, and the connections to it. Several threads may call at once; each call has a connection to itself.
pub(crate) struct Channel {
    address: Address,
    settings: Settings,
    metadata: Vec<Metadata>,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
    /// So often in a row the server was not there, or said nothing.
    silences: AtomicU32,
    idle: Mutex<Vec<Connection>>,
}

impl Channel {
    /// Contacts nothing and reads no file yet. Of the settings, those of redirects and of folders of certificates mean nothing.
    pub(crate) fn new(address: Address, metadata: Vec<Metadata>, settings: Settings) -> Self {
        Self {
            address,
            settings,
            metadata,
            tls: OnceLock::new(),
            silences: AtomicU32::new(0),
            idle: Mutex::default(),
        }
    }

    /// `HOST:PORT`
    pub(crate) fn host(&self) -> String {
        format!("{}:{}", self.address.origin.host, self.address.origin.port)
    }

    /// For so long a server may say nothing.
    pub(crate) fn patience(&self) -> Duration {
        self.settings.stall_timeout
    }

    /// A call with one message each way, which may be made again. The answer has `limit` bytes at most.
    ///
    /// # Errors
    /// What became of the last attempt.
    pub(crate) fn unary(&self, method: &str, request: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        self.again(|| {
            let deadline = Some(self.patience() * WHOLE);
            let bounds = Bounds { message: limit, patience: Some(self.patience()), deadline: None };
            let mut call = self.begin(method, bounds, deadline)?;
            call.send(request, true)?;
            call.only()
        })
    }

    /// When to try again.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule::new(&self.settings)
    }

    /// Tries something until it succeeds, or fails in a way that waiting does not mend, or too often.
    ///
    /// # Errors
    /// What became of the last attempt.
    fn again<T>(&self, mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut schedule = self.schedule();
        loop {
            match attempt() {
                Err(error) if error.is_transient() => match schedule.next(None) {
                    Some(wait) => std::thread::sleep(wait),
                    None => return Err(error),
                },
                result => return result,
            }
        }
    }

    /// Begins a call whose messages go and come in a stream, of `limit` bytes at most each.
    ///
    /// # Errors
    /// When there is no connection.
    pub(crate) fn stream(&self, method: &str, limit: usize) -> Result<Call<'_>, Error> {
        self.begin(method, Bounds { message: limit, patience: Some(self.patience()), deadline: None }, None)
    }

    /// Begins a call in which the server may be silent for as long as it likes. That it is there is seen by the kernel.
    ///
    /// # Errors
    /// When there is no connection.
    pub(crate) fn patient_stream(&self, method: &str, limit: usize) -> Result<Call<'_>, Error> {
        self.begin(method, Bounds { message: limit, patience: None, deadline: None }, None)
    }

    /// The server is told of the deadline, and it is kept here, too.
    fn begin(&self, method: &str, bounds: Bounds, deadline: Option<Duration>) -> Result<Call<'_>, Error> {
        let mut connection = self.connection()?;
        let started = connection.start(&self.headers(method, deadline));
        started.map_err(|fault| self.fault(fault))?;
        let deadline = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        Ok(Call::new(self, connection, Bounds { deadline, ..bounds }))
    }

    fn headers(&self, method: &str, deadline: Option<Duration>) -> Vec<u8> {
        let origin = &self.address.origin;
        let mut block = Vec::new();
        let timeout = deadline.map(|deadline| format!("{}m", deadline.as_millis().min(99_999_999)));
        let scheme = if origin.secure { "https" } else { "http" };
        let own = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", method),
            (":authority", &self.host()),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", concat!("rbuild/", env!("CARGO_PKG_VERSION"))),
        ];
        for (name, value) in own {
            pack(&mut block, name, value, Keeping::Usual);
        }
        if let Some(timeout) = timeout {
            pack(&mut block, "grpc-timeout", &timeout, Keeping::Usual);
        }
        for Metadata { name, value } in &self.metadata {
            pack(&mut block, name, value, Keeping::Never);
        }
        block
    }

    fn connection(&self) -> Result<Connection, Error> {
        while let Some(mut connection) = self.kept() {
            if connection.is_usable() {
                return Ok(connection);
            }
        }
        // It was asked as often as anything is, and is left alone now.
        if self.silences.load(Ordering::Relaxed) >= self.settings.attempts {
            let cause = "it was asked several times, and said nothing".to_owned();
            return Err(Error::Unreachable { host: self.host(), cause });
        }
        let timeout = self.settings.connect_timeout;
        let proxy = proxy_for(&self.settings.environment, &self.address.origin);
        let tls = match self.address.is_secure() {
            true => Some(Tls { config: self.tls()?, name: None, protocol: Protocol::Http2 }),
            false => None,
        };
        let socket = Socket::connect(&self.address.origin, proxy, tls, timeout);
        let socket = socket.map_err(|e| {
            if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) {
                self.was_silent();
            }
            Error::Unreachable { host: self.host(), cause: why(&e) }
        })?;
        let begun = Connection::begin(socket).and_then(|connection| {
            connection.set_patience(self.patience())?;
            Ok(connection)
        });
        begun.map_err(|fault| self.fault(fault))
    }

    /// In a function of its own, so that the lock is not held while the connection is looked at.
    fn kept(&self) -> Option<Connection> {
        lock(&self.idle).pop()
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Error> {
        let read = || client_config(&self.settings.environment, &self.settings.trust, "h2").map(Arc::new);
        let tls = self.tls.get_or_init(read).clone();
        tls.map_err(|cause| Error::Unreachable { host: self.host(), cause })
    }

    /// The server says nothing.
    pub(super) fn was_silent(&self) {
        self.silences.fetch_add(1, Ordering::Relaxed);
    }

    /// It says something.
    pub(super) fn was_heard(&self) {
        self.silences.store(0, Ordering::Relaxed);
    }

    /// Keeps a connection for the next call.
    pub(super) fn keep(&self, connection: Connection) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }

    pub(super) fn fault(&self, fault: Fault) -> Error {
        let host = self.host();
        match fault {
            Fault::Broken(cause) => Error::Broken { host, cause: self.without_secrets(&cause) },
            Fault::Protocol(cause) => Error::Protocol { host, cause: self.without_secrets(&cause) },
        }
    }

    /// What the server said. It may repeat what it was told.
    pub(super) fn status(&self, code: Code, message: &str) -> Error {
        Error::Status { host: self.host(), code, message: self.without_secrets(message) }
    }

    fn without_secrets(&self, text: &str) -> String {
        let secrets = self.metadata.iter().flat_map(|header| header.value.split_whitespace());
        // Words such as `Bearer` are none.
        let secrets = secrets.filter(|secret| secret.len() > 6);
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What kept a connection from coming about, in words.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("grpc://localhost:50061", Some("grpc://localhost:50061")),
            ("grpcs://cache.example", Some("grpcs://cache.example:443")),
            ("grpcs://cache.example:8443/", Some("grpcs://cache.example:8443")),
            ("grpc://[::1]:5", Some("grpc://[::1]:5")),
            ("grpc://cache.example", None),
            ("grpc://u:p@h:1", None),
            ("http://h:1", None),
            ("h:1", None),
            ("grpc://:1", None),
            ("grpcs://h:1/x", None),
        ] {
            assert_eq!(Address::parse(text).map(|at| at.to_string()).as_deref(), shown, "{text}");
        }
    }
}
