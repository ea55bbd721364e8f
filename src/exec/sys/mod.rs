//! The system calls that rustix does not offer as safe functions. All of this module's unsafe code.

#![allow(unsafe_code)]

pub(super) mod landlock;
pub(super) mod pipe;
pub(super) mod signals;

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// One instruction of a seccomp filter (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jump_true: u8,
    pub(super) jump_false: u8,
    pub(super) value: u32,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which side of [`fork`] this is.
pub(super) enum Fork {
    Child,
    Parent(Pid),
}

/// Splits this process in two. Only for processes with a single thread: there the child may do anything.
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: the callers are the init and its child, which never start a thread; so no lock can be held by a thread
    // that does not exist in the child.
    let pid = check(unsafe { libc::fork() }.into())?;
    Ok(match Pid::from_raw(pid as i32) {
        None => Fork::Child,
        Some(pid) => Fork::Parent(pid),
    })
}

/// Splits this process, the child in a pid namespace of its own; the parent gets a file for it. Only for processes with a
/// single thread. One that has entered a user namespace could not come back from `unshare` of its pid namespace.
pub(super) fn fork_into_pid_namespace() -> io::Result<(Fork, Option<OwnedFd>)> {
    fork_with(libc::CLONE_NEWPID)
}

/// Splits this process; the parent gets a file for the child. Only for processes with a single thread.
pub(super) fn fork_with_pidfd() -> io::Result<(Fork, Option<OwnedFd>)> {
    fork_with(0)
}

fn fork_with(flags: libc::c_int) -> io::Result<(Fork, Option<OwnedFd>)> {
    use std::os::fd::FromRawFd as _;
    let mut pidfd: libc::c_int = -1;
    let flags = flags | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: without a stack and CLONE_VM this is a fork; the caller is the zygote, which never starts a thread. The C
    // library keeps the parent's thread number in the child, where only its own locks with owners would look at it,
    // until the next fork corrects it. The pointer is written to by the parent's side of the call alone.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut pidfd, 0usize, 0usize) })?;
    Ok(match Pid::from_raw(pid as i32) {
        None => (Fork::Child, None),
        // SAFETY: the kernel just returned this descriptor; nobody else owns it.
        Some(pid) => (Fork::Parent(pid), Some(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    })
}

/// Leaves namespaces of the parent. Only for processes with a single thread.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the flags are namespaces only; CLONE_FILES, for which the call is unsafe, is never used.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Becomes another program; returns only when that failed.
pub(super) fn execve(program: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists are NULL-terminated arrays of C strings that live until after the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// What a process that was waited for used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) user: Duration,
    pub(super) system: Duration,
    pub(super) peak_memory_bytes: u64,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Code(i32),
    Signal(i32),
}

/// Waits for a child to end.
pub(super) fn wait(pid: Pid) -> io::Result<(Ended, Usage)> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are valid for writes for the duration of the call.
        let result =
            unsafe { libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, usage.as_mut_ptr()) };
        match check(result.into()) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // SAFETY: wait4 succeeded, so it filled the structure; zeroes would be valid as well.
    let usage = unsafe { usage.assume_init() };
    Ok((ended(status), used(&usage)))
}

fn used(usage: &libc::rusage) -> Usage {
    let time =
        |t: libc::timeval| Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64);
    Usage {
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
        peak_memory_bytes: usage.ru_maxrss as u64 * 1024,
        // The kernel counts these in blocks of 512 bytes, whatever the file system has.
        read_bytes: usage.ru_inblock as u64 * 512,
        written_bytes: usage.ru_oublock as u64 * 512,
    }
}

fn ended(status: libc::c_int) -> Ended {
    if libc::WIFSIGNALED(status) {
        Ended::Signal(libc::WTERMSIG(status))
    } else {
        Ended::Code(libc::WEXITSTATUS(status))
    }
}

/// Takes one child that has ended, if there is one; `ECHILD` when there are no children at all.
pub(super) fn reap() -> io::Result<Option<(Pid, Ended, Usage)>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writes for the duration of the call.
    let pid = check(unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) }.into())?;
    // SAFETY: the call filled the structure, or left it zeroed, which is valid as well.
    let usage = unsafe { usage.assume_init() };
    Ok(Pid::from_raw(pid as i32).map(|pid| (pid, ended(status), used(&usage))))
}

/// Takes this child if it has ended; `None` while it runs.
pub(super) fn reap_one(pid: u32) -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: the pointer is valid for writes for the duration of the call.
    let found = check(unsafe { libc::waitpid(pid as i32, &raw mut status, libc::WNOHANG) }.into())?;
    Ok((found != 0).then(|| ended(status)))
}

/// Sends any signal, 0 included, to the process of a pidfd.
pub(super) fn send_signal(process: BorrowedFd<'_>, signal: i32) -> rustix::io::Result<()> {
    let information = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without information the kernel fills it in itself.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, information, 0u32) };
    match sent {
        0 => Ok(()),
        _ => {
            Err(rustix::io::Errno::from_io_error(&io::Error::last_os_error())
                .unwrap_or(rustix::io::Errno::IO))
        }
    }
}

/// A file that becomes readable when a child has ended; the signal does nothing else any more.
pub(super) fn child_ends() -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd as _;
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set, which the others only change and read.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    check(fd.into())?;
    // SAFETY: the kernel just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to every process of this pid namespace except this one and its init.
pub(super) fn kill_all(signal: i32) {
    // SAFETY: kill takes no pointers. The caller is the init of a private pid namespace, so -1 means the
    // step's processes and nothing else. A failure means that none was left.
    unsafe { libc::kill(-1, signal) };
}

