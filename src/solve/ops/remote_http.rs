//! Fetches what an http(s) URL names: for ADD one file, mode 0600, with the server's time; for a context.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use ureq::config::AutoHeaderValue;

use super::transfer::FileTree;
use super::transfer::select::Download;
use crate::context::{self, Context};
use crate::oci::{Digest, Hasher, Seconds};

/// Larger files are refused: a build has better ways to get them, and a server must not fill the disk.
const SIZE_LIMIT_BYTES: u64 = 16 << 30;
const REDIRECTS: u32 = 10;
const ATTEMPTS: u32 = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the head of a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// A body may take its time, but a server that sends nothing at all for so long has stalled.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 128 * 1024;

/// Why a URL cannot be added. URLs are shown without user info.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server did not send the file.
    #[error("`{url}`: invalid response status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// Such as 404.
        status: u16,
    },
    /// No answer, or a broken one.
    #[error("cannot fetch `{url}`: {}", transport_words(source))]
    Transport {
        /// What was asked for.
        url: String,
        /// What the client says.
        source: Box<ureq::Error>,
    },
    /// The connection broke in the body, or the disk is full.
    #[error("cannot fetch `{url}`: {source}")]
    Body {
        /// What was asked for.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// The body is too long.
    #[error("`{url}` is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// `--checksum` is no digest that rbuild knows.
    #[error("unsupported digest algorithm in `--checksum={0}`: only sha256 is known for URLs")]
    Checksum(String),
    /// The content is not that of `--checksum`.
    #[error("digest mismatch of `{url}`: --checksum says {expected}, the content is {actual}")]
    Mismatch {
        /// What was asked for.
        url: String,
        /// As written.
        expected: Digest,
        /// As fetched.
        actual: Digest,
    },
    /// The fetched file cannot be read back.
    #[error(transparent)]
    Context(#[from] context::Error),
}

/// Fetches `url` into the folder `into`, which must be empty, and checks it against `checksum`.
pub fn download(url: &str, checksum: Option<&str>, into: &Path) -> Result<Download, HttpError> {
    let expected =
        checksum.map(|text| text.parse::<Digest>().map_err(|_| HttpError::Checksum(text.to_owned())));
    let expected = expected.transpose()?;
    let Fetched { digest: actual, mtime } = fetch_to(url, &into.join("content"))?;
    match expected {
        Some(expected) if expected != actual => {
            return Err(HttpError::Mismatch { url: Address::new(url).shown, expected, actual });
        }
        _ => {}
    }
    let tree = FileTree::Context(Arc::new(Context::open(into, None, None)?));
    Ok(Download { tree, path: b"content".to_vec(), name: file_name(url), mtime })
}

/// What a server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Of the file.
    pub digest: Digest,
    /// `Last-Modified`, or 0.
    pub mtime: Seconds,
}

/// Fetches `url` into `file`, which must not exist.
pub fn fetch_to(url: &str, file: &Path) -> Result<Fetched, HttpError> {
    fetch_patiently(url, file, STALL_TIMEOUT)
}

fn fetch_patiently(url: &str, file: &Path, stall_timeout: Duration) -> Result<Fetched, HttpError> {
    let address = Address::new(url);
    let mut response = fetch(&address, stall_timeout)?;
    let mtime = last_modified(&response).unwrap_or(0);
    let digest = save(response.body_mut(), file, &address.shown)?;
    Ok(Fetched { digest, mtime })
}

/// A URL in its two forms, and its credentials.
struct Address {
    /// Without user info and fragment.
    shown: String,
    authorization: Option<String>,
}

impl Address {
    fn new(url: &str) -> Self {
        let url = url.split('#').next().unwrap_or(url);
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        let (user_info, host) =
            authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let authorization = user_info.map(|user_info| {
            let text = percent_decoded(user_info);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
        });
        Self { shown: format!("{scheme}://{host}{path}"), authorization }
    }
}

/// The name that the file gets in a directory: from the path of the URL as written, whatever the server says.
fn file_name(url: &str) -> Vec<u8> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    let path = percent_decoded(path.split(['?', '#']).next().unwrap_or(""));
    let name = path.split(|byte| *byte == b'/').rfind(|part| !part.is_empty());
    match name {
        None | Some(b"." | b"..") => b"__unnamed__".to_vec(),
        Some(name) => name.to_vec(),
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

type Response = ureq::http::Response<ureq::Body>;

fn transport_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "the server does not answer".to_owned(),
        ureq::Error::HostNotFound => "the host has no address".to_owned(),
        other => other.to_string(),
    }
}

