//! `rbuild config`: what holds where the command line says nothing, and who says so.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::options::configuration::Configuration;
use crate::cli::options::request::variable;
use crate::cli::show::listing::Format;
use crate::text::size::bytes;
use crate::text::url::without_password;

/// Show what is configured, and where
///
/// Each value that counts when the command line says nothing, and the variable or file that says it; then the files that are
/// looked at, and what they say of registries.
#[derive(Debug, Args)]
#[command(after_help = "Fields of templates: Key, Value, From.")]
pub(crate) struct ConfigArgs {
    /// `table`, `json` (an object on each line), or a template such as '{{.Key}}={{.Value}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const COLUMNS: [(&str, &str); 3] = [("KEY", "Key"), ("VALUE", "Value"), ("FROM", "From")];
const DEFAULT: &str = "default";

/// Variables that are no value of the configuration, and what holds without them.
const VARIABLES: [(&str, &str, &str); 7] = [
    ("jobs", "RBUILD_JOBS", "16, or the number of processors when that is more"),
    ("cache-mounts", "RBUILD_CACHE_MOUNTS", "rw with --cache-to"),
    ("tripwire", "RBUILD_TRIPWIRE", "stop"),
    ("layers", "RBUILD_LAYERS", "tree"),
    ("run-memory", "RBUILD_RUN_MEMORY", "half of what is free"),
    ("epoch", "SOURCE_DATE_EPOCH", ""),
    ("colors", "BUILDKIT_COLORS", ""),
];

/// Prints it.
pub(crate) fn run(global: &Global, args: &ConfigArgs) -> Result<(), Failure> {
    let format = Format::parse(args.format.as_deref())?;
    let configuration = Configuration::load()?;
    let mut rows = values(global, &configuration);
    rows.extend(configuration.origins()?.into_iter().map(|(key, value, from)| row(&key, &value, &from)));
    print(&format.render(&COLUMNS, &rows)?)
}

fn row(key: &str, value: &str, from: &str) -> Value {
    // A cache or a mirror may be written with a login.
    json!({"Key": key, "Value": without_password(value), "From": from})
}

fn values(global: &Global, configuration: &Configuration) -> Vec<Value> {
    let file = configuration.own_file();
    let own = &configuration.own;
    let mut rows = Vec::new();
    let root = global.store_root().map(|root| root.display().to_string()).unwrap_or_default();
    let from = match (&global.root, variable("RBUILD_ROOT")) {
        (Some(root), Some(said)) if root.as_os_str() == said.as_str() => "$RBUILD_ROOT",
        (Some(root), _) if !root.as_os_str().is_empty() => "--root",
        _ => DEFAULT,
    };
    rows.push(row("store.root", &root, from));
    rows.push(match own.store_quota_bytes {
        Some(quota) => row("store.quota", &bytes(quota), &file),
        None => row("store.quota", "none", DEFAULT),
    });
    let defaults = &own.defaults;
    for (key, name, said, usual) in [
        ("defaults.progress", "BUILDKIT_PROGRESS", &defaults.progress, "auto"),
        ("defaults.platform", "DOCKER_DEFAULT_PLATFORM", &defaults.platform, "this machine's"),
        ("defaults.network", "", &defaults.network, "default"),
    ] {
        rows.push(match (variable(name).filter(|_| !name.is_empty()), said) {
            (Some(value), _) => row(key, &value, &format!("${name}")),
            (None, Some(value)) => row(key, value, &file),
            (None, None) => row(key, usual, DEFAULT),
        });
    }
    rows.push(match (variable("RBUILD_REPRODUCIBLE"), defaults.reproducible) {
        (Some(value), _) => row("defaults.reproducible", &value, "$RBUILD_REPRODUCIBLE"),
        (None, Some(is_on)) => row("defaults.reproducible", &is_on.to_string(), &file),
        (None, None) => row("defaults.reproducible", "false", DEFAULT),
    });
    for (key, said, usual) in [
        ("history.records", own.history.records, true),
        ("history.argument-values", own.history.argument_values, false),
    ] {
        let from = if said.is_some() { file.as_str() } else { DEFAULT };
        rows.push(row(key, &said.unwrap_or(usual).to_string(), from));
    }
    for (key, name, said) in [
        ("defaults.cache-from", "RBUILD_CACHE_FROM", &defaults.cache_from),
        ("defaults.cache-to", "RBUILD_CACHE_TO", &defaults.cache_to),
    ] {
        let shown = |text: &str| crate::shared_cache::spec::shown(text);
        match variable(name) {
            Some(text) => rows.push(row(
                key,
                &text.split_whitespace().map(shown).collect::<Vec<_>>().join(" "),
                &format!("${name}"),
            )),
            None if said.is_empty() => rows.push(row(key, "none", DEFAULT)),
            None => rows.extend(said.iter().map(|text| row(key, &shown(text), &file))),
        }
    }
    for (key, name, usual) in VARIABLES {
        rows.push(match variable(name) {
            Some(value) => row(key, &value, &format!("${name}")),
            None => row(key, usual, DEFAULT),
        });
    }
    rows
}
