//! Finds images by name: in the local store, else in a registry.

use super::{NotPinned, Pins};
use crate::image::{self, Fault, PlatformImage};
use crate::oci::{Descriptor, Layer, Platform, Reference};
use crate::registry::{self, Client};
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

/// Why an image could not be found.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store could not.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The registry could not.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// What the store has under that name is wrong, or is not for the wanted platform.
    #[error("`{name}`: {fault}")]
    Wrong {
        /// As the user named it.
        name: String,
        /// What is wrong with it.
        fault: Fault,
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
        "`{name}` is known, but not all of its layers are in the local store, and no registry may be asked"
    )]
    Incomplete {
        /// As the user named it.
        name: String,
    },
}

impl ImageError {
    /// The error in words, with a way on.
    pub fn diagnose(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.to_string());
        match self {
            Self::Registry(error) => error.diagnose(),
            Self::NotPinned(error) => diagnostic.help(error.help()),
            Self::NotHere { name } | Self::Incomplete { name } => diagnostic.help(format!(
                "`rbuild pull {name}` fetches it; or build without `--offline` and `--pull=never`"
            )),
            Self::Wrong { fault: Fault::NoPlatform { .. }, .. } => {
                diagnostic.help("choose one of these with --platform, or another base image")
            }
            Self::Store(_) | Self::Wrong { .. } => diagnostic,
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
) -> Result<PlatformImage, ImageError> {
    let pinned = pins.image(reference)?;
    let found = find_pinned(store, registry, &pinned, platform, policy)?;
    pins.saw_image(reference, found.target.digest);
    Ok(found)
}

fn find_pinned(
    store: &Store,
    registry: &Client,
    reference: &Reference,
    platform: &Platform,
    policy: PullPolicy,
) -> Result<PlatformImage, ImageError> {
    if !matches!(policy, PullPolicy::Always | PullPolicy::Newest)
        && let Some(target) = local(store, reference)?
    {
        let found = in_store(store, &target, &reference.to_string(), platform)?;
        let remote = store.is_remote_tag(reference)?.then(|| reference.clone());
        return allowed(store, PlatformImage { remote, ..found }, &reference.to_string(), policy);
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
            allowed(store, found, &name, policy)
        }
    }
}

/// An image of the store; where no registry may be asked, all of its layers must be here.
fn allowed(
    store: &Store,
    found: PlatformImage,
    name: &str,
    policy: PullPolicy,
) -> Result<PlatformImage, ImageError> {
    if policy != PullPolicy::Never || found.remote.is_none() {
        return Ok(found);
    }
    let is_here = |layer: &Layer| store.has_blob(&layer.descriptor.digest) == Some(layer.descriptor.size);
    match found.layers.iter().all(is_here) {
        true => Ok(PlatformImage { remote: None, ..found }),
        false => Err(ImageError::Incomplete { name: name.to_owned() }),
    }
}

/// What the store knows of an image, by name or because a registry told; its layers may be missing.
pub fn remembered(store: &Store, reference: &Reference, platform: &Platform) -> Option<PlatformImage> {
    match local(store, reference).ok()? {
        Some(target) => in_store(store, &target, &reference.to_string(), platform).ok(),
        None => fetched(store, reference, platform).ok()?,
    }
}

/// Asks the registry, and remembers what it said.
fn ask(
    store: &Store,
    registry: &Client,
    reference: &Reference,
    platform: &Platform,
) -> Result<PlatformImage, ImageError> {
    let image = registry.resolve(store, reference, platform)?;
    store.set_fetched(reference, &image.target)?;
    Ok(image)
}

/// What a registry said before, if manifest and configuration for the platform are still here.
fn fetched(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<PlatformImage>, ImageError> {
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
        Ok(found) => Ok(Some(PlatformImage { remote: Some(reference.clone()), ..found })),
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

/// The image behind `target`, a manifest or an index in the store that was found otherwise than by a name; what it lacks comes
/// from the registry that a name of it is of.
///
/// # Errors
/// [`ImageError::Incomplete`] when `policy` forbids to ask for that.
pub fn by_target(
    store: &Store,
    target: &Descriptor,
    name: &str,
    platform: &Platform,
    policy: PullPolicy,
) -> Result<PlatformImage, ImageError> {
    let found = in_store(store, target, name, platform)?;
    let remote = store.remote_names_of(&target.digest)?.into_iter().next();
    allowed(store, PlatformImage { remote, ..found }, name, policy)
}

/// The image behind `target`, a manifest or an index in the store; `name` is for messages.
pub fn in_store(
    store: &Store,
    target: &Descriptor,
    name: &str,
    platform: &Platform,
) -> Result<PlatformImage, ImageError> {
    PlatformImage::in_store(store, target, platform).map_err(|error| match error {
        image::Error::Store(error) => error.into(),
        image::Error::Wrong(fault) => ImageError::Wrong { name: name.to_owned(), fault },
    })
}
