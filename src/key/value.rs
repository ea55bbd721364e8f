//! A value of a field that is made of parts.

use std::fmt::Write as _;

/// A word that says what it is, and then its parts by name, such as `bind source=2:/d writable=false`.
///
/// Text has its length in bytes first, so that none can look like the next part. Parts come in a fixed order, and one that is
/// left out is no empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// Without parts yet.
    pub fn of(kind: &'static str) -> Self {
        Self(kind.to_owned())
    }

    /// Adds any text.
    #[must_use]
    pub fn text(mut self, name: &'static str, text: &str) -> Self {
        push_text(&mut self.0, name, text);
        self
    }

    /// Adds a text, if there is one.
    #[must_use]
    pub fn option(self, name: &'static str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// Adds one of a few words of rbuild's own.
    #[must_use]
    pub fn word(mut self, name: &'static str, word: &'static str) -> Self {
        self.push(format_args!(" {name}={word}"));
        self
    }

    /// Adds yes or no.
    #[must_use]
    pub fn flag(self, name: &'static str, flag: bool) -> Self {
        self.word(name, if flag { "true" } else { "false" })
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, name: &'static str, number: impl Into<i128>) -> Self {
        self.push(format_args!(" {name}={}", number.into()));
        self
    }

    /// Adds the mode of a file.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.push(format_args!(" mode={mode:04o}"));
        self
    }

    /// Adds the owner of a file.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        self.number("uid", uid).number("gid", gid)
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

impl AsRef<str> for Value {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Adds ` name=LENGTH:TEXT`.
pub(super) fn push_text(value: &mut String, name: &str, text: &str) {
    // Writing to a string cannot fail.
    let _ = write!(value, " {name}={}:{text}", text.len());
}
