//! A `/proc` for whoever answers for a step's processes, and by which numbers it shows them.
//!
//! Where parts of the machine's `/proc` are covered, the kernel allows no other one. Then the machine's is used, which shows each
//! process by its number in the machine's pid namespace.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use crate::exec::step::mounts;

/// `PIDFD_THREAD` (Linux 6.9).
pub(super) const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);

/// Whether the `/proc` of this process, which does nothing but answer, has the machine's numbers.
static IS_OF_THE_MACHINE: AtomicBool = AtomicBool::new(false);

/// Opens one, to be the working directory.
pub(super) fn open_proc() -> rustix::io::Result<OwnedFd> {
    match mounts::fresh("proc", &[], MountAttrFlags::empty()) {
        Err(Errno::PERM) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
            IS_OF_THE_MACHINE.store(true, Ordering::Relaxed);
            Ok(proc)
        }
        made => made,
    }
}

/// Whether the machine's `/proc` would do: threads must be found by their numbers, too.
pub(in crate::exec) fn can_be_translated() -> bool {
    pidfd_open(getpid(), PIDFD_THREAD).is_ok()
}

/// The number by which the working directory shows a thread that this process knows as `pid`; 0, which nobody has, for one that
/// is gone.
pub(super) fn shown(pid: u32) -> u32 {
    match IS_OF_THE_MACHINE.load(Ordering::Relaxed) {
        false => pid,
        true => translated(pid).unwrap_or(0),
    }
}

/// The kernel tells it of a descriptor, as whoever reads that `/proc` counts.
fn translated(pid: u32) -> Option<u32> {
    let thread = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PIDFD_THREAD).ok()?;
    let path = format!("self/fdinfo/{}", thread.as_raw_fd());
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let text = std::io::read_to_string(std::fs::File::from(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}
