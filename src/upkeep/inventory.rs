//! Everything in the store that names something else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::unnamed;
use crate::cache::{Cache, Record};
use crate::image::Image;
use crate::oci::{Descriptor, Digest, Reference};
use crate::store::{BlobState, Fetched, RecordState, Store};

/// Why the store could not be looked through.
pub(super) type Error = crate::store::Error;

/// Names, images, cache records and blobs, as they were at one moment. Only a process that has the store alone may
/// conclude from it that something is not needed.
#[derive(Debug)]
pub struct Inventory {
    /// All names and what they point at.
    pub names: Vec<(Reference, Descriptor)>,
    /// The images behind the names, each once.
    pub named: BTreeMap<Digest, Image>,
    /// What builds have fetched: names as registries knew them, what they stood for, and when a build last asked.
    pub fetched: Vec<Fetched>,
    /// The images behind `fetched` that no name points at, each once.
    pub bases: BTreeMap<Digest, Image>,
    /// Images that nothing names, and that are in no index that is here.
    pub unnamed: Vec<Image>,
    /// What the cache remembers.
    pub entries: Vec<CacheEntry>,
    /// Files of the cache that are no records, or whose blob is gone.
    pub broken: Vec<String>,
    /// What the store's folder of records has beside that: preimages and slots, by name.
    pub notes: BTreeMap<String, RecordState>,
    /// Every blob that is there.
    pub blobs: BTreeMap<Digest, BlobState>,
}

/// One record of the cache.
#[derive(Debug, Clone)]
pub struct CacheEntry {
    /// What it says.
    pub record: Record,
    /// Seconds since 1970 at which a build last used it.
    pub last_used: i64,
    /// What its files take up on disk.
    pub disk_bytes: u64,
}

impl Inventory {
    /// Looks through the store: names, manifests, every record, and the list of blobs. Blobs that nothing names are
    /// opened when they may be manifests.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn take(store: &Store) -> Result<Self, crate::store::Error> {
        let names = store.tags()?;
        let mut named = BTreeMap::new();
        for (_, target) in &names {
            if let Entry::Vacant(place) = named.entry(target.digest) {
                place.insert(Image::read(store, target)?);
            }
        }
        let fetched = store.fetched()?;
        let mut bases = BTreeMap::new();
        for Fetched { target, .. } in &fetched {
            if let (false, Entry::Vacant(place)) =
                (named.contains_key(&target.digest), bases.entry(target.digest))
            {
                place.insert(Image::read(store, target)?);
            }
        }
        let mut inventory = Self {
            names,
            named,
            fetched,
            bases,
            unnamed: Vec::new(),
            entries: Vec::new(),
            broken: Vec::new(),
            notes: BTreeMap::new(),
            blobs: store.blobs()?,
        };
        inventory.read_records(store)?;
        inventory.unnamed = unnamed::find(store, &inventory)?;
        Ok(inventory)
    }

    fn read_records(&mut self, store: &Store) -> Result<(), Error> {
        let cache = Cache::new(store.clone());
        let mut notes = store.record_names()?;
        let keys: Vec<String> = notes.keys().filter(|name| !name.contains('.')).cloned().collect();
        for name in keys {
            let state = notes.remove(&name).expect("its name is a key of the map");
            let record = cache.peek(&name)?.filter(|record| {
                let blob = self.blobs.get(&record.layer.descriptor.digest);
                blob.is_some_and(|blob| blob.bytes == record.layer.descriptor.size)
            });
            let Some(record) = record else {
                self.broken.push(name);
                continue;
            };
            let why = notes.get(&format!("{name}.why")).map_or(0, |why| why.disk_bytes);
            let disk_bytes = state.disk_bytes + why;
            self.entries.push(CacheEntry { record, last_used: state.changed, disk_bytes });
        }
        self.notes = notes;
        Ok(())
    }

    /// The names of an image, as people write them.
    pub fn names_of(&self, digest: &Digest) -> Vec<&Reference> {
        self.names.iter().filter(|(_, target)| target.digest == *digest).map(|(name, _)| name).collect()
    }

    /// All images, whoever names them.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.named.values().chain(self.bases.values()).chain(&self.unnamed)
    }

    /// How many images have each blob.
    pub fn shares(&self) -> BTreeMap<Digest, usize> {
        let mut shares = BTreeMap::new();
        for image in self.images() {
            for digest in image.blobs.keys() {
                *shares.entry(*digest).or_default() += 1;
            }
        }
        shares
    }
}
