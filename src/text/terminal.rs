//! Makes text that strangers wrote fit to be shown: Dockerfiles, images and registries may say anything.

use std::borrow::Cow;

use super::url::without_passwords;

/// A word of a message that is longer is cut in its middle.
const LONGEST_WORD: usize = 400;
/// So is a whole text; the last lines of a command's output fit.
const LONGEST_TEXT: usize = 16 << 10;

/// Whether a terminal does something else with `c` than show it: control characters of either set, and what turns the
/// direction of writing, by which a line can be made to read as another. Tabs and line breaks are harmless.
pub fn is_unsafe(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && c != '\t' && c != '\n')
}

/// `text` with U+FFFD in the place of what [`is_unsafe`].
pub fn harmless(text: &str) -> Cow<'_, str> {
    match text.contains(is_unsafe) {
        true => text.chars().map(|c| if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c }).collect(),
        false => text.into(),
    }
}

/// JSON with what [`is_unsafe`] written as `\u009b`: the same value, and nothing for a terminal to act on.
pub fn harmless_json(json: String) -> String {
    if !json.contains(is_unsafe) {
        return json;
    }
    // Outside of strings there is no such character.
    json.chars().fold(String::with_capacity(json.len() + 64), |mut out, c| {
        match is_unsafe(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
        out
    })
}

/// A message, or a part of one: without passwords and what is no text, and of bounded length.
pub fn for_people(text: &str) -> String {
    let text = without_passwords(text);
    let mut out = String::with_capacity(text.len().min(LONGEST_TEXT));
    for word in text.split_inclusive(char::is_whitespace) {
        out.push_str(&shortened(&harmless(word), LONGEST_WORD));
    }
    shortened(&out, LONGEST_TEXT).into_owned()
}

/// The beginning and the end of a text of more than `longest` characters.
fn shortened(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return text.into();
    }
    let count = text.chars().count();
    if count <= longest {
        return text.into();
    }
    let end = longest / 4;
    let head: String = text.chars().take(longest - end - 1).collect();
    let tail: String = text.chars().skip(count - end).collect();
    (head + "…" + &tail).into()
}

/// As much of `text`, which has no colours, as fits into `width` columns; when something is left out, the last is `…`.
pub fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return text.into();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += columns_of(*c);
        used < width
    };
    let kept: String = text.chars().take_while(fits).collect();
    if width == 0 { "".into() } else { (kept + "…").into() }
}

/// How many columns a terminal needs for `text`; colours need none.
pub fn columns(text: &str) -> usize {
    let mut chars = text.chars().peekable();
    let mut sum = 0;
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            c => sum += columns_of(c),
        }
    }
    sum
}

/// East Asian wide characters and emoji take two columns, combining marks none (Unicode, annex 11, by blocks).
fn columns_of(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// What a terminal shows of a line in which `\r` goes back to the beginning, as progress bars do: what was written last.
pub fn last_written(line: &str) -> &str {
    line.rsplit('\r').find(|piece| !piece.is_empty()).unwrap_or_default()
}

/// `text`, which is one line, without control characters other than tabs and without what turns the direction of writing:
/// a step's output cannot move the cursor.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    // What a terminal would show of `10%\r20%\r30%` is the last piece.
    let last = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(last.len());
    let mut chars = last.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            skip_escape(&mut chars);
        } else if !is_unsafe(c) {
            out.push(c);
        }
    }
    out.into()
}

/// Skips the rest of an ANSI escape sequence whose ESC was just read.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
        Some(']') => while chars.next().is_some_and(|c| c != '\u{7}' && c != '\u{9c}') {},
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_stays() {
        let text = "a\u{1b}[2J\u{7f}\u{9b}b\r\u{202e}c\u{2066}\td\n";
        assert_eq!(harmless(text), "a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}\u{fffd}c\u{fffd}\td\n");
        let json = serde_json::Value::String(text.to_owned());
        let shown = harmless_json(json.to_string());
        assert!(!shown.contains(is_unsafe), "{shown}");
        assert_eq!(shown.parse::<serde_json::Value>().ok(), Some(json));
    }

    #[test]
    fn long_names_are_shortened() {
        let text = for_people(&format!("no `{}` here", "é".repeat(200_000)));
        assert!(
            text.chars().count() < 500 && text.starts_with("no `é") && text.ends_with("é` here"),
            "{text}"
        );
        assert!(text.contains('…'));
        assert!(for_people(&"many words ".repeat(100_000)).len() < 20_000);
        assert_eq!(for_people("as it is"), "as it is");
    }

    #[test]
    fn output_cannot_move_the_cursor() {
        assert_eq!(printable("plain\ttext"), "plain\ttext");
        assert_eq!(printable("10%\r20%\r30%\r"), "30%");
        assert_eq!(printable("\u{1b}[2J\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}end"), "red end");
    }

    #[test]
    fn lines_are_cut_by_columns() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("宽宽宽", 5), "宽宽…");
        assert_eq!(cut("宽宽宽", 4), "宽…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(columns("\u{1b}[31mred\u{1b}[0m e\u{301}"), 5);
    }
}
