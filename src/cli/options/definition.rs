//! Where the definition of `rbuild bake` comes from, what it is read with, and what it may do.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::bake::wants;
use super::request::{bad, variable};
use crate::bake::{Allowed, Asked, File, Granted, ReadOptions, Resolved, Surroundings, is_remote};
use crate::cli::Failure;
use crate::cli::args::{Global, ProgressMode};
use crate::oci::Platform;
use crate::pipeline;
use crate::report::Diagnostic;
use crate::text::boolean;

/// What the command line says of it.
pub(crate) struct Given<'a> {
    pub(crate) files: &'a [String],
    pub(crate) variables: &'a [String],
    pub(crate) offline: bool,
}

/// The usual names, in the order in which files go before each other.
const USUAL: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

/// What stands for this folder in a definition that is elsewhere.
const HERE: &str = "cwd://";

/// The words of the command line.
pub(crate) struct Words {
    /// Where the definition is, if it is elsewhere.
    pub(crate) url: Option<String>,
    /// What `BAKE_CMD_CONTEXT` stands for.
    context: String,
    pub(crate) targets: Vec<String>,
}

impl Words {
    /// Splits them.
    pub(crate) fn of(words: &[String]) -> Self {
        let mut rest = words.iter().peekable();
        let url = rest.next_if(|word| is_remote(word)).cloned();
        let context = url.as_ref().and_then(|_| rest.next_if(|word| is_remote(word)).cloned());
        let targets: Vec<String> = rest.cloned().collect();
        let targets = if targets.is_empty() { vec!["default".to_owned()] } else { targets };
        Self { url, context: context.unwrap_or_else(|| HERE.to_owned()), targets }
    }
}

/// Reads the files of the definition; gives, too, where contexts are if they are elsewhere.
pub(crate) fn files(
    global: &Global,
    given: &Given<'_>,
    line: &Words,
) -> Result<(Vec<File>, Option<String>), Failure> {
    let named = named_files(given);
    let (here, elsewhere): (Vec<String>, Vec<String>) = match line.url {
        Some(_) => named.iter().cloned().partition(|name| name.starts_with(HERE)),
        None => (named.clone(), Vec::new()),
    };
    let (mut files, mut base) = (Vec::new(), None);
    if let Some(url) = &line.url {
        if given.offline {
            let message = format!("`{url}` would have to be fetched, and `--offline` forbids that");
            return Err(Failure::usage(Diagnostic::error(message)));
        }
        let root = global.store_root().ok_or_else(Failure::no_store_root)?;
        let fetched = pipeline::fetch_definition(&root, url, &elsewhere, &USUAL).map_err(Failure::build)?;
        files.extend(fetched.files.into_iter().map(|(name, text)| File { name, text }));
        base = fetched.base;
    }
    let usual = line.url.is_none() && named.is_empty();
    let wanted: Vec<String> = if usual { USUAL.map(str::to_owned).to_vec() } else { here };
    for name in wanted {
        let name = name.strip_prefix(HERE).unwrap_or(&name).to_owned();
        let text = match name.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()),
            path => std::fs::read_to_string(path),
        };
        match text {
            Ok(text) => files.push(File { name, text }),
            Err(error) if usual && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::message(format!("cannot read `{name}`: {error}"))),
        }
    }
    match files.is_empty() {
        false => Ok((files, base)),
        true => {
            let help = "rbuild bake looks for compose.yaml, docker-bake.json and docker-bake.hcl; name another with `-f FILE`";
            Err(Failure::build(vec![Diagnostic::error("there is no bake file here").help(help)]))
        }
    }
}

