//! Finds images by name: in the local store, else in a registry.

use crate::oci::{Descriptor, ImageConfig, Index, Layer, Manifest, Platform, Reference};
use crate::registry::{self, CONFIG_LIMIT, Client, MANIFEST_LIMIT};
use crate::report::Diagnostic;
use crate::store::{self, Store};

/// An image of which manifest and configuration are known. Its layers may still have to be fetched.
#[derive(Debug)]
pub struct FoundImage {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// Where layers come from that the store does not have; `None` when there is no such place.
    pub remote: Option<Reference>,
}

/// Why an image could not be found.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store could not.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The registry could not.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// An image of the store that is not for the wanted platform.
    #[error("`{name}`: no match for {wanted}; this image has: {}", listed(offered))]
    NoPlatform {
        /// As the user named it.
        name: String,
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// A document in the store that does not parse.
    #[error("blob {} is no valid {}: {reason}", descriptor.digest, descriptor.media_type)]
    BadDocument {
        /// Which.
        descriptor: Box<Descriptor>,
        /// What the parser said.
        reason: String,
    },
    /// Manifest and configuration do not belong together.
    #[error("`{name}` has another number of layers than its configuration says")]
    LayerCount {
        /// As the user named it.
        name: String,
    },
}

fn listed(platforms: &[Platform]) -> String {
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

impl ImageError {
    /// The error in words, with a way on.
    pub fn diagnose(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.to_string());
        match self {
            Self::Registry(error) => error.help().into_iter().fold(diagnostic, Diagnostic::help),
            Self::Store(_) | Self::NoPlatform { .. } | Self::BadDocument { .. } | Self::LayerCount { .. } => {
                diagnostic
            }
        }
    }
}

/// Finds the image `reference` for `platform`: one in the local store goes before a registry's.
pub fn find(
    store: &Store,
    registry: &Client,
    reference: &Reference,
    platform: &Platform,
) -> Result<FoundImage, ImageError> {
    if let Some(target) = local(store, reference)? {
        return in_store(store, &target, &reference.to_string(), platform);
    }
    let resolved = registry.resolve(store, reference, platform)?;
    Ok(FoundImage {
        manifest: resolved.descriptor,
        config: resolved.config,
        layers: resolved.layers,
        remote: Some(reference.clone()),
    })
}

/// What the local store has under this name. A digest is the registry's affair: whoever writes one wants that very
/// content, which the store has or has not under any name.
fn local(store: &Store, reference: &Reference) -> Result<Option<Descriptor>, store::Error> {
    if reference.digest().is_some() {
        return Ok(None);
    }
    store.tag(&reference.clone().with_default_tag())
}

/// The image behind `target`, a manifest or an index in the store; `name` is for messages.
pub fn in_store(
    store: &Store,
    target: &Descriptor,
    name: &str,
    platform: &Platform,
) -> Result<FoundImage, ImageError> {
    let manifest = match target.media_type.is_index() {
        true => choose(read(store, target, MANIFEST_LIMIT)?, name, platform)?,
        false => target.clone(),
    };
    let document: Manifest = read(store, &manifest, MANIFEST_LIMIT)?;
    let config: ImageConfig = read(store, &document.config, CONFIG_LIMIT)?;
    let layers = pair(&document, &config).ok_or_else(|| ImageError::LayerCount { name: name.to_owned() })?;
    Ok(FoundImage { manifest, config, layers, remote: None })
}

fn choose(index: Index, name: &str, wanted: &Platform) -> Result<Descriptor, ImageError> {
    let rank = |d: &Descriptor| d.platform.as_ref().and_then(|p| wanted.match_rank(p));
    let best = index.manifests.iter().filter(|d| rank(d).is_some()).min_by_key(|d| rank(d));
    best.cloned().ok_or_else(|| ImageError::NoPlatform {
        name: name.to_owned(),
        wanted: wanted.clone(),
        offered: index.manifests.into_iter().filter_map(|d| d.platform).collect(),
    })
}

fn read<T: serde::de::DeserializeOwned>(
    store: &Store,
    descriptor: &Descriptor,
    limit: u64,
) -> Result<T, ImageError> {
    let bytes = store.read_blob(descriptor, limit)?;
    serde_json::from_slice(&bytes).map_err(|error| ImageError::BadDocument {
        descriptor: Box::new(descriptor.clone()),
        reason: error.to_string(),
    })
}

/// The layers with their identities; `None` when there are more of one than of the other.
fn pair(manifest: &Manifest, config: &ImageConfig) -> Option<Vec<Layer>> {
    let diff_ids = &config.rootfs.diff_ids;
    let layers = manifest.layers.iter().zip(diff_ids);
    let layers =
        layers.map(|(descriptor, diff_id)| Layer { descriptor: descriptor.clone(), diff_id: *diff_id });
    (manifest.layers.len() == diff_ids.len()).then(|| layers.collect())
}
