//! Files that a step maps to write to them.
//!
//! A file in memory (tmpfs) does not get another time when it is written to through a mapping, so what was mapped is noted: whoever looks
//! for changes compares what it holds. The kernel maps it by itself.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};

use rustix::fs::{FileType, MemfdFlags};
use rustix::io::Errno;

use super::Supervisor;
use crate::exec::owners::caller::Caller;
use crate::exec::owners::notify::{Answer, Question};

/// `MAP_SHARED`, which `MAP_SHARED_VALIDATE` has, too.
pub(in crate::exec::plain) const SHARED: u32 = libc::MAP_SHARED as u32;

/// No file's number.
const UNSEEN: u64 = 0;

/// The supervisor's notes; the keeper reads them when that has ended, also when it was killed.
pub(in crate::exec::plain) struct Mapped {
    notes: File,
    known: HashSet<u64>,
}

impl Mapped {
    /// Nothing is noted yet.
    pub(in crate::exec::plain) fn new() -> io::Result<Self> {
        let notes = rustix::fs::memfd_create("mapped", MemfdFlags::CLOEXEC)?;
        Ok(Self { notes: notes.into(), known: HashSet::new() })
    }

    /// For the supervisor, which is another process.
    pub(in crate::exec::plain) fn shared(&self) -> io::Result<Self> {
        Ok(Self { notes: self.notes.try_clone()?, known: HashSet::new() })
    }

    fn note(&mut self, inode: u64) -> io::Result<()> {
        match self.known.insert(inode) {
            true => self.notes.write_all(&inode.to_ne_bytes()),
            false => Ok(()),
        }
    }

    /// The inodes of all that was mapped, and whether something was done that is not told.
    pub(in crate::exec::plain) fn noted(mut self) -> io::Result<(Vec<u64>, bool)> {
        let mut noted = Vec::new();
        self.notes.rewind()?;
        self.notes.read_to_end(&mut noted)?;
        let all = noted.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
        let (unseen, inodes): (Vec<u64>, Vec<u64>) = all.partition(|inode| *inode == UNSEEN);
        Ok((inodes, !unseen.is_empty()))
    }
}

/// What a call maps.
struct Wanted {
    protection: u32,
    flags: u32,
    file: u64,
}

impl Wanted {
    fn of(question: &Question, in_memory: bool) -> Result<Self, Errno> {
        let [_, _, protection, flags, file, _] = question.args;
        if !in_memory {
            return Ok(Self { protection: protection as u32, flags: flags as u32, file });
        }
        // `struct mmap_arg_struct` of 32-bit x86: address, length, and so on.
        let words = Caller { pid: question.pid }.bytes::<20>(question.args[0])?;
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| words[4 * at + byte]));
        Ok(Self { protection: word(2), flags: word(3), file: word(4).into() })
    }
}

impl Supervisor {
    /// What changes files without being told of where directories are watched: other names of theirs, and writing that goes round.
    pub(super) fn unseen(&mut self) -> Result<Answer, Errno> {
        self.note(UNSEEN)
    }

    fn note(&mut self, inode: u64) -> Result<Answer, Errno> {
        let noted = self.mapped.note(inode);
        noted.map(|()| Answer::Continue).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// `mmap`, with its arguments in memory or not.
    pub(super) fn map(&mut self, question: &Question, in_memory: bool) -> Result<Answer, Errno> {
        let wanted = Wanted::of(question, in_memory)?;
        if wanted.flags & SHARED == 0 || wanted.flags & libc::MAP_ANONYMOUS as u32 != 0 {
            return Ok(Answer::Continue);
        }
        let caller = Caller { pid: question.pid };
        // Of what is wrong with it the kernel speaks.
        let Ok(stat) = rustix::fs::stat(caller.file(wanted.file)) else { return Ok(Answer::Continue) };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        // What can be written to later is noted, too.
        let is_written = || wanted.protection & libc::PROT_WRITE as u32 != 0 || caller.may_write(wanted.file);
        if is_file && is_written() { self.note(stat.st_ino) } else { Ok(Answer::Continue) }
    }
}
