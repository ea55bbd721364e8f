//! Compares two images: what differs, in which step, at which path, and of which kind.
//!
//! The kinds are those that matter for reproducing an image: times, order, owners and modes, contents, fields of documents. What
//! is to be done about each is in [`advice`].

pub mod advice;
mod excerpt;
mod fields;
mod layers;

use std::io::{self, Read};

use crate::image::StoredPlatform;
use crate::oci::{Descriptor, Digest, History, ImageConfig};
use crate::store::Store;
use crate::{image, store};

pub use excerpt::Excerpt;

/// Something that is not the same in two images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where it is.
    pub place: Place,
    /// The path of the file, or of the field of a document (`/config/Env/2`); empty for a whole layer or document.
    pub path: String,
    /// What differs.
    pub kind: Kind,
    /// What the first image has.
    pub first: String,
    /// What the second image has.
    pub second: String,
    /// Of contents: what stands around the first byte that differs.
    pub excerpt: Option<Excerpt>,
}

/// Where a difference is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the manifest.
    Manifest,
    /// In the configuration.
    Config,
    /// In what an instruction changed.
    Step(Step),
}

/// An instruction that made a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The layer's number in the first image, the lowest is 1; in the second, if the first has none like it.
    pub layer: usize,
    /// The instruction, as the history tells it; empty where it tells nothing.
    pub instruction: String,
}

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Only the first image has it.
    OnlyInFirst,
    /// Only the second image has it.
    OnlyInSecond,
    /// It is a file here and something else there.
    Type,
    /// Bytes of a file.
    Content,
    /// Where a link leads.
    Target,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// An extended attribute.
    Attribute,
    /// The time of modification.
    Time,
    /// Files are the same, and come in another order.
    Order,
    /// Files are the same, and the archive writes them otherwise.
    Encoding,
    /// The archive is the same, and was compressed otherwise.
    Compression,
    /// A field of a document.
    Field,
}

impl Kind {
    /// One word, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::OnlyInFirst => "only-in-first",
            Self::OnlyInSecond => "only-in-second",
            Self::Type => "type",
            Self::Content => "content",
            Self::Target => "target",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Attribute => "attribute",
            Self::Time => "time",
            Self::Order => "order",
            Self::Encoding => "encoding",
            Self::Compression => "compression",
            Self::Field => "field",
        }
    }
}

/// Why images cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refuses something.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An image is not whole.
    #[error("`{0}` has no configuration that can be read")]
    NoConfig(Digest),
    /// A layer is not here.
    #[error("the layer {0} is not in the store")]
    NoLayer(Digest),
    /// A layer cannot be read.
    #[error("cannot read the layer {layer}: {source}")]
    Layer {
        /// Its blob.
        layer: Digest,
        /// Why not.
        source: io::Error,
    },
    /// A document cannot be read.
    #[error("`{digest}` is no JSON: {source}")]
    Document {
        /// The document.
        digest: Digest,
        /// Why not.
        source: serde_json::Error,
    },
}

/// One of two images, and the store that has it.
pub struct Side<'s> {
    /// The store.
    pub store: &'s Store,
    /// The image of one platform.
    pub image: &'s StoredPlatform,
}

/// A layer with its instruction.
struct Layer<'i> {
    step: Step,
    descriptor: &'i Descriptor,
    diff_id: String,
}

impl Side<'_> {
    fn config(&self) -> Result<&ImageConfig, Error> {
        self.image.config.as_deref().ok_or(Error::NoConfig(self.image.descriptor.digest))
    }

    fn layers(&self) -> Result<Vec<Layer<'_>>, Error> {
        let config = self.config()?;
        let mut made = config.history.iter().filter(|entry| !entry.empty_layer);
        let layers = self.image.manifest.layers.iter().zip(&config.rootfs.diff_ids).enumerate();
        let layer = |(at, (descriptor, diff_id)): (usize, (_, &crate::oci::DiffId))| Layer {
            step: Step { layer: at + 1, instruction: made.next().map(instruction).unwrap_or_default() },
            descriptor,
            diff_id: diff_id.to_string(),
        };
        Ok(layers.map(layer).collect())
    }

    fn document(&self, digest: Digest) -> Result<serde_json::Value, Error> {
        let mut bytes = Vec::new();
        let file = self.store.open_blob(&digest)?;
        let read = file.take(image::MANIFEST_LIMIT * 2).read_to_end(&mut bytes);
        read.map_err(|error| Error::Document { digest, source: serde_json::Error::io(error) })?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Document { digest, source })
    }
}

/// The text of an instruction, without what builders write behind it.
fn instruction(entry: &History) -> String {
    let text = entry.created_by.as_deref().unwrap_or_default();
    text.strip_suffix(" # buildkit").unwrap_or(text).to_owned()
}

