//! Why an exchange failed.

use ureq::http::Uri;

use super::origin::Origin;

/// Why a connection did not come about, or did not last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The name has no address.
    NoSuchHost,
    /// Nothing listens on that port.
    Refused,
    /// Nothing answers in time.
    Timeout,
    /// The proxy did not let the connection through.
    Proxy,
    /// The certificate is not trusted.
    Certificate,
    /// What answers does not speak HTTP, or TLS where that was expected.
    Protocol,
    /// The connection broke, again and again.
    Broken,
    /// It leads to what may not be taken.
    Forbidden,
}

impl Problem {
    /// Whether a network or a server that is down may be behind it, and not how they are set up. A name without an address may be
    /// misspelt; but no name has one where the network is gone.
    pub fn may_pass(self) -> bool {
        match self {
            Problem::NoSuchHost | Problem::Refused | Problem::Timeout | Problem::Broken => true,
            Problem::Proxy | Problem::Certificate | Problem::Protocol | Problem::Forbidden => false,
        }
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) origin: Origin,
    pub(crate) problem: Problem,
    pub(crate) cause: String,
}

impl Failure {
    /// Whether the same request may succeed a moment later. What prevents a connection in the first place is
    /// reported at once: it is nearly always a mistake, and waiting does not mend it.
    pub(crate) fn is_transient(&self) -> bool {
        self.problem == Problem::Broken
    }
}

/// What an error of `ureq` means.
pub(super) fn classify(error: &ureq::Error, origin: &Origin, proxy: Option<&str>) -> Failure {
    use std::io::ErrorKind;
    let (problem, mut cause) = match error {
        ureq::Error::HostNotFound => (Problem::NoSuchHost, "the name has no address".to_owned()),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            (Problem::Timeout, "no answer in time".to_owned())
        }
        ureq::Error::Timeout(_) => (Problem::Broken, "the connection stalled".to_owned()),
        ureq::Error::Io(e) if is_certificate(&e.to_string()) => (Problem::Certificate, e.to_string()),
        ureq::Error::Io(e) => match e.kind() {
            ErrorKind::ConnectionRefused => (Problem::Refused, "connection refused".to_owned()),
            ErrorKind::TimedOut => (Problem::Timeout, "no answer in time".to_owned()),
            ErrorKind::InvalidData => (Problem::Protocol, e.to_string()),
            ErrorKind::UnexpectedEof => (Problem::Broken, "the connection was closed".to_owned()),
            _ if e.to_string().contains("lookup") => (Problem::NoSuchHost, e.to_string()),
            _ => (Problem::Broken, e.to_string()),
        },
        ureq::Error::ConnectProxyFailed(text) => (Problem::Proxy, format!("the proxy refused: {text}")),
        ureq::Error::InvalidProxyUrl => (Problem::Proxy, "the proxy's URL is not valid".to_owned()),
        other if is_certificate(&other.to_string()) => (Problem::Certificate, other.to_string()),
        other => (Problem::Protocol, other.to_string()),
    };
    // The client's own errors, which say `io: ` before what the system said, can be inside of the system's.
    cause = without_kind(&cause).to_owned();
    if let Some(proxy) = proxy.and_then(|url| url.parse::<Uri>().ok()) {
        // The host only: the user info of the URL is a secret.
        cause = format!("{cause} (through the proxy `{}`)", proxy.host().unwrap_or(""));
    }
    Failure { origin: origin.clone(), problem, cause }
}

fn is_certificate(text: &str) -> bool {
    text.contains("certificate") || text.contains("UnknownIssuer")
}

fn without_kind(cause: &str) -> &str {
    cause.trim_start_matches("io: ")
}

/// What broke a body that was being read.
pub(crate) fn cause_of(error: std::io::Error) -> String {
    let cause = match ureq::Error::from(error) {
        ureq::Error::Timeout(_) => "the connection stalled".to_owned(),
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the connection was closed".to_owned()
        }
        ureq::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    };
    without_kind(&cause).to_owned()
}
