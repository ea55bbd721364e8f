//! Tells the whole story of one build.

mod attest;
mod bases;
mod budget;
mod check;
pub mod commit;
mod context;
mod definition;
mod dialect;
mod dockerfile;
mod dry_run;
mod early_upload;
mod epoch;
mod failed;
mod generator;
mod inputs;
mod layer_options;
mod layout;
pub mod listing;
mod load;
mod lock;
mod placing;
mod platforms;
mod policy;
pub mod push;
mod quota;
mod recompress;
mod recording;
mod result;
mod shared;
pub mod shell;
mod squash;
mod together;

use std::path::PathBuf;
use std::sync::Arc;

use crate::attest::Wanted;
use crate::cache::{Place, Precedence, Saved};
use crate::config::policy::Policy;
use crate::exec::{Dns, Limits, MountSpec, Stop};
use crate::export;
use crate::oci::{Annotation, Descriptor, Digest, Layer, Platform, Reference};
use crate::plan::{self, graph::Plan};
use crate::record::{Made, Record, Recorder};
use crate::registry::Client;
use crate::report::{Diagnostic, Event, Events, Listener};
use crate::secrets::Secrets;
use crate::shared_cache::mounts::Travel;
use crate::shared_cache::{Backend, CacheFrom, CacheTo};
use crate::solve::Services;
use crate::solve::log::BuildLog;
use crate::solve::session::{FailedSteps, Session};
use crate::store::{self, OtherStore, Store};

use inputs::Inputs;

pub use dockerfile::usual_path as usual_dockerfile;

pub use budget::{Budgets, broken, measure, unknown};
pub use check::{Checked, Outlined, check, outline, stages};
pub use definition::{Definition, fetch_definition};
pub use dry_run::{DryRun, dry_run};
pub use layer_options::agree as agree_about_layers;
pub use lock::{Lock, Missing, Refresh, no_folder, refresh};
pub use placing::{Aloud, Cluster, Engine as EngineOn, Grain, On, Probed, attend, connect, probe, worker};
pub use platforms::of_bases as platforms_of_bases;
pub use quota::{empty_trash, heed_quota};
pub use recording::Recording;
pub use squash::Squash;

/// Everything that one build was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The folder of the local store.
    pub store_root: PathBuf,
    /// Folders of other stores whose layers may be taken; they are only read.
    pub other_stores: Vec<PathBuf>,
    /// Caches of other machines that are looked into after those, in their order.
    pub cache_from: Vec<CacheFrom>,
    /// Caches that get what this build found and made.
    pub cache_to: Vec<CacheTo>,
    /// Whether cache mounts go with them; by default both ways if `cache_to` is given, but for those that secrets met.
    pub cache_mounts: Option<Travel>,
    /// What is to be said before anything else.
    pub notes: Vec<String>,
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
    /// Repositories that get the layers ahead of an image which somebody else pushes.
    pub uploads: Vec<Reference>,
    /// A file that gets the image's id.
    pub iidfile: Option<PathBuf>,
    /// What that is.
    pub identity: Identity,
    /// Annotations of manifests, and of the index over several platforms, beside those of the outputs.
    pub annotations: Vec<Annotation>,
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
    /// What may be taken from elsewhere: all of them must allow it.
    pub policies: Vec<Policy>,
    /// Run every step again.
    pub no_cache: bool,
    /// Run every step of these stages again, by their names or numbers.
    pub no_cache_stages: Vec<String>,
    /// Which layers become one.
    pub squash: Squash,
    /// An index of the store that the image is put into, beside the platforms that it has.
    pub list: Option<Reference>,
    /// Docker's media types, as one of the outputs can ask for, too.
    pub dockers_types: bool,
    /// What is attested of the image, and kept with it.
    pub attestations: Wanted,
    /// Times of files that are newer than SOURCE_DATE_EPOCH become it, as one of the outputs can ask for, too.
    pub rewrite_timestamp: bool,
    /// As `rewrite_timestamp`, with a SOURCE_DATE_EPOCH where nobody gave one: the time of the context's commit, else 0. RUN has it in its
    /// environment.
    pub reproducible: bool,
    /// The ignore file of a context that is a folder, in place of its own.
    pub ignore_file: Option<PathBuf>,
    /// What every RUN finds mounted.
    pub volumes: Vec<MountSpec>,
    /// What RUN --mount=type=secret may ask for, and logins for what is fetched.
    pub secrets: Vec<Secret>,
    /// What becomes of a secret in a new layer, in the configuration or in output.
    pub tripwire: Tripwire,
    /// Keep the root of a step that fails.
    pub keep_failed: bool,
    /// What RUN --mount=type=ssh may ask for, by id.
    pub ssh: Vec<(String, SshFrom)>,
    /// What RUN may use.
    pub limits: Limits,
    /// What RUN finds in /etc/resolv.conf besides, or instead of, what this machine has.
    pub dns: Dns,
    /// What is kept for those who look back at the build.
    pub recording: Recording,
    /// Where the build is done; here when absent.
    pub on: Option<On>,
    /// What workers made for this build, looked into as caches are.
    pub brought: Vec<(Precedence, Arc<dyn Backend>)>,
    /// What the image is to keep to.
    pub budgets: Budgets,
}

