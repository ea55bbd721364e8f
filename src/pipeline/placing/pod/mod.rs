//! A build as a job of a Kubernetes cluster: its pod is waited for, what it lacks is sent, and what it says is shown.
//!
//! Of the cluster nothing is needed but its API server: what goes to the pod and comes back is spoken with a program there
//! (`attending`), through the server. The job goes with the value that its results are read from.

mod claims;
mod connection;
mod results;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel as channel_of};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

pub(super) use claims::key;
use claims::{Taken, take};
use connection::{Broken, LOOK, Link, unexpected};
pub(super) use results::Failed;

use super::link::{self, Done, Frames, Hello, Run};
use super::outputs::{self, Outputs};
use super::sending::Package;
use super::{Cluster, Fault, Lines, On, Took, ended, worker};
use crate::exec::Stop;
use crate::http::Environment;
use crate::kubernetes::{Server, State, WORK, Wanted, access, job};
use crate::reapi::Blob;
use crate::report::{Diagnostic, Event, Events};
use crate::sync::lock;
use crate::text::duration::seconds;
use crate::text::terminal::for_people;

/// The programs of a pod.
pub(super) const ATTEND: &str = "__pod";
pub(super) const CONNECT: &str = "__pod-connect";
/// So often a build is begun that is lost with its pod.
const RUNS: u32 = 3;
/// A pod that does not run yet is looked at so often, at first and in the end.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// A connection that broke is made again for so long, less than a pod stays alone.
const AGAIN: Duration = Duration::from_secs(60);
/// The API is asked for so long why a pod was told to end.
const WHY: Duration = Duration::from_secs(10);
/// Connections that nobody uses are asked for a sign of life so often.
const QUIET: Duration = Duration::from_secs(15);
/// A pod that is removed without a word may be so for a reason of its job's, which is said a moment later.
const DEADLINE: &str = "DeadlineExceeded";
/// The job may be there so much longer than what runs in it.
const SPARE: u64 = 600;

/// A pod that does a build. Its job is removed with the value.
#[derive(Debug)]
pub(super) struct Worker {
    server: Arc<Server>,
    namespace: String,
    job: String,
    /// Whether there may be a job to be removed.
    is_asked: bool,
    /// Whether there was one.
    is_made: bool,
    /// Ends the thread that waits for an interruption.
    is_over: Arc<AtomicBool>,
    events: Events,
    stop: Stop,
    _claim: Option<Taken>,
    pod: String,
    node: String,
    shown: String,
    links: Mutex<Vec<Link>>,
    /// Ends the thread that keeps connections alive.
    alive: Mutex<Option<Sender<()>>>,
}

/// How a run came out.
enum Ran {
    Done(Box<Done>, Took),
    Lost(String),
}

impl Fault {
    /// In words.
    pub(super) fn told(self) -> String {
        match self {
            Self::Engine { why, .. } => why,
            Self::Build(told) => {
                told.into_iter().map(|told| told.message).collect::<Vec<String>>().join("; ")
            }
        }
    }
}

