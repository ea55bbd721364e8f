//! What steps do: from a step's operation and its inputs to a layer.

mod commit;
mod context_layer;
pub(super) mod exec;
pub(super) mod foresee;
pub mod remote_git;
pub mod remote_http;
mod source;
pub mod transfer;
mod transfer_step;
pub mod workdir;
mod workdir_step;

use std::sync::Arc;

use super::state::{Files, RootState};
use super::{Done, Failures, StepContext};
use crate::plan::graph::{Mount, MountKind, Op, Step, StepId, TransferSource};
use crate::report::Outcome;

/// The steps that an operation reads from beside its parent, in the order of its sources or mounts.
pub(super) fn reads(op: &Op) -> Vec<StepId> {
    match op {
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) | Op::Workdir(_) => Vec::new(),
        Op::Transfer(op) => op
            .sources
            .iter()
            .filter_map(|source| match source {
                TransferSource::Path { from, .. } => Some(*from),
                TransferSource::Inline { .. } | TransferSource::Url { .. } | TransferSource::Git { .. } => {
                    None
                }
            })
            .collect(),
        Op::Exec(op) => op.mounts.iter().filter_map(reads_of_mount).collect(),
    }
}

/// Whether `step` asks which files `other` leaves. RUN does not: it has them unpacked.
pub(super) fn looks_into(step: &Step, other: StepId) -> bool {
    match &step.op {
        Op::Transfer(op) => {
            let lands_there = step.parent == Some(other) && !transfer::land::is_linked(op);
            lands_there || reads(&step.op).contains(&other)
        }
        Op::Workdir(_) => step.parent == Some(other),
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) | Op::Exec(_) => false,
    }
}

/// The step that a mount reads from.
fn reads_of_mount(mount: &Mount) -> Option<StepId> {
    match &mount.kind {
        MountKind::Bind { from, .. } => Some(*from),
        MountKind::Cache { from, .. } => from.as_ref().map(|(from, _)| *from),
        MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
    }
}

/// Does the step. `inputs` are the parent's result, if the step has a parent, and then those of [`reads`].
pub(super) fn run(step: &StepContext<'_>, inputs: &[Arc<Files>]) -> Result<Done, Failures> {
    let (parent, reads) = match (&step.step.parent, inputs.split_first()) {
        (Some(_), Some((parent, reads))) => (Some(root(step, parent)?), reads),
        _ => (None, inputs),
    };
    match (&step.step.op, parent) {
        (Op::Scratch, _) => Ok(Done { files: Files::Root(source::scratch(step)), outcome: Outcome::Cached }),
        (Op::Local(op), _) => Ok(source::local(step, op)),
        (Op::Base(op), _) => source::base(step, op),
        (Op::Image(op), _) => source::image(step, op),
        (Op::Workdir(op), Some(parent)) => workdir_step::run(step, op, parent),
        (Op::Transfer(op), Some(parent)) => transfer_step::run(step, op, parent, reads),
        (Op::Exec(op), Some(parent)) => exec::run(step, op, parent, reads),
        (Op::Workdir(_) | Op::Transfer(_) | Op::Exec(_), None) => {
            Err(vec![step.error("this step starts from nothing; that is a bug of rbuild's")])
        }
    }
}

/// The root file system among an input.
fn root<'f>(step: &StepContext<'_>, files: &'f Files) -> Result<&'f RootState, Failures> {
    match files {
        Files::Root(root) => Ok(root),
        Files::Local(_) => {
            Err(vec![step.error("a context is no root file system; that is a bug of rbuild's")])
        }
    }
}
