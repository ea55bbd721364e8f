//! The system calls that the supervisor of a plain step answers.

use super::supervisor::SHARED;
use crate::exec::owners::CARRIER;
use crate::exec::owners::{Call, When};

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) enum Watched {
    /// Owners and identities: answered as for a user with one id.
    Owner(Call),
    /// A path, which may lead below `/proc`.
    Path(PathCall),
    /// Another process.
    Process(ProcessCall),
    /// `uname`: the host has the step's name.
    Name,
    /// The kernel may not tell what this changes.
    Unseen,
    /// `mmap`: a file may be written to without its time telling of it.
    Map,
    /// `mmap2`: as that; its arguments are never in memory.
    Map2,
    /// `chroot`, which would let a process out of the step's root.
    Chroot,
}

/// Calls that name a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) enum PathCall {
    Open,
    Openat,
    Openat2,
    Creat,
    Stat,
    Lstat,
    Fstatat,
    Statx,
    Access,
    Faccessat,
    Readlink,
    Readlinkat,
    Execve,
    Execveat,
}

/// Calls that name a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) enum ProcessCall {
    Kill,
    /// The first argument is the process, and a signal goes there.
    Signal,
    /// The first argument is the process; 0 is oneself.
    First,
    PidfdOpen,
    Ptrace,
    /// Kind and number: of a process, of a group, of a user.
    Priority,
    /// Whom the kernel tells of input: the third argument says who, or where that is.
    FileOwner,
    IoctlOwner,
}

/// `AT_EMPTY_PATH`: with it, calls are mostly about open files.
const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
/// `F_SETOWN` and `F_SETOWN_EX`.
pub(super) const SET_OWNER: u32 = 8;
const FCNTL_OWNER: &[u32] = &[SET_OWNER, 15];
/// `FIOSETOWN` and `SIOCSPGRP`.
const IOCTL_OWNER: &[u32] = &[0x8901, 0x8902];

const fn owner(call: Call) -> Watched {
    Watched::Owner(call)
}

const fn path(call: PathCall) -> Watched {
    Watched::Path(call)
}

const fn process(call: ProcessCall) -> Watched {
    Watched::Process(call)
}