/// By what an image is known to where it goes: what `-q` prints and `--iidfile` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// The digest of the manifest, or of the index over several platforms. rbuild's own store, registries and docker's
    /// containerd store know it so.
    #[default]
    Manifest,
    /// The digest of the configuration, if there is one platform only: docker's other store and podman know it so.
    Configuration,
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
    /// This text, which messages call by a name.
    Inline {
        /// The name.
        name: String,
        /// The text.
        text: String,
    },
}

/// Where the files of a build come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextFrom {
    /// A folder.
    Directory(PathBuf),
    /// Standard input: a tar, or a Dockerfile that needs no context.
    Stdin,
    /// A tar in a file of this machine.
    Archive(PathBuf),
    /// A git repository: `REMOTE[#REF[:SUBDIR]]`.
    Git(String),
    /// A tar behind an http(s) URL, or a Dockerfile that needs no context.
    Url(String),
}

impl Request {
    /// A build of `Dockerfile` in the folder `context`, for this machine, into the store at `store_root`, with nothing said
    /// beside. Logins and certificates are those of the user; no configuration is read.
    pub fn new(store_root: PathBuf, context: PathBuf) -> Self {
        Self {
            store_root,
            other_stores: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            cache_mounts: None,
            notes: Vec::new(),
            dockerfile: DockerfileFrom::Context,
            context: ContextFrom::Directory(context),
            options: plan::Options::default(),
            platforms: Vec::new(),
            tags: Vec::new(),
            outputs: Vec::new(),
            push: false,
            uploads: Vec::new(),
            iidfile: None,
            identity: Identity::default(),
            annotations: Vec::new(),
            jobs: None,
            pull: PullPolicy::default(),
            store_quota: None,
            offline: false,
            registries: crate::registry::Settings::from_process(),
            lock: None,
            policies: Vec::new(),
            no_cache: false,
            no_cache_stages: Vec::new(),
            squash: Squash::None,
            list: None,
            dockers_types: false,
            attestations: Wanted::default(),
            rewrite_timestamp: false,
            reproducible: false,
            ignore_file: None,
            volumes: Vec::new(),
            secrets: Vec::new(),
            tripwire: Tripwire::default(),
            keep_failed: false,
            ssh: Vec::new(),
            limits: Limits::default(),
            dns: Dns::default(),
            recording: Recording::default(),
            on: None,
            brought: Vec::new(),
            budgets: Budgets::default(),
        }
    }

    fn secrets(&self) -> Secrets {
        let secrets: Secrets =
            self.secrets.iter().map(|secret| (secret.id.clone(), secret.from.clone())).collect();
        let exempt = self.secrets.iter().filter(|secret| secret.is_exempt);
        secrets.exempting(exempt.map(|secret| secret.id.as_str()))
    }
}

/// A secret by its id.
#[derive(Debug, Clone)]
pub struct Secret {
    /// What RUN --mount=type=secret names it.
    pub id: String,
    /// Where its value is; read only when a step asks for it.
    pub from: SecretFrom,
    /// It may be in the image, so nobody searches for it.
    pub is_exempt: bool,
}

