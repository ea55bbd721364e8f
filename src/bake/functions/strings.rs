//! Strings. Lengths and places count what people see as one character.

use std::collections::BTreeMap;

use regex_lite::{Captures, Regex};
use unicode_segmentation::UnicodeSegmentation as _;

use super::{Call, Outcome, Wrong, at};
use crate::bake::convert::{convert, text_of};
use crate::bake::value::{Number, Type, Value};

/// As long as a string may get by padding.
pub(super) const WIDEST: i64 = 1 << 20;

fn text(text: impl AsRef<str>) -> Outcome {
    Ok(Value::text(text))
}

pub(super) fn chomp(call: &Call<'_>) -> Outcome {
    text(call.text(0).trim_end_matches(['\r', '\n']))
}

pub(super) fn indent(call: &Call<'_>) -> Outcome {
    let spaces = call.whole(0)?;
    if !(0..=WIDEST).contains(&spaces) {
        return at(0, format!("it is between 0 and {WIDEST}, not {spaces}"));
    }
    let pad = " ".repeat(usize::try_from(spaces).unwrap_or(0));
    let lines = call.text(1).matches('\n').count();
    call.charge(lines.saturating_mul(pad.len()) / 16)?;
    text(call.text(1).replace('\n', &format!("\n{pad}")))
}

pub(super) fn join(call: &Call<'_>) -> Outcome {
    if call.args.len() < 2 {
        return Err("it takes a separator and at least one list".into());
    }
    let mut all = Vec::new();
    for argument in 1..call.args.len() {
        all.extend(call.texts(argument)?);
    }
    call.charge(all.len().saturating_mul(call.text(0).len()) / 16)?;
    text(all.join(call.text(0)))
}

