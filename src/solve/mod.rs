//! Runs a graph: asks the cache, runs what is missing, in parallel where inputs allow.
//!
//! Decides nothing about images or Dockerfiles: that is in the plan.

mod forecast;
#[allow(clippy::disallowed_methods, reason = "the path is the store's own, which its user chose")]
mod full_disk;
pub mod images;
#[allow(clippy::disallowed_methods, reason = "the store's own files and folders, by digest and number")]
pub mod jobs;
#[allow(clippy::disallowed_methods, reason = "the store's own files, by number")]
pub mod log;
pub mod ops;
mod passwd;
mod pins;
#[allow(clippy::disallowed_methods, reason = "the store's own files and folders, by digest and number")]
mod roots;
mod schedule;
#[allow(clippy::disallowed_methods, reason = "folders of kept sessions, by number")]
pub mod session;
mod state;
#[allow(clippy::disallowed_methods, reason = "the store's own files and folders, by digest and number")]
mod trees;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::cache::{Preimage, Reasons, Record};
use crate::plan::graph::{ListedInstruction, Op, Plan, Step, StepId};
use crate::report::{Diagnostic, Event, Outcome, Source, Span, StepHeading, StepNumber};

pub use forecast::{Outlook, forecast};
pub use ops::exec::agent::protocol as ssh_protocol;
pub use ops::exec::{Snapshots, executed};
pub use pins::{NotPinned, Pins, Unpinned};
pub use roots::Roots;
pub use state::{ContextFiles, Environment, Files, HearLayers, RootState, SshSource};

/// How many steps may be under way at once unless somebody says otherwise: more on larger machines. Steps mostly wait
/// (for processes, disks and networks); what needs the processor is bounded by rayon's threads.
pub fn usual_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).max(16)
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
    /// The root file system that a step left.
    pub fn root(&self, step: StepId) -> &RootState {
        self.results[step.0].root()
    }
}

/// Why a build failed: what to tell, in order.
pub type Failures = Vec<Diagnostic>;

/// Tells the display what is to come; `last` follows the plan's own steps.
pub fn announce(plan: &Plan, last: Option<String>, environment: &Environment<'_>) {
    let heading = |(number, listed): (usize, &ListedInstruction)| StepHeading {
        number: StepNumber(number),
        place: listed.place.clone(),
        title: listed.title.clone(),
    };
    let mut headings: Vec<StepHeading> = plan.listing.iter().enumerate().map(heading).collect();
    let number = StepNumber(headings.len());
    headings.extend(last.map(|title| StepHeading { number, place: String::new(), title }));
    environment.events.send(Event::Planned(headings));
}

/// Runs every step of `plan`, or takes its layer from the cache. `source` is the Dockerfile.
pub fn run(plan: &Plan, source: &Arc<Source>, environment: &Environment<'_>) -> Result<Solved, Failures> {
    let steps = plan.steps.iter().map(|_| OnceLock::new()).collect();
    let solver =
        Solver { plan, source, environment, steps, ran: AtomicUsize::new(0), cached: AtomicUsize::new(0) };
    let needed = plan.needed();
    let commands = plan.steps.iter().zip(&needed).filter(|(step, needed)| **needed && is_command(step));
    environment.executor.expect(commands.count());
    let shape = schedule::Shape {
        inputs: plan.steps.iter().map(|step| step.op.inputs().iter().map(|id| id.0).collect()).collect(),
        weights: plan.steps.iter().map(|step| weight(&step.op)).collect(),
    };
    let work = |at: usize, inputs: schedule::Inputs<'_, Files>| match needed[at] {
        true => solver.step(at, &plan.steps[at].op.map(|id| inputs.of(id.0))),
        false => Ok(Files::Root(RootState::empty(0))),
    };
    let results = schedule::run(&shape, environment.jobs, work, || environment.executor.cancel_all())?;
    let steps = solver.steps.into_iter().map(OnceLock::into_inner).collect();
    Ok(Solved { results, steps, ran: solver.ran.into_inner(), cached: solver.cached.into_inner() })
}

