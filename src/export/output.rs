//! What to write and where: one `-o` of the command line as a value.

use std::path::PathBuf;
use std::str::FromStr;

use super::engine::LoadInto;
use super::parse;
use crate::layer::Compression;
use crate::oci::{Annotation, Reference, Seconds};
use crate::text::csv;

/// One `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What to write, and where.
    pub target: Target,
    /// `name=`: further names of the image, beside those of `-t`.
    pub names: Vec<Reference>,
    /// How its layers shall be; to be heeded before they are made.
    pub layers: LayerOptions,
    /// `source-date-epoch=`, in seconds: for an image the time of its configuration and its history, and what
    /// `rewrite-timestamp=true` rewrites to; for files the time of each.
    pub epoch: Epoch,
    /// `annotation[-LEVEL][\[PLATFORM\]].KEY=`: those of manifests and indexes are to be heeded when these are made.
    pub annotations: Vec<Annotation>,
    /// `oci-mediatypes=false`: manifests say Docker's media types; to be heeded when they are made.
    pub dockers_types: bool,
    /// `store=`: whether the names of the image stay in the store. For images that are pushed.
    pub stored: bool,
    /// `registry.insecure=true`: the registries that it is pushed to need no valid certificate.
    pub insecure: bool,
    /// How attestations are written.
    pub attestations: AttestationOptions,
    /// What is to be said of keys that mean nothing here.
    pub notes: Vec<String>,
}

/// Keys about attestations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationOptions {
    /// `oci-artifact=`: whether those in an index are OCI's artifacts; else they look like images.
    pub are_artifacts: bool,
    /// `attestation-prefix=`: what their names begin with beside files.
    pub prefix: String,
}

impl Default for AttestationOptions {
    fn default() -> Self {
        Self { are_artifacts: true, prefix: String::new() }
    }
}

/// `source-date-epoch=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Epoch {
    /// Nothing was said: the build's SOURCE_DATE_EPOCH.
    #[default]
    OfBuild,
    /// Empty: none, whatever the build has.
    Unset,
    /// Seconds since 1970.
    At(Seconds),
}

impl Epoch {
    /// The time, where the build's is `of_build`.
    pub fn or(self, of_build: Option<Seconds>) -> Option<Seconds> {
        match self {
            Epoch::OfBuild => of_build,
            Epoch::Unset => None,
            Epoch::At(time) => Some(time),
        }
    }
}

/// What an [`Output`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `type=oci`: an OCI layout in a tar, with Docker's `manifest.json`.
    OciArchive(Sink),
    /// `type=oci,tar=false`: an OCI layout.
    OciDirectory(PathBuf),
    /// `type=docker`: what `docker load` reads.
    DockerArchive(Sink),
    /// `type=local`: the files of the image, owned by the caller unless root.
    LocalDirectory {
        /// The directory.
        dest: PathBuf,
        /// What happens to what is there already.
        mode: LocalMode,
        /// `platform-split=`: a folder for each platform; by default if there are several.
        split: Option<bool>,
    },
    /// `type=tar`: the files of the image.
    Tar {
        /// The file, or standard output.
        sink: Sink,
        /// `platform-split=`
        split: Option<bool>,
    },
    /// `type=image` and `type=registry`: the image stays in the store under its names, and is pushed if
    /// asked. Not this module's affair.
    Image {
        /// `push=true`, or `type=registry`.
        push: bool,
        /// `push-by-digest=true`: in the registry it has no tag, and its names have none.
        by_digest: bool,
    },
    /// `type=docker` without `dest=`, and `--load`: into the images of an engine. Not this module's affair.
    Load(LoadInto),
    /// `type=cacheonly`: nothing is written.
    CacheOnly,
}

/// Where an archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// A file.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// `mode=` of `type=local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalMode {
    /// Other files in the directory stay.
    #[default]
    Copy,
    /// The directory holds nothing else afterwards.
    Delete,
}

/// Keys about layers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerOptions {
    /// `compression=` with `compression-level=`; `None` when the output does not care. One that forces a compression cares.
    pub compression: Option<Compression>,
    /// `force-compression=true`: also layers that exist already.
    pub force: bool,
    /// `rewrite-timestamp=true`: times newer than SOURCE_DATE_EPOCH become it.
    pub rewrite_timestamp: bool,
}

