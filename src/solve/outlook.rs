//! What is foreseen of a step.

use std::sync::Arc;

use super::state::Files;
use crate::oci::Layer;

/// What would become of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// A source whose files are here.
    Here,
    /// An image of which layers would be fetched.
    Fetch {
        /// How many layers are missing.
        layers: usize,
        /// Their size in bytes, compressed.
        bytes: u64,
    },
    /// Its layer is in the cache.
    Cached {
        /// The layer.
        layer: Box<Layer>,
        /// The cache that has it; none when it is here.
        from: Option<String>,
    },
    /// It would run.
    Run {
        /// Why, in one clause.
        why: String,
    },
}

/// Layers that a build would fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// From where: a reference, a cache.
    pub from: String,
    /// How many.
    pub layers: usize,
    /// Their size in bytes, compressed.
    pub bytes: u64,
}

/// What is foreseen of one step.
pub(super) struct Foreseen {
    /// What would become of it.
    pub(super) outlook: Outlook,
    /// Its result, if that is known without running it.
    pub(super) files: Option<Arc<Files>>,
    /// Where an image is from whose layers may be fetched.
    pub(super) remote: Option<String>,
}

impl Foreseen {
    /// It would run.
    pub(super) fn run(why: impl Into<String>) -> Self {
        Self { outlook: Outlook::Run { why: why.into() }, files: None, remote: None }
    }
}
