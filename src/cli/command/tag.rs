//! `rbuild tag`

use clap::Args;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::local;
use crate::cli::show::moving::MovingArgs;

/// Give an image further names
///
/// A name that points at another image is re-pointed at once: whoever asks finds the old image or the new one. Layers that only
/// a registry has under the image's name are fetched first.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// The image: a name, or the beginning of its digest
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The new names
    #[arg(value_name = "NAME[:TAG]", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    moving: MovingArgs,
}

/// Sets the names; all are checked before the first is set.
pub(crate) fn run(global: &Global, args: &TagArgs) -> Result<(), Failure> {
    let names = args.names.iter().map(|name| local::new_name(name)).collect::<Result<Vec<_>, _>>()?;
    let store = local::open_store(global)?;
    let target = local::find_target(&store, &args.image)?;
    // No registry has them under the new name.
    args.moving.complete(&store, &[(args.image.clone(), target.clone())])?;
    for name in &names {
        store.set_tag(name, &target)?;
    }
    Ok(())
}
