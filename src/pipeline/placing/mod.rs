//! Has a build done by an engine: `--on`.
//!
//! The build travels as one action: rbuild's own program, what was asked for (`order`), and the files of the contexts that COPY, ADD and mounts
//! can see (`files`). The worker (`worker`) builds with that as anybody would, and leaves a cache in a folder, which is the action's result. Here
//! the build then runs with that as one more cache: it finds every step, brings what its outputs need, and does itself what was not
//! made there. So names, outputs and pushes are this machine's affair, and nothing that is secret leaves it.
//!
//! ```text
//! order     what was asked for, as a value that travels
//! files     which files of a context travel, and what is told of each
//! names     files by BLAKE3 and by SHA-256
//! known     what is known here of its steps
//! sending   the action as blobs; what the server lacks of them
//! probe     what RUN would find there
//! outputs   what a worker left, as a cache
//! worker    the other side
//! ```

mod files;
mod known;
mod names;
mod order;
mod outputs;
mod probe;
mod sending;
pub mod worker;

pub use probe::{Probed, probe};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::inputs::Inputs;
use super::{Failed, Request, Target};
use crate::cache::Precedence;
use crate::exec::Stop;
use crate::grpc::Code;
use crate::plan;
use crate::reapi::{ActionResult, Client, Error, Executed, Going, Output, Progress, Stage};
use crate::report::{Diagnostic, Event, Events};
use crate::shared_cache::backend::{self, Backend};
use crate::shared_cache::spec::ReapiAt;
use crate::solve::{self, Outlook};
use crate::text::duration::seconds;
use crate::text::size::bytes;
use crate::text::terminal::harmless;
use sending::{Moved, Package};

/// Said where rbuild is not static.
const LINKED: &str =
    "this rbuild needs the C library of its machine: workers need the same, where a static one needs nothing";
/// Builds that are placed at the same time.
const AT_ONCE: usize = 8;
/// What the CAS drops before it is used is sent so many times.
const SENDINGS: u32 = 3;
/// What a worker said is waited for so long after it ended.
const LATE: Duration = Duration::from_secs(2);
/// Of what a worker says so much is shown.
const SAID: u64 = 4 << 20;
/// A line that is longer is told in pieces while it is said.
const LINE: usize = 64 << 10;

/// Where builds are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct On {
    /// The engine, as a cache names it.
    pub engine: ReapiAt,
    /// What it is called in messages.
    pub shown: String,
    /// What workers must have, as the engine calls it.
    pub properties: Vec<(String, String)>,
    /// For so long the build may run there.
    pub timeout: Option<Duration>,
    /// A build that cannot be done there is done here.
    pub falls_back: bool,
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
    Engine(String),
    /// The build failed there, or cannot be done there.
    Build(Vec<Diagnostic>),
}

impl From<Vec<Diagnostic>> for Fault {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self::Build(diagnostics)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Engine(error.to_string())
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
    here.brought.extend(outputs::remembered(&here, on).map(|made| (Precedence::Usual, made)));
    match placed(&here, on, events, stop) {
        Ok(Placed::Nothing) => {
            events.send(Event::Note(format!("all is in the cache: nothing was placed on {}", on.shown)));
        }
        Ok(Placed::Done(made)) => here.brought = vec![(Precedence::BeforeOwn, made)],
        Err(Fault::Engine(why)) if on.falls_back && !stop.is_wanted() => {
            events.send(Event::Note(format!("{why}; the build is done here (`fallback=local`)")));
        }
        Err(Fault::Engine(why)) => {
            let told = Diagnostic::error(format!("the build cannot be placed on {}: {why}", on.shown));
            return Err(Failed::before(vec![
                told.help("with `--on …,fallback=local` it is then done on this machine"),
            ]));
        }
        Err(Fault::Build(diagnostics)) => return Err(Failed::before(named(target, diagnostics))),
    }
    Ok(here)
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
    let client = backend::client(&on.engine).map_err(Fault::Engine)?;
    if !client.runs_actions()? {
        return Err(Fault::Engine(format!("{} keeps results, and runs no actions", on.shown)));
    }
    let known = known::gather(&services, inputs.project());
    let package = Package::of(&order, (contexts, known), on)?;
    if !sending::is_static() {
        events.send(Event::Note(LINKED.to_owned()));
    }
    let result = run(&client, &package, on, (events, stop))?;
    let made = outputs::read(client, &result, on)?;
    made.remember(request, on);
    Ok(Placed::Done(Arc::new(made)))
}

