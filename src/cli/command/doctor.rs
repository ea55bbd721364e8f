//! `rbuild doctor`

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::build::interruptibly;
use crate::cli::Failure;
use crate::cli::args::{Global, ProgressMode};
use crate::cli::error::print;
use crate::cli::options::configuration::Configuration;
use crate::cli::options::on;
use crate::exec::{Config, Examination, Executor, Finding, Privilege, State};
use crate::pipeline::{self, On};

/// Check what this machine offers to RUN, and how to get more
///
/// Tries, as a build would: who RUN can run as, what its namespaces and mounts are allowed to do, and what it has to
/// do without. Where something stands in the way, the line to type follows. Builds without RUN need nothing of this.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 RUN works, 1 it does not, 2 wrong usage.")]
pub(crate) struct DoctorArgs {
    /// Ask a worker of a build engine, as `rbuild build --on` would use it
    #[arg(long, value_name = "ENGINE")]
    on: Option<String>,

    /// `text` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Examines and prints.
pub(crate) fn run(global: &Global, args: &DoctorArgs) -> Result<(), Failure> {
    if args.on.is_some()
        && let Some(on) = on::parse(args.on.as_deref(), &Configuration::load()?)?
    {
        return elsewhere(on, args.format);
    }
    let store = global.store_root().ok_or_else(Failure::no_store_root)?;
    let found = examine(&store).map_err(|error| {
        Failure::message(format!("cannot try what works at `{}`: {error}", store.display()))
    })?;
    print(&match args.format {
        Format::Text => text(&found),
        Format::Json => format!("{:#}\n", object(&found)),
    })?;
    if found.privilege.is_some() { Ok(()) } else { Err(Failure::told()) }
}

/// Has a worker examine itself, and prints what it said.
fn elsewhere(on: On, format: Format) -> Result<(), Failure> {
    let is_json = format == Format::Json;
    let probed = interruptibly(ProgressMode::Plain, move |events, stop| {
        pipeline::probe(&on, is_json, (events, stop)).map_err(Failure::build)
    })?;
    match format {
        Format::Text => print(&format!("{}:\n{}", probed.worker, probed.printed))?,
        Format::Json => print(&probed.printed)?,
    }
    if probed.code == 0 { Ok(()) } else { Err(Failure::told()) }
}

/// In a folder of its own beside or in the store, which need not exist yet and is not made for this.
fn examine(store: &Path) -> std::io::Result<Examination> {
    let place = |path: &Path| path.ancestors().find(|path| path.is_dir()).map(Path::to_owned);
    let inside = Some(store.join("rbuild/tmp")).filter(|path| path.is_dir());
    let parent = inside.or_else(|| place(store)).unwrap_or_else(|| PathBuf::from("/"));
    let folder = parent.join(format!(".rbuild-doctor-{}", std::process::id()));
    // Where nothing can be written, a build could not either; the rungs can be tried all the same.
    let made = std::fs::create_dir(&folder);
    let found = Executor::new(Config::default()).examine(if made.is_ok() { &folder } else { &parent });
    if made.is_ok() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(found)
}

fn summary(found: &Examination) -> String {
    let Some(privilege) = found.privilege else {
        return "RUN does not work here; builds without RUN do".to_owned();
    };
    let who = match privilege {
        Privilege::Root => "as root",
        Privilege::Ranges => "with ranges of ids",
        Privilege::Single => "with one id",
        Privilege::Plain => "as root of an ordinary container",
    };
    format!("RUN works here, {who} (rung {} of 4)", privilege.rung())
}

fn word(state: State) -> &'static str {
    match state {
        State::Works => "works",
        State::Limited => "limited",
        State::Blocked => "blocked",
        State::Unused => "unused",
    }
}

fn text(found: &Examination) -> String {
    let mut out = summary(found) + "\n\n";
    for Finding { name, state, detail, remedies } in &found.findings {
        out += &format!("{:7}  {name:19}  {detail}\n", word(*state));
        for remedy in remedies {
            out += &format!("{:30}→ {remedy}\n", "");
        }
    }
    out
}

fn object(found: &Examination) -> serde_json::Value {
    let findings: Vec<_> = found
        .findings
        .iter()
        .map(|finding| {
            let state = word(finding.state);
            json!({"name": finding.name, "state": state, "detail": finding.detail, "remedies": finding.remedies})
        })
        .collect();
    json!({"works": found.privilege.is_some(), "rung": found.privilege.map(Privilege::rung), "summary": summary(found), "findings": findings})
}
