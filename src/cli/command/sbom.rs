//! `rbuild sbom`

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::{color_of, print};
use crate::cli::local;
use crate::cli::show::diagnostic;
use crate::cli::show::listing::table;
use crate::image::{Image, StoredPlatform};
use crate::inventory::document::{self, StagePackages, Step, Subject};
use crate::inventory::{self, Change, Component, Depth, Difference, Event, Known, Unowned, difference};
use crate::oci::Platform;
use crate::report::Diagnostic;
use crate::store::Store;
use crate::text::size::bytes;
use crate::text::terminal::{cut, harmless, harmless_json};

/// Instructions are cut to so many columns in lists for people.
const WIDTH: usize = 100;
/// Files of no package are counted in at most so many folders for each step.
const FOLDERS: usize = 8;

/// List the packages of an image, and which step brought each
///
/// Reads the package databases, manifests and programs in the image's layers: dpkg, apk, rpm, Python, npm, Go, Rust, Java, Ruby, PHP,
/// .NET. What is known of a layer is kept in the local store, so that the next image with it is not read again. With --by-step each
/// instruction is listed with the packages that it added, changed and removed, and with the files that it brought and that
/// belong to no package; of an image that was built here also with what it took from where: stages, images, URLs, repositories.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "An image that is called `diff` is written with its tag: `rbuild sbom diff:latest`."
)]
pub(crate) struct SbomArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The image: a name, or the beginning of its digest
    #[arg(value_name = "IMAGE", required = true)]
    name: Option<String>,
    /// Say for each step what it brought
    #[arg(long)]
    by_step: bool,
    /// Also list what stages have that were copied from: packages that are not in the image
    #[arg(long, requires = "by_step")]
    stages: bool,
    /// What to print
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
    /// The file that gets it [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// The platform of an image that has several [default: this machine's, else the first]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say by which packages two images differ
    ///
    /// `+` is only in NEW, `-` only in OLD, `~` in both with different versions.
    Diff {
        /// An image
        #[arg(value_name = "OLD")]
        old: String,
        /// Another
        #[arg(value_name = "NEW")]
        new: String,
        /// What to print
        #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
        format: String,
        /// The platform of images that have several [default: this machine's, else the first]
        #[arg(long, value_name = "OS/ARCH")]
        platform: Option<Platform>,
    },
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// All that is known, in rbuild's own form
    Json,
    /// SPDX 2.3
    #[value(alias = "spdx-json")]
    Spdx,
    /// CycloneDX 1.6
    #[value(alias = "cyclonedx-json")]
    Cyclonedx,
}

/// Looks into the image, and prints what it has.
pub(crate) fn run(global: &Global, args: &SbomArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    if let Some(Verb::Diff { old, new, format, platform }) = &args.verb {
        return diff(&store, (old, new), platform.as_ref(), format == "json");
    }
    let Some(name) = &args.name else { return Ok(()) };
    let (image, known) = look(&store, name, args.platform.as_ref())?;
    let depth = match (args.stages, args.by_step) {
        (true, _) => Depth::Stages,
        (false, true) => Depth::Steps,
        (false, false) => Depth::Packages,
    };
    let origins = known.origins(&store, &image);
    let text = known.described(&store, (name, &image), &origins, depth, |subject| {
        warn(&subject.unread);
        match args.format {
            Format::Table if args.by_step => by_step(subject),
            Format::Table => listed(subject),
            Format::Json => harmless_json(subject.document(document::Format::Own)),
            Format::Spdx => harmless_json(subject.document(document::Format::Spdx)),
            Format::Cyclonedx => harmless_json(subject.document(document::Format::CycloneDx)),
        }
    });
    match &args.output {
        None => print(&text),
        Some(path) => std::fs::write(path, text)
            .map_err(|error| Failure::message(format!("cannot write `{}`: {error}", path.display()))),
    }
}

