//! Opens a root for commands: that of a kept session, of a place in a Dockerfile, of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::inputs::Inputs;
use super::{Failed, Request, Secret, diagnose_store, failed};
use crate::exec::{self, Attach, Dns, ExecError, ExitReport, Limits, MountSpec, Stop, Ulimit};
use crate::image::PlatformImage;
use crate::oci::{self, Descriptor, ImageConfig, Platform, Reference};
use crate::plan::graph::{
    BaseOp, BaseOrigin, BaseRequest, ExecOp, Goal, Graph, ImagePlan, ListedInstruction, Network, Op, Plan,
    Security, Step, StepId,
};
use crate::plan::{self, key_value};
use crate::registry::Settings;
use crate::report::{Diagnostic, Events, Source, Span, StepNumber};
use crate::solve::images::{self, PullPolicy};
use crate::solve::session::{Kind, Place, Session, Sessions, WorkingContainer};
use crate::solve::{self, Environment, Files, Given, Policy, Services};
use crate::store::Store;

/// What a shell or a run is given beside what its step or image has.
#[derive(Debug, Clone, Default)]
pub struct ShellOptions {
    /// Variables, later ones win.
    pub env: Vec<(String, String)>,
    /// The working directory, absolute.
    pub cwd: Option<String>,
    /// As in USER.
    pub user: Option<String>,
    /// Further mounts.
    pub mounts: Vec<MountSpec>,
    /// The host name.
    pub hostname: Option<String>,
    /// The network, where no step says which.
    pub network: Option<Network>,
    /// `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `/dev/shm` in bytes; 0 is the default.
    pub shm_size_bytes: u64,
    /// Name, soft, hard.
    pub ulimits: Vec<(String, i64, i64)>,
    /// What the commands may use.
    pub limits: Limits,
    /// What `/etc/resolv.conf` says instead of this machine's.
    pub dns: Dns,
    /// Values for the secrets of the step.
    pub secrets: Vec<Secret>,
}

/// An image by what the user calls it.
#[derive(Debug, Clone)]
pub enum ImageName {
    /// A name, of the store or of a registry.
    Reference(Reference),
    /// A manifest or index of the store.
    Stored(Descriptor),
}

/// A request for an image to run commands in; what is found is a [`PlatformImage`].
#[derive(Debug, Clone)]
pub struct ImageRequest {
    /// What to look up, and where.
    pub name: ImageName,
    /// As the user typed it.
    pub called: String,
    /// For which platform.
    pub platform: Platform,
    /// How to talk to registries.
    pub registries: Settings,
    /// When to.
    pub pull: PullPolicy,
}

/// Why a command did not run in a container.
#[derive(Debug)]
pub enum EnterError {
    /// The program is not in the root.
    NotFound(String),
    /// The program is there, but cannot be executed; in words.
    NotExecutable(String),
    /// Somebody wanted it to end.
    Stopped,
    /// Something else.
    Failed(Vec<Diagnostic>),
}

/// A root file system, set up for commands to run in it one after the other.
pub struct Shell {
    services: Services,
    container: WorkingContainer,
    /// Where messages point.
    place: At,
    /// What is not as it was, for the user.
    pub notes: Vec<String>,
    /// The instruction that would come next, if it stands before one, and what RUN would run.
    pub next: Option<(String, Vec<String>)>,
}

impl Shell {
    /// Takes up a kept session.
    pub fn kept(
        store: &Store,
        session: Session,
        options: &ShellOptions,
        stop: &Stop,
    ) -> Result<Self, Vec<Diagnostic>> {
        let settings = Settings::from_process();
        let services =
            Services::new((store, Vec::new()), &settings, &options.limits, (stop, &Events::silent()));
        let secrets = options.secrets.iter().map(|secret| (secret.id.clone(), secret.from.clone())).collect();
        let mut notes = Vec::new();
        let place = (nowhere(), None);
        let mut container = WorkingContainer::reopen(&services, &secrets, session, &mut notes)
            .map_err(|error| vec![diagnose(&error, &services, &place)])?;
        if let Some(user) = &options.user {
            container.set_user(user).map_err(|e| vec![Diagnostic::error(e.to_string())])?;
        }
        let spec = container.spec_mut();
        spec.env.extend(options.env.iter().cloned());
        take_place(&mut spec.cwd, options.cwd.as_ref());
        spec.mounts.extend(options.mounts.iter().cloned());
        change(spec, options);
        Ok(Self { services, container, place, notes, next: None })
    }

