//! The process above a step's command.
//!
//! The *init* is PID 1 of a pid namespace; the zygote starts it, often before there is a step for it. It starts the
//! command in a second pid namespace, so that the command is PID 1 of its own and sees neither of them,
//! and watches the socket to rbuild: when rbuild dies, however it dies, the init ends, and the kernel
//! ends everything below it. A command that is itself what rbuild started would not do: the kernel clears
//! a death signal when credentials change.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::MountPropagationFlags;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::child;
use crate::exec::failure::{Doing as _, Failure};
use crate::exec::host::pids::Watch;
use crate::exec::network::{self, pasta};
use crate::exec::owners::{self, Listening};
use crate::exec::seccomp::{self, Profile};
use crate::exec::spec::{ExitReport, ExitStatus, Network, ProcessLimit, Security};
use crate::exec::sys::{self, pipe};
use crate::exec::wire::messages::{self, InitConfig, InitReport, Outcome, Progress};
use crate::report::Traffic;
use crate::rootfs::SpecialOwner;

/// How long a cancelled step has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(1500);

/// Runs one step, whose request comes over `socket`; gives what the zygote is to tell.
pub(in crate::exec) fn run(socket: &UnixStream, config: &InitConfig) -> InitReport {
    run_command(socket, config)
        .unwrap_or_else(|failure| InitReport { outcome: Outcome::Failed(failure), made: None })
}

