//! Roots that go from step to step.
//!
//! Where there are no mounts a step changes its root in place. The step that goes on from it gets the same root, with the layers
//! upon it that no step made (COPY); of several that do, the first gets it, and the others one of their own: a copy of trees, or,
//! of layers that have just come to this machine, what they unpack to. Those get no trees: most often, as in a job that begins
//! with an empty store, nobody asks for them again.

use std::path::Path;

use super::Snapshots;
use super::coming::Come;
use super::unpacking::Unpacking;
use crate::exec::Privilege;
use crate::oci::{ChainId, Layer};
use crate::report::StepNumber;
use crate::snapshot::{ActiveSnapshot, CopyJob, Listing, OverlayKind, Tracked};
use crate::solve::error::Error;
use crate::solve::jobs;
use crate::solve::state::RootState;
use crate::solve::writable::WritableRoot;
use crate::sync::lock;

impl Snapshots {
    /// Whether a step changes its root in place.
    pub(super) fn changes_in_place(&self) -> bool {
        matches!(self.executor.privilege(), Ok(Privilege::Plain))
    }

    /// A root for a step that changes it in place, unless it is to be copied from trees; told under `step`, if that is shown.
    /// Who gets it has it alone.
    pub(in crate::solve) fn in_place(
        &self,
        step: Option<StepNumber>,
        parent: &RootState,
    ) -> Result<Option<WritableRoot>, Error> {
        if !self.changes_in_place() {
            return Ok(None);
        }
        let (left, below) = match self.take(parent) {
            Some((root, below)) => (Some(root), below),
            None => (None, 0),
        };
        if below == parent.layers.len()
            && let Some(root) = left
        {
            if let Some(tracked) = root.before() {
                tracked.before.settle(root.beside())?;
            }
            return Ok(Some(root));
        }
        let wanted = self.to_be_brought(parent)?;
        lock(&self.brought).extend(wanted.iter().map(|layer| layer.diff_id));
        let has_come = |layer: &Layer| lock(&self.brought).contains(&layer.diff_id);
        let (snapshot, covered, left) = match left {
            Some(root) => {
                let left = root.before().cloned();
                let covered = left.as_ref().map_or(0, |tracked| tracked.covered);
                (root.into_snapshot(), covered, left)
            }
            None if parent.layers.iter().any(has_come) => {
                let mark = self.privilege()?.opaque_mark();
                (ActiveSnapshot::prepare(&self.store, Vec::new(), OverlayKind::Copy, mark)?, 0, None)
            }
            None => return Ok(None),
        };
        // Says what is in use.
        self.kind();
        let told = Unpacking::under(&self.events, step);
        let root = &snapshot.dirs().merged;
        self.while_coming(&wanted, |come| self.put_upon(root, (&parent.layers, below), &told, come))?;
        told.ended();
        let before = Listing::of(root)?;
        before.settle(snapshot.beside())?;
        let tracked = Tracked::new(before, covered).watched(root).descended_from(left.as_ref());
        Ok(Some(WritableRoot::tracked(snapshot, tracked)))
    }

    /// The root that a step has left with the most of these layers, if there is one, and how many they are.
    fn take(&self, parent: &RootState) -> Option<(WritableRoot, usize)> {
        let mut handed_on = lock(&self.handed_on);
        let mut chain = ChainId::EMPTY;
        let chains = parent.layers.iter().map(|layer| {
            chain = chain.push(layer.diff_id);
            chain
        });
        let chains: Vec<ChainId> = chains.collect();
        let at = chains.iter().rposition(|chain| handed_on.contains_key(chain))?;
        Some((handed_on.remove(&chains[at])?, at + 1))
    }

    /// Puts the layers from `below` on upon a root that has those below.
    fn put_upon(
        &self,
        root: &Path,
        (layers, below): (&[Layer], usize),
        told: &Unpacking<'_>,
        come: &Come<'_>,
    ) -> Result<(), Error> {
        let mut chain = ChainId::EMPTY;
        for (at, layer) in layers.iter().enumerate() {
            chain = chain.push(layer.diff_id);
            if at < below {
                continue;
            }
            let (tree, is_kept, _scratch) = match self.trees()?.find(chain) {
                Some(tree) => (tree, true, None),
                None => {
                    come(layer)?;
                    let scratch = self.store.scratch_dir()?;
                    let (tree, progress) = (scratch.path().join("tree"), scratch.path().join("read"));
                    told.watch(&layer.descriptor, &progress, || {
                        // All that is below is in the root.
                        let lowers = [root.to_owned()];
                        self.unpack_to(&tree, layer, (&layers[..at], &lowers), &progress)
                    })?;
                    (tree, false, Some(scratch))
                }
            };
            let job = CopyJob {
                lowers: vec![tree],
                target: root.to_owned(),
                onto: at > 0,
                mark: self.privilege()?.opaque_mark(),
                linked: false,
                moved: !is_kept,
                on_threads: true,
            };
            jobs::copy(&self.executor, &job)?;
        }
        Ok(())
    }

    /// Leaves a root whose changes were written as the top layer of `chain`, for a step that goes on from it.
    pub(in crate::solve) fn hand_on(&self, chain: ChainId, root: WritableRoot) {
        if let Some((snapshot, tracked)) = root.go_on() {
            lock(&self.handed_on).insert(chain, WritableRoot::tracked(snapshot, tracked));
        }
    }
}
