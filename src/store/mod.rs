//! Keeps blobs by digest, names, and small records; an OCI image layout with private folders beside it.
//!
//! Knows nothing of images: what a blob means is the caller's affair.
//!
//! ```text
//! ROOT/oci-layout, index.json, blobs/sha256/<hex>   what other tools read (they must not write)
//! ROOT/rbuild/version      the format's version; written last when a store is made
//! ROOT/rbuild/lock         shared by every process that uses the store, exclusive for collecting garbage
//! ROOT/rbuild/door         closed while somebody waits for the store alone: then nobody else opens it
//! ROOT/rbuild/index.lock   held while index.json is rewritten
//! ROOT/rbuild/tags/        one file for each name; index.json is a projection of them
//! ROOT/rbuild/fetched/     what names stood for in registries, one file for each
//! ROOT/rbuild/records/     the cache's records, mode 0600
//! ROOT/rbuild/tmp/         one locked folder for each live process; others are leftovers
//! ROOT/rbuild/partial/     what arrived of blobs whose transfer broke off
//! ROOT/rbuild/trash/       what is to be removed after the build
//! ROOT/rbuild/…            folders of other modules: trees, indexes, statcache, logs
//! ```
//!
//! Everything is published by rename and nothing is synced to disk: after a crash of the machine a file
//! may be short or empty. Records therefore carry the boot id, and the cache verifies blobs of another
//! boot before it uses them; [`Store::read_blob`] always verifies.

mod blob;
mod error;
mod files;
mod folder;
mod index;
mod layout;
mod lock;
mod other;
mod partial;
mod quota;
mod records;
mod scratch;
mod sync;
mod tags;
mod trash;
mod undo;
mod usage;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

pub use blob::{BlobState, BlobWriter};
pub use error::Error;
pub use folder::Folder;
pub use lock::ExclusiveLock;
pub use other::OtherStore;
pub use records::RecordState;
pub use scratch::ScratchDir;
pub use tags::{Fetched, Tags};
pub use undo::{Notes, Undo, undo};
pub use usage::{Measured, Measuring};

pub use blob::{has_seal, seal};
pub(crate) use files::{supersede, write_private};
use scratch::ProcessDir;

use crate::sync::lock;
pub(crate) use scratch::unique;

/// An open store. Cheap to clone; may be shared between threads.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// `ROOT/rbuild`
    own: PathBuf,
    /// `ROOT/blobs/sha256`
    blobs: PathBuf,
    /// Declared before the lock, which goes after it.
    #[allow(dead_code, reason = "it counts as long as it lives")]
    opened: Opened,
    /// Held shared as long as the store is open.
    lock: File,
    /// Made by the first write.
    process: OnceLock<ProcessDir>,
    making_process: Mutex<()>,
    boot_id: OnceLock<String>,
    quota: OnceLock<quota::Quota>,
}

