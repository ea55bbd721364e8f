//! `rbuild __on-worker`: the other side of `--on`, which an engine runs.

use std::path::PathBuf;

use clap::Args;

use super::build::interruptibly;
use crate::cli::Failure;
use crate::cli::args::ProgressMode;
use crate::pipeline::worker::{self, Ended};

/// Do the build that an engine laid out in this folder
#[derive(Debug, Args)]
pub(crate) struct OnWorkerArgs {
    /// What was asked for
    #[arg(value_name = "FILE")]
    order: PathBuf,
}

/// Builds.
pub(crate) fn run(args: OnWorkerArgs) -> Result<(), Failure> {
    interruptibly(ProgressMode::Plain, move |events, stop| {
        worker::run(&args.order, events, stop).map_err(|ended| match ended {
            Ended::Refused(told) => Failure::build(vec![told]).or_status(worker::REFUSED),
            Ended::Failed(failed) => Failure::build(failed.diagnostics),
        })
    })
}
