//! What a re-executed copy of rbuild does instead of reading its command line.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use super::zygote;
use crate::exec::host::userns;
use crate::exec::host::worker::{self, Jobs};

pub(super) const ZYGOTE: &str = "rbuild-zygote";
pub(super) const USERNS: &str = "rbuild-userns";
pub(in crate::exec) const WORKER: &str = "rbuild-worker";

/// Which part of a build this process plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Forks the processes of steps.
    Zygote,
    /// Stands in a new user namespace until it is mapped.
    Userns,
    /// Runs jobs inside the user namespace, each in a thread.
    Worker,
}

/// The role of this process: its argument 0 when rbuild started itself, and nobody else passes those.
///
/// To be asked first thing in `main`, while there is only one thread.
pub fn role_from_args() -> Option<Role> {
    match std::env::args_os().next()?.to_str()? {
        ZYGOTE => Some(Role::Zygote),
        USERNS => Some(Role::Userns),
        WORKER => Some(Role::Worker),
        _ => None,
    }
}

impl Role {
    /// Plays it to the end. `jobs` are what [`crate::exec::Executor::run_job`] can name.
    pub fn run(self, jobs: Jobs) -> ExitCode {
        // Ctrl-C is for rbuild, which then cancels its steps in order, not for each of their processes.
        let _ = rustix::process::setsid();
        let _ = rustix::thread::set_name(c"rbuild-step");
        // The socket moves away from descriptor 0, which children would inherit.
        let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(std::io::stdin().as_fd(), 3) else {
            return ExitCode::FAILURE;
        };
        let null = std::fs::File::open("/dev/null");
        if null.is_ok_and(|null| rustix::stdio::dup2_stdin(null).is_err()) {
            return ExitCode::FAILURE;
        }
        let socket = UnixStream::from(socket);
        let done = match self {
            Role::Zygote => zygote::serve(socket).is_ok(),
            Role::Userns => userns::hold(&socket).is_ok(),
            Role::Worker => worker::serve(&socket, jobs).is_ok(),
        };
        if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
