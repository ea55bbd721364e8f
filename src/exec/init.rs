//! The two processes above a step's command.
//!
//! The *supervisor* is rbuild re-executed: it enters the user namespace, starts the *init* as PID 1 of a
//! pid namespace, and when that is gone, and the mounts with it, cleans up and reports. The init starts the
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

use super::failure::{Doing as _, Failure};
use super::order::{Ids, InitReport, Order, Outcome, Progress, Stdin};
use super::pids::Watch;
use super::spec::{ExitReport, ExitStatus, Network, ProcessLimit, RootSource};
use super::target::Stubs;
use super::{channel, child, fuse, owners, pasta, pipe, stubs, sys, userns};
use crate::rootfs::SpecialOwner;

/// How long a cancelled step has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(1500);

/// The supervisor: one message in, one message out.
pub(super) fn supervise(socket: &UnixStream) -> Result<(), Failure> {
    let doing = || "read the order".to_owned();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing(doing)?;
    let Some((bytes, namespace)) = channel::receive(socket).doing(doing)? else { return Ok(()) };
    let order: Order = serde_json::from_slice(&bytes).map_err(std::io::Error::from).doing(doing)?;
    let stdin = match order.stdin {
        Stdin::Nothing => None,
        Stdin::File | Stdin::Terminal { .. } => channel::receive(socket).doing(doing)?.and_then(|m| m.1),
    };
    let report = match run_init(socket, &order, namespace, stdin) {
        Ok(report) => report,
        Err(failure) => InitReport { outcome: Outcome::Failed(failure), stubs: Stubs::default() },
    };
    stubs::remove(&order.spec.root, &report.stubs);
    let bytes = serde_json::to_vec(&report.outcome).map_err(std::io::Error::from).doing(doing)?;
    // When rbuild is gone nobody waits for this.
    let _ = channel::send(socket, &bytes, None);
    Ok(())
}

