//! From entries to a layer in the store and a record in the cache.

use std::path::PathBuf;

use crate::cache::Reasons;
use crate::key::LayerForm;
use crate::layer::entry::Entry;
use crate::layer::index::Index;
use crate::layer::{self, Remembered, Segments, WriteOptions};
use crate::oci::{Descriptor, Layer, Seconds};
use crate::solve::environment::{Environment, Slot};
use crate::solve::error::Error;
use crate::solve::state::RootState;
use crate::store::{Store, supersede};

/// Writes `entries` as a layer, publishes it under the key of `preimage`, and gives the root with it on top.
pub(super) fn entries(
    (environment, slot): (&Environment<'_>, &Slot<'_>),
    parent: &RootState,
    preimage: &dyn Reasons,
    mut entries: Vec<Entry>,
    time: Seconds,
) -> Result<RootState, Error> {
    let services = environment.services;
    let LayerForm { compression, newest } = environment.policy.form;
    let newest = newest.unwrap_or(Seconds::MAX);
    entries.iter_mut().for_each(|entry| entry.mtime = entry.mtime.min(newest));
    let mut blob = services.store.new_blob()?.without_hashing();
    let options = WriteOptions { compression };
    let earlier = earlier_segments(environment, slot);
    let written = layer::write_remembering(entries, &options, earlier.as_ref(), &mut blob)?;
    let index = Index::from_entries(&written.entries, &written.data_offsets)?;
    drop(written.entries);
    blob.commit_trusted(written.digest, written.size)?;
    let descriptor = Descriptor {
        annotations: written.annotations,
        ..Descriptor::new(compression.media_type(), written.digest, written.size)
    };
    let layer = Layer { descriptor, diff_id: written.diff_id };
    services.indexes.remember(layer.diff_id, index)?;
    remember_segments(&services.store, &layer, &written.segments);
    environment.publish(slot, parent, preimage, (layer, time))
}

/// The layer that this step made last, to take from it what did not change.
fn earlier_segments(environment: &Environment<'_>, slot: &Slot<'_>) -> Option<Remembered> {
    let layer = environment.last_record(slot)?.layer;
    let store = &environment.services.store;
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
