//! Physical lines to logical ones: continuations joined, comments set aside, here-documents read.
//!
//! A logical line remembers where each of its pieces came from, so that any part of it has a span.

use std::borrow::Cow;
use std::ops::Range;

use super::MAX_WARNINGS;
use super::syntax::{SyntaxWarning, SyntaxWarningKind, Word};
use crate::report::Span;

/// One instruction's text.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Joined text, without what continues it; a line that is not continued is the source's own.
    pub(super) text: Cow<'a, str>,
    /// Where the text begins in the source.
    start: usize,
    /// Where further pieces of the text begin: offset in the text, offset in the source. Ascending.
    pieces: Vec<(usize, usize)>,
    /// Comment lines directly above, without their `#`, joined by newlines.
    pub(super) comment: String,
    /// From its first character to the end of its last physical line.
    pub(super) span: Span,
}

impl Line<'_> {
    /// Where a range of the text stands in the source.
    pub(super) fn span_of(&self, range: Range<usize>) -> Span {
        let start = self.source_offset(range.start);
        if range.is_empty() {
            return Span::new(start, start);
        }
        // The end follows from the last byte: the next one may belong to another physical line.
        Span::new(start, self.source_offset(range.end - 1) + 1)
    }

    fn source_offset(&self, offset: usize) -> usize {
        let count = self.pieces.partition_point(|(start, _)| *start <= offset);
        let (start, source) = self.pieces[..count].last().copied().unwrap_or((0, self.start));
        source + offset - start
    }

    /// A word that differs from what stands at `range`, such as one whose quotes were removed.
    pub(super) fn word(&self, text: impl Into<String>, range: Range<usize>) -> Word {
        Word { text: text.into(), span: self.span_of(range) }
    }
}

/// A part of a [`Line`]'s text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    /// The text.
    pub(super) text: &'a str,
    /// Where it begins in the line.
    pub(super) at: usize,
}

impl<'a> Part<'a> {
    pub(super) fn range(self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    pub(super) fn slice(self, range: Range<usize>) -> Part<'a> {
        Part { at: self.at + range.start, text: &self.text[range] }
    }

    pub(super) fn trim(self) -> Part<'a> {
        // Most parts have nothing to trim.
        if let [first, .., last] = self.text.as_bytes()
            && first.is_ascii_graphic()
            && last.is_ascii_graphic()
        {
            return self;
        }
        let start = self.text.len() - self.text.trim_start().len();
        self.slice(start..start + self.text.trim().len())
    }
}

/// What a here-document's marker asks the reader for.
#[derive(Debug)]
pub(super) struct Terminator<'a> {
    pub(super) name: &'a str,
    /// `<<-`: tabs may precede the terminator.
    pub(super) tabs: bool,
}

/// Hands out logical lines one after another.
pub(super) struct Reader<'a> {
    source: &'a str,
    at: usize,
    escape: char,
    pub(super) warnings: Vec<SyntaxWarning>,
}

impl<'a> Reader<'a> {
    /// Begins at byte `at`, behind the parser directives.
    pub(super) fn new(source: &'a str, at: usize, escape: char) -> Self {
        Self { source, at, escape, warnings: Vec::new() }
    }

    /// The next physical line with its newline, and where it begins.
    fn physical(&mut self) -> Option<(usize, &'a str)> {
        let start = self.at;
        let rest = &self.source[start..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        self.at += length;
        Some((start, &rest[..length]))
    }

    /// The next instruction, or `None` at the end.
    pub(super) fn next_line(&mut self) -> Option<Line<'a>> {
        let mut comments: Vec<&str> = Vec::new();
        loop {
            let (start, raw) = self.physical()?;
            let content = without_newline(raw);
            let trimmed = content.trim_start();
            if let Some(comment) = trimmed.strip_prefix('#') {
                match comment.trim() {
                    // A bare `#` parts what stands above it from the instruction.
                    "" => comments.clear(),
                    comment => comments.push(comment),
                }
                continue;
            }
            let start = start + content.len() - trimmed.len();
            let (text, continues) = self.continuation(trimmed);
            if text.is_empty() && !continues {
                continue;
            }
            let mut line = Line {
                text: Cow::Borrowed(text),
                start,
                pieces: Vec::new(),
                comment: comments.join("\n"),
                span: Span::new(start, start + trimmed.len()),
            };
            if continues {
                self.join(&mut line);
            }
            return Some(line);
        }
    }

    /// Appends continuing lines. Their leading blanks belong to the text; comments and empty lines do
    /// not end it.
    fn join(&mut self, line: &mut Line<'a>) {
        let mut joined = String::with_capacity(line.text.len() + 256);
        joined.push_str(&line.text);
        line.pieces.reserve(8);
        let (mut first_empty, mut last) = (None, line.span);
        while let Some((start, raw)) = self.physical() {
            let content = without_newline(raw);
            last = Span::new(start, start + content.len());
            let trimmed = content.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                first_empty = first_empty.or(Some(last));
                continue;
            }
            let (text, continues) = self.continuation(content);
            line.pieces.push((joined.len(), start));
            joined.push_str(text);
            line.span.end = Span::new(0, start + content.len()).end;
            if !continues {
                break;
            }
        }
        line.text = Cow::Owned(joined);
        if let Some(empty) = first_empty {
            self.warn_empty(empty, last);
        }
    }

    fn warn_empty(&mut self, empty: Span, span: Span) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(SyntaxWarning { kind: SyntaxWarningKind::EmptyContinuation { empty }, span });
        }
    }

    /// The text without a final escape and the blanks behind it, and whether there was one. A doubled
    /// escape does not continue.
    fn continuation<'t>(&self, text: &'t str) -> (&'t str, bool) {
        match text.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest, true),
            _ => (text, false),
        }
    }

    /// Reads the body of a here-document behind the current line. `None`: its terminator never comes;
    /// everything was read.
    pub(super) fn heredoc(&mut self, terminator: &Terminator<'_>) -> Option<&'a str> {
        let start = self.at;
        while let Some((line_start, raw)) = self.physical() {
            let mut candidate = without_newline(raw);
            if terminator.tabs {
                candidate = candidate.trim_start_matches('\t');
            }
            if candidate == terminator.name {
                return Some(&self.source[start..line_start]);
            }
        }
        None
    }

    /// Where the reader stands: the end of the physical line read last, without its newline.
    pub(super) fn end(&self) -> usize {
        without_newline(&self.source[..self.at]).len()
    }
}

/// Without all line feeds and carriage returns at the end.
pub(super) fn without_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}
