//! Splits an instruction's line into keyword, flags and arguments, and arguments into words.

use std::ops::Range;

use super::lines::Part;

/// The blanks that part words; other Unicode spaces are trimmed at the ends only.
const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// An instruction before it is known which one.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) keyword: Part<'a>,
    pub(super) flags: Vec<RawFlag>,
    /// Everything behind the flags, trimmed.
    pub(super) arguments: Part<'a>,
}

/// A word that begins with `--`, quotes and escapes removed.
#[derive(Debug)]
pub(super) struct RawFlag {
    pub(super) text: String,
    /// Where it stands in the line.
    pub(super) range: Range<usize>,
    /// Where its value begins in the line, when it has one.
    pub(super) value_at: Option<usize>,
}

/// A word as written and where it stands in the line.
#[derive(Debug, Clone)]
pub(super) struct RawWord {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

/// Parts the keyword and the flags from the rest.
pub(super) fn header(line: Part<'_>, escape: char) -> Header<'_> {
    let line = line.trim();
    let keyword_length = line.text.find(BLANKS).unwrap_or(line.text.len());
    let keyword = line.slice(0..keyword_length);
    let rest = line.slice(keyword_length..line.text.len()).trim();
    let (flags, end) = leading_flags(rest, escape);
    Header { keyword, flags, arguments: rest.slice(end..rest.text.len()).trim() }
}

/// Flags stand before all arguments; `--` alone ends them.
fn leading_flags(rest: Part<'_>, escape: char) -> (Vec<RawFlag>, usize) {
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
fn flag(rest: Part<'_>, start: usize, escape: char) -> (RawFlag, usize) {
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
    (RawFlag { text, range: rest.at + start..rest.at + end, value_at }, end)
}

/// Words parted by blanks, without regard to quotes.
pub(super) fn blank_words(rest: Part<'_>) -> Vec<RawWord> {
    let mut words = Vec::new();
    let mut at = 0;
    for piece in rest.text.split(BLANKS) {
        if !piece.is_empty() {
            let start = rest.at + at;
            words.push(RawWord { text: piece.to_owned(), range: start..start + piece.len() });
        }
        at += piece.len() + 1;
    }
    words
}

/// The first word and what follows it, blanks between them removed.
pub(super) fn first_word(rest: Part<'_>) -> (Part<'_>, Option<Part<'_>>) {
    match rest.text.find(BLANKS) {
        None => (rest, None),
        Some(end) => {
            let tail = rest.text[end..].trim_start_matches(BLANKS);
            (rest.slice(0..end), Some(rest.slice(rest.text.len() - tail.len()..rest.text.len())))
        }
    }
}

/// Words parted by blanks outside of quotes; quotes and escapes stay (ENV, LABEL, ARG).
pub(super) fn quoted_words(rest: Part<'_>, escape: char) -> Vec<RawWord> {
    let mut words = Vec::new();
    let mut current = RawWord { text: String::new(), range: 0..0 };
    let mut quote = None;
    let mut chars = rest.text.char_indices().peekable();
    while let Some((offset, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            finish(&mut current, &mut words);
            continue;
        }
        if current.text.is_empty() {
            current.range.start = rest.at + offset;
        }
        let escapes = c == escape && quote != Some('\'');
        if escapes && chars.peek().is_none() {
            // An escape at the very end vanishes.
            continue;
        }
        current.text.push(c);
        current.range.end = rest.at + offset + c.len_utf8();
        match (quote, c) {
            _ if escapes => {
                if let Some((offset, escaped)) = chars.next() {
                    current.text.push(escaped);
                    current.range.end = rest.at + offset + escaped.len_utf8();
                }
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    finish(&mut current, &mut words);
    words
}

fn finish(current: &mut RawWord, words: &mut Vec<RawWord>) {
    if !current.text.is_empty() {
        words.push(std::mem::replace(current, RawWord { text: String::new(), range: 0..0 }));
    }
}
