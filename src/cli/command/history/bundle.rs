//! `rbuild history export` and `import`: records with their logs, in one file.
//!
//! The file is gzip of JSON: `{"format": "rbuild.build-records", "version": 1, "builds": [{"record": …, "logs": [{"step", "title",
//! "ended", "text"}]}]}`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::PathBuf;

use clap::Args;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::{Daemon, find};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::{local, whole_file};
use crate::record::kept::{self, Kept};
use crate::record::{Record, Status};
use crate::report::Diagnostic;
use crate::solve::log::{self, LoggedStep, log_file, logged_steps};
use crate::store::Store;

const FORMAT: &str = "rbuild.build-records";
const VERSION: u32 = 1;
/// Of the output of a step so many bytes go along, from its end.
const LOG_BYTES: u64 = 1 << 20;
/// No file is read further, unpacked.
const LIMIT: u64 = 1 << 30;

/// Write records of builds, with their logs, into a file
///
/// Of the output of each step the last MiB goes along. The file is rbuild's own, for `rbuild history import` on another machine;
/// Docker Desktop does not read it.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Builds: their ids, or the beginnings of these; `^1` is the one before the last [default: the last]
    #[arg(value_name = "REF")]
    references: Vec<String>,
    /// The file; without it, standard output, unless that is a terminal
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// All builds that have ended
    #[arg(long, conflicts_with = "references")]
    all: bool,
    /// Records are whole as soon as builds end
    #[arg(long, hide = true)]
    finalize: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Take records of builds from a file
///
/// Those that are there already stay as they are.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// A file of `rbuild history export`, `-` for standard input; may be repeated
    #[arg(short, long, value_name = "FILE")]
    file: Vec<String>,
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Serialize, Deserialize)]
struct Bundle {
    format: String,
    version: u32,
    builds: Vec<Build>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Build {
    record: Record,
    #[serde(default)]
    logs: Vec<Log>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Log {
    step: usize,
    title: String,
    ended: Option<String>,
    text: String,
}

/// Writes the file.
pub(super) fn export(global: &Global, args: &ExportArgs) -> Result<(), Failure> {
    if args.output.is_none() && io::stdout().is_terminal() {
        let error = Diagnostic::error("records are not for a terminal");
        return Err(Failure::usage(error.help("name a file with `--output FILE`")));
    }
    let store = local::open_store(global)?;
    let wanted: Vec<Kept> = match (args.all, args.references.as_slice()) {
        (true, _) => kept::list(&store).into_iter().filter(|kept| !kept.is_running()).collect(),
        (false, []) => vec![find::one(&store, None)?],
        (false, several) => {
            several.iter().map(|word| find::one(&store, Some(word))).collect::<Result<_, _>>()?
        }
    };
    let mut builds: Vec<Build> = Vec::new();
    for kept in wanted {
        let record = find::read(&kept)?;
        if record.status == Status::Running {
            let error = Diagnostic::error(format!("the build `{}` is under way", kept.id));
            return Err(Failure::build(vec![error.help("its record is whole when it has ended")]));
        }
        if !builds.iter().any(|known| known.record.id == record.id) {
            let logs =
                logged_steps(&store, &record.id).iter().map(|step| log(&store, &record.id, step)).collect();
            builds.push(Build { record, logs });
        }
    }
    if builds.is_empty() {
        return Err(Failure::message("no build is recorded"));
    }
    let bundle = Bundle { format: FORMAT.to_owned(), version: VERSION, builds };
    match &args.output {
        None => {
            pack(&bundle, io::stdout().lock()).map(drop).map_err(|e| cannot("write to standard output", &e))
        }
        Some(path) => whole_file::write(path, |file| pack(&bundle, file).map(drop)),
    }
}

fn pack<W: Write>(bundle: &Bundle, to: W) -> io::Result<W> {
    let mut packed = GzEncoder::new(to, Compression::default());
    serde_json::to_writer(&mut packed, bundle)?;
    packed.finish()
}

fn log(store: &Store, id: &str, step: &LoggedStep) -> Log {
    use std::io::{Seek as _, SeekFrom};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = crate::rootfs::open_regular(&log_file(store, id, step))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    Log { step: step.number, title: step.title.clone(), ended: step.ended.clone(), text }
}

/// Takes what the files have.
pub(super) fn import(global: &Global, args: &ImportArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let mut files: Vec<&str> = args.file.iter().chain(&args.files).map(String::as_str).collect();
    if files.is_empty() {
        files.push("-");
    }
    for file in files {
        let bundle = match file {
            "-" if io::stdin().is_terminal() => {
                let error = Diagnostic::error("no file is named");
                return Err(Failure::usage(error.help("`rbuild history import FILE` reads one")));
            }
            "-" => unpack(io::stdin().lock(), "standard input"),
            path => {
                let opened = File::open(path).map_err(|error| cannot(&format!("read `{path}`"), &error))?;
                unpack(opened, path)
            }
        }?;
        for build in &bundle.builds {
            take(&store, build)?;
        }
    }
    Ok(())
}

fn unpack(from: impl Read, name: &str) -> Result<Bundle, Failure> {
    let no_bundle = |reason: String| {
        let error = Diagnostic::error(format!("`{name}` is no file of `rbuild history export`: {reason}"));
        Failure::build(vec![error])
    };
    let mut bytes = Vec::new();
    MultiGzDecoder::new(from)
        .take(LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| no_bundle(error.to_string()))?;
    #[derive(Deserialize)]
    struct Head {
        format: String,
        version: u32,
    }
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| no_bundle(error.to_string()))?;
    if head.format != FORMAT {
        return Err(no_bundle(format!("its format is `{}`", head.format)));
    }
    if head.version > VERSION {
        return Err(no_bundle(format!("a newer rbuild wrote it (format {})", head.version)));
    }
    serde_json::from_slice(&bytes).map_err(|error| no_bundle(error.to_string()))
}

fn take(store: &Store, build: &Build) -> Result<(), Failure> {
    let Build { record, logs } = build;
    if !kept::is_id(&record.id) {
        return Err(Failure::message(format!("`{}` is no id of a build", record.id)));
    }
    // It goes through what is read later.
    let bytes = serde_json::to_vec(record).map_err(|error| Failure::message(error.to_string()))?;
    kept::parse(&bytes).map_err(|fault| Failure::message(fault.of(&record.id).to_string()))?;
    let is_new = kept::add(store, record).map_err(|error| cannot("write the record", &error))?;
    if is_new {
        let title = record.title();
        for Log { step, title: what, ended, text } in logs {
            let step =
                LoggedStep { number: *step, title: what.clone(), file: String::new(), ended: ended.clone() };
            log::add(store, &record.id, (&title, record.started_ms), &step, text);
        }
    }
    print(&format!("{}{}\n", record.id, if is_new { "" } else { " was there already" }))
}

fn cannot(doing: &str, error: &io::Error) -> Failure {
    Failure::message(format!("cannot {doing}: {error}"))
}
