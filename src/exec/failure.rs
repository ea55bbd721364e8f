//! What went wrong, inside a step's processes and outside.

use std::io;

use serde::{Deserialize, Serialize};

use super::spec::Spec;
use crate::exec::host::cgroup::CgroupError;
use crate::exec::host::userns::UsernsError;

/// Why a step's process could not be started, as told by the processes that tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    /// The root's overlay was refused.
    Overlay { errno: i32, log: String },
    /// The program could not be executed.
    Start { program: String, errno: i32 },
    /// The program is there, and what the kernel runs it with is not.
    NoLoader { program: String, loader: String },
    /// pasta does not connect the network.
    Pasta { message: String },
    /// A signal ended a process around the step, or the one that prepared it.
    Killed { signal: i32 },
    /// Something else on the way.
    Setup { doing: String, errno: i32 },
}

/// Why a step has no exit status.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The program is not in the root.
    #[error("`{program}` was not found in the root file system{}", if program.contains('/') { "" } else { " along PATH" })]
    NotFound {
        /// As given.
        program: String,
    },
    /// The program is there, and its interpreter is not: a script's, or the loader of shared libraries.
    #[error(
        "`{program}` is there, but what it runs with is not: `{loader}` was not found in the root file system{}",
        loader_hint(loader)
    )]
    NoLoader {
        /// Its path.
        program: String,
        /// As the program names it.
        loader: String,
    },
    /// The program is there and cannot be executed.
    #[error("`{program}` cannot be executed: {error}")]
    NotExecutable {
        /// As given.
        program: String,
        /// The kernel's word.
        error: io::Error,
    },
    /// The program is no executable of this machine's architecture.
    #[error("`{program}` is no program that this machine can run ({platform})")]
    WrongFormat {
        /// As given.
        program: String,
        /// What the step is for.
        platform: String,
    },
    /// The kernel refuses an overlay here; the caller may fall back to a copied tree.
    #[error("the kernel refuses an overlay mount: {error}{}{log}", if log.is_empty() { "" } else { ": " })]
    Overlay {
        /// The kernel's word.
        error: io::Error,
        /// What it said besides.
        log: String,
    },
    /// A mount, a namespace or the like was refused.
    #[error("cannot {doing}: {error}")]
    Setup {
        /// Such as `mount /proc`.
        doing: String,
        /// The kernel's word.
        error: io::Error,
    },
    /// A step was tried, and what every step needs was refused; in words.
    #[error("no RUN works here: {0}")]
    Barred(String),
    /// Something that needs namespaces or mounts, and steps have none here.
    #[error("{what} cannot be had in this container; {help}")]
    NotHere {
        /// What was asked for.
        what: String,
        /// How to go on.
        help: String,
    },
    /// The program for `--network pasta` is missing.
    #[error("`--network pasta` needs the program `pasta` (package `passt`), which is not installed")]
    NoPasta,
    /// That program failed.
    #[error("`pasta` cannot connect the step's network: {0}")]
    Pasta(String),
    /// There is no user namespace to run in.
    #[error(transparent)]
    Userns(#[from] UsernsError),
    /// Limits were asked for that cannot be set.
    #[error("cannot limit a step: {0}")]
    Limits(#[from] CgroupError),
    /// rbuild could not start or reach its own copy.
    #[error("cannot start a step: {0}")]
    Spawn(#[from] io::Error),
    /// A signal ended one of the processes around the step: mostly because memory ran out.
    #[error("{}", killed_text(*signal, *out_of_memory))]
    Killed {
        /// Its number.
        signal: i32,
        /// The kernel counted a process killed for want of memory meanwhile.
        out_of_memory: bool,
    },
    /// The processes around the step vanished without a word.
    #[error("the processes around the step ended without a report; were they killed?")]
    Vanished,
    /// The worker that did a job vanished without a word.
    #[error("a worker ended without an answer; was it killed?")]
    WorkerVanished,
    /// A value that cannot be passed on, such as a path that is no UTF-8.
    #[error("cannot describe the step: {0}")]
    Encoding(#[from] serde_json::Error),
    /// [`super::Executor::cancel_all`] was called.
    #[error("cancelled")]
    Cancelled,
    /// A worker's job failed.
    #[error("{0}")]
    Job(String),
}

fn killed_text(signal: i32, out_of_memory: bool) -> String {
    match (signal, out_of_memory) {
        (libc::SIGKILL, true) => "memory ran out, and the kernel killed a process around the step".to_owned(),
        (libc::SIGKILL, false) => {
            "a process around the step was killed (SIGKILL): by somebody, or because memory ran out"
                .to_owned()
        }
        _ => format!("signal {signal} ended a process around the step"),
    }
}

/// What the name of a missing interpreter tells.
fn loader_hint(loader: &str) -> String {
    let name = loader.rsplit('/').next().unwrap_or(loader);
    let library = match name {
        _ if name.ends_with('\r') => return "; the script has line ends of Windows (CRLF)".to_owned(),
        _ if name.starts_with("ld-musl-") => "musl, as in Alpine",
        _ if name.starts_with("ld-linux") || name.starts_with("ld64.so") => "glibc, as in Debian or Fedora",
        _ => return String::new(),
    };
    let help = "link it statically, or use such a base";
    format!("; the program was linked for {library}, and for the architecture that the name says: {help}")
}

impl ExecError {
    /// Whether this machine, or the container that rbuild is in, refuses what every step needs.
    pub fn is_of_the_machine(&self) -> bool {
        matches!(self, Self::Setup { .. } | Self::Barred(_) | Self::Userns(_))
    }

    pub(super) fn new(failure: Failure, spec: &Spec) -> Self {
        match failure {
            Failure::Start { program, errno: libc::ENOEXEC } => {
                ExecError::WrongFormat { program, platform: spec.platform.to_string() }
            }
            failure => Self::without_spec(failure),
        }
    }

    /// Of something that is no step, too.
    pub(super) fn without_spec(failure: Failure) -> Self {
        let os = io::Error::from_raw_os_error;
        match failure {
            Failure::Overlay { errno, log } => ExecError::Overlay { error: os(errno), log },
            // pasta itself does not say why.
            Failure::Pasta { message } if message.contains("tun socket") => {
                ExecError::Pasta(format!("{message}; this user must be able to open /dev/net/tun"))
            }
            Failure::Pasta { message } => ExecError::Pasta(message),
            Failure::Killed { signal } => ExecError::Killed { signal, out_of_memory: false },
            Failure::Setup { doing, errno } => ExecError::Setup { doing, error: os(errno) },
            Failure::NoLoader { program, loader } => ExecError::NoLoader { program, loader },
            Failure::Start { program, errno: libc::ENOENT | libc::ENOTDIR } => {
                ExecError::NotFound { program }
            }
            Failure::Start { program, errno } => ExecError::NotExecutable { program, error: os(errno) },
        }
    }
}

/// Says what was being done when a call failed.
pub(super) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::Setup {
            doing: what(),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })
    }
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure::Setup { doing: what(), errno: errno.raw_os_error() })
    }
}
