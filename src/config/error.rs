//! What can be wrong with a configuration.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::report::{Diagnostic, Source, Span};

/// Why a configuration cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file that is there and cannot be read.
    #[error("cannot read `{}`: {reason}", path.display())]
    Unreadable {
        /// The file, as it was looked for.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file that holds something that does not belong there.
    #[error("`{}`, line {line}: {reason}", path.display())]
    Bad {
        /// The file that holds it.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What is wrong, in one clause.
        reason: String,
        /// Its text, and where in it.
        place: Box<(Arc<Source>, Span)>,
    },
    /// An option of the command line.
    #[error("bad value `{value}` for {option}: {reason}")]
    Flag {
        /// Such as `--registry-mirror`.
        option: &'static str,
        /// As it was written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What is wrong at a place in the text of a file.
    pub(super) fn at(path: &Path, text: &str, span: Option<Range<usize>>, reason: &str) -> Self {
        let source = Source { name: path.display().to_string(), text: text.to_owned() };
        let span = span.unwrap_or(0..0);
        let (line, _) = source.line_column(u32::try_from(span.start).unwrap_or(u32::MAX));
        let place = Box::new((Arc::new(source), Span::new(span.start, span.end)));
        Self::Bad { path: path.to_owned(), line, reason: reason.trim_end().replace('\n', "; "), place }
    }

    /// The error in words, with the line that it is about.
    pub fn diagnose(&self) -> Diagnostic {
        match self {
            Self::Bad { path, reason, place, .. } => {
                let message = format!("`{}` cannot be used: {reason}", path.display());
                Diagnostic::error(message).at(&place.0, place.1, "")
            }
            Self::Unreadable { .. } | Self::Flag { .. } => Diagnostic::error(self.to_string()),
        }
    }
}

/// The text of a file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(Error::Unreadable { path: path.to_owned(), reason: e.to_string() }),
    }
}

/// A file in TOML; `None` when there is none.
pub(super) fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<(T, String)>, Error> {
    let Some(text) = read(path)? else { return Ok(None) };
    match toml::from_str(&text) {
        Ok(value) => Ok(Some((value, text))),
        Err(e) => Err(Error::at(path, &text, e.span(), e.message())),
    }
}