/// By the names of the profile's table.
pub(in crate::exec) const WATCHED: &[(&str, Watched, When)] = &[
    ("open", path(PathCall::Open), When::Always),
    ("openat", path(PathCall::Openat), When::Always),
    ("openat2", path(PathCall::Openat2), When::Always),
    ("creat", path(PathCall::Creat), When::Always),
    ("stat", path(PathCall::Stat), When::Wide),
    ("lstat", path(PathCall::Lstat), When::Wide),
    ("newfstatat", path(PathCall::Fstatat), When::WideWithout(3, EMPTY_PATH)),
    ("statx", path(PathCall::Statx), When::Without(2, EMPTY_PATH)),
    ("access", path(PathCall::Access), When::Always),
    ("faccessat", path(PathCall::Faccessat), When::Always),
    ("faccessat2", path(PathCall::Faccessat), When::Without(3, EMPTY_PATH)),
    ("readlink", path(PathCall::Readlink), When::Always),
    ("readlinkat", path(PathCall::Readlinkat), When::Always),
    ("execve", path(PathCall::Execve), When::Always),
    ("execveat", path(PathCall::Execveat), When::Always),
    ("chroot", Watched::Chroot, When::Always),
    ("link", Watched::Unseen, When::Always),
    ("linkat", Watched::Unseen, When::Always),
    ("io_submit", Watched::Unseen, When::Always),
    ("splice", Watched::Unseen, When::Always),
    ("mmap", Watched::Map, When::BitsInMemory(3, SHARED)),
    ("mmap2", Watched::Map2, When::Bits(3, SHARED)),
    ("uname", Watched::Name, When::Wide),
    ("chown", owner(Call::Chown), When::Always),
    ("chown32", owner(Call::Chown), When::Always),
    ("lchown", owner(Call::Lchown), When::Always),
    ("lchown32", owner(Call::Lchown), When::Always),
    ("fchown", owner(Call::Fchown), When::Always),
    ("fchown32", owner(Call::Fchown), When::Always),
    ("fchownat", owner(Call::Fchownat), When::Always),
    ("mkdir", owner(Call::Mkdir), When::Always),
    ("mkdirat", owner(Call::Mkdirat), When::Always),
    ("mknod", owner(Call::Mknod), When::Always),
    ("mknodat", owner(Call::Mknodat), When::Always),
    ("symlink", owner(Call::Symlink), When::Always),
    ("symlinkat", owner(Call::Symlinkat), When::Always),
    ("getuid", owner(Call::Getuid), When::Always),
    ("getuid32", owner(Call::Getuid), When::Always),
    ("geteuid", owner(Call::Geteuid), When::Always),
    ("geteuid32", owner(Call::Geteuid), When::Always),
    ("getgid", owner(Call::Getgid), When::Always),
    ("getgid32", owner(Call::Getgid), When::Always),
    ("getegid", owner(Call::Getegid), When::Always),
    ("getegid32", owner(Call::Getegid), When::Always),
    ("getresuid", owner(Call::Getresuid), When::Always),
    ("getresuid32", owner(Call::Getresuid), When::Always),
    ("getresgid", owner(Call::Getresgid), When::Always),
    ("getresgid32", owner(Call::Getresgid), When::Always),
    ("getgroups", owner(Call::Getgroups), When::Always),
    ("getgroups32", owner(Call::Getgroups), When::Always),
    ("setuid", owner(Call::Setuid), When::Always),
    ("setuid32", owner(Call::Setuid), When::Always),
    ("setgid", owner(Call::Setgid), When::Always),
    ("setgid32", owner(Call::Setgid), When::Always),
    ("setreuid", owner(Call::Setreuid), When::Always),
    ("setreuid32", owner(Call::Setreuid), When::Always),
    ("setregid", owner(Call::Setregid), When::Always),
    ("setregid32", owner(Call::Setregid), When::Always),
    ("setresuid", owner(Call::Setresuid), When::Always),
    ("setresuid32", owner(Call::Setresuid), When::Always),
    ("setresgid", owner(Call::Setresgid), When::Always),
    ("setresgid32", owner(Call::Setresgid), When::Always),
    ("setfsuid", owner(Call::Setfsuid), When::Always),
    ("setfsuid32", owner(Call::Setfsuid), When::Always),
    ("setfsgid", owner(Call::Setfsgid), When::Always),
    ("setfsgid32", owner(Call::Setfsgid), When::Always),
    ("setgroups", owner(Call::Setgroups), When::Always),
    ("setgroups32", owner(Call::Setgroups), When::Always),
    ("setrlimit", owner(Call::Setrlimit), When::Value(0, CARRIER)),
    ("getrlimit", owner(Call::Getrlimit), When::Value(0, CARRIER)),
    ("ugetrlimit", owner(Call::Getrlimit), When::Value(0, CARRIER)),
    ("prctl", owner(Call::Prctl), When::Value(0, libc::PR_SET_KEEPCAPS as u32)),
    ("prlimit64", owner(Call::Prlimit), When::OthersOr(CARRIER)),
    ("kill", process(ProcessCall::Kill), When::Always),
    ("tkill", process(ProcessCall::Signal), When::Always),
    ("tgkill", process(ProcessCall::Signal), When::Always),
    ("rt_sigqueueinfo", process(ProcessCall::Signal), When::Always),
    ("rt_tgsigqueueinfo", process(ProcessCall::Signal), When::Always),
    ("pidfd_open", process(ProcessCall::PidfdOpen), When::Always),
    ("ptrace", process(ProcessCall::Ptrace), When::Always),
    ("process_vm_readv", process(ProcessCall::First), When::Always),
    ("process_vm_writev", process(ProcessCall::First), When::Always),
    ("get_robust_list", process(ProcessCall::First), When::OthersOr(u32::MAX)),
    ("getpgid", process(ProcessCall::First), When::OthersOr(u32::MAX)),
    ("getsid", process(ProcessCall::First), When::OthersOr(u32::MAX)),
    ("sched_getaffinity", process(ProcessCall::First), When::OthersOr(u32::MAX)),
    ("sched_setaffinity", process(ProcessCall::First), When::OthersOr(u32::MAX)),
    ("sched_setattr", process(ProcessCall::First), When::OthersOr(u32::MAX)),
    ("sched_setparam", process(ProcessCall::First), When::OthersOr(u32::MAX)),
    ("sched_setscheduler", process(ProcessCall::First), When::OthersOr(u32::MAX)),
    ("setpriority", process(ProcessCall::Priority), When::Always),
    ("getpriority", process(ProcessCall::Priority), When::Always),
    ("ioprio_set", process(ProcessCall::Priority), When::Always),
    ("fcntl", process(ProcessCall::FileOwner), When::OneOf(1, FCNTL_OWNER)),
    ("fcntl64", process(ProcessCall::FileOwner), When::OneOf(1, FCNTL_OWNER)),
    ("ioctl", process(ProcessCall::IoctlOwner), When::OneOf(1, IOCTL_OWNER)),
];

/// What a call of this name is about.
pub(super) fn named(name: &str) -> Option<Watched> {
    WATCHED.iter().find(|(watched, ..)| *watched == name).map(|(_, watched, _)| *watched)
}
