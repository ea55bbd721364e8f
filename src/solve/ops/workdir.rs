//! WORKDIR as a step.

use crate::copy_files::workdir;
use crate::key;
use crate::plan::graph::WorkdirOp;
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
    let services = step.environment.services;
    let tree = trees::of_root(services, parent)?;
    let account = |path: &str| passwd::read_one(services, parent, path);
    let made = workdir::workdir(op, &tree, &account, parent.time)?;
    let environment = step.environment;
    let root = environment.publish_entries(&step.slot(), parent, &preimage, (made.entries, made.time))?;
    Ok(Done::ran(root, preimage.key()))
}
