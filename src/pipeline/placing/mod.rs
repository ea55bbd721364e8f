//! Has a build done by an engine: `--on`.
//!
//! The build travels as one piece of work: what was asked for (`order`), and the files of the contexts that COPY, ADD and mounts
//! can see (`files`). The worker (`worker`) builds with that as anybody would, and leaves a cache in a folder, which is the result. Here
//! the build then runs with that as one more cache: it finds every step, brings what its outputs need, and does itself what was not
//! made there. So names, outputs and pushes are this machine's affair, and nothing that is secret leaves it.
//!
//! ```text
//! order     what was asked for, as a value that travels
//! files     which files of a context travel, and what is told of each
//! names     files by BLAKE3 and by SHA-256
//! known     what is known here of its steps
//! sending   all that travels as blobs, and what the other side lacks of them
//! action    as an action of a server of the Remote Execution API
//! pod       as a job of a Kubernetes cluster
//! link      what is said to a pod, and what it answers
//! attending the pod's side of that
//! probe     what RUN would find there
//! outputs   what a worker left, as a cache
//! worker    the other side of a build
//! ```

mod action;
mod attending;
mod files;
mod known;
mod link;
mod names;
mod order;
mod outputs;
mod pod;
mod probe;
mod sending;
pub mod worker;

pub use attending::{attend, connect};
pub use probe::{Probed, probe};

use std::sync::Arc;
use std::time::Duration;

use super::inputs::Inputs;
use super::{Failed, Request, Target};
use crate::cache::Precedence;
use crate::exec::Stop;
use crate::kubernetes::{self, Wanted};
use crate::oci::Platform;
use crate::plan;
use crate::reapi;
use crate::report::{Diagnostic, Event, Events};
use crate::shared_cache::backend::Backend;
use crate::shared_cache::spec::ReapiAt;
use crate::solve::{self, Outlook};
use crate::text::duration::seconds;
use crate::text::size::bytes;
use crate::text::terminal::harmless;
use sending::{Moved, Package};

/// Builds that are placed at the same time.
const AT_ONCE: usize = 8;
/// A line that is longer is told in pieces while it is said.
const LINE: usize = 64 << 10;

/// Where builds are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct On {
    /// The engine.
    pub engine: Engine,
    /// What it is called in messages.
    pub shown: String,
    /// For so long the build may run there.
    pub timeout: Option<Duration>,
    /// A build that cannot be done there is done here.
    pub falls_back: bool,
    /// Each platform of a build is a piece of work of its own, for workers of its architecture.
    pub by_platform: bool,
}

/// Who does builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// A server of the Remote Execution API.
    Reapi {
        /// As a cache names it.
        at: Box<ReapiAt>,
        /// What workers must have, as the engine calls it.
        properties: Vec<(String, String)>,
    },
    /// A Kubernetes cluster.
    Kubernetes(Box<Cluster>),
}

/// How a Kubernetes cluster does builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Which one, as the kubeconfig names it; `None` for its current context.
    pub context: Option<String>,
    /// `None` for that of the context.
    pub namespace: Option<String>,
    /// What a job is made of.
    pub(crate) wanted: Wanted,
    /// Claims of volumes that stay: each repository has one of them.
    pub claims: Vec<String>,
    /// What chooses among the claims; `None` for the repository.
    pub key: Option<String>,
    /// Which part of a build it does, if each has its own volume; else empty.
    pub part: String,
    /// A pod that does not run after so long is given up.
    pub start: Duration,
}

/// What placing a build came to.
enum Placed {
    /// Nothing would run, so nothing was placed: what is not here is where it was made before.
    Nothing,
    /// It was done there.
    Done(Arc<dyn Backend>),
}

/// What went wrong.
enum Fault {
    /// The engine cannot be used: then the build may be done here.
    Engine {
        why: String,
        /// Whether it may be used a little later.
        is_transient: bool,
    },
    /// The build failed there, or cannot be done there.
    Build(Vec<Diagnostic>),
}

impl Fault {
    /// An engine that cannot be used, for a reason that stays.
    fn engine(why: impl Into<String>) -> Self {
        Self::Engine { why: why.into(), is_transient: false }
    }
}

