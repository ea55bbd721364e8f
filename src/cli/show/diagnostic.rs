//! Draws a diagnostic with the lines it speaks of.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::report::{Diagnostic, Severity, Source};
use crate::text::terminal::{columns, for_people, is_unsafe, printable};
use crate::text::url::user_infos;

/// Lines longer than this are cut around the place, so that a generated Dockerfile cannot flood a terminal.
const LONGEST_LINE: usize = 400;
/// So many columns stand before a mark at least when the line is cut before it.
const DOTS: usize = 8;

/// The diagnostic as text, with a newline at the end.
pub(in crate::cli) fn render(diagnostic: &Diagnostic, color: bool) -> String {
    render_within(diagnostic, color, None)
}

/// As [`render`], for a stream that may be a terminal: then the lines of the source, and what underlines them, do not wrap.
pub(in crate::cli) fn render_for(
    stream: &(impl IsTerminal + AsFd),
    diagnostic: &Diagnostic,
    color: bool,
) -> String {
    let size =
        rustix::termios::tcgetwinsize(stream).ok().filter(|size| size.ws_col > 0 && stream.is_terminal());
    render_within(diagnostic, color, size.map(|size| usize::from(size.ws_col)))
}

/// As [`render`], where a terminal has so many columns.
pub(in crate::cli) fn render_within(diagnostic: &Diagnostic, color: bool, width: Option<usize>) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = match diagnostic.code {
        Some(code) => format!("{} ({code})", for_people(&diagnostic.message)),
        None => for_people(&diagnostic.message),
    };
    let mut excerpt = diagnostic.source.as_ref().and_then(|source| Excerpt::of(source, diagnostic));
    let moved = excerpt.as_mut().zip(width).map(|(excerpt, width)| excerpt.fit(width)).unwrap_or_default();
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
    for text in moved {
        group = group.element(Level::NOTE.message(text));
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(for_people(note)));
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(for_people(help)));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = match width {
        Some(width) => renderer.term_width(width),
        None => renderer,
    };
    let text = renderer.render(&[group]);
    let mut out = String::with_capacity(text.len() + 1);
    // Notes may have lines of any look: an excerpt begins once, and notes end it.
    let (mut has_begun, mut has_ended) = (false, excerpt.is_none());
    for line in text.lines() {
        let plain = printable(line);
        let plain = plain.trim();
        has_ended |= plain.starts_with("= ");
        // Without an excerpt there is nothing that an empty gutter would part from the help.
        if excerpt.is_none() && plain == "|" {
            continue;
        }
        match width.filter(|_| has_begun && !has_ended) {
            Some(width) => out.push_str(&clipped(line, width)),
            None => out.push_str(line),
        }
        has_begun |= plain.starts_with("--> ");
        out.push('\n');
    }
    out
}

/// As much of a line, which may have colours, as fits into so many columns.
fn clipped(line: &str, width: usize) -> Cow<'_, str> {
    if columns(line) <= width {
        return line.into();
    }
    let (mut out, mut used) = (String::with_capacity(line.len()), 0);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            out.push(c);
            for c in chars.by_ref() {
                out.push(c);
                if c == 'm' {
                    break;
                }
            }
            continue;
        }
        used += columns(c.encode_utf8(&mut [0; 4]));
        if used <= width {
            out.push(c);
        }
    }
    out.into()
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

    /// Shortens what is underlined, so that it and the words behind it fit into so many columns; gives the words that cannot.
    fn fit(&mut self, width: usize) -> Vec<String> {
        let last_line = self.line + self.text.lines().count();
        let width = width.saturating_sub(last_line.to_string().len() + 3);
        let mut moved = Vec::new();
        for (range, text) in &mut self.marks {
            let marked = &self.text[range.clone()];
            // What spans lines has a bar before them, and its words at its end; before a mark within a line that is cut there are dots.
            let is_first = range.start == 0 || self.text.as_bytes()[range.start - 1] == b'\n';
            let before = if is_first { 0 } else { DOTS };
            let (least, can_end) = match marked.rsplit_once('\n') {
                Some((_, last)) => (columns(last) + 3, false),
                None => (before + 1, true),
            };
            if !text.is_empty() && least + 1 + columns(text) > width {
                moved.push(std::mem::take(text));
            }
            let words = if text.is_empty() { 0 } else { columns(text) + 1 };
            let room = width.saturating_sub(before + words).max(1);
            if let Some((end, _)) = marked.char_indices().nth(room).filter(|_| can_end) {
                range.end = range.start + end;
            }
        }
        moved
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
    fn no_line_of_the_source_wraps_on_a_narrow_terminal() {
        let text = format!("FROM x\nRUN {}\nRUN a \\\n {}\n", "make all ".repeat(20), "b".repeat(90));
        let source = Arc::new(Source { name: "Dockerfile".to_owned(), text: text.clone() });
        let lines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let long = "words that are so many that they do not fit behind anything";
        for (span, label) in [
            (Span::new(lines[0] + 1, lines[1]), "exit code: 1"),
            (Span::new(lines[0] + 1, lines[1]), long),
            (Span::new(lines[0] + 150, lines[0] + 160), "here"),
            (Span::new(lines[1] + 1, lines[3]), "exit code: 1"),
            (Span::new(lines[0] + 1, lines[1]), ""),
        ] {
            let told = Diagnostic::error("x").at(&source, span, label).note("n ".repeat(40));
            for (color, width) in [(false, 40), (true, 40), (false, 12)] {
                let shown = render_within(&told, color, Some(width));
                let excerpt = shown.lines().skip(2).take_while(|line| !printable(line).contains("= note"));
                for line in excerpt {
                    assert!(columns(line) <= width, "{width}: {line}\n{shown}");
                }
                let plain: Vec<_> = shown.lines().map(|line| printable(line).into_owned()).collect();
                assert!(plain.iter().any(|line| line.contains(label)), "{shown}");
                assert!(plain.iter().any(|line| line.contains(&"n ".repeat(40))), "{shown}");
                let is_marked =
                    |line: &String| line.contains('^') || line.contains(" / ") || line.contains("/ RUN");
                assert!(plain.iter().any(is_marked), "{shown}");
            }
            // Elsewhere nothing is cut.
            assert!(render(&told, false).lines().any(|line| columns(line) > 80));
        }
    }

    #[test]
    fn long_lines_are_cut() {
        let text = format!("RUN {} biuld", "x".repeat(100_000));
        assert!(show(&text, "RUN").len() < 2000);
    }
}
