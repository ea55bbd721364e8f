//! Listings: directories inside the step's root that show what directories below `/proc` hold.
//!
//! No directory of the outer `/proc` is ever handed in, because `..` leads from it out of the root. What is listed is a
//! directory of the same names inside, empty files and links that nobody reads: what is opened there is answered for again.

use std::collections::BTreeMap;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Supervisor;
use crate::exec::plain::members;

impl Supervisor {
    /// Makes the directory that stands for `at`, and gives its path in the root.
    pub(super) fn mirror(&mut self, at: &str) -> Result<Vec<u8>, Errno> {
        let inside = if at.is_empty() { "/proc".to_owned() } else { format!("/proc/{at}") };
        self.make_way(at)?;
        let wanted = self.names(at)?;
        let there = names_of(CWD, &inside)?;
        for (name, kind) in &there {
            // Programs lie at the top, in folders that begin with a dot.
            let is_ours = at.is_empty() && name.starts_with('.');
            if wanted.get(name) != Some(kind) && !is_ours {
                remove(&format!("{inside}/{name}"), *kind);
            }
        }
        for (name, kind) in &wanted {
            if there.get(name) != Some(kind) {
                make(&format!("{inside}/{name}"), *kind);
            }
        }
        Ok(inside.into_bytes())
    }

    /// The directories down to it, each known as one below `/proc`.
    fn make_way(&mut self, at: &str) -> Result<(), Errno> {
        let mut inside = "/proc".to_owned();
        for part in at.split('/').filter(|part| !part.is_empty()) {
            inside = format!("{inside}/{part}");
            match rustix::fs::mkdirat(CWD, &inside, Mode::from_raw_mode(0o555)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            let stat = rustix::fs::statat(CWD, &inside, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Errno::NOENT);
            }
            self.special.insert((stat.st_dev, stat.st_ino));
        }
        Ok(())
    }

    fn names(&self, at: &str) -> Result<BTreeMap<String, FileType>, Errno> {
        let path = if at.is_empty() { "." } else { at };
        let mut names = names_of(self.owners.proc(), path)?;
        if !at.is_empty() {
            return Ok(names);
        }
        names.retain(|name, _| !name.bytes().all(|byte| byte.is_ascii_digit()) && Self::is_shown(name));
        let members = members::all_below(self.owners.proc(), self.keeper, &[self.own]);
        names.extend(members.into_iter().map(|pid| (pid.to_string(), FileType::Directory)));
        Ok(names)
    }
}

fn names_of(base: impl std::os::fd::AsFd, path: &str) -> Result<BTreeMap<String, FileType>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(base, path, flags, Mode::empty())?;
    let mut names = BTreeMap::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name != "." && name != ".." {
            names.insert(name.to_owned(), entry.file_type());
        }
    }
    Ok(names)
}

/// What cannot be made or removed is missing in a listing, or too much; nothing else depends on it.
fn make(path: &str, kind: FileType) {
    let _ = match kind {
        FileType::Directory => rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o555)),
        FileType::Symlink => rustix::fs::symlinkat(".", CWD, path),
        _ => rustix::fs::mknodat(CWD, path, FileType::RegularFile, Mode::from_raw_mode(0o444), 0),
    };
}

fn remove(path: &str, kind: FileType) {
    if kind == FileType::Directory {
        // What was made in it goes first.
        for (name, kind) in names_of(CWD, path).unwrap_or_default() {
            remove(&format!("{path}/{name}"), kind);
        }
        let _ = rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR);
    } else {
        let _ = rustix::fs::unlinkat(CWD, path, AtFlags::empty());
    }
}
