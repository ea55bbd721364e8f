//! An action of a server of the Remote Execution API: its inputs are sent, it is followed, and what it said is shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::outputs::{self, Outputs};
use super::saying::{self, Hearing, Saying};
use super::sending::{self, Package};
use super::{Fault, Lines, On, Took, ended, tell_lines, tell_too_much, worker};
use crate::exec::Stop;
use crate::grpc::Code;
use crate::reapi::{ActionResult, Blob, Client, Executed, Going, Output, Progress, Stage, is_worth_another};
use crate::report::{Diagnostic, Event, Events};
use crate::shared_cache::backend;
use crate::shared_cache::spec::ReapiAt;
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
/// And of one that says more and fails, so much of the end.
const END: u64 = 64 << 10;

/// Has a build done as an action.
pub(super) fn build(
    (at, properties): (&ReapiAt, &[(String, String)]),
    mut package: Package,
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<Outputs, Fault> {
    let client = client(at, on)?;
    if !sending::is_static() {
        events.send(Event::Note(LINKED.to_owned()));
    }
    let result = run((&client, at), (&mut package, properties), on, (events, stop))?;
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
    (package, properties): (&mut Package, &[(String, String)]),
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<ActionResult, Fault> {
    let (began, mut said) = (Instant::now(), String::new());
    for attempt in 0..SENDINGS {
        // What a worker of an earlier sending said is not taken for the next one's.
        let saying = Saying::new(at)?;
        package.replace_message(saying::FILE, saying.to_bytes());
        let words = ["./rbuild", worker::COMMAND, worker::ORDER];
        let action = package.as_action((&words, &[worker::OUTPUT]), properties, on.timeout)?;
        let missing = client.missing(&package.names())?;
        if attempt == 0 && package.has_files(&missing) {
            let what = package.told();
            let note = format!("{what} go to {}, where all who use its CAS can read them", on.shown);
            events.send(Event::Note(note));
        }
        let moved = package.send(client, &missing, stop)?;
        let sent = Instant::now();
        let (executed, heard) = follow((client, at), (action, &saying), on, (events, stop))?;
        let took = (sent.duration_since(began), sent.elapsed());
        match executed {
            Executed::Done(result) => {
                show(client, (&result, result.exit_code != 0), &heard, events);
                let took = Took { moved, sending: took.0, running: took.1, waiting: result.waited };
                ended(result.exit_code, &place(&result, on), took, events)?;
                return Ok(*result);
            }
            Executed::Cancelled => {
                let told = format!("the build on {} was cancelled", on.shown);
                return Err(Fault::Build(vec![Diagnostic::error(told)]));
            }
            Executed::InputsGone(why) => {
                // All is there, so it is something else that keeps it from being done, such as that no worker has what was asked for.
                if client.missing(&package.names())?.is_empty() {
                    return Err(Fault::engine(why));
                }
                // It was dropped between the question and its use.
                said = why;
            }
            Executed::Failed { code, message, result } => {
                show(client, (&result, true), &heard, events);
                return Err(failed(code, &message, on));
            }
        }
    }
    let shown = &on.shown;
    Err(Fault::engine(format!(
        "{shown} drops what was sent before it is used; its CAS is too small ({said})"
    )))
}

/// What an action that did not run to its end came to: the engine's fault, if it is that of a worker which went away.
fn failed(code: Code, message: &str, on: &On) -> Fault {
    let told = format!("{} ended the build: {code} ({})", on.shown, harmless(message.trim()));
    if is_worth_another(code) {
        return Fault::Engine { why: told, is_transient: true };
    }
    let told = Diagnostic::error(told);
    Fault::Build(vec![match code {
        Code::DeadlineExceeded => {
            told.help("`--on …,timeout=2h` gives it more time, as far as the engine allows")
        }
        _ => told,
    }])
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
    let mut in_pieces: Option<Hearing> = None;
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
                    if in_pieces.is_none() && listening.is_none() {
                        in_pieces = Some(saying.hear(at, events));
                    }
                }
                told = stage;
                let is_new = |name: &String| listening.as_ref().is_none_or(|(known, _)| known != name);
                if let Some(name) = stderr.filter(is_new) {
                    in_pieces.as_ref().map(Hearing::end);
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
        None => Heard::InPieces(in_pieces.map(|heard| heard.end()).unwrap_or_default()),
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
        Ok(()) if is_too_much() => tell_too_much(events),
        // A last line without an end.
        Ok(()) => {
            heard.fetch_add(lines.end(events), Ordering::Relaxed);
        }
        Err(error) => tracing::debug!(%error, "the worker cannot be heard"),
    }
}

/// Shows what the worker said, but for the first bytes, which were heard while it said them. Of more than is shown of any, the end of one that failed:
/// it says why.
fn show(client: &Client, (result, is_failed): (&ActionResult, bool), heard: &Heard, events: &Events) {
    let size = match &result.stderr {
        Output::Raw(bytes) => bytes.len() as u64,
        Output::Blob(blob) => blob.size,
    };
    let told = match heard {
        Heard::OfStream(told) => *told,
        Heard::InPieces(told) => told.len() as u64,
    };
    if matches!(heard, Heard::OfStream(told) if size <= *told) {
        return;
    }
    if size <= SAID {
        let said = client.said(&result.stderr, SAID);
        let fresh = match heard {
            Heard::OfStream(told) => said.get(*told as usize..).unwrap_or_default(),
            Heard::InPieces(told) => said.strip_prefix(told.as_slice()).unwrap_or(&said),
        };
        return tell_lines(fresh, events);
    }
    if !is_failed {
        // Who heard all that is shown was told so.
        if told < SAID {
            tell_too_much(events);
        }
        return;
    }
    let end = client.said_last(&result.stderr, END);
    let begin = size.saturating_sub(end.len() as u64);
    // Some of it may be told.
    let both = told.saturating_sub(begin).min(end.len() as u64) as usize;
    let is_told = match heard {
        Heard::OfStream(_) => true,
        Heard::InPieces(heard) => heard.ends_with(&end[..both]),
    };
    let fresh = if is_told { &end[both..] } else { &end };
    let gap = begin.saturating_sub(told);
    // The first line is whole, or it begins in what is not shown.
    let line = fresh.iter().position(|byte| *byte == b'\n').filter(|_| gap > 0).map_or(0, |at| at + 1);
    if gap > 0 {
        let gap = bytes(gap + line as u64);
        events.send(Event::Note(format!("{gap} of what the worker said are not shown; it ends so:")));
    }
    tell_lines(&fresh[line..], events);
}

/// Where it ran, for people.
fn place(result: &ActionResult, on: &On) -> String {
    match &*result.worker {
        "" => on.shown.clone(),
        name => format!("{}, worker `{}`", on.shown, harmless(name)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::grpc::test_server::server;
    use crate::pipeline::placing::Engine;
    use crate::reapi::Writer;

    #[test]
    fn a_worker_that_is_lost_is_the_engines_fault() {
        let engine = Engine::Reapi { at: Box::default(), properties: Vec::new() };
        let on = On { engine, shown: "`e`".to_owned(), timeout: None, falls_back: true, grain: None };
        for code in [Code::Unavailable, Code::Aborted, Code::Internal] {
            let Fault::Engine { why, is_transient: true } = failed(code, " gone ", &on) else {
                panic!("{code} is the engine's")
            };
            assert_eq!(why, format!("`e` ended the build: {code} (gone)"));
        }
        for code in [Code::DeadlineExceeded, Code::InvalidArgument, Code::PermissionDenied] {
            let Fault::Build(told) = failed(code, "no", &on) else { panic!("{code} is the build's") };
            assert_eq!(told[0].fault, crate::report::Fault::Told);
        }
    }

    /// What is told in the end of a worker that said this, of which this was heard.
    fn shown(said: &[u8], is_failed: bool, heard: &Heard) -> Vec<String> {
        let blob = Blob::of(said);
        let from = said.len().saturating_sub(END as usize);
        let (end, name) = (said[from..].to_vec(), format!("blobs/{}/{}", blob.digest.hex(), blob.size));
        let channel = server(move |peer| {
            while let Some(asked) = peer.asked() {
                let expected = Writer::new().bytes(1, &name).number(2, from as u64).done();
                assert_eq!((asked.method(), asked.message()), ("Read", expected.as_slice()));
                peer.begin(asked.stream);
                // Frames are no larger.
                for piece in end.chunks(8 << 10) {
                    peer.message(asked.stream, &Writer::new().bytes(10, piece).done());
                }
                peer.end(asked.stream);
            }
        });
        let result = ActionResult { stderr: Output::Blob(blob), ..ActionResult::default() };
        let (sender, told) = std::sync::mpsc::channel();
        show(&Client::new(channel, String::new()), (&result, is_failed), heard, &Events::new(sender));
        let line = |(_, event)| match event {
            Event::Note(text) => text,
            other => format!("{other:?}"),
        };
        told.iter().map(line).collect()
    }

    #[test]
    fn the_end_of_a_long_log_is_shown_when_the_build_failed() {
        let mut said = b"a line of 32 bytes, as all here\n".repeat((5 << 20) / 32);
        said.extend(b"error: why it failed\n");
        let part = said[..SAID as usize].to_vec();
        for heard in [Heard::OfStream(SAID + 5), Heard::InPieces(part), Heard::InPieces(Vec::new())] {
            let told = shown(&said, true, &heard);
            assert!(told[0].ends_with("of what the worker said are not shown; it ends so:"), "{}", told[0]);
            assert_eq!(told[1], "worker: a line of 32 bytes, as all here");
            assert_eq!(told.last().unwrap(), "worker: error: why it failed");
            assert!(told.len() > 2000 && told.len() <= 1 + END as usize / 32, "{}", told.len());
        }
        // What was told is not told again, unless it was another worker that said it.
        let all = said.len() as u64 - 21;
        assert_eq!(shown(&said, true, &Heard::OfStream(all)), ["worker: error: why it failed"]);
        let most = said[..all as usize].to_vec();
        assert_eq!(shown(&said, true, &Heard::InPieces(most)), ["worker: error: why it failed"]);
        let others = shown(&said, true, &Heard::InPieces(vec![b'x'; all as usize]));
        assert!(others.len() > 2000, "{others:?}");
        // One that went well says nothing that is needed.
        let too_much = ["the worker says more than 4.2 MB, which is not shown"];
        assert_eq!(shown(&said, false, &Heard::InPieces(Vec::new())), too_much);
        assert!(shown(&said, false, &Heard::OfStream(SAID)).is_empty());
    }
}
