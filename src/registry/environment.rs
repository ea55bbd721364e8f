//! What the client takes from its surroundings: variables and well-known directories.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Variables that mean something here.
const VARIABLES: [&str; 15] = [
    "ALL_PROXY",
    "DOCKER_CONFIG",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A copy of the variables that the client reads, so that tests need not change those of the process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<&'static str, OsString>,
    certs_d: Vec<PathBuf>,
}

impl Environment {
    /// That of this process, with the certificate folders of docker and podman, the user's and the system's.
    pub fn from_process() -> Self {
        let variables = VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect();
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let users = home.iter().flat_map(|home| {
            [".config/docker/certs.d", ".config/containers/certs.d"].map(|folder| home.join(folder))
        });
        let systems = ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from);
        let certs_d = users.chain(systems).collect();
        Self { variables, certs_d }
    }

    /// One in which nothing is set.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The same with a variable set; one that means nothing to the client is ignored.
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        if let Some(known) = VARIABLES.iter().find(|known| **known == name) {
            self.variables.insert(known, value.as_ref().to_owned());
        }
        self
    }

    /// The same with one more folder of per-host certificates (`<folder>/<host[:port]>/*.crt`).
    pub fn with_certs_d(mut self, folder: PathBuf) -> Self {
        self.certs_d.push(folder);
        self
    }

    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    /// The first of `names` that is set, as text.
    pub(super) fn text(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name)?.to_str())
    }

    /// A path made of a variable and what comes below it.
    pub(super) fn path(&self, name: &str, below: &str) -> Option<PathBuf> {
        Some(PathBuf::from(self.get(name)?).join(below))
    }

    pub(super) fn certs_d(&self) -> &[PathBuf] {
        &self.certs_d
    }
}
