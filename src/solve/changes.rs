//! What was changed in a root, as a layer.

use super::environment::Services;
use super::error::Error;
use super::jobs;
use super::state::RootState;
use super::writable::WritableRoot;
use crate::key::LayerForm;
use crate::oci::{Descriptor, Layer};
use crate::rootfs::SpecialOwner;
use crate::snapshot::{CommitJob, DiffJob};

/// Writes what was changed in the root of `snapshot` as a layer into the store.
pub(super) fn write(
    (services, form): (&Services, LayerForm),
    parent: &RootState,
    snapshot: &WritableRoot,
    special: &[SpecialOwner],
) -> Result<Layer, Error> {
    let scratch = services.store.scratch_dir()?;
    let LayerForm { compression, newest } = form;
    let job = CommitJob {
        diff: DiffJob { newest, ..services.snapshots.diff_job(snapshot, special)? },
        // For a worker, which has no view.
        parents: match snapshot.memory().is_some() || services.executor.is_rootless() {
            true => services.snapshots.index_files(&parent.layers)?,
            false => Vec::new(),
        },
        compression,
        blob: scratch.path().join("blob"),
        index: scratch.path().join("index"),
    };
    let view = services.indexes.view(&parent.layers)?;
    let committed = jobs::commit(&services.executor, snapshot.memory(), &job, &view)?;
    services.store.adopt_blob(&job.blob, committed.digest)?;
    services.indexes.adopt(committed.diff_id, &job.index)?;
    let descriptor = Descriptor {
        annotations: committed.annotations,
        ..Descriptor::new(compression.media_type(), committed.digest, committed.size)
    };
    Ok(Layer { descriptor, diff_id: committed.diff_id })
}
