//! Has an action run, and follows it to its end: through lost connections, and lost workers.

use std::time::{Duration, Instant};

use super::client::{Client, Error};
use super::messages::{ActionResult, Blob, Output, Status};
use super::wire::{Malformed, Writer, fields};
use crate::grpc::{self, Call, Code, Received};
use crate::text::terminal::for_people;

const EXECUTE: &str = "/build.bazel.remote.execution.v2.Execution/Execute";
const WAIT: &str = "/build.bazel.remote.execution.v2.Execution/WaitExecution";
const CANCEL: &str = "/google.longrunning.Operations/CancelOperation";
const READ: &str = "/google.bytestream.ByteStream/Read";
/// What is told of an operation is shorter.
const MESSAGE: usize = 16 << 20;
/// How often whoever waits is asked whether to go on.
const LOOK: Duration = Duration::from_millis(100);
/// So long the name of an action is waited for, to cancel it.
const NAMED: Duration = Duration::from_secs(2);
/// So often in a row the server may be gone before anything is heard of the action: some fifteen seconds, in which it can be started anew.
const TRIES: u32 = 6;
/// The first pause between them; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 250 });
/// So often an action is begun that is lost with its worker.
const RUNS: u32 = 3;

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody said.
    Unknown,
    CacheCheck,
    Queued,
    Executing,
    Completed,
}

/// What became known of an action that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    /// Where what it says can be read while it runs, if the engine has that.
    pub(crate) stderr: Option<String>,
    /// It begins anew, and why.
    pub(crate) again: Option<String>,
}

/// Whether to go on waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Going {
    On,
    /// Nobody wants the result any more.
    Cancel,
}

/// What an action came to.
#[derive(Debug)]
pub(crate) enum Executed {
    /// It ran to its end, with whatever exit code.
    Done(Box<ActionResult>),
    /// It was cancelled, as was wanted.
    Cancelled,
    /// The server lacks something of what the action reads, or something else that the action needs, such as a worker: its words, fit to
    /// be shown. Whether it lacks a blob is known by asking.
    InputsGone(String),
    /// It did not run to its end, and what it said by then.
    Failed {
        /// Why.
        code: Code,
        /// In the server's words.
        message: String,
        /// Its result as far as there is one.
        result: Box<ActionResult>,
    },
}

/// An operation as it was told last.
#[derive(Debug, Default)]
struct Operation {
    name: String,
    is_done: bool,
    stage: u64,
    stderr: String,
    error: Option<Status>,
    result: ActionResult,
    /// Of the answer.
    status: Status,
}

impl Client {
    /// Whether actions can be run.
    ///
    /// # Errors
    /// Those of asking.
    pub(crate) fn runs_actions(&self) -> Result<bool, Error> {
        Ok(self.capabilities()?.runs_actions)
    }

    /// Has an action run that is in the CAS with all that it reads. Each time that something becomes known, and some times a second, `watch`
    /// says whether to go on.
    ///
    /// # Errors
    /// When the server cannot be asked. What became of the action is no error here.
    pub(crate) fn execute(
        &self,
        action: Blob,
        watch: &mut dyn FnMut(Option<Progress>) -> Going,
    ) -> Result<Executed, Error> {
        let (mut name, mut tries, mut runs) = (String::new(), 0, 1);
        loop {
            let lost = match self.follow(action, &mut name, watch, &mut tries) {
                Ok(Followed::Done(operation)) => {
                    let ended = ended(*operation);
                    match ended {
                        Executed::Failed { code, ref message, .. }
                            if runs < RUNS && is_worth_another(code) =>
                        {
                            name.clear();
                            runs += 1;
                            format!("{code}: {}", for_people(message))
                        }
                        ended => return Ok(ended),
                    }
                }
                // The stream ended before the action.
                Ok(Followed::Left) if self.pause(1, watch) => continue,
                Ok(Followed::Left | Followed::Cancelled) => {
                    self.cancel(&name);
                    return Ok(Executed::Cancelled);
                }
                Err(Error::Grpc(error)) if error.code() == Some(Code::NotFound) && !name.is_empty() => {
                    // The server forgot it, as one that was started anew may.
                    name.clear();
                    error.to_string()
                }
                // Who was there a moment ago may be so again.
                Err(Error::Grpc(error @ grpc::Error::Unreachable { .. })) if !name.is_empty() => {
                    error.to_string()
                }
                Err(Error::Grpc(error)) if error.is_transient() => error.to_string(),
                Err(Error::Grpc(error)) if error.code() == Some(Code::FailedPrecondition) => {
                    return Ok(Executed::InputsGone(error.to_string()));
                }
                Err(error) => return Err(error),
            };
            tries += 1;
            if tries >= TRIES {
                return Err(Error::Gone(lost));
            }
            let progress = Progress { stage: Stage::Unknown, stderr: None, again: Some(lost) };
            if watch(Some(progress)) == Going::Cancel || !self.pause(tries, watch) {
                self.cancel(&name);
                return Ok(Executed::Cancelled);
            }
        }
    }

