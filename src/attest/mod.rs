//! What is said of an image beside it: documents that registries call its referrers.
//!
//! Each document is an artifact of its own whose manifest names the image as its *subject* (distribution-spec, "Referrers"), so the
//! image stays as it is, to the last digit of its digest. In the store, and in registries without an API for referrers, they are
//! found by the *referrers tag*: `sha256-HEX` of the image's repository names an index of them.
//!
//! Not here: signatures. [`check`] says whether a document is about the image that it hangs on, not who wrote it.

mod artifact;
mod local;
mod remote;
mod statement;

use std::collections::BTreeMap;

pub use artifact::{Artifact, EMPTY, IN_TOTO, SPDX};
pub use local::{Local, keep, keep_all};
pub use remote::{Remote, fetch, push};
pub use statement::{SPDX_PREDICATE, check};

use crate::image::{Image, StoredPlatform};
use crate::inventory::document::{Format, Subject};
use crate::inventory::{self, Known, history};
use crate::oci::{Descriptor, Digest, ImageConfig, Reference};
use crate::store::{self, Store};

/// Documents longer than this are not read.
pub const DOCUMENT_LIMIT: u64 = 256 << 20;
/// More documents of one image are not listed.
pub const REFERRERS: usize = 1000;

/// Why an image has no attestations, or they cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not give or take something.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Its packages are not known.
    #[error(transparent)]
    Inventory(#[from] inventory::Error),
    /// A registry refused something.
    #[error(transparent)]
    Registry(#[from] crate::registry::Error),
    /// What should be a document is something else.
    #[error("the attestation {digest} cannot be used: {why}")]
    Wrong {
        /// Its manifest.
        digest: Digest,
        /// Why.
        why: String,
    },
}

/// The documents about one manifest or index, with the blobs that they consist of.
#[derive(Debug, Clone, Default)]
pub struct Attestations {
    /// Each with what it is about.
    pub artifacts: Vec<Artifact>,
}

/// The SBOMs of an image: for each platform an SPDX document, alone and in a statement of in-toto, about its manifest; and about
/// the index, if there is one.
///
/// # Errors
/// When a layer cannot be read.
pub fn sboms(store: &Store, name: &str, target: &Descriptor) -> Result<Attestations, Error> {
    let image = Image::read(store, target)?;
    let mut artifacts = Vec::new();
    for platform in &image.platforms {
        let Some(config) = &platform.config else { continue };
        let (document, created) = sbom(store, name, platform, config)?;
        let is_index = target.digest != platform.descriptor.digest;
        let subjects: Vec<&Descriptor> =
            [&platform.descriptor].into_iter().chain(is_index.then_some(target)).collect();
        let statement = statement::of_spdx(name, &subjects, &document);
        for subject in subjects {
            let platform = platform.platform().map(|platform| platform.to_string()).unwrap_or_default();
            let about = |kind, payload: &str, predicate| {
                Artifact::new(kind, payload.as_bytes().to_vec(), predicate, subject, (&created, &platform))
            };
            artifacts.push(about(SPDX, &document, None));
            artifacts.push(about(IN_TOTO, &statement, Some(SPDX_PREDICATE)));
        }
    }
    Ok(Attestations { artifacts })
}

fn sbom(
    store: &Store,
    name: &str,
    image: &StoredPlatform,
    config: &ImageConfig,
) -> Result<(String, String), Error> {
    let known = Known::of(store, image, config)?;
    let history = history(&known.layers);
    let subject = Subject {
        name: name.to_owned(),
        digest: image.descriptor.digest,
        platform: image.platform().map(|platform| platform.to_string()).unwrap_or_default(),
        created: known.created.clone(),
        layers: known.layers.iter().map(|layered| layered.layer.clone()).collect(),
        steps: known.steps.clone(),
        base: known.base.clone(),
        history: &history,
        unowned: &[],
        unread: known.unread(),
        by_step: true,
    };
    Ok((subject.document(Format::Spdx), known.created))
}

/// The name of a repository's referrers tag.
fn tagged(name: &Reference, subject: &Digest) -> Option<Reference> {
    format!("{}/{}:{}", name.registry(), name.repository(), subject.referrers_tag()).parse().ok()
}

/// Adds to what an index of referrers lists; what rbuild wrote before of the same kind is replaced.
fn merged(mut known: Vec<Descriptor>, new: Vec<Descriptor>) -> Vec<Descriptor> {
    let key = |entry: &Descriptor| {
        let told = |name: &str| entry.annotations.get(name).cloned();
        (
            entry.artifact_type.clone(),
            told(artifact::PREDICATE),
            told(artifact::PLATFORM),
            told(artifact::WRITER).is_some(),
        )
    };
    known.retain(|old| new.iter().all(|new| key(old) != key(new) && old.digest != new.digest));
    known.extend(new);
    let mut found: BTreeMap<Digest, Descriptor> =
        known.into_iter().map(|entry| (entry.digest, entry)).collect();
    let mut sorted: Vec<Descriptor> = std::mem::take(&mut found).into_values().collect();
    sorted.sort_by(|a, b| (&a.artifact_type, a.digest).cmp(&(&b.artifact_type, b.digest)));
    sorted
}
