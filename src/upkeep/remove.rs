//! Takes names away, and with the last one what only it needed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::inventory::{Error, Inventory};
use super::sessions;
use super::steps::StepNotes;
use crate::image::Image;
use crate::oci::{Descriptor, Digest};
use crate::store::{self, ExclusiveLock, Measuring, Store};

/// So long other processes are waited for: long enough for one that only looks, too short to be felt beside a build.
const PATIENCE: Duration = Duration::from_millis(500);

/// What became of an image that lost its last name.
#[derive(Debug)]
pub enum Collected {
    /// These blobs went, the manifest first.
    Gone(Vec<Digest>),
    /// Another process uses the store, so that its blobs stay until something collects them.
    Later,
}

/// Removes the blobs of `target` that no name, no cached step, no fetched base, no kept session and no other image needs. Does nothing when a
/// name still points at it.
///
/// # Errors
/// What the system refuses.
pub fn collect(store: &Store, target: &Descriptor) -> Result<Collected, Error> {
    match store.lock_exclusive(PATIENCE) {
        Ok(lock) => collect_alone(&lock, target).map(Collected::Gone),
        Err(store::Error::InUse { .. }) => Ok(Collected::Later),
        Err(error) => Err(error),
    }
}

fn collect_alone(lock: &ExclusiveLock, target: &Descriptor) -> Result<Vec<Digest>, Error> {
    let store = lock.store();
    let inventory = Inventory::take(store)?;
    if inventory.named.contains_key(&target.digest) || inventory.bases.contains_key(&target.digest) {
        return Ok(Vec::new());
    }
    let image = Image::read(store, target)?;
    let others = inventory.images().filter(|other| other.target.digest != target.digest);
    let of_images = others.flat_map(|other| other.blobs.keys());
    let of_steps = inventory.entries.iter().map(|entry| &entry.record.layer.descriptor.digest);
    let (unnamed, named) = sessions::units(store, &mut Measuring::default())?;
    let of_sessions = unnamed.iter().chain(&named).flat_map(|session| &session.blobs);
    let needed: BTreeSet<&Digest> = of_images.chain(of_steps).chain(of_sessions).collect();
    // A part of an index that is here by itself keeps what it needs, since it is among the images then.
    let is_free = |digest: &&Digest| **digest != target.digest && !needed.contains(*digest);
    let mut gone: Vec<Digest> = Vec::new();
    if !needed.contains(&target.digest) {
        gone.push(target.digest);
    }
    gone.extend(image.blobs.keys().filter(is_free));
    gone.iter().try_for_each(|digest| store.remove_blob(digest))?;
    for platform in &image.platforms {
        if gone.contains(&platform.descriptor.digest) {
            StepNotes::remove(store, &platform.descriptor.digest);
        }
    }
    Ok(gone)
}
