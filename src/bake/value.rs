//! Values of bake's language and their types, as HashiCorp's language has them.
//!
//! A list literal is a tuple and an object literal an object; they become lists and maps where one is asked for
//! ([`super::convert`]). There are no unknown values: all that a definition can ask for is known.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    /// Any type: of `null`, and where no type is asked for.
    Any,
    Bool,
    Number,
    Text,
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<Type>),
    Tuple(Vec<Type>),
    /// Attributes, and the names of those that may be missing where the type is asked for.
    Object(BTreeMap<String, Type>, BTreeSet<String>),
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null(Type),
    Bool(bool),
    Number(Number),
    Text(Arc<str>),
    /// The type is that of the elements.
    List(Type, Arc<Vec<Value>>),
    /// In order, each once.
    Set(Type, Arc<Vec<Value>>),
    Map(Type, Arc<BTreeMap<String, Value>>),
    Tuple(Arc<Vec<Value>>),
    Object(Arc<BTreeMap<String, Value>>),
}

/// A whole number is exact; others have the precision of 64-bit floating point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    /// The number that decimal text stands for.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        if let Ok(whole) = text.parse::<i128>() {
            return Some(Self::Whole(whole));
        }
        let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
        let real: f64 = text.parse().ok().filter(|_| plain)?;
        Self::real(real)
    }

    /// `value`, as a whole number if it is one; infinity and what is no number are none.
    pub(super) fn real(value: f64) -> Option<Self> {
        // Beyond this a float is no longer exact in an i128's neighbourhood.
        const EXACT: f64 = 1e37;
        match value {
            value if !value.is_finite() => None,
            value if value.fract() == 0.0 && value.abs() < EXACT => Some(Self::Whole(value as i128)),
            value => Some(Self::Real(value)),
        }
    }

    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }

    /// The whole number that it is.
    pub(super) fn whole(self) -> Option<i128> {
        match self {
            Self::Whole(whole) => Some(whole),
            Self::Real(_) => None,
        }
    }
}

impl From<usize> for Number {
    fn from(count: usize) -> Self {
        Self::Whole(count as i128)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            Self::Real(real) => write!(f, "{real}"),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(one), Self::Whole(two)) => one.cmp(two),
            (one, two) => one.as_f64().total_cmp(&two.as_f64()),
        }
    }
}

impl Type {
    /// An object type all of whose attributes have to be there.
    pub(super) fn object(attributes: BTreeMap<String, Type>) -> Self {
        Self::Object(attributes, BTreeSet::new())
    }

    pub(super) fn is_primitive(&self) -> bool {
        matches!(self, Self::Bool | Self::Number | Self::Text)
    }

    /// In the words of the language.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Any => "any value".to_owned(),
            Self::Bool => "a bool".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::List(of) => format!("a list of {}", of.plural()),
            Self::Set(of) => format!("a set of {}", of.plural()),
            Self::Map(of) => format!("a map of {}", of.plural()),
            Self::Tuple(_) => "a tuple".to_owned(),
            Self::Object(..) => "an object".to_owned(),
        }
    }

    fn plural(&self) -> String {
        match self {
            Self::Any => "any values".to_owned(),
            Self::Bool => "bools".to_owned(),
            Self::Number => "numbers".to_owned(),
            Self::Text => "strings".to_owned(),
            Self::Tuple(_) => "tuples".to_owned(),
            Self::Object(..) => "objects".to_owned(),
            Self::List(of) => format!("lists of {}", of.plural()),
            Self::Set(of) => format!("sets of {}", of.plural()),
            Self::Map(of) => format!("maps of {}", of.plural()),
        }
    }

    /// As `--list=variables` shows it.
    pub(super) fn listed(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Text => "string".to_owned(),
            Self::List(of) => format!("list of {}", of.listed()),
            Self::Set(of) => format!("set of {}", of.listed()),
            Self::Map(of) => format!("map of {}", of.listed()),
            Self::Tuple(_) => "tuple".to_owned(),
            Self::Object(..) => "object".to_owned(),
        }
    }
}

