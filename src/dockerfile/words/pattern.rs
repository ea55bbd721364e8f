//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and escapes, no brackets.

use super::{Fault, MAX_WORK};

/// Which match to take when there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Shortest,
    Longest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    /// Like `.` of a regular expression it does not match a newline; `*` neither.
    AnyChar,
    AnyText,
}

pub(super) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::AnyText,
                '?' => Token::AnyChar,
                '\\' => match chars.next() {
                    // `}` and `/` must be escaped inside of `${}`; the escape is not part of the pattern.
                    Some(c @ ('}' | '/' | '*' | '?' | '\\')) => Token::Char(c),
                    other => return Err(invalid(text, other)),
                },
                other => Token::Char(other),
            });
        }
        Ok(Self { tokens })
    }

    pub(super) fn without_prefix(
        &self,
        value: &str,
        extent: Extent,
        work: &mut usize,
    ) -> Result<String, Fault> {
        let chars: Vec<char> = value.chars().collect();
        let end = Matcher::new(&self.tokens, &chars, work).end_of_match(0, extent)?.unwrap_or(0);
        Ok(chars[end..].iter().collect())
    }

    /// A suffix is a prefix of everything reversed.
    pub(super) fn without_suffix(
        &self,
        value: &str,
        extent: Extent,
        work: &mut usize,
    ) -> Result<String, Fault> {
        let chars: Vec<char> = value.chars().rev().collect();
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let end = Matcher::new(&tokens, &chars, work).end_of_match(0, extent)?.unwrap_or(0);
        Ok(chars[end..].iter().rev().collect())
    }

    /// Replaces the leftmost longest match, or every one. An empty match directly after another one does
    /// not count, so `${v//*/x}` is one `x`.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        every: bool,
        work: &mut usize,
    ) -> Result<String, Fault> {
        let chars: Vec<char> = value.chars().collect();
        let mut matcher = Matcher::new(&self.tokens, &chars, work);
        let mut result = String::new();
        let (mut copied, mut start) = (0, 0);
        while start <= chars.len() {
            let Some(end) = matcher.end_of_match(start, Extent::Longest)? else {
                start += 1;
                continue;
            };
            result.extend(&chars[copied..start]);
            if end > copied || start == 0 {
                result.push_str(replacement);
            }
            if result.len() > super::MAX_EXPANDED_BYTES {
                return Err(Fault::TooLong);
            }
            copied = end;
            if !every {
                break;
            }
            start = end.max(start + 1);
        }
        result.extend(&chars[copied..]);
        Ok(result)
    }
}

fn invalid(pattern: &str, escaped: Option<char>) -> Fault {
    let escaped = escaped.map(String::from).unwrap_or_default();
    Fault::InvalidPattern { pattern: pattern.to_owned(), escaped }
}

/// Follows all ways through the tokens at once, so that no pattern backtracks; counts its work.
struct Matcher<'a> {
    tokens: &'a [Token],
    text: &'a [char],
    work: &'a mut usize,
}

impl<'a> Matcher<'a> {
    fn new(tokens: &'a [Token], text: &'a [char], work: &'a mut usize) -> Self {
        Self { tokens, text, work }
    }

    /// Where a match that begins at `start` ends, if there is one.
    fn end_of_match(&mut self, start: usize, extent: Extent) -> Result<Option<usize>, Fault> {
        // What decides most starts: the first token is a character, and it is another one.
        if let (Some(Token::Char(first)), Some(c)) = (self.tokens.first(), self.text.get(start))
            && first != c
        {
            return Ok(None);
        }
        let last = self.tokens.len();
        let mut states = vec![false; last + 1];
        self.enter(&mut states, 0);
        let mut best = None;
        for at in start..=self.text.len() {
            if states[last] {
                best = Some(at);
                if extent == Extent::Shortest {
                    break;
                }
            }
            let Some(c) = self.text.get(at) else { break };
            *self.work += last + 1;
            if *self.work > MAX_WORK {
                return Err(Fault::TooCostly);
            }
            states = self.step(&states, *c);
            if !states.contains(&true) {
                break;
            }
        }
        Ok(best)
    }

    fn step(&self, states: &[bool], c: char) -> Vec<bool> {
        let mut next = vec![false; states.len()];
        for (i, token) in self.tokens.iter().enumerate().filter(|(i, _)| states[*i]) {
            match token {
                Token::Char(wanted) if *wanted == c => self.enter(&mut next, i + 1),
                Token::AnyChar if c != '\n' => self.enter(&mut next, i + 1),
                Token::AnyText if c != '\n' => self.enter(&mut next, i),
                Token::Char(_) | Token::AnyChar | Token::AnyText => {}
            }
        }
        next
    }

    /// Marks a state, and those behind it that need no character.
    fn enter(&self, states: &mut [bool], mut state: usize) {
        while !states[state] {
            states[state] = true;
            match self.tokens.get(state) {
                Some(Token::AnyText) => state += 1,
                Some(Token::Char(_) | Token::AnyChar) | None => break,
            }
        }
    }
}
