//! Steps that bring files from elsewhere: nothing at all, a base image, an image that a step names.

use super::super::state::{Files, RootState};
use super::super::{Done, Failures, StepContext};
use crate::oci::{self, ChainId, DiffId, Layer, Reference};
use crate::plan::graph::{BaseOp, ImageOp};
use crate::registry::{self, Progress};
use crate::report::{Diagnostic, Outcome};

/// FROM scratch: nothing, of time 0 (SOURCE_DATE_EPOCH counts in the steps that write something).
pub(super) fn scratch(_step: &StepContext<'_>) -> RootState {
    RootState::empty(0)
}

/// FROM: the layers of a base, fetched if the store does not have them.
pub(super) fn base(step: &StepContext<'_>, op: &BaseOp) -> Result<Done, Failures> {
    let base = &step.environment.bases[op.base];
    let outcome = match &base.remote {
        Some(reference) => fetch(step, reference, &base.layers)?,
        None => Outcome::Cached,
    };
    let created = base.config.created.as_deref().and_then(oci::parse_rfc3339).unwrap_or(0);
    Ok(Done { files: Files::Root(root(&base.layers, created)), outcome })
}

/// COPY --from=IMAGE and mounts: an image by name. One in the local store goes before a registry's.
pub(super) fn image(step: &StepContext<'_>, op: &ImageOp) -> Result<Done, Failures> {
    let environment = step.environment;
    let resolved = environment.registry.resolve(&environment.store, &op.reference, &op.platform);
    let resolved = resolved.map_err(|e| vec![explain(step, &e)])?;
    let outcome = fetch(step, &op.reference, &resolved.layers)?;
    let created = resolved.config.created.as_deref().and_then(oci::parse_rfc3339).unwrap_or(0);
    Ok(Done { files: Files::Root(root(&resolved.layers, created)), outcome })
}

fn root(layers: &[Layer], time: oci::Seconds) -> RootState {
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
    RootState { layers: layers.to_vec(), chain: ChainId::of(&diff_ids), time }
}

fn fetch(step: &StepContext<'_>, reference: &Reference, layers: &[Layer]) -> Result<Outcome, Failures> {
    let environment = step.environment;
    if layers.iter().all(|l| environment.store.has_blob(&l.descriptor.digest) == Some(l.descriptor.size)) {
        return Ok(Outcome::Cached);
    }
    let progress = Progress::new(environment.events.clone(), step.number());
    environment
        .registry
        .pull_layers(&environment.store, reference, layers, &progress)
        .map_err(|e| vec![explain(step, &e)])?;
    Ok(Outcome::Ran)
}

fn explain(step: &StepContext<'_>, error: &registry::Error) -> Diagnostic {
    let diagnostic = step.error(error.to_string());
    match error.help() {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}