impl Value {
    /// `null`
    pub(super) const NULL: Self = Self::Null(Type::Any);

    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Arc::from(text.as_ref()))
    }

    pub(super) fn whole(number: i128) -> Self {
        Self::Number(Number::Whole(number))
    }

    pub(super) fn tuple(elements: Vec<Value>) -> Self {
        Self::Tuple(Arc::new(elements))
    }

    pub(super) fn object(attributes: BTreeMap<String, Value>) -> Self {
        Self::Object(Arc::new(attributes))
    }

    /// A list whose elements are all of `element`.
    pub(super) fn list(element: Type, elements: Vec<Value>) -> Self {
        Self::List(element, Arc::new(elements))
    }

    pub(super) fn map(element: Type, entries: BTreeMap<String, Value>) -> Self {
        Self::Map(element, Arc::new(entries))
    }

    /// A set of what is in `elements`.
    pub(super) fn set(element: Type, mut elements: Vec<Value>) -> Self {
        elements.sort_by(Self::order);
        elements.dedup_by(|one, two| one.same(two));
        Self::Set(element, Arc::new(elements))
    }

    pub(super) fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::list(Type::Text, texts.into_iter().map(Self::text).collect())
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null(_))
    }

    pub(super) fn type_of(&self) -> Type {
        match self {
            Self::Null(of) => of.clone(),
            Self::Bool(_) => Type::Bool,
            Self::Number(_) => Type::Number,
            Self::Text(_) => Type::Text,
            Self::List(of, _) => Type::List(Box::new(of.clone())),
            Self::Set(of, _) => Type::Set(Box::new(of.clone())),
            Self::Map(of, _) => Type::Map(Box::new(of.clone())),
            Self::Tuple(elements) => Type::Tuple(elements.iter().map(Self::type_of).collect()),
            Self::Object(attributes) => {
                Type::object(attributes.iter().map(|(name, value)| (name.clone(), value.type_of())).collect())
            }
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Null(_) => "null".to_owned(),
            value => value.type_of().name(),
        }
    }

    /// The elements of a list, set or tuple.
    pub(super) fn elements(&self) -> Option<&[Value]> {
        match self {
            Self::List(_, elements) | Self::Set(_, elements) | Self::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The entries of a map or object.
    pub(super) fn entries(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Self::Map(_, entries) | Self::Object(entries) => Some(entries),
            _ => None,
        }
    }

    /// Keys and values as `for` and `matrix` go through them.
    pub(super) fn pairs(&self) -> Option<Vec<(Value, Value)>> {
        if let Some(entries) = self.entries() {
            return Some(entries.iter().map(|(key, value)| (Self::text(key), value.clone())).collect());
        }
        let elements = self.elements()?;
        Some(match self {
            // An element of a set is its own key.
            Self::Set(..) => elements.iter().map(|value| (value.clone(), value.clone())).collect(),
            _ => elements.iter().enumerate().map(|(at, v)| (Self::Number(at.into()), v.clone())).collect(),
        })
    }

    /// Whether both have one type and one value.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null(_), Self::Null(_)) => true,
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Number(one), Self::Number(two)) => one == two,
            (Self::Text(one), Self::Text(two)) => one == two,
            (Self::List(_, one), Self::List(_, two))
            | (Self::Set(_, one), Self::Set(_, two))
            | (Self::Tuple(one), Self::Tuple(two)) => {
                one.len() == two.len() && one.iter().zip(two.iter()).all(|(one, two)| one.same(two))
            }
            (Self::Map(_, one), Self::Map(_, two)) | (Self::Object(one), Self::Object(two)) => {
                let same = |((key, value), (other, its)): ((&String, &Value), (&String, &Value))| {
                    key == other && value.same(its)
                };
                one.len() == two.len() && one.iter().zip(two.iter()).all(same)
            }
            _ => false,
        }
    }

    /// The order in which sets have their elements.
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(one), Self::Bool(two)) => one.cmp(two),
            (Self::Number(one), Self::Number(two)) => one.cmp(two),
            (Self::Text(one), Self::Text(two)) => one.cmp(two),
            (Self::Null(_), Self::Null(_)) => Ordering::Equal,
            (Self::Null(_), _) => Ordering::Less,
            (_, Self::Null(_)) => Ordering::Greater,
            (one, two) => one.json().cmp(&two.json()),
        }
    }

    /// As JSON, in the way of Go, whose strings have `<`, `>` and `&` escaped.
    pub(super) fn json(&self) -> String {
        match self {
            Self::Null(_) => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(text) => json_text(text),
            Self::List(_, elements) | Self::Set(_, elements) | Self::Tuple(elements) => {
                let elements: Vec<String> = elements.iter().map(Self::json).collect();
                format!("[{}]", elements.join(","))
            }
            Self::Map(_, entries) | Self::Object(entries) => {
                let entry = |(key, value): (&String, &Value)| format!("{}:{}", json_text(key), value.json());
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
            }
        }
    }

    /// So much it counts for against the limit of an evaluation.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Null(_) | Self::Bool(_) | Self::Number(_) => 1,
            Self::Text(text) => 1 + text.len() / 16,
            Self::List(_, elements) | Self::Set(_, elements) | Self::Tuple(elements) => {
                1 + elements.iter().map(Self::weight).sum::<usize>()
            }
            Self::Map(_, entries) | Self::Object(entries) => {
                1 + entries.iter().map(|(key, value)| 1 + key.len() / 16 + value.weight()).sum::<usize>()
            }
        }
    }
}

/// A string of JSON as Go's encoder writes it.
pub(super) fn json_text(text: &str) -> String {
    let plain = serde_json::Value::from(text).to_string();
    escape_like_go(&plain)
}

/// What Go's encoder escapes besides: characters that mean something in HTML, and two ends of lines.
pub(super) fn escape_like_go(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_and_print_as_they_are_written() {
        for (text, printed) in [
            ("1", "1"),
            ("-7", "-7"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("18446744073709551616", "18446744073709551616"),
        ] {
            assert_eq!(Number::parse(text).map(|n| n.to_string()).as_deref(), Some(printed), "{text}");
        }
        for text in ["", "x", "inf", "NaN", "0x10", "1e999"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn json_is_go_s() {
        assert_eq!(Value::text("a<b>&\"c\"\n").json(), r#""a\u003cb\u003e\u0026\"c\"\n""#);
    }
}
