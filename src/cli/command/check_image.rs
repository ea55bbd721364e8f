//! `rbuild check-image`: holds an image to its budgets.

use clap::Args;

use super::diff;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::budget::BudgetArgs;
use crate::cli::options::configuration::Configuration;
use crate::cli::show::listing::table;
use crate::cli::show::moving::MovingArgs;
use crate::image::Image;
use crate::pipeline::{broken, measure, unknown};
use crate::registry::Which;
use crate::report::Diagnostic;
use crate::store::Store;

/// Hold an image to a size, to growth, to waste
///
/// `rbuild build` has the same options, and names nothing that breaks one. An image that is compared may be in a registry: places are
/// those of `rbuild copy`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all limits are kept, 1 it cannot be told, 2 wrong usage, 3 a limit is broken, 75 a registry or the network failed (try again)."
)]
pub(crate) struct CheckImageArgs {
    /// The image: a name in the store, or a place
    #[arg(value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    moving: MovingArgs,
}

/// Measures, prints, and fails with what is broken.
pub(crate) fn run(global: &Global, args: &CheckImageArgs) -> Result<(), Failure> {
    let limits = args.budget.limits()?;
    if limits.is_empty() {
        let error = Diagnostic::error("there is nothing to hold the image to");
        return Err(Failure::usage(
            error.help(
                "say one or more of `--max-size`, `--max-growth`, `--max-waste` and `--min-efficiency`",
            ),
        ));
    }
    if limits.max_growth.is_some() && args.budget.growth_against.is_none() {
        let error = Diagnostic::error("`--max-growth` needs an image to compare with");
        return Err(Failure::usage(error.help("name it: `--growth-against IMAGE`")));
    }
    let configuration = Configuration::load()?;
    let store = local::open_store(global)?;
    let from = (&configuration, &args.moving);
    let target = diff::brought(&store, &args.image, Which::All, from)?;
    let before = args.budget.growth_against.as_deref();
    let before = before.map(|place| size_of(&store, place, from)).transpose()?;
    let measured = measure(&store, &target, &limits, before)?;
    let lines = limits.check(&measured);
    let mut rows = vec![["LIMIT", "ALLOWED", "FOUND", ""].map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        let is_kept = match line.is_kept {
            Some(true) => "kept",
            Some(false) => "broken",
            None => "not known",
        };
        vec![line.limit.to_owned(), line.allowed.clone(), line.found.clone(), is_kept.to_owned()]
    }));
    print(&table(&rows))?;
    match (lines.iter().find(|line| line.is_kept.is_none()), broken(&lines)) {
        (_, broken) if !broken.is_empty() => Err(Failure::build(broken)),
        (Some(line), _) => Err(Failure::build(vec![unknown(line)])),
        (None, _) => Ok(()),
    }
}

/// The size of an image's layers, with its name.
pub(crate) fn size_of(
    store: &Store,
    place: &str,
    from: (&Configuration, &MovingArgs),
) -> Result<(String, u64), Failure> {
    let target = diff::brought(store, place, Which::All, from)?;
    let image = Image::read(store, &target)?;
    Ok((place.to_owned(), image.layers_size()))
}
