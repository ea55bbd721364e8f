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
/// What the store says, and documents that are too large together.
pub fn beside(store: &Store, target: &Descriptor) -> Result<Attestations, Error> {
    let mut taken = Taken::default();
    for subject in subjects(store, target)? {
        for entry in Local(store).list(&subject)? {
            taken.add(Local(store).read(&entry)?)?;
        }
    }
    Ok(Attestations { artifacts: taken.artifacts })
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
    let mut taken = Taken::default();
    for subject in subjects(store, target)? {
        for entry in attest::fetch(client, name, &subject)?.entries {
            match Remote::read(client, name, &entry) {
                Ok(artifact) => {
                    attest::check_subject(&artifact, &subject)
                        .map_err(|why| attest::Error::Wrong { digest: entry.digest, why })?;
                    taken.add(artifact)?;
                }
                Err(foreign @ attest::Error::Foreign { .. }) => client.note(passed_over(&foreign)),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(taken.artifacts)
}

/// Others hang on images what has forms of their own; the rest goes along.
fn passed_over(foreign: &attest::Error) -> String {
    format!("{foreign}; it is not taken along")
}

/// What goes along, and how many bytes that is.
#[derive(Default)]
struct Taken {
    artifacts: Vec<Artifact>,
    bytes: u64,
}

impl Taken {
    fn add(&mut self, artifact: Artifact) -> Result<(), Error> {
        self.bytes +=
            [&artifact.config, &artifact.payload].map(|bytes| bytes.len() as u64).iter().sum::<u64>();
        if self.bytes > attest::TOGETHER {
            let why = format!("what is beside the image has more than {} bytes together", attest::TOGETHER);
            return Err(attest::Error::Wrong { digest: artifact.descriptor.digest, why }.into());
        }
        self.artifacts.push(artifact);
        Ok(())
    }
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
        (_, Some(source)) => from_layout(store, source, target, &|text| client.note(text)),
        (_, None) => Ok(Attestations::default()),
    }
}

/// What a layout has beside an image that was taken of it. What is passed over is told to `note`.
///
/// # Errors
/// Documents that are missing or damaged.
pub fn from_layout(
    store: &Store,
    source: &Source,
    target: &Descriptor,
    note: &dyn Fn(String),
) -> Result<Attestations, Error> {
    let mut taken = Taken::default();
    for subject in subjects(store, target)? {
        for found in attest::in_layout(store, source, &subject)? {
            match found {
                Ok(artifact) => taken.add(artifact)?,
                Err(foreign) => note(passed_over(&foreign)),
            }
        }
    }
    Ok(Attestations { artifacts: taken.artifacts })
}