/// Looks at everything that the plan's steps take from elsewhere, for a lock file; bases were looked at before.
pub fn visit_sources(
    plan: &Plan,
    source: &Arc<Source>,
    environment: &Environment<'_>,
) -> Result<(), Failures> {
    for step in &plan.steps {
        let (started, took_then) = (Instant::now(), Arc::default());
        ops::visit(&StepContext {
            step,
            title: "",
            source,
            environment,
            is_looked_into: false,
            started,
            took_then,
        })?;
    }
    Ok(())
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

/// One run of one plan.
struct Solver<'a> {
    plan: &'a Plan,
    source: &'a Arc<Source>,
    environment: &'a Environment<'a>,
    steps: Vec<OnceLock<(Outcome, Option<Duration>)>>,
    ran: AtomicUsize,
    cached: AtomicUsize,
}

/// What an operation sees of its step and of the build.
pub(crate) struct StepContext<'a> {
    /// The step.
    pub(crate) step: &'a Step,
    /// What to call it: `[build 2/5] RUN make`.
    pub(crate) title: &'a str,
    /// The Dockerfile.
    pub(crate) source: &'a Arc<Source>,
    /// What the build works with.
    pub(crate) environment: &'a Environment<'a>,
    /// Whether a later step asks which files this one leaves, not only runs something on them.
    pub(crate) is_looked_into: bool,
    /// When it began.
    pub(crate) started: Instant,
    /// How long the step took when it ran in another build, if the cache told.
    pub(crate) took_then: Arc<OnceLock<Duration>>,
}

impl StepContext<'_> {
    /// An error at `span`, else at the step's line.
    pub(crate) fn error_at(&self, span: Option<Span>, message: impl Into<String>) -> Diagnostic {
        let diagnostic = Diagnostic::error(message);
        match span.or(self.step.span) {
            Some(span) => diagnostic.at(self.source, span, ""),
            None => diagnostic,
        }
    }

    /// An error at the step's line.
    pub(crate) fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.error_at(None, message)
    }

    /// The step's place in the display.
    pub(crate) fn number(&self) -> StepNumber {
        self.step.number
    }

    /// The key of a step whose layer is written in the form that the build wants.
    pub(crate) fn in_form(&self, mut preimage: Preimage) -> Preimage {
        self.environment.form.push_to(&mut preimage);
        preimage
    }

    /// Looks a key up, unless everything is to run again.
    pub(crate) fn lookup(&self, preimage: &dyn Reasons) -> Result<Option<Record>, Failures> {
        let cache = &self.environment.cache;
        if self.environment.no_cache {
            return Ok(None);
        }
        let key = preimage.key();
        let found = cache.lookup(&key).map_err(|e| vec![self.error(e.to_string())])?;
        if let Some(found) = &found {
            let _ = found.took.map(|took| self.took_then.set(took));
            // Forgetting a slot's last key costs an explanation, not a build.
            let _ = cache.remember(&self.slot(), &key);
        }
        Ok(found)
    }

    /// The same, without remembering the key for explanations.
    pub(crate) fn lookup_quietly(&self, preimage: &dyn Reasons) -> Result<Option<Record>, Failures> {
        if self.environment.no_cache {
            return Ok(None);
        }
        self.environment.cache.lookup(&preimage.key()).map_err(|e| vec![self.error(e.to_string())])
    }

    /// What this step of this project made last, unless everything is to be made again.
    pub(crate) fn last_record(&self) -> Option<Record> {
        if self.environment.no_cache {
            return None;
        }
        self.environment.cache.last_record(&self.slot())
    }

    /// Tells why the step is not in the cache.
    pub(crate) fn missed(&self, preimage: &dyn Reasons) {
        let why = self.why_missed(preimage);
        self.environment.events.send(Event::Missed { step: self.number(), why });
    }

    /// Why the step is not in the cache, in one clause.
    pub(crate) fn why_missed(&self, preimage: &dyn Reasons) -> String {
        match self.environment.no_cache {
            true => "--no-cache".to_owned(),
            false => self.environment.cache.explain(&self.slot(), preimage),
        }
    }

    /// Publishes what the step made; when another build was faster, gives that one's record.
    pub(crate) fn publish(&self, record: Record, preimage: &dyn Reasons) -> Result<Record, Failures> {
        let Environment { cache, no_cache, .. } = self.environment;
        let record = Record { took: Some(self.started.elapsed()), ..record };
        let published = match no_cache {
            true => cache.replace(record, preimage, &self.slot()),
            false => cache.publish(record, preimage, &self.slot()),
        };
        published.map_err(|e| vec![self.error(e.to_string())])
    }

    /// The step's name in this project, for comparing with the last build.
    fn slot(&self) -> String {
        format!("{}\n{}", self.environment.project, self.step.slot)
    }
}

