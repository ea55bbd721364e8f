//! What a worker says while it builds, where its engine has no streams for that: in pieces of a few seconds, which lie in the engine's cache.
//!
//! ```text
//! "rbuild-log/1" NAME            which worker speaks
//! "rbuild-log/1" NAME WORKER N   what it said, from piece 0 on
//! ```
//!
//! NAME is among what the action reads, and nobody's to guess: an action that is sent again has another one. A build that is begun anew by another worker has another WORKER. The worker has to reach the
//! engine's cache: where that wants no login as the action names it, else as the worker's configuration has it. What does not come so, comes in the end.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::action::SAID;
use super::{Fault, Lines};
use crate::report::Events;
use crate::shared_cache::backend::{self, Board};
use crate::shared_cache::spec::{self, ReapiAt};
use crate::sync::lock;

/// The file among what an action reads.
pub(super) const FILE: &str = "saying.json";
const KIND: &str = "rbuild-log/1";
/// How often a worker leaves what it said, and somebody looks.
const EVERY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 2000 });
/// Of so many looks one asks whether another worker speaks.
const ASKS: u32 = 5;
/// After so many faults nobody looks any more.
const FAULTS: u32 = 3;
/// How often it is looked whether to go on.
const LOOK: Duration = Duration::from_millis(100);
/// A piece has so many bytes at most.
const PIECE: usize = 256 << 10;
/// And a worker's name.
const NAME: usize = 64;
/// An engine may be silent for so long before it counts as a fault.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names the engine as `--on` does, and with what its cache wants, for a worker.
const ENGINE: &str = "RBUILD_WORKER_ENGINE";
/// The file that does, without that.
const USUAL_ENGINE: &str = "/etc/rbuild/worker-engine";

/// Where a worker says what it does.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saying {
    name: String,
    /// Endpoint and instance, where nothing secret is needed.
    at: Option<(String, String)>,
}

