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
use crate::exec::network::pasta;
use crate::exec::owners::{self, Listening};
use crate::exec::seccomp::{self, Profile};
use crate::exec::spec::{ExitReport, ExitStatus, Network, ProcessLimit, Security};
use crate::exec::sys::{self, pipe};
use crate::exec::wire::order::{self, InitReport, Outcome, Preparation, Progress};
use crate::rootfs::SpecialOwner;

/// How long a cancelled step has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(1500);

/// Runs one step, whose order comes over `socket`; gives what the zygote is to tell.
pub(in crate::exec) fn run(socket: &UnixStream, preparation: &Preparation) -> InitReport {
    run_command(socket, preparation)
        .unwrap_or_else(|failure| InitReport { outcome: Outcome::Failed(failure), made: None })
}

fn run_command(socket: &UnixStream, preparation: &Preparation) -> Result<InitReport, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "set the death signal".into())?;
    if preparation.is_held && !is_told_something(socket) {
        std::process::exit(1);
    }
    let own_pids = leave_namespaces(preparation)?;
    if preparation.security == Security::Sandbox && preparation.network == Network::Host {
        // Here, so that sockets which are made in the command's place are within the same bounds as its own.
        sys::scope_abstract_sockets().doing(|| "close off abstract sockets".into())?;
    }
    let keeper = if !preparation.privilege.has_other_ids() { Some(owners::start()?) } else { None };
    sys::unshare(UnshareFlags::NEWPID).doing(|| "make a pid namespace for the command".into())?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
    let profile = Profile::of(preparation.privilege, preparation.network, preparation.security)
        .filter(|profile| keeper.is_none() && seccomp::asks(seccomp::compiled(*profile)));
    let sockets = profile.map(|_| UnixStream::pair()).transpose().doing(|| "make a socket".into())?;
    let command = match sys::fork().doing(|| "fork".into())? {
        sys::Fork::Child => {
            drop(reader);
            let keeper = keeper.as_ref().map(|keeper| &keeper.socket);
            let sockets = sockets.as_ref().map(|(_, theirs)| theirs);
            let ends = child::Ends { rbuild: socket, report: &writer, keeper, sockets };
            let failure = child::run(preparation, ends);
            child::tell(&writer, &Progress::Failed(failure));
            std::process::exit(127);
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop(writer);
    // Nothing but the command and what it starts is for the inner namespace.
    rustix::thread::move_into_link_name_space(own_pids.as_fd(), Some(LinkNameSpaceType::ProcessID))
        .doing(|| "leave the command's pid namespace".into())?;
    preparation.bound.set_for_users()?;
    let sockets = profile.zip(sockets.map(|(ours, _)| Listening::Awaited(ours.into())));
    let (said, bomb) = watch(socket, command, &reader, sockets)?;
    let (ended, usage) = sys::wait(command).doing(|| "wait for the command".into())?;
    let special_owners = keeper.map(owners::Handle::finish).unwrap_or_default();
    Ok(conclude(&said, ended, usage, special_owners, bomb))
}

/// Makes the namespaces that init and command share; gives the init's own pid namespace.
fn leave_namespaces(preparation: &Preparation) -> Result<OwnedFd, Failure> {
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    if preparation.network != Network::Host {
        flags |= UnshareFlags::NEWNET;
    }
    let pasta = preparation.pasta.as_deref().map(pasta::Outside::start).transpose()?;
    sys::unshare(flags).doing(|| "make namespaces".into())?;
    pasta.map_or(Ok(()), pasta::Outside::connect)?;
    // What is unmounted outside goes here, too, for as long as nothing runs: nobody is kept from taking a disk out.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .doing(|| "make mounts private".into())?;
    preparation.bound.set_for_namespace();
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
    let mut deadline: Option<Instant> = None;
    let mut listening = true;
    // Before it has read its order there is nothing to limit, and what comes over the socket is not for us.
    let mut processes: Option<Watch> = None;
    loop {
        let Happened { progressed, asked, ended, about_sockets } = {
            let look = processes.as_ref().map(Watch::next);
            let wake = deadline.into_iter().chain(look).min();
            let listener = sockets.as_ref().map(|(_, listening)| listening.file());
            let progress = listening.then_some(progress.as_fd());
            wait_for(&pidfd, (socket, processes.is_some()), [progress, listener], wake)?
        };
        if about_sockets && !ended {
            sockets = sockets.and_then(|(profile, listening)| Some(profile).zip(listening.go_on(profile)));
        }
        if progressed {
            listening = pipe::read_some(progress, &mut said).doing(|| "hear from the command".into())?;
            if !said.is_empty() {
                processes.get_or_insert_with(Watch::new);
            }
        }
        if asked {
            if processes.is_none() || !is_told_something(socket) {
                std::process::exit(1);
            }
            sys::kill_all(libc::SIGTERM);
            deadline.get_or_insert_with(|| Instant::now() + GRACE);
        }
        let is_hopeless = !ended && processes.as_mut().is_some_and(Watch::look);
        if is_hopeless || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            sys::kill_all(libc::SIGKILL);
        }
        if ended {
            while listening {
                listening = pipe::read_some(progress, &mut said).doing(|| "hear from the command".into())?;
            }
            return Ok((said, processes.is_some_and(|processes| processes.was_refused)));
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
    usage: sys::Usage,
    special_owners: Vec<SpecialOwner>,
    refused_a_process: bool,
) -> InitReport {
    let mut made = None;
    for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match order::decode(line) {
            Ok(Progress::Ready(ready)) => made = Some(ready),
            Ok(Progress::Failed(failure)) => return InitReport { outcome: Outcome::Failed(failure), made },
            Ok(Progress::Ordered) | Err(_) => {}
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
        out_of_memory: false,
        memory_limit_bytes: None,
        process_limit,
        special_owners,
    };
    InitReport { outcome: Outcome::Exited(report), made }
}
