//! What can be wrong with something to import.

use std::io;
use std::path::{Path, PathBuf};

use crate::layer;
use crate::oci::{DiffId, Digest, Platform, TooDeep};
use crate::store;

/// Why an image could not be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Neither a layout nor an archive of images.
    #[error("`{name}` holds no images: it has neither index.json nor manifest.json")]
    NotAnImage {
        /// The file or folder.
        name: String,
    },
    /// A tar that cannot be read.
    #[error("`{name}` cannot be read as an archive: {source}")]
    BadArchive {
        /// The file.
        name: String,
        /// What the reader of archives met.
        source: layer::archive::Error,
    },
    /// A document that does not parse.
    #[error("`{file}` in `{name}` does not parse: {reason}")]
    BadDocument {
        /// The file or folder.
        name: String,
        /// The document in it.
        file: String,
        /// What the parser said.
        reason: String,
    },
    /// A file that something names and that is not there.
    #[error("`{name}` is incomplete: it lacks `{file}`")]
    Missing {
        /// The file or folder.
        name: String,
        /// What it lacks.
        file: String,
    },
    /// A blob that is another one than its name says.
    #[error("`{file}` in `{name}` is damaged: its digest is {actual}")]
    Damaged {
        /// The file or folder.
        name: String,
        /// The blob's path in it.
        file: String,
        /// What it is.
        actual: Digest,
    },
    /// A blob whose size is another than what names it says.
    #[error("`{file}` in `{name}` has {actual} bytes, and what names it says {expected}")]
    WrongSize {
        /// The file or folder.
        name: String,
        /// The blob's path in it.
        file: String,
        /// What was said.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// An index of indexes of indexes.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    /// A manifest or a configuration that nobody should read into memory: registries refuse it, too.
    #[error("`{file}` in `{name}` has {size} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// The file or folder.
        name: String,
        /// The document's path in it.
        file: String,
        /// Its size, as what names it says.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A layer that is another one than the configuration says.
    #[error("the layer `{file}` in `{name}` holds {actual}, and the configuration says {expected}")]
    WrongDiffId {
        /// The file.
        name: String,
        /// The layer's path in it.
        file: String,
        /// What the configuration says.
        expected: DiffId,
        /// What the layer holds.
        actual: DiffId,
    },
    /// No image of that name.
    #[error("`{name}` does not have {}{}", wanted_words(wanted), offered_words(offered))]
    NotThere {
        /// The file or folder.
        name: String,
        /// What was asked for; may be empty.
        wanted: String,
        /// What there is.
        offered: Vec<String>,
    },
    /// No image for that platform.
    #[error("no match for {wanted} in `{name}`; it has: {}", platforms(offered))]
    NoPlatform {
        /// The file or folder.
        name: String,
        /// What was asked for.
        wanted: Box<Platform>,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// Everything else that the system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { action, path: path.to_owned(), source }
    }
}

fn wanted_words(wanted: &str) -> String {
    if wanted.is_empty() { "exactly one image".to_owned() } else { format!("`{wanted}`") }
}

fn offered_words(offered: &[String]) -> String {
    if offered.is_empty() { String::new() } else { format!("; it has {}", offered.join(", ")) }
}

fn platforms(offered: &[Platform]) -> String {
    offered.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}