/// Has a build done by a pod.
pub(super) fn build(
    (cluster, key): (&Cluster, &str),
    package: &Package,
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<Outputs, Fault> {
    let run = Run {
        words: vec![worker::COMMAND.to_owned(), worker::ORDER.to_owned()],
        files: files(package),
        output: Some(worker::OUTPUT.to_owned()),
        timeout: on.timeout.map(|timeout| timeout.as_secs()),
    };
    let what = package.told();
    // On a volume they outlive the pod.
    let kept = match cluster.claims.is_empty() {
        true => "",
        false => ", and stay on its volume, where its other builds can read them",
    };
    events.send(Event::Note(format!("{what} go to a pod of {}{kept}", on.shown)));
    let (worker, done, took) = ran((cluster, key), package, &run, on, (events, stop))?;
    let place = format!("{}, {}", on.shown, worker.place());
    if done.is_late {
        let told = Diagnostic::error(format!("the build did not end in time on {place}"));
        return Err(Fault::Build(vec![told.help("`--on …,timeout=2h` gives it more time")]));
    }
    if let Some(killed) = killed(&done) {
        let told = Diagnostic::error(format!("the build on {place} {killed}"));
        return Err(Fault::Build(vec![match done.signal {
            Some(9) => told.help("its memory may not have been enough: let the pod have more, by `memory` in the configuration, or in the job's template"),
            _ => told,
        }]));
    }
    ended(done.code, &place, took, events)?;
    outputs::of_pod(worker, &done.files, on)
}

/// Runs rbuild in a pod with these words: where, what it printed and said, and its exit code.
pub(super) fn run_there(
    cluster: &Cluster,
    words: &[&str],
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<(String, Vec<u8>, Vec<u8>, i32), Fault> {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    let run = Run { words, files: Vec::new(), output: None, timeout: on.timeout.map(|t| t.as_secs()) };
    let key = cluster.key.clone().unwrap_or_default();
    let (worker, done, _) = ran((cluster, &key), &Package::default(), &run, on, (events, stop))?;
    let told = match done.is_late {
        true => "it did not end in time".to_owned(),
        false => killed(&done).unwrap_or_default(),
    };
    Ok((worker.place(), done.printed, told.into_bytes(), done.code))
}

fn killed(done: &Done) -> Option<String> {
    done.signal.map(|signal| format!("was killed by signal {signal}"))
}

fn files(package: &Package) -> Vec<(String, String, u64)> {
    let file =
        |(path, blob, _): &(String, Blob, bool)| (path.clone(), blob.digest.hex().to_string(), blob.size);
    package.inputs().iter().map(file).collect()
}

/// Runs something to its end, in another pod when one is lost.
fn ran(
    (cluster, key): (&Cluster, &str),
    package: &Package,
    run: &Run,
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<(Arc<Worker>, Done, Took), Fault> {
    let mut lost = String::new();
    for attempt in 0..RUNS {
        if stop.is_wanted() {
            return Err(cancelled(&on.shown));
        }
        if attempt > 0 {
            events.send(Event::Note(format!("{} begins the build anew: {lost}", on.shown)));
        }
        let began = Instant::now();
        let worker = match Worker::start((cluster, key), on, (events, stop))? {
            Ok(worker) => Arc::new(worker),
            Err(why) => {
                lost = why;
                continue;
            }
        };
        worker.keep_alive();
        let waited = began.elapsed();
        match worker.run(package, run, (events, stop))? {
            Ran::Done(done, took) => {
                return Ok((
                    worker,
                    *done,
                    Took { waiting: Some(waited), running: took.running + waited, ..took },
                ));
            }
            Ran::Lost(why) => lost = why,
        }
    }
    Err(Fault::Engine { why: format!("its pods are lost: {lost}"), is_transient: true })
}

fn cancelled(shown: &str) -> Fault {
    Fault::Build(vec![Diagnostic::error(format!("the build on {shown} was cancelled"))])
}

impl Worker {
    /// Makes a job, and waits until its pod runs. The inner error is of a pod that was lost.
    fn start(
        (cluster, key): (&Cluster, &str),
        on: &On,
        (events, stop): (&Events, &Stop),
    ) -> Result<Result<Self, String>, Fault> {
        let environment = Environment::from_process();
        let access = access(cluster.context.as_deref(), &environment).map_err(Fault::engine)?;
        let namespace = cluster.namespace.clone().or_else(|| access.namespace.clone());
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        let server = Server::new(access, environment);
        let key = if cluster.part.is_empty() { key.to_owned() } else { format!("{key} {}", cluster.part) };
        let (claim, taken) = take(&cluster.claims, &key, &format!("{} {namespace}", server.host())).unzip();
        let spare = SPARE.saturating_add(cluster.start.as_secs());
        let wanted = Wanted {
            claim,
            deadline: on.timeout.map(|timeout| timeout.as_secs().saturating_add(spare)),
            ..cluster.wanted.clone()
        };
        let mut random = [0; 5];
        getrandom::getrandom(&mut random).map_err(|e| Fault::engine(e.to_string()))?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("rbuild-{name}");
        let folder = format!("{WORK}/{name}");
        let object = job(&name, &wanted, &[ATTEND, &folder])
            .map_err(|why| Fault::Build(vec![template_fault(&why)]))?;
        let mut worker = Self {
            server: Arc::new(server),
            namespace,
            job: name,
            is_asked: true,
            is_made: false,
            is_over: Arc::default(),
            events: events.clone(),
            stop: stop.clone(),
            _claim: taken,
            pod: String::new(),
            node: String::new(),
            shown: on.shown.clone(),
            links: Mutex::default(),
            alive: Mutex::default(),
        };
        worker.mind_stop();
        if let Err(error) = worker.server.make_job(&worker.namespace, &object) {
            worker.is_asked = !error.is_undone();
            return Err(error.into());
        }
        worker.is_made = true;
        let claim = match wanted.claim {
            Some(claim) => format!(" with the volume `{claim}`"),
            None if cluster.claims.is_empty() => String::new(),
            None => " without a volume, as other pods of this build have all of them".to_owned(),
        };
        events.send(Event::Note(format!("the build waits for a pod of {}{claim}", on.shown)));
        match worker.await_pod(cluster.start, (events, stop))? {
            Ok(()) => Ok(Ok(worker)),
            Err(lost) => Ok(Err(lost)),
        }
    }

    /// Removes the job as soon as somebody interrupts, whatever is waited for meanwhile.
    fn mind_stop(&self) {
        let (server, is_over, stop) =
            (Arc::clone(&self.server), Arc::clone(&self.is_over), self.stop.clone());
        let (namespace, job) = (self.namespace.clone(), self.job.clone());
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                if stop.is_wanted() {
                    // Who made it removes it, too, and tells what goes wrong.
                    if let Err(error) = server.remove_job(&namespace, &job) {
                        tracing::debug!(%error, job, "a job is not removed yet");
                    }
                    return;
                }
                std::thread::sleep(LOOK);
            }
        });
    }

    fn await_pod(
        &mut self,
        patience: Duration,
        (events, stop): (&Events, &Stop),
    ) -> Result<Result<(), String>, Fault> {
        let (began, mut wait, mut told) = (Instant::now(), WAITS.0, String::new());
        let mut failing: Option<Instant> = None;
        loop {
            let looked = match self.server.pod_of(&self.namespace, &self.job) {
                Ok(None) => match self.server.job_failed(&self.namespace, &self.job) {
                    Ok(Some(why)) => return Err(Fault::engine(format!("the job failed ({why})"))),
                    Ok(None) => Ok(None),
                    Err(error) => Err(error),
                },
                other => other,
            };
            let why = match looked {
                // An API server that begins anew is borne for a while.
                Err(error) if error.is_transient() => {
                    if stop.is_wanted() {
                        return Err(cancelled(&self.shown));
                    }
                    if failing.get_or_insert_with(Instant::now).elapsed() > AGAIN {
                        return Err(error.into());
                    }
                    error.to_string()
                }
                Err(error) => return Err(error.into()),
                Ok(None) => {
                    failing = None;
                    String::new()
                }
                Ok(Some(pod)) => {
                    failing = None;
                    (self.pod, self.node) = (pod.name, pod.node);
                    match pod.state {
                        State::Runs => return Ok(Ok(())),
                        State::Waits(why) => why,
                        State::Unable(why) => {
                            return Err(Fault::engine(format!("its pod does not start ({why})")));
                        }
                        State::Lost(why) => return Ok(Err(why)),
                        State::Ended { code, .. } => {
                            return Err(Fault::engine(format!(
                                "its pod ended with exit code {code} before anything was sent: is rbuild in its image, of this version?"
                            )));
                        }
                    }
                }
            };
            if !why.is_empty() && why != told && began.elapsed() > WAITS.1 {
                events.send(Event::Note(format!("the pod waits: {why}")));
                told = why;
            }
            if began.elapsed() > patience {
                let why = if told.is_empty() { String::new() } else { format!(" ({told})") };
                let text = format!("no pod of it runs after {}{why}", seconds(patience));
                return Err(Fault::Engine { why: text, is_transient: true });
            }
            let until = Instant::now() + wait;
            while Instant::now() < until {
                if stop.is_wanted() {
                    return Err(cancelled(&self.shown));
                }
                std::thread::sleep(LOOK);
            }
            wait = (wait * 3 / 2).min(WAITS.1);
        }
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        match &*self.node {
            "" => format!("pod `{}`", self.pod),
            node => format!("pod `{}` on node `{node}`", self.pod),
        }
    }

    /// Asks connections that nobody uses for a sign of life, as whatever stands in between ends those that are silent.
    fn keep_alive(self: &Arc<Self>) {
        let (sender, receiver) = channel_of::<()>();
        let weak: Weak<Self> = Arc::downgrade(self);
        std::thread::spawn(move || {
            while receiver.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
                let Some(worker) = weak.upgrade() else { return };
                lock(&worker.links).retain_mut(|link| link.socket.ping().is_ok());
            }
        });
        *lock(&self.alive) = Some(sender);
    }

    /// Sends what is missing, has it run, and shows what it says.
    fn run(&self, package: &Package, run: &Run, (events, stop): (&Events, &Stop)) -> Result<Ran, Fault> {
        let goes_on = || !stop.is_wanted();
        let began = Instant::now();
        let bytes = serde_json::to_vec(run).map_err(|e| Fault::engine(e.to_string()))?;
        if bytes.len() >= link::LIMIT {
            let told = Diagnostic::error("the context has more files than go to a pod");
            return Err(Fault::Build(vec![
                told.help("`.dockerignore` leaves out what the build does not need"),
            ]));
        }
        let mut moved = None;
        // What got there.
        let there = Cell::new(0);
        let sent = self.through((&goes_on, &there), &mut |link| {
            let names = package.names();
            let of = names.len();
            link.send(b'M', &link::names(names))?;
            let missing = link.answer(b'm', &goes_on)?;
            let missing: BTreeSet<Blob> = link::named(&missing)
                .ok_or_else(|| Broken::Lost("names are none".to_owned()))?
                .into_iter()
                .collect();
            // What was sent before the connection broke counts, too.
            moved.get_or_insert(package.moved(&missing));
            there.set(of.saturating_sub(missing.len()) as u64);
            if !missing.is_empty() {
                link.put(package, &missing, &goes_on)?;
            }
            link.send(b'R', &bytes)?;
            link.answer(b'r', &goes_on).map(drop)
        })?;
        if let Err(why) = sent {
            return Ok(Ran::Lost(why));
        }
        events.send(Event::Note(format!("the build runs on {}, {}", self.shown, self.place())));
        let (sending, mut heard, mut lines) = (began.elapsed(), 0_u64, Lines::default());
        let signs = Cell::new(0);
        let running = Instant::now();
        let mut done: Option<Done> = None;
        let followed = self.through((&goes_on, &signs), &mut |link| {
            link.send(b'F', &heard.to_be_bytes())?;
            loop {
                match link.receive_soon(&goes_on)? {
                    (b'l', piece) => {
                        signs.set(signs.get() + 1);
                        heard += piece.len() as u64;
                        lines.hear(&piece, events);
                    }
                    (b'c', bytes) => {
                        let read = serde_json::from_slice(&bytes);
                        done = Some(read.map_err(|e| Broken::Lost(e.to_string()))?);
                        return Ok(());
                    }
                    (kind, bytes) => return Err(unexpected(kind, &bytes)),
                }
            }
        })?;
        lines.end(events);
        match (followed, done) {
            (Ok(()), Some(done)) if done.is_stopped && !done.is_late => {
                Ok(Ran::Lost(self.why_stopped(&goes_on)?))
            }
            (Ok(()), Some(done)) => {
                let moved = moved.unwrap_or_default();
                let took = Took { moved, sending, running: running.elapsed(), waiting: None };
                Ok(Ran::Done(Box::new(done), took))
            }
            (Err(why), _) => Ok(Ran::Lost(why)),
            (Ok(()), None) => Ok(Ran::Lost("it does not say how it ended".to_owned())),
        }
    }

    /// Why a pod was told to end, as soon as the API says so.
    fn why_stopped(&self, goes_on: &dyn Fn() -> bool) -> Result<String, Fault> {
        let began = Instant::now();
        while began.elapsed() < WHY {
            if let Some(why) = self.lost()? {
                return Ok(why);
            }
            self.pause(WAITS.0, goes_on)?;
        }
        Ok("the pod was told to end".to_owned())
    }

    fn pause(&self, time: Duration, goes_on: &dyn Fn() -> bool) -> Result<(), Fault> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if !goes_on() {
                return Err(cancelled(&self.shown));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Does something through a connection, and again through another one when that breaks: without end as long as it gets further each time, by
    /// what `progress` has. The inner error is that of a pod that is lost.
    fn through(
        &self,
        (goes_on, progress): (&dyn Fn() -> bool, &Cell<u64>),
        work: &mut dyn FnMut(&mut Link) -> Result<(), Broken>,
    ) -> Result<Result<(), String>, Fault> {
        let mut broke: Option<Instant> = None;
        loop {
            let before = progress.get();
            let worked = match self.link(goes_on) {
                Ok(mut link) => {
                    let worked = work(&mut link);
                    if worked.is_ok() {
                        lock(&self.links).push(link);
                    }
                    worked
                }
                Err(broken) => Err(broken),
            };
            let why = match worked {
                Ok(()) => return Ok(Ok(())),
                Err(Broken::Stopped) => return Err(cancelled(&self.shown)),
                Err(Broken::Other(fault)) => return Err(fault),
                Err(Broken::Refused(why)) => {
                    return Err(Fault::engine(format!("the pod refuses: {why}")));
                }
                Err(Broken::Lost(why)) => why,
            };
            lock(&self.links).clear();
            if !goes_on() {
                return Err(cancelled(&self.shown));
            }
            if let Some(lost) = self.lost()? {
                return Ok(Err(lost));
            }
            if progress.get() != before {
                broke = None;
            }
            if broke.get_or_insert_with(Instant::now).elapsed() > AGAIN {
                return Ok(Err(why));
            }
            tracing::debug!(%why, "the connection to a pod is made again");
            self.pause(Duration::from_secs(1), goes_on)?;
        }
    }

    /// Whether the pod is gone, and why; `None` when it runs, or nobody can say.
    fn lost(&self) -> Result<Option<String>, Fault> {
        let pod = match self.server.pod_of(&self.namespace, &self.job) {
            Ok(pod) => pod,
            Err(error) if error.is_transient() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let why = match pod.map(|pod| pod.state) {
            Some(State::Runs) => return Ok(None),
            Some(State::Ended { is_out_of_memory: true, .. }) => {
                let told =
                    format!("the build on {}, {} had more memory than it may have", self.shown, self.place());
                let told = Diagnostic::error(told);
                return Err(Fault::Build(vec![told.help(
                    "let the pod have more: `memory` in the configuration, or in the job's template",
                )]));
            }
            Some(State::Ended { code, .. }) => format!("the pod ended (exit code {code})"),
            Some(State::Lost(why) | State::Unable(why) | State::Waits(why)) if !why.is_empty() => why,
            Some(State::Lost(_) | State::Unable(_) | State::Waits(_)) | None => "the pod is gone".to_owned(),
        };
        match self.server.job_failed(&self.namespace, &self.job) {
            Ok(Some(reason)) if reason.starts_with(DEADLINE) => {
                let told =
                    Diagnostic::error(format!("the build on {} did not end in time ({reason})", self.shown));
                Err(Fault::Build(vec![told.help("`--on …,timeout=8h` gives it more time")]))
            }
            Ok(_) | Err(_) => Ok(Some(why)),
        }
    }

    /// A connection that is there, or a new one.
    fn link(&self, goes_on: &dyn Fn() -> bool) -> Result<Link, Broken> {
        if let Some(link) = lock(&self.links).pop() {
            return Ok(link);
        }
        let folder = format!("{WORK}/{}", self.job);
        let socket = self.server.run_in(&self.namespace, &self.pod, &["rbuild", CONNECT, &folder]);
        let socket = socket.map_err(|error| match error.is_transient() || error.is_absent() {
            true => Broken::Lost(error.to_string()),
            false => Broken::Other(error.into()),
        })?;
        let mut link = Link { socket, frames: Frames::default(), said: Vec::new() };
        link.send(b'H', b"")?;
        let hello: Hello = serde_json::from_slice(&link.answer(b'h', goes_on)?)
            .map_err(|e| Broken::Lost(format!("it says no word that is understood: {e}")))?;
        let own = env!("CARGO_PKG_VERSION");
        if hello.version != link::VERSION || hello.rbuild != own {
            let theirs = for_people(&hello.rbuild);
            return Err(Broken::Other(Fault::engine(format!(
                "the image of its pods has rbuild {theirs}, and this is rbuild {own}: name an image of this version"
            ))));
        }
        Ok(link)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        lock(&self.links).clear();
        self.is_over.store(true, Ordering::Relaxed);
        if !self.is_asked {
            return;
        }
        let (namespace, job) = (&self.namespace, &self.job);
        match self.server.remove_job(namespace, job) {
            Err(error) if self.is_made => {
                // It ends by itself, as nobody is connected any more.
                self.events.send(Event::Note(format!(
                    "the job is not removed: {error}; `kubectl delete job --namespace {namespace} {job}` removes it"
                )));
            }
            Err(error) => tracing::debug!(%error, job, "nobody knows of the job"),
            Ok(()) => {}
        }
    }
}

fn template_fault(why: &str) -> Diagnostic {
    Diagnostic::error(format!("no job can be made of what the configuration has for Kubernetes: {why}"))
        .help("docs/engines.md, \"Kubernetes\", has what goes there")
}
