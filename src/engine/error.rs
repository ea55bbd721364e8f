//! Why an image is not in an engine, and how to go on.

use std::io;

use crate::import;
use crate::oci::{Digest, Platform};
use crate::report::Diagnostic;
use crate::store;

/// Why an image could not be loaded, or taken from an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not give, or keep, a blob.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What an engine gave is no image.
    #[error(transparent)]
    Import(#[from] import::Error),
    /// No engine at all.
    #[error("there is nothing to load the image into: {}", looked_for.join(", "))]
    NothingThere {
        /// What was looked for, and why it is not there.
        looked_for: Vec<String>,
    },
    /// Nothing answers where the daemon should be.
    #[error("there is no {engine} at `{place}`: {source}")]
    NotThere {
        /// Whose daemon.
        engine: &'static str,
        /// Where it was looked for.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that is not installed, or does not start.
    #[error("cannot start `{program}`: {source}")]
    NoProgram {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The place of a daemon that is none.
    #[error("{origin} names no daemon, `{text}`: {reason}")]
    BadAddress {
        /// As written.
        text: String,
        /// Where it was written.
        origin: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection ended in the middle.
    #[error("{engine} at `{place}` broke off: {source}")]
    Broken {
        /// Whose daemon.
        engine: &'static str,
        /// Where it is.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// An engine that said no.
    #[error("{engine} {what}: {reason}")]
    Refused {
        /// Which.
        engine: String,
        /// What it did not do.
        what: &'static str,
        /// In its own words.
        reason: String,
    },
    /// A daemon that knows no images by digest.
    #[error("docker at `{place}` is too old: its API is {version}, and loading needs 1.24 (docker 1.12)")]
    TooOld {
        /// Where it is.
        place: String,
        /// What it said.
        version: String,
    },
    /// What an engine did not give.
    #[error("{engine} has no image `{name}`")]
    NoImage {
        /// Which.
        engine: &'static str,
        /// As asked for.
        name: String,
    },
    /// An image without a name, for an engine that keeps images by name.
    #[error("{engine} keeps images by their names, and this one has none")]
    Nameless {
        /// Which.
        engine: &'static str,
    },
    /// An image of several platforms, none of which is this machine's.
    #[error("the image has {} and nothing for {wanted}, and the engine takes one platform", offered.join(", "))]
    NoPlatform {
        /// This machine's.
        wanted: Box<Platform>,
        /// What there is.
        offered: Vec<String>,
    },
    /// An artifact, or an image with damaged documents.
    #[error("{digest} is no image of files")]
    NoFiles {
        /// Its manifest.
        digest: Digest,
    },
    /// A layer that is promised elsewhere and did not come.
    #[error("the layer {layer} cannot be had: {reason}")]
    NotSupplied {
        /// Which.
        layer: Digest,
        /// Why.
        reason: String,
    },
    /// What rbuild itself needs of the system.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Whether there is no such engine, as opposed to one that does not do what it should.
    pub fn is_absence(&self) -> bool {
        matches!(self, Error::NothingThere { .. } | Error::NotThere { .. } | Error::NoProgram { .. })
    }

    /// In words, with how to go on.
    pub fn diagnose(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.to_string());
        self.help().into_iter().fold(diagnostic, Diagnostic::help)
    }

    /// How to go on.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Error::NothingThere { .. } => "start one, or write an archive with `-o type=docker,dest=FILE`",
            Error::NotThere { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "members of the group `docker` may speak to it, and root"
            }
            Error::NotThere { .. } => {
                "start it, or say where it is with $DOCKER_HOST or `docker context use`"
            }
            Error::NoProgram { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "install it, or name another engine with `--load=docker`, `podman` or `containerd`"
            }
            Error::Broken { .. } => {
                "nothing of the image has a name there; look into its log, and load again"
            }
            Error::Refused { reason, .. } if reason.contains("no space left") => {
                "its disk is full: `docker system df` and `docker system prune`, or podman's, make room; nothing of the image has a name there"
            }
            Error::Refused { reason, .. } if reason.contains("invalid tar header") => {
                "docker before 23 reads no zstd; `-o type=docker,compression=gzip,force-compression=true`"
            }
            Error::Nameless { .. } => "name it with `-t NAME`",
            Error::NoPlatform { .. } => "choose with `--platform`",
            Error::NoImage { engine: "docker", .. } => "`docker images` lists what it has",
            Error::NoImage { .. } => "`podman images` lists what it has",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
