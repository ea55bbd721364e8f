//! Patterns of `.dockerignore` and `--exclude`, one at a time, as moby's patternmatcher reads them.
//!
//! moby turns a pattern into a regular expression for Go's `regexp`. What that expression means, quirks
//! included (`[^a]` matches `/`; `.` does not match a newline), is kept; it is run here as a small automaton
//! whose time is bounded by the product of pattern and path.

use super::glob::{BadPattern, Glob, decode};
use set::Set;

mod set;

/// One pattern, cleaned, without its `!`.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    text: Vec<u8>,
    form: Form,
}

/// What every path that a pattern matches has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Its first component.
    First(&'a [u8]),
    /// Its last component.
    Last(&'a [u8]),
    /// Nothing that is known.
    Any,
}

#[derive(Debug, Clone)]
enum Form {
    /// The path is the pattern.
    Exact,
    /// `dir/**`: the path begins with this.
    Prefix(usize),
    /// `**/name`: the path ends with `/name`, or is `name`.
    Suffix,
    /// Anything else.
    Program(Program),
}

#[derive(Debug, Clone)]
struct Program {
    nodes: Vec<Node>,
    /// Bytes with which every match ends; most paths are refused by them alone.
    tail: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Node {
    One(Set),
    Many(Set),
    /// `(.*/)?`: any number of whole directories; always followed by [`Node::Inside`].
    Deep,
    /// Within the directories of [`Node::Deep`].
    Inside,
    /// A `^`, which moby does not escape.
    Start,
}

impl Pattern {
    /// Compiles a cleaned pattern.
    pub(super) fn new(text: &[u8]) -> Result<Self, BadPattern> {
        Glob::new(text)?;
        let form = compile(text)?;
        Ok(Self { text: text.to_vec(), form })
    }

    /// Whether the whole path matches; parents are the caller's affair.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match &self.form {
            Form::Exact => path == self.text,
            Form::Prefix(len) => path.starts_with(&self.text[..*len]),
            Form::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            Form::Program(program) => program.matches(path),
        }
    }

    /// What a path must have to match.
    pub(super) fn scope(&self) -> Scope<'_> {
        let last = |tail: &'_ [u8]| tail.iter().rposition(|byte| *byte == b'/');
        match &self.form {
            Form::Exact => Scope::Whole(&self.text),
            Form::Suffix => match last(&self.text[2..]) {
                Some(slash) => Scope::Last(&self.text[2 + slash + 1..]),
                None => Scope::Any,
            },
            Form::Prefix(_) | Form::Program(_) => match (self.first_component(), &self.form) {
                (Some(name), _) => Scope::First(name),
                (None, Form::Program(program)) => match last(&program.tail) {
                    Some(slash) => Scope::Last(&program.tail[slash + 1..]),
                    None => Scope::Any,
                },
                (None, _) => Scope::Any,
            },
        }
    }

    /// The first component of all paths that match, if the pattern has more than one and the first is plain.
    pub(super) fn first_component(&self) -> Option<&[u8]> {
        let slash = self.text.iter().position(|byte| *byte == b'/')?;
        let name = &self.text[..slash];
        // Bytes that are no UTF-8 match others that are none.
        let is_plain =
            std::str::from_utf8(name).is_ok_and(|name| !name.contains(char::REPLACEMENT_CHARACTER));
        (is_plain && !name.iter().any(|byte| b"*?[]\\^".contains(byte))).then_some(name)
    }

    /// Whether it is one component without anything special, so that it matches nothing below a directory.
    pub(super) fn is_plain_name(&self) -> bool {
        !self.text.iter().any(|byte| b"/*?[]\\^".contains(byte))
    }

    /// Whether the pattern may match something below the directory `dir`; errs on the side of yes.
    pub(super) fn may_match_below(&self, dir: &[u8]) -> bool {
        let mut parts = self.text.split(|byte| *byte == b'/');
        for component in dir.split(|byte| *byte == b'/') {
            let Some(part) = parts.next() else { return false };
            // A set can match a slash, and what an escape means depends on what follows.
            if part.windows(2).any(|pair| pair == b"**") || part.iter().any(|b| b"[\\^".contains(b)) {
                return true;
            }
            if !part.iter().any(|byte| b"*?".contains(byte)) && part != component {
                return false;
            }
        }
        parts.next().is_some()
    }
}

/// What moby's `Pattern.compile` decides on: which of four ways to match, and the expression for the last.
fn compile(text: &[u8]) -> Result<Form, BadPattern> {
    let characters = decode_all(text);
    let mut compiler =
        Compiler { len: text.len(), form: Form::Exact, is_program: false, expression: Vec::new() };
    let mut rest = characters.as_slice();
    while let [first, after @ ..] = rest {
        let is_start = rest.len() == characters.len();
        rest = match (first, after) {
            ('*', ['*', '/', after @ ..] | ['*', after @ ..]) => {
                compiler.double_star(is_start, after.is_empty());
                after
            }
            ('\\', [escaped, after @ ..]) => {
                compiler.push(&['\\', *escaped], true);
                after
            }
            (character, after) => {
                compiler.character(*character);
                after
            }
        };
    }
    match compiler {
        Compiler { is_program: true, expression, .. } => Ok(Form::Program(Program::new(&expression)?)),
        Compiler { form, .. } => Ok(form),
    }
}

