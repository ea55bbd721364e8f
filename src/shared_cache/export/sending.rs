//! Sends what a build's pack names: layers, indexes, and snapshots of cache mounts, several blobs at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::{AT_ONCE, Results, Shared};
use crate::oci::{Descriptor, Digest, Seconds};
use crate::shared_cache::backend::{Content, Error};
use crate::shared_cache::import::{Import, Known};
use crate::shared_cache::mounts::remote::{Place, Taken};
use crate::shared_cache::pack::Pack;
use crate::shared_cache::writer::writer;
use crate::sync::{into_inner, lock};

impl Shared {
    /// Sends blobs, several at a time. Gives those that are not here and so cannot be sent.
    pub(super) fn send_all(
        &self,
        blobs: &[Descriptor],
        indexes: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<BTreeSet<Digest>, Error> {
        let (next, failed, first) = (Mutex::new(blobs.iter()), Mutex::new(BTreeSet::new()), Mutex::new(None));
        let work = || {
            while lock(&first).is_none() {
                let blob = lock(&next).next();
                let Some(blob) = blob else { return };
                let sent = match indexes.get(&blob.digest) {
                    Some(bytes) => self.send(blob, Content::Bytes(bytes)),
                    None if self.store.has_blob(&blob.digest).is_some() => {
                        self.send(blob, Content::Stored(&self.store))
                    }
                    // Another cache has it, from which some backends can take it; or this one, under another name.
                    None => {
                        if self.send(blob, Content::Stored(&self.store)).is_err() {
                            lock(&failed).insert(blob.digest);
                        }
                        Ok(())
                    }
                };
                if let Err(error) = sent {
                    lock(&first).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..blobs.len().min(AT_ONCE) {
                // Where no thread can be had, this one does it all.
                let _ = std::thread::Builder::new().name("cache-to".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        match into_inner(first) {
            Some(error) => Err(error),
            None => Ok(into_inner(failed)),
        }
    }

    /// Sends the snapshots of cache mounts, and names them in `own`. Gives how many are new.
    pub(super) fn send_mounts(
        &self,
        results: &Results<'_>,
        own: &mut Pack,
        (known, now): (&Known, Seconds),
    ) -> Result<usize, Error> {
        let (backend, limit) = (&*self.backend, self.options.mount_limit);
        // Who signs says nothing of what somebody else kept, and that is what a mount began with.
        let is_doubtful = |import: &Arc<Import>| !import.is_verified();
        if self.key.is_some() && self.import.as_ref().is_some_and(is_doubtful) {
            return Ok(0);
        }
        let place = Place { backend, known: &known.pack.mounts, limit, now };
        let mut count = 0;
        for mut taken in results.mounts.take(&place) {
            if let Some((blobs, _)) = &taken.fresh {
                self.send_snapshot(&taken, blobs)?;
                taken.snapshot.writer = writer();
                // Of two the newer stands, and within one second this is the newer one.
                let before = taken.names.iter().filter_map(|name| known.pack.mounts.get(name));
                let after = before.map(|before| before.written.saturating_add(1)).max();
                taken.snapshot.written = taken.snapshot.written.max(after.unwrap_or(now));
                count += 1;
            }
            own.mounts.extend(taken.names.into_iter().map(|name| (name, taken.snapshot.clone())));
        }
        Ok(count)
    }

    fn send_snapshot(&self, taken: &Taken, blobs: &[Descriptor]) -> Result<(), Error> {
        let (next, first) = (Mutex::new(blobs.iter()), Mutex::new(None));
        let work = || {
            while lock(&first).is_none() {
                let blob = lock(&next).next();
                let Some(blob) = blob else { return };
                let sent = taken.read(&blob.digest).and_then(|bytes| self.send(blob, Content::Bytes(&bytes)));
                if let Err(error) = sent {
                    lock(&first).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..blobs.len().min(AT_ONCE) {
                let _ = std::thread::Builder::new().name("cache-to".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        into_inner(first).map_or(Ok(()), Err)
    }
}
