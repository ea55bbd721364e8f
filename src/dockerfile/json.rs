//! The JSON form: a list of strings with the place of each.

use std::ops::Range;

use serde::de::IgnoredAny;

/// Why a text is no list of strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoList {
    /// It is no JSON list at all, so it is the shell form.
    NotJson,
    /// It is a list with something else than strings in it, which is an error.
    NotStrings,
}

/// The strings of a JSON list, each with the range of `text` that it covers.
pub(super) fn strings(text: &str) -> Result<Vec<(String, Range<usize>)>, NoList> {
    let start = text.len() - text.trim_start().len();
    let mut cursor = Cursor { text, at: start };
    if !cursor.take(b'[') {
        return Err(NoList::NotJson);
    }
    let mut strings = Vec::new();
    let mut other = false;
    cursor.blanks();
    let mut closed = cursor.take(b']');
    while !closed {
        cursor.blanks();
        let from = cursor.at;
        match cursor.value()? {
            Some(string) => strings.push((string, from..cursor.at)),
            None => other = true,
        }
        cursor.blanks();
        closed = cursor.take(b']');
        if !closed && !cursor.take(b',') {
            return Err(NoList::NotJson);
        }
    }
    cursor.blanks();
    match (cursor.at == text.len(), other) {
        (false, _) => Err(NoList::NotJson),
        (true, true) => Err(NoList::NotStrings),
        (true, false) => Ok(strings),
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// One value: a string, or `None` for anything else that is well formed.
    fn value(&mut self) -> Result<Option<String>, NoList> {
        if self.take(b'"') {
            return self.string().map(Some).ok_or(NoList::NotJson);
        }
        // Skipping a value does not recurse, so nesting costs no stack.
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                self.at += values.byte_offset();
                Ok(None)
            }
            _ => Err(NoList::NotJson),
        }
    }

    /// The rest of a string whose quote was read.
    fn string(&mut self) -> Option<String> {
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ')?;
            string.push_str(&rest[..plain]);
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'"' => return Some(string),
                b'\\' => string.push(self.escaped()?),
                _ => return None,
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let c = self.text.as_bytes().get(self.at)?;
        self.at += 1;
        Some(match c {
            b'"' | b'\\' | b'/' => char::from(*c),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.code_point()?,
            _ => return None,
        })
    }

    /// What follows `\u`. Half of a surrogate pair becomes U+FFFD, as Go has it.
    fn code_point(&mut self) -> Option<char> {
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            }
            self.at = before;
        }
        Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{NoList, strings};

    #[test]
    fn lists_of_strings() {
        for (text, expected) in [
            ("[]", vec![]),
            (" [ ]", vec![]),
            (r#"["a"]"#, vec!["a"]),
            (r#"[ "a" ,	"\u00e9\n", "" ] "#, vec!["a", "é\n", ""]),
            (r#"["\ud83d\ude00", "\ud83dx", "\/"]"#, vec!["😀", "\u{fffd}x", "/"]),
        ] {
            let found: Vec<String> = strings(text).unwrap().into_iter().map(|(text, _)| text).collect();
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(strings(r#"["a", "bc"]"#).unwrap()[1], ("bc".to_owned(), 6..10));
    }

    #[test]
    fn everything_else() {
        for text in ["", "a", "[", "[a]", "['a']", r#"["a""#, r#"["a",]"#, r#"["a"] b"#, r#"["a" "b"]"#] {
            assert_eq!(strings(text), Err(NoList::NotJson), "{text}");
        }
        for text in ["[\"a\tb\"]", r#"["\x"]"#, r#"["\u12"]"#, r#"["\u12é4"]"#, "[1, x]", r#"[1, "a"#] {
            assert_eq!(strings(text), Err(NoList::NotJson), "{text}");
        }
        for text in ["[1]", r#"["a", 1]"#, "[null]", "[[\"a\"]]", "[{\"a\": [1]} , true]", "[1.5e3]"] {
            assert_eq!(strings(text), Err(NoList::NotStrings), "{text}");
        }
        assert_eq!(strings(&"[".repeat(1_000_000)), Err(NoList::NotJson));
    }
}
