//! `rbuild history logs`

use clap::{Args, ValueEnum};

use super::{Daemon, REFERENCE, find, shown};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::command::logs;
use crate::cli::error::print;
use crate::cli::local;
use crate::record::{Outcome, Record, Step};
use crate::report::Diagnostic;
use crate::solve::log::{LoggedStep, log_file, logged_steps};
use crate::store::Store;
use crate::text::terminal::harmless;

/// Show what the steps of a build did, and what their commands printed
///
/// As the plain progress of the build, but step by step. Of the output of one step the first 16 MiB and the last 8 or more are
/// kept, and of the last twenty builds of two weeks.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    #[arg(value_name = "REF", help = REFERENCE)]
    reference: Option<String>,
    /// How to show it: `plain` is all that there is
    #[arg(long, value_name = "MODE", value_enum, default_value = "plain", hide = true)]
    progress: Mode,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Auto,
    Plain,
    #[value(name = "rawjson")]
    RawJson,
    Tty,
}

/// Prints it.
pub(super) fn run(global: &Global, args: &LogsArgs) -> Result<(), Failure> {
    if args.progress == Mode::RawJson {
        let error = Diagnostic::error(
            "`--progress=rawjson` is not possible here: lines are kept without their times",
        );
        let help = "`rbuild history inspect --format json` and `rbuild history export` are for programs";
        return Err(Failure::usage(error.help(help)));
    }
    let store = local::open_store(global)?;
    let record = find::record(&store, args.reference.as_deref())?;
    let logged = logged_steps(&store, &record.id);
    for step in &record.steps {
        print(&harmless(&format!("#{} {}\n", step.number, step.name())))?;
        if let Some(logged) = logged.iter().find(|logged| logged.number == step.number) {
            logs::show(&store, &record.id, logged)?;
        }
        print(&harmless(&ended(step)))?;
    }
    record.errors.iter().try_for_each(|error| print(&harmless(&format!("ERROR: {}\n", error.text))))
}

fn ended(step: &Step) -> String {
    let took = shown::duration(step.took_ms.unwrap_or_default());
    let how = match step.outcome {
        Some(Outcome::Ran) => format!("DONE {took}"),
        Some(Outcome::Cached) => "CACHED".to_owned(),
        Some(Outcome::ConfigOnly) => "DONE (configuration only)".to_owned(),
        Some(Outcome::Failed) => format!("FAILED after {took}"),
        Some(Outcome::Cancelled) => format!("CANCELLED after {took}"),
        None => "not ended".to_owned(),
    };
    format!("#{} {how}\n", step.number)
}

/// The last lines that the step printed with which a build failed; and what that step is.
pub(super) fn of_failure<'r>(
    store: &Store,
    record: &'r Record,
    most: usize,
) -> Option<(&'r Step, Vec<String>)> {
    let step = record.steps.iter().find(|step| step.outcome == Some(Outcome::Failed))?;
    let logged = logged_steps(store, &record.id).into_iter().find(|logged| logged.number == step.number);
    let lines = logged.map(|logged| last_lines(store, &record.id, &logged, most)).unwrap_or_default();
    Some((step, lines))
}

fn last_lines(store: &Store, id: &str, logged: &LoggedStep, most: usize) -> Vec<String> {
    const BYTES: u64 = 64 << 10;
    let read = || -> std::io::Result<Vec<u8>> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = crate::rootfs::open_regular(&log_file(store, id, logged))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(most)..].iter().map(|line| (*line).to_owned()).collect()
}
