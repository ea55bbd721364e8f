//! Documents about images of platforms, before it is decided where they are kept.

use super::artifact::{About, Artifact, IN_TOTO, SPDX};
use super::wanted::Layout;
use super::{Attestations, Error, statement};
use crate::image::StoredPlatform;
use crate::inventory::document::Format;
use crate::inventory::{Depth, Known};
use crate::oci::{Descriptor, Digest, ImageConfig, Platform, parse_rfc3339, rfc3339};
use crate::record::Record;
use crate::store::Store;

/// That a statement is an SPDX document.
pub const SPDX_PREDICATE: &str = "https://spdx.dev/Document";

/// One document: what a statement says.
#[derive(Debug, Clone)]
pub struct Document {
    /// What kind of thing it says.
    pub predicate_type: String,
    /// What it says: JSON.
    pub predicate: Vec<u8>,
    /// What it is called beside files.
    pub filename: String,
    /// What tells it from others of its kind, where it is not about the image alone.
    pub title: Option<String>,
    /// Where it is kept.
    pub layout: Layout,
    /// Beside files it is not wanted.
    pub is_inline_only: bool,
}

impl Document {
    /// The statement that it is of these things.
    pub fn statement(&self, subjects: impl IntoIterator<Item = (String, Digest)>) -> Vec<u8> {
        statement::of(self, subjects)
    }
}

/// The image of a platform, with the documents about it.
#[derive(Debug, Clone)]
pub struct Documented {
    /// Its manifest.
    pub image: Descriptor,
    /// What it runs on.
    pub platform: Platform,
    /// When the image was made, in RFC 3339.
    pub created: String,
    /// The documents.
    pub documents: Vec<Document>,
}

impl Documented {
    /// An image without documents.
    pub fn new(image: &StoredPlatform, config: &ImageConfig) -> Self {
        Self {
            image: image.descriptor.clone(),
            platform: image.platform().unwrap_or_else(|| config.platform()),
            created: rfc3339(config.created.as_deref().and_then(parse_rfc3339).unwrap_or(0)),
            documents: Vec::new(),
        }
    }

    /// Those that are kept so.
    pub fn in_layout(&self, layout: Layout) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(move |document| document.layout == layout)
    }
}

/// The SPDX document of an image, by step, and with what the image is made of, as the record of its build tells: that of `recorded`, and the
/// number of its target there. Nothing of it depends on what else is in the store.
///
/// # Errors
/// When a layer cannot be read.
pub fn sbom(
    store: &Store,
    name: &str,
    (image, config): (&StoredPlatform, &ImageConfig),
    recorded: Option<(&Record, usize)>,
) -> Result<Vec<u8>, Error> {
    let known = Known::of(store, image, config)?;
    let origins = recorded.map(|(record, at)| known.recorded(record, at)).unwrap_or_default();
    let document = known
        .described(store, (name, image), &origins, Depth::Image, |subject| subject.document(Format::Spdx));
    Ok(document.into_bytes())
}

/// The documents that are kept beside an image, as its referrers: about each platform's manifest, and about the `target` if that is the
/// index over them. An SPDX document is there by itself, too.
pub fn referrers(all: &[Documented], name: &str, target: &Descriptor) -> Attestations {
    let mut artifacts = Vec::new();
    for documented in all {
        let is_index = target.digest != documented.image.digest;
        let subjects: Vec<&Descriptor> =
            [&documented.image].into_iter().chain(is_index.then_some(target)).collect();
        let platform = documented.platform.to_string();
        for document in documented.in_layout(Layout::Referrers) {
            let statement = document.statement(subjects.iter().map(|one| (name.to_owned(), one.digest)));
            for subject in &subjects {
                let about = About {
                    created: &documented.created,
                    platform: &platform,
                    title: document.title.as_deref(),
                };
                if document.predicate_type == SPDX_PREDICATE {
                    artifacts.push(Artifact::new(SPDX, document.predicate.clone(), None, subject, about));
                }
                let predicate = Some(document.predicate_type.as_str());
                artifacts.push(Artifact::new(IN_TOTO, statement.clone(), predicate, subject, about));
            }
        }
    }
    Attestations { artifacts }
}
