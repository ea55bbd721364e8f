//! `rbuild history`: how an image came to be, and the records of builds.

mod attachment;
mod bundle;
mod filter;
pub(super) mod find;
mod image;
mod inspect;
mod logs;
mod ls;
mod rm;
mod shown;
pub(in crate::cli) mod trace;
mod tree;

use clap::{Args, Subcommand};

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::options::docker::switch;
use crate::report::Diagnostic;

/// Show how an image came to be, or look back at builds
///
/// Of an image, step by step, the newest instruction first: SIZE is what the layer takes up, compressed: of all layers it is the
/// SIZE in `rbuild images`. TOOK is how long the instruction took when it ran, and CACHED whether the last build of this image took
/// its layer from the cache; both are known only of images that were built here, and not of their base.
///
/// The commands look back at builds: each leaves a record in the store, the last hundred of two months.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    subcommand_help_heading = "Commands, for builds",
    override_usage = "rbuild history [OPTIONS] <NAME>\n       rbuild history --tree [NAME]\n       rbuild history COMMAND …",
    after_help = "\
Fields of templates: ID, Layer, CreatedAt, CreatedSince, CreatedBy, Size, Comment, Cached, Took, Here.

An image that is named like a command is written with its tag: `rbuild history ls:latest`."
)]
pub(crate) struct HistoryArgs {
    #[command(subcommand)]
    command: Option<Command>,

    /// The image: a name, or the beginning of its digest [default with --tree: the last build]
    #[arg(required_unless_present = "tree")]
    name: Option<String>,
    /// `table`, `json` (an object on each line), or a template such as '{{.Size}} {{.CreatedBy}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print only the layers' digests
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Print whole digests and instructions
    #[arg(long)]
    no_trunc: bool,
    /// Print the stages of its build with their steps, and what is copied from where
    #[arg(long, conflicts_with_all = ["format", "quiet", "no_trunc"])]
    tree: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List builds
    Ls(ls::LsArgs),
    /// Show what a build was asked for, and what came of it
    Inspect(inspect::InspectArgs),
    /// Show what the commands of a build printed
    Logs(logs::LogsArgs),
    /// Forget builds
    Rm(rm::RmArgs),
    /// Write records of builds, with their logs, into a file
    Export(bundle::ExportArgs),
    /// Take records of builds from a file
    Import(bundle::ImportArgs),
    /// Write what a build did when, as trace events
    Trace(trace::TraceArgs),
    /// Is for Docker Desktop, and says what there is instead
    #[command(hide = true)]
    Open(OpenArgs),
}

/// What is about a daemon, and so means nothing here.
#[derive(Debug, Args)]
struct Daemon {
    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,
    #[arg(short = 'D', long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    debug: Option<bool>,
}

#[derive(Debug, Args)]
struct OpenArgs {
    #[arg(value_name = "REF")]
    reference: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

/// What a build is called on the command line.
const REFERENCE: &str =
    "A build: its id, or the beginning of it; `^1` is the one before the last [default: the last]";

/// Does what was asked for.
pub(crate) fn run(global: &Global, args: &HistoryArgs) -> Result<(), Failure> {
    match (&args.command, &args.name) {
        (None, name) if args.tree => tree::run(global, name.as_deref()),
        (None, Some(name)) => image::run(global, name, args),
        (None, None) => Err(Failure::usage(Diagnostic::error("no image is named"))),
        (Some(Command::Ls(args)), _) => ls::run(global, args),
        (Some(Command::Inspect(args)), _) => inspect::run(global, args),
        (Some(Command::Logs(args)), _) => logs::run(global, args),
        (Some(Command::Rm(args)), _) => rm::run(global, args),
        (Some(Command::Export(args)), _) => bundle::export(global, args),
        (Some(Command::Import(args)), _) => bundle::import(global, args),
        (Some(Command::Trace(args)), _) => trace::run(global, args),
        (Some(Command::Open(_)), _) => {
            let error = Diagnostic::error(
                "`history open` shows a build in Docker Desktop, which has no part in these",
            );
            Err(Failure::usage(error.help(
                "`rbuild history inspect` shows it here, and `rbuild history export` takes it elsewhere",
            )))
        }
    }
}

/// The name of the builder before an id, as buildx has it: `default/default/ID`.
pub(in crate::cli) fn whole_reference(id: &str) -> String {
    let builder = crate::cli::options::request::variable("BUILDX_BUILDER");
    let builder = builder.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    format!("{builder}/{builder}/{id}")
}
