//! An API server: asks it, and opens connections to programs in pods.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde_json::Value;

use super::connection::{Answer, Connection};
use super::kubeconfig::Access;
use super::login::Credential;
use super::websocket::{self, WebSocket};
use crate::clock;
use crate::http::{Environment, Pem, Protocol, Socket, Tls, client_config_of, proxy_for};
use crate::sync::lock;
use crate::text::terminal::for_people;

/// For opening a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections that are kept open between requests.
const IDLE: usize = 2;
/// A request that may be made again is made so often.
const ATTEMPTS: u32 = 4;
/// The wait before the second attempt; each later one is twice as long.
const BACKOFF: Duration = Duration::from_millis(250);

/// A server, asked by several threads at once.
pub(crate) struct Server {
    access: Access,
    environment: Environment,
    known: Mutex<Known>,
    idle: Mutex<VecDeque<Connection>>,
}

/// What was found out to ask it.
#[derive(Default)]
struct Known {
    credential: Option<Credential>,
    tls: Option<Arc<ClientConfig>>,
}

/// Why a server gives nothing.
#[derive(Debug)]
pub(crate) enum Error {
    /// It is not reached, or the connection broke.
    Unreachable {
        /// `HOST:PORT`
        host: String,
        cause: String,
    },
    /// Who asks cannot log in.
    Login(String),
    /// It answers so.
    Status {
        code: u16,
        /// A word, such as `Forbidden`.
        reason: String,
        /// Its sentence, fit to be shown.
        message: String,
    },
    /// Its answer is none.
    Malformed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { host, cause } => write!(f, "`{host}` is not reached: {cause}"),
            Self::Login(why) => f.write_str(why),
            Self::Status { code, reason, message } if message.is_empty() => {
                write!(f, "the API server answers {code} {reason}")
            }
            Self::Status { code, message, .. } => write!(f, "the API server answers {code} ({message})"),
            Self::Malformed(what) => write!(f, "the API server gives no answer that is understood: {what}"),
        }
    }
}

impl Error {
    /// Whether the same may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { code, .. } => matches!(code, 429 | 500 | 502..=504),
            Self::Login(_) | Self::Malformed(_) => false,
        }
    }

    /// Whether what was asked for was surely not done.
    pub(crate) fn is_undone(&self) -> bool {
        match self {
            Self::Status { code, .. } => !matches!(code, 500 | 502 | 504),
            Self::Login(_) => true,
            Self::Unreachable { .. } | Self::Malformed(_) => false,
        }
    }

    /// Whether there is such a thing already.
    fn is_twice(&self) -> bool {
        matches!(self, Self::Status { code: 409, .. })
    }

    /// Whether what was asked for is not there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.host())
    }
}

impl Server {
    /// Contacts nothing yet.
    pub(crate) fn new(access: Access, environment: Environment) -> Self {
        Self { access, environment, known: Mutex::default(), idle: Mutex::default() }
    }

    /// `HOST:PORT`
    pub(crate) fn host(&self) -> String {
        format!("{}:{}", self.access.origin.host, self.access.origin.port)
    }

    /// Asks, and reads the object that is answered. `path` comes with its query.
    ///
    /// # Errors
    /// Any but a few that were got over.
    pub(crate) fn ask(&self, verb: Verb, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let mut wait = BACKOFF;
        for attempt in 1.. {
            match self.answered(verb, path, body.is_some().then_some(bytes.as_bytes())) {
                Ok(answer) => return self.object(&answer),
                // The one before was done, and its answer did not come.
                Err(error) if error.is_twice() && verb == Verb::Post && attempt > 1 => {
                    return Ok(Value::Null);
                }
                // What is made has a name, so it is not made twice.
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, "the API server is asked again");
                    std::thread::sleep(wait);
                    wait *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("attempts come to an end")
    }

    /// Opens a stream to a program in a pod. `path` comes with its query.
    ///
    /// # Errors
    /// When it does not come about.
    pub(crate) fn stream(&self, path: &str) -> Result<WebSocket, Error> {
        let again = |error: &Error| matches!(error, Error::Status { code: 401, .. });
        match self.open_stream(path) {
            Err(error) if again(&error) && self.access.login.changes() => {
                self.forget();
                self.open_stream(path)
            }
            opened => opened,
        }
    }

    fn open_stream(&self, path: &str) -> Result<WebSocket, Error> {
        let key = websocket::key();
        let mut headers: Vec<(&str, &str)> = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", &key),
        ];
        headers.push(("Sec-WebSocket-Protocol", websocket::PROTOCOLS));
        let mut connection = self.connect()?;
        let head = self.head(Verb::Get, path, &headers, None)?;
        let until = Instant::now() + PATIENCE;
        connection.socket.write(head.as_bytes()).map_err(|e| self.unreachable(&e))?;
        let head = connection.head(until).map_err(|e| self.unreachable(&e))?;
        if head.status != 101 {
            let answer = connection.answer(head, until).map_err(|e| self.unreachable(&e))?;
            return Err(status_of(&answer));
        }
        WebSocket::new(connection, &head, &key).map_err(|why| Error::Malformed(why.to_owned()))
    }

    /// An answer that is no refusal.
    fn answered(&self, verb: Verb, path: &str, body: Option<&[u8]>) -> Result<Answer, Error> {
        let answer = self.exchange(verb, path, body)?;
        let answer = match answer.head.status {
            401 if self.access.login.changes() => {
                self.forget();
                self.exchange(verb, path, body)?
            }
            _ => answer,
        };
        match answer.head.status {
            200..=299 => Ok(answer),
            _ => Err(status_of(&answer)),
        }
    }

