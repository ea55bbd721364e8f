//! What is to be undone before a folder goes: where there are no mounts, a step's root holds things that belong elsewhere, and
//! secrets, as long as the step runs. Whoever puts them there notes it first, in a file of the folder; whoever throws the folder
//! away, because the step was killed, undoes what is noted.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, RenameFlags};

use crate::rootfs::{Root, Symlinks};

/// The name of the file.
const NAME: &str = "undo";

/// What is done to undo something; `at` is relative to the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    /// What has this inode is moved away, unless something is at home already.
    Return {
        /// Where it is put.
        at: PathBuf,
        /// Which it is.
        inode: u64,
        /// Where it belongs, on the same file system.
        home: PathBuf,
    },
    /// A file is emptied and removed.
    Erase {
        /// Where it is put.
        at: PathBuf,
    },
}

/// The notes of one folder.
#[derive(Debug)]
pub struct Notes {
    path: PathBuf,
    /// Made with the first note.
    file: Option<File>,
}

impl Notes {
    /// Nothing is noted yet.
    pub fn of(folder: &Path) -> Self {
        Self { path: folder.join(NAME), file: None }
    }

    /// To be called before it is done.
    pub fn add(&mut self, undo: &Undo) -> io::Result<()> {
        let mut options = File::options();
        options.append(true).create(true).mode(0o600);
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(options.open(&self.path)?),
        };
        // At once, so that a note is whole.
        file.write_all(&undo.to_bytes())
    }

    /// All is undone.
    pub fn clear(self) -> io::Result<()> {
        self.file.map_or(Ok(()), |_| fs::remove_file(&self.path))
    }
}

impl Undo {
    /// Four fields, each with a zero byte behind it.
    fn to_bytes(&self) -> Vec<u8> {
        let (inode, at, home) = match self {
            Self::Return { at, inode, home } => (inode.to_string(), at, home.as_os_str()),
            Self::Erase { at } => (String::new(), at, OsStr::new("")),
        };
        let fields = [inode.as_bytes(), at.as_os_str().as_bytes(), home.as_bytes()];
        fields.iter().flat_map(|field| field.iter().copied().chain([0])).collect()
    }

    fn all(bytes: &[u8]) -> Vec<Self> {
        let mut fields: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
        // What follows the last zero byte is no whole field.
        fields.pop();
        let path = |field: &[u8]| PathBuf::from(OsString::from_vec(field.to_vec()));
        let notes = fields.chunks_exact(3).filter_map(|fields| match fields {
            [b"", at, _] => Some(Self::Erase { at: path(at) }),
            [inode, at, home] => {
                let inode = std::str::from_utf8(inode).ok()?.parse().ok()?;
                Some(Self::Return { at: path(at), inode, home: path(home) })
            }
            _ => None,
        });
        notes.collect()
    }

    fn run(&self, folder: &Root) -> io::Result<()> {
        match self {
            Self::Return { at, inode, home } => {
                let (parent, name) = folder.parent_of(at, Symlinks::Refuse)?;
                let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if stat.st_ino == *inode {
                    rustix::fs::renameat_with(&parent, name, CWD, home, RenameFlags::NOREPLACE)?;
                }
                Ok(())
            }
            Self::Erase { at } => {
                let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                folder.open_at(at, flags, 0, Symlinks::Refuse)?;
                let (parent, name) = folder.parent_of(at, Symlinks::Refuse)?;
                Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
            }
        }
    }
}

/// Undoes what is noted in `folder`, the last first. What a step has moved elsewhere goes with the folder.
pub fn undo(folder: &Path) {
    let path = folder.join(NAME);
    let Ok(bytes) = crate::rootfs::read_regular(&path) else { return };
    let Ok(root) = Root::open(folder) else { return };
    for note in Undo::all(&bytes).iter().rev() {
        if let Err(error) = note.run(&root) {
            tracing::info!(%error, ?note, "what a killed step had could not be put back");
        }
    }
    let _ = fs::remove_file(&path);
}

/// As [`undo`], for each folder in `folder`.
pub(super) fn undo_in(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    entries.filter_map(Result::ok).for_each(|entry| undo(&entry.path()));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// A folder in which a cache and a secret are in place.
    fn in_use() -> (tempfile::TempDir, PathBuf, Notes) {
        let dir = tempfile::tempdir().unwrap();
        let (folder, home) = (dir.path().join("folder"), dir.path().join("cache"));
        fs::create_dir_all(folder.join("root/run")).unwrap();
        fs::create_dir(&home).unwrap();
        fs::write(home.join("kept"), "x").unwrap();
        let mut notes = Notes::of(&folder);
        let (at, inode) = (PathBuf::from("root/c\nd"), fs::metadata(&home).unwrap().ino());
        notes.add(&Undo::Return { at: at.clone(), inode, home: home.clone() }).unwrap();
        fs::rename(&home, folder.join(at)).unwrap();
        notes.add(&Undo::Erase { at: "root/run/secret".into() }).unwrap();
        fs::write(folder.join("root/run/secret"), "secret").unwrap();
        (dir, home, notes)
    }

    #[test]
    fn what_is_noted_is_undone() {
        let (dir, home, _) = in_use();
        let other = dir.path().join("other");
        fs::hard_link(dir.path().join("folder/root/run/secret"), &other).unwrap();
        undo_in(dir.path());
        assert_eq!(fs::read(home.join("kept")).unwrap(), b"x");
        assert_eq!(fs::read(other).unwrap(), b"");
        assert!(!dir.path().join("folder/root/run/secret").exists());
        assert!(!dir.path().join("folder/undo").exists());
        // Once more there is nothing to do.
        undo(&dir.path().join("folder"));
        assert!(home.join("kept").exists());
    }

    #[test]
    fn what_was_exchanged_stays() {
        let (dir, home, _) = in_use();
        let root = dir.path().join("folder/root");
        fs::rename(root.join("c\nd"), root.join("moved")).unwrap();
        fs::create_dir(root.join("c\nd")).unwrap();
        fs::rename(root.join("run"), root.join("away")).unwrap();
        std::os::unix::fs::symlink(root.join("away"), root.join("run")).unwrap();
        undo(&dir.path().join("folder"));
        assert!(!home.exists() && root.join("c\nd").exists());
        assert_eq!(fs::read(root.join("away/secret")).unwrap(), b"secret");
    }

    #[test]
    fn a_note_that_was_cut_short_is_none() {
        let (dir, home, notes) = in_use();
        let path = dir.path().join("folder/undo");
        let bytes = fs::read(&path).unwrap();
        let all = Undo::all(&bytes);
        assert_eq!(all.len(), 2);
        for length in 0..bytes.len() {
            let some = Undo::all(&bytes[..length]);
            assert!(all.starts_with(&some) && some.len() < 2, "{length}");
        }
        notes.clear().unwrap();
        undo(&dir.path().join("folder"));
        assert!(!home.exists());
    }
}
