//! What is kept beside an image goes along with it.

use std::collections::BTreeSet;

use super::{Endpoint, Error};
use crate::attest::{self, Artifact, Attestations, Local, Remote};
use crate::image::Image;
use crate::import::Source;
use crate::oci::{Descriptor, Digest, Reference};
use crate::registry::Client;
use crate::store::Store;

/// The digests that documents can be about: of an image, and of each of its platforms.
pub(super) fn subjects(store: &Store, target: &Descriptor) -> Result<Vec<Digest>, Error> {
    let image = Image::read(store, target)?;
    let platforms = image.platforms.iter().map(|platform| platform.descriptor.digest);
    let all: BTreeSet<Digest> = platforms.chain([target.digest]).collect();
    Ok(all.into_iter().collect())
}

/// What the store has beside an image and its platforms.
///
/// # Errors
/// What the store says.
pub fn beside(store: &Store, target: &Descriptor) -> Result<Attestations, Error> {
    let mut artifacts = Vec::new();
    for subject in subjects(store, target)? {
        for entry in Local(store).list(&subject)? {
            artifacts.push(Local(store).read(&entry)?);
        }
    }
    Ok(Attestations { artifacts })
}

/// Brings what a registry has beside an image of the store, which is called `name` here and there.
///
/// # Errors
/// What the registry refuses, and documents that are not what it lists.
pub fn pull_attestations(
    store: &Store,
    client: &Client,
    name: &Reference,
    target: &Descriptor,
) -> Result<usize, Error> {
    let found = remote(store, client, name, target)?;
    attest::keep(store, name, &found)?;
    Ok(found.len())
}

fn remote(
    store: &Store,
    client: &Client,
    name: &Reference,
    target: &Descriptor,
) -> Result<Vec<Artifact>, Error> {
    let mut artifacts = Vec::new();
    for subject in subjects(store, target)? {
        for entry in attest::fetch(client, name, &subject)?.entries {
            let artifact = Remote::read(client, name, &entry)?;
            attest::check(&artifact, &subject)
                .map_err(|why| attest::Error::Wrong { digest: entry.digest, why })?;
            artifacts.push(artifact);
        }
    }
    Ok(artifacts)
}

/// What lies beside the image where it comes from.
pub(super) fn find(
    store: &Store,
    client: &Client,
    (from, source): (&Endpoint, Option<&Source>),
    target: &Descriptor,
) -> Result<Attestations, Error> {
    match (from, source) {
        (Endpoint::Registry(name), _) => Ok(Attestations { artifacts: remote(store, client, name, target)? }),
        (Endpoint::Store(_), _) => beside(store, target),
        (_, Some(source)) => from_layout(store, source, target),
        (_, None) => Ok(Attestations::default()),
    }
}

/// What a layout has beside an image that was taken of it.
///
/// # Errors
/// Documents that are missing or damaged.
pub fn from_layout(store: &Store, source: &Source, target: &Descriptor) -> Result<Attestations, Error> {
    let mut artifacts = Vec::new();
    for subject in subjects(store, target)? {
        artifacts.extend(attest::in_layout(store, source, &subject)?);
    }
    Ok(Attestations { artifacts })
}
