//! Runs a graph: asks the cache, runs what is missing, in parallel where inputs allow.
//!
//! Decides nothing about images or Dockerfiles: that is in the plan.

mod barred;
#[allow(clippy::disallowed_methods, reason = "the store's own folders, by hash")]
pub mod cache_mounts;
mod environment;
mod error;
mod failure;
mod forecast;
#[allow(clippy::disallowed_methods, reason = "the path is the store's own, which its user chose")]
mod full_disk;
pub mod images;
#[allow(clippy::disallowed_methods, reason = "the store's own files and folders, by digest and number")]
mod indexes;
#[allow(clippy::disallowed_methods, reason = "the store's own files and folders, by digest and number")]
pub mod jobs;
#[allow(clippy::disallowed_methods, reason = "the store's own files, by digest and number")]
mod layers;
#[allow(clippy::disallowed_methods, reason = "the store's own files, by number")]
pub mod log;
mod materials;
pub mod ops;
mod outlook;
mod passwd;
mod pins;
mod remote;
mod schedule;
#[allow(clippy::disallowed_methods, reason = "folders of kept sessions, by number")]
pub mod session;
#[allow(clippy::disallowed_methods, reason = "the store's own folders, by hash and number")]
mod snapshots;
mod squash;
mod state;
mod step;
#[allow(clippy::disallowed_methods, reason = "the store's own files and folders, by digest and number")]
mod trees;
mod watch;
mod writable;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use remote::RemoteLayers;
use step::{Done, StepContext};

use crate::oci::Layer;
use crate::plan::graph::{Goal, Graph, ListedInstruction, Op, Step, StepId};
use crate::report::{
    Diagnostic, Event, Events, LayerFacts, Outcome, Source, StepHeading, StepNumber, StepResult, Waited,
};
use crate::sync::{lock, processors};

pub use barred::refuse_commands;
pub use environment::{Environment, Given, Policy, Services};
pub use error::Error;
pub use forecast::{Forecast, forecast, forecast_several};
pub use indexes::LayerIndexes;
pub use layers::recompressed;
pub use materials::Materials;
pub use ops::exec::agent::protocol as ssh_protocol;
pub use ops::exec::executed;
pub use outlook::{Fetch, Outlook};
pub use pins::{NotPinned, Pins, Unpinned};
pub use snapshots::Snapshots;
pub use squash::squashed;
pub use state::{ContextFiles, EmptiedCaches, Files, RootState, SshSource};
pub use watch::{Leak, Tripwire, Watched, Words};

/// How many steps may be under way at once unless somebody says otherwise: more on larger machines. Steps mostly wait
/// (for processes, disks and networks); what needs the processor is bounded by rayon's threads.
pub fn usual_jobs() -> usize {
    processors().max(16)
}

/// What running a plan gave.
#[derive(Debug)]
pub struct Solved {
    /// Each step's files; [`StepId`] indexes it.
    pub results: Vec<Arc<Files>>,
    /// How each step ended and how long it took; of one that was cached, how long it took when it ran, if that is known.
    pub steps: Vec<Option<(Outcome, Option<Duration>)>>,
    /// Steps that ran.
    pub ran: usize,
    /// Steps whose layer came from the cache.
    pub cached: usize,
}

impl Solved {
    /// Of no graph.
    fn nothing() -> Self {
        Self { results: Vec::new(), steps: Vec::new(), ran: 0, cached: 0 }
    }

    /// The layers of all roots that steps left, each once.
    pub fn layers(&self) -> Vec<Layer> {
        let roots = self.results.iter().filter_map(|files| match &**files {
            Files::Root(root) => Some(&root.layers),
            Files::Folder(..) => None,
        });
        let mut known = BTreeSet::new();
        roots.flatten().filter(|layer| known.insert(layer.diff_id)).cloned().collect()
    }

    /// The root file system that a step left.
    pub fn root(&self, step: StepId) -> &RootState {
        self.results[step.0].root()
    }
}

/// Why a build failed: what to tell, in order.
pub type Failures = Vec<Diagnostic>;

