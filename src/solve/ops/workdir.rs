//! WORKDIR as a step.

use super::{commit, copy};
use crate::copy_files::workdir;
use crate::key;
use crate::plan::graph::WorkdirOp;
use crate::report::Outcome;
use crate::solve::state::{Files, RootState};
use crate::solve::{Done, Failures, StepContext, passwd, trees};

/// Takes the layer from the cache, or makes it. A directory that is there already makes an empty layer.
pub(super) fn run(step: &StepContext<'_>, op: &WorkdirOp, parent: &RootState) -> Result<Done, Failures> {
    let preimage = step.in_form(key::workdir(op, parent.chain));
    if let Some(record) = step.lookup(&preimage)? {
        let root = parent.with(record.layer, record.time);
        return Ok(Done { files: Files::Root(root), outcome: Outcome::Cached });
    }
    step.missed(&preimage);
    let tree = trees::of_root(step, parent)?;
    let account = |path: &str| passwd::read_one(step.environment, parent, path);
    let made = workdir::workdir(op, &tree, &account, parent.time)
        .map_err(|error| vec![copy::explain(step, &error)])?;
    let root = commit::entries(step, parent, &preimage, made.entries, made.time)?;
    Ok(Done { files: Files::Root(root), outcome: Outcome::Ran })
}
