//! Has a build done by an engine: `--on`.
//!
//! The build travels as one piece of work: what was asked for (`order`), and the files of the contexts that COPY, ADD and mounts
//! can see (`files`). The worker (`worker`) builds with that as anybody would, and leaves a cache in a folder, which is the result. Here
//! the build then runs with that as one more cache: it finds every step, brings what its outputs need, and does itself what was not
//! made there. So names, outputs and pushes are this machine's affair, and nothing that is secret leaves it.
//!
//! ```text
//! grain     what is a piece of work
//! overhead  what placing one costs beside what it does
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
//! saying    what a worker says while it builds, in pieces
//! outputs   what a worker left, as a cache
//! worker    the other side of a build
//! ```

mod action;
mod attending;
mod files;
mod grain;
mod known;
mod link;
mod names;
mod order;
mod outputs;
mod overhead;
mod pod;
mod probe;
mod saying;
mod sending;
pub mod worker;

pub use attending::{attend, connect};
pub use probe::{Probed, probe};
pub use saying::Aloud;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::inputs::Pool;
use super::{DockerfileFrom, Failed, Request, Target, dockerfile, together};
use crate::cache::Precedence;
use crate::exec::Stop;
use crate::kubernetes::{self, Wanted};
use crate::reapi;
use crate::report::{Diagnostic, Event, Events, Source};
use crate::shared_cache::backend::Backend;
use crate::shared_cache::spec::ReapiAt;
use crate::solve::{self, Outlook, Services};
use crate::text::duration::seconds;
use crate::text::size::bytes;
use crate::text::terminal::harmless;
use grain::Piece;
use sending::{Moved, Package};

/// Builds that are placed at the same time.
const AT_ONCE: usize = 8;
/// The exit code of a worker for which a registry or the network failed.
const TRY_AGAIN: i32 = 75;
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
    /// What is a piece of work, if somebody says so.
    pub grain: Option<Grain>,
}

/// What is a piece of work. Targets that are linked are always one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// All that is built.
    Build,
    /// Each target.
    Target,
    /// Each platform of each target, for workers of its architecture.
    Platform,
}

