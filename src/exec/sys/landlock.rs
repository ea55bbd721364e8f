//! Landlock (landlock(7)): what a process gives up for itself and all that it starts.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `struct landlock_ruleset_attr` of ABI 6.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed_access: u64,
    parent: i32,
}

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 2;
/// The first version of Landlock's interface that has scopes (Linux 6.12).
const SCOPES_ABI: libc::c_long = 6;
/// The first version in which files can be renamed from one directory to another (Linux 5.19).
const REFER_ABI: libc::c_long = 2;
/// The first version that knows of truncating (Linux 6.2).
const TRUNCATE_ABI: libc::c_long = 3;
/// Execute, write, read, list, remove and make of all kinds; then rename across directories.
const ACCESS: u64 = (1 << 14) - 1;
const TRUNCATE: u64 = 1 << 14;

/// How much of a wall there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) enum Wall {
    /// None.
    Absent,
    /// Around files, and around the processes that can be traced.
    Files,
    /// Around signals and abstract sockets, too.
    Whole,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The version of the kernel's interface; negative where there is none.
fn abi() -> libc::c_long {
    // SAFETY: asking for the version takes a null pointer and size zero.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    }
}

/// Whether the kernel's Landlock has scopes.
pub(in crate::exec) fn has_scopes() -> bool {
    abi() >= SCOPES_ABI
}

/// What [`confine`] can do here.
pub(in crate::exec) fn wall() -> Wall {
    match abi() {
        SCOPES_ABI.. => Wall::Whole,
        REFER_ABI.. => Wall::Files,
        _ => Wall::Absent,
    }
}

/// Keeps this process and its children from connecting to abstract unix sockets of processes outside;
/// tells whether the kernel could. No access to files is handled, so mounts and files are as before.
pub(in crate::exec) fn scope_abstract_sockets() -> io::Result<bool> {
    if !has_scopes() {
        return Ok(false);
    }
    let ruleset = Ruleset { handled_access_fs: 0, handled_access_net: 0, scoped: SCOPE_ABSTRACT_UNIX_SOCKET };
    restrict(&create(&ruleset, size_of::<Ruleset>())?)?;
    Ok(true)
}

/// Keeps this process and its children to the files below `root`, and as far as the kernel can to signals and abstract
/// sockets among themselves. Files that are open already, or that somebody hands in, are as before.
pub(in crate::exec) fn confine(root: BorrowedFd<'_>) -> io::Result<Wall> {
    let wall = wall();
    if wall == Wall::Absent {
        return Ok(wall);
    }
    let access = if abi() >= TRUNCATE_ABI { ACCESS | TRUNCATE } else { ACCESS };
    let scoped = if wall == Wall::Whole { SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL } else { 0 };
    let ruleset = Ruleset { handled_access_fs: access, handled_access_net: 0, scoped };
    // Before scopes the structure was shorter.
    let length = if wall == Wall::Whole { size_of::<Ruleset>() } else { size_of::<u64>() };
    let ruleset = create(&ruleset, length)?;
    let rule = Beneath { allowed_access: access, parent: root.as_raw_fd() };
    // SAFETY: the rule lives until after the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0u32,
        )
    })?;
    restrict(&ruleset)?;
    Ok(wall)
}

fn create(ruleset: &Ruleset, length: usize) -> io::Result<OwnedFd> {
    // SAFETY: the structure lives until after the call and is at least as long as is said.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::from_ref(ruleset), length, 0u32)
    })?;
    // SAFETY: the kernel just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) })?;
    Ok(())
}
