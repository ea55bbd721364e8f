//! Splits an instruction's line into keyword, flags and arguments, and arguments into words.

use std::borrow::Cow;
use std::ops::Range;

use super::lines::Part;

/// The blanks that part words; other Unicode spaces are trimmed at the ends only.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t' | 0xb | 0xc | b'\r' | b' ')
}

/// An instruction before it is known which one.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) keyword: Part<'a>,
    pub(super) flags: Vec<RawFlag<'a>>,
    /// Everything behind the flags, trimmed.
    pub(super) arguments: Part<'a>,
}

/// A word that begins with `--`, quotes and escapes removed.
#[derive(Debug)]
pub(super) struct RawFlag<'a> {
    pub(super) text: Cow<'a, str>,
    /// Where it stands in the line.
    pub(super) range: Range<usize>,
    /// Where its value begins in the line, when it has one.
    pub(super) value_at: Option<usize>,
}

/// A word as written and where it stands in the line.
#[derive(Debug, Clone)]
pub(super) struct RawWord<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) range: Range<usize>,
}

/// Parts the keyword and the flags from the rest.
pub(super) fn header(line: Part<'_>, escape: char) -> Header<'_> {
    let line = line.trim();
    let keyword_length = line.text.bytes().position(is_blank).unwrap_or(line.text.len());
    let keyword = line.slice(0..keyword_length);
    let rest = line.slice(keyword_length..line.text.len()).trim();
    let (flags, end) = leading_flags(rest, escape);
    Header { keyword, flags, arguments: rest.slice(end..rest.text.len()).trim() }
}

/// Flags stand before all arguments; `--` alone ends them.
fn leading_flags(rest: Part<'_>, escape: char) -> (Vec<RawFlag<'_>>, usize) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        at += rest.text[at..].len() - rest.text[at..].trim_start().len();
        if !rest.text[at..].starts_with("--") {
            return (flags, at);
        }
        let (flag, end) = flag(rest, at, escape);
        at = end;
        if flag.text == "--" {
            return (flags, at);
        }
        flags.push(flag);
    }
}

/// Reads one flag; the second value is where it ends within `rest`.
fn flag(rest: Part<'_>, start: usize, escape: char) -> (RawFlag<'_>, usize) {
    let text = &rest.text[start..];
    let special = |c: char| c.is_whitespace() || c == '\'' || c == '"' || c == escape;
    let length = text.find(special).unwrap_or(text.len());
    if !text[length..].chars().next().is_none_or(char::is_whitespace) {
        return quoted_flag(rest, start, escape);
    }
    let text = &text[..length];
    let value_at = text.find('=').map(|equals| rest.at + start + equals + 1);
    let end = start + length;
    (RawFlag { text: Cow::Borrowed(text), range: rest.at + start..rest.at + end, value_at }, end)
}

/// As [`flag`], where quotes and escapes must be removed.
fn quoted_flag(rest: Part<'_>, start: usize, escape: char) -> (RawFlag<'_>, usize) {
    let mut text = String::new();
    let mut value_at = None;
    let mut quote = None;
    let mut chars = rest.text[start..].char_indices();
    let mut end = rest.text.len();
    while let Some((offset, c)) = chars.next() {
        let position = start + offset;
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                end = position;
                break;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (_, c) if c == escape => text.extend(chars.next().map(|(_, escaped)| escaped)),
            (_, c) => {
                if c == '=' && value_at.is_none() {
                    value_at = Some(rest.at + position + 1);
                }
                text.push(c);
            }
        }
    }
    (RawFlag { text: Cow::Owned(text), range: rest.at + start..rest.at + end, value_at }, end)
}

fn raw_word(rest: Part<'_>, range: Range<usize>) -> RawWord<'_> {
    let word = rest.slice(range);
    RawWord { text: Cow::Borrowed(word.text), range: word.range() }
}

/// Words parted by blanks, without regard to quotes.
pub(super) fn blank_words(rest: Part<'_>) -> Vec<RawWord<'_>> {
    let mut words = Vec::new();
    let mut at = 0;
    for piece in rest.text.as_bytes().split(|byte| is_blank(*byte)) {
        if !piece.is_empty() {
            words.push(raw_word(rest, at..at + piece.len()));
        }
        at += piece.len() + 1;
    }
    words
}

/// The first word and what follows it, blanks between them removed.
pub(super) fn first_word(rest: Part<'_>) -> (Part<'_>, Option<Part<'_>>) {
    match rest.text.bytes().position(is_blank) {
        None => (rest, None),
        Some(end) => {
            let blanks = rest.text[end..].bytes().take_while(|byte| is_blank(*byte)).count();
            (rest.slice(0..end), Some(rest.slice(end + blanks..rest.text.len())))
        }
    }
}

/// Words parted by blanks outside of quotes; quotes and escapes stay (ENV, LABEL, ARG).
pub(super) fn quoted_words(rest: Part<'_>, escape: char) -> Vec<RawWord<'_>> {
    let mut words = Vec::new();
    let mut current: Option<Range<usize>> = None;
    let mut quote = None;
    let mut chars = rest.text.char_indices().peekable();
    while let Some((offset, c)) = chars.next() {
        if c.is_ascii_alphanumeric() {
            current.get_or_insert(offset..offset).end = offset + 1;
            continue;
        }
        if quote.is_none() && c.is_whitespace() {
            words.extend(current.take().map(|range| raw_word(rest, range)));
            continue;
        }
        let escapes = c == escape && quote != Some('\'');
        if escapes && chars.peek().is_none() {
            // An escape at the very end vanishes.
            continue;
        }
        let word = current.get_or_insert(offset..offset);
        word.end = offset + c.len_utf8();
        match (quote, c) {
            _ if escapes => {
                if let Some((offset, escaped)) = chars.next() {
                    word.end = offset + escaped.len_utf8();
                }
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    words.extend(current.map(|range| raw_word(rest, range)));
    words
}
