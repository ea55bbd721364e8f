//! `rbuild __on-worker`: the other side of `--on`, which an engine runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Args;

use super::build::interruptibly;
use crate::cli::Failure;
use crate::cli::args::ProgressMode;
use crate::pipeline::Aloud;
use crate::pipeline::worker::{self, Ended};
use crate::sync::lock;

/// Do the build that an engine laid out in this folder
#[derive(Debug, Args)]
pub(crate) struct OnWorkerArgs {
    /// What was asked for
    #[arg(value_name = "FILE")]
    order: PathBuf,
}

/// Builds.
pub(crate) fn run(args: OnWorkerArgs) -> Result<(), Failure> {
    // What is said after the display is gone is said as ever.
    let aloud = Arc::<Mutex<Option<Aloud>>>::default();
    let its = Arc::clone(&aloud);
    let done = interruptibly(ProgressMode::Plain, move |events, stop| {
        *lock(&its) = Aloud::begin(Path::new("."));
        worker::run(&args.order, events, stop).map_err(|ended| match ended {
            Ended::Refused(told) => Failure::build(vec![told]).or_status(worker::REFUSED),
            Ended::Failed(failed) => Failure::build(failed.diagnostics),
        })
    });
    lock(&aloud).take().into_iter().for_each(Aloud::end);
    done
}
