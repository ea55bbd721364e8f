//! Speaks the distribution protocol: resolves names to images, pulls layers, pushes, authenticates.
//!
//! The distribution protocol (distribution-spec 1.1 and the token protocol of docker's registries) over `http`.
//! Nothing here builds or interprets an image beyond its manifest and configuration; blobs go to and
//! come from the store. What is deliberately absent: foreign layers (`urls` of a descriptor), manifests of
//! schema 1.
//!
//! Constructing a [`Client`] reads nothing; certificates are read at the first https request, credentials after the
//! first 401.

mod answer;
mod artifact;
mod auth;
mod challenge;
mod credentials;
mod error;
mod keep;
mod login;
mod mount;
mod place;
mod pull;
mod push;
mod referrers;
mod resolve;
mod tap;
mod upload;
mod variables;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

pub use error::{CredentialState, Error};
pub use keep::{KeepError, Kept, forget_login, keep_login};
pub use login::{LoginAnswer, check_login};
pub use push::Supply;
pub use tap::{Tap, Tapped, tap};
pub use variables::VariableLogins;
pub use whole::Which;

use crate::config::{Place, Sources};
use crate::http::{self, Environment, Origin, is_loopback_host, split_port};
use crate::oci::{Digest, Reference};
use crate::report::{Event, Events, StepNumber};

/// How the client behaves; [`Settings::from_process`] is what a program wants, the rest is for tests.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How connections behave; credentials are found in its environment, too.
    pub http: http::Settings,
    /// Mirrors, certificates, names: what is configured about registries.
    pub registries: Sources,
    /// The login for every registry, in place of stored ones.
    pub login: Option<Login>,
    /// Where logins are looked for that no file has.
    pub variable_logins: VariableLogins,
    /// Blobs that move at the same time.
    pub parallel_blobs: usize,
    /// A blob that is larger is sent in chunks of so many bytes: what a broken connection costs at most with registries
    /// that keep whole chunks only, and large enough that one round trip for each does not count.
    pub chunk_bytes: u64,
}

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: String,
}

impl Login {
    /// That of `user`.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }
}

/// The password stays out of it.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Settings {
    /// The usual values, with the environment of this process and the certificates that docker and podman know, the
    /// user's and the system's. Nothing is configured.
    pub fn from_process() -> Self {
        let mut settings = Self::with_environment(Environment::from_process());
        let home = settings.http.environment.get("HOME").map(PathBuf::from);
        let users = home.iter().flat_map(|home| {
            [".config/docker/certs.d", ".config/containers/certs.d"].map(|folder| home.join(folder))
        });
        let systems = ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from);
        settings.http.certs_d = users.chain(systems).collect();
        settings
    }

    /// The usual values with another environment.
    pub fn with_environment(environment: Environment) -> Self {
        Self {
            http: http::Settings::with_environment(environment),
            registries: Sources::default(),
            login: None,
            variable_logins: VariableLogins::default(),
            parallel_blobs: 4,
            chunk_bytes: 16 << 20,
        }
    }
}

/// A client of all registries. Cheap to clone, shared between threads; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    connections: http::Connections,
    auth: auth::Authenticator,
    /// Registries that turned out to speak https, or http, where the other was expected.
    turned_out_secure: Mutex<BTreeMap<String, bool>>,
    /// Mirrors that could not be reached; they are not asked again.
    broken_mirrors: Mutex<BTreeSet<String>>,
    /// Where images were found, by name: the first place to ask for their blobs.
    found_at: Mutex<BTreeMap<String, Place>>,
    /// Who hears of mirrors that fail.
    events: OnceLock<Events>,
    told: Mutex<BTreeSet<String>>,
    /// Which repositories have a blob, as far as this client has seen: what a push can mount from.
    seen: Mutex<BTreeMap<Digest, BTreeSet<(String, String)>>>,
    /// Which repositories images of the store came from that have a blob. They may have lost it since.
    origins: Mutex<BTreeMap<Digest, BTreeSet<(String, String)>>>,
    /// Blobs that some thread of this process is fetching right now.
    fetching: pull::Moving<Digest>,
    /// Blobs that some thread of this process is sending right now, and where.
    sending: pull::Moving<(String, Digest)>,
}

