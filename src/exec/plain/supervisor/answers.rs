//! Answers to calls whose path leads below `/proc`.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Access, AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::Supervisor;
use super::found::{self, Found};
use super::locate::{HERE, Place};
use crate::exec::owners::caller::Caller;
use crate::exec::owners::notify::{self, Answer, Question};
use crate::exec::plain::calls::PathCall;

const NOFOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;
/// The least of `struct open_how`: flags, mode, how to resolve.
const OPEN_HOW_BYTES: u64 = 24;

/// What a call that names a path wants.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The descriptor that the path begins at.
    pub(super) directory: u64,
    pub(super) path: Vec<u8>,
    /// Whether the path is followed if it is a symbolic link.
    pub(super) follows: bool,
    /// How it is opened.
    pub(super) flags: OFlags,
    pub(super) mode: Mode,
}

impl Wanted {
    /// `None` if that cannot be told, or there is no path.
    pub(super) fn of(call: PathCall, question: &Question, caller: Caller) -> Result<Option<Self>, Errno> {
        let args = question.args;
        let no_flags = OFlags::empty();
        let opened = |flags: u64| OFlags::from_bits_retain(flags as u32);
        let at = |flags: u64| flags & NOFOLLOW == 0;
        let (directory, address, follows, flags) = match call {
            PathCall::Open => (HERE, args[0], true, opened(args[1])),
            PathCall::Creat => (HERE, args[0], true, OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC),
            PathCall::Openat => (args[0], args[1], true, opened(args[2])),
            PathCall::Openat2 => {
                if args[3] < OPEN_HOW_BYTES {
                    return Ok(None);
                }
                let how: [u8; OPEN_HOW_BYTES as usize] = caller.bytes(args[2])?;
                let number = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| how[at + i]));
                // Rules about how to resolve the path are for the kernel.
                if number(16) != 0 {
                    return Ok(None);
                }
                (args[0], args[1], true, opened(number(0)))
            }
            PathCall::Stat | PathCall::Access | PathCall::Execve => (HERE, args[0], true, no_flags),
            PathCall::Lstat | PathCall::Readlink => (HERE, args[0], false, no_flags),
            PathCall::Fstatat => (args[0], args[1], at(args[3]), no_flags),
            PathCall::Statx => (args[0], args[1], at(args[2]), no_flags),
            // The older call has no flags.
            PathCall::Faccessat => (args[0], args[1], true, no_flags),
            PathCall::Readlinkat => (args[0], args[1], false, no_flags),
            PathCall::Execveat => (args[0], args[1], at(args[4]), no_flags),
        };
        let exclusive = OFlags::CREATE | OFlags::EXCL;
        let follows = follows && !flags.contains(OFlags::NOFOLLOW) && !flags.contains(exclusive);
        let Ok(path) = caller.text(address) else { return Ok(None) };
        if path.is_empty() {
            return Ok(None);
        }
        let mode = match call {
            PathCall::Open => args[2],
            PathCall::Openat => args[3],
            PathCall::Creat => args[1],
            _ => 0,
        };
        let mode = Mode::from_raw_mode(mode as u32 & 0o7777);
        Ok(Some(Self { directory, path, follows, flags, mode }))
    }
}

/// Something that can be looked at: a directory of this process's, and a path.
struct Seen<'a> {
    directory: BorrowedFd<'a>,
    path: Vec<u8>,
    follow: bool,
}

impl Seen<'_> {
    fn flags(&self) -> AtFlags {
        if self.follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }
    }
}

