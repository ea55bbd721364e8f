//! `rbuild plan`: what a build would do.

use clap::{Args, ValueEnum};

use crate::cli::Failure;
use crate::cli::command::ending::Files;
use crate::cli::error::{color_of, print, print_painted};
use crate::cli::options::build::BuildArgs;
use crate::cli::options::configuration::Configuration;
use crate::cli::options::request;
use crate::cli::show::dry_run::{dot, json, text};
use crate::cli::show::progress;
use crate::pipeline;
use crate::report::Events;

/// Show what a build would do: stages, steps, and which of them are cached
///
/// Takes the options of `rbuild build`, so that a build's line can be asked for its plan; those about the result
/// have no effect, but for those about what is written of a build (`--report`, `--trace`, `--advice`), which are refused. Nothing runs and no layer is fetched; base images are looked up as a build would, since their
/// digests are part of the keys. Behind a step that would run, nothing is known of what follows: it would run, too,
/// unless the step gives the same files as before.
#[derive(Debug, Args)]
#[command(
    mut_args(|arg| request::hide(arg, &["on_fail", "jobs", "progress"])),
    after_help = "Exit codes: 0 planned, 1 the build would fail before it begins, 2 wrong usage.",
)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    build: BuildArgs,

    /// `text`, `json`, or `dot` for Graphviz (`rbuild plan --format dot . | dot -Tsvg > plan.svg`)
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    format: PlanFormat,
}

/// How the plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    Text,
    Json,
    Dot,
}

/// Plans and prints.
pub(crate) fn run(global: &crate::cli::args::Global, args: &PlanArgs) -> Result<(), Failure> {
    request::refuse_at(&args.build)?;
    request::refuse_on(&args.build, "`rbuild plan`")?;
    Files::of(&args.build).refuse(args.build.advice, "`rbuild plan`: nothing is built")?;
    let request = request::from_args(global, &Configuration::load()?, &args.build)?;
    let dry_run = pipeline::dry_run(&request, &Events::silent()).map_err(Failure::build)?;
    match args.format {
        PlanFormat::Text => {
            let color = color_of(&std::io::stdout());
            print_painted(&text::render(&dry_run, color, progress::width_of_stdout()))
        }
        PlanFormat::Json => print(&json::render(&dry_run)),
        PlanFormat::Dot => print(&dot::render(&dry_run)),
    }
}
