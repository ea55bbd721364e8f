//! `rbuild history NAME`

use clap::Args;

use super::{images::table, local};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::progress::bytes;

/// Instructions longer than this are cut without `--no-trunc`.
const WIDTH: usize = 70;

/// Show how an image came to be, newest instruction first
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The image: a name, or the beginning of its digest
    name: String,
    /// Print whole digests and instructions
    #[arg(long)]
    no_trunc: bool,
}

/// Prints the table.
pub(crate) fn run(global: &Global, args: &HistoryArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let image = local::find(&store, &args.name)?;
    let mut layers = image.manifest.layers.iter();
    let mut rows = Vec::new();
    for entry in &image.config.history {
        let layer = if entry.empty_layer { None } else { layers.next() };
        let digest = layer.map_or_else(
            || "-".to_owned(),
            |l| if args.no_trunc { l.digest.to_string() } else { l.digest.short() },
        );
        let size = layer.map_or_else(|| "-".to_owned(), |l| bytes(l.size));
        let text = entry.created_by.as_deref().unwrap_or("");
        let text = text.strip_suffix(" # buildkit").unwrap_or(text);
        rows.push(vec![digest, local::age(entry.created.as_deref()), size, one_line(text, args.no_trunc)]);
    }
    rows.push(["LAYER", "CREATED", "SIZE", "CREATED BY"].map(str::to_owned).to_vec());
    rows.reverse();
    print(&table(&rows))
}

/// The text without line breaks and control characters, cut unless `whole`.
fn one_line(text: &str, whole: bool) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if whole || text.chars().count() <= WIDTH {
        return text;
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}
