//! What the last build of an image noted about its steps: which ran, which were cached, how long they took.

use serde::{Deserialize, Serialize};

use crate::oci::Digest;
use crate::store::{Folder, Store};

/// One for each entry of an image's history, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepNotes {
    /// `None` for entries that the base brought.
    pub steps: Vec<Option<StepNote>>,
}

/// How one step's layer came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNote {
    /// Whether the last build took it from the cache.
    pub cached: bool,
    /// How long it took when it ran, in milliseconds, if that is known.
    pub took_ms: Option<u64>,
    /// The line of the Dockerfile on which its instruction begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl StepNotes {
    /// Those of the image with that manifest; none when it was not built here.
    pub fn load(store: &Store, manifest: &Digest) -> Self {
        let bytes = crate::rootfs::read_regular(&store.folder(Folder::Builds).join(manifest.hex())).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps them, in the place of those of the build before. Notes that cannot be kept are no loss worth an error.
    pub fn save(&self, store: &Store, manifest: &Digest) {
        let write = || -> std::io::Result<()> {
            let scratch = store.scratch_dir().map_err(std::io::Error::other)?;
            let temporary = scratch.path().join("notes");
            std::fs::write(&temporary, serde_json::to_vec(self)?)?;
            std::fs::rename(&temporary, store.private(Folder::Builds).join(manifest.hex()))
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "cannot keep the notes of a build");
        }
    }

    /// Forgets those of an image that is gone.
    pub(super) fn remove(store: &Store, manifest: &Digest) {
        let _ = std::fs::remove_file(store.folder(Folder::Builds).join(manifest.hex()));
    }

    /// What is known of the entry at `at`.
    pub fn step(&self, at: usize) -> Option<&StepNote> {
        self.steps.get(at)?.as_ref()
    }
}
