//! What can go wrong between here and a registry, as facts, and how to go on.

use crate::config;
use crate::http::{Problem, is_transient};
use crate::image::{Fault, listed};
use crate::oci::{Digest, Platform};
use crate::report::Diagnostic;
use crate::store;

/// Why the registry could not give or take an image. Texts never hold credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no talking to the registry.
    #[error("`{image}`: cannot reach `{host}` on port {port}: {cause}")]
    Unreachable {
        /// The image in the user's words.
        image: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// Whether it was asked by https.
        secure: bool,
        /// The kind of obstacle.
        problem: Problem,
        /// What the system said.
        cause: String,
    },
    /// A layer is to be sent that is not here, and cannot be brought here.
    #[error("the layer {digest} is not in the store: {cause}")]
    NotSupplied {
        /// Its blob.
        digest: Digest,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A configuration forbids it.
    #[error("`{image}` is blocked by `{}`", file.display())]
    Blocked {
        /// The image in the user's words.
        image: String,
        /// Which configuration.
        file: std::path::PathBuf,
    },
    /// A configuration that cannot be used.
    #[error(transparent)]
    Config(config::Error),
    /// The repository has no such tag or digest (`MANIFEST_UNKNOWN`).
    #[error("`{image}` not found: the repository `{repository}` on `{registry}` has no `{wanted}`")]
    UnknownManifest {
        /// The image in the user's words.
        image: String,
        /// The registry.
        registry: String,
        /// The repository in it.
        repository: String,
        /// The tag or digest.
        wanted: String,
    },
    /// The registry has no such repository (`NAME_UNKNOWN`).
    #[error("`{image}` not found: `{registry}` has no repository `{repository}`")]
    UnknownRepository {
        /// The image in the user's words.
        image: String,
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
    },
    /// A layer or configuration that the manifest names is gone (`BLOB_UNKNOWN`).
    #[error("`{image}` is incomplete: the registry does not have its blob {digest}")]
    UnknownBlob {
        /// The image in the user's words.
        image: String,
        /// Which blob.
        digest: Digest,
    },
    /// The registry wants to know who asks, or does not like who asks.
    #[error("`{registry}` does not allow {action} `{image}`{}{}", said(detail), why(credentials))]
    Unauthorized {
        /// The image in the user's words.
        image: String,
        /// The registry.
        registry: String,
        /// `pulling` or `pushing`.
        action: &'static str,
        /// The registry's own words; may be empty.
        detail: String,
        /// What is known of stored credentials.
        credentials: CredentialState,
    },
    /// An index without the wanted platform.
    #[error("`{image}`: no match for {wanted}; this image has: {}", listed(offered))]
    NoPlatform {
        /// The image in the user's words.
        image: String,
        /// The platform that was asked for.
        wanted: Box<Platform>,
        /// Those that there are, in the index's order.
        offered: Vec<Platform>,
    },
    /// Bytes that are not what their digest says.
    #[error("`{image}`: digest mismatch: the registry sent {actual} for {expected}")]
    DigestMismatch {
        /// The image in the user's words.
        image: String,
        /// What was asked for.
        expected: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// An answer that makes no sense.
    #[error("`{image}`: the registry's answer is malformed: {reason}")]
    Malformed {
        /// The image in the user's words.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An image of the store that cannot be pushed: its documents are wrong, whatever the registry is.
    #[error("cannot push the image {image} of the local store: {reason}")]
    NotPushable {
        /// The digest of the image, or of what it names.
        image: Digest,
        /// What is wrong with it.
        reason: Fault,
    },
    /// A manifest or configuration that nobody should read into memory.
    #[error("`{image}`: the {what} has {size}, more than the {limit} bytes that are allowed")]
    TooLarge {
        /// The image in the user's words.
        image: String,
        /// `manifest` or `image configuration`.
        what: &'static str,
        /// Its announced size, or `more`.
        size: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A manifest of schema 1, which has neither configuration nor diff ids.
    #[error("`{image}` has a manifest of schema 1, which is obsolete and not supported")]
    Schema1 {
        /// The image in the user's words.
        image: String,
    },
    /// An answer with a status that nothing above explains, such as 429 or 503 to the end.
    #[error("`{image}`: `{registry}` answered {status} to {request}{}", said(detail))]
    Status {
        /// The image in the user's words.
        image: String,
        /// The registry, or the host that it sent us to.
        registry: String,
        /// Method and path.
        request: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words; may be empty.
        detail: String,
        /// The seconds of `Retry-After`.
        retry_after_seconds: Option<u64>,
    },
    /// A transfer that broke more often than is tolerated.
    #[error("`{image}`: the transfer of {digest} broke at {done} of {total} bytes: {cause}")]
    Interrupted {
        /// The image in the user's words.
        image: String,
        /// Which blob.
        digest: Digest,
        /// Bytes that arrived.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// What broke it the last time.
        cause: String,
    },
    /// An upload that broke more often than is tolerated.
    #[error("`{image}`: the upload of {digest} broke at {done} of {total} bytes: {cause}")]
    UploadBroken {
        /// The image in the user's words.
        image: String,
        /// Which blob.
        digest: Digest,
        /// Bytes that arrived.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// What broke it the last time.
        cause: String,
    },
    /// A transfer that was given up because another one failed.
    #[error("the transfer was given up: another one failed")]
    Stopped,
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What is known of stored credentials for a registry that refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialState {
    /// None are stored.
    None,
    /// Some are, and the registry did not accept them.
    Refused,
    /// Some may be, but could not be read; says why.
    Unreadable(String),
}

impl Error {
    /// The error for documents of `image` that the registry gave, and that are wrong.
    pub(super) fn wrong(image: String, fault: Fault) -> Self {
        match fault {
            Fault::Schema1 => Error::Schema1 { image },
            Fault::NoPlatform { wanted, offered } => Error::NoPlatform { image, wanted, offered },
            Fault::Malformed(_) | Fault::TooDeep(_) | Fault::LayerCount { .. } => {
                Error::Malformed { image, reason: fault.to_string() }
            }
        }
    }

    /// Whether another place may do what this one could not.
    pub(crate) fn may_differ_elsewhere(&self) -> bool {
        !matches!(
            self,
            Error::Store(_)
                | Error::Config(_)
                | Error::Blocked { .. }
                | Error::NotPushable { .. }
                | Error::Stopped
        )
    }

    /// Whether the image is not there, or not for those who ask: then a short name may mean another one.
    pub fn is_not_there(&self) -> bool {
        matches!(
            self,
            Error::UnknownManifest { .. } | Error::UnknownRepository { .. } | Error::Unauthorized { .. }
        )
    }

    /// Whether the same may succeed a little later: it lies with the network, or the registry says that it cannot now.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { problem, .. } => problem.may_pass(),
            Error::Status { status, .. } => is_transient(*status),
            Error::Interrupted { .. } | Error::UploadBroken { .. } => true,
            Error::NotSupplied { .. }
            | Error::Blocked { .. }
            | Error::Config(_)
            | Error::UnknownManifest { .. }
            | Error::UnknownRepository { .. }
            | Error::UnknownBlob { .. }
            | Error::Unauthorized { .. }
            | Error::NoPlatform { .. }
            | Error::DigestMismatch { .. }
            | Error::Malformed { .. }
            | Error::NotPushable { .. }
            | Error::TooLarge { .. }
            | Error::Schema1 { .. }
            | Error::Stopped
            | Error::Store(_) => false,
        }
    }

    /// For people, with a way on.
    pub fn diagnose(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.to_string()).transient(self.is_transient());
        self.help().into_iter().fold(diagnostic, Diagnostic::help)
    }

    /// How to go on, in one sentence.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Error::Unreachable { host, port, secure, problem, .. } => {
                unreachable_help(host, (*port, *secure), *problem)
            }
            Error::UnknownManifest { repository, registry, .. } => {
                format!(
                    "check the name and the tag; `skopeo list-tags docker://{registry}/{repository}` lists those that exist"
                )
            }
            Error::UnknownRepository { .. } => "check the spelling of the name".to_owned(),
            Error::UnknownBlob { .. } => "push the image again, or use another tag".to_owned(),
            Error::Unauthorized { registry, credentials, .. } => unauthorized_help(registry, credentials),
            Error::NoPlatform { .. } => {
                "choose one of these with --platform, or another base image".to_owned()
            }
            Error::DigestMismatch { .. } => {
                "a proxy or the registry changes the content; try again, or from another network".to_owned()
            }
            Error::NotSupplied { .. } => "build it again".to_owned(),
            Error::NotPushable { .. } => {
                "`rbuild verify` says what is damaged; build, load or pull the image again".to_owned()
            }
            Error::Malformed { .. } => "check that the address is that of a container registry".to_owned(),
            Error::TooLarge { .. } | Error::Config(_) | Error::Stopped => return None,
            Error::Blocked { .. } => "remove `blocked` there, or take the image from elsewhere".to_owned(),
            Error::Schema1 { .. } => "push the image again with a current tool".to_owned(),
            Error::Status { status: 429, registry, .. } => {
                format!(
                    "the registry limits requests; wait, or log in for a higher limit: `rbuild login {registry}`"
                )
            }
            Error::Status { status: 500.., request, .. } if request.contains("/blobs/uploads/") => {
                "look at the registry: its disk may be full".to_owned()
            }
            Error::Status { .. } => "try again later".to_owned(),
            Error::UploadBroken { .. } => "try again; what the registry has is not sent again".to_owned(),
            Error::Interrupted { .. } => "try again; what arrived is kept and not fetched again".to_owned(),
            Error::Store(_) => return None,
        };
        Some(text)
    }
}

