//! The process above a plain step's command: the *keeper*.
//!
//! There is no pid namespace whose end would end everything, so the keeper does: it takes in all processes of the step that
//! lose their parents, and ends what is left when the command has ended, when rbuild asks for it, and when rbuild, the
//! zygote or the supervisor is gone. When the keeper itself is killed, the zygote takes its place.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::Mode;
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use super::child::{self, Ends, Given};
use super::furnish::Furnished;
use super::{members, supervisor};
use crate::exec::failure::{Doing as _, Failure};
use crate::exec::spec::{ExitReport, ExitStatus, RootSource};
use crate::exec::step::child::tell;
use crate::exec::sys::{self, pipe};
use crate::exec::wire::channel;
use crate::exec::wire::messages::{self, InitReport, Outcome, Progress, RunRequest};

/// How long a cancelled step has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(1500);

/// Runs one step, whose request comes over `socket`; gives what the zygote is to tell. `zygote` is a pipe that only the zygote
/// reads.
pub(in crate::exec) fn run(socket: &UnixStream, zygote: &OwnedFd) -> InitReport {
    let failed = |failure| InitReport { outcome: Outcome::Failed(failure), made: None };
    let run = || -> Result<InitReport, Failure> {
        let Some(given) = receive(socket)? else { std::process::exit(0) };
        let RootSource::Plain { dir } = &given.request.spec.root else {
            return Err(Failure::Setup {
                doing: "enter a root that is an overlay".into(),
                errno: libc::EINVAL,
            });
        };
        let mut root = Furnished::open(dir)?;
        let kept = root.fill(&given.request.spec).and_then(|cwd| keep(given, &root, &cwd, (socket, zygote)));
        // Whatever came before, nothing of rbuild's stays in the root.
        let put_back = root.take_out();
        kept.and_then(|kept| Ok(conclude(kept, put_back?)))
    };
    run().unwrap_or_else(failed)
}

fn receive(socket: &UnixStream) -> Result<Option<Given>, Failure> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .doing(|| "take in processes".into())?;
    // A session of its own: what is typed at rbuild's terminal is for rbuild.
    let _ = rustix::process::setsid();
    // What is put in place has the modes that are said.
    rustix::process::umask(Mode::empty());
    let doing = || "read the request".to_owned();
    let Some((request, files)) = channel::receive_with(socket).doing(doing)? else { return Ok(None) };
    let request: RunRequest = messages::decode(&request).map_err(std::io::Error::from).doing(doing)?;
    Ok(Some(Given { request, files }))
}

/// What a step came to.
struct Kept {
    /// What the command's process said before it became the command.
    said: Vec<u8>,
    ended: sys::Ended,
    usage: sys::Usage,
    supervisor_failed: bool,
    mapped: Vec<u64>,
    unseen: bool,
}

