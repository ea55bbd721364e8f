//! From entries to a layer in the store and a record in the cache.

use std::path::PathBuf;

use super::super::state::RootState;
use super::super::{Failures, StepContext};
use crate::cache::{Reasons, Record};
use crate::key::LayerForm;
use crate::layer::entry::Entry;
use crate::layer::index::Index;
use crate::layer::{self, Remembered, Segments, WriteOptions};
use crate::oci::{Descriptor, Layer, Seconds};
use crate::store::{Store, supersede};

/// Writes `entries` as a layer, publishes it under the key of `preimage`, and gives the root with it on top.
pub(super) fn entries(
    step: &StepContext<'_>,
    parent: &RootState,
    preimage: &dyn Reasons,
    mut entries: Vec<Entry>,
    time: Seconds,
) -> Result<RootState, Failures> {
    let environment = step.environment;
    let LayerForm { compression, newest } = environment.form;
    let newest = newest.unwrap_or(Seconds::MAX);
    entries.iter_mut().for_each(|entry| entry.mtime = entry.mtime.min(newest));
    let fail = |message: String| vec![step.error(message)];
    let mut blob = environment.store.new_blob().map_err(|e| fail(e.to_string()))?.without_hashing();
    let options = WriteOptions { compression };
    let earlier = earlier_segments(step);
    let written = layer::write_remembering(entries, &options, earlier.as_ref(), &mut blob)
        .map_err(|e| fail(e.to_string()))?;
    let index =
        Index::from_entries(&written.entries, &written.data_offsets).map_err(|e| fail(e.to_string()))?;
    drop(written.entries);
    blob.commit_trusted(written.digest, written.size).map_err(|e| fail(e.to_string()))?;
    let descriptor = Descriptor {
        annotations: written.annotations,
        ..Descriptor::new(compression.media_type(), written.digest, written.size)
    };
    let layer = Layer { descriptor, diff_id: written.diff_id };
    environment.roots.remember(layer.diff_id, index).map_err(|e| fail(e.to_string()))?;
    remember_segments(&environment.store, &layer, &written.segments);
    publish(step, parent, preimage, layer, time)
}

/// The layer that this step made last, to take from it what did not change.
fn earlier_segments(step: &StepContext<'_>) -> Option<Remembered> {
    let layer = step.last_record()?.layer;
    let store = &step.environment.store;
    let bytes = crate::rootfs::read_regular(&segments_file(store, &layer)).ok()?;
    let blob = store.open_blob(&layer.descriptor.digest).ok()?;
    Some(Remembered::new(blob, &Segments::from_bytes(&bytes)?))
}

/// What cannot be kept costs the next build some time, nothing else.
fn remember_segments(store: &Store, layer: &Layer, segments: &Segments) {
    if segments.is_empty() {
        return;
    }
    let write = || -> std::io::Result<()> {
        let scratch = store.scratch_dir().map_err(std::io::Error::other)?;
        let temporary = scratch.path().join("segments");
        std::fs::write(&temporary, segments.to_bytes())?;
        supersede(&temporary, &segments_file(store, layer))
    };
    if let Err(error) = write() {
        tracing::warn!(%error, "cannot remember the segments of a layer");
    }
}

/// Beside the blob, under its digest: another compression of the same files has other segments.
fn segments_file(store: &Store, layer: &Layer) -> PathBuf {
    store.private("segments").join(layer.descriptor.digest.hex())
}

/// Publishes a layer whose blob is in the store, and gives the root with it, or with what another build published
/// first, on top.
pub(super) fn publish(
    step: &StepContext<'_>,
    parent: &RootState,
    preimage: &dyn Reasons,
    layer: Layer,
    time: Seconds,
) -> Result<RootState, Failures> {
    let chain = parent.chain.push(layer.diff_id);
    let record = step.publish(Record::new(preimage.key(), layer, chain, time), preimage)?;
    Ok(parent.with(record.layer, record.time))
}