    /// Builds up to where the request's options stop, or to the end of its target, and opens a container there.
    pub fn step(
        request: &Request,
        options: &ShellOptions,
        events: &Events,
        stop: &Stop,
    ) -> Result<Self, Failed> {
        let services = request.services(stop, events).map_err(Failed::before)?;
        match open_step(request, options, &services) {
            Ok((container, place, next)) => {
                Ok(Self { services: services.silenced(), container, place, notes: Vec::new(), next })
            }
            Err(diagnostics) => {
                services.empty_trash();
                Err(Failed::while_building(diagnostics, &services))
            }
        }
    }

    /// Opens a container in an image, whose missing layers are fetched. Gives also the image's configuration.
    pub fn image(
        store: &Store,
        ImageRequest { name, called, platform, registries, pull }: &ImageRequest,
        kind: Kind,
        options: &ShellOptions,
        (events, stop): (&Events, &Stop),
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut services = Services::new((store, Vec::new()), registries, &options.limits, (stop, events));
        let found = match name {
            ImageName::Reference(reference) => {
                images::find(store, &services.registry, &services.pins, (reference, platform), *pull)
            }
            ImageName::Stored(target) => images::by_target(store, target, called, platform, *pull),
        };
        let found = Arc::new(found.map_err(|e| vec![e.diagnose()])?);
        let is_here = |layer: &oci::Layer| store.has_blob(&layer.descriptor.digest).is_some();
        if found.layers.iter().all(is_here) {
            services = services.silenced();
        }
        let config = found.config.clone();
        let op = op_of(&config, options, platform);
        let plan = plan_of(&found, called, platform);
        let place = (nowhere(), None);
        let mut container = {
            let contexts = BTreeMap::new();
            let given = Given { dns: options.dns.clone(), ..Given::new(&contexts, &place.0) };
            let environment = Environment { services: &services, policy: Policy::default(), given };
            solve::announce(&plan.graph, &[], &[], &services.events);
            let solved = solve::run(&plan.graph, plan.goals(), &environment, &|_, _| ())?;
            let root = solved.root(StepId(0));
            let entered = Place { what: called.to_owned(), kind, op: &op, root, config };
            WorkingContainer::open(&environment, entered)
                .map_err(|error| vec![environment.diagnose(&error, None)])?
        };
        container.spec_mut().mounts.extend(options.mounts.iter().cloned());
        Ok(Self { services: services.silenced(), container, place, notes: Vec::new(), next: None })
    }

    /// What is known of the container.
    pub fn session(&self) -> &Session {
        self.container.session()
    }

    /// What was changed in it, as a layer in the store; nothing if surely nothing was.
    pub(super) fn changes(&self) -> Result<Option<oci::Layer>, Vec<Diagnostic>> {
        if !self.container.has_changes() {
            return Ok(None);
        }
        let committed = self.container.commit(&self.services).map(Some);
        committed.map_err(|error| vec![diagnose(&error, &self.services, &self.place)])
    }

    /// Whether something may have been changed in it.
    pub fn is_changed(&self) -> bool {
        self.container.has_changes()
    }

    /// Runs a command in it.
    pub fn run(&mut self, args: &[String], attach: Attach) -> Result<ExitReport, EnterError> {
        self.container.run(&self.services, args, attach).map_err(|error| match error {
            solve::Error::Exec(error @ ExecError::NotFound { .. }) => EnterError::NotFound(error.to_string()),
            solve::Error::Exec(error @ ExecError::NoLoader { .. }) => EnterError::NotFound(error.to_string()),
            solve::Error::Exec(error @ (ExecError::NotExecutable { .. } | ExecError::WrongFormat { .. })) => {
                EnterError::NotExecutable(error.to_string())
            }
            solve::Error::Exec(ExecError::Cancelled) => EnterError::Stopped,
            error => EnterError::Failed(vec![diagnose(&error, &self.services, &self.place)]),
        })
    }

