//! The kernel's side of answering for it: seccomp's notifications (seccomp_unotify(2)), and the memory and
//! limits of the process that asks. All unsafe code of the supervisor.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags, Stat, Statx};
use rustix::io::Errno;

use super::call::CARRIER;

/// `SECCOMP_IOCTL_NOTIF_RECV` and so on, of `linux/seccomp.h`.
const RECEIVE: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
const IS_VALID: u64 = 0x4008_2102;
const ADD_FILE: u64 = 0x4018_2103;
const SET_FLAGS: u64 = 0x4008_2104;
/// The process that asks and the one that answers take turns; Linux 6.6 then wakes them on one processor.
const SYNC_WAKE_UP: u64 = 1;
const CONTINUE: u32 = 1;
const ADD_AND_SEND: u32 = 2;

/// A process waits for an answer (`struct seccomp_notif`).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(in crate::exec) struct Question {
    pub(in crate::exec) id: u64,
    /// The thread, as this process sees it.
    pub(in crate::exec) pid: u32,
    flags: u32,
    pub(in crate::exec) number: i32,
    pub(in crate::exec) architecture: u32,
    instruction: u64,
    pub(in crate::exec) args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddedFile {
    id: u64,
    flags: u32,
    source: u32,
    target: u32,
    target_flags: u32,
}

/// How a question is answered.
#[derive(Debug)]
pub(in crate::exec) enum Answer {
    /// The kernel shall do what was asked for.
    Continue,
    /// It was done, and returned this.
    Value(u32),
    /// It was done, and gave this file; perhaps closed by the next exec.
    File(OwnedFd, bool),
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn control<T>(listener: BorrowedFd<'_>, request: u64, argument: *mut T) -> io::Result<()> {
    // SAFETY: every request of this module takes a pointer to the structure that it is called with.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), request as _, argument) }.into())?;
    Ok(())
}

/// Asks for turns without a detour; older kernels do without.
pub(in crate::exec) fn prefer_turns(listener: BorrowedFd<'_>) {
    // SAFETY: this request takes the flags themselves.
    unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS as _, SYNC_WAKE_UP) };
}

