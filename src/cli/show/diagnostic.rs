//! Draws a diagnostic with the lines it speaks of.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::report::{Diagnostic, Severity, Source};
use crate::text::terminal::{for_people, is_unsafe};
use crate::text::url::user_infos;

/// Lines longer than this are cut around the place, so that a generated Dockerfile cannot flood a terminal.
const LONGEST_LINE: usize = 400;

/// The diagnostic as text, with a newline at the end.
pub(in crate::cli) fn render(diagnostic: &Diagnostic, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = match diagnostic.code {
        Some(code) => format!("{} ({code})", for_people(&diagnostic.message)),
        None => for_people(&diagnostic.message),
    };
    let excerpt = diagnostic.source.as_ref().and_then(|source| Excerpt::of(source, diagnostic));
    let mut group = Group::with_title(level.primary_title(title));
    if let (Some(excerpt), Some(source)) = (&excerpt, &diagnostic.source) {
        let name = for_people(&source.name);
        let mut snippet = Snippet::source(excerpt.text.as_str()).path(name).line_start(excerpt.line);
        for (i, (range, text)) in excerpt.marks.iter().enumerate() {
            let kind = if i == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let mark = kind.span(range.clone());
            snippet = snippet.annotation(if text.is_empty() { mark } else { mark.label(text.as_str()) });
        }
        group = group.element(snippet);
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(for_people(note)));
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(for_people(help)));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let text = renderer.render(&[group]);
    let mut out = String::with_capacity(text.len() + 1);
    for line in text.lines() {
        // Without an excerpt there is nothing that an empty gutter would part from the help.
        if excerpt.is_some() || !is_empty_gutter(line) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Whether a line is `  |`, whatever its colours.
fn is_empty_gutter(line: &str) -> bool {
    let mut chars = line.chars();
    let mut rest = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => while chars.next().is_some_and(|c| c != 'm') {},
            c => rest.push(c),
        }
    }
    rest.trim() == "|"
}

/// The part of a source that a diagnostic shows.
struct Excerpt {
    text: String,
    line: usize,
    marks: Vec<(std::ops::Range<usize>, String)>,
}

impl Excerpt {
    /// The lines of all labels, without carriage returns and control characters. `None` without labels.
    fn of(source: &Source, diagnostic: &Diagnostic) -> Option<Self> {
        let text = &source.text;
        let first = diagnostic.labels.iter().map(|l| l.span.start as usize).min()?.min(text.len());
        let last =
            diagnostic.labels.iter().map(|l| (l.span.end as usize).max(l.span.start as usize)).max()?;
        let last = last.min(text.len());
        let bytes = text.as_bytes();
        let start = bytes[..first].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        // A span may end behind its line's newline; the next line is not meant then.
        let end_from = if last > first && bytes[last - 1] == b'\n' { last - 1 } else { last };
        let end = bytes[end_from..].iter().position(|b| *b == b'\n').map_or(text.len(), |i| end_from + i);
        let mut excerpt =
            Self { text: String::new(), line: source.line_column(start as u32).0, marks: Vec::new() };
        let mut positions = Vec::with_capacity(end - start + 1);
        let mut column = 0;
        let secrets = user_infos(&text[start..end]);
        let mut secrets = secrets.iter().peekable();
        for (offset, c) in text[start..end].char_indices() {
            positions.resize(offset + 1, excerpt.text.len());
            column = if c == '\n' { 0 } else { column + 1 };
            while secrets.next_if(|secret| secret.end <= offset).is_some() {}
            let hidden = secrets.peek().filter(|secret| secret.contains(&offset));
            match c {
                _ if hidden.is_some_and(|secret| offset > secret.start) => {}
                _ if hidden.is_some() => excerpt.text.push_str("xxxxx"),
                '\r' | '\u{feff}' => {}
                _ if column > LONGEST_LINE => {}
                '\n' | '\t' => excerpt.text.push(c),
                _ if is_unsafe(c) => excerpt.text.push('\u{fffd}'),
                _ => excerpt.text.push(c),
            }
        }
        positions.resize(end - start + 1, excerpt.text.len());
        let place = |offset: u32| positions[(offset as usize).clamp(start, end) - start];
        for label in &diagnostic.labels {
            let (from, to) = (place(label.span.start), place(label.span.end));
            excerpt.marks.push((from..to.max(from), for_people(&label.text)));
        }
        Some(excerpt)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::Span;
    use std::sync::Arc;

    fn show(text: &str, at: &str) -> String {
        let source = Arc::new(Source { name: "Dockerfile".to_owned(), text: text.to_owned() });
        let start = text.find(at).unwrap();
        let diagnostic = Diagnostic::error("no earlier stage is named `biuld`")
            .at(&source, Span::new(start, start + at.len()), "unknown stage")
            .help("did you mean `build`, defined on line 1?");
        render(&diagnostic, false)
    }

    #[test]
    fn points_at_the_token() {
        let text = show("FROM a AS build\nFROM b\nCOPY --from=biuld /app /app\n", "biuld");
        assert_eq!(
            text,
            "\
error: no earlier stage is named `biuld`
 --> Dockerfile:3:13
  |
3 | COPY --from=biuld /app /app
  |             ^^^^^ unknown stage
  |
  = help: did you mean `build`, defined on line 1?
"
        );
    }

    #[test]
    fn carriage_returns_and_control_characters_do_not_shift_the_mark() {
        let text = show("FROM x\r\nRUN \u{1b}[31m biuld\r\nRUN y\r\n", "biuld");
        assert!(text.contains("2 | RUN \u{fffd}[31m biuld\n  |           ^^^^^ unknown stage"), "{text}");
    }

    #[test]
    fn a_place_past_the_end_is_no_panic() {
        let source = Arc::new(Source { name: "D".to_owned(), text: "é".to_owned() });
        for span in [Span::new(0, 9), Span::new(1, 1), Span::new(7, 9)] {
            let diagnostic = Diagnostic::error("x").at(&source, span, "y");
            assert!(render(&diagnostic, false).contains("error: x"));
        }
    }

    #[test]
    fn a_password_is_not_shown_and_the_mark_stays_in_place() {
        let text = show("FROM x\nADD https://me:geheim@h/x biuld\n", "biuld");
        assert!(!text.contains("geheim"), "{text}");
        assert!(text.contains("2 | ADD https://xxxxx@h/x biuld\n  |                       ^^^^^"), "{text}");
    }

    #[test]
    fn long_lines_are_cut() {
        let text = format!("RUN {} biuld", "x".repeat(100_000));
        assert!(show(&text, "RUN").len() < 2000);
    }
}
