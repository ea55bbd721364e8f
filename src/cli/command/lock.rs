//! `rbuild lock`: what a build takes from elsewhere, pinned.

use clap::Args;

use crate::cli::Failure;
use crate::cli::args::{Global, ProgressMode};
use crate::cli::error::print;
use crate::cli::options::build::BuildArgs;
use crate::cli::options::configuration::Configuration;
use crate::cli::options::request;
use crate::cli::show::progress::Progress;
use crate::config::Change;
use crate::pipeline::{self, Refresh};

/// Pin what a build takes from elsewhere in rbuild.lock
///
/// Looks up base images and other images that the Dockerfile names, fetches its URLs and git repositories, for every
/// stage that has a name, and writes digests and commits into CONTEXT/rbuild.lock. Nothing is built. Builds hold to a
/// lock file that is there; what it does not have is taken as it is, with `--locked` refused.
#[derive(Debug, Args)]
#[command(
    mut_args(|arg| request::hide(arg, &["no_cache", "no_cache_filter", "progress", "lock", "locked", "on_fail", "jobs"])),
    after_help = "Exit codes: 0 pinned, 1 something could not be found, 2 wrong usage.",
)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    build: BuildArgs,

    /// Take what is there now in the place of what is pinned, and show what moved
    #[arg(long)]
    update: bool,
}

/// Pins and tells what changed.
pub(crate) fn run(global: &Global, args: &LockArgs) -> Result<(), Failure> {
    request::refuse_at(&args.build)?;
    request::refuse_on(&args.build, "`rbuild lock`")?;
    let LockArgs { build, .. } = args;
    let others = [
        ("--lock", build.lock),
        ("--locked", build.locked),
        ("--no-cache", build.no_cache),
        ("--no-cache-filter", !build.no_cache_filter.is_empty()),
    ];
    request::refuse_results(build, &others, "lock", "`rbuild build` builds, and holds to what is pinned")?;
    let request = request::from_args(global, &Configuration::load()?, &args.build)?;
    let refresh = if args.update { Refresh::All } else { Refresh::Missing };
    let progress = Progress::start(ProgressMode::Plain);
    let outcome = pipeline::refresh(&request, refresh, &progress.events());
    progress.finish();
    let changes = outcome.map_err(Failure::build)?;
    print(&match changes.is_empty() {
        true => "nothing changed\n".to_owned(),
        false => changes.iter().map(shown).collect(),
    })
}

fn shown(change: &Change) -> String {
    let Change { name, from, to } = change;
    match (from, to) {
        (Some(from), Some(to)) => format!("moved {name}\n   from {from}\n     to {to}\n"),
        (None, Some(to)) => format!("  new {name}\n     at {to}\n"),
        (Some(_) | None, None) => format!(" gone {name}\n"),
    }
}
