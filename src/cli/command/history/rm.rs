//! `rbuild history rm`

use clap::Args;

use super::{Daemon, find};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::local;
use crate::record::kept::{self, Kept};
use crate::report::Diagnostic;
use crate::solve::log;

/// Forget builds: their records, and what their commands printed
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Builds: their ids, or the beginnings of these; `^1` is the one before the last
    #[arg(value_name = "REF", required_unless_present = "all", conflicts_with = "all")]
    references: Vec<String>,
    /// Forget all builds that have ended
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Forgets them; those that can be found are forgotten, also where another cannot.
pub(super) fn run(global: &Global, args: &RmArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let (mut wanted, mut faults): (Vec<Kept>, Vec<Diagnostic>) = (Vec::new(), Vec::new());
    if args.all {
        wanted = kept::list(&store).into_iter().filter(|kept| !kept.is_running()).collect();
    }
    for reference in &args.references {
        match find::one(&store, Some(reference)) {
            Ok(kept) if kept.is_running() => {
                let error = Diagnostic::error(format!("the build `{}` is under way", kept.id));
                faults.push(error.help("its record can go when it has ended"));
            }
            Ok(kept) => wanted.push(kept),
            Err(failure) => faults.extend(failure.diagnostics),
        }
    }
    for kept in wanted {
        log::forget(&store, &kept.id);
        if let Err(error) = kept.remove() {
            faults.push(Diagnostic::error(format!("cannot remove the record `{}`: {error}", kept.id)));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Failure::build(faults)) }
}
