//! Moves images into the engines that run them, and out of these: docker's daemon, podman's storage, containerd.
//!
//! What an engine has is not sent again. How it is asked, and how it takes the rest, is a file for each engine. What is missing here,
//! because it is promised elsewhere, is brought only if the engine lacks it, too. Nothing is named before it is whole: an engine that
//! fails in the middle keeps at most layers without a name, which its own cleaning removes.

mod archive;
#[allow(clippy::disallowed_methods, reason = "the socket that the user names")]
mod containerd;
#[allow(clippy::disallowed_methods, reason = "docker's own files: contexts, certificates")]
mod docker;
mod error;
mod picked;
#[allow(clippy::disallowed_methods, reason = "a layout in a folder of the store for temporary files")]
mod podman;
#[allow(clippy::disallowed_methods, reason = "folders of $PATH")]
mod program;

use crate::export::{Engine, LoadInto};
use crate::http::Environment;
use crate::image::Image;
use crate::import::Source;
use crate::oci::{Descriptor, Digest, Reference};
use crate::store::Store;

pub use error::Error;

/// An image that goes to an engine.
pub struct Load<'a> {
    /// Where its documents are, and its layers unless they are supplied.
    pub store: &'a Store,
    /// Its manifest or index.
    pub target: &'a Descriptor,
    /// What it is called there; names by digest are left out.
    pub names: &'a [Reference],
    /// Brings a layer into the store that is not there.
    pub supply: &'a (dyn Fn(&Descriptor) -> Result<(), String> + Sync),
    /// Says where engines are.
    pub environment: &'a Environment,
    /// Hears how many bytes of how many were sent.
    pub hear: &'a (dyn Fn(u64, u64) + Sync),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Where it is now.
    pub engine: Engine,
    /// By what it is known there.
    pub id: Digest,
    /// Bytes that were sent: layers and documents.
    pub sent_bytes: u64,
    /// What is to be said of it.
    pub notes: Vec<String>,
}

/// Which engine is meant, if it is there: asked before a build, so that none is in vain.
///
/// # Errors
/// Why it is not; [`Error::is_absence`] tells that from a mistake.
pub fn find(into: &LoadInto, environment: &Environment) -> Result<Engine, Error> {
    match into {
        LoadInto::Engine(engine) => probe(engine, environment).map(|()| engine.clone()),
        LoadInto::DockerIfThere => probe(&Engine::DOCKER, environment).map(|()| Engine::DOCKER),
        LoadInto::WhatIsThere => {
            let mut looked_for = Vec::new();
            for engine in [Engine::DOCKER, Engine::Podman, Engine::Containerd { namespace: None }] {
                match probe(&engine, environment) {
                    Err(error) if error.is_absence() => looked_for.push(error.to_string()),
                    outcome => return outcome.map(|()| engine),
                }
            }
            Err(Error::NothingThere { looked_for })
        }
    }
}

fn probe(engine: &Engine, environment: &Environment) -> Result<(), Error> {
    match engine {
        Engine::Docker { context } => docker::probe(context.as_deref(), environment),
        Engine::Podman => program::find("podman", environment),
        Engine::Containerd { .. } => containerd::probe(environment),
    }
}

/// Loads an image.
///
/// # Errors
/// Any of [`Error`]; the image has none of its names in the engine then, or those that it had.
pub fn load(load: &Load<'_>, engine: &Engine) -> Result<Loaded, Error> {
    match engine {
        Engine::Docker { context } => docker::load(load, context.as_deref()),
        Engine::Podman => podman::load(load),
        Engine::Containerd { namespace } => containerd::load(load, namespace.as_deref()),
    }
}

/// Takes an image of an engine's into the store, and gives its manifest. One that was taken before, by its id, is not taken again.
/// containerd has no images that only it knows: they come from registries.
///
/// # Errors
/// [`Error::NoImage`], or whatever prevents it.
pub fn take(
    store: &Store,
    engine: &Engine,
    name: &str,
    environment: &Environment,
) -> Result<Descriptor, Error> {
    let id = match engine {
        Engine::Docker { context } => docker::id_of(context.as_deref(), name, environment)?,
        Engine::Podman => podman::id_of(name)?,
        Engine::Containerd { .. } => {
            return Err(Error::NoImage { engine: "containerd", name: name.to_owned() });
        }
    };
    // No registry can have this name (RFC 2606).
    let note = format!("{}.invalid/image:{}", engine.name(), id.hex()).parse::<Reference>().ok();
    if let Some(target) = note.as_ref().and_then(|note| store.last_fetched(note).transpose()).transpose()?
        && Image::read(store, &target)?.is_complete()
    {
        return Ok(target);
    }
    // By its id: the name may be another's a moment later.
    let spread = match engine {
        Engine::Docker { context } => docker::save(store, context.as_deref(), &id, environment)?,
        _ => podman::save(store, &id)?,
    };
    let source = Source::Archive(spread);
    let target = source.take(store, &source.select("")?, None)?;
    if let Some(note) = &note {
        store.set_fetched(note, &target)?;
    }
    Ok(target)
}

impl Load<'_> {
    /// Has `layers` here.
    fn bring<'d>(&self, layers: impl IntoIterator<Item = &'d Descriptor>) -> Result<(), Error> {
        for layer in layers {
            // One that a crash cut off is set aside, and missing.
            if self.store.intact_blob(&layer.digest)?.is_none() {
                (self.supply)(layer).map_err(|reason| Error::NotSupplied { layer: layer.digest, reason })?;
            }
        }
        Ok(())
    }

    /// The names that an engine can give it, in full.
    fn tags(&self) -> Vec<Reference> {
        self.names
            .iter()
            .filter(|name| name.digest().is_none())
            .map(|name| name.clone().with_default_tag())
            .collect()
    }
}