impl Client {
    /// A client that has not talked to anyone yet.
    pub fn new(settings: Settings) -> Self {
        let environment = settings.http.environment.clone();
        let auth = match settings.login.clone() {
            None => auth::Authenticator::new(environment, settings.variable_logins),
            Some(Login { user, password }) => {
                let credential = credentials::Credential::Basic { user, password };
                auth::Authenticator::with_login(environment, credential)
            }
        };
        Self::with_authenticator(settings, auth)
    }

    fn with_authenticator(settings: Settings, auth: auth::Authenticator) -> Self {
        let connections = http::Settings {
            trust: Self::usual_trust(&settings.registries),
            idle_per_host: settings.parallel_blobs,
            ..settings.http.clone()
        };
        let inner = Inner {
            connections: http::Connections::new(connections),
            auth,
            turned_out_secure: Mutex::default(),
            broken_mirrors: Mutex::default(),
            found_at: Mutex::default(),
            events: OnceLock::new(),
            told: Mutex::default(),
            seen: Mutex::default(),
            origins: Mutex::default(),
            fetching: pull::Moving::default(),
            sending: pull::Moving::default(),
            settings,
        };
        Self { inner: Arc::new(inner) }
    }

    /// From now on tells of mirrors that fail and of names that mean something else than docker has them mean. Only the
    /// first call counts.
    pub fn tell(&self, events: &Events) {
        let _ = self.inner.events.set(events.clone());
    }
}

/// Tokens and logins stay out of it.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Who wants to hear of a transfer.
#[derive(Debug, Clone)]
pub struct Progress {
    events: Events,
    step: StepNumber,
}

impl Progress {
    /// Reports bytes as those of `step`.
    pub fn new(events: Events, step: StepNumber) -> Self {
        Self { events, step }
    }

    /// Counts for nobody.
    pub fn silent() -> Self {
        Self::new(Events::silent(), StepNumber(0))
    }

    fn bytes(&self, digest: &Digest, done: u64, total: u64) {
        self.events.send(Event::Bytes { step: self.step, what: digest.short(), done, total });
    }
}

/// What a request is about: the image in messages, where it is asked for, and what for.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    reference: &'a Reference,
    place: &'a Place,
    access: Access,
}

/// What the client wants to do in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Access {
    Pull,
    Push,
    /// Nothing but to be let in.
    Login,
}

impl<'a> Target<'a> {
    fn push(reference: &'a Reference, place: &'a Place) -> Self {
        Self { reference, place, access: Access::Push }
    }

    /// The image in the user's words, and where it was asked for if that is elsewhere.
    fn image(&self) -> String {
        let Place { registry, repository, .. } = self.place;
        match (registry.as_str(), repository.as_str())
            == (self.reference.registry(), self.reference.repository())
        {
            true => self.reference.to_string(),
            false => format!("{} at {registry}/{repository}", self.reference),
        }
    }

    /// `/v2/<repository>/<rest>`
    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.place.repository)
    }

    /// `host[:port]` of the registry that is asked.
    fn registry(&self) -> &'a str {
        &self.place.registry
    }
}

/// Where the registry of that name (`host[:port]`) is. `plain` asks for http.
fn origin_of_registry(name: &str, plain: bool) -> Origin {
    // Docker Hub answers under another name than images carry.
    let name = if name == "docker.io" { "registry-1.docker.io" } else { name };
    let (host, port) = split_port(name);
    let port = port.unwrap_or(if plain { 80 } else { 443 });
    Origin { secure: !plain, host: host.to_ascii_lowercase(), port }
}

/// Whether the registry of that name is on this machine.
fn is_loopback_registry(name: &str) -> bool {
    is_loopback_host(split_port(name).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_place_of_a_registry() {
        for (name, plain, url) in [
            ("docker.io", false, "https://registry-1.docker.io/v2/"),
            ("localhost:5000", true, "http://localhost:5000/v2/"),
            ("[::1]:5000", true, "http://[::1]:5000/v2/"),
            ("[::1]", true, "http://[::1]/v2/"),
            ("ghcr.io:443", false, "https://ghcr.io/v2/"),
        ] {
            assert_eq!(origin_of_registry(name, plain).url("/v2/"), url);
        }
    }
}
