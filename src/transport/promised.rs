//! Images that lack layers here, because they were pushed while those were only promised.

use std::error::Error as _;

use super::Error;
use crate::engine::{self, Load};
use crate::export::Engine;
use crate::http::Environment;
use crate::image::Image;
use crate::oci::{Descriptor, Reference};
use crate::registry::{self, Client, Progress};
use crate::store::Store;

/// Whether layers of `target` are not here that a registry has under a name of it.
///
/// # Errors
/// What the system refuses.
pub fn is_promised(store: &Store, target: &Descriptor) -> Result<bool, Error> {
    Ok(!store.remote_names_of(&target.digest)?.is_empty() && !Image::read(store, target)?.is_complete())
}

/// Fetches what an image lacks from the registries that its remote names are of. These are ordinary names then. An image
/// without remote names is left as it is.
///
/// # Errors
/// That of the last name.
pub fn complete(
    store: &Store,
    registry: &Client,
    target: &Descriptor,
    progress: &Progress,
) -> Result<(), Error> {
    let names = store.remote_names_of(&target.digest)?;
    if names.is_empty() {
        return Ok(());
    }
    let absent: Vec<Descriptor> = Image::read(store, target)?.absent_layers().into_values().collect();
    fetch(store, registry, &names, &absent, progress)?;
    Image::settle(store, target)?;
    Ok(())
}

/// Pushes `target`, which is `whole` or one platform of it. Layers that are not here are fetched only if the registry does not
/// have them.
///
/// # Errors
/// [`Error::Registry`]
pub fn push(
    store: &Store,
    registry: &Client,
    whole: &Descriptor,
    target: &Descriptor,
    names: &[Reference],
    progress: &Progress,
) -> Result<(), Error> {
    let remote = store.remote_names_of(&whole.digest)?;
    let supply = |blob: &Descriptor| match remote.is_empty() {
        true => Ok(()),
        false => Ok(fetch(store, registry, &remote, std::slice::from_ref(blob), &Progress::silent())?),
    };
    registry.push_supplied((store, &supply), target, names, progress)?;
    if !remote.is_empty() {
        Image::settle(store, whole)?;
    }
    Ok(())
}

/// Loads `target`, which is `whole` or one platform of it, into an engine. Layers that are not here are fetched only if the engine
/// does not have them.
///
/// # Errors
/// [`Error::Engine`]
pub(super) fn load(
    store: &Store,
    registry: &Client,
    (whole, target): (&Descriptor, &Descriptor),
    (engine, names): (&Engine, &[Reference]),
    environment: &Environment,
) -> Result<(), Error> {
    let remote = store.remote_names_of(&whole.digest)?;
    let supply = |blob: &Descriptor| match remote.is_empty() {
        true => Err("it is not in the local store".to_owned()),
        false => fetch(store, registry, &remote, std::slice::from_ref(blob), &Progress::silent())
            .map_err(|error| error.to_string()),
    };
    let load = Load { store, target, names, supply: &supply, environment, hear: &|_, _| {} };
    engine::load(&load, engine)?;
    if !remote.is_empty() {
        Image::settle(store, whole)?;
    }
    Ok(())
}

fn fetch(
    store: &Store,
    registry: &Client,
    names: &[Reference],
    blobs: &[Descriptor],
    progress: &Progress,
) -> Result<(), registry::Error> {
    let mut outcome = Ok(());
    for name in names {
        outcome = registry.pull_blobs(store, name, blobs, progress);
        match &outcome {
            Err(error) => tracing::debug!(%name, %error, source = ?error.source(), "layers cannot be had"),
            Ok(()) => break,
        }
    }
    outcome
}
