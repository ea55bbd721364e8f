//! Which build a word means.

use super::shown::note;
use crate::cli::Failure;
use crate::record::Record;
use crate::record::kept::{self, Kept};
use crate::report::Diagnostic;
use crate::store::Store;

/// The build that `word` means: nothing and `last` are the last one, `^N` is the N-th before it, else an id, the beginning of one, or
/// what buildx makes of it (`BUILDER/NODE/ID`).
pub(in crate::cli::command) fn one(store: &Store, word: Option<&str>) -> Result<Kept, Failure> {
    among(&kept::list(store), word)
}

/// As [`one`], and its record.
pub(in crate::cli::command) fn record(store: &Store, word: Option<&str>) -> Result<Record, Failure> {
    read(&one(store, word)?)
}

/// The last build whose record can be read; what is said of those after it is why theirs cannot.
pub(in crate::cli::command) fn last_readable(store: &Store) -> Result<Record, Failure> {
    let all = kept::list(store);
    let mut unreadable = Vec::new();
    for kept in &all {
        match kept.read() {
            Ok(record) => {
                unreadable.iter().for_each(|text: &String| note(text));
                return Ok(record);
            }
            // It may have been removed meanwhile.
            Err(kept::Error::Io { .. }) => {}
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    read(&among(&all, None)?)
}

/// Whether a word that [`one`] finds no build by can mean nothing else.
pub(in crate::cli::command) fn is_a_build(all: &[Kept], word: &str) -> bool {
    let id = word.rsplit('/').next().unwrap_or_default();
    let may_be = |kept: &Kept| id.len() >= LEAST && kept.id.starts_with(id);
    word.starts_with('^') || word == "last" || all.iter().any(may_be)
}

/// Its record.
pub(in crate::cli::command) fn read(kept: &Kept) -> Result<Record, Failure> {
    kept.read().map_err(|error| {
        let diagnostic = Diagnostic::error(error.to_string());
        Failure::build(vec![match error {
            kept::Error::Newer { .. } => diagnostic.help("read it with that version"),
            kept::Error::Damaged { id, .. } => {
                diagnostic.help(format!("`rbuild history rm {id}` removes it"))
            }
            kept::Error::Io { .. } => diagnostic,
        }])
    })
}

/// So many characters of an id are the beginning of one.
const LEAST: usize = 2;

fn among(all: &[Kept], word: Option<&str>) -> Result<Kept, Failure> {
    let missing = |text: String| {
        let error = Diagnostic::error(text);
        Failure::build(vec![error.help("`rbuild history ls` lists builds")])
    };
    let word = word.unwrap_or_default();
    let word = word.rsplit('/').next().unwrap_or_default();
    if let Some(offset) = word.strip_prefix('^') {
        let offset: usize = offset.parse().map_err(|_| {
            let error = Diagnostic::error(format!("bad build `{word}`"));
            Failure::usage(error.help("`^1` is the build before the last"))
        })?;
        return all
            .get(offset)
            .cloned()
            .ok_or_else(|| missing(format!("there are only {} builds", all.len())));
    }
    if matches!(word, "" | "last") {
        return all.first().cloned().ok_or_else(|| missing("no build is recorded".to_owned()));
    }
    let mut found = all.iter().filter(|kept| word.len() >= LEAST && kept.id.starts_with(word));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(first), Some(_)) if first.id == word => Ok(first.clone()),
        (Some(_), Some(_)) => Err(missing(format!("`{word}` may be several builds"))),
        (None, _) => Err(missing(format!("there is no build `{word}`"))),
    }
}
