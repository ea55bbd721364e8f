//! Bytes to a server and back: TCP, straight or through a proxy, and TLS over it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{Address as Url, Origin, origin_of};

/// What a proxy says before it passes bytes on is shorter.
const PROXY_ANSWER: usize = 16 << 10;
/// Who is gone without a word is found out by the kernel: after so long without a byte it asks, so often, so many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 4);

/// What bytes go through.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How TLS is spoken.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    /// What the certificate has to be for; `None` for the host.
    pub(crate) name: Option<String>,
    pub(crate) protocol: Protocol,
}

/// What has to be agreed upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http2,
    /// Nothing: HTTP/1 goes without saying.
    Any,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Bytes,
    /// Nothing came in time.
    Nothing,
    /// The other side said its last word.
    End,
}

impl Socket {
    /// Connects. `timeout` is for opening the connection, and again for what a proxy says, and for what TLS needs until it stands.
    pub(crate) fn connect(
        origin: &Origin,
        proxy: Option<&str>,
        tls: Option<Tls>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let stream = match proxy {
            None => dial(bare(&origin.host), origin.port, timeout)?,
            Some(proxy) => through(proxy, origin, timeout)?,
        };
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(timeout))?;
        // Where the system has no such options the server's own pings tell.
        let (idle, interval, count) = KEEPALIVE;
        let _ = sockopt::set_socket_keepalive(&stream, true);
        let _ = sockopt::set_tcp_keepidle(&stream, idle);
        let _ = sockopt::set_tcp_keepintvl(&stream, interval);
        let _ = sockopt::set_tcp_keepcnt(&stream, count);
        let Some(Tls { config, name, protocol }) = tls else { return Ok(Self::Plain(stream)) };
        let until = Instant::now() + timeout;
        let name = ServerName::try_from(name.unwrap_or_else(|| bare(&origin.host).to_owned()));
        let name = name.map_err(|e| io::Error::new(ErrorKind::InvalidInput, e.to_string()))?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        // What is wrong with certificates is said now, and not in the middle of a call.
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut Until { stream: &stream.sock, until })?;
        }
        match (stream.conn.alpn_protocol(), protocol) {
            (_, Protocol::Any) | (Some(b"h2"), Protocol::Http2) => Ok(Self::Tls(Box::new(stream))),
            (_, Protocol::Http2) => {
                Err(io::Error::new(ErrorKind::InvalidData, "it does not speak HTTP/2 over TLS"))
            }
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Adds what comes within `wait` to `buffer`.
    pub(crate) fn read_more(&mut self, buffer: &mut Vec<u8>, wait: Duration) -> io::Result<Came> {
        // Zero would be no limit.
        self.tcp().set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut piece = [0; 64 << 10];
        let read = match self {
            Self::Plain(stream) => stream.read(&mut piece),
            Self::Tls(stream) => stream.read(&mut piece),
        };
        match read {
            Ok(0) => Ok(Came::End),
            Ok(n) => {
                buffer.extend(&piece[..n]);
                Ok(Came::Bytes)
            }
            Err(e) => match e.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(Came::Nothing),
                // Many close without TLS's own goodbye.
                ErrorKind::UnexpectedEof => Ok(Came::End),
                _ => Err(e),
            },
        }
    }

    /// Whether nothing is there to be read, and the other side did not close: then what is kept can be used again. Bytes that are there
    /// are left for who reads next.
    pub(crate) fn is_quiet(&self) -> bool {
        let stream = self.tcp();
        if stream.set_nonblocking(true).is_err() {
            return false;
        }
        let peeked = stream.peek(&mut [0]);
        let is_quiet = peeked.is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
        stream.set_nonblocking(false).is_ok() && is_quiet
    }

    /// Sends all of it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// For so long a write may stand still.
    pub(crate) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.tcp().set_write_timeout(Some(patience))
    }
}

/// Reads and writes that come to an end, also when there is a byte now and then.
struct Until<'s> {
    stream: &'s TcpStream,
    until: Instant,
}

impl Until<'_> {
    fn left(&self) -> io::Result<Duration> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let mut stream = self.stream;
        stream.read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left()?;
        let mut stream = self.stream;
        stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An address of IPv6 without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn dial(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut outcome = Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
    let addresses = (host, port).to_socket_addrs();
    for address in addresses.map_err(|_| io::Error::new(ErrorKind::NotFound, "the name has no address"))? {
        outcome = TcpStream::connect_timeout(&address, timeout);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// A tunnel through a proxy of HTTP (RFC 9110, 9.3.6).
fn through(proxy: &str, origin: &Origin, timeout: Duration) -> io::Result<TcpStream> {
    let other = |text: &str| io::Error::other(format!("the proxy {text}"));
    let url = Url::new(proxy);
    let at = origin_of(&url.shown).map_err(|_| other("that the environment names is no valid URL"))?;
    if at.secure {
        return Err(other(
            "wants TLS itself, which is not supported; name one whose URL begins with `http://`",
        ));
    }
    let mut stream = dial(bare(&at.host), at.port, timeout)?;
    stream.set_write_timeout(Some(timeout))?;
    let target = format!("{}:{}", origin.host, origin.port);
    let login =
        url.authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n").as_bytes())?;
    let (mut answer, until) = (Vec::new(), Instant::now() + timeout);
    // Byte for byte, as what follows is the server's.
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if answer.len() > PROXY_ANSWER || (Until { stream: &stream, until }).read(&mut byte)? == 0 {
            return Err(other("broke off"));
        }
        answer.extend(byte);
    }
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_whitespace().nth(1) {
        Some(status) if status.starts_with('2') => Ok(stream),
        Some(status) => Err(other(&format!("answers {}", crate::text::terminal::harmless(status)))),
        None => Err(other("does not speak HTTP")),
    }
}
