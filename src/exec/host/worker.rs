//! Jobs that run as root of the user namespace, in a re-executed copy of rbuild: unpacking a layer with its
//! owners, reading an upper directory, removing a tree.
//!
//! One *worker* does all jobs of an executor, each in a thread of its own; what one has learnt can serve the next.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::Mutex;

use rustix::process::Signal;

use super::program::Program;
use super::{probe, userns};
use crate::exec::privilege::Privilege;
use crate::exec::step::memory;
use crate::exec::wire::messages;
use crate::exec::wire::spawn::Process;
use crate::exec::wire::{channel, role};
use crate::sync::lock;

/// A job: bytes in, bytes or a message out.
pub type Job = fn(&[u8]) -> Result<Vec<u8>, String>;

/// Jobs by name. The upper modules own them; this one only runs them.
pub type Jobs = &'static [(&'static str, Job)];

/// A running worker.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    /// `None` when there will be no more jobs.
    socket: Mutex<Option<UnixStream>>,
}

impl Worker {
    /// Starts it; it enters the namespace.
    pub(super) fn start(
        program: &Program,
        privilege: Privilege,
        namespace: Option<BorrowedFd<'_>>,
    ) -> io::Result<Self> {
        let output = (Stdio::null(), Stdio::inherit());
        let Process { child, socket } = Process::start_with(&program.0, role::WORKER, output)?;
        channel::send(&socket, &serde_json::to_vec(&privilege)?, namespace)?;
        Ok(Self { child, socket: Mutex::new(Some(socket)) })
    }

    /// Does a job, in the mount namespace `mounts` if there is one; `None` when the worker is gone.
    pub(super) fn run(
        &self,
        job: &str,
        input: &[u8],
        mounts: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<Result<Vec<u8>, String>>> {
        let (ours, theirs) = UnixStream::pair()?;
        let sent = match &*lock(&self.socket) {
            Some(socket) => {
                let theirs = OwnedFd::from(theirs);
                let files: Vec<_> = std::iter::once(theirs.as_fd()).chain(mounts).collect();
                channel::send_with(socket, job.as_bytes(), &files)
            }
            None => return Ok(None),
        };
        // One that is gone does not listen, either.
        let answer = match sent.and_then(|()| channel::send(&ours, input, None)) {
            Ok(()) => channel::receive(&ours)?,
            Err(_) => None,
        };
        let Some((mut answer, _)) = answer else { return Ok(None) };
        Ok(match answer.first() {
            Some(0) => Some(Ok(answer.split_off(1))),
            Some(_) => Some(Err(String::from_utf8_lossy(&answer[1..]).into_owned())),
            None => None,
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        lock(&self.socket).take();
        let _ = self.child.wait();
    }
}

/// The worker's side. Each message brings a job's name, a socket and perhaps the mount namespace to do it in. Over the socket one more message comes (the input) and one
/// goes (a first byte 0 and the result, or 1 and a message). Ends when rbuild's end closes, whatever is going on: a second
/// belt besides the death signal.
pub(in crate::exec) fn serve(control: &UnixStream, jobs: Jobs) -> io::Result<()> {
    let bind = || rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    bind()?;
    let Some((privilege, namespace)) = channel::receive(control)? else { return Ok(()) };
    let privilege: Privilege = messages::decode(&privilege)?;
    if let Some(namespace) = namespace {
        userns::enter(&namespace, privilege)?;
        bind()?;
    }
    while let Some((name, files)) = channel::receive_with(control)? {
        let mut files = files.into_iter();
        let Some(socket) = files.next().map(UnixStream::from) else { break };
        let mounts = files.next();
        std::thread::Builder::new().name("job".into()).spawn(move || {
            // Nobody waits for the answer any more.
            let _ = answer(&socket, &name, mounts, jobs);
        })?;
    }
    std::process::exit(0)
}

fn answer(socket: &UnixStream, name: &[u8], mounts: Option<OwnedFd>, jobs: Jobs) -> io::Result<()> {
    let Some((input, _)) = channel::receive(socket)? else { return Ok(()) };
    let entered = mounts.map_or(Ok(()), |mounts| memory::enter(mounts.as_fd()));
    let result = match find(name, jobs) {
        Some(job) => entered
            .map_err(|error| format!("cannot enter the mounts of steps: {error}"))
            .and_then(|()| job(&input)),
        None => Err(format!("no job is named `{}`", String::from_utf8_lossy(name))),
    };
    let mut answer = vec![u8::from(result.is_err())];
    match result {
        Ok(bytes) => answer.extend(bytes),
        Err(message) => answer.extend(message.into_bytes()),
    }
    channel::send(socket, &answer, None)
}

fn find(name: &[u8], jobs: Jobs) -> Option<Job> {
    let own: Jobs = &[(probe::OVERLAY_JOB, probe::try_overlay)];
    own.iter().chain(jobs).find(|(known, _)| known.as_bytes() == name).map(|(_, job)| *job)
}
