//! Keeps values out of records that must not be in them.

use serde_json::Value;

use super::format::{Message, Place, Record};
use crate::report::Diagnostic;

/// What stands for a value.
const MASK: &str = "…";
/// Shorter values are parts of too many words to be taken out of them.
const SHORTEST: usize = 6;

/// Gives a text without what must not be seen in it; none where there is nothing of that.
pub type Hide = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What texts pass through before they are written.
#[derive(Default)]
pub(super) struct Hidden(pub(super) Vec<Hide>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hidden({})", self.0.len())
    }
}

impl Hidden {
    /// Has each text of the record passed through.
    pub(super) fn hide(&self, record: &mut Record) {
        if self.0.is_empty() {
            return;
        }
        let hidden = serde_json::to_value(&*record).map(|mut value| {
            self.walk(&mut value);
            value
        });
        // It is the same shape, with other texts in it; one that could not be read would be no record.
        *record = hidden.and_then(serde_json::from_value).unwrap_or_default();
    }

    fn walk(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                for hide in &self.0 {
                    if let Some(hidden) = hide(text) {
                        *text = hidden;
                    }
                }
            }
            Value::Array(all) => all.iter_mut().for_each(|value| self.walk(value)),
            Value::Object(members) => members.values_mut().for_each(|value| self.walk(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Values of build arguments that are not to be recorded.
#[derive(Debug, Default)]
pub(super) struct Mask(Vec<String>);

impl Mask {
    pub(super) fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut values: Vec<String> = values.into_iter().filter(|value| !value.is_empty()).collect();
        // A value that another begins with must not leave the other's end behind.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    /// Whether a text has any of the values.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.0.iter().any(|value| text.contains(value.as_str()))
    }

    /// The text without the values.
    pub(super) fn text(&self, text: &str) -> String {
        let hide = |text: String, value: &String| match text.contains(value.as_str()) {
            true => text.replace(value.as_str(), MASK),
            false => text,
        };
        self.0.iter().filter(|value| value.len() >= SHORTEST).fold(text.to_owned(), hide)
    }

    /// A message without the values, and without what commands printed, which logs have.
    pub(super) fn message(&self, diagnostic: &Diagnostic) -> Message {
        let text = |text: &String| self.text(text);
        let place = diagnostic.source.as_ref().zip(diagnostic.labels.first());
        let place = place.map(|(source, label)| {
            let (line, column) = source.line_column(label.span.start);
            let (end_line, end_column) = source.line_column(label.span.end);
            Place { file: source.name.clone(), line, column, end_line, end_column }
        });
        Message {
            code: diagnostic.code.map(str::to_owned),
            text: text(&diagnostic.message),
            place,
            notes: diagnostic.notes.iter().filter(|note| !note.contains('\n')).map(text).collect(),
            help: diagnostic.help.iter().map(text).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_in_messages() {
        let mask =
            Mask::new(["hunter22".to_owned(), "hunter22-longer".to_owned(), "1".to_owned(), String::new()]);
        assert_eq!(mask.text("x hunter22 hunter22-longer 1"), "x … … 1");
        assert!(mask.is_in("1.0") && !mask.is_in("x"));
        let told =
            Diagnostic::error("no hunter22").note("its last output:\nhunter22").note("a").help("b hunter22");
        let message = mask.message(&told);
        assert_eq!((message.text.as_str(), message.notes.as_slice()), ("no …", &["a".to_owned()][..]));
        assert_eq!(message.help, ["b …"]);
    }
}