    fn exchange(&self, verb: Verb, path: &str, body: Option<&[u8]>) -> Result<Answer, Error> {
        let head = self.head(verb, path, &[], body)?;
        let ask = |connection: &mut Connection| -> io::Result<Answer> {
            connection.socket.write(head.as_bytes())?;
            connection.socket.write(body.unwrap_or_default())?;
            let until = Instant::now() + PATIENCE;
            let head = connection.head(until)?;
            connection.answer(head, until)
        };
        let mut kept = None;
        while let Some(mut connection) = lock(&self.idle).pop_front() {
            if connection.socket.is_quiet() {
                kept = Some(connection);
                break;
            }
            connection.buffer.clear();
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = ask(&mut connection).map_err(|e| self.unreachable(&e))?;
        if answer.is_kept && connection.buffer.is_empty() {
            let mut idle = lock(&self.idle);
            if idle.len() < IDLE {
                idle.push_back(connection);
            }
        }
        Ok(answer)
    }

    fn connect(&self) -> Result<Connection, Error> {
        let Access { origin, server_name, proxy, .. } = &self.access;
        let tls = match origin.secure {
            true => Some(Tls { config: self.tls()?, name: server_name.clone(), protocol: Protocol::Any }),
            false => None,
        };
        let proxy = proxy.as_deref().or_else(|| proxy_for(&self.environment, origin));
        let socket = Socket::connect(origin, proxy, tls, CONNECT).map_err(|e| self.unreachable(&e))?;
        socket.set_patience(PATIENCE).map_err(|e| self.unreachable(&e))?;
        Ok(Connection::new(socket))
    }

    /// What a request begins with.
    fn head(
        &self,
        verb: Verb,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<String, Error> {
        let Access { origin, prefix, headers: own, .. } = &self.access;
        let mut head = format!("{} {prefix}{path} HTTP/1.1\r\nHost: {}\r\n", verb.word(), origin.authority());
        // Whatever came from files makes no further lines; and what is left out might have been what limits the rights.
        let is_plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_plain(prefix) || prefix.contains(' ') {
            return Err(Error::Login("the server's URL has bytes that no path has".to_owned()));
        }
        let mut bad: Option<String> = None;
        let mut add = |name: &str, value: &str| match is_plain(value) {
            true => head.push_str(&format!("{name}: {value}\r\n")),
            false => bad = Some(name.to_owned()),
        };
        add("User-Agent", concat!("rbuild/", env!("CARGO_PKG_VERSION")));
        add("Accept", "application/json");
        if let Some(authorization) = self.credential()?.authorization {
            // As kubectl, which sends no token in plain text.
            if !origin.secure && !origin.is_loopback() {
                return Err(Error::Login(
                    "logins do not travel in plain text: the server has to be `https://`".to_owned(),
                ));
            }
            add("Authorization", &authorization);
        }
        own.iter().for_each(|(name, value)| add(name, value));
        headers.iter().for_each(|(name, value)| add(name, value));
        if let Some(body) = body {
            add("Content-Type", "application/json");
            add("Content-Length", &body.len().to_string());
        }
        match bad {
            Some(name) => Err(Error::Login(format!(
                "what the kubeconfig says comes to a header `{name}` that is not ASCII, or has control characters"
            ))),
            None => Ok(head + "\r\n"),
        }
    }

    /// What is shown, asked for when it is needed, and again when it is over.
    fn credential(&self) -> Result<Credential, Error> {
        let mut known = lock(&self.known);
        if let Some(credential) = known.credential.as_ref().filter(|shown| !shown.is_over(clock::now())) {
            return Ok(credential.clone());
        }
        let credential = self.access.login.credential().map_err(Error::Login)?;
        if known.credential.as_ref().is_none_or(|before| before.client != credential.client) {
            known.tls = None;
        }
        known.credential = Some(credential.clone());
        Ok(credential)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Error> {
        let credential = self.credential()?;
        let mut known = lock(&self.known);
        if let Some(tls) = &known.tls {
            return Ok(Arc::clone(tls));
        }
        let trust = &self.access.trust;
        let pem = Pem { client: credential.client.or_else(|| trust.client.clone()), ..trust.clone() };
        let tls = client_config_of(&self.environment, &pem).map(Arc::new).map_err(Error::Login)?;
        known.tls = Some(Arc::clone(&tls));
        Ok(tls)
    }

    /// The credential was not taken: another one is asked for, and shown to new connections.
    fn forget(&self) {
        lock(&self.known).credential = None;
        lock(&self.idle).clear();
    }

    fn object(&self, answer: &Answer) -> Result<Value, Error> {
        serde_json::from_slice(&answer.body).map_err(|e| Error::Malformed(e.to_string()))
    }

    fn unreachable(&self, error: &io::Error) -> Error {
        let cause = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
            io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
            _ => error.to_string(),
        };
        Error::Unreachable { host: self.host(), cause }
    }
}

/// What a refusal says (`Status` of the API, or whatever stands before the server).
fn status_of(answer: &Answer) -> Error {
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Error::Status {
        code: answer.head.status,
        reason: for_people(&text("reason")).to_string(),
        message: for_people(text("message").trim()).to_string(),
    }
}
