//! The zygote's own side.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use crate::exec::failure::{Doing as _, Failure};
use crate::exec::host::userns;
use crate::exec::plain;
use crate::exec::privilege::Privilege;
use crate::exec::seccomp::{self, Profile};
use crate::exec::step::memory::{self, Memory};
use crate::exec::step::{init, stubs};
use crate::exec::sys::{self, pipe};
use crate::exec::wire::messages::{InitReport, Mounted, Outcome, ZygoteRequest};
use crate::exec::wire::{channel, messages};

/// Starts inits as rbuild asks for them, until that is gone or wants no more.
pub(in crate::exec) fn serve(control: UnixStream) -> io::Result<()> {
    let bind = || rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    bind()?;
    let Some((privilege, namespace)) = channel::receive(&control)? else { return Ok(()) };
    let privilege: Privilege = messages::decode(&privilege)?;
    if privilege == Privilege::Plain {
        plain::guard()?;
    }
    let entered = match namespace {
        // Changed credentials clear the death signal.
        Some(namespace) => userns::enter(&namespace, privilege).and_then(|()| bind()),
        None => Ok(()),
    };
    let entered = entered.doing(|| "enter the user namespace".into());
    let mut steps: Vec<Step> = Vec::new();
    let mut has_own_mounts = false;
    while let Some((request, socket)) = next_request(&control, &mut steps)? {
        let config = match request {
            ZygoteRequest::Init(config) => config,
            ZygoteRequest::Mount(memory) => {
                let mounted = entered.clone().and_then(|()| mount(&memory, &mut has_own_mounts));
                answer_mount(&socket, mounted);
                continue;
            }
            ZygoteRequest::Unmount(at) => {
                memory::unmount(&at);
                continue;
            }
        };
        // Once for all steps of a kind.
        Profile::of(config.privilege, config.network, config.security).map(seccomp::compiled);
        let forked = entered.clone().and_then(|()| fork(config.privilege));
        match forked {
            Ok(Forked::Zygote { init, pidfd, report }) => {
                if config.is_held {
                    // Who is gone does not wait for it.
                    let _ = (&socket).write_all(&init.as_raw_nonzero().get().to_le_bytes());
                }
                let privilege = config.privilege;
                steps.push(Step { init, pidfd, report: Some(report), said: Vec::new(), socket, privilege });
            }
            Ok(Forked::Init { report }) => {
                // Of other steps nothing is kept open here.
                drop((control, steps));
                let ended = match config.privilege {
                    Privilege::Plain => plain::run(&socket, &report),
                    Privilege::Root | Privilege::Ranges | Privilege::Single => init::run(&socket, &config),
                };
                let said = serde_json::to_vec(&ended).unwrap_or_default();
                let sent = pipe::write_all(&report, &said);
                std::process::exit(i32::from(sent.is_err()));
            }
            Err(failure) => tell(&socket, &Outcome::Failed(failure)),
        }
    }
    // What is still there is prewarmed, or has nobody to report to; each init takes along what is below it. A keeper ends by
    // itself, as nothing would take along what is below it.
    for step in steps.iter().filter(|_| privilege != Privilege::Plain) {
        let _ = rustix::process::kill_process(step.init, Signal::KILL);
    }
    while let Some(step) = steps.pop() {
        let ended = sys::wait(step.init);
        step.clear(&ended, &steps);
    }
    Ok(())
}

/// The first time this leaves the mount namespace of the machine.
fn mount(wanted: &Memory, has_own_mounts: &mut bool) -> Result<[OwnedFd; 2], Failure> {
    if !*has_own_mounts {
        memory::leave_mounts()?;
        *has_own_mounts = true;
    }
    memory::mount(wanted)
}

/// rbuild that is gone needs no answer.
fn answer_mount(socket: &UnixStream, mounted: Result<[OwnedFd; 2], Failure>) {
    let (answer, files): (Mounted, Vec<OwnedFd>) = match mounted {
        Ok(files) => (Ok(()), files.into()),
        Err(failure) => (Err(failure), Vec::new()),
    };
    let bytes = serde_json::to_vec(&answer).expect("plain data with string keys always serialises");
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let _ = channel::send_with(socket, &bytes, &files);
}

/// Both sides of a fork.
enum Forked {
    Zygote { init: Pid, pidfd: OwnedFd, report: OwnedFd },
    Init { report: OwnedFd },
}

