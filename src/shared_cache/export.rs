//! What a build leaves for others: layers while it runs, records when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::backend::{Backend, Content, Error, Head, PackId, Put, Sent};
use super::import::{Import, Known};
use super::merge::{bound, fit, merge};
use super::mounts::remote::{Place, Snapshots, Taken};
use super::pack::{Entry, Kept, Pack, clues, slot};
use super::sealed::{Sealed, Trust};
use super::spec::{CacheTo, Mode};
use crate::cache::{Key, Lookup, Used};
use crate::clock;
use crate::oci::{Descriptor, DiffId, Digest, Layer, Seconds};
use crate::signature::SigningKey;
use crate::store::{Folder, Store};
use crate::sync::lock;

/// Blobs that are sent at the same time.
const AT_ONCE: usize = 4;
/// A head that others keep changing is merged again so many times.
const TRIES: u32 = 4;
/// Packs beside the head that are merged stay for so long, for writers that read the head before.
const KEEP_PACKS: Duration = Duration::from_secs(600);
/// zstd's level for indexes.
const INDEX_LEVEL: i32 = 3;

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
        let now = clock::now();
        let (mut own, indexes) = self.gather(results, &known, now);
        let is_sent = |blob: &Descriptor| known.has(blob) && !self.is_gone(results, blob);
        let missing: Vec<Descriptor> = own.blobs().into_iter().filter(|blob| !is_sent(blob)).collect();
        let failed = self.send_all(&missing, &indexes)?;
        own.entries.retain(|_, entry| !failed.contains(&entry.record.layer.descriptor.digest));
        let records = own.entries.keys().filter(|key| !known.pack.entries.contains_key(key)).count();
        // Records are worth writing without them.
        let mounts = self.send_mounts(results, &mut own, (&known, now));
        let is_gone =
            |blob: &Descriptor| self.is_gone(results, blob) && !lock(&self.sent).contains(&blob.digest);
        let dropped = self.publish(&own, &known, &is_gone, now)?;
        Ok(Exported {
            records,
            mounts: mounts?,
            bytes: self.bytes.load(Ordering::Relaxed),
            dropped,
            took: Duration::ZERO,
        })
    }

    /// The build's own pack, and the bytes of indexes that the backend does not have.
    fn gather(
        &self,
        results: &Results<'_>,
        known: &Known,
        now: Seconds,
    ) -> (Pack, BTreeMap<Digest, Vec<u8>>) {
        let day = now - now.rem_euclid(24 * 3600);
        let of_result: BTreeSet<DiffId> = results.layers.iter().map(|layer| layer.diff_id).collect();
        let is_wanted =
            |used: &Used| self.options.mode == Mode::Max || of_result.contains(&used.record.layer.diff_id);
        let is_gone = |blob: &Descriptor| self.is_gone(results, blob);
        let mine = self.mine(known);
        let mut pack = Pack::default();
        for used in results.lookup.used().into_iter().filter(is_wanted) {
            let key = used.record.key;
            let stands = |entry: &&Entry| !used.is_replacement && !is_gone(&entry.record.layer.descriptor);
            let entry = match (mine.entries.get(&key).filter(stands), known.pack.entries.get(&key)) {
                (Some(entry), _) => Entry { used: day, ..entry.clone() },
                // Another writer's pack has it. Who signs says only what this build or its store found out.
                (None, Some(entry)) if self.key.is_none() && stands(&entry) => continue,
                (None, _) if self.key.is_some() && used.is_from_elsewhere => continue,
                (None, before) => {
                    let generation = before.map_or(0, |entry| entry.generation.saturating_add(1));
                    entry(used, results, (generation, now, day))
                }
            };
            pack.entries.insert(key, entry);
        }
        let mut secret: BTreeSet<DiffId> = BTreeSet::new();
        if self.options.skip_secrets {
            let had_secrets = pack.entries.values().filter(|entry| entry.had_secrets);
            secret.extend(had_secrets.map(|entry| entry.record.layer.diff_id));
            pack.entries.retain(|_, entry| !secret.contains(&entry.record.layer.diff_id));
        }
        pack.images.extend(results.images.iter().map(|image| (image.clone(), day)));
        let mut indexes = BTreeMap::new();
        let layers = pack.entries.values().map(|entry| entry.record.layer.diff_id);
        let seen = results.seen.iter().map(|layer| layer.diff_id).filter(|_| self.options.mode == Mode::Max);
        for layer in layers.chain(seen).chain(of_result.iter().copied()).collect::<BTreeSet<DiffId>>() {
            if secret.contains(&layer) {
                continue;
            }
            if let Some(kept) = mine.indexes.get(&layer) {
                pack.indexes.insert(layer, Kept { used: day, ..*kept });
            } else if self.key.is_none() && known.pack.indexes.contains_key(&layer) {
                // Another writer's pack has it.
            } else if let Some(bytes) = self.index(layer) {
                let kept = Kept::of(&bytes, day);
                pack.indexes.insert(layer, kept);
                indexes.insert(kept.digest, bytes);
            }
        }
        (pack, indexes)
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

    /// The index of a layer, compressed.
    fn index(&self, layer: DiffId) -> Option<Vec<u8>> {
        let path = self.store.folder(Folder::Indexes).join(layer.0.hex());
        let bytes = crate::rootfs::read_regular(&path).ok()?;
        zstd::bulk::compress(&bytes, INDEX_LEVEL).ok()
    }

    /// Sends blobs, several at a time. Gives those that are not here and so cannot be sent.
    fn send_all(
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
        match crate::sync::into_inner(first) {
            Some(error) => Err(error),
            None => Ok(crate::sync::into_inner(failed)),
        }
    }

    /// Sends the snapshots of cache mounts, and names them in `own`. Gives how many are new.
    fn send_mounts(
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
                taken.snapshot.writer = super::writer::writer();
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
            (0..blobs.len().min(AT_ONCE)).for_each(|_| drop(scope.spawn(work)));
        });
        crate::sync::into_inner(first).map_or(Ok(()), Err)
    }

    /// Leaves the pack beside the head, and merges it into the head until it is there. Nothing is written where nothing is new.
    fn publish(
        &self,
        own: &Pack,
        known: &Known,
        is_gone: &dyn Fn(&Descriptor) -> bool,
        now: Seconds,
    ) -> Result<usize, Error> {
        let bounds = self.options.bounds;
        let merged_with = |pack: Pack| {
            let mut merged = merge(pack, own.clone());
            merged.entries.retain(|_, entry| !is_gone(&entry.record.layer.descriptor));
            let dropped = bound(&mut merged, bounds, now) + fit(&mut merged);
            (merged, dropped)
        };
        // Another name of an image alone is not worth writing.
        let mine = self.mine(known);
        let merged = Pack { images: mine.images.clone(), ..merged_with(mine.clone()).0 };
        if known.head.is_some() && merged == mine {
            return Ok(0);
        }
        let bytes = self.sealed(own)?.to_bytes();
        let id = PackId(format!("{:010}-{}", now.max(0), &Digest::of(&bytes).hex()[..12]));
        self.backend.put_pack(&id, &bytes, &own.blobs())?;
        for _ in 0..TRIES {
            let head = self.backend.head()?;
            let current =
                head.as_ref().map_or(Ok(Sealed::default()), |head| Sealed::parse_whole(&head.pack))?;
            let (current, folded, stale) = self.fold(current, &id, now)?;
            let (mut merged, dropped) = merged_with(current.of(self.key.as_ref(), &self.place));
            merged.folded = folded;
            merged.folded.insert(id.0.clone());
            if self.write(&merged, current.without(self.key.as_ref(), &self.place), head.as_ref())? {
                stale.iter().for_each(|id| drop(self.backend.remove_pack(id)));
                return Ok(dropped);
            }
        }
        // It lies beside the head, and the next writer finds it there.
        Ok(0)
    }

    /// Writes the head of what others left and `merged`; whether that is there afterwards.
    fn write(&self, merged: &Pack, others: Sealed, previous: Option<&Head>) -> Result<bool, Error> {
        let mut all = others;
        all.push(self.sealed(merged)?);
        if self.backend.put_head(&all.to_bytes(), &all.blobs(), previous)? == Put::Lost {
            return Ok(false);
        }
        let Some(head) = self.backend.head()? else { return Ok(false) };
        let there = Sealed::parse(&head.pack)?.of(self.key.as_ref(), &self.place);
        let has_mount = |name: &String| there.mounts.contains_key(name);
        let has_record = |key: &Key| there.entries.contains_key(key);
        Ok(merged.entries.keys().all(has_record) && merged.mounts.keys().all(has_mount))
    }

    /// Adds what writers left beside the head. Gives also the names of these packs, and of those that nobody needs any more.
    fn fold(
        &self,
        mut head: Sealed,
        own: &PackId,
        now: Seconds,
    ) -> Result<(Sealed, BTreeSet<String>, Vec<PackId>), Error> {
        let ids = self.backend.packs()?;
        let there: BTreeSet<&str> = ids.iter().map(|id| id.0.as_str()).collect();
        let mut folded = head.folded();
        folded.retain(|id| there.contains(id.as_str()));
        let mut stale = Vec::new();
        for id in ids.iter().filter(|id| *id != own) {
            if folded.contains(&id.0) {
                let written: Option<Seconds> = id.0.split('-').next().and_then(|time| time.parse().ok());
                let age = now - written.unwrap_or(now);
                if age > i64::try_from(KEEP_PACKS.as_secs()).unwrap_or(i64::MAX) {
                    stale.push(id.clone());
                }
                continue;
            }
            let Some(bytes) = self.backend.pack(id)? else { continue };
            // What cannot be read is nobody's loss.
            if let Ok(packs) = Sealed::parse(&bytes) {
                head.add(packs, &self.place);
            }
            folded.insert(id.0.clone());
        }
        Ok((head, folded, stale))
    }
}

fn entry(used: Used, results: &Results<'_>, (generation, now, day): (u32, Seconds, Seconds)) -> Entry {
    let Used { record, slot: name, .. } = used;
    let preimage = results.lookup.preimage(&record.key);
    let had_secrets = preimage.as_ref().is_some_and(|preimage| {
        let is_secret = |value: &str| value.starts_with("secret") || value.starts_with("ssh");
        preimage.fields().any(|field| field.name.starts_with("mount:") && is_secret(field.value))
    });
    let place = |name: &str| {
        let prefix = format!("{}\n", results.project);
        slot(name.strip_prefix(&prefix).unwrap_or(name))
    };
    Entry {
        clues: preimage.map(|preimage| clues(&record.key, &preimage)).unwrap_or_default(),
        slot: name.as_deref().map(place).unwrap_or_default(),
        record,
        generation,
        written: now,
        used: day,
        writer: super::writer::writer(),
        had_secrets,
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("backend", &self.shared.backend).finish_non_exhaustive()
    }
}
