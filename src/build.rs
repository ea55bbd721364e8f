//! Tells the whole story of one build.

mod bases;
mod inputs;
mod layout;
mod result;

use std::path::PathBuf;

use crate::oci::{Digest, Platform, Reference};
use crate::plan;
use crate::report::{Diagnostic, Event, Events};
use crate::store::{self, Store};
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

/// A secret by its id.
#[derive(Debug, Clone)]
pub struct Secret {
    /// What RUN --mount=type=secret names it.
    pub id: String,
    /// Where its value is; read only when a step asks for it.
    pub from: SecretFrom,
}

pub use crate::solve::SecretSource as SecretFrom;

/// What a build made.
#[derive(Debug)]
pub struct Built {
    /// Of the manifest, or of the index when there are several platforms.
    pub digest: Digest,
    /// The names it was given.
    pub names: Vec<Reference>,
    /// Layers of the image, or of all images together.
    pub layers: usize,
    /// Size of all blobs of the image in bytes, compressed.
    pub size_bytes: u64,
    /// Steps that ran.
    pub ran: usize,
    /// Steps whose layer came from the cache.
    pub cached: usize,
}

/// Builds. Everything that went wrong comes back as what to tell the user; then nothing was tagged or written.
pub fn run(request: &Request, events: &Events) -> Result<Built, Vec<Diagnostic>> {
    let ContextFrom::Directory(context) = &request.context;
    let source = inputs::read_dockerfile(request, context)?;
    let dockerfile = dockerfile::parse(&source)?;
    let store = Store::open(&request.store_root).map_err(|e| vec![diagnose_store(&e)])?;
    let inputs = inputs::Inputs::open(request, &store, context)?;
    let mut images = Vec::new();
    for platform in request.platforms_or_host() {
        let options = plan::Options { platform, ..request.options.clone() };
        let (plan, bases) = inputs.plan(&dockerfile, &options)?;
        let environment = inputs.environment(&bases, events);
        solve::announce(&plan, &environment);
        for warning in &plan.warnings {
            events.send(Event::Warning(warning.clone()));
        }
        let solved = solve::run(&plan, &source, &environment)?;
        images.push(result::assemble(request, &plan, &solved, &store)?);
    }
    let built = result::publish(request, &store, &images, events)?;
    inputs.clean_up();
    Ok(built)
}

impl Request {
    fn platforms_or_host(&self) -> Vec<Platform> {
        match self.platforms.is_empty() {
            true => vec![self.options.platform.clone()],
            false => self.platforms.clone(),
        }
    }
}

/// A fault of the store in words.
pub fn diagnose_store(error: &store::Error) -> Diagnostic {
    Diagnostic::error(error.to_string())
}