    /// Leaves the container, which is kept if `keep` says so, under a name if it gives one. One that was kept before stays.
    pub fn leave(self, keep: Option<Option<String>>) -> Result<Option<Session>, Vec<Diagnostic>> {
        let Self { services, container, place, .. } = self;
        let kept = match keep {
            Some(name) => container.keep(&services, name).map(Some),
            None if container.is_kept() => container.keep(&services, None).map(Some),
            None => {
                drop(container);
                Ok(None)
            }
        };
        services.empty_trash();
        kept.map_err(|error| vec![diagnose(&error, &services, &place)])
    }
}

/// Where messages of a container point, if that is known.
type At = (Arc<Source>, Option<Span>);

fn diagnose(error: &solve::Error, services: &Services, (source, span): &At) -> Diagnostic {
    error.diagnose(source, *span, services.store.root())
}

fn nowhere() -> Arc<Source> {
    Arc::new(Source { name: String::new(), text: String::new() })
}

type Next = Option<(String, Vec<String>)>;

fn open_step(
    request: &Request,
    options: &ShellOptions,
    services: &Services,
) -> Result<(WorkingContainer, At, Next), Vec<Diagnostic>> {
    let inputs = Inputs::open(request, services)?;
    let platform = request.platforms_or_host().swap_remove(0);
    let of_plan = plan::Options { platform: platform.clone(), ..request.options.clone() };
    let plan = inputs.plan(&of_plan)?;
    let environment = inputs.environment(request.layer_options_of(plan.goals())?);
    solve::announce(&plan.graph, &[], &[], &services.events);
    let solved = solve::run(&plan.graph, plan.goals(), &environment, &|_, _| ())
        .inspect_err(|_| failed::complete(&inputs, &plan.graph, plan.goals()))?;
    inputs.save_digests();
    let time_of = |step: StepId| plan.goal.epoch.unwrap_or_else(|| solved.root(step).time);
    let history = plan.goal.image.history.iter().map(|entry| entry.entry(time_of));
    let config = ImageConfig { history: history.collect(), ..plan.goal.image.config.clone() };
    let next = plan.goal.next.as_ref();
    let op = next.and_then(|next| next.op.as_deref());
    let mut op = op.map(|op| op.map(|part| Arc::clone(&solved.results[part.from.0])));
    if let Some(op) = &mut op {
        apply(op, options);
    }
    let op = op.unwrap_or_else(|| op_of(&config, options, &platform));
    let what = match next {
        Some(next) => format!("{} {}", next.place, next.title),
        None => format!("stage {}", request.options.target.as_deref().unwrap_or("of the image")),
    };
    let (root, span) = (solved.root(plan.goal.image.result), next.map(|next| next.span));
    let place = Place { what, kind: Kind::Shell, op: &op, root, config };
    let container = WorkingContainer::open(&environment, place);
    let mut container = container.map_err(|error| vec![environment.diagnose(&error, span)])?;
    container.spec_mut().mounts.extend(options.mounts.iter().cloned());
    let next = next.map(|next| {
        let args = next.op.as_ref().map(|op| op.args.clone()).unwrap_or_default();
        (format!("{} {}", next.place, next.title), args)
    });
    Ok((container, (Arc::clone(inputs.source()), span), next))
}

fn apply<R>(op: &mut ExecOp<R>, options: &ShellOptions) {
    Arc::make_mut(&mut op.env).extend(options.env.iter().cloned());
    take_place(&mut op.cwd, options.cwd.as_ref());
    take_place(&mut op.user, options.user.as_ref());
    take_place(&mut op.hostname, options.hostname.as_ref());
    op.network = options.network.unwrap_or(op.network);
    op.extra_hosts.extend(options.extra_hosts.iter().cloned());
    op.ulimits.extend(options.ulimits.iter().cloned());
    if options.shm_size_bytes > 0 {
        op.shm_size_bytes = options.shm_size_bytes;
    }
}

