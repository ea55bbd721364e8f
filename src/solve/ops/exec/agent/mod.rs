//! RUN --mount=type=ssh: an agent on a socket of our own, for one step.
//!
//! Behind it is the user's agent, or the keys of files. Either way a step can list keys and have something
//! signed, and nothing else: it cannot add, remove or lock keys. Private keys never leave this process.
//!
//! A step may connect as often as it likes: [`mod@serve`] answers a few clients at once, and others wait.

mod keys;
pub mod protocol;
mod serve;

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};

use self::keys::Keys;
use self::serve::{Limits, serve};
use crate::solve::SshSource;

/// Why there is no agent for a step.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A key file cannot be used.
    #[error("cannot use the key `{path}`: {reason}")]
    Key {
        /// As it was named.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The list of keys would be longer than a client takes.
    #[error("the keys and their comments are too long together: {0} bytes")]
    TooMany(usize),
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
        Self::start_with(source, folder, Limits::USUAL)
    }

    fn start_with(source: &SshSource, folder: &Path, limits: Limits) -> Result<Self, AgentError> {
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
        let serve = move || serve(&listener, &stopped, &backend, limits);
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

#[cfg(test)]
mod tests;
