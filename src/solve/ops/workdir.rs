//! WORKDIR as a step.

use crate::copy_files::{Outcome, workdir};
use crate::key;
use crate::plan::graph::WorkdirOp;
use crate::report::FileCounts;
use crate::solve::environment::Slot;
use crate::solve::error::Error;
use crate::solve::state::RootState;
use crate::solve::step::{Done, StepContext};
use crate::solve::{passwd, trees};

/// Takes the layer from the cache, or makes it. A directory that is there already makes an empty layer.
pub(super) fn run(step: &StepContext<'_>, op: &WorkdirOp, parent: &RootState) -> Result<Done, Error> {
    let preimage = step.environment.in_form(key::workdir(op, parent.chain));
    if let Some(record) = step.lookup(&preimage)? {
        return Ok(Done::cached(parent, record));
    }
    step.missed(&preimage);
    step.bring_ahead(parent);
    let environment = step.environment;
    let made = make(step, op, parent).map_err(|error| environment.cause(error, &parent.layers))?;
    // It makes directories, and no file.
    let slot = Slot { files: Some(FileCounts::default()), ..step.slot() };
    let made = environment.publish_entries(&slot, parent, &preimage, (made.entries, made.time))?;
    Ok(Done::ran(parent, made, preimage.key()))
}

fn make(step: &StepContext<'_>, op: &WorkdirOp, parent: &RootState) -> Result<Outcome, Error> {
    let services = step.environment.services;
    let tree = trees::of_root(services, parent)?;
    let account = |path: &str| passwd::read_one(services, parent, path);
    Ok(workdir::workdir(op, &tree, &account, parent.time)?)
}
