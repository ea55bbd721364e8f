//! `rbuild history ls`

use clap::Args;
use serde_json::{Map, Value, json};

use super::filter::{Filter, here};
use super::{Daemon, shown, whole_reference};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::show::listing::Format;
use crate::clock;
use crate::oci::{rfc3339, rfc3339_ms};
use crate::record::{Outcome, Record, Status, kept};

/// List builds
#[derive(Debug, Args)]
#[command(after_help = "\
Fields of templates: Ref, Name, Status, CreatedAt, Duration, Link.
Filters: ref, repository and status with `=` or `!=` (status: completed, error, canceled, running, killed); startedAt, completedAt
and duration with `<`, `<=`, `>` or `>=` and a time, or a duration such as 24h.")]
pub(super) struct LsArgs {
    /// `table`, `json` (an object on each line), or a template such as '{{.Ref}} {{.Status}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print whole names
    #[arg(long)]
    no_trunc: bool,
    /// Only builds of which this is true, such as `status=error` or `duration>5m`; may be repeated
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Only builds of the repository that this folder lies in
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    daemon: Daemon,
}

const COLUMNS: [(&str, &str); 5] = [
    ("BUILD ID", "Ref"),
    ("NAME", "Name"),
    ("STATUS", "Status"),
    ("CREATED AT", "CreatedAt"),
    ("DURATION", "Duration"),
];
/// Longer names lose their beginning, as with buildx.
const NAME_CHARS: usize = 36;

/// Prints the list.
pub(super) fn run(global: &Global, args: &LsArgs) -> Result<(), Failure> {
    let format = Format::parse(args.format.as_deref())?;
    let now = clock::now_ms();
    let mut filters =
        args.filter.iter().map(|text| Filter::parse(text, now)).collect::<Result<Vec<_>, _>>()?;
    if args.local {
        filters.push(here()?);
    }
    let Some(store) = local::open_existing(global)? else { return print(&format.render(&COLUMNS, &[])?) };
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for kept in kept::list(&store) {
        match kept.read() {
            Ok(record) if filters.iter().all(|filter| filter.fits(&record)) => rows.push(record),
            Ok(_) => {}
            // It may have been removed meanwhile.
            Err(kept::Error::Io { .. }) => {}
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    // Those that run come first.
    rows.sort_by_key(|record| record.status != Status::Running);
    let rows: Vec<Value> = match args.format.as_deref() {
        Some("json") => rows.iter().map(object).collect(),
        _ => rows
            .iter()
            .map(|record| row(record, now, matches!(format, Format::Table) && !args.no_trunc))
            .collect(),
    };
    print(&format.render(&COLUMNS, &rows)?)?;
    unreadable.iter().for_each(|text| shown::note(text));
    Ok(())
}

fn row(record: &Record, now: u64, is_cut: bool) -> Value {
    let name = record.title();
    let count = name.chars().count();
    let name = match is_cut && count > NAME_CHARS {
        true => format!("..{}", name.chars().skip(count - (NAME_CHARS - 2)).collect::<String>()),
        false => name,
    };
    let status = match record.status {
        Status::Running => "Running",
        Status::Completed => "Completed",
        Status::Failed => "Error",
        Status::Canceled => "Canceled",
        Status::Killed => "Killed",
    };
    let duration = match (record.took_ms, record.status) {
        (Some(took), _) => shown::duration(took),
        (None, Status::Running) => format!("{}+", shown::duration(now.saturating_sub(record.started_ms))),
        (None, _) => String::new(),
    };
    json!({
        "Ref": record.id, "Name": name, "Status": status,
        "CreatedAt": local::age(Some(&rfc3339((record.started_ms / 1000) as i64))),
        "Duration": duration, "Link": "",
    })
}

/// As buildx has it.
fn object(record: &Record) -> Value {
    let status = match record.status {
        Status::Running => "Running",
        Status::Completed => "Completed",
        Status::Failed | Status::Canceled | Status::Killed => "Error",
    };
    let count = |wanted: fn(&Outcome) -> bool| {
        record.steps.iter().filter(|step| step.outcome.as_ref().is_some_and(wanted)).count()
    };
    let is_done = |outcome: &Outcome| !matches!(outcome, Outcome::Failed | Outcome::Cancelled);
    let mut object = Map::new();
    object.insert("cached_steps".to_owned(), json!(count(|outcome| *outcome == Outcome::Cached)));
    if let Some(took) = record.took_ms {
        object.insert("completed_at".to_owned(), json!(rfc3339_ms(record.started_ms.saturating_add(took))));
    }
    object.insert("completed_steps".to_owned(), json!(count(is_done)));
    object.insert("created_at".to_owned(), json!(rfc3339_ms(record.started_ms)));
    object.insert("name".to_owned(), json!(record.title()));
    object.insert("ref".to_owned(), json!(whole_reference(&record.id)));
    object.insert("status".to_owned(), json!(status));
    object.insert("total_steps".to_owned(), json!(record.steps.len()));
    Value::Object(object)
}
