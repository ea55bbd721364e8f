//! The state machine behind the functions of [`super`].

use std::collections::HashSet;
use std::ops::Range;

use super::pattern::{Extent, Pattern};
use super::{ExpandError, Expanded, Fault, LineWord, Lookup, MAX_EXPANDED_BYTES, MAX_NESTING, MAX_WORK};

/// What quotes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They protect what is between them and vanish.
    Remove,
    /// They protect and stay.
    Keep,
    /// They are characters like any other.
    Ordinary,
}

pub(super) struct Lexer<'a> {
    source: &'a str,
    at: usize,
    escape: char,
    env: &'a dyn Lookup,
    pub(super) quotes: Quotes,
    /// Escapes stay before what they escape.
    pub(super) raw_escapes: bool,
    /// Variables that nobody defines stay as written.
    pub(super) keep_unset: bool,
    set: Names,
    unset: Names,
    depth: usize,
    produced_bytes: usize,
    work: usize,
    /// The part of `work` that the environment was told of.
    told: usize,
}

/// Names in order of first use.
#[derive(Default)]
struct Names {
    order: Vec<String>,
    seen: HashSet<String>,
}

impl Names {
    fn add(&mut self, name: &str) {
        if !self.seen.contains(name) {
            self.seen.insert(name.to_owned());
            self.order.push(name.to_owned());
        }
    }
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str, escape: char, env: &'a dyn Lookup) -> Self {
        Self {
            source,
            at: 0,
            escape,
            env,
            quotes: Quotes::Remove,
            raw_escapes: false,
            keep_unset: false,
            set: Names::default(),
            unset: Names::default(),
            depth: 0,
            produced_bytes: 0,
            work: 0,
            told: 0,
        }
    }

    pub(super) fn expand(mut self) -> Result<Expanded, ExpandError> {
        let text = self.until(None, self.raw_escapes, &mut Words::ignored());
        self.tell();
        let text = text.map_err(|fault| ExpandError { word: self.source.to_owned(), fault })?;
        Ok(Expanded { text, set: self.set.order, unset: self.unset.order })
    }

    /// Words, variables that are set, variables that are not.
    #[allow(clippy::type_complexity)]
    pub(super) fn split(mut self) -> Result<(Vec<LineWord>, Vec<String>, Vec<String>), ExpandError> {
        let mut words = Words::collected();
        let result = self.until(None, self.raw_escapes, &mut words);
        self.tell();
        result.map_err(|fault| ExpandError { word: self.source.to_owned(), fault })?;
        Ok((words.finish(), self.set.order, self.unset.order))
    }

    fn peek(&self) -> Option<char> {
        self.source[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Reads up to `stop`, which is consumed, or to the end when there is none to look for.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool, words: &mut Words) -> Result<String, Fault> {
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let mut text = String::new();
        let found = loop {
            let start = self.at;
            match self.peek() {
                None => break stop.is_none(),
                next if next == stop => {
                    self.next();
                    break true;
                }
                Some('$') => {
                    let value = self.dollar()?;
                    self.produced(value.len())?;
                    text.push_str(&value);
                    words.add_value(&value, start..self.at);
                }
                Some(special) if self.is_special(special) => {
                    let part = self.special(special)?;
                    text.push_str(&part);
                    words.add_quoted(&part, start..self.at);
                }
                Some(_) => self.plain(&mut text, words),
            }
        };
        self.raw_escapes = outer;
        if found { Ok(text) } else { Err(Fault::Unclosed(if stop == Some('/') { "/" } else { "}" })) }
    }

    fn is_special(&self, c: char) -> bool {
        c == '<' || (self.quotes != Quotes::Ordinary && (c == '\'' || c == '"'))
    }

    fn special(&mut self, c: char) -> Result<String, Fault> {
        match c {
            '\'' => self.single_quoted(),
            '"' => self.double_quoted(),
            _ => Ok(self.possible_heredoc()),
        }
    }

    /// One ordinary character, or an escape and what it escapes.
    fn plain(&mut self, text: &mut String, words: &mut Words) {
        let start = self.at;
        let Some(first) = self.next() else { return };
        if first != self.escape {
            text.push(first);
            return words.add_char(first, start..self.at);
        }
        if self.raw_escapes {
            text.push(first);
            words.add_raw_char(first, start..self.at);
        }
        // An escape at the very end vanishes.
        if let Some(escaped) = self.next() {
            text.push(escaped);
            words.add_raw_char(escaped, start..self.at);
        }
    }

    fn produced(&mut self, bytes: usize) -> Result<(), Fault> {
        self.produced_bytes += bytes;
        if self.produced_bytes > MAX_EXPANDED_BYTES { Err(Fault::TooLong) } else { Ok(()) }
    }

    /// Everything up to the next `'` stands for itself.
    fn single_quoted(&mut self) -> Result<String, Fault> {
        let inner = &self.source[self.at + 1..];
        let length = inner.find('\'').ok_or(Fault::Unclosed("single-quote"))?;
        let text = match self.quotes {
            Quotes::Keep => &self.source[self.at..self.at + length + 2],
            _ => &inner[..length],
        };
        self.at += length + 2;
        Ok(text.to_owned())
    }

    /// Variables are replaced; only `"`, `$` and the escape itself can be escaped.
    fn double_quoted(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        self.next();
        if self.quotes == Quotes::Keep {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => return Err(Fault::Unclosed("double-quote")),
                Some('"') => {
                    self.next();
                    if self.quotes == Quotes::Keep {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => {
                    let value = self.dollar()?;
                    self.produced(value.len())?;
                    text.push_str(&value);
                }
                Some(c) => {
                    self.next();
                    self.inside_double_quotes(c, &mut text);
                }
            }
        }
    }

    fn inside_double_quotes(&mut self, c: char, text: &mut String) {
        if c != self.escape {
            return text.push(c);
        }
        if self.raw_escapes {
            text.push(c);
        }
        match self.peek() {
            None => {}
            Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.escape => {
                self.next();
                text.push(escaped);
            }
            // BuildKit writes the escape a second time here when escapes are raw; that shows nowhere but
            // in the pattern of a substitution, and is kept.
            Some(_) => text.push(c),
        }
    }

    /// `<`, or `<<` with the blanks after it, which then do not split the word.
    fn possible_heredoc(&mut self) -> String {
        let start = self.at;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while matches!(self.peek(), Some('\t' | '\r' | ' ')) {
                self.next();
            }
        }
        self.source[start..self.at].to_owned()
    }

    fn dollar(&mut self) -> Result<String, Fault> {
        self.next();
        if self.peek() == Some('{') {
            self.next();
            self.depth += 1;
            if self.depth > MAX_NESTING {
                return Err(Fault::TooDeep);
            }
            let value = self.braced();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.variable(name)? {
            None if self.keep_unset => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    /// What follows `${`.
    fn braced(&mut self) -> Result<String, Fault> {
        match self.peek() {
            None => return Err(Fault::MissingBrace),
            Some('{' | '}' | ':') => return Err(Fault::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(Fault::MissingBrace),
            Some('}') => match self.variable(name)? {
                None if self.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => match self.next() {
                None => Err(Fault::MissingBrace),
                Some(c @ ('#' | '%')) => Err(Fault::UnsupportedModifier(format!(":{c}"))),
                Some(modifier) => self.choice(name, modifier, true),
            },
            Some(modifier @ ('+' | '-' | '?')) => self.choice(name, modifier, false),
            Some(modifier @ ('#' | '%')) => self.trimmed(name, modifier),
            Some('/') => self.replaced(name),
            Some(other) => Err(Fault::UnsupportedModifier(other.to_string())),
        }
    }

    /// Reads the word of a modifier. At the end of the text the missing brace is the fault, whatever
    /// stopped the reading.
    fn operand(&mut self, stop: char, raw_escapes: bool, missing: Fault) -> Result<String, Fault> {
        let operand = self.until(Some(stop), raw_escapes, &mut Words::ignored());
        operand.map_err(|fault| if self.at == self.source.len() { missing } else { fault })
    }

    /// `${v:-w}`, `${v+w}`, `${v?e}` and their like; with the colon, empty counts as unset.
    fn choice(&mut self, name: &str, modifier: char, empty_is_unset: bool) -> Result<String, Fault> {
        let colon = if empty_is_unset { ":" } else { "" };
        let operand = self.operand('}', false, Fault::MissingBrace)?;
        let value = self.variable(name)?;
        if value.is_none() && self.keep_unset {
            return Ok(format!("${{{name}{colon}{modifier}{operand}}}"));
        }
        let unset = value.is_none();
        let present = value.filter(|value| !empty_is_unset || !value.is_empty());
        match modifier {
            '-' => Ok(present.unwrap_or(operand)),
            '+' => Ok(if present.is_some() { operand } else { String::new() }),
            '?' => present.ok_or_else(|| {
                let state = if unset { "unset" } else { "empty" };
                let standard = || format!("is not allowed to be {state}");
                let message = if operand.is_empty() { standard() } else { operand };
                Fault::Required { name: name.to_owned(), message }
            }),
            _ => Err(Fault::UnsupportedModifier(format!("{colon}{modifier}"))),
        }
    }

    /// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
    fn trimmed(&mut self, name: &str, modifier: char) -> Result<String, Fault> {
        let operand = self.operand('}', true, Fault::MissingBrace)?;
        let value = self.variable(name)?;
        if value.is_none() && self.keep_unset {
            return Ok(format!("${{{name}{modifier}{operand}}}"));
        }
        let value = value.unwrap_or_default();
        let (pattern, extent) = match operand.strip_prefix(modifier) {
            Some(pattern) => (pattern, Extent::Longest),
            None => (operand.as_str(), Extent::Shortest),
        };
        let pattern = Pattern::parse(pattern)?;
        if modifier == '#' {
            pattern.without_prefix(&value, extent, &mut self.work)
        } else {
            pattern.without_suffix(&value, extent, &mut self.work)
        }
    }

    /// `${v/p/r}` and `${v//p/r}`. The replacement is literal: BuildKit would read `$1` in it as a group
    /// of its regular expression, which no Dockerfile means.
    fn replaced(&mut self, name: &str) -> Result<String, Fault> {
        let every = self.peek() == Some('/');
        if every {
            self.next();
        }
        let operand = self.operand('/', true, Fault::MissingSlash)?;
        let replacement = self.operand('}', true, Fault::MissingBrace)?;
        match self.variable(name)? {
            None if self.keep_unset => Ok(format!("${{{name}/{operand}/{replacement}}}")),
            value => {
                let value = value.unwrap_or_default();
                Pattern::parse(&operand)?.replace(&value, &replacement, every, &mut self.work)
            }
        }
    }

    /// A name, a number or one special character; empty when none of them follows.
    fn name(&mut self) -> &'a str {
        let rest = &self.source[self.at..];
        let length = match rest.chars().next() {
            Some('0'..='9') => rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()),
        };
        self.at += length;
        &rest[..length]
    }

    /// Tells the environment of the work since the last time; `false` when it was the last.
    fn tell(&mut self) -> bool {
        let fresh = self.work - self.told;
        self.told = self.work;
        self.env.afford(fresh)
    }

    fn variable(&mut self, name: &str) -> Result<Option<String>, Fault> {
        let value = self.env.get(name);
        self.work += value.as_ref().map_or(0, String::len);
        if self.work > MAX_WORK {
            return Err(Fault::TooCostly);
        }
        if !self.tell() {
            return Err(Fault::TooCostlyTogether);
        }
        match &value {
            Some(_) => self.set.add(name),
            None => self.unset.add(name),
        }
        Ok(value)
    }
}

/// Collects the words of a text while it is expanded.
struct Words {
    collect: bool,
    done: Vec<LineWord>,
    current: String,
    range: Range<usize>,
}

impl Words {
    fn ignored() -> Self {
        Self { collect: false, done: Vec::new(), current: String::new(), range: 0..0 }
    }

    fn collected() -> Self {
        Self { collect: true, ..Self::ignored() }
    }

    /// A character outside of quotes: a blank ends the word.
    fn add_char(&mut self, c: char, range: Range<usize>) {
        if c.is_whitespace() { self.end_word() } else { self.add_raw_char(c, range) }
    }

    fn add_raw_char(&mut self, c: char, range: Range<usize>) {
        self.add_quoted(c.encode_utf8(&mut [0; 4]), range);
    }

    /// The value of a variable outside of quotes: its blanks split.
    fn add_value(&mut self, value: &str, range: Range<usize>) {
        if self.collect {
            value.chars().for_each(|c| self.add_char(c, range.clone()));
        }
    }

    fn add_quoted(&mut self, text: &str, range: Range<usize>) {
        if !self.collect {
            return;
        }
        if self.current.is_empty() {
            self.range.start = range.start;
        }
        self.range.end = range.end;
        self.current.push_str(text);
    }

    fn end_word(&mut self) {
        if !self.current.is_empty() {
            self.done.push(LineWord { text: std::mem::take(&mut self.current), range: self.range.clone() });
        }
    }

    fn finish(mut self) -> Vec<LineWord> {
        self.end_word();
        self.done
    }
}
