//! RUN --mount=type=ssh: an agent on a socket of our own, for one step.
//!
//! Behind it is the user's agent, or the keys of files. Either way a step can list keys and have something
//! signed, and nothing else: it cannot add, remove or lock keys. Private keys never leave this process.

mod keys;
mod protocol;

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};

use self::keys::Keys;
use self::protocol::{read, refusal, write};
use crate::solve::SshSource;

/// Why there is no agent for a step.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    /// A key file cannot be used.
    #[error("cannot use the key `{path}`: {reason}")]
    Key {
        /// As it was named.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The user's agent does not answer.
    #[error("cannot reach the agent at `{path}`: {error}")]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// The kernel's word.
        error: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot make a socket for the agent: {0}")]
    Socket(#[from] io::Error),
}

/// What answers.
enum Backend {
    Forward(PathBuf),
    Own(Keys),
}

/// A socket that is answered on until this is dropped.
pub(in crate::solve) struct Agent {
    pub(super) path: PathBuf,
    /// Closing it ends the thread.
    wake: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Starts to answer at `agent` in `folder`, which nobody else can enter.
    pub(super) fn start(source: &SshSource, folder: &Path) -> Result<Self, AgentError> {
        let backend = match source {
            SshSource::Agent(path) => {
                let unreachable = |error| AgentError::Unreachable { path: path.clone(), error };
                UnixStream::connect(path).map_err(unreachable)?;
                Backend::Forward(path.clone())
            }
            SshSource::Keys(paths) => Backend::Own(Keys::load(paths)?),
        };
        let path = folder.join("agent");
        let listener = bind(folder)?;
        listener.set_nonblocking(true)?;
        let (stopped, wake) = io::pipe()?;
        let backend = Arc::new(backend);
        let serve = move || serve(&listener, &stopped, &backend);
        let thread = std::thread::Builder::new().name("ssh agent".into()).spawn(serve)?;
        Ok(Self { path, wake: Some(wake), thread: Some(thread) })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // It holds nothing that a panic could have left half done.
            let _ = thread.join();
        }
    }
}

/// The names of sockets are short, those of stores need not be: the way there is an open folder.
fn bind(folder: &Path) -> io::Result<UnixListener> {
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    UnixListener::bind(format!("/proc/self/fd/{}/agent", folder.as_raw_fd()))
}

fn serve(listener: &UnixListener, stopped: &io::PipeReader, backend: &Arc<Backend>) {
    loop {
        let mut files = [
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
        ];
        if !matches!(rustix::event::poll(&mut files, None), Ok(_) | Err(rustix::io::Errno::INTR)) {
            return;
        }
        if !files[1].revents().is_empty() {
            return;
        }
        let Ok((client, _)) = listener.accept() else { continue };
        let backend = Arc::clone(backend);
        let converse = move || {
            let _ = client.set_nonblocking(false);
            // A client that goes away, or talks nonsense, is its own affair.
            let _ = converse(&client, &backend);
        };
        // Without a thread the client sees its connection closed.
        let _ = std::thread::Builder::new().name("ssh client".into()).spawn(converse);
    }
}

/// Answers one client until it hangs up.
fn converse(client: &UnixStream, backend: &Backend) -> io::Result<()> {
    let upstream = match backend {
        Backend::Forward(path) => Some(UnixStream::connect(path)?),
        Backend::Own(_) => None,
    };
    while let Some(request) = read(client)? {
        let answer = match (backend, &upstream) {
            _ if !protocol::is_harmless(&request) => refusal(),
            (Backend::Own(keys), _) => keys.answer(&request).unwrap_or_else(refusal),
            (Backend::Forward(_), Some(upstream)) => {
                write(upstream, &request)?;
                read(upstream)?.unwrap_or_else(refusal)
            }
            (Backend::Forward(_), None) => refusal(),
        };
        write(client, &answer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
