//! Steps that bring files from elsewhere: nothing at all, a base image, an image that a step names.

use super::super::images::{self, ImageError};
use super::super::state::{ContextFiles, Environment, Files, RootState};
use super::super::{Done, Failures, StepContext};
use crate::image::PlatformImage;
use crate::layer::archive::Limits;
use crate::layer::index::Index;
use crate::oci::{self, ChainId, DiffId, Layer, Reference};
use crate::plan;
use crate::plan::graph::{BaseOp, ImageOp, LocalOp};
use crate::registry::{self, Progress};
use crate::report::{Diagnostic, Outcome};

/// FROM scratch: nothing, of time 0 (SOURCE_DATE_EPOCH counts in the steps that write something).
pub(super) fn scratch(_step: &StepContext<'_>) -> RootState {
    RootState::empty(0)
}

/// FROM: the layers of a base, fetched if the store does not have them.
pub(super) fn base(step: &StepContext<'_>, op: &BaseOp) -> Result<Done, Failures> {
    brought(step, &op.image)
}

/// A context: a folder is read when a step asks for files of it.
pub(super) fn local(step: &StepContext<'_>, op: &LocalOp) -> Done {
    let files = match step.environment.contexts.get(&op.name) {
        Some(ContextFiles::Root(root)) => Files::Root(root.clone()),
        Some(ContextFiles::Folder(_)) | None => Files::Local(op.name.clone()),
    };
    Done { files, outcome: Outcome::Cached }
}

/// COPY --from=IMAGE and mounts: an image by name. One in the local store goes before a registry's.
pub(super) fn image(step: &StepContext<'_>, op: &ImageOp) -> Result<Done, Failures> {
    brought(step, &find(step, op)?)
}

/// The image that a step names; its layers are not fetched.
pub(super) fn find(step: &StepContext<'_>, op: &ImageOp) -> Result<PlatformImage, Failures> {
    let Environment { store, registry, pins, pull, .. } = step.environment;
    let found = images::find(store, registry, pins, (&op.reference, &op.platform), *pull);
    found.map_err(|e| vec![missing(step, op, &e)])
}

fn brought(step: &StepContext<'_>, image: &PlatformImage) -> Result<Done, Failures> {
    let outcome = match &image.remote {
        Some(reference) => fetch(step, reference, &image.layers)?,
        None => Outcome::Cached,
    };
    Ok(Done { files: Files::Root(root(image)), outcome })
}

/// The files of an image, fetched or not.
pub(super) fn root(image: &PlatformImage) -> RootState {
    let time = image.config.created.as_deref().and_then(oci::parse_rfc3339).unwrap_or(0);
    let diff_ids: Vec<DiffId> = image.layers.iter().map(|layer| layer.diff_id).collect();
    RootState { layers: image.layers.clone(), chain: ChainId::of(&diff_ids), time }
}

/// Says why there is no such image, and which stage may have been meant instead.
fn missing(step: &StepContext<'_>, op: &ImageOp, error: &ImageError) -> Diagnostic {
    let name = op.reference.to_string();
    let name = name.strip_suffix(":latest").unwrap_or(&name);
    let hint = step.environment.dockerfile.and_then(|file| plan::stage_hint(file, name));
    let diagnostic = error.diagnose();
    let diagnostic = match hint {
        // A stage of nearly that name is the better guess, so it goes first.
        Some(hint) => {
            let message = format!("no earlier stage is named `{name}`, and there is no such image");
            Diagnostic::error(message).note(diagnostic.message).help(hint)
        }
        None => diagnostic,
    };
    match step.step.span {
        Some(span) => diagnostic.at(step.source, span, ""),
        None => diagnostic,
    }
}

fn fetch(step: &StepContext<'_>, reference: &Reference, layers: &[Layer]) -> Result<Outcome, Failures> {
    let environment = step.environment;
    let is_here = |layer: &Layer| {
        let size = environment.store.intact_blob(&layer.descriptor.digest);
        size.map(|size| size == Some(layer.descriptor.size)).map_err(|e| vec![step.error(e.to_string())])
    };
    // All of them are looked at: one that is damaged is set aside, and then fetched with the others.
    let here = layers.iter().map(is_here).collect::<Result<Vec<bool>, Failures>>()?;
    if here.iter().all(|here| *here) {
        return Ok(Outcome::Cached);
    }
    let progress = Progress::new(environment.events.clone(), step.number());
    std::thread::scope(|scope| {
        let tap = |layer: &Layer| {
            let (tap, bytes) = registry::tap();
            let diff_id = layer.diff_id;
            let is_wanted = step.is_looked_into && environment.roots.index_file(diff_id).is_none();
            is_wanted.then(|| scope.spawn(move || index(step, diff_id, bytes))).map(|_| tap)
        };
        let registry = environment.registry;
        registry.pull_layers_tapped(&environment.store, reference, layers, &progress, &tap)
    })
    .map_err(|e| vec![explain(step, &e)])?;
    Ok(Outcome::Ran)
}

/// Learns what a layer holds while it arrives, so that it need not be decompressed again for that. What is wrong with
/// it is not told here: whoever asks for the index reads the blob then, and says so.
fn index(step: &StepContext<'_>, diff_id: DiffId, bytes: impl std::io::Read + Send) {
    if let Ok(read) = Index::read(bytes, Limits::default())
        && read.diff_id == diff_id
    {
        let _ = step.environment.roots.remember(diff_id, read.index);
    }
}

fn explain(step: &StepContext<'_>, error: &registry::Error) -> Diagnostic {
    let diagnostic = step.error(error.to_string());
    match error.help() {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}
