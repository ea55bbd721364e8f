//! `$NAME`, `${NAME:-default}` and their like in strings of compose files.

use std::collections::BTreeMap;

use super::super::fault::Result;
use crate::yaml::{Entry, Node, Yaml};

/// As many `${…}` may be in each other.
const DEPTH: usize = 50;

/// Puts values in the place of variables, in all strings of a node. Variables that are not set are told to `unset`.
pub(super) fn node(
    node: Node,
    environment: &BTreeMap<String, String>,
    unset: &mut Vec<(String, Node)>,
) -> Result<Node> {
    let place = node.with(Yaml::Null);
    let value = match node.value {
        Yaml::Text(text) if text.contains('$') => {
            let mut missing = Vec::new();
            let lookup = |name: &str| environment.get(name).cloned();
            let value = text_of(&text, &lookup, &mut missing, 0);
            let value = value.map_err(|why| place.fault(why, "in this string"))?;
            unset.extend(missing.into_iter().map(|name| (name, place.clone())));
            Yaml::Text(value)
        }
        Yaml::List(elements) => {
            let elements = elements.into_iter().map(|element| self::node(element, environment, unset));
            Yaml::List(elements.collect::<Result<_>>()?)
        }
        Yaml::Map(entries) => {
            let one = |entry: Entry| {
                let value = self::node(entry.value, environment, unset)?;
                Ok(Entry { value, ..entry })
            };
            Yaml::Map(entries.into_iter().map(one).collect::<Result<_>>()?)
        }
        other => other,
    };
    Ok(place.with(value))
}

/// The value of a text; names that are not set are noted.
pub(super) fn text_of(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
) -> std::result::Result<String, String> {
    if depth > DEPTH {
        return Err(format!("more than {DEPTH} `${{…}}` are in each other"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        if let Some(braced) = after.strip_prefix('{') {
            let end = closing(braced).ok_or_else(|| format!("`${{` is not closed in `{text}`"))?;
            out.push_str(&braced_value(&braced[..end], lookup, unset, depth)?);
            rest = &braced[end + 1..];
            continue;
        }
        let length = name_length(after);
        if length == 0 {
            let message = format!("`$` is not followed by a name in `{text}`; write `$$` for a dollar sign");
            return Err(message);
        }
        match lookup(&after[..length]) {
            Some(value) => out.push_str(&value),
            None => unset.push(after[..length].to_owned()),
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    Ok(out)
}

fn name_length(text: &str) -> usize {
    match text.bytes().next() {
        Some(first) if first.is_ascii_alphabetic() || first == b'_' => {
            text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
        }
        _ => 0,
    }
}

/// Where the brace closes that was opened before this text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn braced_value(
    inner: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
) -> std::result::Result<String, String> {
    let (name, rest) = inner.split_at(name_length(inner));
    if name.is_empty() {
        return Err(format!("`${{{inner}}}` begins with no name"));
    }
    let value = lookup(name);
    let (counts_empty, rest) = match rest.strip_prefix(':') {
        Some(after) => (true, after),
        None => (false, rest),
    };
    let is_given = value.as_ref().is_some_and(|value| !(counts_empty && value.is_empty()));
    let mut chars = rest.chars();
    let operator = chars.next();
    let word = chars.as_str();
    match operator {
        None if !counts_empty => Ok(value.unwrap_or_else(|| {
            unset.push(name.to_owned());
            String::new()
        })),
        Some('-') if is_given => Ok(value.unwrap_or_default()),
        Some('-') => text_of(word, lookup, unset, depth + 1),
        Some('+') if is_given => text_of(word, lookup, unset, depth + 1),
        Some('+') => Ok(String::new()),
        Some('?') if is_given => Ok(value.unwrap_or_default()),
        Some('?') => {
            let word = text_of(word, lookup, unset, depth + 1)?;
            Err(match word.is_empty() {
                true => format!("the variable `{name}` has to be set"),
                false => format!("the variable `{name}` has to be set: {word}"),
            })
        }
        _ => Err(format!(
            "`${{{inner}}}` is none of ${{NAME}}, ${{NAME:-WORD}}, ${{NAME:+WORD}} and ${{NAME:?WORD}}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "E" => Some(String::new()),
            _ => None,
        };
        for (text, value) in [
            ("x$A-${A}", "xa-a"),
            ("$$A", "$A"),
            ("${E:-d}${E-d}", "d"),
            ("${N:-${A}}", "a"),
            ("${N-x}${A+y}${E:+z}", "xy"),
            ("${A:?no}", "a"),
            ("$N", ""),
        ] {
            assert_eq!(text_of(text, &lookup, &mut Vec::new(), 0).as_deref(), Ok(value), "{text}");
        }
        for text in ["$", "${", "${A", "${-}", "${A!}", "$(date)", "${N:?why}", "${E:?}"] {
            assert!(text_of(text, &lookup, &mut Vec::new(), 0).is_err(), "{text}");
        }
        let deep = "${N:-".repeat(100) + &"}".repeat(100);
        assert!(text_of(&deep, &lookup, &mut Vec::new(), 0).is_err());
    }
}
