//! Temporary files of one process, and what dead processes left.
//!
//! Each process that writes has a folder `tmp/<pid>-<random>` with a file `lock` in it that it holds
//! locked. Whoever can take that lock knows that the owner is gone.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Error, Store, layout, lock, trash, undo};

/// A text that no other call gives, in this process or another. No output depends on it.
pub(crate) fn unique() -> String {
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{}-{random:016x}", std::process::id())
}

/// The folder of this process.
#[derive(Debug)]
pub(super) struct ProcessDir {
    path: PathBuf,
    next: AtomicU64,
    lock: File,
}

impl ProcessDir {
    /// Makes a folder below `tmp`, which exists, and locks it.
    pub(super) fn create(tmp: &Path) -> Result<Self, Error> {
        loop {
            if let Some(made) = Self::try_create(tmp.join(unique()))? {
                return Ok(made);
            }
        }
    }

    /// Until the lock is held, another process may at any time take the folder for a dead one's and move it
    /// away: then `None`.
    fn try_create(path: PathBuf) -> Result<Option<Self>, Error> {
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| Error::io("create", &path, e))?;
        let name = path.join("lock");
        match lock::open(&name) {
            Ok(lock) if lock::try_exclusive(&lock) && name.exists() => {
                Ok(Some(Self { path, next: AtomicU64::new(0), lock }))
            }
            Err(e) if path.exists() => Err(e),
            _ => Ok(None),
        }
    }

    /// A path in it that nobody else uses.
    pub(super) fn next_path(&self) -> PathBuf {
        self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Removes the folder, through trash when something is left in it.
    pub(super) fn remove(&self, trash_dir: &Path) {
        let _ = fs::remove_file(self.path.join("lock"));
        if fs::remove_dir(&self.path).is_err() {
            let _ = trash::throw(&self.path, trash_dir);
        }
        let _ = &self.lock;
    }
}

/// Moves the folders of dead processes from `tmp` to `trash_dir`. What does not work out is left for another time:
/// nobody needs it, and it may belong to another user.
pub(super) fn clear_leftovers(tmp: &Path, trash_dir: &Path) {
    each_leftover(tmp, |path| {
        undo::undo_in(path);
        let _ = trash::throw(path, trash_dir);
    });
}

/// Does something with the folders of dead processes in `tmp`, which nobody else does at the same time.
pub(super) fn each_leftover(tmp: &Path, work: impl Fn(&Path)) {
    let Ok(entries) = fs::read_dir(tmp) else { return };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            // The lock file is made when missing: its owner is either dead or still before that line.
            let Ok(lock) = lock::open(&path.join("lock")) else { continue };
            if lock::try_exclusive(&lock) {
                work(&path);
            }
        }
    }
}

/// A private directory, gone when the value is dropped.
#[derive(Debug)]
pub struct ScratchDir {
    store: Store,
    path: PathBuf,
}

impl ScratchDir {
    /// Makes one in the folder of this process.
    pub(super) fn create(store: &Store) -> Result<Self, Error> {
        let path = store.next_path()?;
        layout::make_private(&path)?;
        Ok(Self { store: store.clone(), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // An empty one, or one that was renamed away, needs no trash.
        if fs::remove_dir(&self.path).is_err() && self.path.exists() {
            let _ = self.store.trash(&self.path);
        }
    }
}
