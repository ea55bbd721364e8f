//! What is known to be on disk.
//!
//! A crash of the machine loses what the system had not yet written. `ROOT/rbuild/synced` holds the moment before which
//! everything is on disk: what is older need not be verified in the next boot.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Error, Store, files};

/// The clock of file times runs in ticks, and behind that of processes.
const MARGIN_SECONDS: i64 = 2;

impl Store {
    /// Has the system write everything to disk, which can take long, and remembers when. Correctness never needs it: what
    /// a crash destroys is found out; this keeps it from being verified or made again.
    pub fn sync(&self) -> Result<(), Error> {
        let before = crate::clock::now();
        rustix::fs::syncfs(&self.inner.lock).map_err(|e| Error::io("sync", self.root(), e.into()))?;
        let path = self.inner.own.join("synced");
        files::replace(&self.next_path()?, &path, format!("{before}\n").as_bytes(), 0o600)
    }

    /// Whether a file of the store was on disk when the store was synced last, as far as the time of its last change tells.
    pub fn was_synced(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|meta| self.is_older_than_sync(meta.ctime()))
    }

    /// Whether a time of change is before the last sync.
    pub(super) fn is_older_than_sync(&self, changed: i64) -> bool {
        let text = crate::rootfs::read_regular_text(&self.inner.own.join("synced")).unwrap_or_default();
        text.trim().parse::<i64>().is_ok_and(|synced| changed + MARGIN_SECONDS < synced)
    }

    /// Notes on a file or folder of the store that it was used now.
    pub fn note_use(&self, path: &Path) {
        files::touch(path);
    }
}
