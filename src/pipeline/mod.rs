//! Tells the whole story of one build.

mod bases;
mod check;
pub mod commit;
mod context;
mod dockerfile;
mod dry_run;
mod early_upload;
mod epoch;
mod failed;
mod inputs;
mod layer_form;
mod layout;
pub mod listing;
mod lock;
pub mod push;
mod recompress;
mod result;
pub mod shell;
mod tools;

use std::path::PathBuf;

use crate::exec::{Dns, Limits, Stop};
use crate::oci::{Digest, Layer, Platform, Reference};
use crate::plan;
use crate::report::{Diagnostic, Event, Events, StepNumber};
use crate::secrets::Secrets;
use crate::solve::Environment;
use crate::solve::session::{FailedSteps, Session};
use crate::store::{self, Store};
use crate::{export, solve};

pub use dockerfile::usual_path as usual_dockerfile;

pub use check::{Checked, Outlined, check, outline, stages};
pub use dry_run::{DryRun, dry_run};
pub use layer_form::agree as agree_about_layers;
pub use lock::{Lock, Missing, Refresh, no_folder, refresh};
pub use tools::{empty_trash, heed_quota};

/// Everything that one build was asked for.
#[derive(Debug, Clone)]
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
    /// So many steps may be under way at once; as many as usual when absent.
    pub jobs: Option<usize>,
    /// When a registry is asked for an image.
    pub pull: PullPolicy,
    /// What the store may take up on disk, in bytes.
    pub store_quota: Option<u64>,
    /// Fetch nothing from anywhere; commands may still use the network.
    pub offline: bool,
    /// How to talk to registries.
    pub registries: crate::registry::Settings,
    /// The lock file; `None` when the context is no folder.
    pub lock: Option<Lock>,
    /// Run every step again.
    pub no_cache: bool,
    /// What RUN --mount=type=secret may ask for, and logins for what is fetched.
    pub secrets: Vec<Secret>,
    /// Keep the root of a step that fails.
    pub keep_failed: bool,
    /// What RUN --mount=type=ssh may ask for, by id.
    pub ssh: Vec<(String, SshFrom)>,
    /// What RUN may use.
    pub limits: Limits,
    /// What RUN finds in /etc/resolv.conf besides, or instead of, what this machine has.
    pub dns: Dns,
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

impl Request {
    fn secrets(&self) -> Secrets {
        self.secrets.iter().map(|secret| (secret.id.clone(), secret.from.clone())).collect()
    }
}

/// A secret by its id.
#[derive(Debug, Clone)]
pub struct Secret {
    /// What RUN --mount=type=secret names it.
    pub id: String,
    /// Where its value is; read only when a step asks for it.
    pub from: SecretFrom,
}

pub use crate::secrets::SecretSource as SecretFrom;
pub use crate::solve::SshSource as SshFrom;
pub use crate::solve::images::PullPolicy;

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

/// Why there is no image.
#[derive(Debug)]
pub struct Failed {
    /// What to tell the user.
    pub diagnostics: Vec<Diagnostic>,
    /// The step that failed, if its root was kept.
    pub kept: Option<Box<Session>>,
}

/// Builds. Everything that went wrong comes back as what to tell the user; then nothing was tagged or written, unless
/// only a push failed, which comes last. `stop` ends the build early.
pub fn run(request: &Request, events: &Events, stop: &Stop) -> Result<Built, Failed> {
    let fail = |diagnostics| Failed { diagnostics, kept: None };
    let store = Store::open(&request.store_root).map_err(|e| fail(vec![diagnose_store(&e)]))?;
    if let Some(quota) = request.store_quota {
        heed_quota(&store, quota).map_err(|e| fail(vec![diagnose_store(&e)]))?;
    }
    let mut tools = tools::Tools::new(&store, request, stop);
    tools.failed = FailedSteps::new(request.keep_failed);
    tools.pins = request.pins().map_err(fail)?;
    let outcome = run_with(request, &tools, events);
    tools.empty_trash();
    let kept = tools.failed.kept().into_iter().next().map(Box::new);
    outcome.map_err(|diagnostics| Failed { diagnostics, kept })
}

fn run_with(request: &Request, tools: &tools::Tools, events: &Events) -> Result<Built, Vec<Diagnostic>> {
    tools.registry.tell(events);
    let inputs = inputs::Inputs::open(request, tools, events)?;
    let source = inputs.source();
    let dockerfile = inputs.parse()?;
    inputs.read_ahead(&dockerfile);
    let mut images = Vec::new();
    let mut last_step = StepNumber(0);
    let ahead = early_upload::Ahead::start(request, tools);
    // Of several platforms each has its own numbers of steps, and an upload may outlast them.
    let is_single = request.platforms.len() < 2;
    let uploads = if is_single { events.clone() } else { Events::silent() };
    let forced = request.forced();
    let mut told = Vec::new();
    for platform in request.platforms_or_host() {
        let options = plan::Options { platform, ..request.options.clone() };
        let plan = inputs.plan(&dockerfile, &options)?;
        last_step = StepNumber(plan.listing.len());
        if let Some(forced) = forced {
            recompress::check(forced, &plan, source)?;
        }
        let hear = |layers: &[Layer]| {
            if let Some(ahead) = &ahead {
                // What is made anew in the end need not be sent.
                let stays = |layer: &&Layer| forced.is_none_or(|form| form.is_form_of(&layer.descriptor));
                let layers: Vec<Layer> = layers.iter().filter(stays).cloned().collect();
                ahead.hear(&layers, &uploads, last_step);
            }
        };
        let environment = inputs.environment(&dockerfile, &plan, events);
        let environment = Environment { on_layers: Some(&hear), ..environment };
        request.warn_of_rewriting(plan.epoch, events);
        solve::announce(&plan, request.push_title(), &environment);
        for warning in inputs.warnings(&dockerfile, &plan)? {
            // Most are the same for every platform.
            if !told.contains(&warning) {
                events.send(Event::Warning(warning.clone()));
                told.push(warning);
            }
        }
        let solved = solve::run(&plan, source, &environment)
            .inspect_err(|_| failed::complete(&inputs, &dockerfile, &options, &plan))?;
        let layers = &solved.root(plan.image.result).layers;
        let layers = match forced {
            Some(forced) => recompress::convert(layers, forced, tools, events)?,
            None => layers.clone(),
        };
        images.push(result::assemble(request, &plan, &solved, layers, &tools.store)?);
    }
    let began = ahead.and_then(early_upload::Ahead::finish).filter(|_| is_single);
    let line = push::Line { step: last_step, began };
    let built = result::publish(request, tools, &images, events, &line)?;
    inputs.save_digests();
    request.save_lock(&tools.pins, events)?;
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