impl Supervisor {
    pub(super) fn below_proc(
        &mut self,
        call: PathCall,
        question: &Question,
        wanted: &Wanted,
        rest: VecDeque<Vec<u8>>,
    ) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let found = self.find(caller, rest, wanted.follows)?;
        match call {
            PathCall::Open | PathCall::Openat | PathCall::Openat2 | PathCall::Creat => {
                let file = self.open(caller, found, wanted)?;
                Ok(Answer::File(file, wanted.flags.contains(OFlags::CLOEXEC)))
            }
            PathCall::Stat | PathCall::Lstat | PathCall::Fstatat | PathCall::Statx => {
                let seen = self.seen(caller, found, wanted.follows)?;
                tell_stat(call, question, &seen)
            }
            PathCall::Access | PathCall::Faccessat => {
                let mode = if call == PathCall::Access { question.args[1] } else { question.args[2] };
                let is_writable = self.is_writable(&found);
                let seen = self.seen(caller, found, true)?;
                may_access(&seen, mode as u32, is_writable)
            }
            PathCall::Readlink | PathCall::Readlinkat => {
                let text = self.text_of(found)?;
                let at = usize::from(call == PathCall::Readlinkat);
                let length = text.len().min(question.args[at + 2] as usize);
                caller.write(question.args[at + 1], &text[..length])?;
                Ok(Answer::Value(length as u32))
            }
            PathCall::Execve | PathCall::Execveat => self.execute(call, question, wanted, found),
        }
    }

    fn open(&mut self, caller: Caller, found: Found, wanted: &Wanted) -> Result<OwnedFd, Errno> {
        let flags = wanted.flags;
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        let exclusive = OFlags::CREATE | OFlags::EXCL;
        if flags.contains(exclusive) {
            return Err(Errno::EXIST);
        }
        match found {
            Found::Folder(_) if writes || flags.contains(OFlags::CREATE) => Err(Errno::ISDIR),
            Found::Folder(at) => {
                let inside = self.mirror(&at)?;
                open_folder(&inside)
            }
            Found::File(_) | Found::MadeUp(_) if flags.contains(OFlags::DIRECTORY) => Err(Errno::NOTDIR),
            Found::MadeUp(_) if writes => Err(Errno::ACCESS),
            Found::MadeUp(at) => in_memory(found::made_up(&at)),
            Found::File(at) if writes && !is_own_to_write(&at) => {
                Err(if at.starts_with("sys/") { Errno::ROFS } else { Errno::ACCESS })
            }
            Found::File(at) => {
                let kept = flags & (OFlags::RWMODE | OFlags::NONBLOCK) | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(self.owners.proc(), at, kept, Mode::empty())
            }
            Found::Text(_) | Found::LinkItself(_) => Err(Errno::LOOP),
            Found::Link(link, rest) => self.open_through(caller, &link, &rest, wanted),
            Found::Inside(path) => self.open_inside(caller, &path, wanted),
        }
    }

    /// What a link of the kernel's leads to: a file that a process has open, its program, a directory.
    fn open_through(
        &mut self,
        caller: Caller,
        link: &str,
        rest: &VecDeque<Vec<u8>>,
        wanted: &Wanted,
    ) -> Result<OwnedFd, Errno> {
        let stat = rustix::fs::statat(self.owners.proc(), link, AtFlags::empty())?;
        if !rest.is_empty() || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let path = self.path_through(link, rest)?;
            return self.open_inside(caller, &path, wanted);
        }
        let flags = wanted.flags;
        if flags.contains(OFlags::DIRECTORY) {
            return Err(Errno::NOTDIR);
        }
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        // What was handed in of the outer /proc stays as it was handed in.
        let outer = rustix::fs::fstat(self.owners.proc())?;
        if writes && stat.st_dev == outer.st_dev {
            return Err(Errno::ACCESS);
        }
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let mut kept = flags & (OFlags::RWMODE | OFlags::APPEND);
        if is_file {
            kept |= flags & OFlags::TRUNC;
        }
        // A pipe without another end must not make this process wait.
        let kept = kept | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.owners.proc(), link, kept, Mode::empty())?;
        if !flags.contains(OFlags::NONBLOCK) {
            let now = rustix::fs::fcntl_getfl(&file)?;
            rustix::fs::fcntl_setfl(&file, now - OFlags::NONBLOCK)?;
        }
        Ok(file)
    }

    /// The path in the step's root of what lies behind a link of the kernel's to a directory.
    fn path_through(&self, link: &str, rest: &VecDeque<Vec<u8>>) -> Result<Vec<u8>, Errno> {
        let text = rustix::fs::readlinkat(self.owners.proc(), link, Vec::new())?.into_bytes();
        let there = rustix::fs::statat(self.owners.proc(), link, AtFlags::empty())?;
        // A directory that lies outside has a path as well: only what is the same inside is meant.
        let inside = rustix::fs::statat(CWD, text.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
        if (there.st_dev, there.st_ino) != (inside.st_dev, inside.st_ino) {
            return Err(Errno::ACCESS);
        }
        let mut path = text;
        for part in rest {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        Ok(path)
    }

    /// In the step's root, which is this process's, too; perhaps below `/proc` once more.
    fn open_inside(&mut self, caller: Caller, path: &[u8], wanted: &Wanted) -> Result<OwnedFd, Errno> {
        match self.walk(b"", path, wanted.follows)? {
            Place::Proc(rest) => {
                let found = self.find(caller, rest, wanted.follows)?;
                // Each time there is one link less to go through.
                if matches!(found, Found::Inside(_)) {
                    Err(Errno::LOOP)
                } else {
                    self.open(caller, found, wanted)
                }
            }
            _ => {
                let flags = wanted.flags | OFlags::CLOEXEC | OFlags::NOCTTY;
                rustix::fs::openat(CWD, path, flags - OFlags::PATH, wanted.mode)
            }
        }
    }

    /// Where to look at it.
    fn seen(&mut self, caller: Caller, found: Found, follows: bool) -> Result<Seen<'_>, Errno> {
        let inside = |path: Vec<u8>| Seen { directory: CWD, path, follow: follows };
        Ok(match found {
            Found::Folder(at) => inside(self.mirror(&at)?),
            Found::File(at) | Found::MadeUp(at) | Found::LinkItself(at) => self.outer(at, false),
            Found::Text(_) => self.outer("self".to_owned(), false),
            Found::Link(link, rest) if rest.is_empty() => self.outer(link, true),
            Found::Link(link, rest) => {
                let path = self.path_through(&link, &rest)?;
                match self.walk(b"", &path, follows)? {
                    Place::Proc(rest) => {
                        let found = self.find(caller, rest, follows)?;
                        match found {
                            Found::File(at) | Found::MadeUp(at) => self.outer(at, false),
                            Found::Folder(at) => inside(self.mirror(&at)?),
                            _ => return Err(Errno::LOOP),
                        }
                    }
                    _ => inside(path),
                }
            }
            Found::Inside(path) => inside(path),
        })
    }

    fn outer(&self, at: String, follow: bool) -> Seen<'_> {
        Seen { directory: self.owners.proc(), path: at.into_bytes(), follow }
    }

    /// What a link says.
    fn text_of(&self, found: Found) -> Result<Vec<u8>, Errno> {
        match found {
            Found::Text(text) => Ok(text.into_bytes()),
            Found::LinkItself(link) => {
                Ok(rustix::fs::readlinkat(self.owners.proc(), link, Vec::new())?.into_bytes())
            }
            Found::Link(link, rest) if !rest.is_empty() => {
                let path = self.path_through(&link, &rest)?;
                Ok(rustix::fs::readlinkat(CWD, path, Vec::new())?.into_bytes())
            }
            Found::Inside(path) => Ok(rustix::fs::readlinkat(CWD, path, Vec::new())?.into_bytes()),
            _ => Err(Errno::INVAL),
        }
    }

    fn is_writable(&self, found: &Found) -> bool {
        match found {
            Found::File(at) => is_own_to_write(at),
            Found::MadeUp(_) | Found::Folder(_) => false,
            Found::Text(_) | Found::Link(..) | Found::LinkItself(_) | Found::Inside(_) => true,
        }
    }
}

