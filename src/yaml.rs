//! YAML as a tree with places.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as Markers};
use serde_json::Value;

use crate::report::{Diagnostic, Source, Span};

/// A fault is a message for people, large and seldom.
type Result<T> = std::result::Result<T, Box<Diagnostic>>;

/// As many nodes as a file may have once its aliases are followed.
const NODES: usize = 200_000;
/// As deep as nodes may be in each other.
const DEPTH: usize = 100;

/// A node and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Yaml,
    pub(crate) span: Span,
    pub(crate) source: Arc<Source>,
    pub(crate) tag: Tag,
}

/// What a node is for the files before its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tag {
    #[default]
    None,
    /// `!reset`: takes away what is there.
    Reset,
    /// `!override`: takes its place.
    Override,
}

#[derive(Debug, Clone)]
pub(crate) enum Yaml {
    Null,
    Bool(bool),
    /// As Go prints it.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In their order.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

impl Node {
    /// An empty map.
    pub(crate) fn empty(source: &Arc<Source>) -> Self {
        Self {
            value: Yaml::Map(Vec::new()),
            span: Span::default(),
            source: Arc::clone(source),
            tag: Tag::None,
        }
    }

    /// The same place with another value.
    pub(crate) fn with(&self, value: Yaml) -> Self {
        Self { value, span: self.span, source: Arc::clone(&self.source), tag: self.tag }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Yaml::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// Sets a key, or takes it away.
    pub(crate) fn set(&mut self, key: &str, value: Option<Node>) {
        let Yaml::Map(entries) = &mut self.value else { return };
        match (entries.iter().position(|entry| entry.key == key), value) {
            (Some(at), Some(value)) => entries[at].value = value,
            (Some(at), None) => drop(entries.remove(at)),
            (None, Some(value)) => {
                entries.push(Entry { key: key.to_owned(), key_span: value.span, value });
            }
            (None, None) => {}
        }
    }

    /// Keys and values of a map.
    pub(crate) fn entries(&self) -> Option<Vec<(&str, &Node)>> {
        match &self.value {
            Yaml::Map(entries) => {
                Some(entries.iter().map(|entry| (entry.key.as_str(), &entry.value)).collect())
            }
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Yaml::Null)
    }

    /// The same without places.
    pub(crate) fn to_json(&self) -> Value {
        match &self.value {
            Yaml::Null => Value::Null,
            Yaml::Bool(value) => Value::Bool(*value),
            // What is no number of JSON (`.inf`) stays a text.
            Yaml::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            Yaml::Text(text) => Value::String(text.clone()),
            Yaml::List(nodes) => Value::Array(nodes.iter().map(Node::to_json).collect()),
            Yaml::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
            }
        }
    }

    /// The text of a scalar; null has none.
    pub(crate) fn scalar(&self) -> Option<String> {
        match &self.value {
            Yaml::Bool(value) => Some(value.to_string()),
            Yaml::Number(text) | Yaml::Text(text) => Some(text.clone()),
            Yaml::Null | Yaml::List(_) | Yaml::Map(_) => None,
        }
    }

    /// An error that points to it.
    pub(crate) fn fault(&self, message: impl Into<String>, label: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(message).at(&self.source, self.span, label))
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Yaml::Null => "null",
            Yaml::Bool(_) => "a bool",
            Yaml::Number(_) => "a number",
            Yaml::Text(_) => "a string",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "a mapping",
        }
    }

    fn count(&self) -> usize {
        match &self.value {
            Yaml::List(elements) => 1 + elements.iter().map(Node::count).sum::<usize>(),
            Yaml::Map(entries) => 1 + entries.iter().map(|entry| 1 + entry.value.count()).sum::<usize>(),
            _ => 1,
        }
    }
}

/// All documents of a text.
pub(crate) fn parse(source: &Arc<Source>) -> Result<Vec<Node>> {
    let mut builder = Builder::new(source);
    for event in Parser::new_from_str(&source.text) {
        let (event, markers) = event.map_err(|error| {
            let at = builder.offset(error.marker().index());
            let message = format!("broken YAML: {}", error.info());
            let end = (at + 1).min(source.text.len().max(1));
            Box::new(Diagnostic::error(message).at(source, Span::new(at.min(end - 1), end), "here"))
        })?;
        builder.add(event, markers)?;
    }
    Ok(builder.documents)
}

/// Puts events together to trees.
struct Builder<'s> {
    source: &'s Arc<Source>,
    /// Byte offsets of characters; none where every character is a byte.
    offsets: Option<Vec<usize>>,
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A list or map that is not complete.
struct Open {
    node: Node,
    anchor: usize,
    /// In a map: the key whose value comes next.
    key: Option<(String, Span)>,
}

