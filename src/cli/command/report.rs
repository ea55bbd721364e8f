//! `rbuild report`, and `--report` of a build.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use super::history::find;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::{local, whole_file};
use crate::image::Image;
use crate::oci::{Descriptor, Platform, Reference};
use crate::page::{Asked, Report, gather, html, text};
use crate::record::Record;
use crate::record::kept::{self, Kept};
use crate::report::Diagnostic;
use crate::store::Store;
use crate::text::terminal::harmless;

/// Show a build, or an image, as one page: where time and bytes went, and why
///
/// The page is one HTML file that needs no server and no network: when each step ran and what it waited for, why steps ran again and what
/// that cost, which instruction brought which folders and files, what ships although nobody sees it, what changed since the last build
/// of the same place, packages, materials, warnings. Images that were built elsewhere are shown as far as their layers tell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rbuild report                   the last build, in report-ID.html
  rbuild report --open app:1      an image, in the browser
  rbuild report --text ^1         the build before the last, in the terminal
  rbuild --report app.html .      build, and write the report at once, also of a build that fails")]
pub(crate) struct ReportArgs {
    /// A build (its id or the beginning of it, `^1` for the one before the last) or an image [default: the last build]
    #[arg(value_name = "BUILD|IMAGE")]
    subject: Option<String>,
    /// The file; `-` is standard output [default: report-ID.html]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show it in the browser: that of $BROWSER, else what `xdg-open` finds
    #[arg(long)]
    open: bool,
    /// Print it as text
    #[arg(long, conflicts_with_all = ["output", "open"])]
    text: bool,
    /// Of an image of several platforms, the one to look into [default: this machine's, else the first]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// As wide as text is that goes elsewhere than to a terminal.
const COLUMNS: usize = 100;

/// Writes or prints it.
pub(crate) fn run(global: &Global, args: &ReportArgs) -> Result<(), Failure> {
    if args.open && args.output.as_ref().is_some_and(|path| path.as_os_str() == "-") {
        let error = Diagnostic::error("a browser cannot open standard output: `--open` needs a file");
        return Err(Failure::usage(error.help("leave `-o -` out, or name a file")));
    }
    let store = local::open_store(global)?;
    let kept = kept::list(&store);
    let asked = Asked { platform: args.platform.clone(), ..asked(&store, &kept, args.subject.as_deref())? };
    let report = gather(&store, &kept, &asked);
    let shown = report.views.get(report.shown).and_then(|view| view.image.as_ref());
    match (&args.platform, shown) {
        (Some(platform), Some(image)) if image.platform != platform.to_string() => {
            return Err(Failure::message(format!("the image has no platform {platform}")));
        }
        (Some(platform), None) => {
            let error =
                format!("the store has no image of that build, of which `{platform}` could be a platform");
            return Err(Failure::usage(Diagnostic::error(error).help("leave `--platform` out")));
        }
        (Some(_), Some(_)) | (None, _) => {}
    }
    if args.text {
        return print(&harmless(&text(&report, width())));
    }
    let path = match &args.output {
        Some(path) if path.as_os_str() == "-" => return print(&html(&report)),
        Some(path) => path.clone(),
        None => PathBuf::from(format!("report-{}.html", name(&report))),
    };
    write(&path, &report)?;
    if args.output.is_none() {
        print(&format!("{}\n", path.display()))?;
    }
    if args.open { open(&path) } else { Ok(()) }
}

/// Writes the page into a file.
fn write(path: &Path, report: &Report) -> Result<(), Failure> {
    let page = html(report);
    whole_file::write(path, |file| file.write_all(page.as_bytes()))
}

/// Writes the report of a build that has just ended, or failed.
pub(crate) fn write_of(path: &Path, store_root: &Path, record: &Record) -> Result<(), Failure> {
    let store = Store::open(store_root)?;
    let asked = Asked { record: Some(record.clone()), ..Asked::default() };
    write(path, &gather(&store, &kept::list(&store), &asked))
}

/// What a word means: an image of that name, else a build, else an image of that digest.
fn asked(store: &Store, kept: &[Kept], word: Option<&str>) -> Result<Asked, Failure> {
    let Some(word) = word else {
        return Ok(Asked { record: Some(find::last_readable(store)?), ..Asked::default() });
    };
    let tag = word.parse::<Reference>().ok().map(|name| store.tag(&name)).transpose()?.flatten();
    let image = match tag {
        Some(image) => image,
        None => match find::one(store, Some(word)) {
            Ok(kept) => return Ok(Asked { record: Some(find::read(&kept)?), ..Asked::default() }),
            Err(no_build) => match local::find_target(store, word) {
                Ok(image) => image,
                Err(_) if find::is_a_build(kept, word) => return Err(no_build),
                Err(no_image) => return Err(no_image.noting("there is no build of that id either")),
            },
        },
    };
    let (record, target) = match made(store, kept, &image) {
        Some((record, target)) => (Some(record), target),
        None => (None, 0),
    };
    Ok(Asked { record, target, image: Some(image), name: word.to_owned(), platform: None })
}

/// The last build that made an image, or an image of one of its platforms, and which of its targets that was.
fn made(store: &Store, kept: &[Kept], image: &Descriptor) -> Option<(Record, usize)> {
    let mut digests = vec![image.digest.to_string()];
    let platforms = Image::read(store, image).map(|image| image.platforms).unwrap_or_default();
    digests.extend(platforms.iter().map(|platform| platform.descriptor.digest.to_string()));
    kept.iter().find_map(|kept| {
        let record = kept.read().ok()?;
        let target = record
            .targets
            .iter()
            .position(|target| target.made.as_ref().is_some_and(|made| digests.contains(&made.digest)))?;
        Some((record, target))
    })
}

/// What the file is called after: the build, else the beginning of the image's digest.
fn name(report: &Report) -> String {
    match (&report.record, report.views.get(report.shown).and_then(|view| view.image.as_ref())) {
        (Some(record), _) if kept::is_id(&record.id) => record.id.clone(),
        (_, Some(image)) => image.digest.trim_start_matches("sha256:").chars().take(12).collect(),
        _ => "build".to_owned(),
    }
}

fn width() -> usize {
    let is_terminal = std::io::stdout().is_terminal();
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok().filter(|_| is_terminal);
    size.map_or(COLUMNS, |size| usize::from(size.ws_col)).max(1)
}

/// Has a browser show the file, which goes on when rbuild has ended.
fn open(path: &Path) -> Result<(), Failure> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let browser = std::env::var_os("BROWSER").filter(|name| !name.is_empty());
    let program = browser.unwrap_or_else(|| "xdg-open".into());
    let begun = Command::new(&program).arg(&whole).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    begun.map(drop).map_err(|error| {
        let shown = program.to_string_lossy().into_owned();
        let told = Diagnostic::error(format!("cannot start `{shown}`: {error}"));
        Failure::build(vec![
            told.help(format!("the report is in `{}`: any browser opens it", path.display())),
        ])
    })
}
