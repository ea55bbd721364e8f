//! Jobs that run as root of the user namespace, in a re-executed copy of rbuild: unpacking a layer with its
//! owners, reading an upper directory, removing a tree.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::order::Ids;
use super::{channel, probe, userns};

/// A job: bytes in, bytes or a message out.
pub type Job = fn(&[u8]) -> Result<Vec<u8>, String>;

/// Jobs by name. The upper modules own them; this one only runs them.
pub type Jobs = &'static [(&'static str, Job)];

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) job: String,
    pub(super) ids: Ids,
}

/// The worker's side: two messages in (name, input), one out (a first byte 0 and the result, or 1 and a message).
pub(super) fn serve(socket: &UnixStream, jobs: Jobs) -> io::Result<()> {
    let bind = || rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    bind()?;
    let Some((head, namespace)) = channel::receive(socket)? else { return Ok(()) };
    let request: Request = serde_json::from_slice(&head)?;
    let Some((input, _)) = channel::receive(socket)? else { return Ok(()) };
    if let Some(namespace) = namespace {
        userns::enter(&namespace, request.ids)?;
        bind()?;
    }
    end_with(socket)?;
    let result = match find(&request.job, jobs) {
        Some(job) => job(&input),
        None => Err(format!("no job is named `{}`", request.job)),
    };
    let mut answer = vec![u8::from(result.is_err())];
    match result {
        Ok(bytes) => answer.extend(bytes),
        Err(message) => answer.extend(message.into_bytes()),
    }
    channel::send(socket, &answer, None)
}

fn find(name: &str, jobs: Jobs) -> Option<Job> {
    let own: Jobs = &[(probe::OVERLAY_JOB, probe::try_overlay)];
    own.iter().chain(jobs).find(|(known, _)| *known == name).map(|(_, job)| *job)
}

/// A second belt besides the death signal: the worker ends when rbuild's end of the socket closes.
fn end_with(socket: &UnixStream) -> io::Result<()> {
    let mut socket = socket.try_clone()?;
    std::thread::Builder::new().name("lifeline".into()).spawn(move || {
        // rbuild sends nothing more: whatever ends this read, it is over.
        let _ = io::Read::read(&mut socket, &mut [0]);
        std::process::exit(1);
    })?;
    Ok(())
}
