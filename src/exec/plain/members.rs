//! Which processes are a step's: those below its keeper. A keeper takes in all that lose their parents below it.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::exec::sys;

/// No tree of processes is as deep; numbers that were given out again could make a circle.
const DEEPEST: usize = 100_000;

/// What `/proc/PID/stat` says of the process above, and whether it has ended.
fn parent_of(proc: BorrowedFd<'_>, pid: u32) -> Option<(u32, bool)> {
    let path = format!("{pid}/stat");
    let file = rustix::fs::openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 512];
    let length = rustix::io::read(&file, &mut text).ok()?;
    parse(&text[..length])
}

/// The name, in brackets, may hold anything.
fn parse(stat: &[u8]) -> Option<(u32, bool)> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..]).ok()?.split_whitespace();
    let state = fields.next()?;
    Some((fields.next()?.parse().ok()?, state == "Z" || state == "X"))
}

/// Whether `pid` is below `keeper`, and none of `apart`, which are there too, nor below them.
pub(super) fn is_below(proc: BorrowedFd<'_>, pid: u32, keeper: u32, apart: &[u32]) -> bool {
    let mut at = pid;
    for _ in 0..DEEPEST {
        match parent_of(proc, at) {
            _ if apart.contains(&at) => return false,
            Some((parent, _)) if parent == keeper => return true,
            Some((parent, _)) if parent > 1 => at = parent,
            _ => return false,
        }
    }
    false
}

/// All processes below `keeper` that have not ended, without those that `apart` names and what is below them.
pub(super) fn all_below(proc: BorrowedFd<'_>, keeper: u32, apart: &[u32]) -> Vec<u32> {
    let parents = table(proc);
    let is_below = |pid: u32| {
        let mut at = pid;
        for _ in 0..parents.len() {
            if apart.contains(&at) {
                return false;
            }
            match parents.get(&at) {
                Some((parent, _)) if *parent == keeper => return true,
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
        false
    };
    let mut found: Vec<u32> =
        parents.iter().filter(|(pid, (_, ended))| !ended && is_below(**pid)).map(|(pid, _)| *pid).collect();
    found.sort_unstable();
    found
}

fn table(proc: BorrowedFd<'_>) -> HashMap<u32, (u32, bool)> {
    let Ok(entries) = Dir::read_from(proc) else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok());
    pids.filter_map(|pid| Some((pid, parent_of(proc, pid)?))).collect()
}

/// Sends a signal to a process as long as it is what `is_it` says: not to another that has got its number meanwhile.
pub(super) fn send(pid: u32, signal: i32, is_it: impl FnOnce() -> bool) -> rustix::io::Result<()> {
    let process = Pid::from_raw(pid as i32).ok_or(rustix::io::Errno::SRCH)?;
    let file = rustix::process::pidfd_open(process, PidfdFlags::empty())?;
    if !is_it() {
        return Err(rustix::io::Errno::SRCH);
    }
    sys::send_signal(file.as_fd(), signal)
}

/// Ends these processes, as far as they are below `keeper` and not `apart`. First all are stopped, so that none can start
/// others faster than they end. What they started meanwhile is left.
pub(super) fn end(proc: BorrowedFd<'_>, pids: &[u32], keeper: u32, apart: &[u32]) {
    for signal in [Signal::STOP, Signal::KILL] {
        for pid in pids {
            let _ = send(*pid, signal.as_raw(), || is_below(proc, *pid, keeper, apart));
        }
    }
}

/// The zygote's: ends what a keeper that was killed has left. These keepers, and what is below them, are let be.
pub(in crate::exec) fn end_strays(keepers: &[Pid]) {
    let Ok(proc) = open_proc() else { return };
    let own = std::process::id();
    let apart: Vec<u32> = keepers.iter().map(|pid| pid.as_raw_nonzero().get() as u32).collect();
    loop {
        let left = all_below(proc.as_fd(), own, &apart);
        if left.is_empty() {
            return;
        }
        end(proc.as_fd(), &left, own, &apart);
        for pid in left {
            let _ = sys::reap_one(pid);
        }
    }
}

/// The `/proc` that this process sees.
pub(super) fn open_proc() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/proc", flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_parent_stands_behind_any_name() {
        assert_eq!(parse(b"7 (a) b) S 42 7 7 0"), Some((42, false)));
        assert_eq!(parse(b"7 (x) Z 1 7"), Some((1, true)));
        assert_eq!(parse(b"7 (x"), None);
    }

    #[test]
    fn a_process_is_below_its_parent() {
        let proc = open_proc().unwrap();
        let own = std::process::id();
        let parent = parent_of(proc.as_fd(), own).unwrap().0;
        assert!(is_below(proc.as_fd(), own, parent, &[]));
        assert!(!is_below(proc.as_fd(), own, own, &[]));
        assert!(!is_below(proc.as_fd(), own, parent, &[own]));
        assert!(all_below(proc.as_fd(), parent, &[]).contains(&own));
        assert!(!all_below(proc.as_fd(), parent, &[own]).contains(&own));
    }
}
