//! Takes an image from an OCI layout on disk into the store.

use std::path::Path;

use crate::import::{Error, Layout, Source};
use crate::oci::Descriptor;
use crate::report::Diagnostic;
use crate::store::Store;

/// Finds the image that `selector` (a tag, a digest, or nothing for the only one) names in the layout at
/// `path`, and brings all of its blobs into the store, each verified. Gives its descriptor.
pub(super) fn import(store: &Store, path: &Path, selector: &str) -> Result<Descriptor, Diagnostic> {
    let take = || {
        let source = Source::Layout(Layout::open(path)?);
        source.take(store, &source.select(selector)?, None)
    };
    take().map_err(|error: Error| {
        let diagnostic = Diagnostic::error(error.to_string());
        match error {
            Error::NotAnImage { .. } => {
                diagnostic.help("`oci-layout://` wants a folder with oci-layout, index.json and blobs/")
            }
            _ => diagnostic,
        }
    })
}