fn run_command(socket: &UnixStream, config: &InitConfig) -> Result<InitReport, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "set the death signal".into())?;
    if config.is_held && !is_told_something(socket) {
        std::process::exit(1);
    }
    let own_pids = leave_namespaces(config)?;
    let counters = (config.network != Network::Host).then(network::Counters::open).flatten();
    // Where it shows others, this also keeps a step from the memory, files and variables of those that run beside it.
    let sees_others = config.network == Network::Host || config.shares_proc;
    if config.security == Security::Sandbox && sees_others {
        // Here, so that sockets which are made in the command's place are within the same bounds as its own.
        sys::landlock::scope_abstract_sockets().doing(|| "close off abstract sockets".into())?;
    }
    let supervisor = if !config.privilege.has_other_ids() { Some(owners::start()?) } else { None };
    sys::unshare(UnshareFlags::NEWPID).doing(|| "make a pid namespace for the command".into())?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
    let profile = Profile::of(config.privilege, config.network, config.security)
        .filter(|profile| supervisor.is_none() && seccomp::asks(seccomp::compiled(*profile)));
    let sockets = profile.map(|_| UnixStream::pair()).transpose().doing(|| "make a socket".into())?;
    let command = match sys::fork().doing(|| "fork".into())? {
        sys::Fork::Child => {
            drop(reader);
            let supervisor = supervisor.as_ref().map(|supervisor| &supervisor.socket);
            let sockets = sockets.as_ref().map(|(_, theirs)| theirs);
            let ends = child::Ends { rbuild: socket, report: &writer, supervisor, sockets };
            let failure = child::run(config, ends);
            child::tell(&writer, &Progress::Failed(failure));
            std::process::exit(127);
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop(writer);
    // Nothing but the command and what it starts is for the inner namespace.
    rustix::thread::move_into_link_name_space(own_pids.as_fd(), Some(LinkNameSpaceType::ProcessID))
        .doing(|| "leave the command's pid namespace".into())?;
    config.bound.set_for_users()?;
    let sockets = profile.zip(sockets.map(|(ours, _)| Listening::Awaited(ours.into())));
    let (said, bomb) = watch(socket, command, &reader, sockets)?;
    let (ended, usage) = sys::wait(command).doing(|| "wait for the command".into())?;
    let special_owners = supervisor.map(owners::Handle::finish).unwrap_or_default();
    let network = counters.and_then(network::Counters::read);
    Ok(conclude(&said, ended, (usage, network), special_owners, bomb))
}

/// Makes the namespaces that init and command share; gives the init's own pid namespace.
fn leave_namespaces(config: &InitConfig) -> Result<OwnedFd, Failure> {
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    if config.network != Network::Host {
        flags |= UnshareFlags::NEWNET;
    }
    let pasta = config.pasta.as_deref().map(pasta::Outside::start).transpose()?;
    sys::unshare(flags).doing(|| "make namespaces".into())?;
    pasta.map_or(Ok(()), pasta::Outside::connect)?;
    // What is unmounted outside is unmounted here, too, until the command has its root: an init that waits for its step
    // keeps no file system of the machine busy.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .doing(|| "make mounts private".into())?;
    config.bound.set_for_namespace();
    let own = std::fs::File::open("/proc/self/ns/pid").doing(|| "open the pid namespace".into())?;
    Ok(own.into())
}

/// Waits until the command has ended, and collects what it said before it became the command; tells also whether it was
/// refused a process. Exits when rbuild is gone.
fn watch(
    socket: &UnixStream,
    command: Pid,
    progress: &OwnedFd,
    mut sockets: Option<(Profile, Listening)>,
) -> Result<(Vec<u8>, bool), Failure> {
    let pidfd =
        rustix::process::pidfd_open(command, PidfdFlags::empty()).doing(|| "watch the command".into())?;
    let mut said = Vec::new();
    let mut has_said_all = false;
    let mut stage = Stage::Waiting;
    loop {
        let Happened { progressed, asked, ended, about_sockets } = {
            let listener = sockets.as_ref().map(|(_, listening)| listening.file());
            let progress = (!has_said_all).then_some(progress.as_fd());
            wait_for(&pidfd, (socket, stage.has_request()), [progress, listener], stage.wake())?
        };
        if about_sockets && !ended {
            sockets = sockets.and_then(|(profile, listening)| Some(profile).zip(listening.go_on(profile)));
        }
        if progressed {
            has_said_all = !pipe::read_some(progress, &mut said).doing(|| "hear from the command".into())?;
            if !said.is_empty() {
                stage = stage.begin();
            }
        }
        if asked {
            if !stage.has_request() || !is_told_something(socket) {
                std::process::exit(1);
            }
            sys::kill_all(libc::SIGTERM);
            stage = stage.end();
        }
        if !ended && stage.is_over() {
            sys::kill_all(libc::SIGKILL);
        }
        if ended {
            while !has_said_all {
                has_said_all =
                    !pipe::read_some(progress, &mut said).doing(|| "hear from the command".into())?;
            }
            return Ok((said, stage.was_refused_a_process()));
        }
    }
}

/// How far a step is.
enum Stage {
    /// The command's process has no request yet: there is nothing to limit, and what comes over the socket is not for the
    /// init.
    Waiting,
    /// It has one.
    Running(Watch),
    /// It was asked to end, and has until then.
    Ending(Watch, Instant),
}

impl Stage {
    fn has_request(&self) -> bool {
        !matches!(self, Stage::Waiting)
    }

    fn begin(self) -> Self {
        match self {
            Stage::Waiting => Stage::Running(Watch::new()),
            begun => begun,
        }
    }

    fn end(self) -> Self {
        match self {
            Stage::Waiting => Stage::Waiting,
            Stage::Running(processes) => Stage::Ending(processes, Instant::now() + GRACE),
            ending @ Stage::Ending(..) => ending,
        }
    }

    /// When to look again though nothing has happened.
    fn wake(&self) -> Option<Instant> {
        match self {
            Stage::Waiting => None,
            Stage::Running(processes) => Some(processes.next()),
            Stage::Ending(processes, deadline) => Some(processes.next().min(*deadline)),
        }
    }

    /// Whether there is no more patience with it: it only runs into its limit of processes, or did not end in time.
    fn is_over(&mut self) -> bool {
        match self {
            Stage::Waiting => false,
            Stage::Running(processes) => processes.look(),
            Stage::Ending(processes, deadline) => processes.look() || *deadline <= Instant::now(),
        }
    }

    fn was_refused_a_process(&self) -> bool {
        match self {
            Stage::Waiting => false,
            Stage::Running(processes) | Stage::Ending(processes, _) => processes.was_refused,
        }
    }
}

/// Of what an init waits for.
struct Happened {
    progressed: bool,
    asked: bool,
    ended: bool,
    about_sockets: bool,
}

/// Polls. Of the socket, only its end counts unless `listening` to it.
fn wait_for(
    pidfd: &OwnedFd,
    (socket, listening): (&UnixStream, bool),
    [progress, listener]: [Option<BorrowedFd<'_>>; 2],
    wake: Option<Instant>,
) -> Result<Happened, Failure> {
    let from_socket = if listening { PollFlags::IN } else { PollFlags::empty() };
    let mut files: Vec<PollFd<'_>> = [(pidfd.as_fd(), PollFlags::IN), (socket.as_fd(), from_socket)]
        .into_iter()
        .chain([progress, listener].into_iter().flatten().map(|file| (file, PollFlags::IN)))
        .map(|(file, flags): (BorrowedFd<'_>, PollFlags)| PollFd::from_borrowed_fd(file, flags))
        .collect();
    let timeout = wake.map(|wake| {
        let left = wake.saturating_duration_since(Instant::now());
        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
    });
    match rustix::event::poll(&mut files, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno).doing(|| "wait".into()),
    }
    let mut happened = files.iter().map(|file| !file.revents().is_empty());
    let mut next_if = |is_there: bool| is_there && happened.next().unwrap_or_default();
    Ok(Happened {
        ended: next_if(true),
        asked: next_if(true),
        progressed: next_if(progress.is_some()),
        about_sockets: next_if(listener.is_some()),
    })
}

/// Any byte asks for an end, or lets a held init begin; the end of file means that rbuild is gone.
fn is_told_something(socket: &UnixStream) -> bool {
    matches!(rustix::io::read(socket, &mut [0; 1]), Ok(1..))
}

fn conclude(
    said: &[u8],
    ended: sys::Ended,
    (usage, network): (sys::Usage, Option<Traffic>),
    special_owners: Vec<SpecialOwner>,
    refused_a_process: bool,
) -> InitReport {
    let mut made = None;
    for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match messages::decode(line) {
            Ok(Progress::Ready(ready)) => made = Some(ready),
            Ok(Progress::Failed(failure)) => return InitReport { outcome: Outcome::Failed(failure), made },
            Ok(Progress::Received) | Err(_) => {}
        }
    }
    if made.is_none() {
        let failure = match ended {
            sys::Ended::Signal(signal) => Failure::Killed { signal },
            sys::Ended::Code(code) => {
                Failure::Setup { doing: format!("prepare the root (exit code {code})"), errno: libc::ECHILD }
            }
        };
        return InitReport { outcome: Outcome::Failed(failure), made };
    }
    let status = match ended {
        sys::Ended::Code(code) => ExitStatus::Code(code),
        sys::Ended::Signal(signal) => ExitStatus::Signal(signal),
    };
    // rbuild knows the number.
    let process_limit = refused_a_process.then_some(ProcessLimit { most: 0, was_reached: Some(true) });
    let report = ExitReport {
        status,
        user_time: usage.user,
        system_time: usage.system,
        peak_memory_bytes: usage.peak_memory_bytes,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
        network,
        out_of_memory: false,
        memory_limit_bytes: None,
        process_limit,
        special_owners,
        put_back: Vec::new(),
        mapped: Vec::new(),
        unseen: false,
    };
    InitReport { outcome: Outcome::Exited(report), made }
}
