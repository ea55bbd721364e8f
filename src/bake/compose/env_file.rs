//! Files of variables: `.env`, and those that `env_file` names.

use std::sync::Arc;

use super::super::fault::Result;
use super::interpolate::text_of;
use crate::report::{Diagnostic, Source, Span};

/// Names and values in their order; `lookup` knows variables that values may name.
pub(super) fn parse(
    source: &Arc<Source>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    let text = source.text.trim_start_matches('\u{feff}');
    let mut at = source.text.len() - text.len();
    while at < source.text.len() {
        let rest = &source.text[at..];
        let line = rest.split('\n').next().unwrap_or(rest);
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            at += line.len() + 1;
            continue;
        }
        let fault = |message: String| {
            let start = at + (line.len() - line.trim_start().len());
            let span = Span::new(start, start + trimmed.len());
            Box::new(Diagnostic::error(message).at(source, span, "this line"))
        };
        let assignment = trimmed.strip_prefix("export ").unwrap_or(trimmed);
        let Some(split) = assignment.find(['=', ':']) else {
            // A name alone is taken from the environment.
            if let Some(value) = lookup(assignment) {
                all.push((assignment.to_owned(), value));
            }
            at += line.len() + 1;
            continue;
        };
        let name = assignment[..split].trim_end();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(fault(format!("`{name}` is no name of a variable")));
        }
        let value_at =
            at + line.len() - line.trim_start().len() + (trimmed.len() - assignment.len()) + split + 1;
        let (raw, length) = raw_value(&source.text[value_at..]).map_err(fault)?;
        let known = |wanted: &str| {
            let own = all.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
            lookup(wanted).or(own)
        };
        let value = match raw {
            Raw::Literal(text) => text,
            Raw::Template(text) => text_of(&text, &known, &mut Vec::new(), 0).map_err(fault)?,
        };
        all.push((name.to_owned(), value));
        at = value_at + length;
        at += source.text[at..].find('\n').map_or(source.text.len() - at, |end| end + 1);
    }
    Ok(all)
}

enum Raw {
    /// From single quotes.
    Literal(String),
    Template(String),
}

/// The value that begins here, and how many bytes of the text it takes.
fn raw_value(text: &str) -> std::result::Result<(Raw, usize), String> {
    let spaces = text.len() - text.trim_start_matches([' ', '\t']).len();
    let value = &text[spaces..];
    if let Some(quoted) = value.strip_prefix('\'') {
        let end = quoted.find('\'').ok_or("a single quote is not closed")?;
        return Ok((Raw::Literal(quoted[..end].to_owned()), spaces + end + 2));
    }
    if let Some(quoted) = value.strip_prefix('"') {
        let mut out = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Ok((Raw::Template(out), spaces + at + 2)),
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some('$') => out.push_str("$$"),
                    Some(c @ ('"' | '\\')) => out.push(c),
                    Some(c) => out.extend(['\\', c]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        return Err("a double quote is not closed".to_owned());
    }
    let line = value.split('\n').next().unwrap_or(value);
    let end = line.find(" #").or_else(|| line.starts_with('#').then_some(0)).unwrap_or(line.len());
    Ok((Raw::Template(line[..end].trim().to_owned()), spaces + line.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let text = "# c\nA=1\nexport B = two # c\nC='$A #'\nD=\"x\\n$A\"\nE=${A}-${N:-d}\nF: y\nG=\nH=\"a\nb\" # c\nI\n";
        let source = Arc::new(Source { name: ".env".to_owned(), text: text.to_owned() });
        let lookup = |name: &str| (name == "I").then(|| "here".to_owned());
        let all = parse(&source, &lookup).expect("variables");
        let shown: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["A=1", "B=two", "C=$A #", "D=x\n1", "E=1-d", "F=y", "G=", "H=a\nb", "I=here"]);
        for text in ["A='x", "A=\"x", "A b=1", "=1", "A=${"] {
            let source = Arc::new(Source { name: ".env".to_owned(), text: text.to_owned() });
            assert!(parse(&source, &|_| None).is_err(), "{text}");
        }
    }
}
