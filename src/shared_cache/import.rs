//! A backend as a place where the cache looks: its head is fetched while the context is scanned, and read once.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::backend::{Backend, Error, Head};
use super::mounts::Snapshot;
use super::pack::{self, Pack};
use super::sealed::{Sealed, Trust};
use crate::cache::{BlobSource, FetchError, Key, Place, Precedence, Preimage, Record, difference_of_names};
use crate::oci::{Descriptor, Digest, Layer};
use crate::report::{Event, Events};
use crate::store::Store;
use crate::sync::lock;
use crate::text::duration::seconds;

/// An index that is larger, decompressed, is not believed.
const INDEX_LIMIT: u64 = 1 << 30;

/// What a backend has. Its records come in the background; who asks for one waits for them, so a build that finds all in its own
/// store never does.
pub struct Import {
    backend: Arc<dyn Backend>,
    trust: Trust,
    precedence: Precedence,
    events: Events,
    state: Mutex<Option<Arc<Known>>>,
    arrived: Condvar,
}

/// The head, read.
#[derive(Debug, Default)]
pub struct Known {
    /// As it came; `None` when there is none.
    pub head: Option<Head>,
    /// What is believed of it, as one pack.
    pub pack: Pack,
    /// The packs as their writers left them.
    pub sealed: Sealed,
    /// What is wrong with those that are not believed.
    pub wrong: Option<String>,
    blobs: HashMap<Digest, Descriptor>,
}

impl Known {
    pub(super) fn of(head: Head, trust: &Trust, place: &str) -> Result<Self, Error> {
        let sealed = Sealed::parse(&head.pack)?;
        let (pack, wrong) = sealed.believed(trust, place);
        let blobs = pack.blobs().into_iter().map(|blob| (blob.digest, blob)).collect();
        Ok(Self { head: Some(head), pack, sealed, wrong, blobs })
    }

    /// Whether the backend is known to have a blob.
    pub fn has(&self, blob: &Descriptor) -> bool {
        self.blobs.get(&blob.digest).is_some_and(|known| known.size == blob.size)
    }
}

impl Import {
    /// Begins to fetch the head of `backend`. What goes wrong is told to `events`, once, as a warning.
    pub fn start(backend: Arc<dyn Backend>, trust: Trust, events: &Events) -> Arc<Self> {
        Self::begin(backend, (trust, Precedence::Usual), events)
    }

    /// The same, with when it is asked.
    pub fn begin(
        backend: Arc<dyn Backend>,
        (trust, precedence): (Trust, Precedence),
        events: &Events,
    ) -> Arc<Self> {
        let import = Arc::new(Self {
            backend,
            trust,
            precedence,
            events: events.clone(),
            state: Mutex::default(),
            arrived: Condvar::new(),
        });
        // A build that needed nothing of it does not wait for it in the end, so the thread does not hold what it tells events to.
        let (backend, import_later) = (Arc::clone(&import.backend), Arc::downgrade(&import));
        let load = move || {
            let head = backend.head();
            if let Some(import) = import_later.upgrade() {
                import.take(head);
            }
        };
        if std::thread::Builder::new().name("cache".to_owned()).spawn(load).is_err() {
            import.take(import.backend.head());
        }
        import
    }

    fn take(&self, head: Result<Option<Head>, Error>) {
        if lock(&self.state).is_some() {
            // The build went on without it, and said so.
            return;
        }
        let known = match head {
            Ok(Some(head)) => Known::of(head, &self.trust, &self.backend.place()),
            Ok(None) => Ok(Known::default()),
            Err(error) => Err(error),
        };
        let known = known.unwrap_or_else(|error| {
            self.warn(&format!("cannot be read: {error}"), "the build goes on without it");
            Known::default()
        });
        if let Some(wrong) = &known.wrong {
            self.warn(&format!("has a pack that is not believed: {wrong}"), "the build goes on without it");
        }
        lock(&self.state).get_or_insert(Arc::new(known));
        self.arrived.notify_all();
    }

    /// What it has, once that is known.
    pub fn known(&self) -> Arc<Known> {
        let patience = self.backend.patience();
        if let Some(known) = self.known_within(patience) {
            return known;
        }
        let mut state = lock(&self.state);
        let is_late = state.is_none();
        let known = Arc::clone(state.get_or_insert_with(Arc::default));
        drop(state);
        if is_late {
            self.warn(
                &format!("did not answer within {}", seconds(patience)),
                "the build goes on without it",
            );
        }
        known
    }

    /// What it has, if that is known within `patience`.
    pub fn known_within(&self, patience: Duration) -> Option<Arc<Known>> {
        let waited = self.arrived.wait_timeout_while(lock(&self.state), patience, |state| state.is_none());
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0.clone()
    }

    /// The snapshot of a cache mount.
    pub fn mount(&self, name: &str) -> Option<Snapshot> {
        self.known().pack.mounts.get(name).cloned()
    }

    /// Whether only what certain keys signed is believed.
    pub fn is_verified(&self) -> bool {
        self.trust != Trust::Anybody
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    fn warn(&self, what: &str, help: &str) {
        self.events.send(Event::Note(format!("the cache `{}` {what}; {help}", self.backend.name())));
    }
}

impl BlobSource for Import {
    fn name(&self) -> String {
        self.backend.name()
    }

    fn fetch(&self, store: &Store, layers: &[Layer]) -> Result<(), FetchError> {
        let blobs: Vec<Descriptor> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        Ok(self.backend.fetch(store, &blobs, &self.events)?)
    }
}

impl Place for Import {
    fn precedence(&self) -> Precedence {
        self.precedence
    }

    fn find(&self, key: &Key) -> Option<Record> {
        self.known().pack.entries.get(key).map(|entry| entry.record.clone())
    }

    fn promises(&self, blob: &Descriptor) -> bool {
        self.known().has(blob)
    }

    fn explain(&self, slot: &str, preimage: &Preimage) -> Option<String> {
        // Before the step's place in the Dockerfile stands what is this machine's affair.
        let place = pack::slot(slot.split_once('\n').map_or(slot, |(_, place)| place));
        let known = self.known();
        let of_slot = known.pack.entries.values().filter(|entry| entry.slot == place);
        let last = of_slot.max_by_key(|entry| (entry.used, entry.written))?;
        let now = pack::clues(&last.record.key, preimage);
        difference_of_names(pack::changed(&last.clues, &now))
    }

    fn index(&self, layer: &Layer) -> Option<Vec<u8>> {
        let known = self.known();
        let blob = known.pack.indexes.get(&layer.diff_id)?.descriptor();
        let compressed = self.backend.read(&blob);
        let compressed =
            compressed.inspect_err(|error| tracing::debug!(%error, "an index cannot be had")).ok()?;
        let mut bytes = Vec::new();
        let reader = zstd::stream::read::Decoder::new(&*compressed).ok()?;
        reader.take(INDEX_LIMIT).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import").field("backend", &self.backend).finish_non_exhaustive()
    }
}