fn run_init(
    socket: &UnixStream,
    order: &Order,
    namespace: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
) -> Result<InitReport, Failure> {
    if let Some(namespace) = namespace {
        userns::enter(&namespace, order.ids).doing(|| "enter the user namespace".into())?;
        // Changed credentials have cleared it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing(|| "stay bound".into())?;
    }
    sys::unshare(UnshareFlags::NEWPID).doing(|| "make a pid namespace".into())?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
    let init = match sys::fork().doing(|| "fork".into())? {
        sys::Fork::Child => {
            drop(reader);
            let report = init(socket, order, stdin).unwrap_or_else(|failure| InitReport {
                outcome: Outcome::Failed(failure),
                stubs: Stubs::default(),
            });
            let bytes = serde_json::to_vec(&report).unwrap_or_default();
            let sent = pipe::write_all(&writer, &bytes);
            std::process::exit(i32::from(sent.is_err()));
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop((writer, stdin));
    sys::release_output().doing(|| "release the output".into())?;
    let mut bytes = Vec::new();
    let read = std::io::Read::read_to_end(&mut std::fs::File::from(reader), &mut bytes);
    let (ended, _) = sys::wait(init).doing(|| "wait for the init".into())?;
    read.doing(|| "hear from the init".into())?;
    serde_json::from_slice(&bytes)
        .map_err(|_| Failure::Setup { doing: format!("hear from the init ({ended:?})"), errno: libc::ECHILD })
}

/// PID 1 of the outer namespace.
fn init(socket: &UnixStream, order: &Order, stdin: Option<OwnedFd>) -> Result<InitReport, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "set the death signal".into())?;
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    if order.spec.network != Network::Host {
        flags |= UnshareFlags::NEWNET;
    }
    let pasta = order.pasta.as_deref().map(pasta::Outside::start).transpose()?;
    sys::unshare(flags).doing(|| "make namespaces".into())?;
    pasta.map_or(Ok(()), pasta::Outside::connect)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make mounts private".into())?;
    order.bound.set_for_namespace();
    let own_pids = std::fs::File::open("/proc/self/ns/pid").doing(|| "open the pid namespace".into())?;
    let mut flags = UnshareFlags::NEWPID;
    if let RootSource::Fuse { program, lowers, upper, work, merged } = &order.spec.root {
        fuse::serve(&fuse::Mount { program, lowers, upper, work, merged })?;
        // The server goes on in the mounts as they are: the command's pivot_root would take its root away.
        flags |= UnshareFlags::NEWNS;
    }
    let keeper = if order.ids == Ids::Single { Some(owners::start(&order.spec)?) } else { None };
    sys::unshare(flags).doing(|| "make namespaces for the command".into())?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
    let command = match sys::fork().doing(|| "fork".into())? {
        sys::Fork::Child => {
            drop(reader);
            let keeper = keeper.as_ref().map(|keeper| &keeper.socket);
            let failure = child::run(order, child::Ends { report: &writer, keeper, stdin });
            child::tell(&writer, &Progress::Failed(failure));
            std::process::exit(127);
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop((writer, stdin));
    // Nothing but the command and what it starts is for the inner namespace.
    rustix::thread::move_into_link_name_space(own_pids.as_fd(), Some(LinkNameSpaceType::ProcessID))
        .doing(|| "leave the command's pid namespace".into())?;
    order.bound.set_for_users()?;
    sys::release_output().doing(|| "release the output".into())?;
    let (said, bomb) = watch(socket, command, &reader)?;
    let (ended, usage) = sys::wait(command).doing(|| "wait for the command".into())?;
    let special_owners = keeper.map(owners::Handle::finish).unwrap_or_default();
    Ok(conclude(&said, ended, usage, special_owners, bomb))
}

/// Waits until the command has ended, and collects what it said before it became the command; tells also whether it was
/// refused a process. Exits when rbuild is gone.
fn watch(socket: &UnixStream, command: Pid, progress: &OwnedFd) -> Result<(Vec<u8>, bool), Failure> {
    let pidfd =
        rustix::process::pidfd_open(command, PidfdFlags::empty()).doing(|| "watch the command".into())?;
    let mut said = Vec::new();
    let mut deadline: Option<Instant> = None;
    let mut listening = true;
    let mut processes = Watch::new();
    loop {
        let (progressed, asked, ended) = {
            let wake = deadline.map_or(processes.next(), |deadline| deadline.min(processes.next()));
            wait_for(&pidfd, socket, listening.then_some(progress), wake)?
        };
        if progressed {
            listening = pipe::read_some(progress, &mut said).doing(|| "hear from the command".into())?;
        }
        if asked {
            if !is_asked_to_stop(socket) {
                std::process::exit(1);
            }
            sys::kill_all(libc::SIGTERM);
            deadline.get_or_insert_with(|| Instant::now() + GRACE);
        }
        let is_hopeless = !ended && processes.look();
        if is_hopeless || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            sys::kill_all(libc::SIGKILL);
        }
        if ended {
            while listening {
                listening = pipe::read_some(progress, &mut said).doing(|| "hear from the command".into())?;
            }
            return Ok((said, processes.was_refused));
        }
    }
}

/// Polls; tells about progress, the socket, and the command, in this order.
fn wait_for(
    pidfd: &OwnedFd,
    socket: &UnixStream,
    progress: Option<&OwnedFd>,
    wake: Instant,
) -> Result<(bool, bool, bool), Failure> {
    let mut files: Vec<PollFd<'_>> = [pidfd.as_fd(), socket.as_fd()]
        .into_iter()
        .chain(progress.map(AsFd::as_fd))
        .map(|file: BorrowedFd<'_>| PollFd::from_borrowed_fd(file, PollFlags::IN))
        .collect();
    let left = wake.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match rustix::event::poll(&mut files, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno).doing(|| "wait".into()),
    }
    let happened = |index: usize| files.get(index).is_some_and(|file| !file.revents().is_empty());
    Ok((happened(2), happened(1), happened(0)))
}

/// Any byte asks for an end; the end of file means that rbuild is gone.
fn is_asked_to_stop(socket: &UnixStream) -> bool {
    matches!(rustix::io::read(socket, &mut [0; 16]), Ok(1..))
}

fn conclude(
    said: &[u8],
    ended: sys::Ended,
    usage: sys::Usage,
    special_owners: Vec<SpecialOwner>,
    refused_a_process: bool,
) -> InitReport {
    let mut stubs = Stubs::default();
    let mut ready = false;
    for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(Progress::Ready(made)) => {
                stubs = made;
                ready = true;
            }
            Ok(Progress::Failed(failure)) => return InitReport { outcome: Outcome::Failed(failure), stubs },
            Err(_) => {}
        }
    }
    if !ready {
        let failure = Failure::Setup { doing: format!("prepare the root ({ended:?})"), errno: libc::ECHILD };
        return InitReport { outcome: Outcome::Failed(failure), stubs };
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
    InitReport { outcome: Outcome::Exited(report), stubs }
}
