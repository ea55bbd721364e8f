//! WORKDIR as a step.

use super::commit;
use crate::copy_files::workdir;
use crate::key;
use crate::plan::graph::WorkdirOp;
use crate::report::Outcome;
use crate::solve::error::Error;
use crate::solve::state::{Files, RootState};
use crate::solve::step::{Done, StepContext};
use crate::solve::{passwd, trees};

/// Takes the layer from the cache, or makes it. A directory that is there already makes an empty layer.
pub(super) fn run(step: &StepContext<'_>, op: &WorkdirOp, parent: &RootState) -> Result<Done, Error> {
    let preimage = step.environment.in_form(key::workdir(op, parent.chain));
    if let Some(record) = step.lookup(&preimage)? {
        let root = parent.with(record.layer, record.time);
        return Ok(Done { files: Files::Root(root), outcome: Outcome::Cached });
    }
    step.missed(&preimage);
    let services = step.environment.services;
    let tree = trees::of_root(services, parent)?;
    let account = |path: &str| passwd::read_one(services, parent, path);
    let made = workdir::workdir(op, &tree, &account, parent.time)?;
    let slot = step.slot();
    let root = commit::entries((step.environment, &slot), parent, &preimage, made.entries, made.time)?;
    Ok(Done { files: Files::Root(root), outcome: Outcome::Ran })
}
