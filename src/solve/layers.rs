//! Makes layers: the one place where a blob, its index, and what a descriptor says of it come together.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::environment::Services;
use super::error::Error;
use super::indexes::LayerIndexes;
use super::jobs;
use super::state::RootState;
use super::watch::Watch;
use super::writable::WritableRoot;
use crate::exec::Executor;
use crate::key::LayerOptions;
use crate::layer::archive::{Limits, decompress};
use crate::layer::entry::Entry;
use crate::layer::index::Index;
use crate::layer::{self, Compression, Remembered, Segments, WriteOptions, repack};
use crate::oci::{Descriptor, DiffId, Digest, Layer, Seconds};
use crate::report::FileCounts;
use crate::rootfs::SpecialOwner;
use crate::snapshot::{Blobs, CommitJob, DiffJob};
use crate::store::{Folder, Store, supersede};

/// Writes `entries` as a layer into the store. What it has in common with `earlier` is taken from there. Nothing is left of a layer that
/// `watch` refuses.
pub(super) fn of_entries(
    services: &Services,
    form: LayerOptions,
    mut entries: Vec<Entry>,
    (earlier, watch): (Option<&Layer>, Option<&Watch<'_>>),
) -> Result<Layer, Error> {
    let LayerOptions { compression, newest } = form;
    let newest = newest.unwrap_or(Seconds::MAX);
    entries.iter_mut().for_each(|entry| entry.mtime = entry.mtime.min(newest));
    let mut blob = services.store.new_blob()?.without_hashing();
    let options = WriteOptions { compression };
    let earlier = earlier.and_then(|layer| segments(&services.store, layer));
    let scanner = watch.and_then(Watch::scanner);
    let with = (earlier.as_ref(), scanner.as_deref());
    let mut written = layer::write_remembering(entries, &options, with, &mut blob)?;
    if let Some(watch) = watch {
        watch.judge(std::mem::take(&mut written.found))?;
    }
    let index = Index::from_entries(&written.entries, &written.data_offsets)?;
    drop(written.entries);
    blob.commit_trusted(written.digest, written.size)?;
    let layer = layer(compression, written.diff_id, (written.digest, written.size), written.annotations);
    services.indexes.remember(layer.diff_id, index)?;
    remember_segments(&services.store, &layer, &written.segments);
    Ok(layer)
}

/// Writes a layer anew that another machine made of the same files, and is kept there: `true` when the same blob came out.
pub(super) fn remade(
    (store, indexes): (&Store, &LayerIndexes),
    form: LayerOptions,
    remake: impl FnOnce(&Index) -> Option<Vec<Entry>>,
    layer: &Layer,
) -> bool {
    let make = || {
        let entries = remake(&*indexes.known(layer)?)?;
        let mut blob = store.new_blob().ok()?.without_hashing();
        let written =
            layer::write(entries, &WriteOptions { compression: form.compression }, &mut blob).ok()?;
        let Descriptor { digest, size, .. } = layer.descriptor;
        if (written.digest, written.size, written.diff_id) != (digest, size, layer.diff_id) {
            return None;
        }
        blob.commit_trusted(digest, size).ok()?;
        let index = Index::from_entries(&written.entries, &written.data_offsets).ok()?;
        // One that differs from what was told is noted there.
        indexes.remember(layer.diff_id, index).ok()
    };
    make().is_some()
}

/// Writes what was changed in the root of `snapshot` as a layer into the store, and counts it. Nothing is left of a layer that `watch`
/// refuses.
pub(super) fn of_changes(
    (services, form, watch): (&Services, LayerOptions, Option<&Watch<'_>>),
    parent: &RootState,
    snapshot: &WritableRoot,
    special: &[SpecialOwner],
) -> Result<(Layer, FileCounts), Error> {
    let scratch = services.store.scratch_dir()?;
    let LayerOptions { compression, newest } = form;
    let mut diff = DiffJob { newest, ..services.snapshots.diff_job(snapshot, special)? };
    diff.tracked.iter_mut().for_each(|tracked| tracked.blobs = Some(blobs(services, parent)));
    let job = CommitJob {
        diff,
        // For a worker, which has no view.
        parents: match snapshot.memory().is_some() || services.executor.is_rootless() {
            true => services.snapshots.index_files(&parent.layers)?,
            false => Vec::new(),
        },
        compression,
        blob: scratch.path().join("blob"),
        index: scratch.path().join("index"),
        watch: watch.and_then(Watch::needles),
    };
    let view = services.indexes.view(&parent.layers)?;
    let made = jobs::commit(&services.executor, snapshot.memory(), &job, &view)?;
    if let Some(watch) = watch {
        watch.judge(made.found)?;
    }
    services.store.adopt_blob(&job.blob, made.digest)?;
    services.indexes.adopt(made.diff_id, &job.index)?;
    let files = made.files;
    Ok((layer(compression, made.diff_id, (made.digest, made.size), made.annotations), files))
}

/// Opens the blobs of a root's layers, by their numbers.
fn blobs(services: &Services, root: &RootState) -> Blobs {
    let (lookup, store, layers) = (Arc::clone(&services.lookup), services.store.clone(), root.layers.clone());
    let indexes = Arc::clone(&services.indexes);
    Blobs(Arc::new(move |layer| {
        lookup.bring(&layers[layer..=layer]).map_err(io::Error::other)?;
        indexes.prove_blob(&layers[layer]).map_err(io::Error::other)?;
        let blob = store.open_blob(&layers[layer].descriptor.digest).map_err(io::Error::other)?;
        Ok(Box::new(blob))
    }))
}

/// Writes a layer of the store anew with another compression. Its tar stays what it is, and with it diff id and index.
pub fn recompressed(services: &Services, old: &Layer, compression: Compression) -> Result<Layer, Error> {
    let Descriptor { digest, .. } = old.descriptor;
    services.lookup.bring(std::slice::from_ref(old))?;
    let file = services.store.open_blob(&digest)?;
    let mut blob = services.store.new_blob()?.without_hashing();
    let tar = decompress(Stoppable { file, executor: &services.executor });
    let repacked =
        tar.and_then(|tar| repack(tar.take(Limits::default().archive_bytes), compression, &mut blob));
    let repacked = repacked.map_err(|source| Error::Recompress { layer: digest, source })?;
    if repacked.diff_id != old.diff_id {
        return Err(Error::OtherContent { layer: digest, expected: old.diff_id, actual: repacked.diff_id });
    }
    blob.commit_trusted(repacked.digest, repacked.size)?;
    // What annotations said of the old blob need not be true of the new one.
    Ok(layer(compression, old.diff_id, (repacked.digest, repacked.size), BTreeMap::new()))
}

/// A layer whose blob is complete in the store.
fn layer(
    compression: Compression,
    diff_id: DiffId,
    (digest, size): (Digest, u64),
    annotations: BTreeMap<String, String>,
) -> Layer {
    let descriptor = Descriptor::new(compression.media_type(), digest, size);
    Layer { descriptor: Descriptor { annotations, ..descriptor }, diff_id }
}

/// Where a layer can be cut, if that is known.
fn segments(store: &Store, layer: &Layer) -> Option<Remembered> {
    let bytes = crate::rootfs::read_regular(&segments_file(store, layer)).ok()?;
    let blob = store.open_blob(&layer.descriptor.digest).ok()?;
    Some(Remembered::new(blob, &Segments::from_bytes(&bytes)?))
}

/// What cannot be kept costs the next build some time, nothing else.
fn remember_segments(store: &Store, layer: &Layer, segments: &Segments) {
    if segments.is_empty() {
        return;
    }
    let write = || -> io::Result<()> {
        let scratch = store.scratch_dir().map_err(io::Error::other)?;
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
    store.private(Folder::Segments).join(layer.descriptor.digest.hex())
}

/// Ends early when the build is stopped.
struct Stoppable<'a> {
    file: std::fs::File,
    executor: &'a Executor,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.executor.is_cancelled() {
            true => Err(io::Error::other("the build was stopped")),
            false => self.file.read(into),
        }
    }
}