/// A step's result and whether it had to run for it.
pub(crate) struct Done {
    /// What it left.
    pub(crate) files: Files,
    /// How it came to be.
    pub(crate) outcome: Outcome,
}

impl Solver<'_> {
    fn step(&self, at: usize, op: &Op<Arc<Files>>) -> Result<Files, Failures> {
        let step = &self.plan.steps[at];
        if self.environment.executor.is_cancelled() {
            return Err(vec![Diagnostic::error("the build was stopped")]);
        }
        if is_command(step) {
            self.environment.executor.expect_one_less();
        }
        let events = &self.environment.events;
        let shown = step.number.0 < self.plan.listing.len()
            && self.plan.listing[step.number.0].step == Some(StepId(at));
        let started = Instant::now();
        if shown {
            events.send(Event::Started(step.number));
        }
        let is_looked_into = self.plan.steps.iter().any(|later| ops::looks_into(later, StepId(at)));
        let title = self.plan.listing.get(step.number.0);
        let title = title.map_or_else(String::new, |l| format!("{} {}", l.place, l.title));
        let title = title.trim();
        let environment = self.environment;
        let context = StepContext {
            step,
            title,
            source: self.source,
            environment,
            is_looked_into,
            started,
            took_then: Arc::default(),
        };
        let done =
            ops::run(&context, op).map_err(|failures| full_disk::explain(failures, environment.store.root()));
        let took = started.elapsed();
        let done = done.inspect_err(|_| events.send(Event::Failed { step: step.number, took }))?;
        let took_ever =
            if done.outcome == Outcome::Cached { context.took_then.get().copied() } else { Some(took) };
        let _ = self.steps[at].set((done.outcome.clone(), took_ever));
        match done.outcome {
            Outcome::Ran if op.parent().is_some() => drop(self.ran.fetch_add(1, Ordering::Relaxed)),
            Outcome::Cached if op.parent().is_some() => drop(self.cached.fetch_add(1, Ordering::Relaxed)),
            Outcome::Ran | Outcome::Cached | Outcome::ConfigOnly => {}
        }
        if shown {
            events.send(Event::Finished { step: step.number, outcome: done.outcome, took });
        }
        self.finish_configuration_after(StepId(at));
        self.tell_layers(StepId(at), &done.files);
        Ok(done.files)
    }

    /// Tells of a step's layers if they are part of the result.
    fn tell_layers(&self, step: StepId, files: &Files) {
        let (Some(hear), Files::Root(root)) = (self.environment.on_layers, files) else { return };
        let parent = |id: &StepId| self.plan.steps[id.0].op.parent().copied();
        if std::iter::successors(Some(self.plan.image.result), parent).any(|id| id == step) {
            hear(&root.layers);
        }
    }

    /// Instructions that only change the configuration are done as soon as what stands before them is.
    fn finish_configuration_after(&self, step: StepId) {
        for (number, listed) in self.plan.listing.iter().enumerate() {
            if listed.step.is_none() && listed.after == Some(step) {
                let took = std::time::Duration::ZERO;
                let step = StepNumber(number);
                self.environment.events.send(Event::Finished { step, outcome: Outcome::ConfigOnly, took });
            }
        }
    }
}
