//! What a build leaves for others: layers while it runs, records when it is over.

mod gather;
mod publish;
mod sending;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::backend::{Backend, Content, Error, Head, Sent};
use super::import::{Import, Known};
use super::mounts::remote::Snapshots;
use super::pack::Pack;
use super::sealed::{Sealed, Trust};
use super::spec::{CacheTo, Mode};
use crate::cache::Lookup;
use crate::clock;
use crate::oci::{Descriptor, Digest, Layer};
use crate::signature::SigningKey;
use crate::store::Store;
use crate::sync::lock;

/// Blobs that are sent at the same time.
const AT_ONCE: usize = 4;

/// Sends to one backend. Dropped, it stops where it is.
pub struct Exporter {
    shared: Arc<Shared>,
    line: Mutex<Option<Sender<Descriptor>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share.
struct Shared {
    backend: Arc<dyn Backend>,
    /// Where the head is read, if the same place is imported, too.
    import: Option<Arc<Import>>,
    /// Who signs.
    key: Option<SigningKey>,
    /// What the backend is called in signatures.
    place: String,
    known: OnceLock<Arc<Known>>,
    store: Store,
    options: CacheTo,
    /// Blobs that the backend has by now.
    sent: Mutex<BTreeSet<Digest>>,
    bytes: AtomicU64,
    stop: AtomicBool,
}

/// What an export came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records that the cache did not have.
    pub records: usize,
    /// Snapshots of cache mounts that the cache did not have.
    pub mounts: usize,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Records that were dropped, to keep bounds.
    pub dropped: usize,
    /// How long it took after the build.
    pub took: Duration,
}

/// What a build has to hand on.
pub struct Results<'a> {
    /// What it found and made.
    pub lookup: &'a Lookup,
    /// The layers of its results, those of bases too.
    pub layers: &'a [Layer],
    /// The layers of all that its steps stood on.
    pub seen: &'a [Layer],
    /// What tells this build's slots from others' in one store: slots begin with it and a line feed.
    pub project: &'a str,
    /// Its cache mounts.
    pub mounts: &'a dyn Snapshots,
    /// Under which names its images were pushed.
    pub images: &'a [String],
}

impl Exporter {
    /// Begins: layers that it hears of are sent while the build goes on.
    pub fn start(
        (backend, import): (Arc<dyn Backend>, Option<Arc<Import>>),
        key: Option<SigningKey>,
        store: &Store,
        options: &CacheTo,
    ) -> Self {
        let shared = Arc::new(Shared {
            place: backend.place(),
            backend,
            import,
            key,
            known: OnceLock::new(),
            store: store.clone(),
            options: options.clone(),
            sent: Mutex::default(),
            bytes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let (sender, line) = channel();
        let line = Arc::new(Mutex::new(line));
        let start = |_| {
            let (shared, line) = (Arc::clone(&shared), Arc::clone(&line));
            std::thread::Builder::new().name("cache-to".to_owned()).spawn(move || shared.through(&line)).ok()
        };
        let threads = (0..AT_ONCE).filter_map(start).collect();
        Self { shared, line: Mutex::new(Some(sender)), threads }
    }

    /// The backend's name.
    pub fn name(&self) -> String {
        self.shared.backend.name()
    }

    /// Hears of a layer that is complete in the store.
    pub fn hear(&self, layer: &Layer) {
        // Whether its step had secrets is known in the end.
        if self.shared.options.mode == Mode::Max
            && !self.shared.options.skip_secrets
            && let Some(line) = &*lock(&self.line)
        {
            let _ = line.send(layer.descriptor.clone());
        }
    }

    /// Sends what is left, and then the records.
    ///
    /// # Errors
    /// The first; what was sent stays.
    pub fn finish(mut self, results: &Results<'_>) -> Result<Exported, Error> {
        let began = Instant::now();
        lock(&self.line).take();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let mut exported = self.shared.export(results)?;
        exported.took = began.elapsed();
        Ok(exported)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        lock(&self.line).take();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What the backend has: as it was imported, or as it is now.
    fn known(&self) -> Result<Arc<Known>, Error> {
        if let Some(known) = self.known.get() {
            return Ok(Arc::clone(known));
        }
        let known = match &self.import {
            Some(import) => import.known(),
            None => {
                let of = |head: Head| {
                    // A head that is damaged is written anew.
                    let head = Head { pack: Sealed::parse_whole(&head.pack)?.to_bytes(), ..head };
                    Known::of(head, &Trust::Anybody, &self.place)
                };
                Arc::new(self.backend.head()?.map_or(Ok(Known::default()), of)?)
            }
        };
        Ok(Arc::clone(self.known.get_or_init(|| known)))
    }

    /// Sends what it hears of, until nothing more comes. What goes wrong is met again in the end.
    fn through(&self, line: &Mutex<Receiver<Descriptor>>) {
        loop {
            let next = lock(line).recv();
            let Ok(blob) = next else { return };
            if self.stop.load(Ordering::Relaxed) {
                continue;
            }
            let Ok(known) = self.known() else { continue };
            if known.head.as_ref().is_some_and(|head| head.is_image) {
                continue;
            }
            if !known.has(&blob)
                && let Err(error) = self.send(&blob, Content::Stored(&self.store))
            {
                tracing::debug!(%error, "a layer could not be sent ahead");
            }
        }
    }

    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<(), Error> {
        if lock(&self.sent).contains(&blob.digest) {
            return Ok(());
        }
        if let Sent::Bytes(bytes) = self.backend.send(blob, content)? {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        lock(&self.sent).insert(blob.digest);
        Ok(())
    }

    fn export(&self, results: &Results<'_>) -> Result<Exported, Error> {
        let known = self.known()?;
        known.head.as_ref().map_or(Ok(()), Head::refuse_image)?;
        let now = clock::now();
        let (mut own, indexes) = self.gather(results, &known, now);
        let is_sent = |blob: &Descriptor| known.has(blob) && !self.is_gone(results, blob);
        let missing: Vec<Descriptor> = own.blobs().into_iter().filter(|blob| !is_sent(blob)).collect();
        self.backend.expect(&missing);
        let failed = self.send_all(&missing, &indexes)?;
        own.entries.retain(|_, entry| !failed.contains(&entry.record.layer.descriptor.digest));
        let records = own.entries.keys().filter(|key| !known.pack.entries.contains_key(key)).count();
        // Records are worth writing without them.
        let mounts = self.send_mounts(results, &mut own, (&known, now));
        let dropped = self.publish(results, &own, &known, now)?;
        Ok(Exported {
            records,
            mounts: mounts?,
            bytes: self.bytes.load(Ordering::Relaxed),
            dropped,
            took: Duration::ZERO,
        })
    }

    /// What this writer left before.
    fn mine(&self, known: &Known) -> Pack {
        known.sealed.of(self.key.as_ref(), &self.place)
    }

    fn sealed(&self, pack: &Pack) -> Result<Sealed, Error> {
        Sealed::new(pack, self.key.as_ref(), &self.place)
    }

    /// Whether the backend named a blob, and turned out not to have it.
    fn is_gone(&self, results: &Results<'_>, blob: &Descriptor) -> bool {
        results.lookup.was_withdrawn(&blob.digest, &self.backend.name())
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("backend", &self.shared.backend).finish_non_exhaustive()
    }
}