/// Files of a process that it may write to: they change nothing of anybody else.
fn is_own_to_write(at: &str) -> bool {
    const OWN: [&str; 8] = [
        "oom_score_adj",
        "oom_adj",
        "comm",
        "coredump_filter",
        "clear_refs",
        "autogroup",
        "timerslack_ns",
        "mem",
    ];
    let last = at.rsplit('/').next().unwrap_or(at);
    at.starts_with(|first: char| first.is_ascii_digit()) && OWN.contains(&last)
}

pub(super) fn open_folder(inside: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, inside, flags, Mode::empty())
}

/// A file that can only be read.
fn in_memory(content: &str) -> Result<OwnedFd, Errno> {
    let memory = rustix::fs::memfd_create("mounts", MemfdFlags::CLOEXEC)?;
    crate::exec::sys::pipe::write_all(&memory, content.as_bytes())?;
    let path = format!("self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    // The working directory is the outer /proc.
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn tell_stat(call: PathCall, question: &Question, seen: &Seen<'_>) -> Result<Answer, Errno> {
    let caller = Caller { pid: question.pid };
    if call == PathCall::Statx {
        let [_, _, _, mask, buffer, _] = question.args;
        let mask = StatxFlags::from_bits_retain(mask as u32);
        let stat = rustix::fs::statx(seen.directory, seen.path.as_slice(), seen.flags(), mask)?;
        caller.write(buffer, notify::statx_bytes(&stat))?;
        return Ok(Answer::Value(0));
    }
    let stat: Stat = rustix::fs::statat(seen.directory, seen.path.as_slice(), seen.flags())?;
    let buffer = if call == PathCall::Fstatat { question.args[2] } else { question.args[1] };
    caller.write(buffer, notify::stat_bytes(&stat))?;
    Ok(Answer::Value(0))
}

fn may_access(seen: &Seen<'_>, mode: u32, is_writable: bool) -> Result<Answer, Errno> {
    let mode = Access::from_bits_truncate(mode as _);
    if mode.contains(Access::WRITE_OK) && !is_writable {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(seen.directory, seen.path.as_slice(), mode, AtFlags::empty())?;
    Ok(Answer::Value(0))
}
