//! Sets of characters as Go's `regexp` reads them.

use crate::context::glob::BadPattern;

/// Characters that one place of a pattern accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Set {
    Character(char),
    /// `.`: no newline.
    Any,
    Ranges {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Set {
    /// Parses one item that begins with `first` and goes on in `rest`.
    pub(super) fn parse(first: char, rest: &[char]) -> Result<(Set, &[char]), BadPattern> {
        match first {
            '.' => Ok((Set::Any, rest)),
            '[' => parse_ranges(rest),
            '\\' => parse_escape(rest),
            '*' => Err(BadPattern),
            other => Ok((Set::Character(other), rest)),
        }
    }

    pub(super) fn contains(&self, character: u32) -> bool {
        match self {
            Set::Character(c) => u32::from(*c) == character,
            Set::Any => character != u32::from('\n'),
            Set::Ranges { negated, ranges } => {
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (u32::from(*low)..=u32::from(*high)).contains(&character));
                inside != *negated
            }
        }
    }
}

/// After `[`: a `]` right at the beginning is a member.
fn parse_ranges(mut rest: &[char]) -> Result<(Set, &[char]), BadPattern> {
    let negated = rest.first() == Some(&'^');
    if negated {
        rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    let mut first = true;
    loop {
        match rest {
            [] => return Err(BadPattern),
            [']', after @ ..] if !first => return Ok((Set::Ranges { negated, ranges }, after)),
            // Classes by name, such as `[:alpha:]`, are a part of regular expressions, not of patterns.
            ['[', ':', ..] => return Err(BadPattern),
            ['\\', class @ ('d' | 's' | 'w'), after @ ..] => {
                ranges.extend(class_ranges(*class));
                rest = after;
            }
            _ => {
                let (low, after) = range_end(rest)?;
                rest = after;
                let mut high = low;
                if let ['-', end, ..] = rest
                    && *end != ']'
                {
                    (high, rest) = range_end(&rest[1..])?;
                }
                if high < low {
                    return Err(BadPattern);
                }
                ranges.push((low, high));
            }
        }
        first = false;
    }
}

fn range_end(rest: &[char]) -> Result<(char, &[char]), BadPattern> {
    match rest {
        ['\\', escaped, after @ ..] => Ok((escaped_character(*escaped)?, after)),
        [] | ['\\'] => Err(BadPattern),
        [character, after @ ..] => Ok((*character, after)),
    }
}

/// After `\`.
fn parse_escape(rest: &[char]) -> Result<(Set, &[char]), BadPattern> {
    let [escaped, after @ ..] = rest else { return Err(BadPattern) };
    let class = |negated, name| Set::Ranges { negated, ranges: class_ranges(name) };
    let set = match escaped {
        'd' | 's' | 'w' => class(false, *escaped),
        'D' | 'S' | 'W' => class(true, escaped.to_ascii_lowercase()),
        other => Set::Character(escaped_character(*other)?),
    };
    Ok((set, after))
}

/// Go knows more (`\x41`, `\pL`, `\Q…\E`); nobody means them in a path, so they are refused.
fn escaped_character(escaped: char) -> Result<char, BadPattern> {
    match escaped {
        'a' => Ok('\x07'),
        'f' => Ok('\x0c'),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'v' => Ok('\x0b'),
        c if c.is_ascii_alphanumeric() || !c.is_ascii() => Err(BadPattern),
        c => Ok(c),
    }
}

fn class_ranges(name: char) -> Vec<(char, char)> {
    match name {
        'd' => vec![('0', '9')],
        's' => vec![('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
        _ => vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
    }
}
