//! Takes an image from an OCI layout on disk into the store.

use std::path::Path;

use crate::oci::{Descriptor, Digest, Index, Manifest};
use crate::registry::MANIFEST_LIMIT;
use crate::report::Diagnostic;
use crate::store::Store;

/// Finds the image that `selector` (a tag, a digest, or nothing for the only one) names in the layout at
/// `path`, and brings all of its blobs into the store, each verified. Gives its descriptor.
pub(super) fn import(store: &Store, path: &Path, selector: &str) -> Result<Descriptor, Diagnostic> {
    let file = path.join("index.json");
    let bytes = std::fs::read(&file).map_err(|e| {
        Diagnostic::error(format!("cannot read `{}`: {e}", file.display()))
            .help("`oci-layout://` wants a folder with oci-layout, index.json and blobs/")
    })?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|e| Diagnostic::error(format!("`{}` is no index of an OCI layout: {e}", file.display())))?;
    let found = select(&index, selector).ok_or_else(|| not_there(&index, path, selector))?;
    take(store, path, found, 0)?;
    Ok(found.clone())
}

fn select<'i>(index: &'i Index, selector: &str) -> Option<&'i Descriptor> {
    if selector.is_empty() {
        return match index.manifests.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|d| name(d) == Some("latest")),
        };
    }
    if let Ok(digest) = selector.parse::<Digest>() {
        return index.manifests.iter().find(|d| d.digest == digest);
    }
    index
        .manifests
        .iter()
        .find(|d| name(d).is_some_and(|n| n == selector || n.ends_with(&format!(":{selector}"))))
}

fn name(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations.get("org.opencontainers.image.ref.name").map(String::as_str)
}

fn not_there(index: &Index, path: &Path, selector: &str) -> Diagnostic {
    let names: Vec<&str> = index.manifests.iter().filter_map(name).collect();
    let what = if selector.is_empty() { "exactly one image".to_owned() } else { format!("`{selector}`") };
    let diagnostic = Diagnostic::error(format!("the layout `{}` does not have {what}", path.display()));
    match names.is_empty() {
        true => diagnostic,
        false => diagnostic.help(format!("it has {}", names.join(", "))),
    }
}

/// Copies a manifest or an index with everything below it; blobs that the store has are not read.
fn take(store: &Store, path: &Path, descriptor: &Descriptor, depth: u32) -> Result<(), Diagnostic> {
    copy(store, path, descriptor)?;
    let is_document = descriptor.media_type.is_index() || descriptor.media_type.is_manifest();
    if !is_document || depth > 3 {
        return Ok(());
    }
    let bytes = store.read_blob(descriptor, MANIFEST_LIMIT).map_err(|e| super::diagnose_store(&e))?;
    let broken =
        |e: serde_json::Error| Diagnostic::error(format!("blob {} does not parse: {e}", descriptor.digest));
    let below = match descriptor.media_type.is_index() {
        true => serde_json::from_slice::<Index>(&bytes).map_err(broken)?.manifests,
        false => {
            let manifest: Manifest = serde_json::from_slice(&bytes).map_err(broken)?;
            [vec![manifest.config], manifest.layers].concat()
        }
    };
    below.iter().try_for_each(|d| take(store, path, d, depth + 1))
}

fn copy(store: &Store, path: &Path, descriptor: &Descriptor) -> Result<(), Diagnostic> {
    if store.has_blob(&descriptor.digest) == Some(descriptor.size) {
        return Ok(());
    }
    let file = path.join("blobs/sha256").join(descriptor.digest.hex());
    let unreadable = |e: std::io::Error| Diagnostic::error(format!("cannot read `{}`: {e}", file.display()));
    let mut from = std::fs::File::open(&file).map_err(unreadable)?;
    let mut blob = store.new_blob().map_err(|e| super::diagnose_store(&e))?;
    std::io::copy(&mut from, &mut blob).map_err(unreadable)?;
    blob.commit(Some(descriptor.digest)).map(drop).map_err(|e| super::diagnose_store(&e))
}