/// What a character becomes; as in Go it stays where it would become several.
fn single(c: char, mut becomes: impl Iterator<Item = char>) -> char {
    match (becomes.next(), becomes.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

pub(super) fn lower(call: &Call<'_>) -> Outcome {
    text(call.text(0).chars().map(|c| single(c, c.to_lowercase())).collect::<String>())
}

pub(super) fn upper(call: &Call<'_>) -> Outcome {
    text(call.text(0).chars().map(|c| single(c, c.to_uppercase())).collect::<String>())
}

pub(super) fn title(call: &Call<'_>) -> Outcome {
    let parts = |c: char| match c {
        c if c.is_ascii() => !(c.is_ascii_alphanumeric() || c == '_'),
        c => c.is_whitespace(),
    };
    let (mut out, mut begins) = (String::new(), true);
    for c in call.text(0).chars() {
        match begins {
            true => out.push(single(c, c.to_uppercase())),
            false => out.push(c),
        }
        begins = parts(c);
    }
    text(out)
}

pub(super) fn replace(call: &Call<'_>) -> Outcome {
    let (whole, part, by) = (call.text(0), call.text(1), call.text(2));
    let count = if part.is_empty() { whole.len() + 1 } else { whole.len() / part.len() };
    call.charge(count.saturating_mul(by.len()) / 16)?;
    text(whole.replace(part, by))
}

pub(super) fn reverse(call: &Call<'_>) -> Outcome {
    text(call.text(0).graphemes(true).rev().collect::<String>())
}

pub(super) fn split(call: &Call<'_>) -> Outcome {
    let (separator, whole) = (call.text(0), call.text(1));
    match separator {
        "" => Ok(Value::texts(whole.chars().map(String::from))),
        separator => Ok(Value::texts(whole.split(separator))),
    }
}

pub(super) fn strlen(call: &Call<'_>) -> Outcome {
    Ok(Value::Number(Number::from(call.text(0).graphemes(true).count())))
}

pub(super) fn substr(call: &Call<'_>) -> Outcome {
    let characters: Vec<&str> = call.text(0).graphemes(true).collect();
    let count = i64::try_from(characters.len()).unwrap_or(i64::MAX);
    let offset = call.whole(1)?;
    // Before the beginning is counted from the end.
    let start = if offset < 0 { offset.saturating_add(count).max(0) } else { offset.min(count) };
    let length = match call.whole(2)? {
        negative if negative < 0 => count,
        length => length,
    };
    let end = start.saturating_add(length).min(count);
    let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
    text(characters[start..end].concat())
}

pub(super) fn trim(call: &Call<'_>) -> Outcome {
    let unwanted: Vec<char> = call.text(1).chars().collect();
    text(call.text(0).trim_matches(unwanted.as_slice()))
}

pub(super) fn trimprefix(call: &Call<'_>) -> Outcome {
    text(call.text(0).strip_prefix(call.text(1)).unwrap_or(call.text(0)))
}

pub(super) fn trimsuffix(call: &Call<'_>) -> Outcome {
    text(call.text(0).strip_suffix(call.text(1)).unwrap_or(call.text(0)))
}

pub(super) fn trimspace(call: &Call<'_>) -> Outcome {
    text(call.text(0).trim())
}

/// Leaves only what names of targets may have.
pub(super) fn sanitize(call: &Call<'_>) -> Outcome {
    let one = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    text(call.text(0).chars().map(one).collect::<String>())
}

pub(super) fn basename(call: &Call<'_>) -> Outcome {
    let path = call.text(0);
    let trimmed = path.trim_end_matches('/');
    text(match (path, trimmed) {
        ("", _) => ".",
        (_, "") => "/",
        (_, trimmed) => trimmed.rsplit('/').next().unwrap_or(trimmed),
    })
}

pub(super) fn dirname(call: &Call<'_>) -> Outcome {
    let path = call.text(0);
    text(clean(path.rsplit_once('/').map_or("", |(folder, _)| if folder.is_empty() { "/" } else { folder })))
}

/// As Go's `path.Clean`.
pub(in crate::bake) fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    match (is_absolute, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

pub(super) fn homedir(call: &Call<'_>) -> Outcome {
    text(&call.surroundings.home)
}

fn pattern(call: &Call<'_>, argument: usize) -> Result<Regex, Wrong> {
    Regex::new(call.text(argument))
        .or_else(|error| at(argument, format!("this is no regular expression: {error}")))
}

/// What a match gives: its groups by name or in their order, or all of it if there are none.
enum Groups {
    None,
    Named,
    Counted,
}

fn groups(pattern: &Regex) -> Result<Groups, Wrong> {
    let names: Vec<Option<&str>> = pattern.capture_names().skip(1).collect();
    match (names.iter().any(Option::is_some), names.iter().any(Option::is_none)) {
        (false, false) => Ok(Groups::None),
        (true, false) => Ok(Groups::Named),
        (false, true) => Ok(Groups::Counted),
        (true, true) => at(0, "groups with and without names cannot be mixed"),
    }
}

fn found(pattern: &Regex, groups: &Groups, captures: &Captures<'_>) -> Value {
    let group = |found: Option<regex_lite::Match<'_>>| {
        found.map_or(Value::Null(Type::Text), |found| Value::text(found.as_str()))
    };
    match groups {
        Groups::None => group(captures.get(0)),
        Groups::Counted => Value::tuple((1..captures.len()).map(|at| group(captures.get(at))).collect()),
        Groups::Named => {
            let names = pattern.capture_names().flatten();
            let named = names.map(|name| (name.to_owned(), group(captures.name(name))));
            Value::object(named.collect::<BTreeMap<_, _>>())
        }
    }
}

pub(super) fn regex(call: &Call<'_>) -> Outcome {
    let pattern = pattern(call, 0)?;
    let groups = groups(&pattern)?;
    call.charge(call.text(1).len() / 4)?;
    match pattern.captures(call.text(1)) {
        Some(captures) => Ok(found(&pattern, &groups, &captures)),
        None => at(0, "the pattern matches nothing in the string"),
    }
}

pub(super) fn regexall(call: &Call<'_>) -> Outcome {
    let pattern = pattern(call, 0)?;
    let groups = groups(&pattern)?;
    call.charge(call.text(1).len() / 4)?;
    let all = pattern.captures_iter(call.text(1)).map(|captures| found(&pattern, &groups, &captures));
    let all: Vec<Value> = all.collect();
    let of = all.first().map_or(Type::Text, Value::type_of);
    Ok(Value::list(of, all))
}

pub(super) fn regex_replace(call: &Call<'_>) -> Outcome {
    let pattern = pattern(call, 1)?;
    let whole = call.text(0);
    call.charge((whole.len() + 1).saturating_mul(call.text(2).len() + 1) / 16)?;
    text(pattern.replace_all(whole, call.text(2)))
}

/// A table whose first row names the columns.
pub(super) fn csvdecode(call: &Call<'_>) -> Outcome {
    let records = records(call.text(0)).or_else(|why| at(0, why))?;
    let mut rows = records.into_iter();
    let Some(header) = rows.next() else { return at(0, "there is no row that names the columns") };
    let mut all = Vec::new();
    for (row, fields) in rows.enumerate() {
        if fields.len() != header.len() {
            let (has, wanted) = (fields.len(), header.len());
            return at(0, format!("row {} has {has} fields, and there are {wanted} columns", row + 1));
        }
        let named = header.iter().cloned().zip(fields.iter().map(Value::text));
        all.push(Value::object(named.collect()));
    }
    let tuple = Value::tuple(all);
    Ok(convert(&tuple, &Type::List(Box::new(Type::Any))).unwrap_or(tuple))
}

/// The records of a text; a field in quotes may have line ends.
fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut records, mut record) = (Vec::new(), String::new());
    for line in text.split_inclusive('\n') {
        record.push_str(line);
        if record.matches('"').count() % 2 == 1 {
            continue;
        }
        let whole = record.trim_end_matches(['\r', '\n']);
        if !whole.is_empty() {
            records.push(crate::text::csv::fields(whole).map_err(|fault| fault.to_string())?);
        }
        record.clear();
    }
    match record.is_empty() {
        true => Ok(records),
        false => Err("a field in quotes does not end".to_owned()),
    }
}

/// The string that any primitive value is.
pub(super) fn printed(value: &Value) -> Result<String, String> {
    text_of(value).map(|text| text.to_string())
}