/// Called with the layers of a result, lowest first, as soon as they are complete, and with the number of the goal that they are
/// part of. A layer can come more than once, with each result that stands on it.
pub type HearLayers<'a> = dyn Fn(&[Layer], usize) + Sync + 'a;

/// Something that follows the graph's own steps, such as a push.
#[derive(Debug, Clone)]
pub struct LastLine<'a> {
    /// What it does.
    pub title: String,
    /// Which of the builds that are run together it is of.
    pub owner: usize,
    /// It needs the last steps of these.
    pub goals: &'a [Goal],
}

/// Tells the display what is to come: the graph's own steps, and then `last`. `sources` are the Dockerfiles, by the numbers of the
/// builds that are run together.
pub fn announce(graph: &Graph, sources: &[Arc<Source>], last: &[LastLine<'_>], events: &Events) {
    let heading = |(number, listed): (usize, &ListedInstruction)| {
        let owner = listed.step.or(listed.after).map_or(0, |step| graph.steps[step.0].owner);
        let lines = listed.span.zip(sources.get(owner)).map(|(span, source)| {
            let line = |offset| source.line_column(offset).0;
            (line(span.start), line(span.end.max(span.start + 1) - 1))
        });
        StepHeading {
            number: StepNumber(number),
            place: listed.place.clone(),
            title: listed.title.clone(),
            platform: listed.platform.as_ref().map(ToString::to_string),
            needs: needs(graph, number, listed),
            owner,
            lines,
        }
    };
    let mut headings: Vec<StepHeading> = graph.listing.iter().enumerate().map(heading).collect();
    for LastLine { title, owner, goals } in last {
        let (number, needs) = (StepNumber(headings.len()), last_steps(graph, goals));
        let (place, title) = (String::new(), title.clone());
        headings.push(StepHeading {
            number,
            place,
            title,
            platform: None,
            needs,
            owner: *owner,
            lines: None,
        });
    }
    events.send(Event::Planned(headings));
}

/// The instructions whose results one needs, each once.
fn needs(graph: &Graph, number: usize, listed: &ListedInstruction) -> Vec<StepNumber> {
    let steps = match listed.step {
        Some(step) => graph.steps[step.0].op.inputs(),
        None => Vec::from_iter(listed.after),
    };
    let numbers: BTreeSet<StepNumber> = steps.into_iter().map(|step| graph.steps[step.0].number).collect();
    numbers.into_iter().filter(|needed| needed.0 != number && needed.0 < graph.listing.len()).collect()
}

/// The steps that the images are made of.
fn last_steps(graph: &Graph, goals: &[Goal]) -> Vec<StepNumber> {
    let numbers: BTreeSet<StepNumber> =
        goals.iter().map(|goal| graph.steps[goal.image.result.0].number).collect();
    numbers.into_iter().collect()
}

/// Runs every step of `graph`, or takes its layer from the cache. Nobody is told of steps that the graph does not list.
pub fn run(
    graph: &Graph,
    goals: &[Goal],
    environment: &Environment<'_>,
    on_layers: &HearLayers<'_>,
) -> Result<Solved, Failures> {
    run_several(graph, goals, std::slice::from_ref(environment), on_layers)
}

/// As [`run`], for several builds together: each step is done in the environment of its [owner](Step::owner). All have the same
/// services.
pub fn run_several(
    graph: &Graph,
    goals: &[Goal],
    environments: &[Environment<'_>],
    on_layers: &HearLayers<'_>,
) -> Result<Solved, Failures> {
    let Some(environment) = environments.first() else { return Ok(Solved::nothing()) };
    let steps = graph.steps.iter().map(|_| OnceLock::new()).collect();
    let (ran, cached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let remote = Mutex::default();
    let run_on = run_on(graph);
    let is_new = environments.iter().all(|environment| environment.is_new(graph));
    let solver = Solver { graph, goals, environments, on_layers, is_new, steps, run_on, ran, cached, remote };
    let needed = graph.needed(goals);
    let commands = graph.steps.iter().zip(&needed).filter(|(step, needed)| **needed && is_command(step));
    let executor = &environment.services.executor;
    executor.expect(commands.count());
    barred::check(graph, &needed, environments)?;
    let shape = schedule::Shape {
        inputs: graph.steps.iter().map(|step| step.op.inputs().iter().map(|id| id.0).collect()).collect(),
        weights: graph.steps.iter().map(|step| weight(&step.op)).collect(),
    };
    let work = |at: usize, inputs: schedule::Inputs<'_, Files>| match needed[at] {
        true => solver.step(at, &graph.steps[at].op.map(|id| inputs.of(id.0)), inputs.waited),
        false => Ok(Files::Root(RootState::empty(0))),
    };
    let jobs = environment.policy.jobs.unwrap_or_else(usual_jobs);
    let fail = || {
        executor.cancel_all();
        lock(&solver.remote).iter().for_each(|remote| remote.stop());
    };
    let results = schedule::run(&shape, jobs, work, fail);
    let results = results?;
    lock(&solver.remote).iter().for_each(|remote| remote.finish());
    let steps = solver.steps.into_iter().map(OnceLock::into_inner).collect();
    Ok(Solved { results, steps, ran: solver.ran.into_inner(), cached: solver.cached.into_inner() })
}

/// Looks at everything that the steps take from elsewhere, for a lock file; bases were looked at before.
pub fn visit_sources(graph: &Graph, environment: &Environment<'_>) -> Result<(), Failures> {
    graph.steps.iter().try_for_each(|step| {
        let visited = ops::visit(environment, &step.op);
        visited.map_err(|error| vec![environment.diagnose(&error, step.span)])
    })
}

/// For each step, whether a command runs on what it leaves, or on what stands on that.
fn run_on(graph: &Graph) -> Vec<bool> {
    let mut run_on = vec![false; graph.steps.len()];
    let parent = |id: StepId| graph.steps[id.0].op.parent().copied();
    for command in graph.steps.iter().filter(|step| is_command(step)) {
        let mut below = command.op.parent().copied();
        while let Some(id) = below.filter(|id| !run_on[id.0]) {
            run_on[id.0] = true;
            below = parent(id);
        }
    }
    run_on
}

fn is_command(step: &Step) -> bool {
    matches!(step.op, Op::Exec { .. })
}

/// A guess of what a step costs beside others, so that long chains are begun first.
fn weight(op: &Op) -> u64 {
    match op {
        Op::Scratch | Op::Local(_) => 0,
        Op::Workdir { .. } => 1,
        Op::Copy { .. } => 10,
        Op::Base(_) | Op::Image(_) => 50,
        Op::Exec { .. } => 100,
    }
}

/// What is told of a step that is done.
fn told(op: &Op<Arc<Files>>, done: &Done, (waited, took_then): (Waited, Option<Duration>)) -> StepResult {
    let chain_of = |files: Arc<Files>| match &*files {
        Files::Root(root) if !root.layers.is_empty() => Some(root.chain.to_string()),
        Files::Root(_) | Files::Folder(..) => None,
    };
    let made = match (&done.files, op.parent()) {
        (Files::Root(root), Some(_)) => root.layers.last(),
        (Files::Root(_) | Files::Folder(..), _) => None,
    };
    StepResult {
        layer: made.map(|layer| LayerFacts {
            digest: layer.descriptor.digest.to_string(),
            diff_id: layer.diff_id.to_string(),
            size_bytes: layer.descriptor.size,
        }),
        key: done.key.map(|key| key.hex()),
        inputs: op.inputs().into_iter().filter_map(chain_of).collect(),
        usage: done.usage,
        files: done.changes,
        waited,
        took_then: took_then.filter(|_| done.outcome == Outcome::Cached),
    }
}

/// One run of one graph.
struct Solver<'a> {
    graph: &'a Graph,
    goals: &'a [Goal],
    environments: &'a [Environment<'a>],
    on_layers: &'a HearLayers<'a>,
    steps: Vec<OnceLock<(Outcome, Option<Duration>)>>,
    /// None of the steps was built before.
    is_new: bool,
    run_on: Vec<bool>,
    ran: AtomicUsize,
    cached: AtomicUsize,
    /// What may be fetched yet, and is told of when it is, or when nothing more will be.
    remote: Mutex<Vec<Arc<RemoteLayers>>>,
}