    /// Waits before another attempt; whether to make it.
    fn pause(&self, tries: u32, watch: &mut dyn FnMut(Option<Progress>) -> Going) -> bool {
        let until = Instant::now() + PAUSE * 2_u32.pow(tries.min(6));
        while Instant::now() < until {
            if watch(None) == Going::Cancel {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// Begins the action, or waits for the one of that name, until it is done or the stream ends.
    fn follow(
        &self,
        action: Blob,
        name: &mut String,
        watch: &mut dyn FnMut(Option<Progress>) -> Going,
        tries: &mut u32,
    ) -> Result<Followed, Error> {
        let (method, request) = match name.is_empty() {
            true => {
                let request = Writer::new().bytes(1, &self.instance).number(3, 1);
                (EXECUTE, request.message(6, action.message()))
            }
            false => (WAIT, Writer::new().bytes(1, &*name)),
        };
        let mut call = self.channel.patient_stream(method, MESSAGE)?;
        call.send(&request.done(), true)?;
        loop {
            match call.receive_until(Instant::now() + LOOK)? {
                Received::Message(message) => {
                    let operation = self.read(Operation::parse(&message))?;
                    if !operation.name.is_empty() {
                        name.clone_from(&operation.name);
                    }
                    let going = watch(Some(operation.progress()));
                    if operation.is_done {
                        return Ok(Followed::Done(Box::new(operation)));
                    }
                    if operation.stage > 0 {
                        *tries = 0;
                    }
                    if going == Going::Cancel {
                        return Ok(Followed::Cancelled);
                    }
                }
                Received::Nothing => {
                    if watch(None) == Going::Cancel {
                        await_name(&mut call, name);
                        return Ok(Followed::Cancelled);
                    }
                }
                Received::End if name.is_empty() => {
                    return Err(Error::Unable("the server began nothing".to_owned()));
                }
                Received::End => return Ok(Followed::Left),
            }
        }
    }

    /// Tells the server that nobody wants the result any more. Whether it listens is its affair.
    fn cancel(&self, name: &str) {
        if name.is_empty() {
            return;
        }
        let request = Writer::new().bytes(1, name).done();
        let asked = self.channel.unary(CANCEL, &request, MESSAGE);
        drop(asked.inspect_err(|error| tracing::debug!(%error, "an action was not cancelled")));
    }

    /// Reads what an action says while it says it, until it ends, or nobody wants to go on.
    ///
    /// # Errors
    /// Those of the call.
    pub(crate) fn listen(
        &self,
        stream: &str,
        hear: &mut dyn FnMut(&[u8]),
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), grpc::Error> {
        let mut call = self.channel.patient_stream(READ, MESSAGE)?;
        call.send(&Writer::new().bytes(1, stream).done(), true)?;
        while goes_on() {
            match call.receive_until(Instant::now() + LOOK)? {
                Received::Message(message) => {
                    for field in fields(&message).flatten() {
                        if let (10, value) = field {
                            hear(value.bytes());
                        }
                    }
                }
                Received::Nothing => {}
                Received::End => break,
            }
        }
        Ok(())
    }

    /// What an action said, of `limit` bytes at most; what is longer, or gone, is empty.
    pub(crate) fn said(&self, output: &Output, limit: u64) -> Vec<u8> {
        match output {
            Output::Raw(bytes) => bytes.clone(),
            Output::Blob(blob) if blob.size > limit => Vec::new(),
            Output::Blob(blob) => self.read_blob(*blob).unwrap_or_default(),
        }
    }

    /// The end of what an action said, of `size` bytes at most; what is gone is empty.
    pub(crate) fn said_last(&self, output: &Output, size: u64) -> Vec<u8> {
        match output {
            Output::Raw(bytes) => bytes[bytes.len().saturating_sub(size as usize)..].to_vec(),
            Output::Blob(blob) => self.read_end(*blob, size).unwrap_or_default(),
        }
    }
}

/// What was begun a moment ago cannot be cancelled before it has a name, which is waited for, but not for long.
fn await_name(call: &mut Call<'_>, name: &mut String) {
    let until = Instant::now() + NAMED;
    while name.is_empty() && Instant::now() < until {
        let Ok(Received::Message(message)) = call.receive_until(until) else { return };
        if let Ok(operation) = Operation::parse(&message) {
            name.clone_from(&operation.name);
        }
    }
}

/// How a stream ended.
enum Followed {
    Done(Box<Operation>),
    Cancelled,
    Left,
}

/// Whether an action that ended so may do better on another worker, or later: what took it away was not the action.
pub(crate) fn is_worth_another(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Aborted | Code::Internal | Code::Unknown)
}

fn ended(operation: Operation) -> Executed {
    let Operation { error, result, status, .. } = operation;
    let status = error.unwrap_or(status);
    match Code::from_number(status.code) {
        Code::Ok => Executed::Done(Box::new(result)),
        code @ Code::FailedPrecondition => {
            Executed::InputsGone(format!("{code} ({})", for_people(status.message.trim())))
        }
        code => Executed::Failed { code, message: status.message, result: Box::new(result) },
    }
}

impl Operation {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut operation = Self::default();
        for field in fields(bytes) {
            match field? {
                (1, value) => operation.name = value.text(),
                (2, any) => operation.read_metadata(packed(any.bytes())?)?,
                (3, value) => operation.is_done = value.number() != 0,
                (4, value) => operation.error = Some(Status::parse(value.bytes())?),
                (5, any) => {
                    for field in fields(packed(any.bytes())?) {
                        match field? {
                            (1, value) => operation.result = ActionResult::parse(value.bytes())?,
                            (3, value) => operation.status = Status::parse(value.bytes())?,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(operation)
    }

    fn read_metadata(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        for field in fields(bytes) {
            match field? {
                (1, value) => self.stage = value.number(),
                (4, value) => self.stderr = value.text(),
                _ => {}
            }
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        let stage = match self.stage {
            1 => Stage::CacheCheck,
            2 => Stage::Queued,
            3 => Stage::Executing,
            4 => Stage::Completed,
            _ => Stage::Unknown,
        };
        let stderr = Some(self.stderr.clone()).filter(|name| !name.is_empty());
        Progress { stage, stderr, again: None }
    }
}

/// The message in an `Any`.
fn packed(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut message = &[][..];
    for field in fields(bytes) {
        if let (2, value) = field? {
            message = value.bytes();
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::grpc::test_server::{Asked, Peer, server};
    use crate::oci::Digest;

    fn any(message: Writer) -> Writer {
        Writer::new().bytes(1, "type.googleapis.com/x").message(2, message)
    }

    #[test]
    fn operations_are_read() {
        let metadata = Writer::new().number(1, 3).bytes(4, "logs/1");
        let bytes = Writer::new().bytes(1, "op").message(2, any(metadata)).done();
        let operation = Operation::parse(&bytes).unwrap();
        let progress = Progress { stage: Stage::Executing, stderr: Some("logs/1".to_owned()), again: None };
        assert_eq!((operation.name.as_str(), operation.progress()), ("op", progress));
        let result = ActionResult { exit_code: 1, ..ActionResult::default() };
        let status = |code, text: &str| Writer::new().number(1, code).bytes(2, text);
        let done =
            |response: Writer| Writer::new().bytes(1, "op").number(3, 1).message(5, any(response)).done();
        let ran = done(Writer::new().message(1, result.message()));
        assert!(matches!(ended(Operation::parse(&ran).unwrap()), Executed::Done(r) if r.exit_code == 1));
        let late = done(Writer::new().message(1, result.message()).message(3, status(4, "too late")));
        assert!(matches!(
            ended(Operation::parse(&late).unwrap()),
            Executed::Failed { code: Code::DeadlineExceeded, message, .. } if message == "too late"
        ));
        let gone = done(Writer::new().message(3, status(9, "missing")));
        let Executed::InputsGone(why) = ended(Operation::parse(&gone).unwrap()) else { panic!("gone") };
        assert_eq!(why, "FAILED_PRECONDITION (missing)");
        let failed = Writer::new().bytes(1, "op").number(3, 1).message(4, status(14, "no worker")).done();
        let Executed::Failed { code, .. } = ended(Operation::parse(&failed).unwrap()) else {
            panic!("failed")
        };
        assert!(is_worth_another(code));
    }

    fn operation(stage: u64, stderr: &str) -> Writer {
        Writer::new().bytes(1, "op").message(2, any(Writer::new().number(1, stage).bytes(4, stderr)))
    }

    fn done(code: u64, exit_code: i32) -> Vec<u8> {
        let result = ActionResult { exit_code, ..ActionResult::default() };
        let status = Writer::new().number(1, code);
        let response = Writer::new().message(1, result.message()).message(3, status);
        Writer::new().bytes(1, "op").number(3, 1).message(5, any(response)).done()
    }

    /// What an action comes to with a server whose calls `script` answers, numbered from 0; and which methods were called.
    fn executed(
        script: impl Fn(&mut Peer, &Asked, usize) + Send + Sync + 'static,
        mut watch: impl FnMut(Option<Progress>) -> Going,
    ) -> (Result<Executed, Error>, Vec<String>) {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (its, number) = (Arc::clone(&calls), AtomicUsize::new(0));
        let channel = server(move |peer| {
            while let Some(asked) = peer.asked() {
                its.lock().unwrap().push(asked.method().to_owned());
                script(peer, &asked, number.fetch_add(1, Ordering::SeqCst));
            }
        });
        let client = Client::new(channel, String::new());
        let ended = client.execute(Blob { digest: Digest::of(b""), size: 0 }, &mut watch);
        let calls = calls.lock().unwrap().clone();
        (ended, calls)
    }

    #[test]
    fn an_action_is_followed_to_its_end() {
        // The stream ends in the middle, then the connection breaks, then the server has forgotten the action.
        let script = |peer: &mut Peer, asked: &Asked, number: usize| {
            if number == 2 {
                return peer.refuse(asked.stream, "5");
            }
            peer.begin(asked.stream);
            peer.message(asked.stream, &operation(3, "").done());
            match number {
                0 => peer.end(asked.stream),
                1 => peer.hang_up(),
                _ => {
                    peer.message(asked.stream, &done(0, 7));
                    peer.end(asked.stream);
                }
            }
        };
        let mut again = Vec::new();
        let (ended, calls) = executed(script, |progress| {
            again.extend(progress.and_then(|progress| progress.again));
            Going::On
        });
        assert!(matches!(ended.unwrap(), Executed::Done(result) if result.exit_code == 7));
        assert_eq!(calls, ["Execute", "WaitExecution", "WaitExecution", "Execute"]);
        assert_eq!(again.len(), 2, "{again:?}");
    }

    #[test]
    fn a_worker_that_is_lost_is_tried_again_but_not_for_ever() {
        let script = |peer: &mut Peer, asked: &Asked, _: usize| {
            peer.begin(asked.stream);
            peer.message(asked.stream, &operation(3, "").done());
            peer.message(asked.stream, &done(14, 0));
            peer.end(asked.stream);
        };
        let (ended, calls) = executed(script, |_| Going::On);
        assert!(matches!(ended.unwrap(), Executed::Failed { code: Code::Unavailable, .. }));
        assert_eq!(calls, ["Execute"; RUNS as usize]);
        // What the action did itself is not tried again.
        let late = |peer: &mut Peer, asked: &Asked, _: usize| peer.answer(asked.stream, &done(4, 0));
        let (ended, calls) = executed(late, |_| Going::On);
        assert!(matches!(ended.unwrap(), Executed::Failed { code: Code::DeadlineExceeded, .. }));
        assert_eq!(calls, ["Execute"]);
        // A server that does not come back may do so later.
        let down = |peer: &mut Peer, asked: &Asked, number: usize| match number {
            0 => {
                peer.begin(asked.stream);
                peer.message(asked.stream, &operation(3, "").done());
                peer.hang_up();
            }
            _ => peer.refuse(asked.stream, "14"),
        };
        let (ended, calls) = executed(down, |_| Going::On);
        assert!(ended.unwrap_err().may_pass());
        assert_eq!(
            calls,
            ["Execute", "WaitExecution", "WaitExecution", "WaitExecution", "WaitExecution", "WaitExecution"]
        );
        let gone = |peer: &mut Peer, asked: &Asked, _: usize| peer.refuse(asked.stream, "9");
        let Executed::InputsGone(why) = executed(gone, |_| Going::On).0.unwrap() else { panic!("gone") };
        assert!(why.ends_with("answers FAILED_PRECONDITION"), "{why}");
    }

    #[test]
    fn who_does_not_want_it_any_more_cancels_it() {
        let script = |peer: &mut Peer, asked: &Asked, _: usize| match asked.method() {
            "CancelOperation" => {
                assert_eq!(asked.message(), b"\x0a\x02op");
                peer.answer(asked.stream, b"");
            }
            _ => {
                peer.begin(asked.stream);
                peer.message(asked.stream, &operation(2, "").done());
            }
        };
        let mut looks = 0;
        let (ended, calls) = executed(script, |_| {
            looks += 1;
            if looks > 2 { Going::Cancel } else { Going::On }
        });
        assert!(matches!(ended.unwrap(), Executed::Cancelled));
        assert_eq!(calls, ["Execute", "CancelOperation"]);
    }

    #[test]
    fn what_has_no_name_yet_is_cancelled_when_it_has_one() {
        let is_wanted = Arc::new(AtomicUsize::new(1));
        let its = Arc::clone(&is_wanted);
        let script = move |peer: &mut Peer, asked: &Asked, _: usize| match asked.method() {
            "CancelOperation" => peer.answer(asked.stream, b""),
            _ => {
                peer.begin(asked.stream);
                while its.load(Ordering::SeqCst) != 0 {
                    std::thread::yield_now();
                }
                peer.message(asked.stream, &operation(2, "").done());
            }
        };
        let (ended, calls) = executed(script, |_| {
            is_wanted.store(0, Ordering::SeqCst);
            Going::Cancel
        });
        assert!(matches!(ended.unwrap(), Executed::Cancelled));
        assert_eq!(calls, ["Execute", "CancelOperation"]);
    }

    #[test]
    fn what_an_action_says_is_heard_while_it_says_it() {
        let channel = server(|peer| {
            while let Some(asked) = peer.asked() {
                assert_eq!((asked.method(), asked.message()), ("Read", &b"\x0a\x06logs/1"[..]));
                peer.begin(asked.stream);
                for piece in ["one\ntw", "o\n"] {
                    peer.message(asked.stream, &Writer::new().bytes(10, piece).done());
                }
                peer.end(asked.stream);
            }
        });
        let (client, mut heard) = (Client::new(channel, String::new()), Vec::new());
        client.listen("logs/1", &mut |piece| heard.push(piece.to_vec()), &|| true).unwrap();
        assert_eq!(heard, [b"one\ntw".to_vec(), b"o\n".to_vec()]);
    }
}