struct Compiler {
    /// Bytes of the pattern.
    len: usize,
    form: Form,
    /// Whether only the expression tells what the pattern matches.
    is_program: bool,
    expression: Vec<char>,
}

impl Compiler {
    /// `**`, with the slash after it, if there is one.
    fn double_star(&mut self, is_start: bool, is_end: bool) {
        if !is_end {
            self.push(&['(', '.', '*', '/', ')', '?'], true);
        } else if matches!(self.form, Form::Exact) && !self.is_program {
            self.form = Form::Prefix(self.len - 2);
        } else {
            self.push(&['.', '*'], true);
        }
        if is_start {
            (self.form, self.is_program) = (Form::Suffix, false);
        }
    }

    fn character(&mut self, character: char) {
        match character {
            '*' => self.push(&['[', '^', '/', ']', '*'], true),
            '?' => self.push(&['[', '^', '/', ']'], true),
            '[' | ']' => self.push(&[character], true),
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => self.push(&['\\', character], false),
            other => self.push(&[other], false),
        }
    }

    fn push(&mut self, expression: &[char], is_program: bool) {
        self.expression.extend(expression);
        self.is_program |= is_program;
    }
}

/// The characters of `text`; invalid bytes become U+FFFD, as when Go reads runes.
fn decode_all(mut text: &[u8]) -> Vec<char> {
    let mut characters = Vec::new();
    while !text.is_empty() {
        let (character, len) = decode(text);
        characters.push(char::from_u32(character).unwrap_or(char::REPLACEMENT_CHARACTER));
        text = &text[len..];
    }
    characters
}

impl Program {
    /// Parses the part of Go's regular expressions that [`compile`] can produce.
    fn new(expression: &[char]) -> Result<Self, BadPattern> {
        let mut nodes = Vec::new();
        let mut rest = expression;
        while let [first, after @ ..] = rest {
            rest = after;
            if *first == '(' {
                nodes.extend([Node::Deep, Node::Inside]);
                rest = &rest["(.*/)?".len() - 1..];
                continue;
            }
            if *first == '^' {
                nodes.push(Node::Start);
                continue;
            }
            let (set, after) = Set::parse(*first, rest)?;
            rest = after;
            match rest {
                ['*', '*', ..] => return Err(BadPattern),
                ['*', after @ ..] => {
                    nodes.push(Node::Many(set));
                    rest = after;
                }
                _ => nodes.push(Node::One(set)),
            }
        }
        let tail = tail(&nodes);
        Ok(Self { nodes, tail })
    }

    fn matches(&self, path: &[u8]) -> bool {
        if !path.ends_with(&self.tail) {
            return false;
        }
        let states = self.nodes.len() + 1;
        let (mut small, mut large);
        let (now, next) = if states <= 48 {
            small = [false; 96];
            small.split_at_mut(48)
        } else {
            large = vec![false; 2 * states];
            large.split_at_mut(states)
        };
        self.run(path, now, next)
    }

    /// Steps all states at once over each character. Edges without a character lead forward only, so one pass
    /// in order follows them, too.
    fn run<'s>(&self, path: &[u8], mut now: &'s mut [bool], mut next: &'s mut [bool]) -> bool {
        let states = self.nodes.len() + 1;
        now[0] = true;
        let mut at = 0;
        while at < path.len() {
            let (character, len) = decode(&path[at..]);
            next[..states].fill(false);
            self.step(Some(character), at == 0, now, next);
            if !next[..states].contains(&true) {
                return false;
            }
            std::mem::swap(&mut now, &mut next);
            at += len;
        }
        self.step(None, path.is_empty(), now, next);
        now[states - 1]
    }

    fn step(&self, character: Option<u32>, at_start: bool, now: &mut [bool], next: &mut [bool]) {
        for (index, node) in self.nodes.iter().enumerate() {
            if !now[index] {
                continue;
            }
            match node {
                Node::One(set) => {
                    if character.is_some_and(|c| set.contains(c)) {
                        next[index + 1] = true;
                    }
                }
                Node::Many(set) => {
                    now[index + 1] = true;
                    if character.is_some_and(|c| set.contains(c)) {
                        next[index] = true;
                    }
                }
                Node::Deep => (now[index + 1], now[index + 2]) = (true, true),
                Node::Inside => match character.and_then(char::from_u32) {
                    None | Some('\n') => {}
                    Some('/') => (next[index], next[index + 1]) = (true, true),
                    Some(_) => next[index] = true,
                },
                Node::Start => now[index + 1] |= at_start,
            }
        }
    }
}

/// The literal bytes at the end of a program.
fn tail(nodes: &[Node]) -> Vec<u8> {
    let literals = nodes.iter().rev().map_while(|node| match node {
        Node::One(Set::Character(c)) if *c != char::REPLACEMENT_CHARACTER => Some(*c),
        _ => None,
    });
    let mut text: Vec<char> = literals.collect();
    text.reverse();
    text.into_iter().collect::<String>().into_bytes()
}
