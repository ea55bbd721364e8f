//! Where an instruction stands, and how to say that something is wrong there.

use std::sync::Arc;

use crate::dockerfile::checks::Rule;
use crate::dockerfile::syntax::Dockerfile;
use crate::dockerfile::words::ExpandError;
use crate::report::{Diagnostic, Source, Span};
use crate::text::closest;

/// An error for people. Boxed, since it is large and rare.
pub(super) type Fault = Box<Diagnostic>;

/// The text that spans point into, and whether it is the Dockerfile's own.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The Dockerfile, or the text of a trigger of a base image.
    pub(super) source: Arc<Source>,
    /// `\` or a backtick.
    pub(super) escape: char,
    /// For a trigger: what it belongs to, and the FROM line that brought it in.
    pub(super) trigger: Option<Trigger>,
}

/// Where a trigger of a base image comes from.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    /// The base, as FROM names it.
    pub(super) base: String,
    /// The Dockerfile's text.
    pub(super) file: Arc<Source>,
    /// FROM in it.
    pub(super) from: Span,
}

impl Place {
    /// The Dockerfile itself.
    pub(super) fn of(file: &Dockerfile) -> Self {
        Self { source: Arc::clone(&file.source), escape: file.directives.escape, trigger: None }
    }

    /// What goes wrong at `span`.
    pub(super) fn fault(&self, span: Span, message: impl Into<String>) -> Fault {
        let diagnostic = Diagnostic::error(message).at(&self.source, span, "");
        Box::new(match &self.trigger {
            Some(trigger) => diagnostic.note(format!(
                "this is an ONBUILD trigger of the base image `{}`, fired by line {}",
                trigger.base,
                trigger.file.line_column(trigger.from.start).0
            )),
            None => diagnostic,
        })
    }

    /// A word that cannot be expanded.
    pub(super) fn unexpandable(&self, span: Span, error: &ExpandError) -> Fault {
        let mut fault = self.fault(span, error.to_string());
        fault.help.extend(error.help());
        fault
    }

    /// What a check finds at `span`. A finding in a trigger is shown at FROM, where a directive of the
    /// Dockerfile can switch it off.
    pub(super) fn warning(&self, rule: &Rule, span: Span, message: impl Into<String>) -> Diagnostic {
        match &self.trigger {
            Some(trigger) => rule
                .finding(&trigger.file, trigger.from, message)
                .note(format!("in the ONBUILD trigger `{}` of the base image", self.source.text.trim())),
            None => rule.finding(&self.source, span, message),
        }
    }

    /// The span to give to a step: triggers of a base stand nowhere in the file but at its FROM.
    pub(super) fn step_span(&self, span: Span) -> Span {
        self.trigger.as_ref().map_or(span, |trigger| trigger.from)
    }
}

/// `did you mean …?` when one of `options` is close to `word`.
pub(super) fn with_suggestion<'a>(
    mut fault: Fault,
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
) -> Fault {
    if let Some(near) = closest(word, options) {
        fault.help.push(format!("did you mean `{near}`?"));
    }
    fault
}
