//! Where results of earlier builds are looked up, and their blobs: in the build's own store, and then in other places.
//!
//! A record of another place is believed at once, its blob is not looked at: it is *promised*, and brought here only when
//! somebody needs its bytes. A build whose later steps and outputs need none of them never has them. Keys are chained on
//! results, so whoever finds a record goes on with it wherever its blob is. The layers of a base are promised in the same way,
//! by its registry; there is no record of them.
//!
//! A promise that is not kept is withdrawn, and the build looks again: see [`Lookup::withdrawn`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::place::{BlobSource, Place};
use super::{Cache, Error, Key, Preimage, Reasons, Record};
use crate::oci::{Descriptor, Digest, Layer};
use crate::store::Store;
use crate::sync::lock;

/// What a lookup came to.
#[derive(Debug, Clone)]
pub enum Found {
    /// The result, and its blob is in the store.
    Here(Record),
    /// The result; its blob is in another place. [`Lookup::bring`] brings it.
    Elsewhere(Record, Arc<dyn Place>),
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
pub struct Lookup {
    store: Store,
    own: Cache,
    places: Vec<Arc<dyn Place>>,
    /// Blobs that are not here yet. Whoever brings one holds its lock, so that it comes once.
    promised: Mutex<HashMap<Digest, Cell>>,
    /// Blobs that a place promised and did not have. No place is believed about them any more, also one that has them.
    withdrawn: Mutex<HashSet<Digest>>,
    /// What was found or made so far, for whoever hands it on.
    used: Mutex<BTreeMap<Key, Used>>,
    /// Hears of layers that were made.
    hear: OnceLock<Box<HearLayer>>,
}

/// Called with each layer that was made, as soon as its record is published.
pub type HearLayer = dyn Fn(&Layer) + Send + Sync;

/// A record that a build found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// It.
    pub record: Record,
    /// The slot of its step, if it has one.
    pub slot: Option<String>,
    /// Whether it was made in the place of another one that was there.
    pub is_replacement: bool,
}

type Cell = Arc<Mutex<Option<Promise>>>;

/// What is to be done when a blob is needed.
#[derive(Debug)]
struct Promise {
    layer: Layer,
    source: Source,
}

/// Who promised.
#[derive(Debug, Clone)]
enum Source {
    /// The record goes into the own cache with the blob.
    Place(Box<Record>, Arc<dyn Place>),
    /// What the build named itself, and cannot do without.
    Given(Arc<dyn BlobSource>),
}

impl Source {
    fn blobs(&self) -> &dyn BlobSource {
        match self {
            Source::Place(_, place) => &**place,
            Source::Given(source) => &**source,
        }
    }

    /// Which one it is: sources of one name may be several.
    fn id(&self) -> usize {
        std::ptr::from_ref(self.blobs()).cast::<()>().addr()
    }
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
    /// Looks into `store`, then into `places`, in their order.
    pub fn new(store: &Store, places: Vec<Arc<dyn Place>>) -> Self {
        let (store, own) = (store.clone(), Cache::new(store.clone()));
        Self {
            store,
            own,
            places,
            promised: Mutex::default(),
            withdrawn: Mutex::default(),
            used: Mutex::default(),
            hear: OnceLock::new(),
        }
    }

    /// Has `hear` told of layers that are made from now on. Only the first call counts.
    pub fn tell_layers(&self, hear: Box<HearLayer>) {
        let _ = self.hear.set(hear);
    }

    /// What was found or made so far, in the order of the keys.
    pub fn used(&self) -> Vec<Used> {
        lock(&self.used).values().cloned().collect()
    }

    fn note_use(&self, record: &Record, slot: Option<&str>, is_replacement: bool) {
        let slot = slot.map(str::to_owned);
        lock(&self.used).insert(record.key, Used { record: record.clone(), slot, is_replacement });
    }

    /// Looks up what `preimage` produced. A blob that a place promises and that is here already makes the record one of
    /// this store.
    pub fn find(&self, preimage: &dyn Reasons) -> Result<Found, Error> {
        let key = preimage.key();
        if let Some(record) = self.own.lookup(&key)? {
            self.note_use(&record, None, false);
            return Ok(Found::Here(record));
        }
        for place in &self.places {
            let Some(record) = place.find(&key) else { continue };
            let blob = &record.layer.descriptor;
            if self.store.intact_blob(&blob.digest)? == Some(blob.size) {
                self.own.publish_alias(record.clone(), preimage)?;
                self.note_use(&record, None, false);
                return Ok(Found::Here(record));
            }
            if lock(&self.withdrawn).contains(&blob.digest) || !place.promises(blob) {
                continue;
            }
            // The next miss is compared with it, whether the blob is ever needed or not.
            self.own.put_preimage(&key, preimage)?;
            self.note(&record.layer, Source::Place(Box::new(record.clone()), Arc::clone(place)));
            self.note_use(&record, None, false);
            return Ok(Found::Elsewhere(record, Arc::clone(place)));
        }
        Ok(Found::Missing(self.own.why_missing(&key)))
    }

    /// Notes where layers are to come from that are not here and that no record is about: those of a base.
    pub fn promise(&self, layers: &[Layer], source: &Arc<dyn BlobSource>) {
        for layer in layers {
            self.note(layer, Source::Given(Arc::clone(source)));
        }
    }

    fn note(&self, layer: &Layer, source: Source) {
        let promise = Promise { layer: layer.clone(), source };
        let mut promised = lock(&self.promised);
        let cell = promised.entry(layer.descriptor.digest).or_default();
        // Somebody may be bringing it, and will see that it is wanted.
        if let Ok(mut cell) = cell.try_lock()
            && cell.is_none()
        {
            *cell = Some(promise);
        }
    }

