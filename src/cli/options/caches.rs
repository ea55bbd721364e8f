//! `--cache-from` and `--cache-to`: from the command line, else from the environment, else from the configuration.

use crate::cli::Failure;
use crate::cli::face::Face;
use crate::report::Diagnostic;
use crate::shared_cache::mounts::Travel;
use crate::shared_cache::spec::{Parsed, shown};
use crate::shared_cache::{CacheFrom, CacheTo};
use crate::text::csv;

use super::configuration::Configuration;

/// Where a build looks beside its own store.
pub(crate) fn from(
    options: &[String],
    configuration: &Configuration,
) -> Result<(Vec<CacheFrom>, Vec<String>), Failure> {
    let configured = &configuration.own.defaults.cache_from;
    let given = given(options, ("--cache-from", "RBUILD_CACHE_FROM", "cache-from"), configured);
    read(&given, CacheFrom::parse)
}

/// Where a build leaves its records and layers.
pub(crate) fn to(
    options: &[String],
    configuration: &Configuration,
    face: Face,
) -> Result<(Vec<CacheTo>, Vec<String>), Failure> {
    let configured = &configuration.own.defaults.cache_to;
    let options: Vec<String> = match face {
        Face::Own => options.to_vec(),
        Face::Docker => options.iter().map(|text| in_dockers_mode(text)).collect(),
    };
    let given = given(&options, ("--cache-to", "RBUILD_CACHE_TO", "cache-to"), configured);
    read(&given, CacheTo::parse)
}

/// Docker's caches have the layers of the result alone (`mode=min`), unless more is asked for.
fn in_dockers_mode(text: &str) -> String {
    let fields = csv::fields(text).unwrap_or_default();
    let has = |start: &str| fields.iter().any(|field| field.trim().to_ascii_lowercase().starts_with(start));
    match fields.as_slice() {
        [] => text.to_owned(),
        [only] if !only.contains('=') => format!("type=registry,ref={text},mode=min"),
        // What an image carries is always its own layers.
        _ if has("mode=") || has("type=inline") => text.to_owned(),
        _ => format!("{text},mode=min"),
    }
}

/// Whether cache mounts go with them.
pub(crate) fn mounts(option: Option<&str>) -> Result<Option<Travel>, Failure> {
    let variable = "RBUILD_CACHE_MOUNTS";
    let (place, word) = match (option, std::env::var(variable)) {
        (Some(word), _) => ("--cache-mounts", word.to_owned()),
        (None, Ok(word)) if !word.trim().is_empty() => (variable, word.trim().to_owned()),
        _ => return Ok(None),
    };
    let travel = Travel::parse(&word).ok_or_else(|| {
        Failure::usage(Diagnostic::error(format!("`{place}={word}`: it is `off`, `ro` or `rw`")))
    });
    travel.map(Some)
}

/// Values, and where they stand.
struct Given {
    place: &'static str,
    values: Vec<String>,
}

fn given(
    options: &[String],
    (option, variable, key): (&'static str, &'static str, &'static str),
    configured: &[String],
) -> Given {
    if !options.is_empty() {
        return Given { place: option, values: options.to_vec() };
    }
    match std::env::var(variable) {
        // No value has a blank in it.
        Ok(text) if !text.trim().is_empty() => {
            Given { place: variable, values: text.split_whitespace().map(str::to_owned).collect() }
        }
        _ => Given { place: key, values: configured.to_vec() },
    }
}

/// What was given, and what is to be noted of it.
fn read<T>(given: &Given, parse: impl Fn(&str) -> Parsed<T>) -> Result<(Vec<T>, Vec<String>), Failure> {
    let (mut all, mut notes) = (Vec::new(), Vec::new());
    for value in given.values.iter().filter(|value| !value.is_empty()) {
        let (parsed, more) = parse(value).map_err(|text| {
            Failure::usage(Diagnostic::error(format!("`{} {}`: {text}", given.place, shown(value))))
        })?;
        // One note for each thing, however often it is said.
        let fresh: Vec<String> = more
            .into_iter()
            .map(|note| format!("{}: {note}", given.place))
            .filter(|note| !notes.contains(note))
            .collect();
        notes.extend(fresh);
        all.extend(parsed);
    }
    Ok((all, notes))
}
