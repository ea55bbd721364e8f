//! Owners for a user with one id.
//!
//! In a user namespace of a single id everything belongs to root, and there is nobody else to become. The
//! *owner supervisor*, a process beside the init, makes it look otherwise: the step's seccomp filter passes it the
//! calls that change or tell owners and identities (seccomp_unotify(2)), and it answers for the kernel.
//!
//! Owners are written down with the files (see [`crate::rootfs::RecordedOwner`]). Who a process is, it
//! carries itself: as the soft limit of its resident set, which Linux has not minded since 2.4 and which is
//! inherited by children and kept by exec; the number in it is that of an [`identity::Identity`].
//!
//! Nothing here protects anything. The processes of a step have root's rights in their namespace, whoever they
//! believe to be; a process that fools the supervisor fools itself. What does protect is in [`sockets`]: with one id and without, calls
//! of 32-bit programs that no filter can judge are answered here, too.

mod call;
pub(in crate::exec) mod caller;
mod create;
pub(in crate::exec) mod files;
mod identities;
pub(in crate::exec) mod identity;
pub(in crate::exec) mod notify;
pub(in crate::exec) mod numbers;
mod records;
mod sockets;

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

pub(super) use self::call::{CARRIER, Call, WATCHED, When};
use self::identity::{Identities, Identity};
pub(super) use self::notify::carry;
use self::notify::{Answer, Question};
use self::records::Records;
pub(super) use self::records::set as set_attribute;
pub(super) use self::sockets::Listening;
use super::failure::{Doing as _, Failure};
use super::seccomp::{self, Profile};
use super::spec::{OwnedPath, Spec};
use super::sys::{self, pipe};
use super::wire::channel;
use crate::exec::host::user::Credentials;
use crate::rootfs::{FileId, RecordedOwner, SpecialOwner};

/// A running supervisor, as the init sees it.
pub(super) struct Handle {
    pid: Pid,
    /// For the command: what it sends its filter's listener through.
    pub(super) socket: UnixStream,
    report: OwnedFd,
}

/// What the supervisor learns of a step, with the listener.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    credentials: Credentials,
    owned_paths: Vec<OwnedPath>,
}

/// Starts the supervisor of a step. To be called before the command's pid namespace is made: the supervisor must
/// see the command, and the command must not see the supervisor.
pub(super) fn start() -> Result<Handle, Failure> {
    let (ours, theirs) = UnixStream::pair().doing(|| "make a socket".into())?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
    match sys::fork().doing(|| "fork".into())? {
        sys::Fork::Child => {
            drop((ours, reader));
            let special = keep(&theirs).unwrap_or_default();
            let bytes = serde_json::to_vec(&special).unwrap_or_default();
            let sent = pipe::write_all(&writer, &bytes);
            std::process::exit(i32::from(sent.is_err()));
        }
        sys::Fork::Parent(pid) => Ok(Handle { pid, socket: ours, report: reader }),
    }
}

impl Handle {
    /// Waits for the supervisor, which ends with the last process of the step, and takes what it alone knows.
    pub(super) fn finish(self) -> Vec<SpecialOwner> {
        drop(self.socket);
        let mut bytes = Vec::new();
        while let Ok(true) = pipe::read_some(&self.report, &mut bytes) {}
        let _ = sys::wait(self.pid);
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

/// The command's side: hands its listener to the supervisor.
pub(super) fn hand_over(socket: &UnixStream, listener: &OwnedFd, spec: &Spec) -> std::io::Result<()> {
    let known = Known { credentials: spec.credentials.clone(), owned_paths: spec.owned_paths.clone() };
    channel::send(socket, &serde_json::to_vec(&known)?, Some(listener.as_fd()))
}

/// The supervisor's life.
fn keep(socket: &UnixStream) -> std::io::Result<Vec<SpecialOwner>> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    notify::outlive_the_step();
    let proc = numbers::open_proc()?;
    let Some((known, Some(listener))) = channel::receive(socket)? else { return Ok(Vec::new()) };
    let Known { credentials, owned_paths } = serde_json::from_slice(&known)?;
    notify::prefer_turns(listener.as_fd());
    rustix::process::fchdir(&proc)?;
    let first = Identity::new(credentials.uid, credentials.gid, credentials.groups);
    let mut supervisor = OwnerSupervisor {
        listener,
        identities: Identities::new(first),
        records: Records::default(),
        proc,
        root: None,
        may_be_elsewhere: false,
        keeping: Keeping::Records,
    };
    supervisor.serve(&owned_paths)?;
    let special = supervisor.records.special.iter();
    Ok(special.map(|(file, owner)| SpecialOwner { file: *file, uid: owner.uid, gid: owner.gid }).collect())
}

pub(in crate::exec) struct OwnerSupervisor {
    listener: OwnedFd,
    identities: Identities,
    records: Records,
    /// The working directory.
    proc: OwnedFd,
    /// The step's root, once there was a first question.
    root: Option<OwnedFd>,
    /// A process of the step has called chroot.
    may_be_elsewhere: bool,
    keeping: Keeping,
}

/// Where it is kept whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    /// Written down with it: for the kernel all is root's.
    Records,
    /// As the kernel keeps it: processes are root's and give files to whom they believe to be.
    Files,
}

