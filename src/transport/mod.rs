//! Moves whole images between the store, registries, layouts and archives.
//!
//! Everything passes through the store, where blobs are verified and what is there already is not fetched. What was only
//! carried through it is removed again. Indexes that are made in a registry (`index`) do not: nothing but documents moves.

mod attestations;
mod bundles;
mod endpoint;
pub mod index;
mod promised;
mod signatures;
mod signed_attestations;

use std::path::Path;

pub use attestations::{beside, from_layout, pull_attestations};
pub use bundles::{Form, Statements};
pub use endpoint::{Endpoint, EndpointError};
pub use promised::{complete, is_promised, push};
pub use signatures::{SignatureError, digests as signed_digests, sign, verify as verify_signatures};
pub use signed_attestations::{sign_statement, signed_statements};

use crate::attest::{self, Attestations};
use crate::engine;
use crate::export::{self, Call, SaveTo, Saved, Sink};
use crate::http::Environment;
use crate::image::{Image, StoredPlatform};
use crate::import::{self, Source};
use crate::oci::{Descriptor, Platform, Reference};
use crate::registry::{self, Client, Progress, Which};
use crate::store::{self, Store};
use crate::upkeep;

/// Why an image could not be moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A registry could not.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A layout or an archive could not be read.
    #[error(transparent)]
    Import(#[from] import::Error),
    /// A layout or an archive could not be written.
    #[error(transparent)]
    Export(#[from] export::Error),
    /// An engine could not.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// No such image in the store.
    #[error("no image `{name}` in the local store")]
    NotInStore {
        /// As written.
        name: String,
    },
    /// An image of the store that is not for the wanted platform.
    #[error("`{name}`: no match for {wanted}; this image has: {}", offered.join(", "))]
    NoPlatform {
        /// As written.
        name: String,
        /// What was asked for.
        wanted: Box<Platform>,
        /// What there is.
        offered: Vec<String>,
    },
    /// What is kept beside an image could not be had, or be kept.
    #[error(transparent)]
    Attestations(#[from] attest::Error),
    /// It goes where nothing can be kept beside an image.
    #[error(
        "{count} documents are kept beside the image, and docker's archives and engines have no place for them"
    )]
    NoReferrers {
        /// How many.
        count: usize,
    },
    /// A place in the store without a name.
    #[error("`store:` needs the name that the image gets there")]
    NoName,
}

/// What to move where.
#[derive(Debug)]
pub struct Request {
    /// Where the image is.
    pub from: Endpoint,
    /// Where it goes.
    pub to: Endpoint,
    /// Which of its platforms.
    pub which: Which,
    /// Says where engines are.
    pub environment: Environment,
    /// Whether what is kept beside the image goes along.
    pub with_attestations: bool,
}

/// Moves an image, and gives what arrived: its manifest, or its index if all platforms were meant. `find` looks a name or the
/// beginning of a digest up in the store.
///
/// # Errors
/// Any of [`Error`]; a file appears only when it is complete, a name only when everything that it names is there.
pub fn run(
    store: &Store,
    registry: &Client,
    request: &Request,
    find: &dyn Fn(&str) -> Option<Descriptor>,
    progress: &Progress,
) -> Result<Descriptor, Error> {
    let (whole, target, source) = bring(store, registry, request, find, progress)?;
    let attestations = match request.with_attestations {
        true => attestations::find(store, registry, (&request.from, source.as_ref()), &target)?,
        false => Attestations::default(),
    };
    if !attestations.artifacts.is_empty() && !request.to.has_referrers() {
        return Err(Error::NoReferrers { count: attestations.artifacts.len() });
    }
    let mut carried = Vec::new();
    match &request.to {
        Endpoint::Registry(name) => {
            push(store, registry, &whole, &target, std::slice::from_ref(name), progress)?;
            attest::push(registry, name, &attestations.artifacts)?;
        }
        Endpoint::Engine { engine, name } => {
            let names = [name.parse::<Reference>().map_err(|_| Error::NoName)?.with_default_tag()];
            let to = (engine, names.as_slice());
            promised::load(store, registry, (&whole, &target), to, &request.environment)?;
        }
        to => {
            complete(store, registry, &whole, progress)?;
            carried = deliver(store, &target, to, &attestations)?;
        }
    }
    let stays = matches!(request.from, Endpoint::Store(_)) || matches!(request.to, Endpoint::Store(_));
    if !stays {
        // What cannot be removed beside another rbuild goes at the next prune.
        upkeep::collect(store, &target)?;
        let artifacts = attestations.artifacts.iter().map(|artifact| &artifact.descriptor);
        for carried in artifacts.chain(&carried) {
            upkeep::collect(store, carried)?;
        }
    }
    Ok(target)
}

