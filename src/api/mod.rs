//! What rbuild promises to programs that use it as a library: to build, to plan, to look at images, and to be told on the way.
//!
//! Only what is here stays as it is (within a minor version, as `docs/support.md` says). Everything is given as text, numbers and paths, so
//! that no type of rbuild's inner modules shows. More options than these are the command line's.
//!
//! ```
//! use rbuild::api::{Build, Event, Images};
//!
//! # let folder = tempfile::tempdir()?;
//! # let (context, store) = (folder.path().join("context"), folder.path().join("store"));
//! # std::fs::create_dir(&context)?;
//! std::fs::write(context.join("Dockerfile"), "FROM scratch\nARG NAME\nCOPY hello /hello\nLABEL name=$NAME\n")?;
//! std::fs::write(context.join("hello"), "hello\n")?;
//!
//! let build = Build::new(&store, &context).tag("hello:1").build_arg("NAME", "value");
//! let planned = build.plan()?;
//! assert!(planned.iter().any(|step| step.instruction == "COPY hello /hello" && step.would_run()));
//!
//! let mut ran = 0;
//! let built = build.run(|event| ran += usize::from(matches!(event, Event::Finished { cached: false, .. })))?;
//! assert_eq!((built.layers, ran > 0), (1, true));
//!
//! let image = Images::open(&store)?.inspect("hello:1")?;
//! assert_eq!(image.digest, built.digest);
//! assert_eq!(image.platforms[0].labels, [("name".to_owned(), "value".to_owned())]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! A RUN starts the program that runs once more, to become what steps are forked from. So a program that builds Dockerfiles with RUN calls
//! [`main_of_steps`] first of all.

mod build;
mod events;
mod images;

use std::fmt;
use std::process::ExitCode;

pub use build::{Build, Built, Outlook, PlannedStep};
pub use events::Event;
pub use images::{Image, Images, Layer, PlatformImage};

use crate::report::{Diagnostic, Severity};

/// One message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The build cannot go on; else it is a warning.
    pub is_error: bool,
    /// The check that speaks, such as `StageNameCasing`; errors have none.
    pub check: Option<String>,
    /// What is wrong: lower case, no full stop.
    pub text: String,
    /// File, line and column (from 1), where it is in a file.
    pub place: Option<(String, usize, usize)>,
    /// Facts that explain, and ways to go on.
    pub help: Vec<String>,
}

impl Message {
    fn of(diagnostic: &Diagnostic) -> Self {
        let source = diagnostic.source.as_ref().zip(diagnostic.labels.first());
        let place = source.map(|(source, label)| {
            let (line, column) = source.line_column(label.span.start);
            (source.name.clone(), line, column)
        });
        Self {
            is_error: diagnostic.severity == Severity::Error,
            check: diagnostic.code.map(str::to_owned),
            text: diagnostic.message.clone(),
            place,
            help: diagnostic.notes.iter().chain(&diagnostic.help).cloned().collect(),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line, column)) = &self.place {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// Why something did not work: one message or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    messages: Vec<Message>,
}

impl Error {
    fn of(diagnostics: &[Diagnostic]) -> Self {
        Self { messages: diagnostics.iter().map(Message::of).collect() }
    }

    fn plain(text: impl Into<String>) -> Self {
        Self::of(&[Diagnostic::error(text)])
    }

    /// What to tell people.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, message) in self.messages.iter().enumerate() {
            let between = if at > 0 { "\n" } else { "" };
            write!(f, "{between}{message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// What a program's `main` calls before anything else, if it builds Dockerfiles with RUN: gives an exit code when this process was started by
/// rbuild to do a part of a step, which is done then.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(done) = rbuild::api::main_of_steps() {
///         return done;
///     }
///     // …
/// #   std::process::ExitCode::SUCCESS
/// }
/// ```
pub fn main_of_steps() -> Option<ExitCode> {
    Some(crate::exec::role_from_args()?.run(crate::solve::jobs::TABLE))
}
