//! Looks after a cache: what it holds, making it smaller, and removing it.

use std::collections::BTreeSet;

use super::backend::{Backend, Error, Put};
use super::merge::{Bounds, bound};
use super::sealed::Sealed;
use crate::clock;
use crate::oci::{Descriptor, Digest};
use crate::signature::SigningKey;

/// A head that others keep changing is made smaller again so many times.
const TRIES: u32 = 4;

/// What became of a cache that was made smaller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Records that went.
    pub dropped: usize,
    /// Records that stayed.
    pub kept: usize,
    /// Cache mounts that went.
    pub mounts_dropped: usize,
    /// Cache mounts that stayed.
    pub mounts_kept: usize,
    /// Bytes of blobs that the cache named and does not name any more.
    pub released_bytes: u64,
    /// Bytes that are gone by now. The garbage collector of a registry frees the rest when it runs.
    pub freed_bytes: u64,
}

/// What the cache holds; `None` when there is none.
///
/// # Errors
/// What the backend says.
pub fn read(backend: &dyn Backend) -> Result<Option<Sealed>, Error> {
    backend.head()?.map(|head| Sealed::parse(&head.pack)).transpose()
}

/// Drops what is beyond `bounds`, as the writer with this key does (without one: those who do not sign); what others signed stays.
/// `None` when there is no cache.
///
/// # Errors
/// What the backend says.
pub fn prune(
    backend: &dyn Backend,
    key: Option<&SigningKey>,
    bounds: Bounds,
) -> Result<Option<Pruned>, Error> {
    for _ in 0..TRIES {
        let Some(head) = backend.head()? else { return Ok(None) };
        let place = backend.place();
        let mut packs = Sealed::parse(&head.pack)?;
        let (before, folded) = (packs.blobs(), packs.folded());
        let mut own = packs.of(key, &place);
        let mounts = own.mounts.len();
        let dropped = bound(&mut own, bounds, clock::now());
        let mounts_dropped = mounts - own.mounts.len();
        if dropped + mounts_dropped > 0 {
            packs = packs.without(key, &place);
            packs.push(Sealed::new(&own, key, &place)?);
            if backend.put_head(&packs.to_bytes(), &packs.blobs(), Some(&head))? == Put::Lost {
                continue;
            }
        }
        for id in backend.packs()?.iter().filter(|id| folded.contains(&id.0)) {
            backend.remove_pack(id)?;
        }
        let stays: BTreeSet<Digest> = packs.blobs().iter().map(|blob| blob.digest).collect();
        let gone = before.iter().filter(|blob: &&Descriptor| !stays.contains(&blob.digest));
        return Ok(Some(Pruned {
            dropped,
            kept: own.entries.len(),
            mounts_dropped,
            mounts_kept: own.mounts.len(),
            released_bytes: gone.map(|blob| blob.size).sum(),
            freed_bytes: backend.sweep()?,
        }));
    }
    Err(Error::Server("others keep writing to it; try again".to_owned()))
}

/// Removes the cache, and gives how many bytes are gone by now; `None` when there is none.
///
/// # Errors
/// What the backend says, also when it lets nothing be removed.
pub fn remove(backend: &dyn Backend) -> Result<Option<u64>, Error> {
    match backend.head() {
        Ok(None) => return Ok(None),
        // One that cannot be read may go; what is none of rbuild's may not.
        Ok(Some(_)) => {}
        Err(error) => return Err(error),
    }
    backend.remove()?;
    backend.sweep().map(Some)
}