/// Tries again after what may pass: no connection, and errors of the server.
fn fetch(address: &Address, stall_timeout: Duration) -> Result<Response, HttpError> {
    // Bytes are wanted as they lie on the server, so no transfer compression is asked for.
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(REDIRECTS)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(RESPONSE_TIMEOUT))
        .timeout_per_read(Some(stall_timeout))
        .accept_encoding(AutoHeaderValue::None)
        .user_agent(concat!("rbuild/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent = ureq::Agent::from(config);
    let mut attempt = 1;
    loop {
        let outcome = request(&agent, address);
        let is_passing = match &outcome {
            Err(HttpError::Transport { .. }) => true,
            Err(HttpError::Status { status, .. }) => *status >= 500 || *status == 429,
            _ => false,
        };
        if !is_passing || attempt == ATTEMPTS {
            return outcome;
        }
        std::thread::sleep(Duration::from_millis(200) * attempt.pow(2));
        attempt += 1;
    }
}

fn request(agent: &ureq::Agent, address: &Address) -> Result<Response, HttpError> {
    let mut request = agent.get(&address.shown);
    if let Some(authorization) = &address.authorization {
        request = request.header("Authorization", authorization);
    }
    let url = || address.shown.clone();
    let response =
        request.call().map_err(|source| HttpError::Transport { url: url(), source: Box::new(source) })?;
    let status = response.status();
    if status.is_success() {
        Ok(response)
    } else {
        Err(HttpError::Status { url: url(), status: status.as_u16() })
    }
}

fn last_modified(response: &Response) -> Option<Seconds> {
    let text = response.headers().get("last-modified")?.to_str().ok()?;
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(time.as_second())
}

/// Writes the body to `file`; its digest.
fn save(body: &mut ureq::Body, file: &Path, url: &str) -> Result<Digest, HttpError> {
    let fail = |source| HttpError::Body { url: url.to_owned(), source };
    let mut reader = body.with_config().limit(SIZE_LIMIT_BYTES + 1).reader();
    let mut out = File::create_new(file).map_err(fail)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size = 0;
    loop {
        let len = reader.read(&mut buffer).map_err(|error| fail(broken(error, size)))?;
        if len == 0 {
            return Ok(hasher.finish());
        }
        size += len as u64;
        if size > SIZE_LIMIT_BYTES {
            return Err(HttpError::TooLarge { url: url.to_owned(), limit: SIZE_LIMIT_BYTES });
        }
        hasher.update(&buffer[..len]);
        out.write_all(&buffer[..len]).map_err(fail)?;
    }
}

/// What broke a body, in words.
fn broken(error: std::io::Error, size: u64) -> std::io::Error {
    match ureq::Error::from(error) {
        ureq::Error::Timeout(_) => std::io::Error::other(format!("the server stalled after {size} bytes")),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            std::io::Error::other(format!("the server ended the connection after {size} bytes"))
        }
        ureq::Error::Io(error) => error,
        other => std::io::Error::other(other.to_string()),
    }
}

impl HttpError {
    /// How to go on.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Status { status: 401 | 403, .. } => Some("the server wants to know who asks"),
            Self::Status { status: 404 | 410, .. } => Some("check the spelling of the URL"),
            Self::Transport { .. } => Some("check the URL and the network; behind a proxy, set HTTPS_PROXY"),
            Self::Status { .. }
            | Self::Body { .. }
            | Self::TooLarge { .. }
            | Self::Checksum(_)
            | Self::Mismatch { .. }
            | Self::Context(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    /// A server that gives each connection the next of `answers`; its address.
    fn serve(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let answer = answer.replace("HEAD", &head.join("|"));
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        format!("http://{address}")
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
    }

    fn add(url: &str, checksum: Option<&str>) -> Result<(Download, String), HttpError> {
        let folder = tempfile::tempdir().unwrap();
        let download = download(url, checksum, folder.path())?;
        let text = std::fs::read_to_string(folder.path().join("content")).unwrap();
        Ok((download, text))
    }

    #[test]
    fn names_come_from_the_path_as_written() {
        for (url, expected) in [
            ("http://h/f.txt", "f.txt"),
            ("http://h/a/f.txt?v=1&w=/x", "f.txt"),
            ("https://h/a/b/", "b"),
            ("http://h", "__unnamed__"),
            ("http://h/", "__unnamed__"),
            ("http://h/with%20space", "with space"),
            ("http://h/f#x/y", "f"),
        ] {
            assert_eq!(String::from_utf8(file_name(url)).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn time_content_and_redirects() {
        let modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let base = serve(vec![
            answer("302 Found", "Location: /elsewhere\r\n", ""),
            answer("200 OK", modified, "hello\n"),
            answer("200 OK", "", "no time"),
        ]);
        let (download, text) = add(&format!("{base}/f.txt"), None).unwrap();
        assert_eq!(
            (download.name.as_slice(), download.mtime, text.as_str()),
            (&b"f.txt"[..], 784_111_777, "hello\n")
        );
        assert_eq!(add(&format!("{base}/f"), None).unwrap().0.mtime, 0);
    }

    #[test]
    fn a_server_that_stalls_or_lies_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let patience = Duration::from_millis(200);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/f", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
                held.push(stream);
            }
        });
        let started = std::time::Instant::now();
        let error = fetch_patiently(&url, &folder.path().join("a"), patience).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(20));
        assert_eq!(error.to_string(), format!("cannot fetch `{url}`: the server stalled after 4 bytes"));

        let short = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf";
        let url = format!("{}/f", serve(vec![short.to_owned()]));
        let error = fetch_patiently(&url, &folder.path().join("b"), patience).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot fetch `{url}`: the server ended the connection after 4 bytes")
        );
    }

    #[test]
    fn failures() {
        let base = serve(vec![
            answer("404 Not Found", "", ""),
            answer("200 OK", "", "hello\n"),
            answer("500 Oops", "", ""),
            answer("200 OK", "", "hello\n"),
        ]);
        let url = format!("{base}/f");
        let error = |checksum| add(&url, checksum).map(|_| ()).unwrap_err().to_string();
        assert!(error(None).ends_with("invalid response status 404"));
        let zeros = format!("sha256:{}", "0".repeat(64));
        assert!(error(Some(&zeros)).starts_with("digest mismatch"));
        assert!(error(Some("md5:abc")).starts_with("unsupported digest algorithm"));
        let right = Digest::of(b"hello\n").to_string();
        assert!(add(&url, Some(&right)).is_ok(), "an error of the server passes");
    }

    #[test]
    fn user_info_is_sent_but_never_shown() {
        let address = Address::new("http://me:se%63ret@host:1/x#y");
        assert_eq!(address.shown, "http://host:1/x");
        assert_eq!(address.authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
    }
}