/// A started init.
struct Step {
    init: Pid,
    pidfd: OwnedFd,
    /// Until it was read to its end.
    report: Option<OwnedFd>,
    said: Vec<u8>,
    socket: UnixStream,
    privilege: Privilege,
}

/// The next request, and the socket over which to answer or to talk to the init; deals with steps that end meanwhile. `None` when rbuild has closed its end.
fn next_request(
    control: &UnixStream,
    steps: &mut Vec<Step>,
) -> io::Result<Option<(ZygoteRequest, UnixStream)>> {
    loop {
        let happened = wait(control, steps)?;
        for (at, (said, ended)) in happened.steps.into_iter().enumerate().rev() {
            if said {
                steps[at].listen();
            }
            if ended {
                let step = steps.swap_remove(at);
                step.end(steps);
            }
        }
        if happened.control {
            let Some((request, socket)) = channel::receive(control)? else { return Ok(None) };
            let socket = UnixStream::from(socket.ok_or(io::ErrorKind::InvalidData)?);
            return Ok(Some((messages::decode(&request)?, socket)));
        }
    }
}

/// What can be read.
struct Happened {
    control: bool,
    /// For each step: its report, and its end.
    steps: Vec<(bool, bool)>,
}

fn wait(control: &UnixStream, steps: &[Step]) -> io::Result<Happened> {
    let watch = |file| PollFd::from_borrowed_fd(file, PollFlags::IN);
    let mut files = vec![watch(control.as_fd())];
    for step in steps {
        files.push(watch(step.pidfd.as_fd()));
        files.extend(step.report.as_ref().map(|report| watch(report.as_fd())));
    }
    match rustix::event::poll(&mut files, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut polled = files.iter().map(|file| !file.revents().is_empty());
    let control = polled.next() == Some(true);
    let steps = steps.iter().map(|step| {
        let ended = polled.next() == Some(true);
        (step.report.is_some() && polled.next() == Some(true), ended)
    });
    Ok(Happened { control, steps: steps.collect() })
}

/// Starts an init, in a pid namespace of its own where there are any.
fn fork(privilege: Privilege) -> Result<Forked, Failure> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
    let forked = match privilege {
        Privilege::Plain => sys::fork_with_pidfd().doing(|| "fork".into())?,
        Privilege::Root | Privilege::Ranges | Privilege::Single => {
            sys::fork_into_pid_namespace().doing(|| "make a pid namespace".into())?
        }
    };
    match forked {
        (sys::Fork::Parent(init), Some(pidfd)) => Ok(Forked::Zygote { init, pidfd, report: reader }),
        (sys::Fork::Child | sys::Fork::Parent(_), _) => Ok(Forked::Init { report: writer }),
    }
}

impl Step {
    /// Ends what an init left that could not do so itself.
    fn clear(&self, ended: &io::Result<(sys::Ended, sys::Usage)>, others: &[Step]) {
        if self.privilege == Privilege::Plain && !matches!(ended, Ok((sys::Ended::Code(0), _))) {
            plain::end_strays(&others.iter().map(|step| step.init).collect::<Vec<_>>());
        }
    }

    fn listen(&mut self) {
        let Some(report) = &self.report else { return };
        if !matches!(pipe::read_some(report, &mut self.said), Ok(true)) {
            self.report = None;
        }
    }

    /// The init is gone: reports, when nothing is left of the step but its changes.
    fn end(mut self, others: &[Step]) {
        let ended = sys::wait(self.init);
        // What a keeper that was killed has left may hold the report open, so that its end never comes.
        self.clear(&ended, others);
        while self.report.is_some() {
            self.listen();
        }
        let report = messages::decode(&self.said).unwrap_or_else(|_| {
            let failure = match ended {
                Ok((sys::Ended::Signal(signal), _)) => Failure::Killed { signal },
                Ok((sys::Ended::Code(code), _)) => Failure::Setup {
                    doing: format!("hear from the init (exit code {code})"),
                    errno: libc::ECHILD,
                },
                Err(error) => {
                    Failure::Setup { doing: format!("wait for the init ({error})"), errno: libc::ECHILD }
                }
            };
            InitReport { outcome: Outcome::Failed(failure), made: None }
        });
        report.made.iter().for_each(stubs::remove);
        tell(&self.socket, &report.outcome);
    }
}

/// When rbuild is gone nobody waits for this.
fn tell(socket: &UnixStream, outcome: &Outcome) {
    let bytes = serde_json::to_vec(outcome).expect("plain data with string keys always serialises");
    let _ = channel::send(socket, &bytes, None);
}
