//! Where results of earlier builds are looked up, and their blobs: in the build's own store, and then in other places.
//!
//! A record of another place is believed at once, its blob is not looked at: it is *promised*, and brought here only when
//! somebody needs its bytes. A build whose later steps and outputs need none of them never has them. Keys are chained on
//! results, so whoever finds a record goes on with it wherever its blob is.
//!
//! Places are folders on this machine. Whatever other kinds there will be, nobody above this file needs to know.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::{Cache, Error, Key, Reasons, Record};
use crate::oci::{Descriptor, Digest, Layer};
use crate::store::{OtherStore, Store};
use crate::sync::lock;

/// What a lookup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The result, and its blob is in the store.
    Here(Record),
    /// The result; its blob is in another place. [`Lookup::bring`] brings it.
    Elsewhere(Record, OtherStore),
    /// Nothing that could be believed.
    Missing(Why),
}

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No place has a record.
    Unknown,
    /// There was one, which was dropped.
    Dropped(Dropped),
}

/// Why a record was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It is no record, or another key's.
    Unreadable,
    /// Its blob is not there.
    BlobMissing,
    /// Its blob is not what it was.
    BlobDamaged,
}

/// The cache of a store, and behind it other places. May be shared between threads.
#[derive(Debug)]
pub struct Lookup {
    store: Store,
    own: Cache,
    others: Vec<OtherStore>,
    /// Blobs that are not here yet. Whoever brings one holds its lock, so that it comes once.
    promised: Mutex<HashMap<Digest, Arc<Mutex<Option<Promise>>>>>,
}

/// What is to be done when a blob is needed.
#[derive(Debug)]
struct Promise {
    /// Goes into the own cache with the blob.
    record: Record,
    place: OtherStore,
}

impl Found {
    /// The record, wherever its blob is.
    pub fn record(self) -> Option<Record> {
        match self {
            Found::Here(record) | Found::Elsewhere(record, _) => Some(record),
            Found::Missing(_) => None,
        }
    }
}

impl Dropped {
    /// In one clause.
    pub fn clause(self) -> &'static str {
        match self {
            Dropped::Unreadable => "its cache record was damaged",
            Dropped::BlobMissing => "its layer is no longer in the store",
            Dropped::BlobDamaged => "its layer was damaged on disk",
        }
    }
}

impl Lookup {
    /// Looks into `store`, then into `others`, in their order.
    pub fn new(store: &Store, others: Vec<OtherStore>) -> Self {
        let (store, own) = (store.clone(), Cache::new(store.clone()));
        Self { store, own, others, promised: Mutex::default() }
    }

    /// Looks up what `preimage` produced. A blob that a place promises and that is here already makes the record one of
    /// this store.
    pub fn find(&self, preimage: &dyn Reasons) -> Result<Found, Error> {
        let key = preimage.key();
        if let Some(record) = self.own.lookup(&key)? {
            return Ok(Found::Here(record));
        }
        for place in &self.others {
            let Some(record) = record_in(place, &key) else { continue };
            let Descriptor { digest, size, .. } = record.layer.descriptor;
            if self.store.intact_blob(&digest)? == Some(size) {
                self.own.publish_alias(record.clone(), preimage)?;
                return Ok(Found::Here(record));
            }
            if place.has_blob(&digest) != Some(size) {
                continue;
            }
            // The next miss is compared with it, whether the blob is ever needed or not.
            self.own.put_preimage(&key, preimage)?;
            let promise = Promise { record: record.clone(), place: place.clone() };
            lock(&self.promised).entry(digest).or_insert_with(|| Arc::new(Mutex::new(Some(promise))));
            return Ok(Found::Elsewhere(record, place.clone()));
        }
        Ok(Found::Missing(self.own.why_missing(&key)))
    }

    /// Sees to it that the blob of a layer is in the store, if one of the places promised it: copies it, verifies it, and
    /// keeps its record for later builds. Whoever opens the blob of a layer that a lookup gave calls this first.
    ///
    /// # Errors
    /// [`Error::Broken`] when the place does not have the blob any more, or has something else under its digest.
    pub fn bring(&self, layer: &Layer) -> Result<(), Error> {
        let Descriptor { digest, size, .. } = layer.descriptor;
        let promise = lock(&self.promised).get(&digest).cloned();
        let Some(promise) = promise else { return Ok(()) };
        let mut promise = lock(&promise);
        let Some(Promise { record, place }) = &*promise else { return Ok(()) };
        let broken = |source| Error::Broken { digest, place: place.root().to_owned(), source };
        let file = place.open_blob(&digest).map_err(broken)?;
        let mut blob = self.store.new_blob()?;
        io::copy(&mut io::Read::take(file, size + 1), &mut blob).map_err(|source| Error::Copy {
            digest,
            path: blob.path().to_owned(),
            source,
        })?;
        blob.commit(Some(digest)).map_err(broken)?;
        self.own.adopt(record)?;
        *promise = None;
        Ok(())
    }

    /// Whether the blob of a layer would have to be brought.
    pub fn is_elsewhere(&self, layer: &Layer) -> bool {
        let promise = lock(&self.promised).get(&layer.descriptor.digest).cloned();
        promise.is_some_and(|promise| lock(&promise).is_some())
    }

    /// Publishes a result; see [`Cache::publish`].
    pub fn publish(&self, record: Record, preimage: &dyn Reasons, slot: &str) -> Result<Record, Error> {
        self.own.publish(record, preimage, slot)
    }

    /// Publishes a result in the place of what there was; see [`Cache::replace`].
    pub fn replace(&self, record: Record, preimage: &dyn Reasons, slot: &str) -> Result<Record, Error> {
        self.own.replace(record, preimage, slot)
    }

    /// Publishes a result under another key; see [`Cache::publish_alias`]. What is only promised has none here yet.
    pub fn publish_alias(&self, record: Record, preimage: &dyn Reasons) -> Result<(), Error> {
        match self.is_elsewhere(&record.layer) {
            true => Ok(()),
            false => self.own.publish_alias(record, preimage),
        }
    }

    /// Notes which key a slot had last; see [`Cache::remember`].
    pub fn remember(&self, slot: &str, key: &Key) -> Result<(), Error> {
        self.own.remember(slot, key)
    }

    /// Why a slot's preimage missed, in one clause; see [`Cache::explain`].
    pub fn explain(&self, slot: &str, preimage: &dyn Reasons) -> Option<String> {
        self.own.explain(slot, preimage)
    }

    /// Whether a slot ever had a key.
    pub fn knows(&self, slot: &str) -> bool {
        self.own.knows(slot)
    }

    /// What a slot had last, if its layer is here.
    pub fn last_record(&self, slot: &str) -> Option<Record> {
        self.own.last_record(slot)
    }
}

/// What cannot be read in another place is as good as absent.
fn record_in(place: &OtherStore, key: &Key) -> Option<Record> {
    let bytes =
        place.record(&key.hex()).inspect_err(|error| tracing::debug!(%error, "a place cannot be read"));
    Record::parse(&bytes.ok()??).filter(|record| record.key == *key)
}
