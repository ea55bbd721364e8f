//! Docker's daemon, by its own protocol.
//!
//! Its old store (overlay2 and others) knows layers by what they unpack to: it is asked for the layers of images that may share
//! some, and gets an archive without them. Its new one, containerd's, knows blobs: it pulls from a registry of ours that
//! is there for that one pull, and fetches what it lacks.

mod address;
mod containerd_store;
mod daemon;
mod registry;
mod stream;
mod wire;

use std::collections::BTreeSet;

use super::archive::Archive;
use super::picked::{self, Picked};
use super::{Error, Load, Loaded};
use crate::export::Engine;
use crate::http::Environment;
use crate::import;
use crate::oci::{DiffId, Digest, Reference};
use crate::store::Store;
use daemon::{Daemon, Known};

/// What is not worth asking for any more.
const SMALL: u64 = 1 << 20;

/// Whether something listens.
pub(super) fn probe(context: Option<&str>, environment: &Environment) -> Result<(), Error> {
    Daemon::find(environment, context)?.probe()
}

/// Loads an image.
pub(super) fn load(load: &Load<'_>, context: Option<&str>) -> Result<Loaded, Error> {
    let daemon = Daemon::find(load.environment, context)?;
    let loaded = |id: Digest, sent_bytes: u64, notes: Vec<String>| Loaded {
        engine: Engine::Docker { context: context.map(str::to_owned) },
        id,
        sent_bytes,
        notes,
    };
    let names = load.tags();
    let image = picked::one(load);
    // Which store it has shows in what it calls images; one that has this one need not be asked anything else.
    let ids =
        image.as_ref().map(|image| image.manifest.config.digest).into_iter().chain([load.target.digest]);
    for id in ids {
        if let Some(known) = daemon.image(&id.to_string())?.filter(|known| known.id == id) {
            name_it(&daemon, &known, &names)?;
            let notes =
                image.ok().filter(|image| image.manifest.config.digest == id).and_then(|i| choice(&i));
            return Ok(loaded(id, 0, notes.into_iter().collect()));
        }
    }
    if daemon.has_containerds_store()? {
        let sent = containerd_store::load(&daemon, load, &names)?;
        return Ok(loaded(load.target.digest, sent, Vec::new()));
    }
    let image = image?;
    let sent = into_layers(&daemon, load, (&image, &names))?;
    Ok(loaded(image.manifest.config.digest, sent, choice(&image).into_iter().collect()))
}

/// What to say of platforms that stay behind.
fn choice(image: &Picked) -> Option<String> {
    let platform = image.chosen.as_ref()?;
    Some(format!(
        "docker's store takes one platform, and has got that for {platform}; its containerd image store takes all"
    ))
}

/// Gives an image that is there the names that it lacks.
fn name_it(daemon: &Daemon, known: &Known, names: &[Reference]) -> Result<(), Error> {
    let has = |name: &&Reference| known.names.contains(*name);
    names.iter().filter(|name| !has(name)).try_for_each(|name| daemon.tag(&known.id.to_string(), name))
}

/// Sends what is above the layers that the daemon has. What it had when it was asked may be gone: then it gets everything.
fn into_layers(
    daemon: &Daemon,
    load: &Load<'_>,
    (image, names): (&Picked, &[Reference]),
) -> Result<u64, Error> {
    let there = layers_there(daemon, image, names)?;
    let send = |there: usize| {
        load.bring(&image.manifest.layers[there..])?;
        let archive = Archive::docker(load.store, image, names, there);
        daemon.load(&archive, load.hear).map(|()| archive.content())
    };
    match send(there) {
        Err(Error::Refused { reason, .. }) if there > 0 => {
            tracing::debug!(%reason, there, "docker does not have the layers that it had");
            send(0)
        }
        outcome => outcome,
    }
}

/// How many layers from below the daemon has: it keeps every layer of its images by all that is below it.
fn layers_there(daemon: &Daemon, image: &Picked, names: &[Reference]) -> Result<usize, Error> {
    let sizes: Vec<u64> = image.manifest.layers.iter().map(|layer| layer.size).collect();
    let mut most = 0;
    let mut asked: BTreeSet<Digest> = BTreeSet::new();
    let mut look = |known: Option<Known>| {
        if let Some(known) = known {
            asked.insert(known.id);
            most = most.max(shared(&known.layers, &image.diff_ids));
        }
        sizes[most..].iter().sum::<u64>() <= SMALL
    };
    // What had the name before is most likely to share the most.
    for name in names {
        if look(daemon.image(&name.to_string())?) {
            return Ok(most);
        }
    }
    for id in daemon.images()? {
        if look(daemon.image(&id.to_string())?) {
            break;
        }
    }
    Ok(most)
}

fn shared(theirs: &[DiffId], ours: &[DiffId]) -> usize {
    theirs.iter().zip(ours).take_while(|(a, b)| a == b).count()
}

/// Takes an image out, with all its layers: the daemon gives no single ones.
pub(super) fn save(
    store: &Store,
    context: Option<&str>,
    id: &Digest,
    environment: &Environment,
) -> Result<import::Archive, Error> {
    let body = Daemon::find(environment, context)?.save(&id.to_string())?;
    Ok(import::Archive::read(store, body, &format!("docker-daemon:{id}"))?)
}

/// By what the daemon knows it.
pub(super) fn id_of(context: Option<&str>, name: &str, environment: &Environment) -> Result<Digest, Error> {
    // Names and ids as people write them: nothing else belongs into a path of the daemon's.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:/@".contains(c);
    let known = match !name.is_empty() && name.chars().all(is_plain) && !name.contains("..") {
        true => Daemon::find(environment, context)?.image(name)?,
        false => None,
    };
    known.map(|known| known.id).ok_or_else(|| Error::NoImage { engine: "docker", name: name.to_owned() })
}
