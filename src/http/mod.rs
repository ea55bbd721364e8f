//! Talks HTTP, for registries and for whatever else a build fetches: connections, trust, proxies, patience.
//!
//! A thin synchronous client over `ureq`, and the only module that names it. It knows no registry and no build: a
//! request is made of a URL, an answer of whatever status is an answer, and what it means is the caller's affair.
//! Constructing `Connections` reads nothing; certificates are read at the first https request.

mod address;
mod connections;
mod date;
mod download;
mod environment;
mod failure;
mod origin;
mod piece;
mod proxy;
mod range;
mod redirect;
mod request;
mod retry;
mod socket;
#[cfg(test)]
pub(crate) mod test_server;
mod tls;
mod trust;
mod unverified;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use ureq::http::Method;

pub(crate) use address::{Address, percent_decoded, percent_encoded, without_user_info};
pub(crate) use connections::Connections;
pub(crate) use download::{DownloadError, download};
pub use environment::Environment;
pub use failure::Problem;
pub(crate) use failure::{Failure, cause_of};
pub(crate) use origin::{Origin, is_loopback_host, origin_of, split_port};
pub(crate) use proxy::proxy_for;
pub(crate) use range::begins_at;
pub use redirect::{Hops, Redirects};
pub(crate) use request::{Payload, Request, Response};
pub(crate) use retry::{Schedule, exchange, is_transient, retry_after};
pub(crate) use socket::{Came, Protocol, Socket, Tls};
pub(crate) use tls::{Pem, client_config, client_config_of};
pub use trust::Trusted;
pub(crate) use unverified::Unverified;

/// How connections behave; [`Settings::from_process`] is what a program wants, the rest is for tests.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where certificates and proxies are found.
    pub environment: Environment,
    /// Folders of certificates for single hosts, as docker has them: `<folder>/<host[:port]>/*.crt`.
    pub certs_d: Vec<PathBuf>,
    /// What a connection to a host needs when its request says nothing else.
    pub trust: Trusted,
    /// How far a server may send us elsewhere.
    pub redirects: Redirects,
    /// Who is asked about each place that it sends us to.
    pub hops: Hops,
    /// For looking up a name and opening a connection, each.
    pub connect_timeout: Duration,
    /// A connection on which nothing moves for so long is broken.
    pub stall_timeout: Duration,
    /// The first wait before trying again; each later one is twice as long.
    pub backoff: Duration,
    /// How often one thing is tried in all.
    pub attempts: u32,
    /// The longest `Retry-After` that is obeyed; a server that wants more has given its last answer.
    pub longest_wait: Duration,
    /// Connections to one host that are kept open between requests.
    pub idle_per_host: usize,
}

impl Settings {
    /// The usual values, with the environment of this process.
    pub fn from_process() -> Self {
        Self::with_environment(Environment::from_process())
    }

    /// The usual values with another environment.
    pub fn with_environment(environment: Environment) -> Self {
        Self {
            environment,
            certs_d: Vec::new(),
            trust: Trusted::default(),
            redirects: Redirects::STRICT,
            hops: Hops::default(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            backoff: Duration::from_millis(250),
            attempts: 5,
            longest_wait: Duration::from_secs(30),
            idle_per_host: 4,
        }
    }
}
