//! The root of a command, and what keeps its changes.

use std::ops::Deref;
use std::path::PathBuf;

use crate::exec::{ExitReport, MemoryMount};
use crate::snapshot::{ActiveSnapshot, Tracked};

/// A root that a command can change.
pub(super) struct WritableRoot {
    // Declared first: what is mounted in the snapshot's folder goes before the folder.
    memory: Option<MemoryMount>,
    snapshot: ActiveSnapshot,
    /// For a root that is changed in place, and handed on.
    tracked: Option<Tracked>,
}

impl WritableRoot {
    /// `memory` is what the snapshot's upper directory is in, if it is in memory.
    pub(super) fn new(snapshot: ActiveSnapshot, memory: Option<MemoryMount>) -> Self {
        Self { memory, snapshot, tracked: None }
    }

    /// One that is changed in place, and what it was before.
    pub(super) fn tracked(snapshot: ActiveSnapshot, tracked: Tracked) -> Self {
        Self { memory: None, snapshot, tracked: Some(tracked) }
    }

    /// Another account of what it was before.
    pub(super) fn map_tracked(self, change: impl FnOnce(Tracked) -> Tracked) -> Self {
        Self { tracked: self.tracked.map(change), ..self }
    }

    /// What a command has done in it that its files do not tell.
    pub(super) fn note(&mut self, report: &ExitReport) {
        let Some(tracked) = &mut self.tracked else { return };
        tracked.put_back.extend(report.put_back.iter().cloned());
        tracked.mapped.extend(&report.mapped);
        tracked.unseen |= report.unseen;
    }

    /// The root as it is now that its changes were found.
    pub(super) fn go_on(self) -> Option<(ActiveSnapshot, Tracked)> {
        Some((self.snapshot, self.tracked?.go_on()?))
    }

    /// What it was before.
    pub(super) fn before(&self) -> Option<&Tracked> {
        self.tracked.as_ref()
    }

    /// What its changes are in, when they are not on disk.
    pub(super) fn memory(&self) -> Option<&MemoryMount> {
        self.memory.as_ref()
    }

    /// The directory of its changes, by a path of this process.
    pub(super) fn upper_here(&self) -> PathBuf {
        let upper = &self.snapshot.dirs().upper;
        self.memory.as_ref().map_or_else(|| upper.clone(), |memory| memory.here(upper))
    }

    /// Whether anything may have been changed; surely not when this says no.
    pub(super) fn is_changed(&self) -> bool {
        self.snapshot.is_changed(&self.upper_here())
    }

    /// Lets go of what is in memory.
    pub(super) fn into_snapshot(self) -> ActiveSnapshot {
        self.snapshot
    }
}

impl Deref for WritableRoot {
    type Target = ActiveSnapshot;

    fn deref(&self) -> &ActiveSnapshot {
        &self.snapshot
    }
}
