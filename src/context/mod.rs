//! Selects and digests the files of a build context.
//!
//! A context is a folder of the host, seen through its ignore file. It is read lazily: a directory is listed
//! when a step first asks for it, once in a build, so every step sees the same files. Nothing here knows
//! what a step does with the files, nor how a layer is written.

use std::path::PathBuf;

pub mod digest;
pub mod glob;
#[allow(clippy::disallowed_methods, reason = "the ignore file that the user names")]
pub mod ignore;
pub mod listing;
pub mod matcher;
pub mod path;
mod pattern;
pub mod scan;
#[allow(clippy::disallowed_methods, reason = "the store's own files, by hash")]
pub mod statcache;

pub use digest::{Digests, FileDigest};
pub use ignore::Ignore;
pub use listing::{Entry, Kind, Listed, Listing, Meta};
pub use scan::Context;

/// What can go wrong with a context.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder itself cannot be opened.
    #[error("cannot open the context `{}`: {source}", path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or directory in it cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// Relative to the context, or the ignore file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it was when it was listed.
    #[error("`{}` changed while the build read it", path.display())]
    Changed {
        /// Relative to the context.
        path: PathBuf,
    },
    /// A line of the ignore file is no pattern.
    #[error("syntax error in pattern `{pattern}`, {file} line {line}")]
    IgnorePattern {
        /// The ignore file's name.
        file: String,
        /// Counted from 1.
        line: usize,
        /// As written.
        pattern: String,
    },
    /// The ignore file is a link out of the context, or to nothing.
    #[error("`{}` is a link that leads out of the context", path.display())]
    LeadsOut {
        /// The ignore file.
        path: PathBuf,
    },
    /// The ignore file is absurdly large.
    #[error("`{}` is larger than {limit} bytes", path.display())]
    IgnoreTooLarge {
        /// The ignore file.
        path: PathBuf,
        /// In bytes.
        limit: u64,
    },
}
