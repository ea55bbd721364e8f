//! The difference between two preimages, in one clause.

use std::collections::BTreeMap;

use super::{Field, Preimage};

/// What was changed, in the user's words; the change that says most comes first.
pub fn difference(last: &Preimage, now: &Preimage) -> String {
    let changed = changes(last, now);
    let Some(first) = changed.first() else { return unseen(last, now) };
    let clause = clause(first.name, first.before.as_ref(), first.after.as_ref());
    match changed.len() - 1 {
        0 => clause,
        more => format!("{clause}, and {more} more"),
    }
}

/// A field that two preimages differ by, with its values in their order: a name may be there several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedField<'p> {
    /// Such as `file:src/app.py`.
    pub name: &'p str,
    /// What it was; none of a new one.
    pub before: Option<Vec<&'p str>>,
    /// What it is; none of one that is gone.
    pub after: Option<Vec<&'p str>>,
}

/// What differs, that which says most first.
pub fn changes<'p>(last: &'p Preimage, now: &'p Preimage) -> Vec<ChangedField<'p>> {
    let (before, after): (Vec<_>, Vec<_>) = (last.fields().collect(), now.fields().collect());
    let (before, after) = differing(&before, &after);
    let (mut before, mut after) = (by_name(before), by_name(after));
    let mut names: Vec<&str> = after.keys().copied().collect();
    names.extend(before.keys().filter(|name| !after.contains_key(*name)));
    names.retain(|name| before.get(name) != after.get(name));
    // A stable sort: among equals, the order of names.
    names.sort_by_key(|name| rank(name));
    let of = |name| ChangedField { name, before: before.remove(name), after: after.remove(name) };
    names.into_iter().map(of).collect()
}

/// As [`difference`], where only the names of fields are known: with each whether it was there before, and is now.
pub fn difference_of_names(mut changed: Vec<(&str, bool, bool)>) -> Option<String> {
    changed.sort_by_key(|(name, ..)| rank(name));
    let (first, was, is) = changed.first()?;
    let one = vec![""];
    let clause = match *first {
        "file" | "files" => "files changed".to_owned(),
        name => clause(name, was.then_some(&one), is.then_some(&one)),
    };
    // All that is about files is one change.
    let is_file = |name: &str| matches!(name, "file" | "files");
    let files = changed.iter().filter(|(name, ..)| is_file(name)).count();
    match changed.len() - files.saturating_sub(1) - 1 {
        0 => Some(clause),
        more => Some(format!("{clause}, and {more} more")),
    }
}

/// What is left without the fields that both begin with, and those that both end with: mostly little.
fn differing<'f, 'p>(before: &'f [Field<'p>], after: &'f [Field<'p>]) -> (&'f [Field<'p>], &'f [Field<'p>]) {
    let start = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[start..], &after[start..]);
    let end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    (&before[..before.len() - end], &after[..after.len() - end])
}

/// Values in their order, because names may repeat.
fn by_name<'p>(fields: &[Field<'p>]) -> BTreeMap<&'p str, Vec<&'p str>> {
    let mut map: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for field in fields {
        map.entry(field.name).or_default().push(field.value);
    }
    map
}

fn unseen(last: &Preimage, now: &Preimage) -> String {
    if last == now { "its layer is no longer in the store" } else { "the order changed" }.to_owned()
}

/// The user's own edits come before what follows from them: a changed parent was explained at its own step.
fn rank(name: &str) -> u32 {
    match name.split_once(':').map_or(name, |(kind, _)| kind) {
        "op" => 0,
        "command" => 2,
        "arg" => 3,
        "env" => 4,
        "file" | "files" => 5,
        "parent" => 7,
        _ => 6,
    }
}

fn clause(name: &str, before: Option<&Vec<&str>>, after: Option<&Vec<&str>>) -> String {
    let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
    let verb = match (before, after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    match kind {
        "op" => "the instruction changed".to_owned(),
        "parent" => "the layer below changed".to_owned(),
        "command" => "the command changed".to_owned(),
        "cwd" => "the working directory changed".to_owned(),
        "arg" => format!("ARG {rest} {verb}"),
        "env" => format!("ENV {rest} {verb}"),
        "mount" => format!("the mount at {rest} {verb}"),
        "mounted" => format!("what is mounted at {rest} {verb}"),
        "file" => match (before.map(Vec::as_slice), after.map(Vec::as_slice)) {
            (Some([before]), Some([after])) => file_clause(rest, before, after),
            _ => format!("{rest} {verb}"),
        },
        _ if rest.is_empty() => format!("the {name} {verb}"),
        _ => format!("{kind} {rest} {verb}"),
    }
}

/// Compares two values of the form `type mode uid:gid[ content]`.
fn file_clause(path: &str, before: &str, after: &str) -> String {
    let (a, b) = (parts(before), parts(after));
    if a[0] != b[0] {
        return format!("{path} is now a {}", long_type(b[0]));
    }
    // A file whose content changed is said to have changed, whatever else happened to it.
    if a[3] != b[3] {
        return format!("{path} changed");
    }
    if a[1] != b[1] {
        return format!("mode of {path} {} → {}", a[1], b[1]);
    }
    format!("owner of {path} {} → {}", a[2], b[2])
}

fn parts(value: &str) -> [&str; 4] {
    let mut parts = value.splitn(4, ' ');
    [(); 4].map(|()| parts.next().unwrap_or_default())
}

fn long_type(word: &str) -> &str {
    match word {
        "dir" => "directory",
        "fifo" => "named pipe",
        other => other,
    }
}
