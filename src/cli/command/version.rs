//! `rbuild version`: which rbuild this is.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::error::print;
use crate::cli::face::{BUILDKIT_VERSION, BUILDX_VERSION};
use crate::cli::show::listing::bad;
use crate::cli::show::template::Template;

/// The commit that it was built of, if it is a released program.
const COMMIT: Option<&str> = option_env!("RBUILD_COMMIT");
/// What it runs on.
const TARGET: &str = env!("RBUILD_TARGET");
/// What `--version` prints behind the name.
pub(crate) const LONG: &str = env!("RBUILD_LONG_VERSION");

/// Show the version
#[derive(Debug, Args)]
#[command(after_help = "Fields of templates: Version, Commit, Target, Buildx, BuildKit.")]
pub(crate) struct VersionArgs {
    /// `json`, or a template such as '{{.Version}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Prints it.
pub(crate) fn run(args: &VersionArgs) -> Result<(), Failure> {
    let value: Value = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Commit": COMMIT.filter(|commit| !commit.is_empty()),
        "Target": TARGET,
        "Buildx": BUILDX_VERSION,
        "BuildKit": BUILDKIT_VERSION,
    });
    match args.format.as_deref() {
        None => print(&format!("rbuild {LONG}\n")),
        Some("json") => print(&format!("{value}\n")),
        Some(text) => {
            let template = Template::parse(text).map_err(bad)?;
            print(&(template.render(&value).map_err(bad)? + "\n"))
        }
    }
}
