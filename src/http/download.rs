//! A whole file from a server into a file of ours, taken up where it broke.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::connections::Connections;
use super::date::http_date;
use super::failure::{Failure, cause_of};
use super::range::begins_at;
use super::request::{Request, Response};
use super::retry::{Schedule, exchange};
use super::{Address, Method};
use crate::oci::{Digest, Hasher, Seconds};

/// For one file, if each brings a part of it.
const CONNECTIONS: u32 = 100;
const BUFFER_BYTES: usize = 128 * 1024;

/// What a server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Downloaded {
    pub(crate) digest: Digest,
    /// `Last-Modified`; `None` if the server does not say.
    pub(crate) modified: Option<Seconds>,
}

/// Why a file could not be fetched.
#[derive(Debug)]
pub(crate) enum DownloadError {
    /// No answer.
    Unanswered(Failure),
    /// The server has something else to say than the file: the status.
    Refused(u16),
    /// The connection broke in the body too often; says how.
    Broken(String),
    /// It is longer than is allowed.
    TooLarge,
    /// It cannot be written here.
    NotWritten(std::io::Error),
}

/// Fetches `address` into `file`, which must not exist; at most `limit` bytes.
pub(crate) fn download(
    connections: &Connections,
    address: &Address,
    file: &Path,
    limit: u64,
) -> Result<Downloaded, DownloadError> {
    let mut saved = Saved::create(file, limit).map_err(DownloadError::NotWritten)?;
    let mut schedule = Schedule::new(connections.settings());
    for _ in 0..CONNECTIONS {
        let before = saved.size;
        let mut response = saved.ask(connections, address)?;
        match saved.meet(&response).and_then(|()| saved.append(&mut response)) {
            Ok(()) => return Ok(Downloaded { digest: saved.hasher.finish(), modified: saved.modified }),
            // As long as each connection brings some of it, there is hope.
            Err(DownloadError::Broken(_)) if saved.size > before && saved.position().is_some() => {
                schedule = Schedule::new(connections.settings());
            }
            Err(error @ DownloadError::Broken(_)) => std::thread::sleep(schedule.next(None).ok_or(error)?),
            Err(error) => return Err(error),
        }
    }
    Err(DownloadError::Broken(format!("it broke {CONNECTIONS} times, at last after {} bytes", saved.size)))
}

/// What has arrived so far.
struct Saved {
    file: File,
    hasher: Hasher,
    /// In bytes.
    size: u64,
    limit: u64,
    modified: Option<Seconds>,
    /// What tells the content that it is a part of, such as `"5e1f"`: an entity tag that is not weak.
    tag: Option<String>,
}

impl Saved {
    fn create(file: &Path, limit: u64) -> std::io::Result<Self> {
        let file = File::create_new(file)?;
        Ok(Self { file, hasher: Hasher::new(), size: 0, limit, modified: None, tag: None })
    }

    /// Where to go on, and of which content; `None`: from the beginning.
    fn position(&self) -> Option<(u64, &str)> {
        self.tag.as_deref().filter(|_| self.size > 0).map(|tag| (self.size, tag))
    }

    /// Asks for what is missing.
    fn ask(&self, connections: &Connections, address: &Address) -> Result<Response, DownloadError> {
        let mut request = Request::new(Method::GET, address.shown.clone());
        request.authorization.clone_from(&address.authorization);
        if let Some((size, tag)) = self.position() {
            request = request.header("range", format!("bytes={size}-")).header("if-range", tag);
        }
        let response = exchange(connections, &request).map_err(DownloadError::Unanswered)?;
        match response.status.is_success() {
            true => Ok(response),
            false => Err(DownloadError::Refused(response.status.as_u16())),
        }
    }

    /// Goes on where the response does: after what is here, or from the beginning.
    fn meet(&mut self, response: &Response) -> Result<(), DownloadError> {
        let is_part = response.status == 206;
        if is_part && begins_at(response, self.size) {
            return Ok(());
        }
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(DownloadError::NotWritten)?;
        (self.hasher, self.size, self.tag) = (Hasher::new(), 0, None);
        if is_part && !begins_at(response, 0) {
            return Err(DownloadError::Broken("the server sent another part than was asked for".to_owned()));
        }
        self.modified = response.header("last-modified").and_then(http_date);
        self.tag = response.header("etag").filter(|tag| tag.starts_with('"')).map(str::to_owned);
        Ok(())
    }

    /// Reads the body to its end.
    fn append(&mut self, response: &mut Response) -> Result<(), DownloadError> {
        let mut reader = response.reader(self.limit + 1);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let broken =
                |error| DownloadError::Broken(format!("{} after {} bytes", cause_of(error), self.size));
            let len = reader.read(&mut buffer).map_err(broken)?;
            if len == 0 {
                return Ok(());
            }
            if self.size + len as u64 > self.limit {
                return Err(DownloadError::TooLarge);
            }
            self.file.write_all(&buffer[..len]).map_err(DownloadError::NotWritten)?;
            self.hasher.update(&buffer[..len]);
            self.size += len as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;
    use std::time::Duration;

    use super::super::test_server::{answer, serve};
    use super::super::{Environment, Settings};
    use super::*;

    /// What is fetched in two attempts; a silence of so many milliseconds is a stall.
    fn fetch(url: &str, stall_ms: u64) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            stall_timeout: Duration::from_millis(stall_ms),
            backoff: Duration::from_millis(1),
            attempts: 2,
            ..Settings::with_environment(Environment::empty())
        };
        let file = folder.path().join("f");
        let fetched = download(&Connections::new(settings), &Address::new(url), &file, 1 << 20);
        fetched.map_err(|error| format!("{error:?}"))?;
        Ok(std::fs::read_to_string(file).unwrap())
    }

    #[test]
    fn a_server_that_stalls_or_lies_is_given_up() {
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
        assert_eq!(fetch(&url, 200).unwrap_err(), "Broken(\"the connection stalled after 4 bytes\")");
        let short = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf";
        let url = format!("{}/f", serve(vec![short.to_owned(); 2]));
        assert_eq!(fetch(&url, 10_000).unwrap_err(), "Broken(\"the connection was closed after 4 bytes\")");
        let other = "HTTP/1.1 206 Part\r\nConnection: close\r\nContent-Range: bytes 3-8/9\r\nContent-Length: 6\r\n\r\ndefghi";
        let url = format!("{}/f", serve(vec![other.to_owned(); 2]));
        let error = fetch(&url, 10_000).unwrap_err();
        assert_eq!(error, "Broken(\"the server sent another part than was asked for\")");
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
        assert_eq!(fetch(&url, 10_000).unwrap(), "abcdefghi");
        // A server that has another content by now begins anew, and so does one that knows no ranges.
        let other = answer("200 OK", "ETag: \"v2\"\r\n", "other");
        let url = format!("{}/f", serve(vec![first.to_owned(), other]));
        assert_eq!(fetch(&url, 10_000).unwrap(), "other");
        let wrong = part("Content-Range: bytes 0-8/9\r\nContent-Length: 9\r\n", "abcdefghi");
        let url = format!("{}/f", serve(vec![first.to_owned(), wrong]));
        assert_eq!(fetch(&url, 10_000).unwrap(), "abcdefghi");
    }
}
