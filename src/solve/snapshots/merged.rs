//! Keeps the number of trees that a root is stacked of within what the kernel takes and copes with well.
//!
//! overlayfs refuses more than some 500 lower directories, and looks a name up in each. So once there are many, they
//! become one tree, of files that have one more name; what comes later is stacked on that, until there are many again.
//! Where the borders are follows from the number of layers alone, so every build finds the trees of the one before.

use std::path::PathBuf;

use super::Snapshots;
use crate::oci::ChainId;
use crate::snapshot::{self, CopyJob, Trees};
use crate::solve::error::Error;
use crate::solve::jobs;

/// As many trees are stacked at most. On overlayfs each may have one more directory for what it hides.
const MOST: usize = 128;

impl Snapshots {
    /// The trees of `chain` if this build has seen it.
    pub(super) fn known_few(&self, chain: ChainId) -> Result<Option<Vec<PathBuf>>, Error> {
        let Some(known) = self.known().get(&chain).cloned() else { return Ok(None) };
        // What a step left was put on top of its root without a look at how many there are.
        if known.len() <= MOST {
            return Ok(Some(known));
        }
        let few = self.few(chain, known)?;
        self.known().insert(chain, few.clone());
        Ok(Some(few))
    }

    /// All trees of `chain` as they are, or the one that stands for them when they are too many.
    pub(super) fn few(&self, chain: ChainId, lowers: Vec<PathBuf>) -> Result<Vec<PathBuf>, Error> {
        if lowers.len() <= MOST {
            return Ok(lowers);
        }
        let mark = self.privilege()?.opaque_mark();
        let merge = |target: &std::path::Path| {
            snapshot::make_dir(target, 0o755)?;
            let job = CopyJob {
                lowers,
                target: target.to_owned(),
                onto: false,
                mark,
                linked: true,
                moved: false,
                on_threads: true,
            };
            jobs::copy(&self.executor, &job)
        };
        Ok(vec![self.merged()?.ensure(chain, merge).map_err(Error::Merge)?])
    }

    fn merged(&self) -> Result<&Trees, Error> {
        if let Some(merged) = self.merged.get() {
            return Ok(merged);
        }
        let merged = Trees::new(&self.store, &self.tree_kind()?.merged())?;
        Ok(self.merged.get_or_init(|| merged))
    }
}
