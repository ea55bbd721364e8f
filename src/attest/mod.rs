//! What is said of an image beside it: documents that registries call its referrers.
//!
//! Each document is an artifact of its own whose manifest names the image as its *subject* (distribution-spec, "Referrers"), so the
//! image stays as it is, to the last digit of its digest. In the store, and in registries without an API for referrers, they are
//! found by the *referrers tag*: `sha256-HEX` of the image's repository names an index of them.
//!
//! Signatures hang on images the same way, in Sigstore's bundles; whose they are is not known here. [`check`] says whether a document is about the image that it hangs on, not who wrote it.

mod artifact;
mod buildkit;
mod document;
mod layout;
mod local;
mod remote;
mod statement;
mod wanted;

use std::collections::BTreeMap;

pub use artifact::{Artifact, IN_TOTO, SPDX, predicate};
pub use buildkit::{ABOUT, InIndex, attesting, in_index, statements};
pub use document::{Document, Documented, SPDX_PREDICATE, referrers, sbom};
pub use layout::{entries, in_layout};
pub use local::{Local, keep, keep_all};
pub use remote::{Remote, fetch, is_about_form, push};
pub use statement::{check, check_statement, check_subject, predicate_of};
pub use wanted::{Generator, Layout, Provenance, Sbom, Wanted};

use crate::inventory;
use crate::oci::{Descriptor, Digest, Reference};
use crate::report::Diagnostic;
use crate::store;

/// Documents longer than this are not read.
pub const DOCUMENT_LIMIT: u64 = 256 << 20;
/// Documents of one image that are taken along have no more bytes together: they are held in memory.
pub const TOGETHER: u64 = 2 << 30;
/// More images of one index are not looked at.
pub const IMAGES: usize = 1000;

/// Why an image has no attestations, or they cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not give or take something.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Its packages are not known.
    #[error(transparent)]
    Inventory(#[from] inventory::Error),
    /// A layout or an archive could not be read.
    #[error(transparent)]
    Import(#[from] crate::import::Error),
    /// A registry refused something.
    #[error(transparent)]
    Registry(#[from] crate::registry::Error),
    /// A document of another form than those that are kept and taken along: one blob about one image.
    #[error("the attestation {digest} has a form that rbuild does not know: {why}")]
    Foreign {
        /// Its manifest.
        digest: Digest,
        /// Why.
        why: String,
    },
    /// What should be a document is something else.
    #[error("the attestation {digest} cannot be used: {why}")]
    Wrong {
        /// Its manifest.
        digest: Digest,
        /// Why.
        why: String,
    },
}

impl Error {
    /// A message that begins with `told` and this error; with the way on, and whether another try may do, where a registry said so.
    pub(crate) fn diagnose(&self, told: &str) -> Diagnostic {
        let diagnostic = Diagnostic::error(format!("{told}{self}"));
        match self {
            Error::Registry(error) => {
                error.help().into_iter().fold(diagnostic, Diagnostic::help).transient(error.is_transient())
            }
            Error::Store(_)
            | Error::Inventory(_)
            | Error::Import(_)
            | Error::Foreign { .. }
            | Error::Wrong { .. } => diagnostic,
        }
    }
}

/// The documents about one manifest or index, with the blobs that they consist of.
#[derive(Debug, Clone, Default)]
pub struct Attestations {
    /// Each with what it is about.
    pub artifacts: Vec<Artifact>,
}

/// The name of a repository's referrers tag.
fn tagged(name: &Reference, subject: &Digest) -> Option<Reference> {
    format!("{}/{}:{}", name.registry(), name.repository(), subject.referrers_tag()).parse().ok()
}

/// Adds to what an index of referrers lists; what rbuild wrote before of the same kind is replaced.
fn merged(mut known: Vec<Descriptor>, new: Vec<Descriptor>) -> Vec<Descriptor> {
    // Nothing of what others wrote.
    let key = |entry: &Descriptor| {
        let told = |name: &str| entry.annotations.get(name).cloned();
        told(artifact::WRITER)?;
        Some((
            entry.artifact_type.clone(),
            told(artifact::PREDICATE),
            told(artifact::PLATFORM),
            told(artifact::TITLE),
        ))
    };
    let is_replaced = |old: &Descriptor, new: &Descriptor| {
        old.digest == new.digest || (key(old).is_some() && key(old) == key(new))
    };
    known.retain(|old| !new.iter().any(|new| is_replaced(old, new)));
    known.extend(new);
    let mut found: BTreeMap<Digest, Descriptor> =
        known.into_iter().map(|entry| (entry.digest, entry)).collect();
    let mut sorted: Vec<Descriptor> = std::mem::take(&mut found).into_values().collect();
    sorted.sort_by(|a, b| (&a.artifact_type, a.digest).cmp(&(&b.artifact_type, b.digest)));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    #[test]
    fn only_what_rbuild_wrote_is_replaced() {
        let entry = |text: &str, is_own: bool| {
            let mut entry = Descriptor::new(MediaType::MANIFEST, Digest::of(text.as_bytes()), 1);
            entry.artifact_type = Some("application/vnd.in-toto+json".to_owned());
            entry.annotations.extend(is_own.then(|| (artifact::WRITER.to_owned(), "1".to_owned())));
            entry
        };
        let known = vec![entry("own", true), entry("theirs", false)];
        let all = merged(known, vec![entry("own, new", true), entry("theirs, too", false)]);
        let digests: Vec<Digest> = all.iter().map(|entry| entry.digest).collect();
        for (text, is_there) in [("own", false), ("theirs", true), ("own, new", true), ("theirs, too", true)]
        {
            assert_eq!(digests.contains(&Digest::of(text.as_bytes())), is_there, "{text}");
        }
    }
}
