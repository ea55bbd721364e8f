//! The process that asks: its memory, and paths as it means them.
//!
//! The supervisor's working directory is the `/proc` of the namespace that it shares with the step, so
//! `PID/cwd/…`, `PID/fd/N/…` and `PID/root/…` lead where the process itself would get.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::notify;
use super::numbers::{self, PIDFD_THREAD};

const PAGE: u64 = 4096;
/// Most paths are shorter.
const USUAL: usize = 256;
/// PATH_MAX.
const LONGEST_PATH: usize = 4096;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(in crate::exec) struct Caller {
    pub(in crate::exec) pid: u32,
}

impl Caller {
    /// Exactly so many bytes.
    pub(in crate::exec) fn bytes<const N: usize>(self, address: u64) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        match notify::read_memory(self.pid, address, &mut bytes) {
            Ok(length) if length == N => Ok(bytes),
            _ => Err(Errno::FAULT),
        }
    }

    pub(in crate::exec) fn long_bytes(self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        match notify::read_memory(self.pid, address, &mut bytes) {
            Ok(read) if read == length => Ok(bytes),
            _ => Err(Errno::FAULT),
        }
    }

    pub(in crate::exec) fn write(self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        notify::write_memory(self.pid, address, bytes).map_err(|_| Errno::FAULT)
    }

    /// A text that ends with a zero byte, read in pieces that end with a page at the latest: what follows it may not be there.
    pub(in crate::exec) fn text(self, mut address: u64) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        while text.len() < LONGEST_PATH {
            let mut chunk = [0; USUAL];
            let length = ((PAGE - address % PAGE) as usize).min(USUAL);
            let read = notify::read_memory(self.pid, address, &mut chunk[..length]);
            let read = read.map_err(|_| Errno::FAULT)?;
            if let Some(end) = chunk[..read].iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&chunk[..end]);
                return Ok(text);
            }
            if read == 0 {
                return Err(Errno::FAULT);
            }
            text.extend_from_slice(&chunk[..read]);
            address += read as u64;
        }
        Err(Errno::NAMETOOLONG)
    }

    /// One of its open files.
    pub(in crate::exec) fn file(self, fd: u64) -> CString {
        plain(format!("{}/fd/{}", numbers::shown(self.pid), fd as i32).into_bytes())
    }

    /// Whether one of its open files is open for writing, as far as can be told.
    pub(in crate::exec) fn may_write(self, fd: u64) -> bool {
        let path = format!("{}/fdinfo/{}", numbers::shown(self.pid), fd as i32);
        let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let text = file.ok().and_then(|file| std::io::read_to_string(std::fs::File::from(file)).ok());
        let flags = text.as_deref().and_then(|text| {
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
            i32::from_str_radix(flags.trim(), 8).ok()
        });
        flags.is_none_or(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
    }

    /// What `path` is to it; an empty one is the directory itself.
    pub(in crate::exec) fn path(self, directory: u64, path: &[u8]) -> CString {
        let pid = numbers::shown(self.pid);
        let base = match directory as i32 {
            _ if path.starts_with(b"/") => format!("{pid}/root"),
            libc::AT_FDCWD => format!("{pid}/cwd"),
            fd => format!("{pid}/fd/{fd}"),
        };
        // Whose `self` that is depends on who looks.
        let own = [&b"/proc/self/"[..], b"/proc/thread-self/"];
        if let Some(rest) = own.iter().find_map(|prefix| path.strip_prefix(*prefix)) {
            return plain([format!("{pid}/").as_bytes(), rest].concat());
        }
        let between = if path.is_empty() || path.starts_with(b"/") { &b""[..] } else { b"/" };
        plain([base.as_bytes(), between, path].concat())
    }

    /// What [`Self::path`] gives for a path in its memory.
    pub(in crate::exec) fn path_at(self, directory: u64, address: u64) -> Result<CString, Errno> {
        let path = self.text(address)?;
        if path.is_empty() { Err(Errno::NOENT) } else { Ok(self.path(directory, &path)) }
    }

    /// `/proc/PID/status`.
    pub(in crate::exec) fn whole_status(self) -> Option<String> {
        let file = rustix::fs::openat(
            CWD,
            format!("{}/status", numbers::shown(self.pid)),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        std::io::read_to_string(std::fs::File::from(file.ok()?)).ok()
    }

    /// A field of it, which has one a line.
    pub(in crate::exec) fn status(self, field: &str) -> Option<String> {
        let text = self.whole_status()?;
        text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// Itself, with its open files. Threads have those of their process, unless the kernel can be asked for the thread.
    pub(in crate::exec) fn process(self) -> Result<OwnedFd, Errno> {
        let open =
            |pid: i32, flags| rustix::process::pidfd_open(Pid::from_raw(pid).ok_or(Errno::SRCH)?, flags);
        open(self.pid as i32, PIDFD_THREAD).or_else(|_| {
            let leader = self.status("Tgid").and_then(|text| text.parse().ok()).ok_or(Errno::SRCH)?;
            open(leader, PidfdFlags::empty())
        })
    }

    /// What it takes from the modes of new files.
    pub(in crate::exec) fn umask(self) -> Mode {
        let mask = self.status("Umask").and_then(|text| u32::from_str_radix(&text, 8).ok());
        Mode::from_raw_mode(mask.unwrap_or(0o022))
    }
}

/// The directory that the last component of a path is in.
pub(in crate::exec) fn parent(path: &std::ffi::CStr) -> CString {
    let mut bytes = path.to_bytes();
    while let Some(rest) = bytes.strip_suffix(b"/") {
        bytes = rest;
    }
    let end = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    plain([&bytes[..end], b"/."].concat())
}

/// Nothing here holds a zero byte: texts end at one.
fn plain(bytes: Vec<u8>) -> CString {
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_process() {
        let caller = Caller { pid: 7 };
        let cwd = libc::AT_FDCWD as u32 as u64;
        for (directory, path, expected) in [
            (cwd, "/etc/x", "7/root/etc/x"),
            (cwd, "x/y", "7/cwd/x/y"),
            (cwd, "", "7/cwd"),
            (5, "x", "7/fd/5/x"),
            (5, "", "7/fd/5"),
            (5, "/proc/self/fd/3", "7/fd/3"),
        ] {
            assert_eq!(caller.path(directory, path.as_bytes()).to_str(), Ok(expected));
        }
        assert_eq!(caller.file(3).to_str(), Ok("7/fd/3"));
        assert_eq!(parent(c"7/cwd/x/y//").to_str(), Ok("7/cwd/x/."));
        assert_eq!(parent(c"7/cwd/x").to_str(), Ok("7/cwd/."));
    }
}