    /// Sees to it that the blobs of layers are in the store, if one of the places promised them: has them fetched and
    /// verified, and keeps their records for later builds. Whoever opens the blob of a layer that a lookup gave calls this
    /// first; who needs several calls it with all of them, as they come at the same time.
    ///
    /// # Errors
    /// [`Error::Broken`] when a place does not have a blob any more, or has something else under its digest.
    pub fn bring(&self, layers: &[Layer]) -> Result<(), Error> {
        // In the order of their digests, so that nobody who brings others waits for this one and the other way round.
        let cells: BTreeMap<Digest, Cell> = {
            let promised = lock(&self.promised);
            let cell = |layer: &Layer| {
                let digest = layer.descriptor.digest;
                promised.get(&digest).map(|cell| (digest, Arc::clone(cell)))
            };
            layers.iter().filter_map(cell).collect()
        };
        let mut held: Vec<MutexGuard<'_, Option<Promise>>> = cells.values().map(|cell| lock(cell)).collect();
        for cell in &mut held {
            if let Some(promise) = &**cell
                && self.keep(promise)?
            {
                **cell = None;
            }
        }
        held.retain(|promise| promise.is_some());
        while let Some(source) = held.iter().find_map(|promise| promise.as_ref().map(|p| p.source.clone())) {
            let is_of_it = |promise: &&Promise| promise.source.id() == source.id();
            let wanted: Vec<Layer> =
                held.iter().filter_map(|p| p.as_ref().filter(is_of_it).map(|p| p.layer.clone())).collect();
            let fetched = source.blobs().fetch(&self.store, &wanted);
            let mut missing = None;
            for cell in &mut held {
                let Some(promise) = cell.as_ref().filter(is_of_it) else { continue };
                if self.keep(promise)? {
                    **cell = None;
                } else if let Source::Place(..) = promise.source {
                    let digest = promise.layer.descriptor.digest;
                    lock(&self.withdrawn).insert(digest);
                    missing.get_or_insert(digest);
                    **cell = None;
                } else {
                    missing.get_or_insert(promise.layer.descriptor.digest);
                }
            }
            // What somebody else made meanwhile is as good.
            let Some(digest) = missing else { continue };
            let cause = fetched.err().unwrap_or_else(|| "it was not given".into());
            return Err(Error::Broken { digest, place: source.blobs().name(), cause });
        }
        Ok(())
    }

    /// Takes over what was fetched; `false` when it is not there.
    fn keep(&self, promise: &Promise) -> Result<bool, Error> {
        let Descriptor { digest, size, .. } = promise.layer.descriptor;
        if self.store.has_blob(&digest) != Some(size) {
            return Ok(false);
        }
        if let Source::Place(record, _) = &promise.source {
            self.own.adopt(record)?;
        }
        Ok(true)
    }

    /// Whether the blob of a layer would have to be brought. Waits while somebody brings it.
    pub fn is_elsewhere(&self, layer: &Layer) -> bool {
        let promise = lock(&self.promised).get(&layer.descriptor.digest).cloned();
        promise.is_some_and(|promise| lock(&promise).is_some())
    }

    /// How many promises were not kept so far. A build that failed and sees that these became more looks everything up
    /// again: what was promised is a miss then, and so is what stood on it if its bytes came out differently.
    pub fn withdrawn(&self) -> usize {
        lock(&self.withdrawn).len()
    }

    /// The index of a layer as the place tells it that promised the layer, if it can; of a layer of a base, the first place that
    /// can. Waits while somebody brings the layer.
    pub fn index_elsewhere(&self, layer: &Layer) -> Option<Vec<u8>> {
        let cell = lock(&self.promised).get(&layer.descriptor.digest).cloned()?;
        let place = match &lock(&cell).as_ref()?.source {
            Source::Place(_, place) => Arc::clone(place),
            Source::Given(_) => return self.places.iter().find_map(|place| place.index(layer)),
        };
        place.index(layer)
    }

    /// Publishes a result; see [`Cache::publish`].
    pub fn publish(&self, record: Record, preimage: &dyn Reasons, slot: &str) -> Result<Record, Error> {
        let record = self.own.publish(record, preimage, slot)?;
        self.made(&record, slot, false);
        Ok(record)
    }

    /// Publishes a result in the place of what there was; see [`Cache::replace`].
    pub fn replace(&self, record: Record, preimage: &dyn Reasons, slot: &str) -> Result<Record, Error> {
        let record = self.own.replace(record, preimage, slot)?;
        self.made(&record, slot, true);
        Ok(record)
    }

    fn made(&self, record: &Record, slot: &str, is_replacement: bool) {
        self.note_use(record, Some(slot), is_replacement);
        if let Some(hear) = self.hear.get() {
            hear(&record.layer);
        }
    }

    /// Publishes a result under another key; see [`Cache::publish_alias`]. What is only promised has none here yet.
    pub fn publish_alias(&self, record: Record, preimage: &dyn Reasons) -> Result<(), Error> {
        self.note_use(&record, None, false);
        match self.is_elsewhere(&record.layer) {
            // For whoever hands it on.
            true => self.own.put_preimage(&record.key, preimage),
            false => self.own.publish_alias(record, preimage),
        }
    }

    /// Notes which key a slot had last; see [`Cache::remember`].
    pub fn remember(&self, slot: &str, key: &Key) -> Result<(), Error> {
        if let Some(used) = lock(&self.used).get_mut(key) {
            used.slot = Some(slot.to_owned());
        }
        self.own.remember(slot, key)
    }

    /// What made a key what it is, if it is known.
    pub fn preimage(&self, key: &Key) -> Option<Preimage> {
        self.own.preimage(key).ok()?
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

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("places", &self.places).finish_non_exhaustive()
    }
}