/// Changes what a kept container has as far as that is wished.
fn change(spec: &mut exec::Spec, options: &ShellOptions) {
    if let Some(network) = options.network {
        spec.network = solve::executed(network);
    }
    if options.network.is_some() || options.dns != Dns::default() {
        spec.resolv_conf = exec::resolv_conf_text(spec.network, &options.dns);
    }
    for (name, address) in &options.extra_hosts {
        let line = format!("{address}\t{name}\n");
        if !spec.hosts.contains(&line) {
            spec.hosts += &line;
        }
    }
    let ulimits = options.ulimits.iter().cloned();
    spec.ulimits.extend(ulimits.map(|(name, soft, hard)| Ulimit { name, soft, hard }));
    if options.shm_size_bytes > 0 {
        spec.shm_size_bytes = options.shm_size_bytes;
    }
}

/// What a container of the image would be given.
fn op_of(config: &ImageConfig, options: &ShellOptions, platform: &Platform) -> ExecOp<Arc<Files>> {
    let mut env: Vec<(String, String)> = Vec::new();
    if !config.config.env.iter().any(|pair| pair.starts_with("PATH=")) {
        env.push(("PATH".to_owned(), plan::DEFAULT_PATH.to_owned()));
    }
    let pairs = config.config.env.iter().map(|pair| key_value(pair));
    env.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let cwd = config.config.working_dir.as_str();
    let mut op = ExecOp {
        args: Vec::new(),
        env: Arc::new(env),
        arguments: Arc::default(),
        proxy_env: Vec::new(),
        cwd: if cwd.is_empty() { "/".to_owned() } else { cwd.to_owned() },
        user: config.config.user.clone(),
        mounts: Vec::new(),
        pipes: Vec::new(),
        network: Network::Default,
        security: Security::Sandbox,
        hostname: "rbuild".to_owned(),
        extra_hosts: Vec::new(),
        shm_size_bytes: 0,
        ulimits: Vec::new(),
        platform: platform.clone(),
    };
    apply(&mut op, options);
    op
}

/// A plan that brings an image here, and nothing else.
fn plan_of(image: &Arc<PlatformImage>, called: &str, platform: &Platform) -> Plan {
    let origin = match &image.remote {
        Some(reference) => BaseOrigin::Image(reference.clone()),
        None => BaseOrigin::Layout { path: String::new(), selector: String::new() },
    };
    let name = called.to_owned();
    let (slot, title) = (format!("base/{name}"), format!("fetch {name}"));
    let request = BaseRequest { name, origin, platform: platform.clone(), span: Span::default() };
    let step = Step {
        owner: 0,
        op: Op::Base(BaseOp { request, image: Arc::clone(image) }),
        span: None,
        number: StepNumber(0),
        slot,
        origin: None,
    };
    let listed = ListedInstruction {
        place: String::new(),
        title,
        platform: Some(platform.clone()),
        step: Some(StepId(0)),
        after: None,
        span: None,
    };
    Plan {
        stages: BTreeSet::new(),
        graph: Graph { steps: vec![step], listing: vec![listed] },
        goal: Goal {
            platform: platform.clone(),
            image: ImagePlan { result: StepId(0), config: image.config.clone(), history: Vec::new() },
            epoch: None,
            next: None,
        },
        warnings: Vec::new(),
    }
}

/// Takes the place of `target`, if there is something to take it.
fn take_place(target: &mut String, value: Option<&String>) {
    if let Some(value) = value {
        target.clone_from(value);
    }
}

/// The kept sessions of the store at `root`.
pub fn sessions(root: &Path) -> Result<(Store, Sessions), Vec<Diagnostic>> {
    let store = Store::open(root).map_err(|e| vec![diagnose_store(&e)])?;
    let sessions = Sessions::of(&store);
    Ok((store, sessions))
}
