//! `rbuild logs`

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write};

use clap::Args;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::show::listing::table;
use crate::report::Diagnostic;
use crate::solve::log::{About, CANCELLED, LoggedStep, SUCCEEDED, log_file, logged_builds, logged_steps};
use crate::store::Store;
use crate::text::terminal::harmless;
use crate::text::terminal::{last_written, printable};

/// Show what the commands of a build printed, to the last line
///
/// Without an ID it lists the builds of which there is output: the last twenty of two weeks, with at most 512 MiB. Of the
/// output of one step the first 16 MiB and the last 8 or more are kept. A terminal is shown no control sequences; a pipe or
/// a file gets every byte.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rbuild logs                     which builds there are
  rbuild logs last                what the last one printed
  rbuild logs 4f2a1b 6            the step that the plain progress calls #6, and nothing else")]
pub(crate) struct LogsArgs {
    /// A build: its id, or the beginning of it, or `last`
    id: Option<String>,

    /// One of its steps
    step: Option<usize>,
}

/// Prints the list, or output.
pub(crate) fn run(global: &Global, args: &LogsArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let builds = logged_builds(&store);
    let Some(id) = &args.id else { return print(&listing(&store, &builds)) };
    let build = find(&builds, id)?;
    let steps = logged_steps(&store, &build.id);
    let chosen: Vec<&LoggedStep> =
        steps.iter().filter(|step| args.step.is_none_or(|number| number == step.number)).collect();
    if chosen.is_empty() {
        let numbers: Vec<String> = steps.iter().map(|step| step.number.to_string()).collect();
        let error = Diagnostic::error("that step printed nothing, or is not there");
        return Err(Failure::build(vec![error.help(format!("there is output of {}", numbers.join(", ")))]));
    }
    for step in chosen {
        if args.step.is_none() {
            let ended = step.ended.as_deref().unwrap_or("not ended");
            print(&harmless(&format!("#{} {} ({ended})\n", step.number, step.title)))?;
        }
        show(&store, &build.id, step)?;
    }
    Ok(())
}

fn find<'b>(builds: &'b [About], id: &str) -> Result<&'b About, Failure> {
    let mut found = builds.iter().filter(|build| id == "last" || (id.len() >= 2 && build.id.starts_with(id)));
    match (found.next(), found.next()) {
        (Some(build), None) => Ok(build),
        (Some(build), Some(_)) if id == "last" => Ok(build),
        _ => {
            let error = Diagnostic::error(format!("there is no output of a build `{id}`"));
            Err(Failure::build(vec![error.help("`rbuild logs` lists what there is")]))
        }
    }
}

/// Prints the output of a step of the build `id`.
pub(super) fn show(store: &Store, id: &str, step: &LoggedStep) -> Result<(), Failure> {
    let path = log_file(store, id, step);
    let unreadable = |e: std::io::Error| Failure::message(format!("cannot read `{}`: {e}", path.display()));
    let mut file = crate::rootfs::open_regular(&path).map_err(unreadable)?;
    let mut stdout = std::io::stdout().lock();
    let shown = match stdout.is_terminal() {
        true => show_lines(file, &mut stdout),
        false => std::io::copy(&mut file, &mut stdout).map(drop),
    };
    match shown {
        // A reader that went away (`rbuild logs last | head`) has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(unreadable(error)),
        _ => Ok(()),
    }
}

/// What a command printed, as lines that cannot move the cursor or do worse. Whoever wants every byte has a pipe.
fn show_lines(file: File, out: &mut impl Write) -> std::io::Result<()> {
    let (mut file, mut line) = (BufReader::new(file), Vec::new());
    while file.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
        writeln!(out, "{}", printable(last_written(&text)))?;
        line.clear();
    }
    Ok(())
}

fn listing(store: &Store, builds: &[About]) -> String {
    let head = ["ID", "WHEN", "STEPS", "ENDED", "WHAT"].map(str::to_owned).to_vec();
    let rows = builds.iter().map(|build| {
        let steps = logged_steps(store, &build.id);
        let is_bad = |step: &&LoggedStep| step.ended.as_deref() != Some(SUCCEEDED);
        // Those that were cancelled are not what went wrong.
        let is_cause = |step: &&LoggedStep| is_bad(step) && step.ended.as_deref() != Some(CANCELLED);
        let failed = steps.iter().find(is_cause).or(steps.iter().find(is_bad));
        let last = failed.or(steps.last()).and_then(|step| step.ended.clone());
        vec![
            build.id.clone(),
            local::age(Some(&crate::oci::rfc3339(build.created))),
            steps.len().to_string(),
            last.unwrap_or_else(|| "not ended".to_owned()),
            build.what.clone(),
        ]
    });
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    table(&rows)
}