impl From<Vec<Diagnostic>> for Fault {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self::Build(diagnostics)
    }
}

impl From<reapi::Error> for Fault {
    fn from(error: reapi::Error) -> Self {
        Self::Engine { why: error.to_string(), is_transient: error.may_pass() }
    }
}

impl From<kubernetes::Error> for Fault {
    fn from(error: kubernetes::Error) -> Self {
        Self::Engine { why: error.to_string(), is_transient: error.is_transient() }
    }
}

/// The targets as they are to be run here: with what workers made of those that are to be done elsewhere. Each is an action of its own, and
/// several are placed at the same time.
///
/// # Errors
/// When one cannot be done there, or failed there.
pub(super) fn place(targets: &[Target], events: &Events, stop: &Stop) -> Result<Vec<Target>, Failed> {
    if targets.iter().all(|target| target.request.on.is_none()) {
        return Ok(targets.to_vec());
    }
    let mut placed = Vec::with_capacity(targets.len());
    for some in targets.chunks(AT_ONCE) {
        let done: Vec<Result<Request, Failed>> = std::thread::scope(|scope| {
            let place = |target| scope.spawn(move || place_one(target, events, stop));
            let threads: Vec<_> = some.iter().map(place).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        for (target, request) in some.iter().zip(done) {
            placed.push(Target { name: target.name.clone(), request: request? });
        }
    }
    Ok(placed)
}

fn place_one(target: &Target, events: &Events, stop: &Stop) -> Result<Request, Failed> {
    let request = &target.request;
    let Some(on) = &request.on else { return Ok(request.clone()) };
    let mut here = Request { on: None, ..request.clone() };
    let parts = parts(&here, on);
    let done: Vec<Part> = std::thread::scope(|scope| {
        let place = |(part, on): &(Request, On)| {
            let known = outputs::remembered(part, on);
            let mut part = part.clone();
            part.brought.extend(known.clone().map(|made| (Precedence::Usual, made)));
            let placed = placed(&part, on, events, stop);
            (known, placed)
        };
        let threads: Vec<_> = parts.iter().map(|part| scope.spawn(move || place(part))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    for ((_, on), (known, placed)) in parts.iter().zip(done) {
        let known = known.map(|made| (Precedence::Usual, made));
        match placed {
            Ok(Placed::Nothing) => {
                events.send(Event::Note(format!("all is in the cache: nothing was placed on {}", on.shown)));
                here.brought.extend(known);
            }
            Ok(Placed::Done(made)) => here.brought.push((Precedence::BeforeOwn, made)),
            Err(Fault::Engine { why, .. }) if on.falls_back && !stop.is_wanted() => {
                events.send(Event::Note(format!("{why}; the build is done here (`fallback=local`)")));
                here.brought.extend(known);
            }
            Err(Fault::Engine { why, is_transient }) => {
                let told = Diagnostic::error(format!("the build cannot be placed on {}: {why}", on.shown));
                let told = told.help("with `--on …,fallback=local` it is then done on this machine");
                return Err(Failed::before(vec![told.transient(is_transient)]));
            }
            Err(Fault::Build(diagnostics)) => return Err(Failed::before(named(target, diagnostics))),
        }
    }
    Ok(here)
}

/// What of a build is done by one worker: all of it, or a platform each, if that is wanted.
fn parts(request: &Request, on: &On) -> Vec<(Request, On)> {
    // A single platform, too, has to be on a node of its architecture.
    let fewest = if matches!(on.engine, Engine::Kubernetes(_)) { 1 } else { 2 };
    if !on.by_platform || request.platforms.len() < fewest {
        return vec![(request.clone(), on.clone())];
    }
    let part = |platform: &Platform| {
        let options = plan::Options { platform: platform.clone(), ..request.options.clone() };
        let mut on = On { shown: format!("{} ({platform})", on.shown), ..on.clone() };
        if let Engine::Kubernetes(cluster) = &mut on.engine {
            let architecture = ("kubernetes.io/arch".to_owned(), platform.architecture.clone());
            cluster.wanted.node_selector.push(architecture);
            cluster.part = platform.to_string();
        }
        (Request { platforms: vec![platform.clone()], options, ..request.clone() }, on)
    };
    request.platforms.iter().map(part).collect()
}

/// Says which of several targets it is about.
fn named(target: &Target, diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    match &*target.name {
        "" => diagnostics,
        name => {
            let told = |told: Diagnostic| told.note(format!("this is about the target `{name}`"));
            diagnostics.into_iter().map(told).collect()
        }
    }
}

fn placed(request: &Request, on: &On, events: &Events, stop: &Stop) -> Result<Placed, Fault> {
    order::refuse(request)?;
    let services = request.services(stop, events)?;
    let inputs = Inputs::open(request, &services)?;
    let (graph, goals) = plan::join(inputs.plans()?);
    let environment = inputs.environment(request.layer_options_of(&goals)?);
    let forecast = solve::forecast(&graph, &[], &environment)?;
    inputs.save_digests();
    let runs = forecast.outlooks.iter().filter(|outlook| matches!(outlook, Outlook::Run { .. })).count();
    if runs == 0 {
        return Ok(Placed::Nothing);
    }
    order::refuse_secrets(&graph, request)?;
    let contexts = files::of_graph(&graph, environment.given.contexts, &services.store)?;
    let order = order::Order::of(request, (inputs.source(), &graph), &contexts)?;
    let known = known::gather(&services, inputs.project());
    let package = Package::of(&order, (contexts, known))?;
    let made = match &on.engine {
        Engine::Reapi { at, properties } => action::build((at, properties), package, on, (events, stop))?,
        Engine::Kubernetes(cluster) => {
            let key = pod::key(cluster, request);
            pod::build((cluster, &key), &package, on, (events, stop))?
        }
    };
    made.remember(request, on);
    Ok(Placed::Done(Arc::new(made)))
}

fn tell_lines(text: &[u8], events: &Events) {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(|line| tell(line, events));
}

/// What a worker says, as it comes: told by lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Gives how many bytes were told.
    fn hear(&mut self, piece: &[u8], events: &Events) -> u64 {
        let before = self.0.len();
        self.0.extend_from_slice(piece);
        let end = match piece.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => before + end + 1,
            None if self.0.len() > LINE => self.0.len(),
            None => return 0,
        };
        let lines: Vec<u8> = self.0.drain(..end).collect();
        tell_lines(&lines, events);
        lines.len() as u64
    }

    /// A last line without an end.
    fn end(&mut self, events: &Events) -> u64 {
        let last = std::mem::take(&mut self.0);
        tell_lines(&last, events);
        last.len() as u64
    }
}

fn tell(line: &[u8], events: &Events) {
    let text = String::from_utf8_lossy(line);
    events.send(Event::Note(format!("worker: {}", harmless(text.trim_end()))));
}

/// What was known of a piece of work, and what placing it came to.
type Part = (Option<Arc<dyn Backend>>, Result<Placed, Fault>);

/// How long a build took elsewhere, and what went there.
#[derive(Clone, Copy)]
struct Took {
    moved: Moved,
    sending: Duration,
    running: Duration,
    /// Of the latter, before it began.
    waiting: Option<Duration>,
}

/// Tells of a build that ran to its end; it may have failed all the same.
fn ended(code: i32, place: &str, took: Took, events: &Events) -> Result<(), Fault> {
    match code {
        0 => {
            let Took { moved, sending, running, waiting } = took;
            let waited = match waiting {
                Some(waited) => format!(", of which {} waiting", seconds(waited)),
                None => String::new(),
            };
            events.send(Event::Note(format!(
                "built on {place}: {} of {} files sent ({}, {}), {} there{waited}",
                moved.blobs,
                moved.of,
                bytes(moved.bytes),
                seconds(sending),
                seconds(running)
            )));
            Ok(())
        }
        worker::REFUSED => {
            let told = Diagnostic::error(format!("{place} refuses the build; what it said stands above"));
            Err(Fault::Build(vec![told]))
        }
        code => {
            let told = Diagnostic::error(format!("the build failed on {place} (exit code {code})"));
            Err(Fault::Build(vec![told.note("what the worker said stands above")]))
        }
    }
}
