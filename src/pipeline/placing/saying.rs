//! What a worker says while it builds, where its engine has no streams for that: in pieces of a few seconds, which lie in the engine's cache.
//!
//! ```text
//! "rbuild-log/1" NAME            which worker speaks
//! "rbuild-log/1" NAME WORKER N   what it said, from piece 0 on
//! ```
//!
//! NAME is among what the action reads, and nobody's to guess; a build that is begun anew has another WORKER. The worker has to reach the
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
use crate::shared_cache::backend::Board;
use crate::shared_cache::spec::{self, ReapiAt};
use crate::sync::lock;

/// The file among what an action reads.
pub(super) const FILE: &str = "saying.json";
const KIND: &str = "rbuild-log/1";
/// How often a worker leaves what it said, and somebody looks.
const EVERY: Duration = Duration::from_secs(2);
/// Of so many looks one asks whether another worker speaks.
const ASKS: u32 = 5;
/// After so many faults nobody looks any more.
const FAULTS: u32 = 3;
/// How often it is looked whether to go on.
const LOOK: Duration = Duration::from_millis(100);
/// A piece has so many bytes at most.
const PIECE: usize = 256 << 10;
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

    /// Tells what a worker says until nobody wants that any more, and keeps what was told.
    pub(super) fn hear(
        &self,
        at: &ReapiAt,
        events: &Events,
        heard: &Mutex<Vec<u8>>,
        goes_on: &dyn Fn() -> bool,
    ) {
        let board = Board::at(at.clone());
        let (mut worker, mut lines) = (None::<String>, Lines::default());
        // What has come of a line that has not ended.
        let (mut number, mut faults, mut said) = (0_u64, 0, Vec::new());
        for look in 0_u32.. {
            let until = Instant::now() + EVERY;
            while Instant::now() < until {
                if !goes_on() {
                    return;
                }
                std::thread::sleep(LOOK);
            }
            if worker.is_none() || look % ASKS == 0 {
                let known = board
                    .get(&[KIND, &self.name])
                    .map(|said| said.and_then(|said| String::from_utf8(said).ok()));
                match known {
                    Ok(Some(now)) if worker.as_ref() != Some(&now) => {
                        worker = Some(now);
                        (number, lines, said) = (0, Lines::default(), Vec::new());
                        lock(heard).clear();
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the worker cannot be heard");
                        faults += 1;
                    }
                }
            }
            while let Some(worker) = worker.as_deref().filter(|_| goes_on()) {
                match board.get(&[KIND, &self.name, worker, &number.to_string()]) {
                    Ok(Some(piece)) => {
                        number += 1;
                        said.extend_from_slice(&piece);
                        let told = said.drain(..lines.hear(&piece, events) as usize);
                        lock(heard).extend(told);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "the worker cannot be heard");
                        faults += 1;
                        break;
                    }
                }
            }
            if faults >= FAULTS || lock(heard).len() as u64 >= SAID {
                return;
            }
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
    let (mut buffer, mut sum) = (vec![0; 64 << 10], 0);
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
        sum += size as u64;
        let mut said = lock(said);
        if let Some(said) = said.as_mut().filter(|_| sum <= SAID) {
            said.extend_from_slice(&buffer[..size]);
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

    #[test]
    fn what_is_secret_is_not_named_and_a_worker_may_know_better() {
        let at = |text: &str| spec::engine(text, |_| false).unwrap().0;
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
}
