//! Steps that bring files from elsewhere: nothing at all, a base image, an image that a step names.

use std::sync::Arc;

use crate::cache::BlobSource;
use crate::image::PlatformImage;
use crate::oci::{self, ChainId, DiffId};
use crate::plan;
use crate::plan::graph::{BaseOp, ImageOp, LocalOp};
use crate::report::Outcome;
use crate::solve::environment::{Environment, Services};
use crate::solve::error::Error;
use crate::solve::images::{self, ImageError};
use crate::solve::remote::RemoteLayers;
use crate::solve::state::{ContextFiles, Files, RootState};
use crate::solve::step::{Done, StepContext};

/// FROM scratch: nothing, of time 0 (SOURCE_DATE_EPOCH counts in the steps that write something).
pub(super) fn scratch() -> RootState {
    RootState::empty(0)
}

/// FROM: the layers of a base.
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
    let found = find(step.environment, op)?;
    step.environment.services.materials.saw_image(&op.reference, found.target.digest, &op.platform);
    brought(step, &found)
}

/// The image that a step names; its layers are not fetched.
pub(super) fn find(environment: &Environment<'_>, op: &ImageOp) -> Result<PlatformImage, Error> {
    let Services { store, registry, pins, .. } = environment.services;
    let found = images::find(store, registry, pins, (&op.reference, &op.platform), environment.policy.pull);
    found.map_err(|error| missing(environment, op, error))
}

/// The image's files. Layers that are not here are fetched by whoever needs them first, if anybody does.
fn brought(step: &StepContext<'_>, image: &PlatformImage) -> Result<Done, Error> {
    let files = Files::Root(root(image));
    step.environment.services.indexes.claim(&image.layers);
    let Some(reference) = &image.remote else { return Ok(Done::brought(files, Outcome::Cached)) };
    let services = step.environment.services;
    let mut missing = image.layers.clone();
    let mut problem = None;
    // All of them are looked at: one that is damaged is set aside, and then fetched with the others.
    missing.retain(|layer| match services.store.intact_blob(&layer.descriptor.digest) {
        Ok(size) => size != Some(layer.descriptor.size),
        Err(error) => {
            problem.get_or_insert(error);
            false
        }
    });
    if let Some(error) = problem {
        return Err(error.into());
    }
    if missing.is_empty() {
        return Ok(Done::brought(files, Outcome::Cached));
    }
    let remote = Arc::new(RemoteLayers::new(step, reference, missing));
    let source: Arc<dyn BlobSource> = Arc::clone(&remote) as _;
    services.lookup.promise(&remote.layers, &source);
    Ok(Done { remote: Some(remote), ..Done::brought(files, Outcome::Cached) })
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
