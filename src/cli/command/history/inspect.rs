//! `rbuild history inspect`

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::attachment::{self, AttachmentArgs};
use super::{Daemon, REFERENCE, find, logs, shown};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::show::listing::{bad, table};
use crate::cli::show::template::Template;
use crate::oci::{rfc3339, rfc3339_ms};
use crate::record::{ContextKind, Message, Outcome, Pair, Record, Status, Target, provenance};
use crate::store::Store;
use crate::text::size::bytes;
use crate::text::terminal::{harmless, harmless_json};

/// Show what a build was asked for, and what came of it
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Fields of templates are those of `docker buildx history inspect`: Name, Ref, Context, Dockerfile, VCSRepository, VCSRevision, Target,
Platform, NamedContexts, StartedAt, CompletedAt, Duration, Status, Error, NumCompletedSteps, NumTotalSteps, NumCachedSteps, BuildArgs,
Labels, Config, Materials, Attachments."
)]
pub(super) struct InspectArgs {
    #[command(subcommand)]
    attachment: Option<Attachment>,

    #[arg(value_name = "REF", help = REFERENCE)]
    reference: Option<String>,
    /// `pretty`, `json` (with buildx's members), `raw` (the record as it is kept), or a template such as '{{.Status}}'
    #[arg(long, value_name = "FORMAT", default_value = "pretty")]
    format: String,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Subcommand)]
enum Attachment {
    /// Print a manifest, or the provenance, of what a build made
    Attachment(AttachmentArgs),
}

/// As many lines of a failed step's output.
const LINES: usize = 16;
/// What stands for the value of a build argument that was not recorded.
const NOT_RECORDED: &str = "(not recorded)";

/// Prints it.
pub(super) fn run(global: &Global, args: &InspectArgs) -> Result<(), Failure> {
    if let Some(Attachment::Attachment(args)) = &args.attachment {
        return attachment::run(global, args);
    }
    let template = match args.format.as_str() {
        "pretty" | "" | "json" | "raw" => None,
        text => Some(Template::parse(text).map_err(bad)?),
    };
    let store = local::open_store(global)?;
    let record = find::record(&store, args.reference.as_deref())?;
    if args.format == "raw" {
        return print(&format!("{}\n", harmless_json(format!("{:#}", json!(record)))));
    }
    let object = object(&record, &store);
    match (template, args.format.as_str()) {
        (Some(template), _) => print(&harmless(&(template.render(&with_all(object)).map_err(bad)? + "\n"))),
        (None, "json") => print(&format!("{}\n", harmless_json(format!("{object:#}")))),
        (None, _) => print(&harmless(&text(&record, &object, args.reference.is_none()))),
    }
}

/// What `docker buildx history inspect --format json` has, with its names. Of several targets, what is said of one is that of the
/// first.
pub(super) fn object(record: &Record, store: &Store) -> Value {
    let nobody = Target::default();
    let target = record.targets.first().unwrap_or(&nobody);
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| {
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(all) => all.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        };
        if !is_empty {
            object.insert(name.to_owned(), value);
        }
    };
    put("Name", json!(record.title()));
    put("Ref", json!(record.id));
    put("Context", json!(context(target)));
    put("Dockerfile", json!(dockerfile(target)));
    if target.context.kind == ContextKind::Folder {
        put("VCSRepository", json!(target.context.repository()));
        put("VCSRevision", json!(target.context.revision()));
    }
    put("Target", json!(target.stage));
    put("Platform", json!(target.platforms));
    put("NamedContexts", pairs(&target.contexts));
    put("StartedAt", json!(rfc3339_ms(record.started_ms)));
    put("CompletedAt", json!(record.took_ms.map(|took| rfc3339_ms(record.started_ms.saturating_add(took)))));
    put("Duration", json!(record.took_ms.unwrap_or_default().saturating_mul(1_000_000)));
    put("Status", json!(status(record.status)));
    put("Error", error(record, store));
    let count = |wanted: fn(&Outcome) -> bool| {
        record.steps.iter().filter(|step| step.outcome.as_ref().is_some_and(wanted)).count()
    };
    put("NumCompletedSteps", json!(record.steps.iter().filter(|step| step.is_done()).count()));
    put("NumTotalSteps", json!(record.steps.len()));
    put("NumCachedSteps", json!(count(|outcome| *outcome == Outcome::Cached)));
    let argument = |argument: &crate::record::Argument| json!({"Name": argument.name, "Value": argument.value.as_deref().unwrap_or(NOT_RECORDED)});
    put("BuildArgs", target.arguments.iter().map(argument).collect());
    put("Labels", pairs(&target.labels));
    put("Config", config(target));
    let material = |material: &crate::record::Material| json!({"URI": provenance::uri(material), "Digests": material.digest.iter().collect::<Vec<_>>()});
    put("Materials", record.materials.iter().map(material).collect());
    let attached = attachment::all(record);
    put("Attachments", attached.iter().map(attachment::Attached::object).collect());
    Value::Object(object)
}

