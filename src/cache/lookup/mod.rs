//! Where results of earlier builds are looked up, and their blobs: in the build's own store, and then in other places.
//!
//! A record of another place is believed at once, its blob is not looked at: it is *promised*, and brought here only when
//! somebody needs its bytes. A build whose later steps and outputs need none of them never has them. Keys are chained on
//! results, so whoever finds a record goes on with it wherever its blob is. The layers of a base are promised in the same way,
//! by its registry; there is no record of them.
//!
//! A promise that is not kept is withdrawn, and the build looks again: see [`Lookup::take_broken`].

mod bring;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::place::{BlobSource, Place, Precedence};
use super::worth::Worth;
use super::{Cache, Error, Key, Preimage, Reasons, Record};
use crate::oci::{DiffId, Digest, Layer};
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
    /// It was made with an index that is not its layer's.
    WrongIndex,
}

/// The cache of a store, and behind it other places. May be shared between threads.
pub struct Lookup {
    store: Store,
    own: Cache,
    places: Vec<Arc<dyn Place>>,
    /// Blobs that are not here yet. Whoever brings one holds its lock, so that it comes once.
    promised: Mutex<HashMap<Digest, Cell>>,
    /// Blobs that places promised and did not have, with the names of the places, which are not believed about them any more.
    withdrawn: Mutex<HashSet<(Digest, String)>>,
    /// Places that told a wrong index of a layer, which are not believed about that layer any more.
    refuted: Mutex<HashSet<(DiffId, String)>>,
    /// Places that were too slow, by name.
    given_up: Mutex<HashSet<String>>,
    /// What was said of the last promise that was not kept, or of a wrong index, until somebody asks.
    broken: Mutex<Option<Broken>>,
    /// What was found or made so far, for whoever hands it on.
    used: Mutex<BTreeMap<Key, Used>>,
    /// Results that other places had, and how long they took when they were made.
    remote: Mutex<BTreeMap<Key, Duration>>,
    fetched_bytes: AtomicU64,
    index_bytes: AtomicU64,
    worth: Worth,
    /// Blobs that were made here instead.
    remade: Mutex<HashSet<Digest>>,
    /// Hears of layers that were made.
    hear: OnceLock<Box<HearLayer>>,
}

/// What other places did for a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Results that were found there.
    pub steps: usize,
    /// Bytes of their layers that came.
    pub fetched_bytes: u64,
    /// Bytes of indexes that came instead of layers, decompressed.
    pub index_bytes: u64,
    /// Layers that were made from what was here, as that was faster than to fetch them.
    pub remade: usize,
    /// How long the steps took when they ran.
    pub took: Duration,
}

/// What a place said that is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What, in words.
    pub why: String,
    /// Whether results that were made so far may be wrong, even of steps that went well.
    pub is_result_doubtful: bool,
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
    /// Whether it is another place that says so, and neither this store nor this build.
    pub is_from_elsewhere: bool,
}

/// Where a record comes from that a build uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Made,
    MadeAnew,
    Own,
    Elsewhere,
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
            Dropped::WrongIndex => "it was made with an index that does not match its layer",
        }
    }
}