impl OwnerSupervisor {
    /// For processes that are root to the kernel, among files that belong to whom they belong. This process has the step's
    /// root and the directory `/proc`.
    pub(in crate::exec) fn among_files(
        listener: OwnedFd,
        proc: OwnedFd,
        Credentials { uid, gid, groups, .. }: &Credentials,
    ) -> Self {
        Self {
            listener,
            identities: Identities::new(Identity::new(*uid, *gid, groups.clone())),
            records: Records::default(),
            proc,
            root: None,
            may_be_elsewhere: false,
            keeping: Keeping::Files,
        }
    }

    /// On which it is asked.
    pub(in crate::exec) fn listener(&self) -> std::os::fd::BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The directory `/proc`.
    pub(in crate::exec) fn proc(&self) -> std::os::fd::BorrowedFd<'_> {
        self.proc.as_fd()
    }

    /// Answers until no process is left that could ask.
    fn serve(&mut self, known: &[OwnedPath]) -> std::io::Result<()> {
        while let Some(question) = notify::next(self.listener.as_fd())? {
            let answer = self.enter(&question, known).and_then(|()| self.decide(&question));
            notify::answer(self.listener.as_fd(), question.id, answer);
        }
        Ok(())
    }

    /// Makes the root of the process that asks this process's own, so that links lead where they lead there.
    fn enter(&mut self, question: &Question, known: &[OwnedPath]) -> Result<(), Errno> {
        if self.root.is_some() && !self.may_be_elsewhere {
            return Ok(());
        }
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let root = format!("{}/root", numbers::shown(question.pid));
        let root = rustix::fs::openat(&self.proc, root, flags, rustix::fs::Mode::empty())?;
        if !notify::is_waiting(self.listener.as_fd(), question) {
            return Err(Errno::SRCH);
        }
        rustix::process::fchdir(&root)?;
        let moved = rustix::process::chroot(".");
        if self.root.is_none() {
            self.remember(known);
        }
        rustix::process::fchdir(&self.proc)?;
        self.root = Some(root);
        moved
    }

    /// Who owns the links and pipes that are there already.
    fn remember(&mut self, known: &[OwnedPath]) {
        for OwnedPath { path, uid, gid } in known {
            let Ok(path) = CString::new([b"./", path.as_slice()].concat()) else { continue };
            if let Ok(id) = FileId::of(&*path, false) {
                self.records.special.insert(id, RecordedOwner::new(*uid, *gid));
            }
        }
    }

    fn decide(&mut self, question: &Question) -> Result<Answer, Errno> {
        let Some((call, convention)) = seccomp::watched_call(question.architecture, question.number) else {
            return Ok(Answer::Continue);
        };
        self.decide_call(question, (call, convention))
    }

    /// What to answer to a call that was recognised already.
    pub(in crate::exec) fn decide_call(
        &mut self,
        question: &Question,
        (call, convention): (Call, seccomp::Convention),
    ) -> Result<Answer, Errno> {
        let narrow = convention.narrow;
        match call {
            Call::Chown | Call::Lchown | Call::Fchown | Call::Fchownat => self.give(call, question, narrow),
            Call::Stat | Call::Lstat | Call::Fstat | Call::Fstatat | Call::Statx => {
                self.tell_owner(call, question)
            }
            Call::Open | Call::Openat | Call::Openat2 | Call::Creat => self.open(call, question),
            Call::Mkdir | Call::Mkdirat => self.make_directory(call, question),
            Call::Mknod | Call::Mknodat => self.make_node(call, question),
            Call::Symlink | Call::Symlinkat => self.make_link(call, question),
            Call::Execve | Call::Execveat => self.execute(call, question),
            Call::Chroot => {
                self.may_be_elsewhere = true;
                Ok(Answer::Continue)
            }
            Call::Prctl => self.keep_capabilities(question),
            Call::Getsockopt => self.tell_peer(question),
            Call::Setrlimit | Call::Getrlimit | Call::Prlimit => {
                OwnerSupervisor::hide_carrier(call, question, convention.wide)
            }
            Call::Setuid
            | Call::Setgid
            | Call::Setreuid
            | Call::Setregid
            | Call::Setresuid
            | Call::Setresgid
            | Call::Setfsuid
            | Call::Setfsgid
            | Call::Setgroups => self.change_identity(call, question, narrow),
            Call::Socketcall => {
                let profile = match self.keeping {
                    Keeping::Records => Profile::DefaultSingleId,
                    Keeping::Files => Profile::Plain,
                };
                sockets::answer(self.listener.as_fd(), question, profile)
            }
            Call::Getuid
            | Call::Geteuid
            | Call::Getgid
            | Call::Getegid
            | Call::Getresuid
            | Call::Getresgid
            | Call::Getgroups => self.tell_identity(call, question, narrow),
        }
    }
}
