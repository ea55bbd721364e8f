//! Images: what a name stands for, and one platform's image of it.
//!
//! Reads manifests, indexes and configurations, chooses a platform, and bounds what is read. Where the documents come from
//! (a registry, the store, a layout or an archive) is the affair of whoever implements [`Documents`]. Layers are only named
//! here, never opened.

mod choose;
pub mod document;
mod stored;

pub use choose::{Documents, best, choose, is_attestation, resolve};
pub use document::{Content, Document};
pub use stored::{Error, Image, StoredPlatform, described};

use crate::oci::{Descriptor, Digest, ImageConfig, Layer, Manifest, MediaType, Platform, Reference, TooDeep};

/// The largest manifest or index that is read (distribution-spec, "Pushing Manifests", asks for 4 MiB).
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// The largest image configuration that is read.
pub const CONFIG_LIMIT: u64 = 8 << 20;

/// One platform's image, of which manifest and configuration are known. Its layers may still have to be fetched.
#[derive(Debug, Clone)]
pub struct PlatformImage {
    /// What its name stands for: its manifest, or the index that lists that.
    pub target: Descriptor,
    /// Its own manifest, never an index.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, lowest first: each descriptor of the manifest with its identity from the configuration.
    pub layers: Vec<Layer>,
    /// Where layers come from that the store does not have, which is the name under which the image was found (a short
    /// name may mean one that a configuration says); `None` when there is no such place.
    pub remote: Option<Reference>,
}

impl PlatformImage {
    /// The image that `config` and `document`, which is that of `manifest`, describe together.
    ///
    /// # Errors
    /// [`Fault::LayerCount`].
    pub fn new(
        target: Descriptor,
        manifest: Descriptor,
        document: Manifest,
        config: ImageConfig,
    ) -> Result<Self, Fault> {
        let diff_ids = &config.rootfs.diff_ids;
        if document.layers.len() != diff_ids.len() {
            return Err(Fault::LayerCount {
                manifest: document.layers.len(),
                config: diff_ids.len(),
                config_type: document.config.media_type,
            });
        }
        let layers = document.layers.into_iter().zip(diff_ids);
        let layers = layers.map(|(descriptor, diff_id)| Layer { descriptor, diff_id: *diff_id }).collect();
        Ok(Self { target, manifest, config, layers, remote: None })
    }

    /// An image of which nothing but a configuration is known, for plans that are never run.
    pub fn of_config(config: ImageConfig) -> Self {
        let manifest = Descriptor::new(MediaType::MANIFEST, Digest::of(b""), 0);
        Self { target: manifest.clone(), manifest, config, layers: Vec::new(), remote: None }
    }
}

/// What can be wrong with the documents of an image, wherever they come from.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// One that is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// A manifest of schema 1, which has neither configuration nor diff ids.
    #[error("a manifest of schema 1, which is obsolete and not supported")]
    Schema1,
    /// More indexes within each other than anybody means.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    /// An index without the wanted platform.
    #[error("no match for {wanted}; this image has: {}", listed(offered))]
    NoPlatform {
        /// The platform that was asked for.
        wanted: Box<Platform>,
        /// Those that there are, in the index's order.
        offered: Vec<Platform>,
    },
    /// Manifest and configuration do not belong together.
    #[error("the manifest has {manifest} layers, the configuration (`{config_type}`) {config}")]
    LayerCount {
        /// Layers of the manifest.
        manifest: usize,
        /// Layers of the configuration.
        config: usize,
        /// What the manifest says that the configuration is.
        config_type: MediaType,
    },
}

/// Platforms in a message.
pub fn listed(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "no platform at all".to_owned();
    }
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}