pub use crate::secrets::SecretSource as SecretFrom;
pub use crate::solve::SshSource as SshFrom;
pub use crate::solve::Tripwire;
pub use crate::solve::images::PullPolicy;

/// What a build made.
#[derive(Debug)]
pub struct Built {
    /// Of the manifest, or of the index when there are several platforms.
    pub digest: Digest,
    /// What the digest is of.
    pub descriptor: Descriptor,
    /// Of the configuration, if there is one platform only.
    pub config_digest: Option<Digest>,
    /// By what it is known to where it goes.
    pub id: Digest,
    /// What was found about the Dockerfile.
    pub warnings: Vec<Diagnostic>,
    /// The names it was given.
    pub names: Vec<Reference>,
    /// Layers of the image, or of all images together.
    pub layers: usize,
    /// Bytes of its layers' blobs, each counted once.
    pub size_bytes: u64,
    /// Steps that ran.
    pub ran: usize,
    /// Steps whose layer came from the cache.
    pub cached: usize,
    /// What caches elsewhere did for it.
    pub saved: Saved,
    /// The record of the build, if one is kept; that of all targets that were built together.
    pub record: Option<Arc<Record>>,
}

/// Why there is no image.
#[derive(Debug)]
pub struct Failed {
    /// What to tell the user.
    pub diagnostics: Vec<Diagnostic>,
    /// The step that failed, if its root was kept.
    pub kept: Option<Box<Session>>,
    /// The record of the build, if one is kept and the build had begun.
    pub record: Option<Arc<Record>>,
}

/// Builds. Everything that went wrong comes back as what to tell the user. Then the image has no name, unless only what comes
/// after naming failed: a push, a shared cache whose errors count (`ignore-error=false`), the lock file. Outputs are written before
/// that, one after the other; those before one that failed stay. `stop` ends the build early.
pub fn run(request: &Request, events: &Events, stop: &Stop) -> Result<Built, Failed> {
    let target = Target { name: String::new(), request: request.clone() };
    let built = run_several(std::slice::from_ref(&target), events, stop)?;
    let nothing = || Failed::before(vec![Diagnostic::error("nothing was built")]);
    built.into_iter().next().map(|(_, built)| built).ok_or_else(nothing)
}

/// One of several builds that are run together.
#[derive(Debug, Clone)]
pub struct Target {
    /// What lines of the display and the results call it, and others that are linked to it
    /// ([`Linked`](plan::ContextSource::Linked)); empty where it is the only one.
    pub name: String,
    /// What it is.
    pub request: Request,
}

/// Builds several targets as one graph: what they share is done once, and contexts are read once. Otherwise as [`run`]: all
/// succeed, or none has a name. Gives what each made, in an order in which linked ones come first. Store, registries, quota and
/// the number of jobs are those of the first; a lock file of any holds for all.
pub fn run_several(targets: &[Target], events: &Events, stop: &Stop) -> Result<Vec<(String, Built)>, Failed> {
    let targets = placing::place(targets, events, stop)?;
    let targets: Vec<Target> =
        targets.iter().map(Target::with_engines).collect::<Result<_, _>>().map_err(Failed::before)?;
    let targets = together::in_order(&targets).map_err(Failed::before)?;
    let whole = together::whole(&targets);
    let recorder = recording::start(&targets, &whole).map(Arc::new);
    let events = match &recorder {
        Some(recorder) => events.heard_by(Arc::clone(recorder) as Arc<dyn Listener>),
        None => events.clone(),
    };
    let services = whole.services(stop, &events).map_err(Failed::before)?;
    let services = Services { pins: together::pins(&targets).map_err(Failed::before)?, ..services };
    if let Some(quota) = whole.store_quota {
        heed_quota(&services.store, quota).map_err(|e| Failed::before(vec![diagnose_store(&e)]))?;
    }
    // Provenance is made of a record that nobody keeps.
    let is_recorded = whole.recording != Recording::Off;
    let Some(recorder) = recorder.clone().filter(|_| is_recorded) else {
        let outcome = together::run(&targets, &whole, &services, recorder.as_deref());
        services.empty_trash();
        let built = outcome.map(|made| made.into_iter().map(|made| (made.name, made.built)).collect());
        return built.map_err(|diagnostics| Failed::while_building(diagnostics, &services));
    };
    let foresight = recording::foresight(&recorder, &services.store);
    recorder.keep_in(&services.store, &events, foresight);
    let services = Services { log: BuildLog::named(&services.store, recorder.id()), ..services };
    let outcome = together::run(&targets, &whole, &services, Some(&recorder));
    services.empty_trash();
    recorder.took(services.materials.all());
    match outcome {
        Ok(made) => {
            let facts = made.iter().enumerate().map(|(at, made)| (at, made.facts.clone())).collect();
            let record = finished(&recorder, Ok(facts), (stop, &services.events));
            let built = |made: together::MadeTarget| {
                (made.name, Built { record: Some(Arc::clone(&record)), ..made.built })
            };
            Ok(made.into_iter().map(built).collect())
        }
        Err(diagnostics) => {
            let record = finished(&recorder, Err(&diagnostics), (stop, &services.events));
            Err(Failed { record: Some(record), ..Failed::while_building(diagnostics, &services) })
        }
    }
}

