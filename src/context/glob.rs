//! Shell patterns as Go's `filepath.Match` reads them, which is what COPY and ADD promise.
//!
//! A pattern is parsed once; matching never backtracks over more than one `*`, so its time is bounded by the
//! product of the two lengths. `*` and `?` stop at `/`; a set such as `[^a]` does not, as in Go.

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// What stands before, between and after the stars: one more than there are runs of stars.
    chunks: Vec<Vec<Token>>,
}

/// The pattern is malformed: an open `[`, an empty set or range, or a `\` at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    Set {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

impl Glob {
    /// Parses a pattern; every malformed one is found here, never while matching.
    pub fn new(pattern: &[u8]) -> Result<Self, BadPattern> {
        let mut chunks = vec![Vec::new()];
        let mut rest = pattern;
        while let [first, after @ ..] = rest {
            if *first == b'*' {
                let more = after.iter().take_while(|byte| **byte == b'*').count();
                rest = &after[more..];
                chunks.push(Vec::new());
                continue;
            }
            let (token, after) = next_token(*first, after)?;
            rest = after;
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(token);
            }
        }
        Ok(Self { chunks })
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        let last = self.chunks.len() - 1;
        let Some(mut rest) = match_chunk(&self.chunks[0], name) else { return false };
        for (number, chunk) in self.chunks.iter().enumerate().skip(1) {
            if number == last && chunk.is_empty() {
                return !rest.contains(&b'/');
            }
            match find_chunk(chunk, rest, number == last) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    }
}

/// Whether Go's `filepath.Match` would treat any byte of `text` specially, other than as an escape.
pub fn has_wildcards(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// The first character of `bytes` and its length; a byte that is no UTF-8 counts as U+FFFD, as in Go.
pub(crate) fn decode(bytes: &[u8]) -> (u32, usize) {
    let Some(first) = bytes.first() else { return (REPLACEMENT, 0) };
    let len = match first {
        0..0x80 => return (u32::from(*first), 1),
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
        _ => 1,
    };
    let text = bytes.get(..len).and_then(|head| std::str::from_utf8(head).ok());
    text.and_then(|text| text.chars().next()).map_or((REPLACEMENT, 1), |c| (u32::from(c), len))
}

const REPLACEMENT: u32 = 0xfffd;

fn next_token(first: u8, rest: &[u8]) -> Result<(Token, &[u8]), BadPattern> {
    match first {
        b'?' => Ok((Token::One, rest)),
        b'[' => parse_set(rest),
        b'\\' => match rest {
            [byte, rest @ ..] => Ok((Token::Byte(*byte), rest)),
            [] => Err(BadPattern),
        },
        byte => Ok((Token::Byte(byte), rest)),
    }
}

/// Parses a set after its `[`.
fn parse_set(mut rest: &[u8]) -> Result<(Token, &[u8]), BadPattern> {
    let negated = rest.first() == Some(&b'^');
    if negated {
        rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if rest.first() == Some(&b']') && !ranges.is_empty() {
            return Ok((Token::Set { negated, ranges }, &rest[1..]));
        }
        let (low, after) = set_character(rest)?;
        let (high, after) =
            if after.first() == Some(&b'-') { set_character(&after[1..])? } else { (low, after) };
        ranges.push((low, high));
        rest = after;
    }
}

/// One end of a range; something, at least `]`, must follow it.
fn set_character(text: &[u8]) -> Result<(u32, &[u8]), BadPattern> {
    let text = match text {
        [] | [b'-' | b']', ..] => return Err(BadPattern),
        [b'\\', rest @ ..] => rest,
        text => text,
    };
    let (character, len) = decode(text);
    if len == 0 || (character == REPLACEMENT && len == 1) || len == text.len() {
        return Err(BadPattern);
    }
    Ok((character, &text[len..]))
}

/// What of `name` is left after `chunk` matched its beginning.
fn match_chunk<'n>(chunk: &[Token], mut name: &'n [u8]) -> Option<&'n [u8]> {
    for token in chunk {
        let first = *name.first()?;
        let len = match token {
            Token::Byte(byte) if *byte == first => 1,
            Token::One if first != b'/' => decode(name).1,
            Token::Set { negated, ranges } => {
                let (character, len) = decode(name);
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                if inside == *negated {
                    return None;
                }
                len
            }
            Token::Byte(_) | Token::One => return None,
        };
        name = &name[len..];
    }
    Some(name)
}