/// The next question; `None` when the process that asked is gone.
fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Question>> {
    let mut question = Question::default();
    match control(listener, RECEIVE, &raw mut question) {
        Ok(()) => Ok(Some(question)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for the next question; `None` when no process is left that could ask.
pub(in crate::exec) fn next(listener: BorrowedFd<'_>) -> io::Result<Option<Question>> {
    loop {
        let mut files = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
        match rustix::event::poll(&mut files, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let events = files[0].revents();
        if events.contains(PollFlags::IN) {
            if let Some(question) = receive(listener)? {
                return Ok(Some(question));
            }
        } else if !events.is_empty() {
            return Ok(None);
        }
    }
}

/// Whether the process still waits: then its number was not given to another meanwhile.
pub(in crate::exec) fn is_waiting(listener: BorrowedFd<'_>, question: &Question) -> bool {
    let mut id = question.id;
    control(listener, IS_VALID, &raw mut id).is_ok()
}

/// Answers; a process that is gone needs none.
pub(in crate::exec) fn answer(listener: BorrowedFd<'_>, id: u64, answer: Result<Answer, Errno>) {
    let mut response = Response { id, value: 0, error: 0, flags: 0 };
    match answer {
        Ok(Answer::Continue) => response.flags = CONTINUE,
        Ok(Answer::Value(value)) => response.value = value.into(),
        Ok(Answer::File(file, close_on_exec)) => match add_file(listener, id, &file, close_on_exec) {
            Ok(()) => return,
            Err(error) => response.error = -error.raw_os_error().unwrap_or(libc::EMFILE),
        },
        Err(errno) => response.error = -errno.raw_os_error(),
    }
    let _ = control(listener, SEND, &raw mut response);
}

fn add_file(listener: BorrowedFd<'_>, id: u64, file: &OwnedFd, close_on_exec: bool) -> io::Result<()> {
    let mut added = AddedFile {
        id,
        flags: ADD_AND_SEND,
        source: file.as_raw_fd() as u32,
        target: 0,
        target_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    control(listener, ADD_FILE, &raw mut added)
}

/// Reads the memory of a process; gives how many bytes.
pub(in crate::exec) fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    if !IS_BY_FILE.load(Ordering::Relaxed) {
        let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        match copy_memory(libc::SYS_process_vm_readv, pid, address, &local) {
            Err(error) if is_refused(&error) => {}
            read => return read,
        }
    }
    let read = read_by_file(pid, address, buffer)?;
    IS_BY_FILE.store(true, Ordering::Relaxed);
    Ok(read)
}

/// So long the file of a process's memory is used again: a number is not given out anew in that time.
const FILE_LASTS: Duration = Duration::from_millis(50);
/// So many of them are open at most.
const MOST_FILES: usize = 64;

thread_local! {
    static FILES: RefCell<HashMap<u32, (OwnedFd, Instant)>> = RefCell::default();
}

fn read_by_file(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    FILES.with_borrow_mut(|files| {
        if let Some((file, opened)) = files.get(&pid)
            && opened.elapsed() < FILE_LASTS
            // Of a program that is gone nothing can be read.
            && let Ok(read @ 1..) = rustix::io::pread(file, &mut *buffer, address)
        {
            return Ok(read);
        }
        if files.len() >= MOST_FILES {
            files.clear();
        }
        let file = memory_file(pid, OFlags::RDONLY)?;
        let read = rustix::io::pread(&file, buffer, address)?;
        files.insert(pid, (file, Instant::now()));
        Ok(read)
    })
}

/// A process executes another program: what it shared with others until then is not its memory any more.
pub(in crate::exec) fn forget_memory(pid: u32) {
    FILES.with_borrow_mut(|files| files.remove(&pid));
}

/// The filters of some containers let the memory of other processes be reached by its file only. Known after the first call.
static IS_BY_FILE: AtomicBool = AtomicBool::new(false);

fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS))
}

/// This process's working directory is `/proc`.
fn memory_file(pid: u32, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("{pid}/mem");
    Ok(rustix::fs::openat(rustix::fs::CWD, path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// Writes all bytes into the memory of a process.
pub(in crate::exec) fn write_memory(pid: u32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let written = write_some(pid, address, bytes)?;
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn write_some(pid: u32, address: u64, bytes: &[u8]) -> io::Result<usize> {
    if !IS_BY_FILE.load(Ordering::Relaxed) {
        let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        match copy_memory(libc::SYS_process_vm_writev, pid, address, &local) {
            Err(error) if is_refused(&error) => {}
            written => return written,
        }
    }
    write_over(pid, address, bytes)
}

/// Writes also where the process itself may only read: of such a page it gets a copy of its own.
pub(in crate::exec) fn write_over(pid: u32, address: u64, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::pwrite(memory_file(pid, OFlags::RDWR)?, bytes, address)?)
}

/// Between `local`, whose memory the caller may read, or write where `call` does, and as many bytes at an address of a
/// process.
fn copy_memory(call: libc::c_long, pid: u32, address: u64, local: &libc::iovec) -> io::Result<usize> {
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: local.iov_len };
    // SAFETY: the caller vouches for the local memory; the kernel checks the remote address.
    let copied = unsafe {
        libc::syscall(call, pid, std::ptr::from_ref(local), 1usize, &raw const remote, 1usize, 0usize)
    };
    check(copied).map(|copied| copied as usize)
}

/// The soft limit that carries a process's number.
pub(in crate::exec) fn carried(pid: u32) -> io::Result<u64> {
    let mut limit = MaybeUninit::<libc::rlimit64>::zeroed();
    let null = std::ptr::null::<libc::rlimit64>();
    // SAFETY: a null pointer sets nothing; the other is valid for writes.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, CARRIER, null, limit.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it; zeroes would be valid as well.
    Ok(unsafe { limit.assume_init() }.rlim_cur)
}

/// Gives a process (0 is this one) a number; the hard limit stays.
pub(in crate::exec) fn carry(pid: u32, number: u64) -> io::Result<()> {
    let mut limit = MaybeUninit::<libc::rlimit64>::zeroed();
    let (null, no) = (std::ptr::null_mut::<libc::rlimit64>(), std::ptr::null::<libc::rlimit64>());
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, CARRIER, no, limit.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it.
    let mut limit = unsafe { limit.assume_init() };
    limit.rlim_cur = number.min(limit.rlim_max);
    // SAFETY: the new limit lives until after the call; the old one is not asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, CARRIER, &raw const limit, null) })?;
    Ok(())
}

/// A copy of another process's open file.
pub(in crate::exec) fn take_file(process: BorrowedFd<'_>, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })?;
    // SAFETY: the kernel just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Pid, uid and gid of the process at the other end of a unix socket.
pub(in crate::exec) fn peer(socket: BorrowedFd<'_>) -> io::Result<(u32, u32, u32)> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both are valid for writes, and the length is that of the structure.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    check(result.into())?;
    Ok((peer.pid as u32, peer.uid, peer.gid))
}

/// A socket of this process.
pub(in crate::exec) fn socket(family: u32, kind: u32, protocol: u32) -> io::Result<OwnedFd> {
    let kind = kind as i32 | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(family as i32, kind, protocol as i32) }.into())?;
    // SAFETY: the kernel just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The user that this thread is to files and new sockets.
pub(in crate::exec) fn set_file_user(user: u32) -> io::Result<()> {
    // SAFETY: no pointers. The call tells no failure, but who the user was before.
    let now = unsafe {
        libc::setfsuid(user);
        libc::setfsuid(u32::MAX)
    };
    if now as u32 == user { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// The value of a socket's option.
pub(in crate::exec) struct OptionValue {
    /// Nothing for a null pointer.
    pub(in crate::exec) bytes: Option<Vec<u8>>,
    /// What the pointer in the bytes (a `struct compat_sock_fprog`) leads to, if there is one.
    pub(in crate::exec) program: Vec<u8>,
}

/// `setsockopt` as a 32-bit program calls it: some structures are others there.
#[cfg(target_arch = "x86_64")]
pub(in crate::exec) fn set_option_as_32_bits(
    socket: BorrowedFd<'_>,
    level: u32,
    option: u32,
    value: &OptionValue,
) -> io::Result<()> {
    const SET_OPTION: u32 = 366;
    let mut bytes = value.bytes.clone().unwrap_or_default();
    let program_at = bytes.len().next_multiple_of(8);
    let low = LowMemory::new(program_at + value.program.len())?;
    if !value.program.is_empty() {
        let address = low.address + program_at as u32;
        bytes[4..8].copy_from_slice(&address.to_ne_bytes());
    }
    low.fill(0, &bytes);
    low.fill(program_at, &value.program);
    let address = if value.bytes.is_some() { low.address } else { 0 };
    let mut result = SET_OPTION;
    // SAFETY: the call of i386 reads the memory at these addresses, which is there until after it; it changes no
    // memory and no registers but those that are named. The compiler has rbx for itself, so it is exchanged meanwhile.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {socket:r}",
            "int 0x80",
            "xchg rbx, {socket:r}",
            socket = inout(reg) u64::from(socket.as_raw_fd() as u32) => _,
            inout("eax") result,
            in("ecx") level,
            in("edx") option,
            in("esi") address,
            in("edi") bytes.len() as u32,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            options(nostack),
        );
    }
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error((result as i32).wrapping_neg())) }
}

/// No other machine has calls of 32 bits that are asked about.
#[cfg(not(target_arch = "x86_64"))]
pub(in crate::exec) fn set_option_as_32_bits(
    _: BorrowedFd<'_>,
    _: u32,
    _: u32,
    value: &OptionValue,
) -> io::Result<()> {
    let OptionValue { bytes: _, program: _ } = value;
    Err(io::ErrorKind::Unsupported.into())
}

/// Memory whose addresses have 32 bits.
#[cfg(target_arch = "x86_64")]
struct LowMemory {
    address: u32,
    length: usize,
}

#[cfg(target_arch = "x86_64")]
impl LowMemory {
    fn new(length: usize) -> io::Result<Self> {
        let length = length.max(1);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: the kernel chooses a place where nothing is.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address: address as usize as u32, length })
    }

    fn fill(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.length);
        let to = (self.address as usize + at) as *mut u8;
        // SAFETY: the memory is this value's, writable, and long enough, as was just seen.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for LowMemory {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into it.
        unsafe { libc::munmap(self.address as usize as *mut _, self.length) };
    }
}

/// Makes the signal that asks a step to end mean nothing to this process.
pub(in crate::exec) fn outlive_the_step() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
}

// The structures are written into other processes as the kernel would write them.
#[cfg(target_arch = "x86_64")]
const _: () = assert!(size_of::<Stat>() == 144);
#[cfg(target_arch = "aarch64")]
const _: () = assert!(size_of::<Stat>() == 128);
const _: () = assert!(size_of::<Statx>() == 256);

/// The bytes of `struct stat`.
pub(in crate::exec) fn stat_bytes(stat: &Stat) -> &[u8] {
    // SAFETY: a plain structure of the kernel's without implicit padding, filled by it, that outlives the slice.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(stat).cast(), size_of::<Stat>()) }
}

/// The bytes of `struct statx`.
pub(in crate::exec) fn statx_bytes(stat: &Statx) -> &[u8] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(stat).cast(), size_of::<Statx>()) }
}
