//! Tells the whole story of one build.

mod bases;
mod check;
mod context;
mod dockerfile;
mod foresight;
pub mod form;
mod inputs;
mod layout;
pub mod listing;
pub mod push;
mod result;
mod tools;

use std::path::PathBuf;

use crate::exec::Stop;
use crate::oci::{Digest, Platform, Reference};
use crate::plan;
use crate::report::{Diagnostic, Event, Events, StepNumber};
use crate::store::{self, Store};
use crate::{export, solve};

pub use check::{Checked, Outlined, check, outline, stages};
pub use foresight::{Foresight, foresee};

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
    /// Push the image to the registries of all its `tags`.
    pub push: bool,
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
    /// This file; in the context when that is no folder of this machine.
    Path(PathBuf),
    /// What is behind this http(s) URL.
    Url(String),
    /// Standard input.
    Stdin,
}

/// Where the files of a build come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextFrom {
    /// A folder.
    Directory(PathBuf),
    /// Standard input: a tar, or a Dockerfile that needs no context.
    Stdin,
    /// A git repository: `REMOTE[#REF[:SUBDIR]]`.
    Git(String),
    /// A tar behind an http(s) URL, or a Dockerfile that needs no context.
    Url(String),
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

/// Builds. Everything that went wrong comes back as what to tell the user; then nothing was tagged or written, unless
/// only a push failed, which comes last. `stop` ends the build early.
pub fn run(request: &Request, events: &Events, stop: &Stop) -> Result<Built, Vec<Diagnostic>> {
    let store = Store::open(&request.store_root).map_err(|e| vec![diagnose_store(&e)])?;
    let tools = tools::Tools::new(&store, stop);
    let outcome = run_with(request, &tools, events);
    tools.empty_trash();
    outcome
}

fn run_with(request: &Request, tools: &tools::Tools, events: &Events) -> Result<Built, Vec<Diagnostic>> {
    let inputs = inputs::Inputs::open(request, tools, events)?;
    let source = inputs.source();
    let dockerfile = crate::dockerfile::parse(source)?;
    let mut images = Vec::new();
    let mut last_step = StepNumber(0);
    for platform in request.platforms_or_host() {
        let options = plan::Options { platform, ..request.options.clone() };
        let (plan, bases) = inputs.plan(&dockerfile, &options)?;
        let environment = inputs.environment(&dockerfile, &plan, &bases, events);
        request.warn_of_form(plan.epoch, events);
        last_step = StepNumber(plan.listing.len());
        solve::announce(&plan, request.push_title(), &environment);
        for warning in inputs.warnings(&dockerfile, &plan)? {
            events.send(Event::Warning(warning));
        }
        let solved = solve::run(&plan, source, &environment)?;
        images.push(result::assemble(request, &plan, &solved, &tools.store)?);
    }
    let built = result::publish(request, tools, &images, events, last_step)?;
    inputs.save_digests();
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