fn named_files(given: &Given<'_>) -> Vec<String> {
    if !given.files.is_empty() {
        return given.files.to_vec();
    }
    let separator = variable("BUILDX_BAKE_PATH_SEPARATOR").unwrap_or_else(|| ":".to_owned());
    let given = variable("BUILDX_BAKE_FILE").unwrap_or_default();
    given
        .split(separator.as_str())
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A switch of the environment.
fn is_on(name: &str) -> Result<Option<bool>, Failure> {
    let Some(text) = variable(name) else { return Ok(None) };
    match boolean(text.trim()) {
        Some(value) => Ok(Some(value)),
        None => Err(bad(&format!("${name}"), &text, "it is true or false")),
    }
}

pub(crate) fn read_options(given: &Given<'_>, line: &Words) -> Result<ReadOptions, Failure> {
    let mut variables = BTreeMap::new();
    for text in given.variables.iter().filter(|text| !text.is_empty()) {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                drop(variables.insert(name.to_owned(), value.to_owned()));
            }
            _ => return Err(bad("--var", text, "write it as NAME=VALUE")),
        }
    }
    let is_closed =
        variable("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP").and_then(|text| boolean(&text)) == Some(true);
    let environment = match is_closed {
        true => BTreeMap::new(),
        // Bytes that are no text are in no definition.
        false => std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    };
    let folder = std::env::current_dir()
        .map_err(|error| Failure::message(format!("there is no current folder: {error}")))?;
    let built_in = BTreeMap::from([
        ("BAKE_CMD_CONTEXT".to_owned(), line.context.clone()),
        ("BAKE_LOCAL_PLATFORM".to_owned(), Platform::host().to_string()),
    ]);
    Ok(ReadOptions {
        variables,
        environment,
        env_file: std::fs::read_to_string(folder.join(".env")).ok(),
        folder,
        built_in,
        counts_from_files: is_on("BUILDX_BAKE_FILE_RELATIVE_PATHS")? == Some(true),
        surroundings: Surroundings {
            home: variable("HOME").unwrap_or_else(|| "/".to_owned()),
            now: crate::clock::now(),
        },
    })
}

/// Refuses, or asks about, what the definition would do beyond its folder.
pub(crate) fn check_rights(
    allowed: Allowed,
    resolved: &Resolved,
    options: &ReadOptions,
    mode: ProgressMode,
    is_fetched: bool,
) -> Result<(), Failure> {
    let granted: &Granted = &resolved.granted;
    let allowed = allowed.and(&options.folder, granted);
    let mut asked = allowed.lacks(&wants(resolved.targets.values()), &options.folder);
    // Who reads that speaks for the user, and has nobody to ask; as in buildx.
    if mode == ProgressMode::RawJson {
        asked.keep(|flag| flag == "buildx.local.delete");
    }
    let mut files_count = true;
    if is_fetched && is_on("BAKE_ALLOW_REMOTE_FS_ACCESS")? == Some(true) {
        files_count = false;
    }
    if let Some(wanted) = is_on("BUILDX_BAKE_ENTITLEMENTS_FS")? {
        files_count = wanted;
    }
    if !files_count {
        asked.keep(|flag| !(flag == "ssh" || flag.starts_with("fs")));
    }
    match asked.what.is_empty() || agreed(&asked) {
        true => Ok(()),
        false => Err(refused(&asked)),
    }
}

/// Asks at a terminal.
fn agreed(asked: &Asked) -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    let mut text = "this definition asks for:\n".to_owned();
    asked.what.iter().for_each(|what| text.push_str(&format!("  {what}\n")));
    text.push_str("allow it, and go on? [y/N] ");
    let mut answer = String::new();
    let asked = std::io::stderr().write_all(crate::text::terminal::harmless(&text).as_bytes());
    asked.is_ok()
        && std::io::stdin().lock().read_line(&mut answer).is_ok()
        && answer.trim().eq_ignore_ascii_case("y")
}

fn refused(asked: &Asked) -> Failure {
    let flags: Vec<String> = asked.flags.iter().map(|flag| format!("--allow={flag}")).collect();
    let mut diagnostic = Diagnostic::error("this definition asks for more than it may by itself");
    for what in &asked.what {
        diagnostic = diagnostic.note(what.clone());
    }
    Failure::build(vec![diagnostic.help(format!("allow it with `{}`", flags.join(" ")))])
}