/// The same with members that are not there as empty ones, so that a template may name them.
fn with_all(object: Value) -> Value {
    const TEXTS: [&str; 8] =
        ["Name", "Context", "Dockerfile", "VCSRepository", "VCSRevision", "Target", "CompletedAt", "Status"];
    const LISTS: [&str; 6] = ["Platform", "NamedContexts", "BuildArgs", "Labels", "Materials", "Attachments"];
    let mut all = object;
    if let Some(members) = all.as_object_mut() {
        for (names, empty) in [(TEXTS.as_slice(), json!("")), (LISTS.as_slice(), json!([]))] {
            for name in names {
                members.entry(*name).or_insert_with(|| empty.clone());
            }
        }
        members.entry("Error").or_insert(Value::Null);
    }
    all
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Canceled => "canceled",
        Status::Killed => "killed",
    }
}

fn pairs(pairs: &[Pair]) -> Value {
    pairs.iter().map(|pair| json!({"Name": pair.name, "Value": pair.value})).collect()
}

/// The context's path, from the current folder if it is below it.
fn context(target: &Target) -> String {
    match target.context.kind {
        ContextKind::Stdin => "-".to_owned(),
        ContextKind::Git | ContextKind::Url => target.context.at.clone(),
        ContextKind::Folder | ContextKind::Archive => {
            let here = std::env::current_dir().unwrap_or_default();
            match Path::new(&target.context.at).strip_prefix(here) {
                Ok(rest) if rest.as_os_str().is_empty() => ".".to_owned(),
                Ok(rest) => rest.display().to_string(),
                Err(_) => target.context.at.clone(),
            }
        }
    }
}

fn dockerfile(target: &Target) -> String {
    let inside = target.dockerfile.path.as_deref().map(|path| {
        Path::new(path)
            .strip_prefix(&target.context.at)
            .map_or_else(|_| path.to_owned(), |rest| rest.display().to_string())
    });
    match inside {
        Some(path) => path,
        None if target.dockerfile.name == "<stdin>" => "-".to_owned(),
        None => target.dockerfile.name.clone(),
    }
}

fn error(record: &Record, store: &Store) -> Value {
    let Some(first) = record.errors.first() else { return Value::Null };
    // The codes of gRPC that buildx shows: canceled, unknown.
    let code = if record.status == Status::Canceled { 1 } else { 2 };
    let mut object = json!({"Code": code, "Message": first.text});
    if let Some((step, lines)) = logs::of_failure(store, record, LINES) {
        object["Name"] = json!(step.name());
        if !lines.is_empty() {
            object["Logs"] = json!(lines);
        }
    }
    if let Some(snippet) = snippet(record, first) {
        object["Sources"] = json!(STANDARD.encode(snippet));
    }
    object
}

/// The lines of the Dockerfile that an error is about, as BuildKit prints them.
fn snippet(record: &Record, message: &Message) -> Option<String> {
    const AROUND: usize = 2;
    let place = message.place.as_ref()?;
    let is_meant = |target: &&Target| target.dockerfile.name == place.file;
    let text = record.targets.iter().find(is_meant)?.dockerfile.text.as_deref()?;
    let mut out = format!("{}:{}\n--------------------\n", place.file, place.line);
    let (first, last) = (place.line.saturating_sub(AROUND).max(1), place.end_line.saturating_add(AROUND));
    for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if (first..=last).contains(&at) {
            let mark = if (place.line..=place.end_line).contains(&at) { ">>>" } else { "   " };
            out.push_str(&format!("{at:4} | {mark} {line}\n"));
        }
    }
    Some(out + "--------------------\n")
}

/// The names that buildx has for BuildKit's.
const CONFIG: [(&str, &str); 13] = [
    ("force-network-mode", "Network"),
    ("hostname", "Hostname"),
    ("image-resolve-mode", "ImageResolveMode"),
    ("shm-size", "ShmSize"),
    ("ulimit", "Ulimit"),
    ("memory", "Memory"),
    ("memswap", "MemorySwap"),
    ("cpushares", "CPUShares"),
    ("cpuperiod", "CPUPeriod"),
    ("cpuquota", "CPUQuota"),
    ("cpusetcpus", "CPUSetCPUs"),
    ("cpusetmems", "CPUSetMems"),
    ("cgroup-parent", "CgroupParent"),
];

fn config(target: &Target) -> Value {
    let mut config = Map::new();
    for (name, value) in &target.attributes {
        match (name.as_str(), CONFIG.iter().find(|(known, _)| known == name)) {
            (_, Some((_, shown))) => drop(config.insert((*shown).to_owned(), json!(value))),
            ("no-cache", _) if value.is_empty() => drop(config.insert("NoCache".to_owned(), json!(true))),
            ("no-cache", _) => {
                let stages: Vec<&str> = value.split(',').collect();
                config.insert("NoCacheFilter".to_owned(), json!(stages));
            }
            ("add-hosts", _) => {
                let hosts: Vec<&str> = value.split(',').collect();
                config.insert("ExtraHosts".to_owned(), json!(hosts));
            }
            _ => {}
        }
    }
    if target.platforms.len() > 1 {
        config.insert("MultiPlatform".to_owned(), json!(true));
    }
    let epoch = target.arguments.iter().find(|argument| argument.name == "SOURCE_DATE_EPOCH");
    if let Some(epoch) = epoch.and_then(|argument| argument.value.as_ref()) {
        config.insert("SourceDateEpoch".to_owned(), json!(epoch));
    }
    Value::Object(config)
}

