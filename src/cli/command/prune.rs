//! `rbuild prune`

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::filter::{self, Filters};
use crate::cli::options::request;
use crate::cli::show::listing::Format;
use crate::oci;
use crate::pipeline;
use crate::report::Diagnostic;
use crate::store::{self, Store};
use crate::text::size::bytes;
use crate::upkeep::{self, Plan, Policy, Unit};

/// Remove what is not needed
///
/// Without options that is what nothing can use any more, and images without a name. What a name needs always stays. Sizes
/// are those on disk, as `du` counts them.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 pruned, 1 the store is in use or cannot be changed, 2 wrong usage.")]
pub(crate) struct PruneArgs {
    /// Also the cache: everything that no name needs
    #[arg(short, long)]
    all: bool,
    /// Also what no build has used for so long: 24h, 7d, 2w
    #[arg(long, value_name = "DURATION")]
    max_age: Option<String>,
    /// Then what was used longest ago, until the store is no larger than this, such as 10g
    #[arg(long, visible_aliases = ["max-used-space", "max-size"], value_name = "SIZE")]
    keep_storage: Option<String>,
    /// `until=24h` is --max-age 24h; a time such as 2026-01-31 is possible, too
    #[arg(short = 'F', long, value_name = "KEY=VALUE", conflicts_with = "max_age")]
    filter: Vec<String>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask; rbuild never does
    #[arg(short, long)]
    force: bool,
    /// Wait until no other rbuild uses the store, however long that takes
    #[arg(long)]
    wait: bool,
    /// Print only what was freed
    #[arg(short, long)]
    quiet: bool,
}

/// So long others are waited for without `--wait`.
const PATIENCE: Duration = Duration::from_secs(5);
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

const COLUMNS: [(&str, &str); 4] =
    [("ID", "ID"), ("TYPE", "Type"), ("LAST USED", "LastUsed"), ("SIZE", "Size")];

/// Prunes, and prints what went.
pub(crate) fn run(global: &Global, args: &PruneArgs) -> Result<(), Failure> {
    let policy = policy(args)?;
    let store = local::open_store(global)?;
    let plan = match args.dry_run {
        true => upkeep::plan(&store, &policy)?,
        false => prune(&store, &policy, if args.wait { FOREVER } else { PATIENCE })?,
    };
    let mut text = String::new();
    if !args.quiet && !plan.units.is_empty() {
        let rows: Vec<Value> = plan.units.iter().map(row).collect();
        text = Format::Table.render(&COLUMNS, &rows)?;
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    let left = plan.before_bytes.saturating_sub(plan.freed_bytes);
    text.push_str(&format!("{verb} {}; the store takes up {}\n", bytes(plan.freed_bytes), bytes(left)));
    print(&text)
}

fn policy(args: &PruneArgs) -> Result<Policy, Failure> {
    let filters = Filters::parse(&args.filter, &["until"])?;
    let age = args.max_age.as_deref().map(filter::duration).transpose()?;
    Ok(Policy {
        all: args.all,
        unused_since: age.map(|age| crate::clock::now() - age).or(filters.until()),
        keep_bytes: args
            .keep_storage
            .as_deref()
            .map(|text| request::size("--keep-storage", text))
            .transpose()?,
    })
}

/// The trash is emptied when others may use the store again: that can take long.
fn prune(store: &Store, policy: &Policy, patience: Duration) -> Result<Plan, Failure> {
    let plan = {
        let lock = store.lock_exclusive(patience).map_err(|error| in_use(&error))?;
        upkeep::prune(&lock, policy)?
    };
    pipeline::empty_trash(store);
    store.sync()?;
    Ok(plan)
}

fn in_use(error: &store::Error) -> Failure {
    let diagnostic = Diagnostic::error(error.to_string());
    Failure::build(vec![match error {
        store::Error::InUse { .. } => diagnostic.help("`--wait` waits for it"),
        _ => diagnostic,
    }])
}

fn row(unit: &Unit) -> Value {
    json!({
        "ID": unit.kind.id(),
        "Type": unit.kind.name(),
        "LastUsed": local::age(Some(&oci::rfc3339(unit.last_used))),
        "Size": if unit.own_bytes == 0 { "-".to_owned() } else { bytes(unit.own_bytes) },
    })
}
