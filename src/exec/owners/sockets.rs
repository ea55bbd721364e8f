//! The sockets of 32-bit x86 programs.
//!
//! Debian's 32-bit C library opens every socket with `socketcall`, whose arguments are in memory: there no filter sees them, and another
//! thread can change them after anybody has looked. So the filter passes the call on. Here the arguments are read once, and
//! what they ask for is done as far as the filter allows it to `socket` and `setsockopt`: in the same network namespace, with the
//! rights and the ids of the process that asks. The kernel is never told to go on by itself.
//!
//! Where there is a single id the supervisor answers. Else the init starts a process for it with the first question, so that a step without
//! such programs pays for the listener alone.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Gid;
use rustix::thread::CapabilitySet;

use super::super::seccomp::{self, Profile};
use super::caller::Caller;
use super::notify::{self, Answer, Question};
use super::numbers;
use crate::exec::sys;
use crate::exec::wire::channel;

/// `SYS_SOCKET` and `SYS_SETSOCKOPT` of `linux/net.h`.
const SOCKET: u32 = 1;
const SET_OPTION: u32 = 14;

/// The levels of options that are only what their bytes say: IP, socket, TCP, UDP, IPv6, ICMPv6, SCTP, UDP-Lite, raw, netlink, TLS and MPTCP.
/// Others (RDS, XDP) hold addresses in the memory of whoever calls.
const LEVELS: [u32; 12] = [0, 1, 6, 17, 41, 58, 132, 136, 255, 270, 282, 284];
/// `SO_ATTACH_FILTER` and `SO_ATTACH_REUSEPORT_CBPF`, whose value says where a program is.
const PROGRAM_OPTIONS: [u32; 2] = [26, 51];
/// `BPF_MAXINSNS` times 8 bytes; no other option of these levels is as long.
const LONGEST: usize = 4096 * 8;

/// What the init has of the step's listener.
#[derive(Debug)]
pub(in crate::exec) enum Listening {
    /// The command will send it.
    Awaited(OwnedFd),
    /// Nobody has asked yet.
    Idle(OwnedFd),
}

impl Listening {
    /// The file that becomes readable when there is something to do.
    pub(in crate::exec) fn file(&self) -> BorrowedFd<'_> {
        let (Self::Awaited(file) | Self::Idle(file)) = self;
        file.as_fd()
    }

    /// Does it; `None` when there will be nothing more.
    pub(in crate::exec) fn go_on(self, profile: Profile) -> Option<Self> {
        match self {
            Self::Awaited(socket) => {
                let received = channel::receive(&UnixStream::from(socket)).ok()??;
                received.1.map(Self::Idle)
            }
            Self::Idle(listener) => {
                let mut files = [PollFd::new(&listener, PollFlags::IN)];
                let now = rustix::event::poll(&mut files, Some(&Timespec::default()));
                if now.is_ok() && files[0].revents().contains(PollFlags::IN) {
                    // Without a process that answers, the calls fail.
                    let _ = start(&listener, profile);
                }
                None
            }
        }
    }
}

/// Starts the process that answers. It ends with the step, as it is in the init's pid namespace.
fn start(listener: &OwnedFd, profile: Profile) -> io::Result<()> {
    if let sys::Fork::Child = sys::fork()? {
        sys::close_all_but(listener.as_fd());
        std::process::exit(i32::from(serve(listener, profile).is_err()));
    }
    Ok(())
}

fn serve(listener: &OwnedFd, profile: Profile) -> io::Result<()> {
    notify::outlive_the_step();
    let proc = numbers::open_proc()?;
    rustix::process::fchdir(&proc)?;
    while let Some(question) = notify::next(listener.as_fd())? {
        let answer = answer(listener.as_fd(), &question, profile);
        notify::answer(listener.as_fd(), question.id, answer);
    }
    Ok(())
}

