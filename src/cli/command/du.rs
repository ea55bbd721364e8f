//! `rbuild du`

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::show::listing::Format;
use crate::text::size::bytes;
use crate::upkeep;

/// Show what the local store takes up on disk
///
/// Sizes are allocated blocks, and a file with several names counts once: the total is what `du -s` says of the store's
/// folder. A blob belongs to the first line that needs it.
#[derive(Debug, Args)]
#[command(after_help = "Fields of templates: Type, Count, Size, Bytes.")]
pub(crate) struct DuArgs {
    /// `table`, `json` (an object on each line), or a template such as '{{.Type}} {{.Bytes}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const COLUMNS: [(&str, &str); 3] = [("TYPE", "Type"), ("COUNT", "Count"), ("SIZE", "Size")];

/// Prints a line for each concern, and the sum.
pub(crate) fn run(global: &Global, args: &DuArgs) -> Result<(), Failure> {
    let format = Format::parse(args.format.as_deref())?;
    let store = local::open_store(global)?;
    let usage = upkeep::usage(&store)?;
    let row = |name: &str, count: usize, size: u64| json!({ "Type": name, "Count": count, "Size": bytes(size), "Bytes": size });
    let parts = usage.parts.iter().filter(|part| part.bytes > 0);
    let mut rows: Vec<Value> = parts.map(|part| row(part.name, part.count, part.bytes)).collect();
    rows.push(row("total", 0, usage.total_bytes));
    for row in &mut rows {
        if row["Count"] == 0 {
            row["Count"] = json!("");
        }
    }
    let mut text = format.render(&COLUMNS, &rows)?;
    if matches!(format, Format::Table) {
        text.push_str(&format!(
            "\n`rbuild prune` would free {}, `rbuild prune --all` {}\n",
            bytes(usage.waste_bytes),
            bytes(usage.reclaimable_bytes)
        ));
        if usage.shared_bytes > 0 {
            let shared = bytes(usage.shared_bytes);
            text.push_str(&format!(
                "{shared} are shared with layouts elsewhere, and stay until those go, too\n"
            ));
        }
        if usage.promised > 0 {
            let (count, size) = (usage.promised, bytes(usage.promised_bytes));
            text.push_str(&format!(
                "{count} layers of pushed images ({size}) are not here; registries have them\n"
            ));
        }
        if usage.unreadable > 0 {
            text.push_str(&format!("{} folders of other users could not be read\n", usage.unreadable));
        }
    }
    print(&text)
}
