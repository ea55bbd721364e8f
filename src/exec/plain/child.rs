//! The process that enters a plain step's root and becomes its command.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;

use super::furnish::Furnished;
use crate::exec::failure::{Doing as _, Failure};
use crate::exec::host::console;
use crate::exec::seccomp::{self, Profile};
use crate::exec::spec::Spec;
use crate::exec::step::child::{is_of_files, set_limits, set_stdin, take_output, tell};
use crate::exec::step::stubs::Made;
use crate::exec::step::target::Stubs;
use crate::exec::step::{caps, start};
use crate::exec::wire::channel;
use crate::exec::wire::messages::{Progress, RunRequest, Stdin};
use crate::exec::{owners, sys};

/// What connects the process with its keeper.
pub(super) struct Ends<'a> {
    /// Is told before the command starts.
    pub(super) report: &'a OwnedFd,
    /// Takes the filter's listener to the supervisor.
    pub(super) supervisor: &'a UnixStream,
}

/// What a step was sent.
pub(super) struct Given {
    pub(super) request: RunRequest,
    /// Output, error output, and what the request's stdin speaks of.
    pub(super) files: Vec<OwnedFd>,
}

/// Does everything; returns only when it failed.
pub(super) fn run(given: Given, root: &Furnished, cwd: &OwnedFd, ends: &Ends<'_>) -> Failure {
    match enter_and_start(given, root, cwd, ends) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn enter_and_start(
    given: Given,
    root: &Furnished,
    cwd: &OwnedFd,
    ends: &Ends<'_>,
) -> Result<Infallible, Failure> {
    rustix::process::setsid().doing(|| "start a session".into())?;
    let own = start::Own::program().doing(|| "look at the program".into())?;
    let Given { request, files } = given;
    let spec = &request.spec;
    let given = take_output(files).doing(|| "take the output".into())?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    set_limits(spec.ulimits.iter().filter(|limit| !is_of_files(limit)))?;
    // The container's: a terminal and /dev/null are devices of its own, and may not be open in the step's root.
    let terminal = set_input(&request, given)?;
    rustix::process::fchdir(&root.directory).doing(|| "enter the root".into())?;
    rustix::process::chroot(".").doing(|| "change the root".into())?;
    confine(spec, terminal, ends)?;
    rustix::process::fchdir(cwd).doing(|| format!("enter {}", spec.cwd))?;
    tell(ends.report, &Progress::Ready(Made::new(&spec.root, Stubs::default())));
    sys::reset_signals();
    // Until it is executed, the command's path may lead through this process's own open files.
    sys::close_all_but(ends.report.as_fd());
    Err(start::start(spec, own))
}

/// Gives the number of the terminal, if it is one.
fn set_input(request: &RunRequest, given: Option<OwnedFd>) -> Result<Option<u32>, Failure> {
    match (request.stdin, given) {
        (Stdin::Terminal { rows, columns }, Some(socket)) => {
            let owner = request.spec.credentials.uid;
            console::give(socket, (rows, columns), owner).doing(|| "make a terminal".into()).map(Some)
        }
        (_, given) => set_stdin(request, given).map(|()| None),
    }
}

/// Limits of open files, capabilities, Landlock, the filter. From the filter on, the supervisor answers.
fn confine(spec: &Spec, terminal: Option<u32>, ends: &Ends<'_>) -> Result<(), Failure> {
    set_limits(spec.ulimits.iter().filter(|limit| is_of_files(limit)))?;
    caps::keep_inside_chroot().doing(|| "set capabilities".into())?;
    rustix::thread::set_no_new_privs(true).doing(|| "give up new privileges".into())?;
    let inside = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let inside = inside.doing(|| "open the root".into())?;
    sys::landlock::confine(inside.as_fd()).doing(|| "keep to the root by Landlock".into())?;
    // The supervisor reads what this process calls with; others can until it executes.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .doing(|| "let the supervisor read".into())?;
    owners::carry(0, 0).doing(|| "carry an identity".into())?;
    let listener = sys::install_asking_filter(seccomp::compiled(Profile::Plain));
    let listener = listener.map_err(|error| refused(&error))?;
    let terminal = terminal.map(u32::to_le_bytes);
    let terminal = terminal.as_ref().map_or(&[][..], |number| &number[..]);
    channel::send(ends.supervisor, terminal, Some(listener.as_fd())).doing(|| "hand over the listener".into())
}

/// Why there is no listener, as far as that can be told.
fn refused(error: &std::io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let doing = match seccomp::why_nobody_listens(error) {
        Some(why) => format!("have a program of rbuild's answer system calls (seccomp): {why}"),
        None => "install the seccomp filter".to_owned(),
    };
    Failure::Setup { doing, errno }
}