/// Sends what is missing, and has it run.
fn run(
    client: &Client,
    package: &Package,
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<ActionResult, Fault> {
    let began = Instant::now();
    let (mut missing, mut said) = (client.missing(&package.names())?, String::new());
    for attempt in 0..SENDINGS {
        if attempt == 0 && package.has_files(&missing) {
            let what = package.told();
            let note = format!("{what} go to {}, where all who use its CAS can read them", on.shown);
            events.send(Event::Note(note));
        }
        let moved = package.send(client, &missing, stop)?;
        let sent = Instant::now();
        let (executed, heard) = follow(client, package, on, (events, stop))?;
        let took = (sent.duration_since(began), sent.elapsed());
        match executed {
            Executed::Done(result) => {
                show(client, &result, heard, events);
                return finished(*result, on, (moved, took), events);
            }
            Executed::Cancelled => {
                let told = format!("the build on {} was cancelled", on.shown);
                return Err(Fault::Build(vec![Diagnostic::error(told)]));
            }
            Executed::InputsGone(why) => {
                missing = client.missing(&package.names())?;
                // All is there, so it is something else that keeps it from being done, such as that no worker has what was asked for.
                if missing.is_empty() {
                    return Err(Fault::Engine(why));
                }
                // It was dropped between the question and its use.
                said = why;
            }
            Executed::Failed { code, message, result } => {
                show(client, &result, heard, events);
                let message = harmless(message.trim()).into_owned();
                let told = Diagnostic::error(format!("{} ended the build: {code} ({message})", on.shown));
                return Err(Fault::Build(vec![match code {
                    Code::DeadlineExceeded => {
                        told.help("`--on …,timeout=2h` gives it more time, as far as the engine allows")
                    }
                    _ => told,
                }]));
            }
        }
    }
    let shown = &on.shown;
    Err(Fault::Engine(format!(
        "{shown} drops what was sent before it is used; its CAS is too small ({said})"
    )))
}

/// Has it run, and tells how far it is. Also how many bytes of what the worker says were told meanwhile.
fn follow(
    client: &Client,
    package: &Package,
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<(Executed, u64), Fault> {
    let mut told = Stage::Unknown;
    // The stream that is listened to: another worker has another one.
    let mut listening: Option<(String, Arc<AtomicU64>)> = None;
    let over = OnceLock::new();
    let executed = std::thread::scope(|scope| {
        let over = &over;
        let mut watch = |progress: Option<Progress>| {
            if let Some(Progress { stage, stderr, again }) = progress {
                if let Some(why) = again {
                    events.send(Event::Note(format!("{} begins the build anew: {why}", on.shown)));
                }
                if stage != told && stage == Stage::Queued {
                    events.send(Event::Note(format!("the build waits for a worker of {}", on.shown)));
                }
                if stage != told && stage == Stage::Executing {
                    events.send(Event::Note(format!("the build runs on {}", on.shown)));
                }
                told = stage;
                let is_new = |name: &String| listening.as_ref().is_none_or(|(known, _)| known != name);
                if let Some(name) = stderr.filter(is_new) {
                    let heard = Arc::<AtomicU64>::default();
                    listening = Some((name.clone(), Arc::clone(&heard)));
                    scope.spawn(move || listen(client, &name, events, (&heard, over)));
                }
            }
            if stop.is_wanted() { Going::Cancel } else { Going::On }
        };
        let executed = client.execute(package.action(), &mut watch);
        let _ = over.set(Instant::now());
        executed
    });
    let heard = listening.map_or(0, |(_, heard)| heard.load(Ordering::Relaxed));
    Ok((executed?, heard))
}

/// Shows what the worker says while it says it, and counts the bytes of that: what is not told here, the action's result has. What comes late,
/// after the action is over, is not waited for long.
fn listen(client: &Client, stream: &str, events: &Events, (heard, over): (&AtomicU64, &OnceLock<Instant>)) {
    let mut rest = Vec::new();
    let mut hear = |piece: &[u8]| {
        rest.extend_from_slice(piece);
        let end = match rest.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if rest.len() > LINE => rest.len(),
            None => return,
        };
        let lines: Vec<u8> = rest.drain(..end).collect();
        tell_lines(&lines, events);
        heard.fetch_add(lines.len() as u64, Ordering::Relaxed);
    };
    let is_too_much = || heard.load(Ordering::Relaxed) >= SAID;
    let goes_on = || over.get().is_none_or(|over| over.elapsed() < LATE) && !is_too_much();
    match client.listen(stream, &mut hear, &goes_on) {
        Ok(()) if is_too_much() => {
            let told = format!("the worker says more than {}, which is not shown", bytes(SAID));
            events.send(Event::Note(told));
        }
        // A last line without an end.
        Ok(()) => {
            tell_lines(&rest, events);
            heard.fetch_add(rest.len() as u64, Ordering::Relaxed);
        }
        Err(error) => tracing::debug!(%error, "the worker cannot be heard"),
    }
}

fn tell_lines(text: &[u8], events: &Events) {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(|line| tell(line, events));
}

fn tell(line: &[u8], events: &Events) {
    let text = String::from_utf8_lossy(line);
    events.send(Event::Note(format!("worker: {}", harmless(text.trim_end()))));
}

/// Shows what the worker said, but for the first bytes, which were heard while it said them.
fn show(client: &Client, result: &ActionResult, heard: u64, events: &Events) {
    let is_all = match &result.stderr {
        Output::Raw(bytes) => bytes.len() as u64 <= heard,
        Output::Blob(blob) => blob.size <= heard,
    };
    if is_all || heard >= SAID {
        return;
    }
    let said = client.said(&result.stderr, SAID);
    tell_lines(said.get(heard as usize..).unwrap_or_default(), events);
}

/// An action that ran to its end; the build may have failed all the same.
fn finished(
    result: ActionResult,
    on: &On,
    (moved, (sending, running)): (Moved, (Duration, Duration)),
    events: &Events,
) -> Result<ActionResult, Fault> {
    let worker = match &*result.worker {
        "" => String::new(),
        name => format!(", worker `{}`", harmless(name)),
    };
    let place = format!("{}{worker}", on.shown);
    match result.exit_code {
        0 => {
            let waited = match result.waited {
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
            Ok(result)
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
