//! Programs that are executed by a path below `/proc`, and terminals and devices that are handed in.

use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Supervisor;
use super::answers::Wanted;
use super::found::Found;
use crate::exec::owners::Call;
use crate::exec::owners::caller::Caller;
use crate::exec::owners::notify::{self, Answer, Question};
use crate::exec::plain::calls::PathCall;
use crate::exec::seccomp::Convention;
use crate::exec::sys;

impl Supervisor {
    /// The kernel executes what the path says in the step's root, where there is no `/proc/self/exe`. So a link to the same
    /// program is made there, with a path that is no longer, and written over the caller's.
    pub(super) fn execute(
        &mut self,
        call: PathCall,
        question: &Question,
        wanted: &Wanted,
        found: Found,
    ) -> Result<Answer, Errno> {
        let Found::Link(link, rest) = found else { return Err(Errno::ACCESS) };
        if !rest.is_empty() {
            return Err(Errno::ACCESS);
        }
        let program = rustix::fs::readlinkat(self.owners.proc(), link.as_str(), Vec::new())?;
        let there = rustix::fs::statat(self.owners.proc(), link.as_str(), AtFlags::empty())?;
        let inside = rustix::fs::statat(CWD, &program, AtFlags::SYMLINK_NOFOLLOW);
        // A program that is deleted, or lies outside, has no path in the root.
        let is_it = inside.is_ok_and(|inside| {
            (there.st_dev, there.st_ino) == (inside.st_dev, inside.st_ino)
                && FileType::from_raw_mode(inside.st_mode) == FileType::RegularFile
        });
        if !is_it {
            return Err(Errno::ACCESS);
        }
        let path = self.link_to((there.st_dev, there.st_ino), program.as_bytes())?;
        if path.len() > wanted.path.len() {
            return Err(Errno::ACCESS);
        }
        let address = question.args[usize::from(call == PathCall::Execveat)];
        let written = notify::write_over(question.pid, address, &[path.as_bytes(), b"\0"].concat());
        written.map_err(|_| Errno::ACCESS)?;
        let call = if call == PathCall::Execve { Call::Execve } else { Call::Execveat };
        self.owners.decide_call(question, (call, Convention { narrow: false, wide: true }))
    }

    /// A link to a program; its name is `exe`, which is then the process's.
    fn link_to(&mut self, (device, inode): (u64, u64), program: &[u8]) -> Result<String, Errno> {
        let key = (device, inode, program.to_vec());
        if let Some(path) = self.programs.get(&key) {
            return Ok(path.clone());
        }
        let folder = format!("/proc/.{}", self.programs.len() + 1);
        let path = format!("{folder}/exe");
        rustix::fs::mkdirat(CWD, &folder, Mode::from_raw_mode(0o555))?;
        rustix::fs::symlinkat(program, CWD, &path)?;
        self.programs.insert(key, path.clone());
        Ok(path)
    }

    /// `/dev/ptmx` and what is in `/dev/pts`: the container's, of which a step sees what it has made.
    pub(super) fn terminal(
        &mut self,
        call: PathCall,
        question: &Question,
        wanted: &Wanted,
        rest: &[Vec<u8>],
    ) -> Result<Answer, Errno> {
        let names: Vec<&str> = rest.iter().filter_map(|name| std::str::from_utf8(name).ok()).collect();
        let opens = matches!(call, PathCall::Open | PathCall::Openat | PathCall::Openat2);
        match names[..] {
            ["ptmx"] | ["pts", "ptmx"] if opens => {
                let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | wanted.flags & OFlags::NONBLOCK;
                let made = rustix::fs::openat(&self.dev, "pts/ptmx", flags, Mode::empty());
                let master = made.or_else(|_| rustix::fs::openat(&self.dev, "ptmx", flags, Mode::empty()))?;
                self.terminals.insert(sys::number_of_terminal(master.as_fd())?);
                Ok(Answer::File(master, wanted.flags.contains(OFlags::CLOEXEC)))
            }
            ["pts", number] if number.parse().is_ok_and(|number| self.terminals.contains(&number)) => {
                let path = format!("pts/{number}");
                if opens {
                    let kept = OFlags::RWMODE | OFlags::NONBLOCK | OFlags::NOCTTY;
                    let flags = wanted.flags & kept | OFlags::NOCTTY | OFlags::CLOEXEC;
                    let terminal = rustix::fs::openat(&self.dev, path, flags, Mode::empty())?;
                    return Ok(Answer::File(terminal, wanted.flags.contains(OFlags::CLOEXEC)));
                }
                self.look_at_device(call, question, &path)
            }
            _ => Ok(Answer::Continue),
        }
    }

    fn look_at_device(&self, call: PathCall, question: &Question, path: &str) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let stat = rustix::fs::statat(&self.dev, path, AtFlags::SYMLINK_NOFOLLOW)?;
        let buffer = match call {
            PathCall::Stat | PathCall::Lstat => question.args[1],
            PathCall::Fstatat => question.args[2],
            PathCall::Access | PathCall::Faccessat => return Ok(Answer::Value(0)),
            PathCall::Statx => {
                let mask = rustix::fs::StatxFlags::from_bits_retain(question.args[3] as u32);
                let stat = rustix::fs::statx(&self.dev, path, AtFlags::SYMLINK_NOFOLLOW, mask)?;
                caller.write(question.args[4], notify::statx_bytes(&stat))?;
                return Ok(Answer::Value(0));
            }
            _ => return Ok(Answer::Continue),
        };
        caller.write(buffer, notify::stat_bytes(&stat))?;
        Ok(Answer::Value(0))
    }

    /// A device for which there is no node: the container's own.
    pub(super) fn device(
        &self,
        call: PathCall,
        question: &Question,
        wanted: &Wanted,
        name: &str,
    ) -> Result<Answer, Errno> {
        if !matches!(call, PathCall::Open | PathCall::Openat | PathCall::Openat2 | PathCall::Creat) {
            return self.look_at_device(call, question, name);
        }
        let flags = wanted.flags & (OFlags::RWMODE | OFlags::NONBLOCK) | OFlags::NOCTTY | OFlags::CLOEXEC;
        let device = rustix::fs::openat(&self.dev, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&device)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => Ok(Answer::File(device, wanted.flags.contains(OFlags::CLOEXEC))),
            _ => Err(Errno::NXIO),
        }
    }
}
