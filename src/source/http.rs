//! Fetches what an http(s) URL names: for ADD one file, mode 0600, with the server's time; for a context.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use ureq::config::AutoHeaderValue;

use crate::context::{self, Context};
use crate::copy_files::FileTree;
use crate::copy_files::select::Download;
use crate::oci::{Digest, Hasher, Seconds};
use crate::registry::http_date;
use crate::secrets::{SecretError, Secrets};

/// Larger files are refused: a build has better ways to get them, and a server must not fill the disk.
const SIZE_LIMIT_BYTES: u64 = 16 << 30;
const REDIRECTS: u32 = 10;
const ATTEMPTS: u32 = 3;
/// For one file, if each brings a part of it.
const CONNECTIONS: u32 = 100;
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
    /// The secret that should log in is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Fetches `url` into the folder `into`, which must be empty, and checks it against `checksum`; gives its digest, too.
/// The secrets for its host log in.
pub fn download(
    url: &str,
    checksum: Option<&str>,
    secrets: &Secrets,
    into: &Path,
) -> Result<(Download, Digest), HttpError> {
    let expected =
        checksum.map(|text| text.parse::<Digest>().map_err(|_| HttpError::Checksum(text.to_owned())));
    let expected = expected.transpose()?;
    let Fetched { digest: actual, mtime } = fetch_to(url, secrets, &into.join("content"))?;
    match expected {
        Some(expected) if expected != actual => {
            return Err(HttpError::Mismatch { url: Address::new(url, secrets)?.shown, expected, actual });
        }
        _ => {}
    }
    let tree = FileTree::Context(Arc::new(Context::open(into, None, None)?));
    Ok((Download { tree, path: b"content".to_vec(), name: file_name(url), mtime }, actual))
}

/// What a server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Of the file.
    pub digest: Digest,
    /// `Last-Modified`, or 0.
    pub mtime: Seconds,
}

/// Fetches `url` into `file`, which must not exist. The secrets for its host log in.
pub fn fetch_to(url: &str, secrets: &Secrets, file: &Path) -> Result<Fetched, HttpError> {
    fetch_patiently(&Address::new(url, secrets)?, file, STALL_TIMEOUT)
}

fn fetch_patiently(address: &Address, file: &Path, stall_timeout: Duration) -> Result<Fetched, HttpError> {
    let agent = agent(stall_timeout);
    let fail = |source| HttpError::Body { url: address.shown.clone(), source };
    let mut saved = Saved::create(file).map_err(fail)?;
    let (mut fruitless, mut connections) = (0, 0);
    loop {
        let before = saved.size;
        connections += 1;
        let mut response = fetch(&agent, address, saved.position())?;
        saved.meet(&response).map_err(fail)?;
        match saved.append(response.body_mut(), &address.shown) {
            Ok(()) => return Ok(Fetched { digest: saved.hasher.finish(), mtime: saved.mtime }),
            Err(error @ HttpError::TooLarge { .. }) => return Err(error),
            // As long as each connection brings some of it, there is hope.
            Err(_) if saved.size > before && saved.position().is_some() && connections < CONNECTIONS => {
                fruitless = 0;
            }
            Err(error) => {
                fruitless += 1;
                if fruitless >= ATTEMPTS || connections >= CONNECTIONS {
                    return Err(error);
                }
            }
        }
    }
}

/// What has arrived so far.
struct Saved {
    file: File,
    hasher: Hasher,
    /// In bytes.
    size: u64,
    mtime: Seconds,
    /// What tells the content that it is a part of, such as `"5e1f"`: an entity tag that is not weak.
    tag: Option<String>,
}

impl Saved {
    fn create(file: &Path) -> std::io::Result<Self> {
        Ok(Self { file: File::create_new(file)?, hasher: Hasher::new(), size: 0, mtime: 0, tag: None })
    }

    /// Where to go on, and of which content; `None`: from the beginning.
    fn position(&self) -> Option<(u64, &str)> {
        self.tag.as_deref().filter(|_| self.size > 0).map(|tag| (self.size, tag))
    }

    /// Goes on where the response does: after what is here, or from the beginning.
    fn meet(&mut self, response: &Response) -> std::io::Result<()> {
        if response.status() == ureq::http::StatusCode::PARTIAL_CONTENT && continues(response, self.size) {
            return Ok(());
        }
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.hasher, self.size) = (Hasher::new(), 0);
        self.mtime = last_modified(response).unwrap_or(0);
        let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok());
        self.tag = tag.filter(|tag| tag.starts_with('"')).map(str::to_owned);
        Ok(())
    }

    /// Reads the body to its end.
    fn append(&mut self, body: &mut ureq::Body, url: &str) -> Result<(), HttpError> {
        let fail = |source| HttpError::Body { url: url.to_owned(), source };
        let mut reader = body.with_config().limit(SIZE_LIMIT_BYTES + 1).reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let len = reader.read(&mut buffer).map_err(|error| fail(broken(error, self.size)))?;
            if len == 0 {
                return Ok(());
            }
            if self.size + len as u64 > SIZE_LIMIT_BYTES {
                return Err(HttpError::TooLarge { url: url.to_owned(), limit: SIZE_LIMIT_BYTES });
            }
            self.file.write_all(&buffer[..len]).map_err(fail)?;
            self.hasher.update(&buffer[..len]);
            self.size += len as u64;
        }
    }
}

/// A URL in its two forms, and its credentials.
struct Address {
    /// Without user info and fragment.
    shown: String,
    authorization: Option<String>,
}

