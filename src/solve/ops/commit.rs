//! From entries to a layer in the store and a record in the cache.

use super::super::state::RootState;
use super::super::{Failures, LayerForm, StepContext};
use crate::cache::{Preimage, Record};
use crate::layer::entry::Entry;
use crate::layer::index::Index;
use crate::layer::{self, WriteOptions};
use crate::oci::{Descriptor, Layer, Seconds};

/// Writes `entries` as a layer, publishes it under the key of `preimage`, and gives the root with it on top.
pub(super) fn entries(
    step: &StepContext<'_>,
    parent: &RootState,
    preimage: &Preimage,
    mut entries: Vec<Entry>,
    time: Seconds,
) -> Result<RootState, Failures> {
    let environment = step.environment;
    let LayerForm { compression, newest } = environment.form;
    let newest = newest.unwrap_or(Seconds::MAX);
    entries.iter_mut().for_each(|entry| entry.mtime = entry.mtime.min(newest));
    let fail = |message: String| vec![step.error(message)];
    let mut blob = environment.store.new_blob().map_err(|e| fail(e.to_string()))?.without_hashing();
    let written =
        layer::write(entries, &WriteOptions { compression }, &mut blob).map_err(|e| fail(e.to_string()))?;
    let index =
        Index::from_entries(&written.entries, &written.data_offsets).map_err(|e| fail(e.to_string()))?;
    blob.commit_trusted(written.digest, written.size).map_err(|e| fail(e.to_string()))?;
    let descriptor = Descriptor::new(compression.media_type(), written.digest, written.size);
    let layer = Layer { descriptor, diff_id: written.diff_id };
    environment.roots.remember(layer.diff_id, index).map_err(|e| fail(e.to_string()))?;
    publish(step, parent, preimage, layer, time)
}

/// Publishes a layer whose blob is in the store, and gives the root with it, or with what another build published
/// first, on top.
pub(super) fn publish(
    step: &StepContext<'_>,
    parent: &RootState,
    preimage: &Preimage,
    layer: Layer,
    time: Seconds,
) -> Result<RootState, Failures> {
    let chain = parent.chain.push(layer.diff_id);
    let record = step.publish(Record::new(preimage.key(), layer, chain, time), preimage)?;
    Ok(parent.with(record.layer, record.time))
}