/// Says what is missing in the list.
fn warn(unread: &[(String, String)]) {
    let color = color_of(&std::io::stderr());
    for (path, why) in unread {
        let text = format!("`/{path}` may tell of packages, but cannot be read: {why}");
        let warning = Diagnostic { code: None, ..Diagnostic::warning("unread", text) };
        // Nobody may be reading any more.
        let _ = std::io::stderr().write_all(diagnostic::render(&warning, color).as_bytes());
    }
}

/// The image of one platform, and what is in its layers.
fn look(store: &Store, name: &str, platform: Option<&Platform>) -> Result<(StoredPlatform, Known), Failure> {
    let (image, config) = match platform {
        None => local::find(store, name)?,
        Some(platform) => {
            let image = Image::read(store, &local::find_target(store, name)?)?;
            let found = image.for_platform(platform).cloned();
            let found = found.and_then(|found| Some((found.clone(), found.config?)));
            found.ok_or_else(|| local::no_platform(name, &image, platform))?
        }
    };
    let known = Known::of(store, &image, &config).map_err(|error| failure(name, error))?;
    Ok((image, known))
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn failure(name: &str, error: inventory::Error) -> Failure {
    let diagnostic = Diagnostic::error(format!("cannot look into `{name}`: {error}"));
    Failure::build(vec![match error {
        inventory::Error::Absent(_) => {
            diagnostic.help(format!("`rbuild pull {name}` brings its layers here"))
        }
        inventory::Error::Store(_)
        | inventory::Error::Archive { .. }
        | inventory::Error::WrongDiffId { .. }
        | inventory::Error::Contents { .. } => {
            diagnostic.help("`rbuild verify` says what is damaged, and drops it")
        }
    }])
}

fn listed(subject: &Subject<'_>) -> String {
    let row = |component: &Component<'_>| {
        let package = component.package;
        vec![package.name.clone(), package.version.clone(), package.kind.name().to_owned()]
    };
    let mut rows: Vec<Vec<String>> = subject.history.state.components.iter().map(row).collect();
    // Of one package in several places a list for people has one line.
    rows.sort();
    rows.dedup();
    rows.insert(0, ["NAME", "VERSION", "TYPE"].map(str::to_owned).to_vec());
    table(&rows)
}

fn by_step(subject: &Subject<'_>) -> String {
    let mut text = String::new();
    for (layer, step) in subject.steps.iter().enumerate() {
        text.push_str(&heading(step));
        for source in subject.origins.of_layer.get(layer).into_iter().flatten() {
            text.push_str(&taken(subject, *source));
        }
        let events = subject.history.events.iter().filter(|event| event.layer == layer);
        text.push_str(&changes(events, |event| subject.copied_from(event)));
        let files: Vec<&Unowned> = subject.unowned.iter().filter(|file| file.layer == layer).collect();
        for (folder, count, size) in folded(&files) {
            let files = if count == 1 { "file" } else { "files" };
            text.push_str(&format!(
                "  ? {count} {files} of no package in /{} ({})\n",
                harmless(&folder),
                bytes(size)
            ));
        }
    }
    for stage in subject.stages.iter().filter(|_| subject.with_stages) {
        text.push_str(&of_stage(subject, stage));
    }
    text
}

/// What each event did, a line each, with what `more` says of it.
fn changes<'e, 'l: 'e>(
    events: impl Iterator<Item = &'e Event<'l>>,
    more: impl Fn(&Event<'l>) -> Option<String>,
) -> String {
    let of = |event: &Event<'l>| {
        let mut row = row(&event.component, &event.change);
        row.extend(more(event));
        row
    };
    let mut rows: Vec<Vec<String>> = events.map(of).collect();
    rows.dedup();
    table(&rows).lines().map(|line| format!("  {line}\n")).collect()
}

