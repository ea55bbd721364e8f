//! Tells the whole story of one build.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::oci::{Digest, Platform, Reference};
use crate::plan::{self, graph::Plan};
use crate::report::{Diagnostic, Event, Events, Source};
use crate::store::Store;
use crate::{dockerfile, export, solve};

/// A Dockerfile of more bytes is no Dockerfile.
const DOCKERFILE_LIMIT: u64 = 16 << 20;

/// Everything that one build was asked for.
#[derive(Debug)]
pub struct Request {
    /// The folder of the local store.
    pub store_root: PathBuf,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileFrom,
    /// What COPY and ADD read.
    pub context: ContextFrom,
    /// What the plan depends on; its platform is replaced by each of `platforms`.
    pub options: plan::Options,
    /// What to build for; empty means this machine.
    pub platforms: Vec<Platform>,
    /// Names of the result, each with a tag.
    pub tags: Vec<Reference>,
    /// What to write beside the local store.
    pub outputs: Vec<export::Output>,
    /// A file that gets the result's digest.
    pub iidfile: Option<PathBuf>,
    /// Run every step again.
    pub no_cache: bool,
    /// What RUN --mount=type=secret may ask for.
    pub secrets: Vec<Secret>,
}

/// Where a Dockerfile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileFrom {
    /// `Dockerfile` in the context.
    Context,
    /// This file.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

/// Where the files of a build come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextFrom {
    /// A folder.
    Directory(PathBuf),
}