impl Saying {
    pub(super) fn new(at: &ReapiAt) -> Result<Self, Fault> {
        let is_open = at.headers.is_empty() && at.client.is_none() && at.ca.is_none();
        let at = is_open.then(|| (at.endpoint.clone(), at.instance.clone()));
        Ok(Self { name: random().map_err(|e| Fault::engine(e.to_string()))?, at })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Tells what a worker says until that is [ended](Hearing::end). A thread of its own does it, which nobody waits for: it may be waiting for the engine.
    pub(super) fn hear(&self, at: &ReapiAt, events: &Events) -> Hearing {
        let heard = Arc::new(Mutex::new(Heard { told: Vec::new(), events: Some(events.clone()) }));
        let patience = at.timeout.map_or(PATIENCE, |timeout| timeout.min(PATIENCE));
        let at = ReapiAt { timeout: Some(patience), ..at.clone() };
        let (name, its) = (self.name.clone(), Arc::clone(&heard));
        let listen = move || {
            let board = Board::at(at);
            // Whether to look once more, when it is time.
            let wait = || {
                let until = Instant::now() + EVERY;
                while is_wanted(&its) && Instant::now() < until {
                    std::thread::sleep(LOOK);
                }
                is_wanted(&its)
            };
            hear(&name, &|name| board.get(name), &its, &wait);
        };
        let begun = std::thread::Builder::new().name("heard".to_owned()).spawn(listen);
        if let Err(error) = begun {
            tracing::debug!(%error, "the worker is not heard");
        }
        Hearing(heard)
    }
}

/// What was told of a worker's words.
struct Heard {
    told: Vec<u8>,
    /// Where the next ones are told, until nobody wants them any more.
    events: Option<Events>,
}

/// A worker that is heard.
pub(super) struct Hearing(Arc<Mutex<Heard>>);

impl Hearing {
    /// From now on nothing is told; gives what was.
    pub(super) fn end(&self) -> Vec<u8> {
        let mut heard = lock(&self.0);
        heard.events = None;
        std::mem::take(&mut heard.told)
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_wanted(heard: &Mutex<Heard>) -> bool {
    lock(heard).events.is_some()
}

/// What has come of one worker.
#[derive(Default)]
struct Ear {
    /// The number of the next piece.
    number: u64,
    taken: u64,
    lines: Lines,
    /// What has come of a line that has not ended.
    open: Vec<u8>,
}

impl Ear {
    /// Tells a piece; whether more may come.
    fn take(&mut self, piece: &[u8], heard: &Mutex<Heard>) -> bool {
        let mut heard = lock(heard);
        let Heard { told, events: Some(events) } = &mut *heard else { return false };
        self.number += 1;
        self.taken += piece.len() as u64;
        self.open.extend_from_slice(piece);
        let mut size = self.lines.hear(piece, events);
        let is_full = self.taken >= SAID;
        if is_full {
            size += self.lines.end(events);
            super::tell_too_much(events);
        }
        told.extend(self.open.drain(..size as usize));
        !is_full
    }
}

/// Gives the piece of a name, as a [`Board`] does.
type Get<'g> = dyn Fn(&[&str]) -> Result<Option<Vec<u8>>, backend::Error> + 'g;

/// Looks for what a worker says and tells it, as long as `wait` says so, and no more than is shown of it.
fn hear(name: &str, get: &Get<'_>, heard: &Mutex<Heard>, wait: &dyn Fn() -> bool) {
    let (mut worker, mut ear, mut faults) = (None::<String>, Ear::default(), 0);
    for look in 0_u32.. {
        if !wait() {
            return;
        }
        if worker.is_none() || look % ASKS == 0 {
            match get(&[KIND, name]) {
                Ok(said) => {
                    let now =
                        said.and_then(|said| String::from_utf8(said).ok()).filter(|now| now.len() <= NAME);
                    if now.is_some() && now != worker {
                        (worker, ear) = (now, Ear::default());
                        lock(heard).told.clear();
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the worker cannot be heard");
                    faults += 1;
                }
            }
        }
        while let Some(worker) = worker.as_deref().filter(|_| is_wanted(heard)) {
            match get(&[KIND, name, worker, &ear.number.to_string()]) {
                // No worker leaves such a piece.
                Ok(Some(piece)) if piece.is_empty() || piece.len() > PIECE => return,
                Ok(Some(piece)) if ear.take(&piece, heard) => {}
                Ok(Some(_)) => return,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "the worker cannot be heard");
                    faults += 1;
                    break;
                }
            }
        }
        if faults >= FAULTS {
            return;
        }
    }
}

fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::getrandom(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A worker that leaves what it prints on standard error where it is heard, and prints it all the same.
pub struct Aloud {
    stderr: OwnedFd,
    is_over: Arc<AtomicBool>,
    prints: JoinHandle<()>,
}

/// What was said and is not left yet; `None` when nothing more is.
type Said = Mutex<Option<Vec<u8>>>;

impl Aloud {
    /// Begins that, if it is wanted in this folder, and can be.
    pub fn begin(folder: &Path) -> Option<Self> {
        let bytes = crate::rootfs::read_regular(&folder.join(FILE)).ok()?;
        let saying: Saying = serde_json::from_slice(&bytes).ok()?;
        let board = Board::at(engine(saying.at)?);
        let begun = Self::with(move |said| leave(&board, &saying.name, &said));
        begun.inspect_err(|error| tracing::debug!(%error, "nobody hears this")).ok()
    }

    fn with(leave: impl FnOnce(Arc<Said>) + Send + 'static) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let stderr = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
        let real = std::fs::File::from(stderr.try_clone()?);
        let (said, is_over): (Arc<Said>, Arc<AtomicBool>) =
            (Arc::new(Mutex::new(Some(Vec::new()))), Arc::default());
        let (its, over) = (Arc::clone(&said), Arc::clone(&is_over));
        let prints = std::thread::Builder::new().name("said".to_owned());
        let prints = prints.spawn(move || print(&reader.into(), &real, &its, &over))?;
        // It ends with the process.
        std::thread::Builder::new().name("left".to_owned()).spawn(move || leave(said))?;
        rustix::stdio::dup2_stderr(&writer)?;
        Ok(Self { stderr, is_over, prints })
    }

    /// From now on it only prints. What was said by then is printed.
    pub fn end(self) {
        let _ = rustix::stdio::dup2_stderr(&self.stderr);
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.prints.join();
    }
}

/// The engine as the worker's configuration has it, or else as the action does.
fn engine(named: Option<(String, String)>) -> Option<ReapiAt> {
    let own = match std::env::var(ENGINE) {
        Ok(text) if !text.is_empty() => Some(text),
        _ => std::fs::read_to_string(USUAL_ENGINE).ok(),
    };
    chosen(own, named)
}

fn chosen(own: Option<String>, named: Option<(String, String)>) -> Option<ReapiAt> {
    match own {
        Some(text) => {
            let engine = spec::engine(text.trim(), |_| false);
            // It may have a token in it.
            engine
                .inspect_err(|_| tracing::warn!("the worker's own engine is none that `--on` takes"))
                .ok()
                .map(|(at, _)| at)
        }
        None => named.map(|(endpoint, instance)| ReapiAt { endpoint, instance, ..ReapiAt::default() }),
    }
}

/// Prints what comes, and keeps it to be left, until it is over and nothing more comes.
fn print(pipe: &std::fs::File, mut stderr: &std::fs::File, said: &Said, is_over: &AtomicBool) {
    let (mut buffer, mut sum) = (vec![0; 64 << 10], 0_u64);
    let short = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    loop {
        let was_over = is_over.load(Ordering::Relaxed);
        let mut waits = [PollFd::new(pipe, PollFlags::IN)];
        match poll(&mut waits, Some(&short)) {
            // Somebody else may still have the other end.
            Ok(0) if was_over => return,
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let mut pipe = pipe;
        let size = match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(size) => size,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let _ = stderr.write_all(&buffer[..size]);
        // All that is shown, to the byte: whoever hears it knows by that when nothing more comes.
        let room = SAID.saturating_sub(sum).min(size as u64) as usize;
        sum += size as u64;
        if let Some(said) = lock(said).as_mut() {
            said.extend_from_slice(&buffer[..room]);
        }
    }
}

/// Leaves what is said, until the engine takes no more.
fn leave(board: &Board, name: &str, said: &Said) {
    let Ok(worker) = random() else { return };
    let mut number = 0_u64;
    loop {
        std::thread::sleep(EVERY);
        let fresh = lock(said).as_mut().map(std::mem::take).unwrap_or_default();
        for piece in fresh.chunks(PIECE) {
            let left =
                board.put(&[KIND, name, &worker, &number.to_string()], piece.to_vec()).and_then(|()| {
                    match number {
                        0 => board.put(&[KIND, name], worker.clone().into_bytes()),
                        _ => Ok(()),
                    }
                });
            if let Err(error) = left {
                tracing::debug!(%error, "what is said is not left");
                *lock(said) = None;
                return;
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::report::Event;

    fn at_of(text: &str) -> ReapiAt {
        spec::engine(text, |_| false).unwrap().0
    }

    #[test]
    fn what_is_secret_is_not_named_and_a_worker_may_know_better() {
        let at = at_of;
        let open = Saying::new(&at("reapi://host:1,instance=i")).unwrap();
        assert_eq!(open.at, Some(("grpc://host:1".to_owned(), "i".to_owned())));
        assert_ne!(open.name, Saying::new(&at("reapi://host:1")).unwrap().name);
        // Whatever needs a login or a certificate is the worker's own affair.
        for text in [
            "reapis://host:1,token=hidden",
            "reapis://host:1,header=x=hidden",
            "reapis://host:1,cert=hidden,key=hidden",
            "reapis://host:1,ca=hidden",
        ] {
            let bytes = Saying::new(&at(text)).unwrap().to_bytes();
            let told = String::from_utf8(bytes).unwrap();
            assert!(told.contains("\"at\":null") && !told.contains("hidden"), "{text}: {told}");
        }
        let named = || Some(("grpc://there:2".to_owned(), String::new()));
        assert_eq!(chosen(None, named()).unwrap().endpoint, "grpc://there:2");
        let own = chosen(Some("reapis://own:3,token=hidden\n".to_owned()), named()).unwrap();
        assert_eq!((own.endpoint.as_str(), own.headers.len()), ("grpcs://own:3", 1));
        // What is wrong there is not gone round.
        assert!(chosen(Some("own:3".to_owned()), named()).is_none());
        assert!(chosen(None, None).is_none());
    }

    /// What is told of a board's pieces, and how often it was looked.
    fn heard(pieces: &[(&[&str], Vec<u8>)], looks: usize) -> (Vec<u8>, Vec<String>, usize) {
        let (sender, told) = std::sync::mpsc::channel();
        let heard = Mutex::new(Heard { told: Vec::new(), events: Some(Events::new(sender)) });
        let left = std::cell::Cell::new(looks);
        let asked = std::cell::Cell::new(0);
        let get = |name: &[&str]| {
            asked.set(asked.get() + 1);
            Ok(pieces.iter().find(|(known, _)| *known == name).map(|(_, piece)| piece.clone()))
        };
        let wait = || left.replace(left.get().saturating_sub(1)) > 0;
        hear("n", &get, &heard, &wait);
        let bytes = Hearing(Arc::new(heard)).end();
        let line = |(_, event)| match event {
            Event::Note(text) => text,
            other => format!("{other:?}"),
        };
        (bytes, told.iter().map(line).collect(), asked.get())
    }

    #[test]
    fn what_is_heard_is_bounded_however_much_there_is() {
        let at = |number: &'static str| [KIND, "n", "w", number];
        let (zero, one, two) = (at("0"), at("1"), at("2"));
        let worker = (&[KIND, "n"][..], b"w".to_vec());
        let some = [worker.clone(), (&zero[..], b"one\ntw".to_vec()), (&one[..], b"o\nopen".to_vec())];
        // Its name, two pieces, and one that is not there; the next look asks for that alone.
        let (bytes, told, asked) = heard(&some, 2);
        assert_eq!((bytes.as_slice(), asked), (&b"one\ntwo\n"[..], 5));
        assert_eq!(told, ["worker: one", "worker: two"]);
        // Nobody leaves pieces that are so large, or empty: nothing is looked for behind them.
        for other in [vec![b'x'; PIECE + 1], Vec::new()] {
            let some = [
                worker.clone(),
                (&zero[..], b"one\n".to_vec()),
                (&one[..], other),
                (&two[..], b"no\n".to_vec()),
            ];
            let (bytes, told, asked) = heard(&some, 1000);
            assert_eq!((bytes.as_slice(), told.len(), asked), (&b"one\n"[..], 1, 3));
        }
        // A name that is none.
        assert_eq!(heard(&[(&[KIND, "n"], vec![b'w'; NAME + 1])], 3).2, 3);
        // More than is shown comes in one look.
        let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let names: Vec<[&str; 4]> = numbers.iter().map(|number| [KIND, "n", "w", number]).collect();
        let line = [vec![b'x'; PIECE - 1], b"\n".to_vec()].concat();
        let mut much: Vec<(&[&str], Vec<u8>)> = names.iter().map(|name| (&name[..], line.clone())).collect();
        much.push(worker);
        let (bytes, told, asked) = heard(&much, 1000);
        assert_eq!((bytes.len() as u64, asked as u64), (SAID, 1 + SAID / PIECE as u64));
        assert_eq!(told.last().unwrap(), "the worker says more than 4.2 MB, which is not shown");
    }

    #[test]
    fn nobody_waits_for_an_engine_that_says_nothing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = at_of(&format!("reapi://{}", listener.local_addr().unwrap()));
        let (sender, told) = std::sync::mpsc::channel();
        let events = Events::new(sender);
        let hearing = Saying::new(&at).unwrap().hear(&at, &events);
        // It is asked, and does not answer.
        let _asked = listener.accept().unwrap();
        drop(events);
        assert!(hearing.end().is_empty());
        // Whoever reads what is told sees its end, while the question still waits.
        assert!(told.iter().next().is_none());
        assert!(!is_wanted(&hearing.0));
    }
}
