//! What steps do: from a step's operation and its inputs to a layer.

#[allow(clippy::disallowed_methods, reason = "the store's own files, by digest")]
mod commit;
mod context_layer;
pub(super) mod exec;
pub(super) mod foresee;
#[allow(
    clippy::disallowed_methods,
    reason = "folders that git fills for rbuild alone; what is read of them goes through a context"
)]
pub mod remote_git;
#[allow(clippy::disallowed_methods, reason = "a file in a folder of rbuild's")]
pub mod remote_http;
mod source;
pub mod transfer;
mod transfer_step;
pub mod workdir;
mod workdir_step;

use std::sync::Arc;

use super::state::{Files, RootState};
use super::{Done, Failures, StepContext};
use crate::plan::graph::{Op, Step, StepId};
use crate::report::Outcome;

/// Looks at what a step takes from elsewhere, for a lock file.
pub(super) fn visit(step: &StepContext<'_>) -> Result<(), Failures> {
    match &step.step.op {
        Op::Image(op) => source::find(step, op).map(drop),
        Op::Transfer(op) => transfer_step::visit(step, op),
        Op::Scratch | Op::Base(_) | Op::Local(_) | Op::Workdir(_) | Op::Exec(_) => Ok(()),
    }
}

/// Whether `step` asks which files `other` leaves. RUN does for its mounts only: it has its root unpacked.
pub(super) fn looks_into(step: &Step, other: StepId) -> bool {
    match &step.op {
        Op::Transfer(op) => {
            let lands_there = step.parent == Some(other) && !transfer::land::is_linked(op);
            lands_there || step.op.reads().contains(&other)
        }
        Op::Workdir(_) => step.parent == Some(other),
        Op::Exec(op) => {
            let mut reads = op.reads().into_iter().zip(exec::mounted_paths(op));
            reads.any(|(read, (source, _))| read == other && source != "/")
        }
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) => false,
    }
}

/// Does the step. `inputs` are the parent's result, if the step has a parent, and then those of [`Op::reads`].
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
