//! What the kernel runs a program with: a script's interpreter, and the loader of shared libraries that an ELF file names.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};

/// More than the kernel follows.
pub(super) const INTERPRETERS: u32 = 8;
/// As much of a script's first line as the kernel reads.
const FIRST_LINE_BYTES: usize = 256;

/// What runs the script at `path`, if it is one. Nothing but a plain file is read.
pub(super) fn interpreter(path: &str) -> Option<String> {
    let mut line = [0; FIRST_LINE_BYTES];
    let length = rustix::io::read(&open_plain(path)?, &mut line).ok()?;
    let line = line[..length].strip_prefix(b"#!")?;
    let line = line.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    String::from_utf8(words.next()?.to_vec()).ok()
}

fn open_plain(path: &str) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let stat = rustix::fs::stat(path).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => rustix::fs::open(path, flags, Mode::empty()).ok(),
        _ => None,
    }
}

/// The interpreter of the program at `path` that is not there, or the one that its interpreter wants.
pub(super) fn missing(path: &str) -> Option<String> {
    let mut path = path.to_owned();
    for _ in 0..INTERPRETERS {
        let next = interpreter(&path).or_else(|| elf_interpreter(&open_plain(&path)?))?;
        if rustix::fs::stat(next.as_str()).is_err() {
            return Some(next);
        }
        path = next;
    }
    None
}

/// Longer than a path may be is no interpreter.
const PATH_BYTES: usize = 4096;
/// More than any program has.
const PROGRAM_HEADERS: u64 = 256;
/// `PT_INTERP` of elf.h.
const INTERPRETER_HEADER: u64 = 3;

/// The loader that a program of either size and byte order names (elf(5)).
fn elf_interpreter(file: &OwnedFd) -> Option<String> {
    let head = bytes_at(file, 0, 64)?;
    let (is_wide, is_big) = match head.get(..6)? {
        [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2)] => (*class == 2, *order == 2),
        _ => return None,
    };
    let number = |bytes: &[u8], at: usize, length: usize| -> Option<u64> {
        let digits = bytes.get(at..at + length)?.iter();
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if is_big { digits.fold(0, add) } else { digits.rev().fold(0, add) })
    };
    let (table, entry_bytes, entries) = match is_wide {
        true => (number(&head, 0x20, 8)?, number(&head, 0x36, 2)?, number(&head, 0x38, 2)?),
        false => (number(&head, 0x1c, 4)?, number(&head, 0x2a, 2)?, number(&head, 0x2c, 2)?),
    };
    for entry in 0..entries.min(PROGRAM_HEADERS) {
        let header =
            bytes_at(file, table.checked_add(entry * entry_bytes)?, usize::try_from(entry_bytes).ok()?)?;
        if number(&header, 0, 4)? == INTERPRETER_HEADER {
            let (at, length) = match is_wide {
                true => (number(&header, 8, 8)?, number(&header, 32, 8)?),
                false => (number(&header, 4, 4)?, number(&header, 16, 4)?),
            };
            let length = usize::try_from(length).ok().filter(|length| *length <= PATH_BYTES)?;
            let name = bytes_at(file, at, length)?;
            return String::from_utf8(name.split(|byte| *byte == 0).next()?.to_vec()).ok();
        }
    }
    None
}

fn bytes_at(file: &OwnedFd, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = rustix::io::pread(file, &mut bytes[..], at).ok()?;
    (read == length).then_some(bytes)
}