/// Starts command and supervisor, and waits until nothing of the step is left.
fn keep(
    given: Given,
    root: &Furnished,
    cwd: &OwnedFd,
    (socket, zygote): (&UnixStream, &OwnedFd),
) -> Result<Kept, Failure> {
    let proc = members::open_proc().doing(|| "open /proc".into())?;
    let ends = sys::child_ends().doing(|| "watch the step's processes".into())?;
    let (ours, theirs) = UnixStream::pair().doing(|| "make a socket".into())?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
    let keeper = std::process::id();
    let mapped = supervisor::Mapped::new().doing(|| "make a file in memory".into())?;
    let supervisor = match sys::fork().doing(|| "fork".into())? {
        sys::Fork::Child => {
            drop((ours, reader, writer));
            std::process::exit(i32::from(
                supervisor::run(&theirs, root, &given.request.spec, (keeper, &mapped)).is_err(),
            ));
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop(theirs);
    let command = match sys::fork().doing(|| "fork".into())? {
        sys::Fork::Child => {
            drop(reader);
            let ends = Ends { report: &writer, supervisor: &ours };
            let failure = child::run(given, root, cwd, &ends);
            tell(&writer, &Progress::Failed(failure));
            std::process::exit(127);
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop((writer, ours, given));
    let mut watch = Watch {
        proc,
        ends,
        progress: Some(reader),
        said: Vec::new(),
        supervisor,
        command,
        ended: None,
        deadline: None,
        supervisor_is_gone: false,
        supervisor_failed: false,
        mapped,
    };
    watch.follow(socket, zygote)?;
    watch.finish()
}

/// A step under way.
struct Watch {
    proc: OwnedFd,
    /// Becomes readable when a process of the step has ended.
    ends: OwnedFd,
    progress: Option<OwnedFd>,
    said: Vec<u8>,
    supervisor: Pid,
    command: Pid,
    ended: Option<(sys::Ended, sys::Usage)>,
    /// When a cancelled step is killed.
    deadline: Option<Instant>,
    supervisor_is_gone: bool,
    supervisor_failed: bool,
    mapped: supervisor::Mapped,
}

impl Watch {
    /// Until the command has ended, or there is a reason to end it.
    fn follow(&mut self, socket: &UnixStream, zygote: &OwnedFd) -> Result<(), Failure> {
        while self.ended.is_none() && !self.supervisor_failed {
            let [said, zygote_is_gone, ended, progressed] = self.wait(socket, zygote)?;
            if progressed {
                self.listen();
            }
            if ended {
                let _ = rustix::io::read(&self.ends, &mut [0; 1024]);
                self.reap();
            }
            let rbuild_is_gone = || said && !matches!(rustix::io::read(socket, &mut [0; 1]), Ok(1..));
            if zygote_is_gone || rbuild_is_gone() {
                return Ok(());
            }
            if said && self.deadline.is_none() {
                self.deadline = Some(Instant::now() + GRACE);
                self.ask_to_end();
            }
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn wait(&self, socket: &UnixStream, zygote: &OwnedFd) -> Result<[bool; 4], Failure> {
        let watch = |file, flags| PollFd::from_borrowed_fd(file, flags);
        let mut files = vec![
            watch(socket.as_fd(), PollFlags::IN),
            // The end of the reader shows as an error.
            watch(zygote.as_fd(), PollFlags::empty()),
            watch(self.ends.as_fd(), PollFlags::IN),
        ];
        files.extend(self.progress.as_ref().map(|file| watch(file.as_fd(), PollFlags::IN)));
        let timeout = self.deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match rustix::event::poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).doing(|| "wait".into()),
        }
        let happened = |at: usize| files.get(at).is_some_and(|file| !file.revents().is_empty());
        Ok([happened(0), happened(1), happened(2), happened(3)])
    }

    fn listen(&mut self) {
        let Some(file) = &self.progress else { return };
        if !matches!(pipe::read_some(file, &mut self.said), Ok(true)) {
            self.progress = None;
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, ended, usage))) = sys::reap() {
            if pid == self.command {
                self.ended = Some((ended, usage));
            } else if pid == self.supervisor {
                self.supervisor_is_gone = true;
                // It ends by itself when nobody is left who could ask.
                self.supervisor_failed = ended != sys::Ended::Code(0);
            }
        }
    }

    fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    fn ask_to_end(&self) {
        let (own, apart) = (std::process::id(), [self.supervisor_number()]);
        for pid in members::all_below(self.proc(), own, &apart) {
            let is_it = || members::is_below(self.proc(), pid, own, &apart);
            let _ = members::send(pid, libc::SIGTERM, is_it);
        }
    }

    fn supervisor_number(&self) -> u32 {
        self.supervisor.as_raw_nonzero().get() as u32
    }

    /// Ends what is left, the supervisor last: a process that waits for its answer can be killed meanwhile.
    fn finish(mut self) -> Result<Kept, Failure> {
        let apart = if self.supervisor_is_gone { vec![] } else { vec![self.supervisor_number()] };
        let own = std::process::id();
        loop {
            let left = members::all_below(self.proc(), own, &apart);
            self.reap();
            if left.is_empty() && self.ended.is_some() {
                break;
            }
            members::end(self.proc(), &left, own, &apart);
            self.reap();
        }
        if !self.supervisor_is_gone {
            let _ = rustix::process::kill_process(self.supervisor, rustix::process::Signal::KILL);
            let _ = sys::wait(self.supervisor);
        }
        while self.progress.is_some() {
            self.listen();
        }
        let (ended, usage) = self
            .ended
            .ok_or_else(|| Failure::Setup { doing: "wait for the command".into(), errno: libc::ECHILD })?;
        let (mapped, unseen) = self.mapped.noted().doing(|| "read which files were mapped".into())?;
        Ok(Kept { said: self.said, ended, usage, supervisor_failed: self.supervisor_failed, mapped, unseen })
    }
}

fn conclude(kept: Kept, put_back: Vec<PathBuf>) -> InitReport {
    let Kept { said, ended, usage, supervisor_failed, mapped, unseen } = kept;
    let failed = |failure| InitReport { outcome: Outcome::Failed(failure), made: None };
    let mut is_ready = false;
    for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match messages::decode(line) {
            Ok(Progress::Ready(_)) => is_ready = true,
            Ok(Progress::Failed(failure)) => return failed(failure),
            Ok(Progress::Received) | Err(_) => {}
        }
    }
    let status = match ended {
        // Without the process that answers for it a command cannot go on; what it did last is not known.
        _ if supervisor_failed => return failed(Failure::Killed { signal: libc::SIGKILL }),
        sys::Ended::Signal(signal) if !is_ready => return failed(Failure::Killed { signal }),
        sys::Ended::Code(code) if !is_ready => {
            let doing = format!("prepare the root (exit code {code})");
            return failed(Failure::Setup { doing, errno: libc::ECHILD });
        }
        sys::Ended::Code(code) => ExitStatus::Code(code),
        sys::Ended::Signal(signal) => ExitStatus::Signal(signal),
    };
    let report = ExitReport {
        status,
        user_time: usage.user,
        system_time: usage.system,
        peak_memory_bytes: usage.peak_memory_bytes,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
        network: None,
        out_of_memory: false,
        memory_limit_bytes: None,
        process_limit: None,
        special_owners: Vec::new(),
        put_back,
        mapped,
        unseen,
    };
    InitReport { outcome: Outcome::Exited(report), made: None }
}
