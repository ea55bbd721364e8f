//! What lies at a path below `/proc`, for a process of the step.
//!
//! Only what is below the directories of the step's own processes, and what is about the machine and is not masked elsewhere.

use std::collections::VecDeque;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::Supervisor;
use crate::exec::owners::caller::Caller;
use crate::exec::plain::members;

/// What nobody in a container sees.
const MASKED: [&str; 16] = [
    "acpi",
    "asound",
    "bus",
    "driver",
    "fs",
    "interrupts",
    "irq",
    "kcore",
    "keys",
    "kmsg",
    "kpagecount",
    "latency_stats",
    "scsi",
    "sched_debug",
    "sysrq-trigger",
    "timer_list",
];

/// What of a process is told from memory: for the kernel it has no mounts.
const MADE_UP: [&str; 3] = ["mounts", "mountinfo", "mountstats"];

/// Something below `/proc`; paths are relative to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Folder(String),
    File(String),
    /// A file whose content is made up.
    MadeUp(String),
    /// A symbolic link with this text, itself.
    Text(String),
    /// A link of the kernel's, which leads to something that a process has open or runs; then what is to be found from there.
    Link(String, VecDeque<Vec<u8>>),
    /// A link of the kernel's itself.
    LinkItself(String),
    /// Not below `/proc` after all: this path in the step's root.
    Inside(Vec<u8>),
}

impl Supervisor {
    /// Whether `pid` is a process or thread of the step.
    pub(super) fn is_member(&self, pid: u32) -> bool {
        members::is_below(self.owners.proc(), pid, self.keeper, &[self.own])
    }

    /// The process of a thread.
    pub(super) fn process_of(&self, caller: Caller) -> Result<u32, Errno> {
        let text = caller.status("Tgid").ok_or(Errno::SRCH)?;
        text.parse().map_err(|_| Errno::SRCH)
    }

    fn look(&self, at: &str) -> Result<Stat, Errno> {
        rustix::fs::statat(self.owners.proc(), at, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Finds what `rest` leads to.
    pub(super) fn find(
        &self,
        caller: Caller,
        mut rest: VecDeque<Vec<u8>>,
        follows: bool,
    ) -> Result<Found, Errno> {
        let mut at = String::new();
        while let Some(part) = rest.pop_front() {
            let part = String::from_utf8(part).map_err(|_| Errno::NOENT)?;
            if part == ".." {
                match at.rfind('/') {
                    Some(end) => at.truncate(end),
                    None if at.is_empty() => {
                        let parts: Vec<_> = rest.into();
                        return Ok(Found::Inside([&b"/"[..], &parts.join(&b'/')].concat()));
                    }
                    None => at.clear(),
                }
                continue;
            }
            let is_last = rest.is_empty();
            if at.is_empty() {
                match self.enter(caller, &part, &mut rest, is_last && !follows)? {
                    Ok(entered) => at = entered,
                    Err(text) => return Ok(Found::Text(text)),
                }
            } else {
                at = format!("{at}/{part}");
            }
            if is_made_up(&at) {
                let found = if rest.is_empty() { Ok(Found::MadeUp(at)) } else { Err(Errno::NOTDIR) };
                return found;
            }
            match FileType::from_raw_mode(self.look(&at)?.st_mode) {
                FileType::Directory => {}
                FileType::Symlink if is_last && !follows => return Ok(Found::LinkItself(at)),
                FileType::Symlink => return Ok(Found::Link(at, rest)),
                _ if is_last => return Ok(Found::File(at)),
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(Found::Folder(at))
    }

    /// The first component: a path relative to `/proc`, with what is still to be found, or the text of a link.
    fn enter(
        &self,
        caller: Caller,
        name: &str,
        rest: &mut VecDeque<Vec<u8>>,
        is_itself: bool,
    ) -> Result<Result<String, String>, Errno> {
        let own = match name {
            "self" | "thread-self" | "mounts" | "net" => self.process_of(caller)?,
            _ => 0,
        };
        let text = match name {
            "self" => own.to_string(),
            "thread-self" => format!("{own}/task/{}", caller.pid),
            "mounts" | "net" => format!("self/{name}"),
            _ if name.bytes().all(|byte| byte.is_ascii_digit()) => {
                let pid = name.parse().map_err(|_| Errno::NOENT)?;
                return if self.is_member(pid) { Ok(Ok(name.to_owned())) } else { Err(Errno::NOENT) };
            }
            _ if MASKED.contains(&name) => return Err(Errno::NOENT),
            _ => return Ok(Ok(name.to_owned())),
        };
        if is_itself {
            return Ok(Err(text));
        }
        match name {
            "mounts" | "net" => {
                rest.push_front(name.as_bytes().to_vec());
                Ok(Ok(own.to_string()))
            }
            _ => Ok(Ok(text)),
        }
    }

    /// Whether the top level of `/proc` shows a name.
    pub(super) fn is_shown(name: &str) -> bool {
        !MASKED.contains(&name)
    }
}

fn is_made_up(at: &str) -> bool {
    let last = at.rsplit('/').next().unwrap_or(at);
    at.starts_with(|first: char| first.is_ascii_digit()) && MADE_UP.contains(&last)
}

/// The content of such a file.
pub(super) fn made_up(at: &str) -> &'static str {
    match at.rsplit('/').next() {
        Some("mountinfo") => {
            "1 0 0:1 / / rw,relatime - overlay overlay rw\n\
             2 1 0:2 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
             3 1 0:3 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755\n\
             4 1 0:4 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro\n"
        }
        Some("mountstats") => {
            "device overlay mounted on / with fstype overlay\n\
             device proc mounted on /proc with fstype proc\n\
             device tmpfs mounted on /dev with fstype tmpfs\n\
             device sysfs mounted on /sys with fstype sysfs\n"
        }
        _ => {
            "overlay / overlay rw,relatime 0 0\n\
             proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n\
             tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755 0 0\n\
             sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_processes_are_made_up() {
        for (at, expected) in
            [("7/mounts", true), ("7/task/8/mountinfo", true), ("mounts", false), ("7/maps", false)]
        {
            assert_eq!(is_made_up(at), expected, "{at}");
        }
        assert!(made_up("7/mounts").starts_with("overlay / "));
        assert!(made_up("7/mountinfo").starts_with("1 0 "));
    }
}
