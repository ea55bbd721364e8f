//! `rbuild inspect NAME`

use clap::Args;
use serde_json::json;

use super::local;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;

/// Show an image's manifest and configuration as JSON
///
/// `Digest` is what the name points at; in an image for several platforms that is the index, and `Manifest`
/// is the entry for this machine.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The image: a name, or the beginning of its digest
    name: String,
}

/// Prints one JSON object.
pub(crate) fn run(global: &Global, args: &InspectArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let image = local::find(&store, &args.name)?;
    let names: Vec<String> = store
        .tags()?
        .iter()
        .filter(|(_, target)| target.digest == image.target.digest)
        .map(|(reference, _)| reference.to_string())
        .collect();
    let value = json!({
        "Names": names,
        "Digest": image.target.digest,
        "MediaType": image.target.media_type,
        "ManifestDigest": image.manifest_digest,
        "Manifest": image.manifest,
        "Config": image.config,
    });
    print(&format!("{value:#}\n"))
}
