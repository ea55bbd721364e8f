//! JSON with places: as a syntax of bake's language, in which a key can come twice.

use std::sync::Arc;

use super::fault::Result;
use crate::report::{Diagnostic, Source, Span};

/// As many arrays and objects may be within each other.
const DEPTH: usize = 128;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Json,
    pub(super) span: Span,
}

#[derive(Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    /// `is_plain` if nothing in it is escaped, so that its offsets are those of the file.
    Text {
        text: String,
        is_plain: bool,
    },
    Array(Vec<Arc<Node>>),
    Object(Vec<Property>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Property {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) value: Arc<Node>,
}

/// Reads a whole text.
pub(super) fn parse(source: &Arc<Source>) -> Result<Arc<Node>> {
    let mut reader = Reader { source, bytes: source.text.as_bytes(), at: 0 };
    if source.text.starts_with('\u{feff}') {
        reader.at = 3;
    }
    let node = reader.value(0)?;
    reader.space();
    match reader.at == reader.bytes.len() {
        true => Ok(node),
        false => Err(reader.unexpected("nothing more")),
    }
}

struct Reader<'s> {
    source: &'s Arc<Source>,
    bytes: &'s [u8],
    at: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.bytes.get(self.at).copied()
    }

    fn unexpected(&self, wanted: &str) -> Box<Diagnostic> {
        let found = self.source.text.get(self.at..).and_then(|rest| rest.chars().next());
        let length = found.map_or(0, char::len_utf8);
        let message = match found {
            Some(c) => format!("broken JSON: `{}` where {wanted} is expected", c.escape_debug()),
            None => format!("broken JSON: it ends where {wanted} is expected"),
        };
        // What ends too early is shown at its last character.
        let start =
            if found.is_none() { self.source.text.trim_end().len().saturating_sub(1) } else { self.at };
        let span = Span::new(start, start + length.max(1));
        Box::new(Diagnostic::error(message).at(self.source, span, format!("{wanted} expected")))
    }

    fn value(&mut self, depth: usize) -> Result<Arc<Node>> {
        let first = self.peek();
        let start = self.at;
        if depth > DEPTH {
            let message = format!("more than {DEPTH} arrays and objects of JSON are within each other");
            return Err(Box::new(Diagnostic::error(message).at(
                self.source,
                Span::new(start, start + 1),
                "",
            )));
        }
        let value = match first {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => {
                let (text, is_plain) = self.text()?;
                Json::Text { text, is_plain }
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => {
                let words = [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))];
                let word =
                    words.into_iter().find(|(word, _)| self.bytes[start..].starts_with(word.as_bytes()));
                let (word, value) = word.ok_or_else(|| self.unexpected("a value"))?;
                self.at += word.len();
                value
            }
        };
        Ok(Arc::new(Node { value, span: Span::new(start, self.at) }))
    }

    fn object(&mut self, depth: usize) -> Result<Json> {
        self.at += 1;
        let mut properties = Vec::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(properties));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in quotes"));
            }
            let start = self.at;
            let (key, _) = self.text()?;
            let key_span = Span::new(start, self.at);
            if self.peek() != Some(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            properties.push(Property { key, key_span, value });
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("`,` or `}`")),
            }
        }
        self.at += 1;
        Ok(Json::Object(properties))
    }

    fn array(&mut self, depth: usize) -> Result<Json> {
        self.at += 1;
        let mut elements = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected("`,` or `]`")),
            }
        }
        self.at += 1;
        Ok(Json::Array(elements))
    }

    /// A string; serde_json knows the escapes.
    fn text(&mut self) -> Result<(String, bool)> {
        let start = self.at;
        self.at += 1;
        let mut is_plain = true;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    is_plain = false;
                    self.at += 2;
                }
                Some(b) if *b >= 0x20 => self.at += 1,
                _ => return Err(self.unexpected("the end of the string")),
            }
        }
        self.at += 1;
        let text = serde_json::from_slice(&self.bytes[start..self.at]).map_err(|_| {
            let message = "broken JSON: a string with an escape that is none";
            Box::new(Diagnostic::error(message).at(self.source, Span::new(start, self.at), "in this string"))
        })?;
        Ok((text, is_plain))
    }

    fn number(&mut self) -> Result<Json> {
        let start = self.at;
        while self
            .bytes
            .get(self.at)
            .is_some_and(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        {
            self.at += 1;
        }
        let text = &self.source.text[start..self.at];
        match serde_json::from_str::<serde_json::Number>(text) {
            Ok(_) => Ok(Json::Number(text.to_owned())),
            Err(_) => {
                let message = format!("broken JSON: `{text}` is no number");
                Err(Box::new(Diagnostic::error(message).at(self.source, Span::new(start, self.at), "")))
            }
        }
    }
}
