//! Roots that go from step to step.
//!
//! Where there are no mounts a step changes its root in place. The step that goes on from it gets the same root; of
//! several that do, the first gets it, and the others a copy of the layers.

use super::Snapshots;
use crate::exec::Privilege;
use crate::oci::ChainId;
use crate::solve::writable::WritableRoot;
use crate::sync::lock;

impl Snapshots {
    /// Whether a step changes its root in place.
    pub(super) fn changes_in_place(&self) -> bool {
        matches!(self.executor.privilege(), Ok(Privilege::Plain))
    }

    /// The root of `chain` that a step has left, if it is there still. Who takes it has it alone.
    pub(in crate::solve) fn take(&self, chain: ChainId) -> Option<WritableRoot> {
        let root = lock(&self.handed_on).remove(&chain)?;
        if let Some(tracked) = root.before() {
            tracked.before.settle();
        }
        Some(root)
    }

    /// Leaves a root whose changes were written as the top layer of `chain`, for a step that goes on from it.
    pub(in crate::solve) fn hand_on(&self, chain: ChainId, root: WritableRoot) {
        if let Some((snapshot, tracked)) = root.go_on() {
            lock(&self.handed_on).insert(chain, WritableRoot::tracked(snapshot, tracked));
        }
    }
}