fn unreachable_help(host: &str, (port, secure): (u16, bool), problem: Problem) -> String {
    let proxy = if secure { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    match problem {
        Problem::NoSuchHost => format!("check the spelling of `{host}`, and the network"),
        Problem::Refused => "check that the registry runs and that the port is right".to_owned(),
        Problem::Timeout => format!("check the network; behind a proxy, set {proxy}"),
        Problem::Proxy => format!("check {proxy} and NO_PROXY"),
        Problem::Certificate => {
            let name = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
            format!(
                "put the registry's CA certificate into /etc/docker/certs.d/{name}/ca.crt, or name it in SSL_CERT_FILE"
            )
        }
        Problem::Protocol => {
            let name = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
            format!(
                "check that `{host}` is a container registry; if it is one without TLS, allow that with `--insecure-registry {name}`"
            )
        }
        // Nobody is asked about redirects of registries.
        Problem::Forbidden => "see what the policy allows".to_owned(),
        Problem::Broken => "try again; what is complete is kept".to_owned(),
    }
}

fn unauthorized_help(registry: &str, credentials: &CredentialState) -> String {
    match credentials {
        CredentialState::None => {
            format!("if the image exists, log in with `rbuild login {registry}`")
        }
        CredentialState::Refused => {
            format!("log in again with `rbuild login {registry}`, as a user who may do this")
        }
        CredentialState::Unreadable(_) => {
            format!("repair that, or log in again with `rbuild login {registry}`")
        }
    }
}

fn said(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

fn why(state: &CredentialState) -> String {
    match state {
        CredentialState::None => " without a login".to_owned(),
        CredentialState::Refused => " with the stored login".to_owned(),
        CredentialState::Unreadable(reason) => format!(" without a login ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_proxy_of_the_protocol_is_named() {
        let help = |secure, problem| {
            let (host, port) = ("registry.invalid".to_owned(), 5000);
            let error = Error::Unreachable {
                image: String::new(),
                host,
                port,
                secure,
                problem,
                cause: String::new(),
            };
            error.help().unwrap()
        };
        for problem in [Problem::Timeout, Problem::Proxy] {
            assert!(help(true, problem).contains("HTTPS_PROXY"));
            assert!(help(false, problem).contains(" HTTP_PROXY"));
        }
    }
}
