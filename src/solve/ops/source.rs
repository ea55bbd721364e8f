//! Steps that bring files from elsewhere: nothing at all, a base image, an image that a step names.

use std::sync::Arc;

use crate::image::PlatformImage;
use crate::layer::archive::Limits;
use crate::layer::index::Index;
use crate::oci::{self, ChainId, DiffId, Layer, Reference};
use crate::plan;
use crate::plan::graph::{BaseOp, ImageOp, LocalOp};
use crate::registry::{self, Progress};
use crate::report::Outcome;
use crate::solve::environment::{Environment, Services};
use crate::solve::error::Error;
use crate::solve::images::{self, ImageError};
use crate::solve::indexes::LayerIndexes;
use crate::solve::state::{ContextFiles, Files, RootState};
use crate::solve::step::{Done, StepContext};

/// FROM scratch: nothing, of time 0 (SOURCE_DATE_EPOCH counts in the steps that write something).
pub(super) fn scratch() -> RootState {
    RootState::empty(0)
}

/// FROM: the layers of a base, fetched if the store does not have them.
pub(super) fn base(step: &StepContext<'_>, op: &BaseOp) -> Result<Done, Error> {
    brought(step, &op.image)
}

/// A context: a folder is read when a step asks for files of it.
pub(super) fn local(environment: &Environment<'_>, op: &LocalOp) -> Files {
    // A plan names the contexts of the options that it was made with, and these are what the build was given.
    match &environment.given.contexts[&op.name] {
        ContextFiles::Root(root) => Files::Root(root.clone()),
        ContextFiles::Folder(context) => Files::Folder(op.name.clone(), Arc::clone(context)),
    }
}

/// COPY --from=IMAGE and mounts: an image by name. One in the local store goes before a registry's.
pub(super) fn image(step: &StepContext<'_>, op: &ImageOp) -> Result<Done, Error> {
    brought(step, &find(step.environment, op)?)
}

/// The image that a step names; its layers are not fetched.
pub(super) fn find(environment: &Environment<'_>, op: &ImageOp) -> Result<PlatformImage, Error> {
    let Services { store, registry, pins, .. } = environment.services;
    let found = images::find(store, registry, pins, (&op.reference, &op.platform), environment.policy.pull);
    found.map_err(|error| missing(environment, op, error))
}

fn brought(step: &StepContext<'_>, image: &PlatformImage) -> Result<Done, Error> {
    let outcome = match &image.remote {
        Some(reference) => fetch(step, reference, &image.layers)?,
        None => Outcome::Cached,
    };
    Ok(Done::brought(Files::Root(root(image)), outcome))
}

/// The files of an image, fetched or not.
pub(super) fn root(image: &PlatformImage) -> RootState {
    let time = image.config.created.as_deref().and_then(oci::parse_rfc3339).unwrap_or(0);
    let diff_ids: Vec<DiffId> = image.layers.iter().map(|layer| layer.diff_id).collect();
    RootState { layers: image.layers.clone(), chain: ChainId::of(&diff_ids), time }
}

/// There is no such image; perhaps a stage was meant.
fn missing(environment: &Environment<'_>, op: &ImageOp, source: ImageError) -> Error {
    let name = op.reference.to_string();
    let name = name.strip_suffix(":latest").unwrap_or(&name).to_owned();
    match environment.given.dockerfile.and_then(|file| plan::stage_hint(file, &name)) {
        Some(hint) => Error::NoStage { name, hint, source },
        None => Error::Image(source),
    }
}

fn fetch(step: &StepContext<'_>, reference: &Reference, layers: &[Layer]) -> Result<Outcome, Error> {
    let services = step.environment.services;
    let is_here = |layer: &Layer| {
        let size = services.store.intact_blob(&layer.descriptor.digest);
        size.map(|size| size == Some(layer.descriptor.size))
    };
    // All of them are looked at: one that is damaged is set aside, and then fetched with the others.
    let here = layers.iter().map(is_here).collect::<Result<Vec<bool>, _>>()?;
    if here.iter().all(|here| *here) {
        return Ok(Outcome::Cached);
    }
    let progress = Progress::new(services.events.clone(), step.number());
    std::thread::scope(|scope| {
        let tap = |layer: &Layer| {
            let (tap, bytes) = registry::tap();
            let diff_id = layer.diff_id;
            let is_wanted = step.is_looked_into && services.indexes.index_file(diff_id).is_none();
            is_wanted.then(|| scope.spawn(move || index(&services.indexes, diff_id, bytes))).map(|_| tap)
        };
        let registry = &services.registry;
        registry.pull_layers_tapped(&services.store, reference, layers, &progress, &tap)
    })?;
    Ok(Outcome::Ran)
}

/// Learns what a layer holds while it arrives, so that it need not be decompressed again for that. What is wrong with
/// it is not told here: whoever asks for the index reads the blob then, and says so.
fn index(indexes: &LayerIndexes, diff_id: DiffId, bytes: impl std::io::Read + Send) {
    if let Ok(read) = Index::read(bytes, Limits::default())
        && read.diff_id == diff_id
    {
        let _ = indexes.remember(diff_id, read.index);
    }
}
