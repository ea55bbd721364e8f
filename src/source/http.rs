//! Fetches what an http(s) URL names: for ADD one file, mode 0600, with the server's time; for a context.

use std::path::Path;

use crate::http::{
    self, Address, Connections, DownloadError, Failure, Hops, Problem, Redirects, Settings, is_transient,
};
use crate::oci::{Digest, Seconds};
use crate::secrets::{SecretError, Secrets};

/// Larger files are refused: a build has better ways to get them, and a server must not fill the disk.
const SIZE_LIMIT_BYTES: u64 = 16 << 30;

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
    /// There is no talking to the server.
    #[error("cannot fetch `{url}`: {cause}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The kind of obstacle.
        problem: Problem,
        /// What the system said.
        cause: String,
    },
    /// The connection broke in the body, again and again.
    #[error("cannot fetch `{url}`: {cause}")]
    Broken {
        /// What was asked for.
        url: String,
        /// How it broke the last time.
        cause: String,
    },
    /// The file cannot be written.
    #[error("cannot keep `{url}`: {source}")]
    NotWritten {
        /// What was asked for.
        url: String,
        /// What the system said.
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
    /// The secret that should log in is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Fetches `url` into `file`, which must not exist, and checks it against `checksum`. The secrets for its host log in.
pub fn fetch_checked(
    url: &str,
    checksum: Option<&str>,
    (secrets, hops): (&Secrets, &Hops),
    file: &Path,
) -> Result<Fetched, HttpError> {
    let expected =
        checksum.map(|text| text.parse::<Digest>().map_err(|_| HttpError::Checksum(text.to_owned())));
    let expected = expected.transpose()?;
    let fetched = fetch_to(url, (secrets, hops), file)?;
    match expected {
        Some(expected) if expected != fetched.digest => {
            Err(HttpError::Mismatch { url: Address::new(url).shown, expected, actual: fetched.digest })
        }
        _ => Ok(fetched),
    }
}

/// What a server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Of the file.
    pub digest: Digest,
    /// `Last-Modified`, if the server says that.
    pub modified: Option<Seconds>,
}

/// Fetches `url` into `file`, which must not exist. The secrets for its host log in, and
/// redirects are followed where `hops` allows it.
pub fn fetch_to(url: &str, (secrets, hops): (&Secrets, &Hops), file: &Path) -> Result<Fetched, HttpError> {
    let address = address(url, secrets)?;
    let settings = Settings { redirects: Redirects::USUAL, hops: hops.clone(), ..Settings::from_process() };
    match http::download(&Connections::new(settings), &address, file, SIZE_LIMIT_BYTES) {
        Ok(found) => Ok(Fetched { digest: found.digest, modified: found.modified }),
        Err(error) => Err(HttpError::of(address.shown, error)),
    }
}

/// Whom to ask, and as whom: a secret for the host goes before user info.
fn address(url: &str, secrets: &Secrets) -> Result<Address, HttpError> {
    let mut address = Address::new(url);
    if let Some(authorization) = secrets.http_authorization(address.host())? {
        address.authorization = Some(authorization);
    }
    Ok(address)
}

/// The name that the file gets in a directory: from the path of the URL as written, whatever the server says.
pub fn file_name(url: &str) -> Vec<u8> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    let path = http::percent_decoded(path.split(['?', '#']).next().unwrap_or(""));
    let name = path.split(|byte| *byte == b'/').rfind(|part| !part.is_empty());
    match name {
        None | Some(b"." | b"..") => b"__unnamed__".to_vec(),
        Some(name) => name.to_vec(),
    }
}

impl HttpError {
    fn of(url: String, error: DownloadError) -> Self {
        match error {
            DownloadError::Unanswered(Failure { problem, cause, .. }) => {
                Self::Unreachable { url, problem, cause }
            }
            DownloadError::Refused(status) => Self::Status { url, status },
            DownloadError::Broken(cause) => Self::Broken { url, cause },
            DownloadError::TooLarge => Self::TooLarge { url, limit: SIZE_LIMIT_BYTES },
            DownloadError::NotWritten(source) => Self::NotWritten { url, source },
        }
    }

    /// Whether the same may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => is_transient(*status),
            Self::Unreachable { problem, .. } => problem.may_pass(),
            Self::Broken { .. } => true,
            Self::NotWritten { .. }
            | Self::TooLarge { .. }
            | Self::Checksum(_)
            | Self::Mismatch { .. }
            | Self::Secret(_) => false,
        }
    }

    /// How to go on.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Status { status: 401 | 403, .. } => Some(
                "the server wants to know who asks: `--secret id=HTTP_AUTH_TOKEN_HOST,src=FILE` gives it a token",
            ),
            Self::Status { status: 404 | 410, .. } => Some("check the spelling of the URL"),
            Self::Unreachable { problem: Problem::Certificate, .. } => Some(
                "name the CA certificate of the server in SSL_CERT_FILE, or add it to those of this machine",
            ),
            Self::Unreachable { problem: Problem::Forbidden, .. } => {
                Some("the server sends everybody there: name that URL, or have the policy allow it")
            }
            Self::Unreachable { problem: Problem::Proxy, url, .. } if url.starts_with("http:") => {
                Some("check HTTP_PROXY and NO_PROXY")
            }
            Self::Unreachable { problem: Problem::Proxy, .. } => Some("check HTTPS_PROXY and NO_PROXY"),
            Self::Unreachable { url, .. } if url.starts_with("http:") => {
                Some("check the URL and the network; behind a proxy, set HTTP_PROXY")
            }
            Self::Unreachable { .. } => {
                Some("check the URL and the network; behind a proxy, set HTTPS_PROXY")
            }
            Self::Status { .. }
            | Self::Broken { .. }
            | Self::NotWritten { .. }
            | Self::TooLarge { .. }
            | Self::Checksum(_)
            | Self::Mismatch { .. }
            | Self::Secret(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::test_server::{answer, serve};
    use crate::secrets::SecretSource;

    fn add(url: &str, checksum: Option<&str>) -> Result<(Fetched, String), HttpError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("content");
        let fetched = fetch_checked(url, checksum, (&Secrets::default(), &Hops::default()), &file)?;
        Ok((fetched, std::fs::read_to_string(file).unwrap()))
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
        let (fetched, text) = add(&format!("{base}/f.txt"), None).unwrap();
        assert_eq!((fetched.modified, text.as_str()), (Some(784_111_777), "hello\n"));
        assert_eq!(add(&format!("{base}/f"), None).unwrap().0.modified, None);
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
    fn a_secret_for_the_host_logs_in() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "t0ken\n").unwrap();
        let secret = ("HTTP_AUTH_TOKEN_127.0.0.1".to_owned(), SecretSource::File(token));
        let secrets = Secrets::from_iter([secret]);
        // The server answers with the head of the request, whose length it must know.
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHEAD".to_owned();
        let url = format!("{}/f", serve(vec![head]));
        fetch_to(&url, (&secrets, &Hops::default()), &folder.path().join("f")).unwrap();
        let sent = std::fs::read_to_string(folder.path().join("f")).unwrap();
        assert!(sent.to_lowercase().contains("authorization: bearer t0ken"), "{sent}");
    }
}