/// Answers to `socketcall`. The working directory is `/proc`.
pub(super) fn answer(
    listener: BorrowedFd<'_>,
    question: &Question,
    profile: Profile,
) -> Result<Answer, Errno> {
    let caller = Caller { pid: question.pid };
    let is_waiting = || if notify::is_waiting(listener, question) { Ok(()) } else { Err(Errno::SRCH) };
    match question.args[0] as u32 {
        SOCKET => {
            let [family, kind, protocol] = words(caller, question)?;
            let arguments = [family, kind, protocol, 0, 0, 0];
            if !seccomp::would_allow(profile, "socket", arguments) {
                return Err(Errno::PERM);
            }
            let rights = Rights::of(caller)?;
            is_waiting()?;
            let socket = rights.lend(|| notify::socket(family, kind, protocol).map_err(|e| errno(&e)))?;
            Ok(Answer::File(socket, kind & libc::SOCK_CLOEXEC as u32 != 0))
        }
        SET_OPTION => {
            let [fd, level, option, address, length] = words(caller, question)?;
            let arguments = [fd, level, option, address, length, 0];
            if !LEVELS.contains(&level) || !seccomp::would_allow(profile, "setsockopt", arguments) {
                return Err(Errno::PERM);
            }
            let value = value(caller, (level, option), address, length)?;
            let rights = Rights::of(caller)?;
            let process = caller.process()?;
            is_waiting()?;
            let socket = notify::take_file(process.as_fd(), fd as i32).map_err(|e| errno(&e))?;
            let set = || {
                notify::set_option_as_32_bits(socket.as_fd(), level, option, &value).map_err(|e| errno(&e))
            };
            rights.lend(set).map(|()| Answer::Value(0))
        }
        _ => Err(Errno::NOSYS),
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// What the second argument points to.
fn words<const N: usize>(caller: Caller, question: &Question) -> Result<[u32; N], Errno> {
    let bytes = caller.long_bytes(question.args[1] & u64::from(u32::MAX), 4 * N)?;
    Ok(std::array::from_fn(|at| word(&bytes, 4 * at)))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The value of an option, as the caller has it in its memory.
fn value(
    caller: Caller,
    (level, option): (u32, u32),
    address: u32,
    length: u32,
) -> Result<notify::OptionValue, Errno> {
    let length = usize::try_from(length as i32).map_err(|_| Errno::INVAL)?;
    let bytes = match address {
        0 => None,
        _ => Some(caller.long_bytes(address.into(), length.min(LONGEST))?),
    };
    let has_program = level == libc::SOL_SOCKET as u32 && PROGRAM_OPTIONS.contains(&option);
    let program = match &bytes {
        // `struct compat_sock_fprog`: the number of instructions, and where they are.
        Some(bytes) if has_program && bytes.len() >= 8 => {
            let count = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
            if count * 8 > LONGEST {
                return Err(Errno::INVAL);
            }
            caller.long_bytes(word(bytes, 4).into(), count * 8)?
        }
        _ if has_program => return Err(Errno::INVAL),
        _ => Vec::new(),
    };
    Ok(notify::OptionValue { bytes, program })
}

/// What the kernel asks of who makes or changes a socket.
#[derive(Debug, PartialEq, Eq)]
struct Rights {
    /// That of files: a socket belongs to it.
    user: u32,
    /// Groups may be allowed to ping.
    group: u32,
    groups: Vec<u32>,
    capabilities: CapabilitySet,
}

impl Rights {
    fn of(caller: Caller) -> Result<Self, Errno> {
        let status = caller.whole_status().ok_or(Errno::SRCH)?;
        Self::from_status(&status).ok_or(Errno::SRCH)
    }

    fn from_status(status: &str) -> Option<Self> {
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let ids = |name| -> Option<Vec<u32>> {
            field(name)?.split_whitespace().map(|id| id.parse().ok()).collect()
        };
        // Real, effective, saved, and of files.
        Some(Self {
            user: *ids("Uid")?.get(3)?,
            group: *ids("Gid")?.get(1)?,
            groups: ids("Groups")?,
            capabilities: CapabilitySet::from_bits_retain(u64::from_str_radix(field("CapEff")?, 16).ok()?),
        })
    }

    /// Calls with them. A process that could not take back its own ends, and with it what it answers for.
    fn lend<T>(&self, call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        let own = Self::of(Caller { pid: std::process::id() })?;
        let result = self.take(&own).and_then(|()| call());
        if own.take(self).is_err() {
            std::process::exit(1);
        }
        result
    }

    /// Makes them this process's effective ones, which are `now` at most.
    fn take(&self, now: &Self) -> Result<(), Errno> {
        let mut sets = rustix::thread::capabilities(None)?;
        sets.effective = sets.permitted;
        rustix::thread::set_capabilities(None, sets)?;
        if self.groups != now.groups {
            let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
            rustix::thread::set_thread_groups(&groups)?;
        }
        if self.group != now.group {
            let own = rustix::process::getgid();
            rustix::thread::set_thread_res_gid(own, Gid::from_raw(self.group), own)?;
        }
        if self.user != now.user {
            notify::set_file_user(self.user).map_err(|e| errno(&e))?;
        }
        sets.effective = sets.permitted & self.capabilities;
        rustix::thread::set_capabilities(None, sets)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rights_are_those_that_count_for_sockets() {
        let status =
            "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t6 9 \nCapEff:\t0000000000002000\n";
        let rights = Rights::from_status(status).unwrap();
        assert_eq!((rights.user, rights.group, rights.groups), (4, 6, vec![6, 9]));
        assert_eq!(rights.capabilities, CapabilitySet::NET_RAW);
        assert_eq!(Rights::from_status("Name:\tx\n"), None);
    }
}
