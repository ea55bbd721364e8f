//! Makes text that strangers wrote fit to be shown: Dockerfiles, images and registries may say anything.

use std::borrow::Cow;
use std::ops::Range;

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

/// Where URLs in `text` have a user with a password, or over http(s) one without, which is a token.
pub fn user_infos(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("://") {
        let scheme = text[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
        let scheme = scheme.take(1).collect::<String>().to_ascii_lowercase();
        let start = at + "://".len();
        let ends = |c: char| c.is_whitespace() || "/?#\"'`<>\\".contains(c);
        let end = text[start..].find(ends).map_or(text.len(), |length| start + length);
        if let Some(length) = text[start..end].rfind('@')
            && length > 0
            && !scheme.is_empty()
            && (scheme.starts_with("http") || text[start..start + length].contains(':'))
        {
            found.push(start..start + length);
        }
    }
    found
}

/// `text` with `xxxxx` in the place of users and passwords of URLs.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    let ranges = user_infos(text);
    if ranges.is_empty() {
        return text.into();
    }
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for range in ranges {
        let both = text[range.clone()].contains(':');
        out.push_str(&text[at..range.start]);
        out.push_str(if both { "xxxxx:xxxxx" } else { "xxxxx" });
        at = range.end;
    }
    (out + &text[at..]).into()
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
    fn passwords_are_hidden_wherever_the_url_stands() {
        for (text, expected) in [
            ("ADD https://me:pw@h/x /", "ADD https://xxxxx:xxxxx@h/x /"),
            ("ADD [\"https://tok@h/x\", \"/\"]", "ADD [\"https://xxxxx@h/x\", \"/\"]"),
            ("x=http://a:b@h y=HTTPS://c@h", "x=http://xxxxx:xxxxx@h y=HTTPS://xxxxx@h"),
            ("ssh://git@h/x git://u:p@h", "ssh://git@h/x git://xxxxx:xxxxx@h"),
            ("https://a:b@c:d@h", "https://xxxxx:xxxxx@h"),
            ("https://h/x@y and me@h", "https://h/x@y and me@h"),
            ("`https://u:p@h`: 404", "`https://xxxxx:xxxxx@h`: 404"),
            ("://a:b@h", "://a:b@h"),
        ] {
            assert_eq!(without_passwords(text), expected);
        }
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
}