impl Address {
    /// A secret for the host goes before user info.
    fn new(url: &str, secrets: &Secrets) -> Result<Self, HttpError> {
        let mut address = Self::plain(url);
        let host = address.shown.split_once("://").map_or("", |(_, rest)| rest);
        let host = &host[..host.find(['/', '?']).unwrap_or(host.len())];
        if let Some(authorization) = secrets.http_authorization(without_port(host))? {
            address.authorization = Some(authorization);
        }
        Ok(address)
    }

    fn plain(url: &str) -> Self {
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

/// `[::1]:80` and `::1`, `a.example:80` and `a.example`.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
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

fn agent(stall_timeout: Duration) -> ureq::Agent {
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
    ureq::Agent::from(config)
}

/// Tries again after what may pass: no connection, and errors of the server.
fn fetch(
    agent: &ureq::Agent,
    address: &Address,
    position: Option<(u64, &str)>,
) -> Result<Response, HttpError> {
    let mut attempt = 1;
    loop {
        let outcome = request(agent, address, position);
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

fn request(
    agent: &ureq::Agent,
    address: &Address,
    position: Option<(u64, &str)>,
) -> Result<Response, HttpError> {
    let mut request = agent.get(&address.shown);
    if let Some(authorization) = &address.authorization {
        request = request.header("Authorization", authorization);
    }
    if let Some((size, tag)) = position {
        request = request.header("Range", format!("bytes={size}-")).header("If-Range", tag);
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

/// Whether a part of a content begins at byte `size` of it.
fn continues(response: &Response, size: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    range
        .and_then(|range| range.strip_prefix("bytes "))
        .is_some_and(|range| range.split_once('-').is_some_and(|(first, _)| first.trim().parse() == Ok(size)))
}

fn last_modified(response: &Response) -> Option<Seconds> {
    http_date(response.headers().get("last-modified")?.to_str().ok()?)
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
            Self::Status { status: 401 | 403, .. } => Some(
                "the server wants to know who asks: `--secret id=HTTP_AUTH_TOKEN_HOST,src=FILE` gives it a token",
            ),
            Self::Status { status: 404 | 410, .. } => Some("check the spelling of the URL"),
            Self::Transport { .. } => Some("check the URL and the network; behind a proxy, set HTTPS_PROXY"),
            Self::Status { .. }
            | Self::Body { .. }
            | Self::TooLarge { .. }
            | Self::Checksum(_)
            | Self::Mismatch { .. }
            | Self::Secret(_)
            | Self::Context(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::secrets::SecretSource;
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
        let (download, _) = download(url, checksum, &Secrets::default(), folder.path())?;
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
        let error = fetch_patiently(&Address::plain(&url), &folder.path().join("a"), patience).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(20));
        assert_eq!(error.to_string(), format!("cannot fetch `{url}`: the server stalled after 4 bytes"));

        let short = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf";
        let url = format!("{}/f", serve(vec![short.to_owned(); ATTEMPTS as usize]));
        let error = fetch_patiently(&Address::plain(&url), &folder.path().join("b"), patience).unwrap_err();
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
    fn a_broken_transfer_goes_on_where_it_broke() {
        let part = |headers: &str, body: &str| {
            format!("HTTP/1.1 206 Part\r\nConnection: close\r\n{headers}\r\n{body}")
        };
        let first = "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"v1\"\r\nContent-Length: 9\r\n\r\nabc";
        let second = part("Content-Range: bytes 3-8/9\r\nContent-Length: 6\r\n", "de");
        let third = part("Content-Range: bytes 5-8/9\r\nContent-Length: 4\r\n", "fghi");
        let url = format!("{}/f", serve(vec![first.to_owned(), second, third]));
        assert_eq!(add(&url, None).unwrap().1, "abcdefghi");
        // A server that has another content by now begins anew, and so does one that knows no ranges.
        let other = answer("200 OK", "ETag: \"v2\"\r\n", "other");
        let url = format!("{}/f", serve(vec![first.to_owned(), other]));
        assert_eq!(add(&url, None).unwrap().1, "other");
        let wrong = part("Content-Range: bytes 0-8/9\r\nContent-Length: 9\r\n", "abcdefghi");
        let url = format!("{}/f", serve(vec![first.to_owned(), wrong]));
        assert_eq!(add(&url, None).unwrap().1, "abcdefghi");
    }

    #[test]
    fn a_secret_for_the_host_logs_in() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "t0ken\n").unwrap();
        let secret = ("HTTP_AUTH_TOKEN_127.0.0.1".to_owned(), SecretSource::File(token));
        let secrets = Secrets::from_iter([secret]);
        // The server answers with the head of the request, whose length it must know.
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHEAD".to_owned();
        let url = format!("{}/f", serve(vec![head]));
        fetch_to(&url, &secrets, &folder.path().join("f")).unwrap();
        let sent = std::fs::read_to_string(folder.path().join("f")).unwrap();
        assert!(sent.to_lowercase().contains("authorization: bearer t0ken"), "{sent}");
        assert_eq!(Address::new("http://[::1]:80/x", &secrets).unwrap().authorization, None);
        assert_eq!((without_port("[::1]:80"), without_port("a.example:80")), ("::1", "a.example"));
    }

    #[test]
    fn user_info_is_sent_but_never_shown() {
        let address = Address::plain("http://me:se%63ret@host:1/x#y");
        assert_eq!(address.shown, "http://host:1/x");
        assert_eq!(address.authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
    }
}