/// The record of a build that has ended. One that cannot be kept is no failure, and told.
fn finished(
    recorder: &Recorder,
    outcome: Result<Vec<(usize, Made)>, &[Diagnostic]>,
    (stop, events): (&Stop, &Events),
) -> Arc<Record> {
    let is_stopped = outcome.is_err() && stop.is_wanted();
    let (record, lost) = recorder.finish(outcome, is_stopped);
    if let Some(lost) = lost {
        events.send(Event::Warning(lost));
    }
    record
}

impl Request {
    /// What a build of this request works with: its store is open, and its lock file read.
    fn services(&self, stop: &Stop, events: &Events) -> Result<Services, Vec<Diagnostic>> {
        let store = Store::open(&self.store_root).map_err(|e| vec![diagnose_store(&e)])?;
        let place = |root: &PathBuf| Arc::new(OtherStore::at(root)) as Arc<dyn Place>;
        let registry = Client::new(self.registries.clone());
        let imports = self.imports(&registry, events)?;
        let others = self.other_stores.iter().map(place).chain(shared::places(&imports)).collect();
        let services = Services::new((&store, others), &self.registries, &self.limits, (stop, events));
        let mounts = self.mounts(&imports);
        let services = Services { registry, imports, mounts, ..services };
        Ok(Services { failed: FailedSteps::new(self.keep_failed), pins: self.pins()?, ..services })
    }

    /// What the plan of each platform depends on.
    fn options_of_platforms(&self) -> impl Iterator<Item = plan::Options> {
        let of = |platform| plan::Options { platform, ..self.options.clone() };
        self.platforms_or_host().into_iter().map(of)
    }

    /// Refuses what could not be done in the end; gives the findings about the Dockerfile, if it does not want them to be
    /// errors.
    fn check(&self, inputs: &Inputs<'_>, plans: &[Plan]) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        if let Some(forced) = self.forced() {
            plans.iter().try_for_each(|plan| recompress::check(forced, plan, inputs.source()))?;
        }
        inputs.warnings(plans)
    }

    /// Those of `layers` that the result will have; what is made anew in the end is not among them.
    fn layers_that_stay(&self, layers: &[Layer]) -> Vec<Layer> {
        if self.squash != Squash::None {
            return Vec::new();
        }
        let forced = self.forced();
        let stays = |layer: &&Layer| forced.is_none_or(|form| form.is_form_of(&layer.descriptor));
        layers.iter().filter(stays).cloned().collect()
    }
}

impl Failed {
    /// Nothing had run yet.
    fn before(diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics, kept: None, record: None }
    }

    /// The first step that failed may have been kept.
    fn while_building(diagnostics: Vec<Diagnostic>, services: &Services) -> Self {
        let kept = services.failed.kept().into_iter().next().map(Box::new);
        Self { kept, ..Self::before(diagnostics) }
    }
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
