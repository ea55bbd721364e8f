//! What steps do: from a step's operation and its inputs to a layer.

mod context_layer;
mod copy;
pub(super) mod exec;
pub(super) mod foresee;
mod source;
mod workdir;

use std::sync::Arc;

use super::environment::Environment;
use super::error::Error;
use super::state::Files;
use super::step::{Done, StepContext};
use crate::copy_files;
use crate::plan::graph::{CopySource, Op, Step, StepId};
use crate::report::Outcome;

/// Looks at what a step takes from elsewhere, for a lock file.
pub(super) fn visit(environment: &Environment<'_>, op: &Op) -> Result<(), Error> {
    match op {
        Op::Image(op) => source::find(environment, op).map(drop),
        Op::Copy { op, .. } => copy::visit(environment, op),
        Op::Scratch | Op::Base(_) | Op::Local(_) | Op::Workdir { .. } | Op::Exec { .. } => Ok(()),
    }
}

/// Whether `step` asks which files `other` leaves. RUN does for its mounts only: it has its root unpacked.
pub(super) fn looks_into(step: &Step, other: StepId) -> bool {
    match &step.op {
        Op::Copy { parent, op } => {
            let takes_from =
                |source: &CopySource| matches!(source, CopySource::Path { from, .. } if *from == other);
            (*parent == other && !copy_files::is_linked(op)) || op.sources.iter().any(takes_from)
        }
        Op::Workdir { parent, .. } => *parent == other,
        Op::Exec { op, .. } => op.mounted().any(|part| *part.from == other && part.source != "/"),
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) => false,
    }
}

/// Does the step: `op` is its operation with the results that it needs.
pub(super) fn run(step: &StepContext<'_>, op: &Op<Arc<Files>>) -> Result<Done, Error> {
    match op {
        Op::Scratch => Ok(Done::brought(Files::Root(source::scratch()), Outcome::Cached)),
        Op::Local(op) => Ok(Done::brought(source::local(step.environment, op), Outcome::Cached)),
        Op::Base(op) => source::base(step, op),
        Op::Image(op) => source::image(step, op),
        Op::Workdir { parent, op } => workdir::run(step, op, parent.root()),
        Op::Copy { parent, op } => copy::run(step, op, parent.root()),
        Op::Exec { parent, op } => exec::run(step, op, parent.root()),
    }
}