impl Lookup {
    /// Looks into `store`, then into `places`, in their order.
    pub fn new(store: &Store, places: Vec<Arc<dyn Place>>) -> Self {
        let (store, own) = (store.clone(), Cache::new(store.clone()));
        Self {
            worth: Worth::new(&store),
            remade: Mutex::default(),
            store,
            own,
            places,
            promised: Mutex::default(),
            withdrawn: Mutex::default(),
            refuted: Mutex::default(),
            given_up: Mutex::default(),
            broken: Mutex::default(),
            used: Mutex::default(),
            remote: Mutex::default(),
            fetched_bytes: AtomicU64::new(0),
            index_bytes: AtomicU64::new(0),
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

    fn note_use(&self, record: &Record, slot: Option<&str>, origin: Origin) {
        let slot = slot.map(str::to_owned);
        let mut used = lock(&self.used);
        // What was taken over in this build is still what another place said.
        let was_elsewhere = used
            .get(&record.key)
            .is_some_and(|known| known.is_from_elsewhere && known.record.layer == record.layer);
        let is_from_elsewhere = origin == Origin::Elsewhere || origin == Origin::Own && was_elsewhere;
        let is_replacement = origin == Origin::MadeAnew;
        used.insert(record.key, Used { record: record.clone(), slot, is_replacement, is_from_elsewhere });
    }

    /// Looks up what `preimage` produced. A blob that a place promises and that is here already makes the record one of
    /// this store.
    pub fn find(&self, preimage: &dyn Reasons) -> Result<Found, Error> {
        let key = preimage.key();
        if let Some(found) = self.find_in_places(preimage, &key, Precedence::BeforeOwn)? {
            return Ok(found);
        }
        if let Some(record) = self.own.lookup(&key)? {
            self.note_use(&record, None, Origin::Own);
            return Ok(Found::Here(record));
        }
        let found = self.find_in_places(preimage, &key, Precedence::Usual)?;
        Ok(found.unwrap_or_else(|| Found::Missing(self.own.why_missing(&key))))
    }

    fn find_in_places(
        &self,
        preimage: &dyn Reasons,
        key: &Key,
        precedence: Precedence,
    ) -> Result<Option<Found>, Error> {
        let key = *key;
        for place in self.places.iter().filter(|place| place.precedence() == precedence) {
            if lock(&self.given_up).contains(&place.name()) {
                continue;
            }
            let Some(record) = place.find(&key) else { continue };
            if self.is_refuted(record.layer.diff_id, &place.name()) || self.own.is_refuted(&record) {
                continue;
            }
            let blob = &record.layer.descriptor;
            if self.store.intact_blob(&blob.digest)? == Some(blob.size) {
                self.own.publish_alias(record.clone(), preimage)?;
                self.note_use(&record, None, Origin::Elsewhere);
                return Ok(Some(Found::Here(record)));
            }
            if lock(&self.withdrawn).contains(&(blob.digest, place.name())) || !place.promises(blob) {
                continue;
            }
            // The next miss is compared with it, whether the blob is ever needed or not.
            self.own.put_preimage(&key, preimage)?;
            self.note(&record.layer, Source::Place(Box::new(record.clone()), Arc::clone(place)));
            self.note_use(&record, None, Origin::Elsewhere);
            lock(&self.remote).insert(key, record.took.unwrap_or_default());
            return Ok(Some(Found::Elsewhere(record, Arc::clone(place))));
        }
        Ok(None)
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
        // Somebody may be bringing it, and will see that it is wanted. A source that the build named is that of this attempt.
        if let Ok(mut cell) = cell.try_lock()
            && (cell.is_none() || matches!(promise.source, Source::Given(_)))
        {
            *cell = Some(promise);
        }
    }

    /// The index of a layer as the place tells it that promised the layer, if it can; of a layer of a base, the first place that
    /// can; and what that place is called. Nothing of a layer that somebody is bringing.
    pub fn index_elsewhere(&self, layer: &Layer) -> Option<(String, Vec<u8>)> {
        let cell = lock(&self.promised).get(&layer.descriptor.digest).cloned()?;
        // Who brings it reads it, too.
        let place = match &cell.try_lock().ok()?.as_ref()?.source {
            Source::Place(_, place) => Some(Arc::clone(place)),
            Source::Given(_) => None,
        };
        let told = |place: &Arc<dyn Place>| {
            let name = place.name();
            let index = (!self.is_refuted(layer.diff_id, &name)).then(|| place.index(layer)).flatten()?;
            Some((name, index))
        };
        let told = match place {
            Some(place) => told(&place),
            None => self.places.iter().find_map(told),
        };
        let size = told.as_ref().map_or(0, |(_, index)| index.len() as u64);
        self.index_bytes.fetch_add(size, Ordering::Relaxed);
        told
    }

    /// What other places did so far.
    pub fn saved(&self) -> Saved {
        let remote = lock(&self.remote);
        Saved {
            steps: remote.len(),
            fetched_bytes: self.fetched_bytes.load(Ordering::Relaxed),
            index_bytes: self.index_bytes.load(Ordering::Relaxed),
            remade: lock(&self.remade).len(),
            took: remote.values().sum(),
        }
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
        self.note_use(record, Some(slot), if is_replacement { Origin::MadeAnew } else { Origin::Made });
        if let Some(hear) = self.hear.get() {
            hear(&record.layer);
        }
    }

    /// Publishes a result under another key; see [`Cache::publish_alias`]. What is only promised has none here yet.
    pub fn publish_alias(&self, record: Record, preimage: &dyn Reasons) -> Result<(), Error> {
        let digest = record.layer.descriptor.digest;
        let is_it = |used: &Used| used.is_from_elsewhere && used.record.layer.descriptor.digest == digest;
        let is_from_elsewhere = lock(&self.used).values().any(is_it);
        let origin = if is_from_elsewhere { Origin::Elsewhere } else { Origin::Own };
        self.note_use(&record, None, origin);
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
        let elsewhere = || {
            let preimage = preimage.to_preimage();
            self.places.iter().find_map(|place| place.explain(slot, &preimage))
        };
        self.own.explain(slot, preimage).or_else(elsewhere)
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
