//! `rbuild verify`

use clap::Args;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::pipeline;
use crate::report::Diagnostic;
use crate::text::size::bytes;
use crate::upkeep::{self, Fault, Remedy, Repair, Report};

/// Read everything in the local store again, and repair what can be repaired
///
/// Reads every blob, and looks at names, cache records, indexes and unpacked layers. What is damaged is dropped, so that the
/// next build makes or fetches it again; an image that lacks something is named with the way to get it back.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all is well, 1 something was wrong, also when it was repaired, 2 wrong usage."
)]
pub(crate) struct VerifyArgs {
    /// Change nothing
    #[arg(long)]
    dry_run: bool,
    /// `text`, or `json` for one object
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    format: String,
}

/// Verifies, and prints what is wrong.
pub(crate) fn run(global: &Global, args: &VerifyArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let repair = if args.dry_run { Repair::No } else { Repair::Yes };
    let report = upkeep::verify(&store, repair)?;
    if repair == Repair::Yes {
        pipeline::empty_trash(&store);
    }
    print(&if args.format == "json" { as_json(&report) } else { as_text(&report) })?;
    match report.faults.len() {
        0 => Ok(()),
        1 => Err(Failure::build(vec![Diagnostic::error("one thing was wrong")])),
        count => Err(Failure::build(vec![Diagnostic::error(format!("{count} things were wrong"))])),
    }
}

fn as_text(report: &Report) -> String {
    let mut text = String::new();
    for Fault { what, how, remedy } in &report.faults {
        text.push_str(&format!("{what}: {how}; {}\n", words(remedy)));
    }
    let Report { blobs, bytes: read, names, records, indexes, trees, .. } = report;
    text.push_str(&format!(
        "verified {blobs} blobs ({}), {names} names, {records} cache records, {indexes} indexes, {trees} unpacked layers\n",
        bytes(*read)
    ));
    if report.promised > 0 {
        text.push_str(&format!(
            "{} layers of pushed images are not here; registries have them\n",
            report.promised
        ));
    }
    text
}

fn words(remedy: &Remedy) -> String {
    match remedy {
        Remedy::Dropped => "dropped, and made or fetched again when it is needed".to_owned(),
        Remedy::Rewritten => "written again".to_owned(),
        Remedy::Hint(hint) => hint.clone(),
        Remedy::Left => "`rbuild verify` without --dry-run repairs that".to_owned(),
        Remedy::InUse => "it stays, because another rbuild uses the store; verify again later".to_owned(),
    }
}

fn as_json(report: &Report) -> String {
    let faults: Vec<_> = report
        .faults
        .iter()
        .map(|fault| json!({ "what": fault.what, "how": fault.how, "remedy": words(&fault.remedy) }))
        .collect();
    let value = json!({
        "blobs": report.blobs, "bytes": report.bytes, "names": report.names, "records": report.records,
        "indexes": report.indexes, "trees": report.trees, "promised": report.promised, "faults": faults,
    });
    format!("{value:#}\n")
}
