//! Expands variables in words as BuildKit's shell lexer does.
//!
//! It looks like a shell and is none: `*` and `?` are the only wildcards of `#`, `%` and `/`, a lone
//! `$` stays, `$1` and `$@` are variables that nobody defines.

mod lexer;
mod pattern;

use std::collections::{BTreeMap, HashMap};

use lexer::{Lexer, Quotes};

/// The most bytes that variables may add to one word. Linux takes no longer variable than 128 KiB.
pub const MAX_EXPANDED_BYTES: usize = 1 << 20;
/// The most work on one word: a unit is a byte of a value that is looked up, or one token of a pattern
/// looked at for one character.
const MAX_WORK: usize = 4_000_000;
/// How deep `${a:-${b:-…}}` may nest.
pub const MAX_NESTING: usize = 64;

/// The variables that a word can name.
pub trait Lookup {
    /// The value of a variable; `None` when it is not defined, which is not the same as empty.
    fn get(&self, name: &str) -> Option<String>;
    /// The names of all variables, for suggestions.
    fn names(&self) -> Vec<String>;
    /// Is told of `work` that a word costs beyond its own length, in the units that limit a single word; `false`
    /// when all words together have cost too much.
    fn afford(&self, _work: usize) -> bool {
        true
    }
}

/// No variable is defined.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVariables;

impl Lookup for NoVariables {
    fn get(&self, _: &str) -> Option<String> {
        None
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Lookup for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

impl Lookup for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.keys().cloned().collect();
        names.sort();
        names
    }
}

/// Later entries win.
impl Lookup for [(String, String)] {
    fn get(&self, name: &str) -> Option<String> {
        self.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    fn names(&self) -> Vec<String> {
        self.iter().map(|(key, _)| key.clone()).collect()
    }
}

/// A word after expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Variables that it names and somebody defines, in order of first use, each once.
    pub set: Vec<String>,
    /// Variables that it names and nobody defines, also those with a default, likewise.
    pub unset: Vec<String>,
}

/// A word after expansion and splitting at blanks that were not quoted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExpandedWords {
    /// The words; never empty ones.
    pub words: Vec<String>,
    /// As [`Expanded::set`].
    pub set: Vec<String>,
    /// As [`Expanded::unset`].
    pub unset: Vec<String>,
}

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process `{}`: {fault}", super::excerpt(word))]
pub struct ExpandError {
    /// The word as given.
    pub word: String,
    /// What is wrong in it, or asked for by its own `:?`.
    pub fault: Fault,
}

impl ExpandError {
    /// What to write instead, if there is something to say.
    pub fn help(&self) -> Option<String> {
        match &self.fault {
            Fault::Unclosed("double-quote") => {
                Some("close it with `\"`; a quote that is meant as such is written `\\\"`".to_owned())
            }
            Fault::Unclosed("single-quote") => {
                Some("close it with `'`; a quote that is meant as such goes into double quotes: `\"'\"`".to_owned())
            }
            Fault::Unclosed(_) | Fault::MissingBrace => Some("write `${NAME}`".to_owned()),
            Fault::BadSubstitution => Some("write `${NAME}`, or `\\$` for a dollar sign as such".to_owned()),
            Fault::MissingSlash => Some("write `${NAME/PATTERN/REPLACEMENT}`".to_owned()),
            Fault::UnsupportedModifier(_) => {
                Some("there are `${v:-default}`, `${v:+instead}`, `${v:?message}`, `${v#start}`, `${v%end}` and `${v/a/b}`".to_owned())
            }
            Fault::Required { name, .. } => {
                Some(format!("give it a value: `--build-arg {name}=…`, or `ARG {name}=…`"))
            }
            Fault::TooCostly | Fault::TooCostlyTogether => {
                Some("shorten the values, or leave the work to a RUN, whose shell has no such limit".to_owned())
            }
            Fault::InvalidPattern { .. } | Fault::TooDeep | Fault::TooLong => None,
        }
    }
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A quote or brace stays open.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    /// `${` without `}`.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${v/p` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:x}`, `${{`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// Something like `${v:=x}`.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `${v?message}`: the message, or the standard one.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says, else `is not allowed to be unset` or `… empty`.
        message: String,
    },
    /// `\x` in the pattern of `#`, `%` or `/`.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// What follows the backslash.
        escaped: String,
    },
    /// Deeper than [`MAX_NESTING`].
    #[error("substitutions are nested more than {MAX_NESTING} deep")]
    TooDeep,
    /// Longer than [`MAX_EXPANDED_BYTES`].
    #[error("the word expands to more than {MAX_EXPANDED_BYTES} bytes")]
    TooLong,
    /// Matching patterns, or looking up long values again and again, would take too long.
    #[error("the substitutions are too costly for values this long")]
    TooCostly,
    /// [`Lookup::afford`] said so.
    #[error("the substitutions up to here are too costly together")]
    TooCostlyTogether,
}

/// Expands `word`: variables are replaced, quotes and escapes removed (BuildKit's `ProcessWord`).
pub fn expand(word: &str, escape: char, env: &dyn Lookup) -> Result<Expanded, ExpandError> {
    Lexer::new(word, escape, env).expand()
}

/// Expands `word` and splits the result at blanks that stand outside of quotes (`ProcessWords`). Blanks
/// of a variable's value split, too, unless the variable is quoted.
pub fn expand_words(word: &str, escape: char, env: &dyn Lookup) -> Result<ExpandedWords, ExpandError> {
    let (words, set, unset) = Lexer::new(word, escape, env).split()?;
    Ok(ExpandedWords { words: words.into_iter().map(|word| word.text).collect(), set, unset })
}

/// Expands the body of a here-document that COPY or ADD writes: quotes are ordinary characters, the
/// escape is `\` whatever the file's directive says, and is removed (`SkipProcessQuotes`).
pub fn expand_heredoc(body: &str, env: &dyn Lookup) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer::new(body, '\\', env);
    lexer.quotes = Quotes::Ordinary;
    lexer.expand()
}

/// Expands a command for display: quotes stay, variables that nobody defines stay as written
/// (`RawQuotes` with `SkipUnsetEnv`).
pub fn expand_display(command: &str, escape: char, env: &dyn Lookup) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer::new(command, escape, env);
    lexer.quotes = Quotes::Keep;
    lexer.keep_unset = true;
    lexer.expand()
}

/// A word of a line that is not expanded, and the bytes of the line that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineWord {
    /// The text.
    pub(super) text: String,
    /// Where it stands.
    pub(super) range: std::ops::Range<usize>,
}

/// Splits a line for here-document markers: quotes and escapes stay, variables too. A line that the
/// lexer cannot read has no markers.
pub(super) fn raw_words(line: &str) -> Vec<LineWord> {
    let mut lexer = Lexer::new(line, '\\', &NoVariables);
    lexer.quotes = Quotes::Keep;
    lexer.raw_escapes = true;
    lexer.keep_unset = true;
    lexer.split().map(|(words, _, _)| words).unwrap_or_default()
}

/// Splits the word after `<<`; with `quotes` kept or removed.
pub(super) fn heredoc_words(word: &str, keep_quotes: bool) -> Result<Vec<String>, ExpandError> {
    let mut lexer = Lexer::new(word, '\\', &NoVariables);
    lexer.quotes = if keep_quotes { Quotes::Keep } else { Quotes::Remove };
    lexer.keep_unset = true;
    let (words, _, _) = lexer.split()?;
    Ok(words.into_iter().map(|word| word.text).collect())
}

#[cfg(test)]
mod tests;
