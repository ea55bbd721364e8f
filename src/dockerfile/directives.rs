//! Parser directives: `# syntax=`, `# escape=` and `# check=` in the first lines.
//!
//! `syntax` is also found behind `//` and in a JSON object, because a file that names another frontend
//! need not be a Dockerfile at all.

use std::sync::Arc;

use super::lines::without_newline;
use super::syntax::{CheckDirective, Directives, Word};
use crate::report::{Diagnostic, Source, Span};
use crate::text::boolean;

/// What the first lines say.
pub(super) struct Preamble {
    pub(super) directives: Directives,
    /// Where the instructions (and ordinary comments) begin.
    pub(super) body: usize,
    pub(super) errors: Vec<Diagnostic>,
    /// The escape was given and is none, so that reading on would only mislead.
    pub(super) escape_unknown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Syntax,
    Escape,
    Check,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        [Name::Syntax, Name::Escape, Name::Check].into_iter().find(|n| n.text().eq_ignore_ascii_case(name))
    }

    fn text(self) -> &'static str {
        match self {
            Name::Syntax => "syntax",
            Name::Escape => "escape",
            Name::Check => "check",
        }
    }
}

/// `name = value` of one comment line.
struct Directive<'a> {
    name: Name,
    value: &'a str,
    span: Span,
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads the directives. Faults are collected; the defaults then stand.
pub(super) fn read(source: &Arc<Source>) -> Preamble {
    let text = source.text.as_str();
    let start = text.len() - text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).len();
    let mut reader = Collector { source, found: Vec::new(), errors: Vec::new() };
    let body = reader.collect(start, "#");
    if body == start && text[start..].starts_with("#!") {
        // BuildKit looks behind a shebang line for `check` and `syntax`, though not for `escape`.
        let behind = text[start..].find('\n').map_or(text.len(), |newline| start + newline + 1);
        reader.collect(behind, "#");
        reader.found.retain(|directive| directive.name != Name::Escape);
        reader.errors.clear();
    }
    let foreign = || foreign_syntax(source, start);
    let Collector { found, mut errors, .. } = reader;
    let find = |name| found.iter().find(|directive| directive.name == name);
    let syntax = find(Name::Syntax).map(|found| word(first_field(found.value), found.span)).or_else(foreign);
    let escape = match find(Name::Escape) {
        None | Some(Directive { value: "\\", .. }) => Some('\\'),
        Some(Directive { value: "`", .. }) => Some('`'),
        Some(other) => {
            errors.push(bad_escape(source, other));
            None
        }
    };
    let check = find(Name::Check).and_then(|found| match check(first_field(found.value), found.span) {
        Ok(check) => Some(check),
        Err(message) => {
            let message = format!("failed to parse check options: {message}");
            errors.push(Diagnostic::error(message).at(source, found.span, "bad check directive"));
            None
        }
    });
    let directives = Directives { syntax, escape: escape.unwrap_or('\\'), check };
    errors.sort_by_key(|error| error.labels.first().map(|label| label.span.start));
    errors.truncate(super::MAX_ERRORS);
    Preamble { directives, body, errors, escape_unknown: escape.is_none() }
}

fn bad_escape(source: &Arc<Source>, directive: &Directive<'_>) -> Diagnostic {
    let message = format!("invalid escape token `{}`", super::excerpt(directive.value));
    Diagnostic::error(message)
        .at(source, directive.span, "neither a backslash nor a backtick")
        .help("write `# escape=\\` or ``# escape=` ``")
}

fn word(text: &str, span: Span) -> Word {
    Word { text: text.to_owned(), span }
}

fn first_field(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}

/// Collects directives from consecutive lines.
struct Collector<'a> {
    source: &'a Arc<Source>,
    found: Vec<Directive<'a>>,
    errors: Vec<Diagnostic>,
}

impl<'a> Collector<'a> {
    /// Reads from byte `at` up to the first line that is no directive, and returns where that begins.
    fn collect(&mut self, mut at: usize, comment: &str) -> usize {
        let text: &'a str = &self.source.text;
        loop {
            let line = text[at..].split_inclusive('\n').next().unwrap_or_default();
            let Some(directive) = directive(line, at, comment) else { return at };
            at += line.len();
            if self.found.iter().any(|earlier| earlier.name == directive.name) {
                let message = format!("only one {} parser directive can be used", directive.name.text());
                self.errors.push(Diagnostic::error(message).at(self.source, directive.span, "a second one"));
            } else {
                self.found.push(directive);
            }
        }
    }
}

/// Reads one line, its newline included, that begins at byte `at`.
fn directive<'a>(line: &'a str, at: usize, comment: &str) -> Option<Directive<'a>> {
    let content = without_newline(line);
    let (name, value) = content.trim_start().strip_prefix(comment)?.trim_start().split_once('=')?;
    let name = Name::parse(name.trim_end_matches(SPACES))?;
    let value = value.trim_matches(SPACES);
    let start = at + content.len() - content.trim_start().len();
    let span = Span::new(start, at + content.trim_end().len());
    (!value.is_empty()).then_some(Directive { name, value, span })
}

const SPACES: [char; 5] = ['\t', '\n', '\u{c}', '\r', ' '];

/// `// syntax=…` or `{"syntax": "…"}`.
fn foreign_syntax(source: &Arc<Source>, start: usize) -> Option<Word> {
    let mut reader = Collector { source, found: Vec::new(), errors: Vec::new() };
    reader.collect(start, "//");
    if let Some(found) = reader.found.iter().find(|directive| directive.name == Name::Syntax) {
        return Some(word(first_field(found.value), found.span));
    }
    let text = source.text[start..].trim();
    if !text.starts_with('{') {
        return None;
    }
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(word(json.get("syntax")?.as_str()?, Span::new(start, start + text.len())))
}

/// What a `# check=` of these options would say, from elsewhere than the file. The error says what is wrong with them.
pub fn check_options(options: &str) -> Result<CheckDirective, String> {
    check(options, Span::default())
}

/// Reads `skip=A,B;error=true;experimental=C`.
pub(super) fn check(options: &str, span: Span) -> Result<CheckDirective, String> {
    let mut check = CheckDirective { skip: Vec::new(), error: false, experimental: Vec::new(), span };
    if options.trim().is_empty() {
        return Ok(check);
    }
    for option in options.trim().splitn(3, ';') {
        let invalid = || format!("invalid check option `{}`", super::excerpt(option));
        let (key, value) = option.split_once('=').ok_or_else(invalid)?;
        let names = || value.split(',').map(|rule| rule.trim().to_owned()).collect();
        match key.trim() {
            "skip" => check.skip = names(),
            "experimental" => check.experimental = names(),
            "error" => check.error = boolean(value.trim()).ok_or_else(invalid)?,
            _ => return Err(invalid()),
        }
    }
    Ok(check)
}
