//! `rbuild __pod` and `rbuild __pod-connect`: the other side of `--on kubernetes://…`, which a job's pod runs.

use std::path::PathBuf;

use clap::Args;

use super::build::interruptibly;
use crate::cli::Failure;
use crate::cli::args::ProgressMode;
use crate::pipeline::{attend, connect};

/// Wait for a build in a pod, and do it
#[derive(Debug, Args)]
pub(crate) struct OnPodArgs {
    /// Where things are put together
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Attends until nobody is interested any more; ends as what ran ended.
pub(crate) fn run(args: OnPodArgs) -> Result<(), Failure> {
    let code = interruptibly(ProgressMode::Plain, move |_, stop| {
        attend(&args.folder, stop)
            .map_err(|e| Failure::message(format!("cannot work in `{}`: {e}", args.folder.display())))
    })?;
    match code {
        0 => Ok(()),
        code => Err(Failure::status(code)),
    }
}

/// Passes on bytes until one side ends.
pub(crate) fn pass_on(args: &OnPodArgs) -> Result<(), Failure> {
    connect(&args.folder)
        .map_err(|e| Failure::message(format!("nobody attends in `{}`: {e}", args.folder.display())))
}