impl<'s> Builder<'s> {
    fn new(source: &'s Arc<Source>) -> Self {
        let text = &source.text;
        let offsets =
            (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).chain([text.len()]).collect());
        Self { source, offsets, documents: Vec::new(), open: Vec::new(), anchors: HashMap::new(), nodes: 0 }
    }

    fn offset(&self, character: usize) -> usize {
        let at = match &self.offsets {
            None => character,
            Some(offsets) => offsets.get(character).copied().unwrap_or(usize::MAX),
        };
        at.min(self.source.text.len())
    }

    fn span(&self, markers: Markers) -> Span {
        let start = self.offset(markers.start.index());
        let end = self.offset(markers.end.index()).max(start);
        // A block ends where the next one begins: its first line is enough.
        let text = &self.source.text[start..end];
        let line = text.find('\n').unwrap_or(text.len());
        Span::new(start, start + text[..line].trim_end().len().max(1))
    }

    fn add(&mut self, event: Event<'_>, markers: Markers) -> Result<()> {
        let span = self.span(markers);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let (mark, is_text) = self.tag(tag.as_deref(), span)?;
                let value = match style {
                    ScalarStyle::Plain if !is_text => plain(&text),
                    _ => Yaml::Text(text.into_owned()),
                };
                self.complete(Node { value, span, source: Arc::clone(self.source), tag: mark }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Yaml::List(Vec::new()), span, anchor, tag.as_deref())
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Yaml::Map(Vec::new()), span, anchor, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { node, anchor, .. }) => self.complete(node, anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    let message = "broken YAML: an alias of what is not complete, or not there";
                    return Err(Box::new(Diagnostic::error(message).at(self.source, span, "this alias")));
                };
                self.nodes += node.count();
                self.check_size(span)?;
                self.complete(node, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn check_size(&self, span: Span) -> Result<()> {
        let why = match (self.nodes > NODES, self.open.len() > DEPTH) {
            (true, _) => format!("more than {NODES} nodes of YAML, with what aliases repeat"),
            (_, true) => format!("more than {DEPTH} lists and mappings of YAML are in each other"),
            (false, false) => return Ok(()),
        };
        Err(Box::new(Diagnostic::error(why).at(self.source, span, "here it was given up")))
    }

    /// What a tag means: for merging, and whether it makes text of everything.
    fn tag(&self, tag: Option<&saphyr_parser::Tag>, span: Span) -> Result<(Tag, bool)> {
        let Some(tag) = tag else { return Ok((Tag::None, false)) };
        match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("!", "reset") => Ok((Tag::Reset, false)),
            ("!", "override") => Ok((Tag::Override, false)),
            ("tag:yaml.org,2002:", "str") => Ok((Tag::None, true)),
            ("tag:yaml.org,2002:", _) => Ok((Tag::None, false)),
            _ => {
                let fault = Diagnostic::error(format!("the tag `{tag}` means nothing here"));
                let fault = fault.at(self.source, span, "this tag");
                Err(Box::new(fault.help("`!reset` and `!override` are for files that change others")))
            }
        }
    }

    fn begin(
        &mut self,
        value: Yaml,
        span: Span,
        anchor: usize,
        tag: Option<&saphyr_parser::Tag>,
    ) -> Result<()> {
        let (tag, _) = self.tag(tag, span)?;
        let node = Node { value, span, source: Arc::clone(self.source), tag };
        self.open.push(Open { node, anchor, key: None });
        self.check_size(span)
    }

    /// Puts a node that is whole where it belongs.
    fn complete(&mut self, mut node: Node, anchor: usize) -> Result<()> {
        self.nodes += 1;
        self.check_size(node.span)?;
        node = merged_keys(node)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match (&mut open.node.value, open.key.take()) {
            (Yaml::Map(_), None) => {
                let key = match &node.value {
                    Yaml::Null => Some("null".to_owned()),
                    _ => node.scalar(),
                };
                let Some(key) = key else { return Err(node.fault("a key has to be a string", node.kind())) };
                open.key = Some((key, node.span));
            }
            (Yaml::Map(entries), Some((key, key_span))) => {
                if let Some(first) = entries.iter().find(|entry| entry.key == key && key != "<<") {
                    let fault = Diagnostic::error(format!("the key `{key}` is given twice"));
                    let fault = fault.at(self.source, key_span, "here again");
                    return Err(Box::new(fault.at(self.source, first.key_span, "here first")));
                }
                entries.push(Entry { key, key_span, value: node });
            }
            (Yaml::List(elements), _) => elements.push(node),
            _ => {}
        }
        Ok(())
    }
}

