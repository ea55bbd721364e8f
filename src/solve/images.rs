//! Finds images by name: in the local store, else in a registry.

use super::{NotPinned, Pins};
use crate::oci::{Descriptor, Digest, ImageConfig, Index, Layer, Manifest, Platform, Reference, TooDeep};
use crate::registry::{self, CONFIG_LIMIT, Client, MANIFEST_LIMIT};
use crate::report::Diagnostic;
use crate::store::{self, Store};

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When no name of the local store is meant; every time, so that a base is never an old one.
    #[default]
    Current,
    /// Every time, also for what the local store has under that name.
    Always,
    /// Only for what is neither in the local store nor was fetched before.
    Missing,
    /// Not at all.
    Never,
    /// Ask, and take what is only in the local store from there.
    Newest,
}

/// An image of which manifest and configuration are known. Its layers may still have to be fetched.
#[derive(Debug)]
pub struct FoundImage {
    /// What the name stands for: its manifest, or the index that names that.
    pub digest: Digest,
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
    /// An index of indexes of indexes.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    /// A document in the store that does not parse.
    #[error("blob {} is no valid {}: {reason}", descriptor.digest, descriptor.media_type)]
    BadDocument {
        /// Which.
        descriptor: Box<Descriptor>,
        /// What the parser said.
        reason: String,
    },
    /// One that a lock file had to have.
    #[error(transparent)]
    NotPinned(#[from] NotPinned),
    /// An image that would have to be fetched.
    #[error("`{name}` is not in the local store, and no registry may be asked")]
    NotHere {
        /// As the user named it.
        name: String,
    },
    /// An image that is known, but not complete, and would have to be fetched.
    #[error(
        "`{name}` was fetched before, but not all of it is in the local store, and no registry may be asked"
    )]
    Incomplete {
        /// As the user named it.
        name: String,
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
            Self::NotPinned(error) => diagnostic.help(error.help()),
            Self::NotHere { name } | Self::Incomplete { name } => diagnostic.help(format!(
                "`rbuild pull {name}` fetches it; or build without `--offline` and `--pull=never`"
            )),
            Self::NoPlatform { .. } => {
                diagnostic.help("choose one of these with --platform, or another base image")
            }
            Self::Store(_) | Self::TooDeep(_) | Self::BadDocument { .. } | Self::LayerCount { .. } => {
                diagnostic
            }
        }
    }
}

/// Finds the image `reference` for `platform`, where `policy` says, as `pins` has it.
pub fn find(
    store: &Store,
    registry: &Client,
    pins: &Pins,
    (reference, platform): (&Reference, &Platform),
    policy: PullPolicy,
) -> Result<FoundImage, ImageError> {
    let pinned = pins.image(reference)?;
    let found = find_pinned(store, registry, &pinned, platform, policy)?;
    pins.saw_image(reference, found.digest);
    Ok(found)
}

fn find_pinned(
    store: &Store,
    registry: &Client,
    reference: &Reference,
    platform: &Platform,
    policy: PullPolicy,
) -> Result<FoundImage, ImageError> {
    if !matches!(policy, PullPolicy::Always | PullPolicy::Newest)
        && let Some(target) = local(store, reference)?
    {
        return in_store(store, &target, &reference.to_string(), platform);
    }
    match policy {
        PullPolicy::Current | PullPolicy::Always => ask(store, registry, reference, platform),
        PullPolicy::Missing => match fetched(store, reference, platform)? {
            Some(found) => Ok(found),
            None => ask(store, registry, reference, platform),
        },
        PullPolicy::Newest => match (ask(store, registry, reference, platform), local(store, reference)?) {
            (Err(ImageError::Registry(error)), Some(target)) if error.is_not_there() => {
                in_store(store, &target, &reference.to_string(), platform)
            }
            (outcome, _) => outcome,
        },
        PullPolicy::Never => {
            let name = reference.to_string();
            let found = fetched(store, reference, platform)?;
            let found = found.ok_or_else(|| ImageError::NotHere { name: name.clone() })?;
            let is_here =
                |layer: &Layer| store.has_blob(&layer.descriptor.digest) == Some(layer.descriptor.size);
            match found.layers.iter().all(is_here) {
                true => Ok(FoundImage { remote: None, ..found }),
                false => Err(ImageError::Incomplete { name }),
            }
        }
    }
}

