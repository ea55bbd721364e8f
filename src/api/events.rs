//! What is told on the way.

use std::time::Duration;

use super::Message;
use crate::report;

/// One thing that happened in a build. Steps have numbers, in the order of [`Event::Planned`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The steps that the build consists of: place and instruction of each.
    Planned(Vec<(String, String)>),
    /// A step began.
    Started {
        /// The step.
        step: usize,
    },
    /// A command printed a line.
    Output {
        /// The step.
        step: usize,
        /// On standard error; else on standard output.
        is_error: bool,
        /// Without its newline.
        line: String,
    },
    /// A step ended well.
    Finished {
        /// The step.
        step: usize,
        /// Whether its layer came from the cache.
        cached: bool,
        /// How long it took.
        took: Duration,
    },
    /// A step failed; why is the error of the build.
    Failed {
        /// The step.
        step: usize,
    },
    /// Something about the Dockerfile or the machine.
    Warning(Message),
    /// A line worth knowing that belongs to no step.
    Note(String),
}

impl Event {
    /// None for what only displays need.
    pub(super) fn of(event: report::Event) -> Option<Self> {
        Some(match event {
            report::Event::Planned(steps) => {
                Self::Planned(steps.into_iter().map(|step| (step.place, step.title)).collect())
            }
            report::Event::Started(step) => Self::Started { step: step.0 },
            report::Event::Log { step, stream, line } => {
                Self::Output { step: step.0, is_error: stream == report::Stream::Stderr, line }
            }
            report::Event::Finished { step, outcome, took, .. } => {
                Self::Finished { step: step.0, cached: outcome == report::Outcome::Cached, took }
            }
            report::Event::Failed { step, .. } => Self::Failed { step: step.0 },
            report::Event::Warning(diagnostic) => Self::Warning(Message::of(&diagnostic)),
            report::Event::Note(text) => Self::Note(text),
            _ => return None,
        })
    }
}