/// Why a text is no [`Output`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// Not `key=value`.
    #[error("`{field}` in `-o {text}` is not of the form key=value")]
    NoValue {
        /// The field.
        field: String,
        /// The whole.
        text: String,
    },
    /// A quotation mark in the wrong place, or one that is not closed.
    #[error("`-o {text}` cannot be split into fields: {fault}")]
    Quote {
        /// The whole.
        text: String,
        /// What is wrong with it.
        fault: csv::Fault,
    },
    /// No `type=`.
    #[error("`-o {text}` names no type; add type=oci, docker, local, tar, image or registry")]
    NoType {
        /// The whole.
        text: String,
    },
    /// Unknown `type=`.
    #[error("there is no output type `{found}`{}; there are {}", did_you_mean(.suggestion), parse::types().join(", "))]
    UnknownType {
        /// As typed.
        found: String,
        /// The nearest.
        suggestion: Option<&'static str>,
    },
    /// Unknown key.
    #[error("type={kind} has no key `{key}`{}", did_you_mean(.suggestion))]
    UnknownKey {
        /// The type.
        kind: String,
        /// As typed.
        key: String,
        /// The nearest.
        suggestion: Option<&'static str>,
    },
    /// A key that BuildKit knows, but that has no meaning here.
    #[error("`{key}` is not possible here: {reason}")]
    NotPossible {
        /// As typed.
        key: String,
        /// Why, and the way on.
        reason: &'static str,
    },
    /// A value that does not fit.
    #[error("`{value}` is no value for `{key}`: {expected}")]
    BadValue {
        /// The key.
        key: String,
        /// As typed.
        value: String,
        /// What is.
        expected: String,
    },
    /// No `dest=`.
    #[error("{what} needs dest=DIR")]
    NoDestination {
        /// Which type.
        what: &'static str,
    },
}

impl Output {
    /// An output with nothing but a target.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            names: Vec::new(),
            layers: LayerOptions::default(),
            epoch: Epoch::OfBuild,
            annotations: Vec::new(),
            dockers_types: false,
            stored: true,
            insecure: false,
            attestations: AttestationOptions::default(),
            notes: Vec::new(),
        }
    }

    /// Whether it is an image, not the files of one.
    pub fn is_image(&self) -> bool {
        match self.target {
            Target::OciArchive(_)
            | Target::OciDirectory(_)
            | Target::DockerArchive(_)
            | Target::Load(_)
            | Target::Image { .. } => true,
            Target::LocalDirectory { .. } | Target::Tar { .. } | Target::CacheOnly => false,
        }
    }

    /// Whether it pushes the image to a registry.
    pub fn pushes(&self) -> bool {
        matches!(self.target, Target::Image { push: true, .. })
    }

    /// Whether it is the files of an image.
    pub fn has_files(&self) -> bool {
        matches!(self.target, Target::LocalDirectory { .. } | Target::Tar { .. })
    }

    /// Whether it is an OCI layout, in a tar or not.
    pub fn is_layout(&self) -> bool {
        matches!(self.target, Target::OciArchive(_) | Target::OciDirectory(_))
    }

    /// Whether it goes into an engine.
    pub fn loads(&self) -> bool {
        matches!(self.target, Target::Load(_))
    }

    /// Whether it pushes the image without a tag.
    pub fn pushes_by_digest(&self) -> bool {
        matches!(self.target, Target::Image { push: true, by_digest: true })
    }

    /// Reads docker's syntax: `type=oci,dest=FILE,tar=false`, `DIR` for `type=local,dest=DIR`, `-` for a tar to
    /// standard output. Fields are separated as in CSV, so that `"name=a,b"` is one field.
    pub fn parse(text: &str) -> Result<Output, OutputError> {
        parse::parse(text)
    }
}

impl FromStr for Output {
    type Err = OutputError;

    fn from_str(text: &str) -> Result<Self, OutputError> {
        Self::parse(text)
    }
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map_or_else(String::new, |s| format!("; did you mean `{s}`?"))
}