/// For people, in the order of buildx.
fn text(record: &Record, object: &Value, says_reference: bool) -> String {
    let of = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let mut head: Vec<(&str, String)> = vec![("Name:", of("Name"))];
    if says_reference {
        head.push(("Ref:", record.id.clone()));
    }
    let several = record.targets.len() > 1;
    let platforms = record.targets.first().map(|target| target.platforms.join(", ")).unwrap_or_default();
    for (title, value) in [
        ("Context:", of("Context")),
        ("Dockerfile:", of("Dockerfile")),
        ("VCS Repository:", of("VCSRepository")),
        ("VCS Revision:", of("VCSRevision")),
        ("Target:", of("Target")),
        ("Platforms:", platforms),
    ] {
        // Each of several targets has its own.
        head.extend((!several || title.starts_with("VCS")).then_some((title, value)));
    }
    let mut parts = vec![lines(head)];
    parts.push(columns(object, "NamedContexts", "NAMED CONTEXT"));
    let (done, total) = (object["NumCompletedSteps"].as_u64(), record.steps.len());
    let cached = object["NumCachedSteps"].as_u64().unwrap_or_default();
    let percent = (cached * 100 + total as u64 / 2) / (total as u64).max(1);
    let mut run = vec![
        ("Started:", rfc3339((record.started_ms / 1000) as i64)),
        ("Duration:", record.took_ms.map(shown::duration).unwrap_or_default()),
    ];
    match record.status {
        Status::Completed => {}
        Status::Failed => run.push(("Error:", record.error().unwrap_or_default().to_owned())),
        Status::Running | Status::Canceled | Status::Killed => {
            run.push(("Status:", status(record.status).to_owned()));
        }
    }
    run.push(("Build Steps:", format!("{}/{total} ({percent}% cached)", done.unwrap_or_default())));
    parts.push(lines(run));
    let config = object["Config"].as_object().cloned().unwrap_or_default();
    parts.push(config.iter().map(|(name, value)| format!("{name}:  {}\n", plain(value))).collect());
    parts.push(columns(object, "BuildArgs", "BUILD ARG"));
    parts.push(columns(object, "Labels", "LABEL"));
    parts.push(results(record));
    let listed = |title: &str, name: &str, heads: &[&str], fields: &[&str]| {
        let rows = object[name].as_array().into_iter().flatten();
        let rows: Vec<Vec<String>> =
            rows.map(|row| fields.iter().map(|field| plain(&row[*field])).collect()).collect();
        if rows.is_empty() {
            return String::new();
        }
        let head = heads.iter().map(|head| (*head).to_owned()).collect();
        format!("{title}:\n{}", table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
    };
    parts.push(listed("Materials", "Materials", &["URI", "DIGEST"], &["URI", "Digests"]));
    let heads = ["DIGEST", "PLATFORM", "TYPE"];
    parts.push(listed("Attachments", "Attachments", &heads, &["Digest", "Platform", "Type"]));
    parts.push(record.warnings.iter().map(warning).collect());
    parts.push(failure(object));
    parts.push(format!("Print build logs: rbuild history logs {}\n", record.id));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn lines(rows: Vec<(&str, String)>) -> String {
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(title, value)| vec![title.to_owned(), value])
        .collect();
    table(&rows)
}

fn columns(object: &Value, name: &str, title: &str) -> String {
    let rows = object[name].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = rows.map(|row| vec![plain(&row["Name"]), plain(&row["Value"])]).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = vec![title.to_owned(), "VALUE".to_owned()];
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What each target came to, which buildx does not tell.
fn results(record: &Record) -> String {
    let mut rows = vec![["TARGET", "DIGEST", "LAYERS", "NAMES"].map(str::to_owned).to_vec()];
    for target in &record.targets {
        let Some(made) = &target.made else { continue };
        let name = if target.name.is_empty() { "-" } else { &target.name };
        rows.push(vec![name.to_owned(), made.digest.clone(), bytes(made.layers_size), made.names.join(", ")]);
    }
    if rows.len() > 1 { table(&rows) } else { String::new() }
}

fn warning(warning: &Message) -> String {
    let code = warning.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    let place = warning.place.as_ref().map(|place| format!(" at {}:{}", place.file, place.line));
    format!("Warning: {}{code}{}\n", warning.text, place.unwrap_or_default())
}

fn failure(object: &Value) -> String {
    let error = &object["Error"];
    let mut out = String::new();
    if let Some(sources) = error["Sources"].as_str().and_then(|text| STANDARD.decode(text).ok()) {
        out.push_str(&String::from_utf8_lossy(&sources));
    }
    let lines: Vec<&str> = error["Logs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !lines.is_empty() {
        out.push_str(&format!("Logs:\n> => {}:\n", plain(&error["Name"])));
        lines.iter().for_each(|line| out.push_str(&format!("> {line}\n")));
    }
    out
}