/// The line of something that a step took files from.
fn taken(subject: &Subject<'_>, source: usize) -> String {
    let Some(found) = subject.origins.sources.get(source) else { return String::new() };
    let packages = subject.stages.iter().find(|stage| stage.source == source);
    let count = packages.map_or_else(String::new, |stage| {
        let count = stage.history.state.components.len();
        let absent = stage.absent.map(|why| format!("; {why}")).unwrap_or_default();
        format!(" ({count} package{}{absent})", if count == 1 { "" } else { "s" })
    });
    format!("  <  {}{count}\n", harmless(&found.words()))
}

/// What a stage has that was copied from, step by step.
fn of_stage(subject: &Subject<'_>, stage: &StagePackages<'_>) -> String {
    let mut text = String::new();
    let Some(source) = subject.origins.sources.get(stage.source) else { return text };
    for (layer, step) in stage.steps.iter().enumerate() {
        let events: Vec<_> = stage.history.events.iter().filter(|event| event.layer == layer).collect();
        if !events.is_empty() {
            text.push_str(&format!("{}, {}", harmless(&source.words()), heading(step)));
            text.push_str(&changes(events.into_iter(), |_| None));
        }
    }
    text
}

fn heading(step: &Step) -> String {
    let line = step.line.map_or_else(String::new, |line| format!(", line {line}"));
    let base = if step.base == Some(true) { ", of the base" } else { "" };
    format!("step {}{base}{line}: {}\n", step.number, cut(&harmless(&step.instruction), WIDTH))
}

/// A sign, and what became of the package.
fn row(component: &Component<'_>, change: &Change) -> Vec<String> {
    let package = component.package;
    let (sign, version) = match change {
        Change::Added => ("+", package.version.clone()),
        Change::Changed { from } => ("~", format!("{from} → {}", package.version)),
        Change::Removed => ("-", package.version.clone()),
    };
    vec![sign.to_owned(), package.name.clone(), version, package.kind.name().to_owned()]
}

/// Files by folder, as deep as there are few of these.
fn folded(files: &[&Unowned]) -> Vec<(String, usize, u64)> {
    let mut found = Vec::new();
    for depth in (0..=6).rev() {
        let mut folders: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for file in files {
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let folder = folder.split('/').take(depth).collect::<Vec<_>>().join("/");
            let (count, size) = folders.entry(folder).or_default();
            (*count, *size) = (*count + 1, *size + file.size);
        }
        found = folders.into_iter().map(|(folder, (count, size))| (folder, count, size)).collect();
        if found.len() <= FOLDERS {
            break;
        }
    }
    found
}

fn diff(
    store: &Store,
    (old, new): (&str, &str),
    platform: Option<&Platform>,
    is_json: bool,
) -> Result<(), Failure> {
    let ((_, old), (_, new)) = (look(store, old, platform)?, look(store, new, platform)?);
    let (old, new) = (inventory::history(&old.layers), inventory::history(&new.layers));
    let mut found = difference(&old.state, &new.state);
    let order = |difference: &Difference<'_>| {
        let package = difference.component.package;
        (package.kind, package.name.clone(), package.version.clone(), difference.component.path.to_owned())
    };
    found.sort_by_key(order);
    if !is_json {
        let rows: Vec<Vec<String>> = found.iter().map(|found| row(&found.component, &found.change)).collect();
        return print(&table(&rows));
    }
    let object = |difference: &Difference<'_>| {
        let Component { package, purl, path, .. } = &difference.component;
        let (change, from) = match &difference.change {
            Change::Added => ("added", None),
            Change::Changed { from } => ("changed", Some(from)),
            Change::Removed => ("removed", None),
        };
        json!({
            "change": change, "name": package.name, "version": package.version, "from": from,
            "type": package.kind.name(), "purl": purl, "path": format!("/{path}"),
        })
    };
    let all: Vec<_> = found.iter().map(object).collect();
    print(&(harmless_json(format!("{:#}", serde_json::Value::Array(all))) + "\n"))
}
