//! Which build a word means.

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
    let mut found = all.iter().filter(|kept| word.len() >= 2 && kept.id.starts_with(word));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(first), Some(_)) if first.id == word => Ok(first.clone()),
        (Some(_), Some(_)) => Err(missing(format!("`{word}` may be several builds"))),
        (None, _) => Err(missing(format!("there is no build `{word}`"))),
    }
}
