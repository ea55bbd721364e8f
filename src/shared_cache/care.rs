//! Looks after a cache: what it holds, making it smaller, and removing it.

use std::collections::BTreeSet;

use super::backend::{Backend, Error, Put};
use super::merge::{Bounds, bound};
use super::pack::Pack;
use crate::clock;
use crate::oci::{Descriptor, Digest};

/// A head that others keep changing is made smaller again so many times.
const TRIES: u32 = 4;

/// What became of a cache that was made smaller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Records that went.
    pub dropped: usize,
    /// Records that stayed.
    pub kept: usize,
    /// Bytes of blobs that the cache named and does not name any more.
    pub released_bytes: u64,
    /// Bytes that are gone by now. The garbage collector of a registry frees the rest when it runs.
    pub freed_bytes: u64,
}

/// What the cache holds; `None` when there is none.
///
/// # Errors
/// What the backend says.
pub fn read(backend: &dyn Backend) -> Result<Option<Pack>, Error> {
    let head = backend.head()?;
    head.map(|head| Pack::parse(&head.pack).map_err(Error::NoPack)).transpose()
}

/// Drops what is beyond `bounds`, as a writer does; `None` when there is no cache.
///
/// # Errors
/// What the backend says.
pub fn prune(backend: &dyn Backend, bounds: Bounds) -> Result<Option<Pruned>, Error> {
    for _ in 0..TRIES {
        let Some(head) = backend.head()? else { return Ok(None) };
        let mut pack = Pack::parse(&head.pack).map_err(Error::NoPack)?;
        let before = pack.blobs();
        let dropped = bound(&mut pack, bounds, clock::now());
        let bytes = pack.to_bytes();
        if bytes != head.pack && backend.put_head(&bytes, &pack.blobs(), Some(&head))? == Put::Lost {
            continue;
        }
        for id in backend.packs()?.iter().filter(|id| pack.folded.contains(&id.0)) {
            backend.remove_pack(id)?;
        }
        let stays: BTreeSet<Digest> = pack.blobs().iter().map(|blob| blob.digest).collect();
        let gone = before.iter().filter(|blob: &&Descriptor| !stays.contains(&blob.digest));
        return Ok(Some(Pruned {
            dropped,
            kept: pack.entries.len(),
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
