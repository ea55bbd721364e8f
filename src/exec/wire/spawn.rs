//! Starts re-executed copies of rbuild, all from one thread that never ends: a death signal is bound to
//! the thread that started a process, not to the whole of rbuild.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

/// A started copy. Its standard input is the other end of `socket`.
#[derive(Debug)]
pub(in crate::exec) struct Process {
    pub(in crate::exec) child: Child,
    pub(in crate::exec) socket: UnixStream,
}

impl Process {
    /// Starts a copy in a role, its output going nowhere.
    pub(in crate::exec) fn start(program: &Path, role: &'static str) -> io::Result<Self> {
        Self::start_with(program, role, (Stdio::null(), Stdio::inherit()))
    }

    /// Starts a copy in a role with these as output and error output.
    pub(in crate::exec) fn start_with(
        program: &Path,
        role: &'static str,
        (output, errors): (Stdio, Stdio),
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.arg0(role).env_clear().stdin(OwnedFd::from(theirs)).stdout(output).stderr(errors);
        Ok(Self { child: spawn(command)?, socket: ours })
    }
}

type Request = (Command, Sender<io::Result<Child>>);

/// Hands a command to the spawner thread.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, receiver) = channel::<Request>();
        let serve = move || {
            for (mut command, reply) in receiver {
                let child = command.spawn();
                // Our copies of the child's files must not outlive the start, or its end is never seen.
                drop(command);
                let _ = reply.send(child);
            }
        };
        let started = std::thread::Builder::new().name("spawner".into()).spawn(serve);
        // Without the thread the receiver is gone, and every request fails below.
        drop(started);
        sender
    });
    let (reply, answer) = channel();
    let gone = || io::Error::other("the spawner thread could not be started");
    spawner.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}
