//! What is known here of a build's steps: a cache that travels with it. Without that a worker would run commands again whose results
//! are here, with other bytes, and all that stands on them would be found neither there nor here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::oci::{Descriptor, Digest};
use crate::reapi::Blob;
use crate::report::Events;
use crate::shared_cache::backend::{Backend, Content, Error, Head, Put, Sent};
use crate::shared_cache::{Bounds, CacheTo, Exporter, Mode, Results};
use crate::solve::Services;
use crate::solve::cache_mounts::Leaving;
use crate::store::Store;
use crate::sync::lock;

/// Such a cache: nothing is copied before it is sent.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The records.
    pub(super) head: Vec<u8>,
    pub(super) indexes: BTreeMap<Blob, Vec<u8>>,
    /// Layers, and the file of each in the store.
    pub(super) layers: BTreeMap<Blob, PathBuf>,
}

/// Takes what an export gives.
#[derive(Debug, Default)]
struct Gatherer(Mutex<Known>);

/// The records that were found for the build so far, with their layers as far as these are in the store. What steps made that had secrets stays
/// here. `None` when there are none.
pub(super) fn gather(services: &Services, project: &str) -> Option<Known> {
    if services.lookup.used().is_empty() {
        return None;
    }
    let gatherer = Arc::new(Gatherer::default());
    let options = CacheTo {
        location: None,
        mode: Mode::Max,
        ignore_error: false,
        bounds: Bounds::default(),
        sign: None,
        skip_secrets: true,
        mount_limit: 0,
    };
    let backend = Arc::clone(&gatherer) as Arc<dyn Backend>;
    let exporter = Exporter::start((backend, None), None, &services.store, &options);
    let results = Results {
        lookup: &services.lookup,
        layers: &[],
        seen: &[],
        project,
        mounts: &Leaving(services),
        images: &[],
    };
    // Without them the worker does more.
    exporter.finish(&results).inspect_err(|error| tracing::debug!(%error, "nothing known travels")).ok()?;
    let known = std::mem::take(&mut *lock(&gatherer.0));
    (!known.head.is_empty()).then_some(known)
}

impl Backend for Gatherer {
    fn name(&self) -> String {
        "what travels".to_owned()
    }

    fn head(&self) -> Result<Option<Head>, Error> {
        Ok(None)
    }

    fn is_atomic(&self) -> bool {
        true
    }

    fn put_head(&self, pack: &[u8], _: &[Descriptor], _: Option<&Head>) -> Result<Put, Error> {
        lock(&self.0).head = pack.to_vec();
        Ok(Put::Done)
    }

    fn remove(&self) -> Result<(), Error> {
        Ok(())
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        Err(Error::NoBlob(blob.digest))
    }

    fn fetch(&self, _: &Store, blobs: &[Descriptor], _: &Events) -> Result<(), Error> {
        blobs.first().map_or(Ok(()), |blob| Err(Error::NoBlob(blob.digest)))
    }

    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error> {
        let named = Blob { digest: blob.digest, size: blob.size };
        match content {
            Content::Bytes(bytes) => drop(lock(&self.0).indexes.insert(named, bytes.to_vec())),
            Content::Stored(store) if store.has_blob(&blob.digest) == Some(blob.size) => {
                lock(&self.0).layers.insert(named, store.blob_path(&blob.digest));
            }
            // It is promised, and not here: then its record does not travel.
            Content::Stored(_) => return Err(Error::NoBlob(blob.digest)),
        }
        Ok(Sent::Bytes(blob.size))
    }
}

/// Where a blob of it lies among the action's inputs.
pub(super) fn path_of(folder: &str, digest: &Digest) -> String {
    format!("{folder}/blobs/sha256/{}", digest.hex())
}
