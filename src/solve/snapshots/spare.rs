//! Roots that are kept from build to build.
//!
//! To copy a root takes longer than a short step. Where steps change theirs in place, the one that is left in the end is made what it was
//! copied from, and kept for the next build that wants that: one a store. It lies with the trees, is counted and goes with them.

use std::path::PathBuf;

use super::Snapshots;
use crate::oci::ChainId;
use crate::snapshot::{
    self, ActiveSnapshot, CopyJob, Listing, Origin, OverlayKind, Tracked, Trees, make_dir, undo_changes,
};
use crate::solve::error::Error;
use crate::solve::state::RootState;
use crate::solve::writable::WritableRoot;
use crate::sync::lock;

impl Snapshots {
    /// A writable root for a step on `parent`, whose trees are `lowers`; the one that was kept, if there is one.
    pub(in crate::solve) fn prepare_for(
        &self,
        parent: &RootState,
        lowers: &[PathBuf],
        kind: OverlayKind,
    ) -> Result<WritableRoot, Error> {
        if !self.changes_in_place() {
            return self.prepare(lowers, kind);
        }
        let mark = self.privilege()?.opaque_mark();
        let spare = self.spare()?;
        let taken = |to: &std::path::Path| spare.take(parent.chain, to);
        let Some(snapshot) = ActiveSnapshot::taking(&self.store, lowers.to_vec(), mark, taken)? else {
            let root = self.prepare(lowers, kind)?;
            return Ok(root.map_tracked(|tracked| tracked.copied_from(parent.chain)));
        };
        let before = Listing::of(&snapshot.dirs().merged)?;
        before.settle(snapshot.beside())?;
        let tracked = Tracked::new(before, lowers.len()).watched(&snapshot.dirs().merged);
        Ok(WritableRoot::tracked(snapshot, tracked.copied_from(parent.chain)))
    }

    /// Keeps one of the roots that no step goes on from; the others go. What does not work out is thrown away.
    pub fn keep_root(&self) {
        let roots = std::mem::take(&mut *lock(&self.handed_on));
        let mut left: Vec<(ChainId, WritableRoot)> =
            roots.into_values().filter_map(|root| Some((root.before()?.origin()?.chain, root))).collect();
        left.sort_by_key(|(chain, _)| *chain);
        // The one that was begun with most.
        let Some((_, root)) = left.into_iter().max_by_key(|(_, root)| root.lowers().len()) else { return };
        if let Err(error) = self.keep(root) {
            tracing::info!(%error, "no root is kept");
        }
    }

    fn keep(&self, root: WritableRoot) -> Result<(), Error> {
        let Some(origin) = root.before().and_then(Tracked::origin).cloned() else { return Ok(()) };
        let snapshot = root.into_snapshot();
        let merged = snapshot.dirs().merged.clone();
        let scratch = self.store.scratch_dir()?;
        let target = scratch.path().join("parts");
        make_dir(&target, 0o700)?;
        let job = CopyJob {
            lowers: snapshot.lowers().to_vec(),
            target,
            onto: false,
            mark: self.privilege()?.opaque_mark(),
            linked: false,
            moved: false,
            on_threads: false,
        };
        let Origin { chain, listing } = &*origin;
        if !undo_changes(&merged, listing, &job)? {
            return Ok(());
        }
        let spare = self.spare()?;
        spare.ensure(*chain, |to| {
            let moved = std::fs::rename(&merged, to);
            moved.map_err(|source| snapshot::Error::Io { action: "keep", path: merged.clone(), source })
        })?;
        Ok(spare.keep_only(*chain)?)
    }

    fn spare(&self) -> Result<&Trees, Error> {
        if let Some(spare) = self.spare.get() {
            return Ok(spare);
        }
        let spare = Trees::new(&self.store, &self.tree_kind()?.spare())?;
        Ok(self.spare.get_or_init(|| spare))
    }
}
