//! `rbuild context`

use std::path::PathBuf;

use clap::Args;

use crate::cli::Failure;
use crate::cli::error::print;
use crate::cli::options::contexts;
use crate::cli::show::listing::table;
use crate::pipeline::listing::{Entry, Fate, Listing};
use crate::pipeline::{ContextFrom, DockerfileFrom};
use crate::report::Diagnostic;
use crate::text::size::bytes;
use crate::text::terminal::harmless;

/// List what a build would see of a folder
///
/// The largest files first, then what the ignore file leaves out, with the line that decided.
#[derive(Debug, Args)]
pub(crate) struct ContextArgs {
    /// The folder
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: String,

    /// Say only whether a build sees this path, and which line of the ignore file decided
    #[arg(long, value_name = "PATH")]
    why: Option<PathBuf>,

    /// The Dockerfile: one with an ignore file of its own is built with that [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
}

/// Prints the lists, or the answer.
pub(crate) fn run(args: &ContextArgs) -> Result<(), Failure> {
    let ContextFrom::Directory(folder) = contexts::context(&args.context) else {
        let message = format!("`{}` is no folder; only folders can be listed", args.context);
        let help =
            "of archives, repositories and URLs a build sees everything: ignore files count in folders";
        return Err(Failure::usage(Diagnostic::error(message).help(help)));
    };
    let dockerfile = match contexts::dockerfile(args.file.as_deref(), &args.context)? {
        DockerfileFrom::Path(path) => Some(path),
        DockerfileFrom::Context
        | DockerfileFrom::Stdin
        | DockerfileFrom::Url(_)
        | DockerfileFrom::Inline { .. } => None,
    };
    let listing = Listing::open(&folder, dockerfile.as_deref()).map_err(failed)?;
    match &args.why {
        Some(path) => print(&harmless(&reason(&listing, path)?)),
        None => print(&lists(&listing)?),
    }
}

fn failed(diagnostic: Diagnostic) -> Failure {
    Failure::build(vec![diagnostic])
}

/// One sentence.
fn reason(listing: &Listing, path: &std::path::Path) -> Result<String, Failure> {
    let (fate, decision) = listing.why(path).map_err(failed)?;
    let name = path.display();
    let rule = match (&decision, listing.ignore_file()) {
        (Some(decision), _) => decision.to_string(),
        (None, Some(file)) => format!("no line of {file} matches it"),
        (None, None) => "there is no ignore file".to_owned(),
    };
    Ok(match fate {
        Fate::Seen => format!("`{name}` is in the context; {rule}\n"),
        Fate::LeftOut if decision.is_none() => format!("`{name}` is left out: it is a socket\n"),
        Fate::LeftOut => format!("`{name}` is left out; {rule}\n"),
        Fate::Missing if decision.as_ref().is_some_and(|d| !d.keeps) => {
            format!("`{name}` is not there, and would be left out; {rule}\n")
        }
        Fate::Missing => format!("`{name}` is not there; it would be in the context; {rule}\n"),
    })
}

fn lists(listing: &Listing) -> Result<String, Failure> {
    let mut seen = listing.seen().map_err(failed)?;
    let directories = seen.iter().filter(|entry| entry.is_dir).count();
    seen.retain(|entry| !entry.is_dir);
    seen.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.path.cmp(&b.path)));
    let total: u64 = seen.iter().map(|entry| entry.size_bytes).sum();
    let mut rows = vec![["SIZE", "PATH", "RULE"].map(str::to_owned).to_vec()];
    rows.extend(seen.iter().map(|entry| vec![bytes(entry.size_bytes), shown(entry), rule(entry)]));
    let mut text = table(&rows);
    let files = seen.len();
    text.push_str(&format!("{} in {files} files and {directories} directories\n", bytes(total)));
    let left_out = listing.left_out().map_err(failed)?;
    if !left_out.is_empty() {
        let mut rows = vec![["LEFT OUT", "RULE"].map(str::to_owned).to_vec()];
        rows.extend(left_out.iter().map(|entry| vec![shown(entry), rule(entry)]));
        text.push_str(&format!("\n{}", table(&rows)));
    }
    Ok(text)
}

/// The path without control characters; directories end in a slash.
fn shown(entry: &Entry) -> String {
    let path = String::from_utf8_lossy(&entry.path);
    // A line break would begin another row.
    let mut text = harmless(&path).replace(['\n', '\t'], "\u{fffd}");
    if entry.is_dir {
        text.push('/');
    }
    text
}

fn rule(entry: &Entry) -> String {
    entry.decision.as_ref().map(ToString::to_string).unwrap_or_default()
}
