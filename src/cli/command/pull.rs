//! `rbuild pull`

use clap::Args;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::configuration::Configuration;
use crate::cli::show::moving::{MovingArgs, explain, explain_copy};
use crate::oci::{Platform, Reference};
use crate::registry::Which;
use crate::report::Diagnostic;
use crate::transport;

/// Fetch images from registries into the local store
///
/// Layers that the store has are not fetched again. Prints name and digest of each image.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The images
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true)]
    names: Vec<String>,
    /// The platform of an image that has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Fetch all platforms, and keep them as one image
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Fetch what is kept beside the images, too: SBOMs, provenance, and what others keep there
    #[arg(long)]
    with_attestations: bool,
    #[command(flatten)]
    moving: MovingArgs,
}

/// Fetches them, several at a time, and names them when they are complete.
pub(crate) fn run(global: &Global, args: &PullArgs) -> Result<(), Failure> {
    let names = args.names.iter().map(|name| reference(name)).collect::<Result<Vec<_>, _>>()?;
    let configuration = Configuration::load()?;
    let store = local::open_to_write(global, &configuration)?;
    let client = args.moving.client(&configuration)?;
    let which = match args.all_platforms {
        true => Which::All,
        false => Which::One(args.platform.clone().unwrap_or_else(Platform::host)),
    };
    let titles: Vec<String> = names.iter().map(|name| format!("pull {name}")).collect();
    let pulled = args.moving.each(client, &titles, |client, at, bytes| {
        let name = &names[at];
        let target = client.pull(&store, name, &which, bytes).map_err(|e| explain(&e))?;
        store.set_tag(name, &target).map_err(|e| Diagnostic::error(e.to_string()))?;
        if args.with_attestations {
            transport::pull_attestations(&store, client, name, &target)
                .map_err(|e| explain_copy(&e).note(format!("the image {name} itself was fetched")))?;
        }
        Ok(target)
    })?;
    let lines = names.iter().zip(pulled);
    print(&lines.map(|(name, target)| format!("{name} {}\n", target.digest)).collect::<String>())
}

/// A name as it stands for something in a registry.
pub(super) fn reference(text: &str) -> Result<Reference, Failure> {
    let parsed = text.parse::<Reference>();
    let bad = |e: crate::oci::ReferenceError| Failure::usage(Diagnostic::error(e.to_string()));
    parsed.map(Reference::with_default_tag).map_err(bad)
}