/// Gives every signal its default action and unblocks all: neither what Rust sets up (SIGPIPE ignored)
/// nor what rbuild was started with (`nohup`) is for the command. The C library does not let its own two be set, and leaves
/// them ignored in what it spawns, so the kernel is asked.
pub(super) fn reset_signals() {
    // `struct sigaction` of the kernel: action, flags and mask, all of them 0, whatever the order.
    let default = [0_u64; 4];
    let mask_bytes = size_of::<u64>();
    for signal in 1..=64 {
        // SAFETY: `default` is as long as the structure on every architecture and outlives the call; for SIGKILL and
        // SIGSTOP the call fails and changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                mask_bytes,
            )
        };
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before sigprocmask reads it; the old mask is not asked for.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Marks every file from descriptor `first` on to be closed by the next execve.
pub(super) fn close_on_exec_from(first: u32) {
    // SAFETY: no pointers; with CLOEXEC nothing is closed that Rust code still owns.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result < 0 {
        // Before Linux 5.11: one by one, as far as anyone's descriptors go.
        for fd in first as i32..65_536 {
            // SAFETY: no pointers; on a descriptor that is not open the call fails and does nothing.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

/// Closes every file but the standard ones and `kept`. Only for a process that does nothing afterwards but execute, or
/// write to `kept` and exit: whatever owns one of these files must not be used any more.
pub(super) fn close_all_but(kept: BorrowedFd<'_>) {
    let kept = kept.as_raw_fd() as u32;
    for (first, last) in [(3, kept - 1), (kept + 1, u32::MAX)] {
        if first > last {
            continue;
        }
        // SAFETY: no pointers. The caller has one thread, which uses none of these descriptors again; closing one that
        // is gone does nothing, as no others are opened meanwhile.
        let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if result < 0 {
            // Before Linux 5.9: one by one, as far as anyone's descriptors go.
            for fd in first..=last.min(65_535) {
                // SAFETY: as above.
                unsafe { libc::close(fd as i32) };
            }
        }
    }
}

/// Installs a seccomp filter for this process and what it starts; needs CAP_SYS_ADMIN in its user
/// namespace, as no_new_privs stays off.
pub(super) fn install_filter(filter: &[Instruction]) -> io::Result<()> {
    install(filter, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW).map(drop)
}

/// Installs a filter that passes calls on; gives the file on which they are answered.
pub(super) fn install_asking_filter(filter: &[Instruction]) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd as _;
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19): once a question was read, no signal but a deadly
    /// one interrupts it, so that nothing is done twice.
    const WAIT_KILLABLE: libc::c_ulong = 1 << 5;
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let fd = match install(filter, flags | WAIT_KILLABLE) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(filter, flags),
        result => result,
    }?;
    // SAFETY: the kernel just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn install(filter: &[Instruction], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        // Instruction has the layout of sock_filter; the kernel only reads it.
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `program` and the instructions that it points to live until after the call.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })
}

/// Adds attributes (`MOUNT_ATTR_*`) to a mount and all below it.
pub(super) fn add_mount_attributes(mount: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a C string, the structure lives until after the call and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)?;
    Ok(())
}

/// Whether the kernel's seccomp knows this action (`SECCOMP_GET_ACTION_AVAIL`).
pub(super) fn has_seccomp_action(action: u32) -> bool {
    const GET_ACTION_AVAILABLE: libc::c_uint = 2;
    // SAFETY: the pointer is to a value that lives until after the call, which reads it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAILABLE, 0u32, &raw const action) };
    result == 0
}

/// Brings the loopback interface of this network namespace up.
pub(super) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an all-zero ifreq is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives until after the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(result.into())?;
    Ok(())
}

/// The number of a pseudo terminal, by its other side.
pub(super) fn number_of_terminal(master: BorrowedFd<'_>) -> rustix::io::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the request writes a number to where the pointer leads.
    match unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) } {
        0 => Ok(number),
        _ => Err(rustix::io::Errno::NOTTY),
    }
}

/// A file that becomes readable when the terminal's size has changed. Needs SIGWINCH to be held back in every thread.
pub(super) fn window_changes() -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd as _;
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set, which the others only change and read.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGWINCH);
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    check(fd.into())?;
    // SAFETY: the kernel just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `struct loop_config` of `linux/loop.h`, with the fields of `struct loop_info64` that we set by name.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    /// Device, inode, rdevice, offset, size limit: five of 8 bytes; number, encryption, key size: three of 4.
    before_flags: [u32; 13],
    flags: u32,
    /// Names, key, init, and what is reserved.
    after_flags: [u64; 30],
}

/// The number of a loop device that nobody uses.
pub(super) fn free_loop(control: BorrowedFd<'_>) -> io::Result<u32> {
    const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
    // SAFETY: the request takes no argument; the descriptor is open.
    let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }.into())?;
    Ok(number as u32)
}

/// Makes a loop device, read-only, of a file; the kernel undoes it after the last use.
pub(super) fn configure_loop(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
    const READ_ONLY_AND_AUTOCLEAR: u32 = 1 | 4;
    const { assert!(size_of::<LoopConfig>() == 304) };
    let config = LoopConfig {
        file: file.as_raw_fd() as u32,
        block_size: 512,
        before_flags: [0; 13],
        flags: READ_ONLY_AND_AUTOCLEAR,
        after_flags: [0; 30],
    };
    // SAFETY: the structure has the size and layout that the request reads, and outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }.into())?;
    Ok(())
}