/// Tells `found` each difference, the documents' first, then from the lowest layer up.
///
/// Each pair of layers that differ is read whole, up to `archive`'s bounds. Names of images and digests of what differs below are no differences of their own: of
/// a manifest whose layer differs the layer is told.
///
/// # Errors
/// [`Error`]; what was told before stays true.
pub fn images(first: &Side<'_>, second: &Side<'_>, found: &mut dyn FnMut(Difference)) -> Result<(), Error> {
    if first.image.descriptor.digest == second.image.descriptor.digest {
        return Ok(());
    }
    let manifests =
        (first.document(first.image.descriptor.digest)?, second.document(second.image.descriptor.digest)?);
    // Of the layers and the configuration more is told below.
    fields::compare(
        &manifests.0,
        &manifests.1,
        &["/config/digest", "/config/size", "/layers"],
        &mut |field| {
            found(field.at(Place::Manifest));
        },
    );
    let configs = (
        first.document(first.image.manifest.config.digest)?,
        second.document(second.image.manifest.config.digest)?,
    );
    fields::compare(&configs.0, &configs.1, &["/rootfs/diff_ids"], &mut |field| {
        found(field.at(Place::Config));
    });
    let (one, two) = (first.layers()?, second.layers()?);
    for pair in pairs(&one, &two) {
        match pair {
            (Some(a), Some(b)) if a.descriptor.digest == b.descriptor.digest => {}
            (Some(a), Some(b)) if a.diff_id == b.diff_id => found(Difference {
                place: Place::Step(a.step.clone()),
                path: String::new(),
                kind: Kind::Compression,
                first: format!("{}, {} bytes", a.descriptor.media_type.as_str(), a.descriptor.size),
                second: format!("{}, {} bytes", b.descriptor.media_type.as_str(), b.descriptor.size),
                excerpt: None,
            }),
            (Some(a), Some(b)) => {
                let sides = (
                    layers::Archive { store: first.store, digest: a.descriptor.digest },
                    layers::Archive { store: second.store, digest: b.descriptor.digest },
                );
                layers::compare(&sides.0, &sides.1, &mut |change| {
                    found(change.at(Place::Step(a.step.clone())));
                })?;
            }
            (Some(a), None) => found(whole(a, Kind::OnlyInFirst)),
            (None, Some(b)) => found(whole(b, Kind::OnlyInSecond)),
            (None, None) => {}
        }
    }
    Ok(())
}

/// A layer that only one of the images has.
fn whole(layer: &Layer<'_>, kind: Kind) -> Difference {
    let size = format!("a layer of {} bytes", layer.descriptor.size);
    let (first, second) = match kind {
        Kind::OnlyInSecond => (String::new(), size),
        _ => (size, String::new()),
    };
    Difference {
        place: Place::Step(layer.step.clone()),
        path: String::new(),
        kind,
        first,
        second,
        excerpt: None,
    }
}

/// Which layer of one image is to be compared with which of the other: the same, or what the same instruction made. In their order.
fn pairs<'l, 'i>(
    one: &'l [Layer<'i>],
    two: &'l [Layer<'i>],
) -> Vec<(Option<&'l Layer<'i>>, Option<&'l Layer<'i>>)> {
    if one.len() == two.len() {
        return one.iter().zip(two).map(|(a, b)| (Some(a), Some(b))).collect();
    }
    // The longest sequence that both have (layers are some hundreds at most).
    let is_like = |a: &Layer<'_>, b: &Layer<'_>| {
        a.diff_id == b.diff_id || !a.step.instruction.is_empty() && a.step.instruction == b.step.instruction
    };
    let mut longest = vec![vec![0_u32; two.len() + 1]; one.len() + 1];
    for a in (0..one.len()).rev() {
        for b in (0..two.len()).rev() {
            longest[a][b] = match is_like(&one[a], &two[b]) {
                true => longest[a + 1][b + 1] + 1,
                false => longest[a + 1][b].max(longest[a][b + 1]),
            };
        }
    }
    let (mut a, mut b, mut pairs) = (0, 0, Vec::new());
    while a < one.len() || b < two.len() {
        if a < one.len() && b < two.len() && is_like(&one[a], &two[b]) {
            pairs.push((Some(&one[a]), Some(&two[b])));
            (a, b) = (a + 1, b + 1);
        } else if b == two.len() || a < one.len() && longest[a + 1][b] >= longest[a][b + 1] {
            pairs.push((Some(&one[a]), None));
            a += 1;
        } else {
            pairs.push((None, Some(&two[b])));
            b += 1;
        }
    }
    pairs
}

/// A difference whose place somebody else knows.
#[derive(Debug)]
struct Unplaced {
    path: String,
    kind: Kind,
    first: String,
    second: String,
    excerpt: Option<Excerpt>,
}

impl Unplaced {
    fn at(self, place: Place) -> Difference {
        let Self { path, kind, first, second, excerpt } = self;
        Difference { place, path, kind, first, second, excerpt }
    }
}
