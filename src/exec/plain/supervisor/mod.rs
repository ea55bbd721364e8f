//! Answers a plain step's system calls: about paths below `/proc`, about processes, about identities.
//!
//! A process of its own, in the step's root like the step's, with the container's `/proc` as its working directory. Paths are
//! read once. What does not lead below `/proc` the kernel does, in the step's root: whatever else the path has become by then,
//! it leads nowhere else. What does lead there is opened, looked at or read here, under a path made of what was
//! checked.

mod answers;
mod execute;
mod found;
mod locate;
mod mapped;
mod mirror;
mod processes;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use super::calls::{self, PathCall, Watched};
use super::furnish::Furnished;
use super::members;
use crate::exec::owners::caller::Caller;
use crate::exec::owners::notify::{self, Answer, Question};
use crate::exec::owners::{Call, OwnerSupervisor};
use crate::exec::seccomp::{self, Convention};
use crate::exec::spec::Spec;
use crate::exec::sys::landlock::{self, Wall};
use crate::exec::wire::channel;
use locate::Place;
pub(super) use mapped::{Mapped, SHARED};

/// See the module.
pub(super) struct Supervisor {
    owners: OwnerSupervisor,
    keeper: u32,
    own: u32,
    /// What keeps the step's signals in besides this process.
    wall: Wall,
    /// The container's `/dev`.
    dev: OwnedFd,
    has_devices: bool,
    hostname: String,
    /// What numbers of calls stand for, as they were met.
    known: HashMap<(u32, i32), Option<(Watched, Convention)>>,
    /// The directories that stand for some below `/proc`, and `/dev`.
    special: HashSet<(u64, u64)>,
    /// Pseudo terminals that were handed in, by number; that of the command, if it has one, too.
    terminals: HashSet<u32>,
    /// The links to programs that were made: by inode and path of the program, the link's path.
    programs: HashMap<(u64, u64, Vec<u8>), String>,
    /// What the step may write to without its time telling of it.
    mapped: Mapped,
}

/// The supervisor's life; ends when no process is left that could ask.
pub(super) fn run(
    socket: &UnixStream,
    root: &Furnished,
    spec: &Spec,
    (keeper, mapped): (u32, &Mapped),
) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    notify::outlive_the_step();
    let proc = members::open_proc()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dev = rustix::fs::open("/dev", flags, Mode::empty())?;
    rustix::process::fchdir(&root.directory)?;
    rustix::process::chroot(".")?;
    rustix::process::fchdir(&proc)?;
    let Some((terminal, Some(listener))) = channel::receive(socket)? else { return Ok(()) };
    notify::prefer_turns(listener.as_fd());
    let mut supervisor = Supervisor {
        owners: OwnerSupervisor::among_files(listener, proc, &spec.credentials),
        keeper,
        own: std::process::id(),
        wall: landlock::wall(),
        dev,
        has_devices: root.has_devices,
        hostname: spec.hostname.clone(),
        known: HashMap::new(),
        special: HashSet::new(),
        terminals: terminal.try_into().ok().map(u32::from_le_bytes).into_iter().collect(),
        programs: HashMap::new(),
        mapped: mapped.shared()?,
    };
    for folder in ["/proc", "/dev", "/dev/pts"] {
        let stat = rustix::fs::stat(folder)?;
        supervisor.special.insert((stat.st_dev, stat.st_ino));
    }
    supervisor.serve()
}

impl Supervisor {
    fn serve(&mut self) -> std::io::Result<()> {
        while let Some(question) = notify::next(self.owners.listener())? {
            let answer = self.decide(&question);
            notify::answer(self.owners.listener(), question.id, answer);
        }
        Ok(())
    }

    fn decide(&mut self, question: &Question) -> Result<Answer, Errno> {
        let key = (question.architecture, question.number);
        let known = self.known.entry(key).or_insert_with(|| {
            let (name, convention) = seccomp::named_call(question.architecture, question.number)?;
            let watched = match name {
                "socketcall" => Watched::Owner(Call::Socketcall),
                _ => calls::named(name)?,
            };
            Some((watched, convention))
        });
        let Some((watched, convention)) = *known else { return Ok(Answer::Continue) };
        match watched {
            // The number of another process: the carrier is for oneself.
            Watched::Owner(Call::Prlimit) if question.args[0] != 0 => self.others_limit(question, convention),
            Watched::Owner(call) => self.owners.decide_call(question, (call, convention)),
            Watched::Path(call) => self.path(call, question, convention),
            Watched::Process(call) => self.process(call, question),
            Watched::Unseen => self.unseen(),
            Watched::Map => self.map(question, !convention.wide),
            Watched::Map2 => self.map(question, false),
            Watched::Name => self.tell_name(question),
            Watched::Chroot => self.chroot(question),
        }
    }

    /// A call that names a path: by where that leads.
    fn path(&mut self, call: PathCall, question: &Question, convention: Convention) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let wanted = answers::Wanted::of(call, question, caller)?;
        // Of what is wrong with the arguments the kernel speaks.
        let Some(wanted) = wanted else { return Ok(Answer::Continue) };
        let place = self.locate(caller, wanted.directory, &wanted.path, wanted.follows)?;
        match place {
            Place::Elsewhere => self.elsewhere(call, question, convention),
            Place::Proc(rest) => self.below_proc(call, question, &wanted, rest),
            Place::Terminal(rest) => self.terminal(call, question, &wanted, &rest),
            Place::Device(name) => self.device(call, question, &wanted, &name),
        }
    }

    /// What the kernel does by itself, except that somebody may own what is made, and a program may change who one is.
    fn elsewhere(
        &mut self,
        call: PathCall,
        question: &Question,
        convention: Convention,
    ) -> Result<Answer, Errno> {
        let call = match call {
            PathCall::Open => Call::Open,
            PathCall::Openat => Call::Openat,
            PathCall::Openat2 => Call::Openat2,
            PathCall::Creat => Call::Creat,
            PathCall::Execve => Call::Execve,
            PathCall::Execveat => Call::Execveat,
            _ => return Ok(Answer::Continue),
        };
        self.owners.decide_call(question, (call, convention))
    }

    /// Only to where one is already: anything else would let a process out of the step's root by `..`.
    fn chroot(&self, question: &Question) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let path = caller.path_at(locate::HERE, question.args[0])?;
        let (there, root) = (rustix::fs::stat(&path)?, rustix::fs::stat("/")?);
        match (there.st_dev, there.st_ino) == (root.st_dev, root.st_ino) {
            true => Ok(Answer::Value(0)),
            false => Err(Errno::PERM),
        }
    }

    /// `uname`, with the step's name of the host.
    fn tell_name(&self, question: &Question) -> Result<Answer, Errno> {
        /// `__NEW_UTS_LEN` and a zero byte.
        const FIELD: usize = 65;
        let uname = rustix::system::uname();
        let domain = std::fs::read("sys/kernel/domainname").unwrap_or_default();
        let fields = [
            uname.sysname().to_bytes(),
            self.hostname.as_bytes(),
            uname.release().to_bytes(),
            uname.version().to_bytes(),
            uname.machine().to_bytes(),
            domain.trim_ascii_end(),
        ];
        let mut bytes = vec![0; FIELD * fields.len()];
        for (at, field) in fields.iter().enumerate() {
            let length = field.len().min(FIELD - 1);
            bytes[at * FIELD..][..length].copy_from_slice(&field[..length]);
        }
        Caller { pid: question.pid }.write(question.args[0], &bytes)?;
        Ok(Answer::Value(0))
    }
}