impl On {
    /// What tells one engine from others.
    fn id(&self) -> String {
        match &self.engine {
            Engine::Reapi { at, .. } => format!("{} {}", at.endpoint, at.instance),
            Engine::Kubernetes(cluster) => format!("{:?} {:?}", cluster.context, cluster.namespace),
        }
    }
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
#[derive(Debug)]
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

/// The targets as they are to be run here: with what workers made of those that are to be done elsewhere. What is a piece of work
/// (`grain`) is placed by itself, several at the same time.
///
/// # Errors
/// When one cannot be done there, or failed there.
pub(super) fn place(targets: &[Target], events: &Events, stop: &Stop) -> Result<Vec<Target>, Failed> {
    if targets.iter().all(|target| target.request.on.is_none()) {
        return Ok(targets.to_vec());
    }
    let targets = read_once(targets).map_err(Failed::before)?;
    let mut here: Vec<Target> = targets.iter().map(of_this_machine).collect();
    let pool = &Pool::default();
    let pieces = grain::pieces(&targets, pool, (events, stop))?;
    let done = each(&pieces, &|piece| place_one(piece, pool, events, stop))?;
    for (piece, brought) in pieces.iter().zip(done) {
        // All that are run together look into what one of them brings.
        here[piece.first].request.brought.extend(brought);
    }
    Ok(here)
}

/// Places each, [`AT_ONCE`] at the same time. After the first that fails no other is begun; those that were are waited for, and what each says is kept.
fn each<P: Sync, T: Send>(
    pieces: &[P],
    place: &(dyn Fn(&P) -> Result<T, Failed> + Sync),
) -> Result<Vec<T>, Failed> {
    let (next, is_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut done = Vec::new();
        while !is_failed.load(Ordering::SeqCst) {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some(piece) = pieces.get(at) else { break };
            let placed = place(piece);
            if placed.is_err() {
                is_failed.store(true, Ordering::SeqCst);
            }
            done.push((at, placed));
        }
        done
    };
    let mut done: Vec<(usize, Result<T, Failed>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE.min(pieces.len())).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    let (mut made, mut failed) = (Vec::new(), None::<Failed>);
    for (_, placed) in done {
        match (placed, &mut failed) {
            (Ok(one), _) => made.push(one),
            (Err(first), None) => failed = Some(first),
            (Err(more), Some(first)) => {
                // An engine that is not there says the same to each.
                for told in more.diagnostics {
                    if !first.diagnostics.contains(&told) {
                        first.diagnostics.push(told);
                    }
                }
            }
        }
    }
    failed.map_or(Ok(made), Err)
}

/// With Dockerfiles of standard input as texts: they are read to be placed, and again here.
fn read_once(targets: &[Target]) -> Result<Vec<Target>, Vec<Diagnostic>> {
    let mut targets = targets.to_vec();
    for Target { request, .. } in &mut targets {
        if request.dockerfile == DockerfileFrom::Stdin {
            let Source { name, text } = (*dockerfile::read_stdin()?).clone();
            request.dockerfile = DockerfileFrom::Inline { name, text };
        }
    }
    Ok(targets)
}

/// As it is run here.
fn of_this_machine(target: &Target) -> Target {
    Target { name: target.name.clone(), request: Request { on: None, ..target.request.clone() } }
}

/// What workers made.
type Brought = Vec<(Precedence, Arc<dyn Backend>)>;

fn place_one(piece: &Piece, pool: &Pool, events: &Events, stop: &Stop) -> Result<Brought, Failed> {
    let Piece { targets, on, known, .. } = piece;
    match placed(piece, pool, events, stop) {
        Ok(Placed::Nothing) => {
            events.send(Event::Note(format!("all is in the cache: nothing was placed on {}", on.shown)));
            Ok(known.clone())
        }
        Ok(Placed::Done(made)) => Ok(vec![(Precedence::BeforeOwn, made)]),
        Err(Fault::Engine { why, .. }) if on.falls_back && !stop.is_wanted() => {
            events.send(Event::Note(format!("{why}; the build is done here (`fallback=local`)")));
            Ok(known.clone())
        }
        Err(Fault::Engine { why, is_transient }) => {
            let told = Diagnostic::error(format!("the build cannot be placed on {}: {why}", on.shown));
            let told = told.help("with `--on …,fallback=local` it is then done on this machine");
            Err(Failed::before(vec![told.transient(is_transient)]))
        }
        Err(Fault::Build(diagnostics)) => Err(Failed::before(named(targets, diagnostics))),
    }
}

/// Says which of several targets it is about.
fn named(targets: &[Target], diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let names: Vec<String> = targets.iter().map(|target| format!("`{}`", target.name)).collect();
    let note = match names.as_slice() {
        [only] if only == "``" => return diagnostics,
        [only] => format!("this is about the target {only}"),
        several => format!("this is about one of the targets {}", several.join(", ")),
    };
    // What was found when it was planned names its target already.
    let is_named =
        |told: &Diagnostic| told.notes.iter().any(|note| note.starts_with("this is about the target "));
    let told = |told: Diagnostic| if is_named(&told) { told } else { told.note(note.clone()) };
    diagnostics.into_iter().map(told).collect()
}

fn placed(piece: &Piece, pool: &Pool, events: &Events, stop: &Stop) -> Result<Placed, Fault> {
    let Piece { targets, on, known, .. } = piece;
    targets.iter().try_for_each(|target| order::refuse(&target.request))?;
    let ordered = together::in_order(targets)?;
    let whole = together::whole(&ordered);
    let whole = Request { brought: whole.brought.into_iter().chain(known.clone()).collect(), ..whole };
    let services = whole.services(stop, events)?;
    let services = Services { pins: together::pins(&ordered)?, ..services };
    let (parts, graph) = together::planned(&ordered, &services, pool)?;
    let environments = together::environments(&parts)?;
    let forecast = solve::forecast_several(&graph, &[], &environments)?;
    parts.iter().for_each(|part| part.inputs.save_digests());
    if !forecast.outlooks.iter().any(|outlook| matches!(outlook, Outlook::Run { .. })) {
        return Ok(Placed::Nothing);
    }
    order::refuse_secrets(&graph, &parts)?;
    let contexts: Vec<_> = environments.iter().map(|environment| environment.given.contexts).collect();
    let (contexts, numbers) = files::of_graph(&graph, &contexts, &services.store)?;
    let order = order::Order::of((&parts, &graph), (&contexts, numbers))?;
    let known = known::gather(&services, parts.first().map_or("", |part| part.inputs.project()));
    let package = Package::of(&order, (contexts, known))?;
    let began = Instant::now();
    let made = match &on.engine {
        Engine::Reapi { at, properties } => action::build((at, properties), package, on, (events, stop))?,
        Engine::Kubernetes(cluster) => {
            let key = pod::key(cluster, &whole);
            pod::build((cluster, &key), &package, on, (events, stop))?
        }
    };
    made.remember(targets, on);
    if let Some(took) = made.took {
        overhead::took(&services.store, on, began.elapsed().saturating_sub(took));
    }
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

/// Said once of a worker that says more than is shown.
fn tell_too_much(events: &Events) {
    let told = format!("the worker says more than {}, which is not shown", bytes(action::SAID));
    events.send(Event::Note(told));
}

fn tell(line: &[u8], events: &Events) {
    let text = String::from_utf8_lossy(line);
    events.send(Event::Note(format!("worker: {}", harmless(text.trim_end()))));
}

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
            let told = told.transient(code == TRY_AGAIN);
            Err(Fault::Build(vec![told.note("what the worker said stands above")]))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{Barrier, Mutex, mpsc};

    use super::*;
    use crate::report;
    use crate::sync::lock;

    #[test]
    fn a_registry_that_fails_a_worker_may_be_there_later() {
        let took =
            Took { moved: Moved::default(), sending: Duration::ZERO, running: Duration::ZERO, waiting: None };
        for (code, fault) in [(75, true), (1, false), (137, false)] {
            let failed = ended(code, "there", took, &Events::silent());
            let Err(Fault::Build(told)) = failed else { panic!("{code} is a failed build") };
            assert_eq!(told[0].fault == report::Fault::Transient, fault, "{code}");
            assert!(told[0].message.contains(&format!("exit code {code}")), "{told:?}");
        }
    }

    #[test]
    fn pieces_wait_for_no_slower_one_and_all_that_fails_is_told() {
        let numbers: Vec<usize> = (0..=AT_ONCE).collect();
        let (sender, receiver) = mpsc::channel();
        let receiver = Mutex::new(receiver);
        let place = |number: &usize| {
            match *number {
                // Until the last is done, which waits for its turn.
                0 => lock(&receiver).recv_timeout(Duration::from_secs(60)).unwrap(),
                AT_ONCE => sender.send(()).unwrap(),
                _ => {}
            }
            Ok(*number)
        };
        assert_eq!(each(&numbers, &place).unwrap(), numbers);
        // All that were begun fail, so nothing else begins.
        let (barrier, begun) = (Barrier::new(AT_ONCE), AtomicUsize::new(0));
        let fails = |number: &usize| -> Result<(), Failed> {
            begun.fetch_add(1, Ordering::SeqCst);
            barrier.wait();
            Err(Failed::before(vec![Diagnostic::error(format!("fault {}", number / 2))]))
        };
        let failed = each(&(0..30).collect::<Vec<usize>>(), &fails).unwrap_err();
        let told: Vec<&str> = failed.diagnostics.iter().map(|told| told.message.as_str()).collect();
        assert_eq!((told, begun.into_inner()), (vec!["fault 0", "fault 1", "fault 2", "fault 3"], AT_ONCE));
    }
}
