//! Blobs that were promised, brought: fetched or made, verified, and withdrawn where a promise is not kept.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::{Broken, Cell, Lookup, Promise, Source, Used};
use crate::cache::worth::MakeLayer;
use crate::cache::{Dropped, Error, Record};
use crate::oci::{Descriptor, DiffId, Digest, Layer};
use crate::sync::lock;

/// A place that gave nothing of what it promised for so long is left alone for the rest of the build.
const SLOW: Duration = Duration::from_secs(10);

impl Lookup {
    /// Sees to it that the blobs of layers are in the store, if one of the places promised them: has them fetched and
    /// verified, and keeps their records for later builds. Whoever opens the blob of a layer that a lookup gave calls this
    /// first; who needs several calls it with all of them, as they come at the same time.
    ///
    /// # Errors
    /// [`Error::Broken`] when a place does not have a blob any more, or has something else under its digest.
    pub fn bring(&self, layers: &[Layer]) -> Result<(), Error> {
        layers.iter().for_each(|layer| self.make(layer));
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
            self.bring_from(&source, layers, &mut held)?;
        }
        self.refuse_withdrawn(layers)
    }

    /// Lets the blob of a layer that is promised be made here by `make`, from what is here anyway and with the same bytes, when that
    /// is faster than to fetch it: as long as the step took when it ran first. [`Lookup::forget_offers`] lets go what `make` holds.
    pub fn offer(&self, record: &Record, make: Box<MakeLayer>) {
        if let Some(took) = record.took
            && self.is_elsewhere(&record.layer)
        {
            let Descriptor { digest, size, .. } = record.layer.descriptor;
            self.worth.offer(digest, size, took, make);
        }
    }

    /// Nothing is made here any more instead of being fetched.
    pub fn forget_offers(&self) {
        self.worth.forget();
    }

    /// Makes the blob of a layer that is promised, if somebody offered to and it is worth it.
    fn make(&self, layer: &Layer) {
        let digest = layer.descriptor.digest;
        let Some(cell) = lock(&self.promised).get(&digest).map(Arc::clone) else { return };
        // Whoever is bringing it has been here.
        let Ok(promise) = cell.try_lock().map(|promise| promise.as_ref().map(|p| p.source.clone())) else {
            return;
        };
        if let Some(Source::Place(_, place)) = promise
            && self.worth.make(&digest, &place.name())
        {
            lock(&self.remade).insert(digest);
        }
    }

    /// Has all come that a source promised among what is held, in the order of `layers`: what is unpacked first comes first.
    fn bring_from(
        &self,
        source: &Source,
        layers: &[Layer],
        held: &mut [MutexGuard<'_, Option<Promise>>],
    ) -> Result<(), Error> {
        let is_of_it = |promise: &&Promise| promise.source.id() == source.id();
        let mut wanted: Vec<Layer> =
            held.iter().filter_map(|p| p.as_ref().filter(is_of_it).map(|p| p.layer.clone())).collect();
        wanted.sort_by_cached_key(|one| {
            layers.iter().position(|layer| layer.descriptor.digest == one.descriptor.digest)
        });
        let began = Instant::now();
        let together = source.blobs().fetch(&self.store, &wanted);
        if let (Ok(()), Source::Place(..)) = (&together, source) {
            let bytes = wanted.iter().map(|layer| layer.descriptor.size).sum();
            self.worth.measured(&source.blobs().name(), bytes, began.elapsed());
        }
        let (mut broken, mut has_come) = (None, false);
        for cell in held.iter_mut() {
            let Some(promise) = cell.as_ref().filter(is_of_it) else { continue };
            let mut is_here = self.keep(promise)?;
            let mut cause = None;
            let is_slow = began.elapsed() >= SLOW;
            if let (false, Source::Place(..), true, false) =
                (is_here, &promise.source, wanted.len() > 1, is_slow)
            {
                // That another one was missing says nothing of this.
                cause = source.blobs().fetch(&self.store, std::slice::from_ref(&promise.layer)).err();
                is_here = self.keep(promise)?;
            }
            if !is_here {
                broken.get_or_insert((promise.layer.descriptor.digest, cause));
            }
            has_come |= is_here;
            match (is_here, &promise.source) {
                (true, _) => **cell = None,
                (false, Source::Place(..)) => {
                    let digest = promise.layer.descriptor.digest;
                    lock(&self.withdrawn).insert((digest, source.blobs().name()));
                    **cell = None;
                }
                (false, Source::Given(_)) => {}
            }
        }
        if let (Source::Place(..), false, true) = (source, has_come, began.elapsed() >= SLOW) {
            lock(&self.given_up).insert(source.blobs().name());
        }
        // What somebody else made meanwhile is as good.
        let Some((digest, cause)) = broken else { return Ok(()) };
        let cause = cause.or(together.err()).unwrap_or_else(|| "it was not given".into());
        let error = Error::Broken { digest, place: source.blobs().name(), cause };
        if let Source::Place(..) = source {
            self.note_broken(&error, false);
        }
        Err(error)
    }

    fn note_broken(&self, error: &Error, is_result_doubtful: bool) {
        let mut broken = lock(&self.broken);
        let is_result_doubtful = is_result_doubtful || broken.as_ref().is_some_and(|b| b.is_result_doubtful);
        *broken = Some(Broken { why: error.to_string(), is_result_doubtful });
    }

    /// A layer is here and holds something else than `place` told of it, if one place told that: it is not believed about the layer
    /// any more, and results of other places with that layer are none.
    ///
    /// # Errors
    /// What the store says.
    pub fn refute(&self, layer: DiffId, place: Option<&str>) -> Result<Error, Error> {
        let place = place.unwrap_or("an earlier build").to_owned();
        let is_it = |used: &&Used| used.is_from_elsewhere && used.record.layer.diff_id == layer;
        let doubtful: Vec<Record> =
            lock(&self.used).values().filter(is_it).map(|used| used.record.clone()).collect();
        for record in doubtful {
            lock(&self.withdrawn).insert((record.layer.descriptor.digest, place.clone()));
            self.own.drop_record(&record.key, Dropped::WrongIndex)?;
        }
        lock(&self.refuted).insert((layer, place.clone()));
        let error = Error::WrongIndex { layer, place };
        self.note_broken(&error, true);
        Ok(error)
    }

    /// Whether a place told a wrong index of a layer.
    pub fn is_refuted(&self, layer: DiffId, place: &str) -> bool {
        lock(&self.refuted).contains(&(layer, place.to_owned()))
    }

    /// Others may have found before that a promise is not kept.
    fn refuse_withdrawn(&self, layers: &[Layer]) -> Result<(), Error> {
        for layer in layers {
            let digest = layer.descriptor.digest;
            let place =
                lock(&self.withdrawn).iter().find(|(gone, _)| *gone == digest).map(|(_, at)| at.clone());
            if let Some(place) = place
                && self.store.has_blob(&digest).is_none()
            {
                let error = Error::Broken { digest, place, cause: "it was not there".into() };
                self.note_broken(&error, false);
                return Err(error);
            }
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
            // Others with the same bytes, such as of steps of several images that end alike.
            let is_other = |used: &&Used| {
                used.is_from_elsewhere && used.record.key != record.key && used.record.layer == promise.layer
            };
            let others: Vec<Record> =
                lock(&self.used).values().filter(is_other).map(|used| used.record.clone()).collect();
            others.iter().try_for_each(|record| self.own.adopt(record))?;
            if !lock(&self.remade).contains(&digest) {
                self.fetched_bytes.fetch_add(size, Ordering::Relaxed);
            }
        }
        Ok(true)
    }

    /// Whether the blob of a layer would have to be brought, or is being brought.
    pub fn is_elsewhere(&self, layer: &Layer) -> bool {
        let promise = lock(&self.promised).get(&layer.descriptor.digest).cloned();
        promise.is_some_and(|promise| promise.try_lock().map_or(true, |promise| promise.is_some()))
    }

    /// Where the blob of a layer would be brought from; `None` when it is here, or nobody promised it.
    pub fn promised_by(&self, layer: &Layer) -> Option<String> {
        let promise = lock(&self.promised).get(&layer.descriptor.digest).map(Arc::clone)?;
        let promise = lock(&promise);
        promise.as_ref().map(|promise| promise.source.blobs().name())
    }

    /// What was said of a promise that was not kept since the last call, or of a wrong index. A build that fails then, or whose
    /// results are doubtful, looks everything up again: what was promised is a miss, and so is what stood on it if its bytes come
    /// out differently.
    pub fn take_broken(&self) -> Option<Broken> {
        lock(&self.broken).take()
    }

    /// Whether a promise was not kept since the last [`Lookup::take_broken`].
    pub fn is_broken(&self) -> bool {
        lock(&self.broken).is_some()
    }

    /// Whether a place promised a blob and did not have it.
    pub fn was_withdrawn(&self, digest: &Digest, place: &str) -> bool {
        lock(&self.withdrawn).contains(&(*digest, place.to_owned()))
    }
}