/// Asks the registry, and remembers what it said.
fn ask(
    store: &Store,
    registry: &Client,
    reference: &Reference,
    platform: &Platform,
) -> Result<FoundImage, ImageError> {
    let resolved = registry.resolve(store, reference, platform)?;
    store.set_fetched(reference, resolved.index.as_ref().unwrap_or(&resolved.descriptor))?;
    Ok(FoundImage {
        digest: resolved.digest(),
        manifest: resolved.descriptor,
        config: resolved.config,
        layers: resolved.layers,
        remote: Some(resolved.reference),
    })
}

/// What a registry said before, if manifest and configuration for the platform are still here.
fn fetched(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<FoundImage>, ImageError> {
    let last = store.last_fetched(reference)?;
    let target = match reference.digest() {
        // It may have been fetched, or made, under its tag alone.
        Some(digest) if last.is_none() => {
            let tag = reference.without_digest();
            let under_tag = [store.last_fetched(&tag)?, store.tag(&tag)?];
            under_tag.into_iter().flatten().find(|target| target.digest == digest)
        }
        _ => last,
    };
    let Some(target) = target else { return Ok(None) };
    match in_store(store, &target, &reference.to_string(), platform) {
        Ok(found) => Ok(Some(FoundImage { remote: Some(reference.clone()), ..found })),
        Err(ImageError::Store(
            store::Error::NotFound { .. } | store::Error::Damaged { .. } | store::Error::WrongSize { .. },
        )) => Ok(None),
        Err(error) => Err(error),
    }
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
        true => choose(store, read(store, target, MANIFEST_LIMIT)?, name, platform)?,
        false => target.clone(),
    };
    let document: Manifest = read(store, &manifest, MANIFEST_LIMIT)?;
    let config: ImageConfig = read(store, &document.config, CONFIG_LIMIT)?;
    let layers = pair(&document, &config).ok_or_else(|| ImageError::LayerCount { name: name.to_owned() })?;
    check_sizes(store, &layers)?;
    Ok(FoundImage { digest: target.digest, manifest, config, layers, remote: None })
}

/// A manifest that is wrong about the size of a layer that is here: whatever is built on it would say so, too.
fn check_sizes(store: &Store, layers: &[Layer]) -> Result<(), store::Error> {
    for Layer { descriptor, .. } in layers {
        let (digest, expected) = (descriptor.digest, descriptor.size);
        if let Some(actual) = store.has_blob(&digest).filter(|actual| *actual != expected)
            // What a crash cut off is another matter: it is set aside, and fetched or missed.
            && store.intact_blob(&digest)? == Some(actual)
        {
            return Err(store::Error::WrongSize { digest, expected, actual });
        }
    }
    Ok(())
}

fn choose(store: &Store, index: Index, name: &str, wanted: &Platform) -> Result<Descriptor, ImageError> {
    let entries = index.flatten::<ImageError>(&mut |inner| match read(store, inner, MANIFEST_LIMIT) {
        Err(ImageError::Store(store::Error::NotFound { .. })) => Ok(None),
        outcome => outcome.map(Some),
    })?;
    let rank = |d: &Descriptor| d.platform.as_ref().and_then(|p| wanted.match_rank(p));
    let best = entries.iter().filter(|d| rank(d).is_some()).min_by_key(|d| rank(d));
    best.cloned().ok_or_else(|| ImageError::NoPlatform {
        name: name.to_owned(),
        wanted: wanted.clone(),
        offered: entries.into_iter().filter_map(|d| d.platform).collect(),
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
