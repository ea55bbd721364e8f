//! Faults of definitions: messages with a place.

use std::ops::Range;
use std::sync::Arc;

use crate::report::{Diagnostic, Source, Span};

/// What most of this module gives; a fault is a message for people, large and seldom.
pub(super) type Result<T> = std::result::Result<T, Box<Diagnostic>>;

/// Where the offsets of an expression are counted from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    base: Base,
}

#[derive(Debug, Clone, Copy)]
enum Base {
    /// Offsets count from this byte of the text.
    Offset(usize),
    /// All of it is here: a JSON string with escapes.
    Whole(Span),
}

impl Place {
    /// The beginning of a file.
    pub(super) fn of(source: &Arc<Source>) -> Self {
        Self::from(source, 0)
    }

    /// Offsets count from the byte `offset`.
    pub(super) fn from(source: &Arc<Source>, offset: usize) -> Self {
        Self { source: Arc::clone(source), base: Base::Offset(offset) }
    }

    /// Offsets mean nothing; what is wrong is in `span`.
    pub(super) fn whole(source: &Arc<Source>, span: Span) -> Self {
        Self { source: Arc::clone(source), base: Base::Whole(span) }
    }

    pub(super) fn span(&self, range: Option<Range<usize>>) -> Span {
        match (self.base, range) {
            (Base::Whole(span), _) => span,
            (Base::Offset(base), Some(range)) => Span::new(base + range.start, base + range.end),
            (Base::Offset(base), None) => Span::new(base, base + 1),
        }
    }

    /// An error that points to `range`.
    pub(super) fn fault(
        &self,
        range: Option<Range<usize>>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(message).at(&self.source, self.span(range), label))
    }
}

/// An error without a place.
pub(super) fn fault(message: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(message))
}

/// Adds a way to go on.
pub(super) fn with_help(fault: Box<Diagnostic>, help: Option<String>) -> Box<Diagnostic> {
    match help {
        Some(help) => Box::new(fault.help(help)),
        None => fault,
    }
}

/// `did you mean …?`, if one of `names` is near.
pub(super) fn did_you_mean<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    crate::text::closest(word, names).map(|near| format!("did you mean `{near}`?"))
}
