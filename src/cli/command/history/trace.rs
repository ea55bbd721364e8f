//! `rbuild history trace`, and `--trace` of a build.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Daemon, REFERENCE, find};
use crate::busy::Thread;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::{local, whole_file};
use crate::record::{Record, trace};
use crate::report::Diagnostic;
use crate::text::terminal::harmless_json;

/// Write what a build did when, as trace events
///
/// Perfetto and Chrome's `chrome://tracing` open the file: steps, what they waited for, and what was moved.
#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    #[arg(value_name = "REF", help = REFERENCE)]
    reference: Option<String>,
    /// The file; without it, standard output, unless that is a terminal
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Another build, to be beside it
    #[arg(long, value_name = "REF")]
    compare: Option<String>,
    /// There is no server
    #[arg(long, value_name = "ADDRESS", hide = true)]
    addr: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Writes it.
pub(super) fn run(global: &Global, args: &TraceArgs) -> Result<(), Failure> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        let error = Diagnostic::error("a trace is not for a terminal");
        let help = "`rbuild history trace -o FILE` writes it into a file, which Perfetto opens";
        return Err(Failure::usage(error.help(help)));
    }
    let store = local::open_store(global)?;
    let mut records = vec![find::record(&store, args.reference.as_deref())?];
    if let Some(other) = &args.compare {
        records.push(find::record(&store, Some(other))?);
    }
    let records: Vec<&Record> = records.iter().collect();
    match &args.output {
        Some(path) => write(path, &records, &[]),
        None => print(&text(&records, &[])),
    }
}

/// Writes the trace of these builds into a file, and what threads were busy with in the first.
pub(in crate::cli) fn write(path: &Path, records: &[&Record], threads: &[Thread]) -> Result<(), Failure> {
    whole_file::write(path, |file| file.write_all(text(records, threads).as_bytes()))
}

fn text(records: &[&Record], threads: &[Thread]) -> String {
    harmless_json(trace::events(records, threads).to_string()) + "\n"
}