/// Takes in what `<<` names: keys of the map itself go before it.
fn merged_keys(mut node: Node) -> Result<Node> {
    let Yaml::Map(entries) = &mut node.value else { return Ok(node) };
    if !entries.iter().any(|entry| entry.key == "<<") {
        return Ok(node);
    }
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(entries).into_iter().partition(|entry| entry.key == "<<");
    for merge in merges {
        let several = match merge.value.value {
            Yaml::List(elements) => elements,
            _ => vec![merge.value],
        };
        for one in several {
            let Yaml::Map(more) = one.value else { return Err(one.fault("`<<` takes mappings", one.kind())) };
            for entry in more {
                if !own.iter().any(|known| known.key == entry.key) {
                    own.push(entry);
                }
            }
        }
    }
    *entries = own;
    Ok(node)
}

/// What a scalar without quotes is.
fn plain(text: &str) -> Yaml {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Yaml::Null,
        "true" | "True" | "TRUE" => Yaml::Bool(true),
        "false" | "False" | "FALSE" => Yaml::Bool(false),
        text => number(text).map_or_else(|| Yaml::Text(text.to_owned()), Yaml::Number),
    }
}

fn number(text: &str) -> Option<String> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let first = *digits.as_bytes().first()?;
    if !(first.is_ascii_digit() || first == b'.') {
        return None;
    }
    let clean = digits.replace('_', "");
    let radix = |prefix: &str, radix: u32| u64::from_str_radix(clean.strip_prefix(prefix)?, radix).ok();
    let whole = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2));
    let whole = whole.or_else(|| match clean.as_str() {
        octal if octal.len() > 1 && octal.starts_with('0') => u64::from_str_radix(octal, 8).ok(),
        decimal => decimal.parse::<u64>().ok(),
    });
    if let Some(whole) = whole {
        return Some(format!("{sign}{whole}"));
    }
    let is_float = clean.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value: f64 = clean.parse().ok().filter(|_| is_float)?;
    let exponent = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    Some(match (-4.0..21.0).contains(&exponent) {
        true => format!("{sign}{value}"),
        false => {
            let written = format!("{value:e}");
            let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
            let (mark, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{sign}{mantissa}e{mark}{digits:0>2}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Node>> {
        parse(&Arc::new(Source { name: "test.yaml".to_owned(), text: text.to_owned() }))
    }

    #[test]
    fn scalars_are_what_go_takes_them_for() {
        for (text, scalar) in [
            ("a: 1.10", "1.1"),
            ("a: 0755", "493"),
            ("a: 0x1F", "31"),
            ("a: 1_000", "1000"),
            ("a: '1.10'", "1.10"),
            ("a: yes", "yes"),
            ("a: True", "true"),
            ("a: !!str 012", "012"),
            ("a: 1e30", "1e+30"),
            ("a: v1.2", "v1.2"),
        ] {
            let document = read(text).expect(text).remove(0);
            assert_eq!(document.get("a").and_then(Node::scalar).as_deref(), Some(scalar), "{text}");
        }
    }

    #[test]
    fn anchors_and_merges() {
        let document = read("x: &a {k: 1, l: 2}\ny:\n  <<: *a\n  k: 3\n").expect("yaml").remove(0);
        let merged = document.get("y").and_then(Node::entries).expect("a map");
        let shown: Vec<String> =
            merged.iter().map(|(key, value)| format!("{key}={:?}", value.scalar())).collect();
        assert_eq!(shown, [r#"k=Some("3")"#, r#"l=Some("2")"#]);
    }

    #[test]
    fn a_bomb_of_aliases_is_given_up() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for at in 1..9 {
            let of = at - 1;
            text.push_str(&format!("a{at}: &a{at} [*a{of}, *a{of}, *a{of}, *a{of}, *a{of}, *a{of}, *a{of}, *a{of}, *a{of}, *a{of}]\n"));
        }
        assert!(read(&text).expect_err("too large").message.contains("nodes"));
    }

    #[test]
    fn faults_have_places() {
        for text in ["a: [1, 2\nb: 3", "a: 1\na: 2", "a: *x", "? [1]\n: 2", "\u{e4}: \"\n"] {
            let fault = read(text).expect_err(text);
            assert!(!fault.labels.is_empty(), "{text}: {}", fault.message);
        }
    }
}