/// What the name stands for, what of it is moved, and what was opened for it.
fn bring(
    store: &Store,
    registry: &Client,
    request: &Request,
    find: &dyn Fn(&str) -> Option<Descriptor>,
    progress: &Progress,
) -> Result<(Descriptor, Descriptor, Option<Source>), Error> {
    let same = |target: Descriptor| (target.clone(), target, None);
    let platform = match &request.which {
        Which::One(platform) => Some(platform),
        Which::All => None,
    };
    match &request.from {
        Endpoint::Registry(reference) => {
            Ok(same(registry.pull(store, reference, &request.which, progress)?))
        }
        Endpoint::Store(name) => {
            let whole = find(name).ok_or_else(|| Error::NotInStore { name: name.clone() })?;
            let part = |platform| one_platform(store, name, whole.clone(), platform);
            let target = platform.map_or_else(|| Ok(whole.clone()), part)?;
            Ok((whole, target, None))
        }
        Endpoint::Engine { engine, name } => {
            Ok(same(engine::take(store, engine, name, &request.environment)?))
        }
        Endpoint::Layout { path, label } | Endpoint::OciArchive { path, label } => {
            take(store, path, label, platform)
        }
        Endpoint::DockerArchive { path, name } => {
            let name = name.as_ref().map(Reference::full).unwrap_or_default();
            take(store, path, &name, platform)
        }
    }
}

fn take(
    store: &Store,
    path: &Path,
    label: &str,
    platform: Option<&Platform>,
) -> Result<(Descriptor, Descriptor, Option<Source>), Error> {
    let source = Source::open(store, path)?;
    let target = source.take(store, &source.select(label)?, platform)?;
    Ok((target.clone(), target, Some(source)))
}

/// The manifest of one platform of an image in the store; one that is no index is taken as it is.
///
/// # Errors
/// [`Error::NoPlatform`] with those that there are.
pub fn one_platform(
    store: &Store,
    name: &str,
    target: Descriptor,
    wanted: &Platform,
) -> Result<Descriptor, Error> {
    if !target.media_type.is_index() {
        return Ok(target);
    }
    let image = Image::read(store, &target)?;
    match image.for_platform(wanted) {
        Some(platform) => Ok(platform.descriptor.clone()),
        None => Err(Error::NoPlatform {
            name: name.to_owned(),
            wanted: Box::new(wanted.clone()),
            offered: image
                .platforms
                .iter()
                .filter_map(StoredPlatform::platform)
                .map(|p| p.to_string())
                .collect(),
        }),
    }
}

/// Puts it where it goes, and gives what else is in the store for that alone.
fn deliver(
    store: &Store,
    target: &Descriptor,
    to: &Endpoint,
    attestations: &Attestations,
) -> Result<Vec<Descriptor>, Error> {
    let save = |call: Call, to: SaveTo| {
        let (target, referrers) = (target.clone(), attest::entries(store, attestations)?);
        export::save(store, &[Saved { target, call, referrers: referrers.clone() }], &to)?;
        Ok(referrers)
    };
    let label = |label: &String| match label.is_empty() {
        true => Call::Names(Vec::new()),
        false => Call::Label(label.clone()),
    };
    match to {
        // It is pushed or loaded there.
        Endpoint::Registry(_) | Endpoint::Engine { .. } => Ok(Vec::new()),
        Endpoint::Store(name) if name.is_empty() => Err(Error::NoName),
        Endpoint::Store(name) => match name.parse::<Reference>() {
            Ok(reference) => {
                let name = reference.with_default_tag();
                store.set_tag(&name, target)?;
                attest::keep(store, &name, &attestations.artifacts)?;
                Ok(Vec::new())
            }
            Err(_) => Err(Error::NotInStore { name: name.clone() }),
        },
        Endpoint::Layout { path, label: word } => save(label(word), SaveTo::OciDirectory(path.clone())),
        Endpoint::OciArchive { path, label: word } => {
            save(label(word), SaveTo::OciArchive(Sink::File(path.clone())))
        }
        Endpoint::DockerArchive { path, name } => {
            let names = name.iter().cloned().map(Reference::with_default_tag).collect();
            save(Call::Names(names), SaveTo::DockerArchive(Sink::File(path.clone())))
        }
    }
}
