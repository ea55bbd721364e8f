//! Ctrl-C: ends a build's steps, gives it a moment to clean up, and then goes without it.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::face::hangup;
use crate::exec::{Signals, Stop};

/// So long may a build take to end after it was told to: steps are killed within two seconds.
const PATIENCE: Duration = Duration::from_millis(2300);
/// Builds recurse into folders and expressions as deep as the main thread could.
const STACK_BYTES: usize = 16 << 20;

/// How work ended that may be interrupted.
pub(super) enum Ended<T> {
    /// It ran to its end.
    Done(T),
    /// It was interrupted by this signal, and has ended.
    Interrupted(i32),
    /// It was interrupted, and did not end in time; whatever it still does ends with the process.
    Abandoned(i32),
}

enum Happened<T> {
    Done(T),
    Signal(i32),
}

/// Does `work` in a thread of its own. At the first signal, `stop` is told; work that is done in spite of it counts as
/// done if `is_done` says so. A second signal ends the patience. To be called before threads are started.
pub(super) fn guard<T: Send + 'static>(
    signals: Signals,
    stop: &Stop,
    is_done: impl Fn(&T) -> bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Ended<T>> {
    let (sender, receiver) = channel();
    let done: Sender<Happened<T>> = sender.clone();
    let hung_up: Sender<Happened<T>> = sender.clone();
    let body = move || drop(done.send(Happened::Done(work())));
    std::thread::Builder::new().name("build".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        loop {
            let signal = signals.wait();
            if sender.send(Happened::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    hangup(move || drop(hung_up.send(Happened::Signal(libc::SIGINT))));
    Ok(match receiver.recv() {
        Ok(Happened::Done(result)) => Ended::Done(result),
        Ok(Happened::Signal(signal)) => {
            stop.all();
            after(signal, &receiver, is_done)
        }
        // The work's thread is gone without a word: it panicked, and said so.
        Err(_) => Ended::Abandoned(libc::SIGABRT),
    })
}

fn after<T>(signal: i32, receiver: &Receiver<Happened<T>>, is_done: impl Fn(&T) -> bool) -> Ended<T> {
    let deadline = Instant::now() + PATIENCE;
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Happened::Done(result)) if is_done(&result) => Ended::Done(result),
        Ok(Happened::Done(_)) => Ended::Interrupted(signal),
        Ok(Happened::Signal(_)) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Ended::Abandoned(signal)
        }
    }
}