impl Store {
    /// Opens the store at `root`, which is made when it does not exist or is an empty directory. Waits while
    /// another process collects garbage. Leftovers of killed processes go to trash.
    ///
    /// # Errors
    /// [`Error::NewerVersion`], [`Error::NotAStore`], and whatever the system refuses.
    pub fn open(root: &Path) -> Result<Store, Error> {
        let root = std::path::absolute(root).map_err(|e| Error::io("find", root, e))?;
        layout::prepare(&root)?;
        let own = root.join("rbuild");
        let opened = Opened::count(&root);
        if opened.is_first {
            lock::pass(&own.join(lock::DOOR))?;
        }
        let lock = lock::shared(&own.join("lock"))?;
        scratch::clear_leftovers(&own.join(Folder::Scratch.name()), &own.join(Folder::Trash.name()));
        let inner = Inner {
            blobs: root.join("blobs/sha256"),
            own,
            root,
            opened,
            lock,
            process: OnceLock::new(),
            making_process: Mutex::new(()),
            boot_id: OnceLock::new(),
            quota: OnceLock::new(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Its folder, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The folder, made when missing. When it cannot be made, using it will say why.
    pub fn private(&self, folder: Folder) -> PathBuf {
        let path = self.folder(folder);
        let _ = layout::make_private(&path);
        path
    }

    /// Where [`Store::private`] would be; nothing is made.
    pub fn folder(&self, folder: Folder) -> PathBuf {
        self.inner.own.join(folder.name())
    }

    /// The file that says, for one boot, whether images of layers can be mounted.
    pub fn images_note(&self) -> PathBuf {
        self.inner.own.join("images")
    }

    /// What is in a folder of the store, each with the seconds since 1970 of its last change, in the order of names. A folder
    /// that is not there is empty.
    pub fn entries_of(&self, folder: &Path) -> Result<Vec<(PathBuf, i64)>, Error> {
        use std::os::unix::fs::MetadataExt as _;
        let mut entries: Vec<_> =
            files::list(folder)?.into_iter().map(|(path, meta)| (path, meta.mtime())).collect();
        entries.sort();
        Ok(entries)
    }

    /// A private temporary directory of this process, removed with the value; the next process that opens the
    /// store removes it when this one is killed.
    pub fn scratch_dir(&self) -> Result<ScratchDir, Error> {
        ScratchDir::create(self)
    }

    /// Undoes what killed processes have noted (see [`Notes`]), without waiting for the next process.
    pub fn undo_leftovers(&self) {
        scratch::each_leftover(&self.folder(Folder::Scratch), undo::undo_in);
    }

    /// Moves `path`, which must be on the store's file system, to trash; what is noted in it is undone before. One that does not exist is no error.
    pub fn trash(&self, path: &Path) -> Result<(), Error> {
        trash::throw(path, &self.private(Folder::Trash))
    }

    /// Removes what is in trash, which can take long; gives what could not be removed: trees with files of
    /// other users, which the caller can have removed inside the user namespace that made them.
    pub fn empty_trash(&self) -> Vec<PathBuf> {
        trash::empty(&self.private(Folder::Trash))
    }

    /// The whole store for this process alone, for collecting garbage; waits at most `patience` for others to end. What
    /// was read before may no longer hold afterwards, also when this fails: meanwhile others may have had it alone.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process has the store open.
    pub fn lock_exclusive(&self, patience: Duration) -> Result<ExclusiveLock, Error> {
        ExclusiveLock::take(self.clone(), patience)
    }

    /// The kernel's random name of this boot; what another boot wrote may have been lost in a crash.
    pub fn boot_id(&self) -> &str {
        self.inner.boot_id.get_or_init(|| {
            // Without /proc no two boots are alike, which errs on the side of verifying.
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map_or_else(|_| scratch::unique(), |text| text.trim().to_owned())
        })
    }

    /// A path for a temporary file that nobody else uses.
    fn next_path(&self) -> Result<PathBuf, Error> {
        self.take_room(0)?;
        if let Some(process) = self.inner.process.get() {
            return Ok(process.next_path());
        }
        let _guard = lock(&self.inner.making_process);
        if self.inner.process.get().is_none() {
            let made = ProcessDir::create(&self.private(Folder::Scratch))?;
            let _ = self.inner.process.set(made);
        }
        let process = self.inner.process.get().expect("it was set above, under the lock");
        Ok(process.next_path())
    }
}

/// How often this process has the store at a place open. Who has it must not wait in its door for somebody who waits for
/// it to be closed.
#[derive(Debug)]
struct Opened {
    root: PathBuf,
    is_first: bool,
}

static OPENED: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

impl Opened {
    fn count(root: &Path) -> Self {
        let mut opened = lock(&OPENED);
        let count = opened.entry(root.to_owned()).or_default();
        *count += 1;
        Self { root: root.to_owned(), is_first: *count == 1 }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut opened = lock(&OPENED);
        if let Some(count) = opened.get_mut(&self.root) {
            *count -= 1;
            if *count == 0 {
                opened.remove(&self.root);
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(process) = self.process.get() {
            process.remove(&self.own.join(Folder::Trash.name()));
        }
    }
}