/// Lets a star eat as little as possible, never a `/`, so that `chunk` matches after it.
fn find_chunk<'n>(chunk: &[Token], name: &'n [u8], last: bool) -> Option<&'n [u8]> {
    for start in 0..=name.len() {
        if start > 0 && name[start - 1] == b'/' {
            return None;
        }
        match match_chunk(chunk, &name[start..]) {
            Some(rest) if !last || rest.is_empty() => return Some(rest),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// The vectors of Go's `path/filepath/match_test.go`.
    const VECTORS: &[(&str, &str, Option<bool>)] = &[
        ("abc", "abc", Some(true)),
        ("*", "abc", Some(true)),
        ("*c", "abc", Some(true)),
        ("a*", "a", Some(true)),
        ("a*", "abc", Some(true)),
        ("a*", "ab/c", Some(false)),
        ("a*/b", "abc/b", Some(true)),
        ("a*/b", "a/c/b", Some(false)),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Some(false)),
        ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
        ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
        ("ab[c]", "abc", Some(true)),
        ("ab[b-d]", "abc", Some(true)),
        ("ab[e-g]", "abc", Some(false)),
        ("ab[^c]", "abc", Some(false)),
        ("ab[^b-d]", "abc", Some(false)),
        ("ab[^e-g]", "abc", Some(true)),
        ("a\\*b", "a*b", Some(true)),
        ("a\\*b", "ab", Some(false)),
        ("a?b", "a☺b", Some(true)),
        ("a[^a]b", "a☺b", Some(true)),
        ("a???b", "a☺b", Some(false)),
        ("a[^a][^a][^a]b", "a☺b", Some(false)),
        ("[a-ζ]*", "α", Some(true)),
        ("*[a-ζ]", "A", Some(false)),
        ("a?b", "a/b", Some(false)),
        ("a*b", "a/b", Some(false)),
        ("[\\]a]", "]", Some(true)),
        ("[\\-]", "-", Some(true)),
        ("[x\\-]", "x", Some(true)),
        ("[x\\-]", "-", Some(true)),
        ("[x\\-]", "z", Some(false)),
        ("[\\-x]", "x", Some(true)),
        ("[\\-x]", "-", Some(true)),
        ("[\\-x]", "a", Some(false)),
        ("[]a]", "]", None),
        ("[-]", "-", None),
        ("[x-]", "x", None),
        ("[x-]", "-", None),
        ("[x-]", "z", None),
        ("[-x]", "x", None),
        ("[-x]", "-", None),
        ("[-x]", "a", None),
        ("\\", "a", None),
        ("[a-b-c]", "a", None),
        ("[", "a", None),
        ("[^", "a", None),
        ("[^bc", "a", None),
        ("a[", "a", None),
        ("a[", "ab", None),
        ("a[", "x", None),
        ("a/b[", "x", None),
        ("*x", "xxx", Some(true)),
        ("[[]", "[", Some(true)),
        ("", "", Some(true)),
        ("**", "ab", Some(true)),
    ];

    #[test]
    fn matches_as_go_does() {
        for (pattern, name, expected) in VECTORS {
            let found = Glob::new(pattern.as_bytes()).ok().map(|glob| glob.matches(name.as_bytes()));
            assert_eq!(found, *expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn wildcards_are_seen_but_not_when_escaped() {
        for (text, expected) in [("a", false), ("a*", true), ("a\\*", false), ("\\\\?", true), ("[", true)] {
            assert_eq!(has_wildcards(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "*a".repeat(2_000) + "b";
        let name = "a".repeat(10_000);
        assert!(!Glob::new(pattern.as_bytes()).unwrap().matches(name.as_bytes()));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in proptest::collection::vec(any::<u8>(), 0..40), name: Vec<u8>) {
            if let Ok(glob) = Glob::new(&pattern) {
                glob.matches(&name);
            }
        }

        #[test]
        fn plain_text_matches_itself_only(text in "[a-z/.]{0,12}", other in "[a-z/.]{0,12}") {
            let glob = Glob::new(text.as_bytes()).unwrap();
            prop_assert!(glob.matches(text.as_bytes()));
            prop_assert_eq!(glob.matches(other.as_bytes()), text == other);
        }
    }
}
