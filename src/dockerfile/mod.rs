//! Text to syntax, with spans: what a Dockerfile says, before any variable is expanded.
//!
//! Two layers, like BuildKit's: `lines` joins continuations and collects here-documents, `instruction`
//! makes typed values of logical lines. `words` expands variables in what they hold.
//!
//! Knows nothing of images, stages' meaning or the machine; pure.

pub mod checks;
mod directives;
mod flags;
mod heredoc;
mod instruction;
mod json;
mod lines;
pub mod listing;
pub mod mount;
mod parse;
mod print;
mod split;
pub mod syntax;
pub mod words;

pub use directives::check_options;
pub use parse::{parse, parse_before_errors, parse_trigger};

/// The largest Dockerfile that is read, in bytes. BuildKit's bound is what one message of its protocol
/// carries: 16 MiB now, 4 MiB for years; a syntax tree takes up to fifty times the text.
pub const MAX_SOURCE_BYTES: usize = 4 << 20;
/// The most instructions of one file, global ARGs and FROM counted.
pub const MAX_INSTRUCTIONS: usize = 100_000;
/// The longest instruction with its continuations, in bytes, here-documents not counted.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// The most stages of one file.
pub const MAX_STAGES: usize = 10_000;
/// The most here-documents of one instruction.
pub const MAX_HEREDOCS: usize = 1_000;
/// How many errors are reported in one run; what comes after the first few seldom helps.
pub const MAX_ERRORS: usize = 20;

/// How many instructions may be faulty before reading stops, also where errors are not all reported.
const MAX_FAULTS: usize = 1_000;
/// How many warnings one file may cause; further ones are dropped.
pub const MAX_WARNINGS: usize = 1_000;

/// A user's text for a message: whole when short, else its beginning.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