impl Solver<'_> {
    /// Does a step, which has waited so long for its turn.
    fn step(&self, at: usize, op: &Op<Arc<Files>>, slot: Duration) -> Result<Files, Failures> {
        let step = &self.graph.steps[at];
        let environment = &self.environments[step.owner];
        let services = environment.services;
        if services.executor.is_cancelled() {
            return Err(vec![Diagnostic::error("the build was stopped")]);
        }
        if is_command(step) {
            services.executor.expect_one_less();
        }
        let listed = self.graph.listing.get(step.number.0);
        let is_shown = listed.is_some_and(|listed| listed.step == Some(StepId(at)));
        let tell = |event| is_shown.then(|| services.events.send(event));
        let context = StepContext {
            title: listed.map_or_else(String::new, ListedInstruction::name),
            is_listed: listed.is_some(),
            is_of_new_build: self.is_new,
            is_shown,
            is_looked_into: self.graph.steps.iter().any(|later| ops::looks_into(later, StepId(at))),
            is_run_on: self.run_on[at],
            ..StepContext::new(step, environment)
        };
        // Whether these do anything is seen when somebody needs it.
        let is_brought = matches!(op, Op::Base(_) | Op::Image(_));
        if !is_brought {
            tell(Event::Started(step.number));
        }
        let done = ops::run(&context, op);
        let took = context.elapsed();
        let done = done.map_err(|error| {
            if context.is_listed {
                let is_promise = services.lookup.is_broken();
                services.events.send(
                    match is_promise || error.is_cancelled() || error.is_of_another_step() {
                        true => Event::Cancelled { step: step.number, took },
                        false => Event::Failed { step: step.number, took, usage: error.usage() },
                    },
                );
            }
            vec![self.named(context.diagnose(&error), step.number)]
        })?;
        let result = Box::new(told(op, &done, (Waited { slot, ..context.waited() }, context.took_then())));
        let Done { files, outcome, remote, .. } = done;
        let took_ever = if outcome == Outcome::Cached { context.took_then() } else { Some(took) };
        let _ = self.steps[at].set((outcome.clone(), took_ever));
        match outcome {
            Outcome::Ran if op.parent().is_some() => drop(self.ran.fetch_add(1, Ordering::Relaxed)),
            Outcome::Cached if op.parent().is_some() => drop(self.cached.fetch_add(1, Ordering::Relaxed)),
            Outcome::Ran | Outcome::Cached | Outcome::ConfigOnly => {}
        }
        match remote {
            Some(remote) => lock(&self.remote).push(remote),
            None => {
                if is_brought {
                    tell(Event::Started(step.number));
                }
                tell(Event::Finished { step: step.number, outcome, took, result });
            }
        }
        self.finish_configuration_after(StepId(at));
        self.tell_layers(StepId(at), &files);
        Ok(files)
    }

    /// Says which step failed: with several platforms, the line of the Dockerfile does not tell.
    fn named(&self, diagnostic: Diagnostic, number: StepNumber) -> Diagnostic {
        match self.graph.listing.get(number.0).filter(|_| self.goals.len() > 1) {
            Some(listed) => diagnostic.note(format!("it is step #{}, {}", number.0 + 1, listed.name())),
            None => diagnostic,
        }
    }

    /// Tells of a step's layers if they are part of a result.
    fn tell_layers(&self, step: StepId, files: &Files) {
        let Files::Root(root) = files else { return };
        let is_part = |goal: &Goal| self.graph.chain(goal.image.result).any(|id| id == step);
        for (number, _) in self.goals.iter().enumerate().filter(|(_, goal)| is_part(goal)) {
            (self.on_layers)(&root.layers, number);
        }
    }

    /// Instructions that only change the configuration are done as soon as what stands before them is.
    fn finish_configuration_after(&self, step: StepId) {
        for (number, listed) in self.graph.listing.iter().enumerate() {
            if listed.step.is_none() && listed.after == Some(step) {
                let took = Duration::ZERO;
                let step = StepNumber(number);
                self.environments[0].services.events.send(Event::Finished {
                    step,
                    outcome: Outcome::ConfigOnly,
                    took,
                    result: Box::default(),
                });
            }
        }
    }
}
