//! An action of a server of the Remote Execution API: its inputs are sent, it is followed, and what it said is shown.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::outputs::{self, Outputs};
use super::saying::{self, Saying};
use super::sending::{self, Package};
use super::{Fault, Lines, On, Took, ended, tell_lines, worker};
use crate::exec::Stop;
use crate::grpc::Code;
use crate::reapi::{ActionResult, Blob, Client, Executed, Going, Output, Progress, Stage, is_worth_another};
use crate::report::{Diagnostic, Event, Events};
use crate::shared_cache::backend;
use crate::shared_cache::spec::ReapiAt;
use crate::sync::into_inner;
use crate::text::size::bytes;
use crate::text::terminal::harmless;

/// Said where rbuild is not static.
pub(super) const LINKED: &str =
    "this rbuild needs the C library of its machine: workers need the same, where a static one needs nothing";
/// What the CAS drops before it is used is sent so many times.
const SENDINGS: u32 = 3;
/// What a worker said is waited for so long after it ended.
const LATE: Duration = Duration::from_secs(2);
/// Of what a worker says so much is shown.
pub(super) const SAID: u64 = 4 << 20;

/// Has a build done as an action.
pub(super) fn build(
    (at, properties): (&ReapiAt, &[(String, String)]),
    mut package: Package,
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<Outputs, Fault> {
    let client = client(at, on)?;
    let saying = Saying::new(at)?;
    package.add_message(saying::FILE.to_owned(), saying.to_bytes());
    let words = ["./rbuild", worker::COMMAND, worker::ORDER];
    let action = package.as_action((&words, &[worker::OUTPUT]), properties, on.timeout)?;
    if !sending::is_static() {
        events.send(Event::Note(LINKED.to_owned()));
    }
    let result = run((&client, at), (&package, action, &saying), on, (events, stop))?;
    outputs::read(client, &result, on)
}

/// A client of a server that runs actions.
pub(super) fn client(at: &ReapiAt, on: &On) -> Result<Client, Fault> {
    let client = backend::client(at).map_err(Fault::engine)?;
    match client.runs_actions()? {
        true => Ok(client),
        false => Err(Fault::engine(format!("{} keeps results, and runs no actions", on.shown))),
    }
}

/// Sends what is missing, and has it run.
fn run(
    (client, at): (&Client, &ReapiAt),
    (package, action, saying): (&Package, Blob, &Saying),
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
        let (executed, heard) = follow((client, at), (action, saying), on, (events, stop))?;
        let took = (sent.duration_since(began), sent.elapsed());
        match executed {
            Executed::Done(result) => {
                show(client, &result, &heard, events);
                let took = Took { moved, sending: took.0, running: took.1, waiting: result.waited };
                ended(result.exit_code, &place(&result, on), took, events)?;
                return Ok(*result);
            }
            Executed::Cancelled => {
                let told = format!("the build on {} was cancelled", on.shown);
                return Err(Fault::Build(vec![Diagnostic::error(told)]));
            }
            Executed::InputsGone(why) => {
                missing = client.missing(&package.names())?;
                // All is there, so it is something else that keeps it from being done, such as that no worker has what was asked for.
                if missing.is_empty() {
                    return Err(Fault::engine(why));
                }
                // It was dropped between the question and its use.
                said = why;
            }
            Executed::Failed { code, message, result } => {
                show(client, &result, &heard, events);
                let message = harmless(message.trim()).into_owned();
                let told = Diagnostic::error(format!("{} ended the build: {code} ({message})", on.shown));
                let told = told.transient(is_worth_another(code));
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
    Err(Fault::engine(format!(
        "{shown} drops what was sent before it is used; its CAS is too small ({said})"
    )))
}

/// What of a worker's words was told while it said them.
enum Heard {
    /// So many bytes, by the stream of the worker whose result comes.
    OfStream(u64),
    /// These; it may have been a worker that was lost.
    InPieces(Vec<u8>),
}

/// Has it run, and tells how far it is. Also what was told meanwhile of what the worker says.
fn follow(
    (client, at): (&Client, &ReapiAt),
    (action, saying): (Blob, &Saying),
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<(Executed, Heard), Fault> {
    let mut told = Stage::Unknown;
    // The stream that is listened to: another worker has another one.
    let mut listening: Option<(String, Arc<AtomicU64>)> = None;
    let over = OnceLock::new();
    // What is heard in pieces until there is a stream, if there ever is one.
    let (in_pieces, has_stream, is_begun) = (Mutex::default(), AtomicBool::new(false), OnceLock::new());
    let executed = std::thread::scope(|scope| {
        let (over, in_pieces, has_stream) = (&over, &in_pieces, &has_stream);
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
                    if is_begun.set(()).is_ok() {
                        let goes_on = || over.get().is_none() && !has_stream.load(Ordering::Relaxed);
                        scope.spawn(move || saying.hear(at, events, in_pieces, &goes_on));
                    }
                }
                told = stage;
                let is_new = |name: &String| listening.as_ref().is_none_or(|(known, _)| known != name);
                if let Some(name) = stderr.filter(is_new) {
                    has_stream.store(true, Ordering::Relaxed);
                    let heard = Arc::<AtomicU64>::default();
                    listening = Some((name.clone(), Arc::clone(&heard)));
                    scope.spawn(move || listen(client, &name, events, (&heard, over)));
                }
            }
            if stop.is_wanted() { Going::Cancel } else { Going::On }
        };
        let executed = client.execute(action, &mut watch);
        let _ = over.set(Instant::now());
        executed
    });
    let heard = match listening {
        Some((_, heard)) => Heard::OfStream(heard.load(Ordering::Relaxed)),
        None => Heard::InPieces(into_inner(in_pieces)),
    };
    Ok((executed?, heard))
}

/// Shows what the worker says while it says it, and counts the bytes of that: what is not told here, the action's result has. What comes late,
/// after the action is over, is not waited for long.
fn listen(client: &Client, stream: &str, events: &Events, (heard, over): (&AtomicU64, &OnceLock<Instant>)) {
    let mut lines = Lines::default();
    let mut hear = |piece: &[u8]| {
        heard.fetch_add(lines.hear(piece, events), Ordering::Relaxed);
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
            heard.fetch_add(lines.end(events), Ordering::Relaxed);
        }
        Err(error) => tracing::debug!(%error, "the worker cannot be heard"),
    }
}

/// Shows what the worker said, but for the first bytes, which were heard while it said them.
fn show(client: &Client, result: &ActionResult, heard: &Heard, events: &Events) {
    let size = match &result.stderr {
        Output::Raw(bytes) => bytes.len() as u64,
        Output::Blob(blob) => blob.size,
    };
    if matches!(heard, Heard::OfStream(heard) if size <= *heard || *heard >= SAID) {
        return;
    }
    let said = client.said(&result.stderr, SAID);
    let fresh = match heard {
        Heard::OfStream(heard) => said.get(*heard as usize..).unwrap_or_default(),
        Heard::InPieces(heard) => said.strip_prefix(heard.as_slice()).unwrap_or(&said),
    };
    tell_lines(fresh, events);
}

/// Where it ran, for people.
fn place(result: &ActionResult, on: &On) -> String {
    match &*result.worker {
        "" => on.shown.clone(),
        name => format!("{}, worker `{}`", on.shown, harmless(name)),
    }
}
