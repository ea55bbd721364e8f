//! The layers of an image in a registry, fetched when somebody needs them.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::error::Error;
use super::indexes::LayerIndexes;
use super::step::StepContext;
use crate::cache::{BlobSource, FetchError};
use crate::image::Image;
use crate::layer::archive::Limits;
use crate::layer::index::Index;
use crate::oci::{Layer, Reference};
use crate::registry::{self, Client, Progress};
use crate::report::{Event, Events, Outcome, Span, StepNumber};
use crate::store::Store;
use crate::sync::lock;

/// The layers of a base, or of an image that a step names, which are not here. What is fetched is told as work of the step
/// that names the image, whoever needs it.
pub(super) struct RemoteLayers {
    registry: Client,
    reference: Reference,
    /// Who knows this value through its promises.
    indexes: Weak<LayerIndexes>,
    /// Those that were missing at first.
    pub(super) layers: Vec<Layer>,
    /// Whether a step asks which files they hold: then they are read while they arrive.
    is_looked_into: bool,
    /// Where the image is named.
    span: Option<Span>,
    step: StepNumber,
    events: Events,
    told: Mutex<Told>,
    stop: AtomicBool,
}

/// How far the display knows.
enum Told {
    Nothing,
    Started(Instant),
    /// How it ended, too.
    All,
}

impl RemoteLayers {
    /// `layers` of `reference`, for a step.
    pub(super) fn new(step: &StepContext<'_>, reference: &Reference, layers: Vec<Layer>) -> Self {
        let services = step.environment.services;
        Self {
            registry: services.registry.clone(),
            reference: reference.clone(),
            indexes: Arc::downgrade(&services.indexes),
            layers,
            is_looked_into: step.is_looked_into,
            span: step.step.span,
            step: step.number(),
            events: if step.is_shown { services.events.clone() } else { Events::silent() },
            told: Mutex::new(Told::Nothing),
            stop: AtomicBool::new(false),
        }
    }

    /// The build has all it needs: what was not fetched until now will not be.
    pub(super) fn finish(&self) {
        let (outcome, took) = match &*lock(&self.told) {
            Told::Nothing => (Outcome::Cached, Duration::ZERO),
            Told::Started(began) => (Outcome::Ran, began.elapsed()),
            Told::All => return,
        };
        self.finished(outcome, took);
    }

    /// The build has failed: whoever fetches is to leave off.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn finished(&self, outcome: Outcome, took: Duration) {
        *lock(&self.told) = Told::All;
        self.events.send(Event::Finished { step: self.step, outcome, took, result: Box::default() });
    }

    /// Since when the display shows it.
    fn start(&self) -> Instant {
        let mut told = lock(&self.told);
        if let Told::Started(began) = &*told {
            return *began;
        }
        let now = Instant::now();
        *told = Told::Started(now);
        self.events.send(Event::Started(self.step));
        now
    }

    /// An image that was pushed from here, and of which layers were missing, is all here now, unless other platforms' are.
    fn settle(&self, store: &Store) -> Result<(), crate::store::Error> {
        match store.tag(&self.reference)? {
            Some(target) if store.is_remote_tag(&self.reference)? => Image::settle(store, &target).map(drop),
            _ => Ok(()),
        }
    }

    fn pull(&self, store: &Store, layers: &[Layer]) -> Result<(), registry::Error> {
        let progress = Progress::new(self.events.clone(), self.step);
        let indexes = self.indexes.upgrade().filter(|_| self.is_looked_into);
        std::thread::scope(|scope| {
            let tap = |layer: &Layer| {
                let indexes = indexes.as_deref()?;
                if indexes.index_file(layer.diff_id).is_some() {
                    return None;
                }
                let (tap, bytes) = registry::tap();
                let reader = std::thread::Builder::new().name("index".to_owned());
                // Without a thread it is read later.
                let layer = layer.clone();
                reader.spawn_scoped(scope, move || index(indexes, &layer, bytes)).ok().map(|_| tap)
            };
            let (told, registry) = ((&progress, &self.stop), &self.registry);
            registry.pull_layers_tapped(store, &self.reference, layers, told, &tap)
        })
    }
}

/// Learns what a layer holds while it arrives, so that it need not be decompressed again for that. What is wrong with
/// it is not told here: whoever asks for the index reads the blob then, and says so.
fn index(indexes: &LayerIndexes, layer: &Layer, bytes: impl Read + Send) {
    if let Ok(read) = Index::read(bytes, Limits::default())
        && read.diff_id == layer.diff_id
    {
        indexes.saw(layer);
        let _ = indexes.remember(layer.diff_id, read.index);
    }
}

impl BlobSource for RemoteLayers {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn fetch(&self, store: &Store, layers: &[Layer]) -> Result<(), FetchError> {
        let began = self.start();
        let pulled = self.pull(store, layers);
        let took = began.elapsed();
        if let Err(error) = pulled {
            *lock(&self.told) = Told::All;
            self.events.send(Event::Failed { step: self.step, took, usage: None });
            return Err(Box::new(Error::from(error).at(self.span)));
        }
        let is_here = |layer: &Layer| store.has_blob(&layer.descriptor.digest) == Some(layer.descriptor.size);
        if self.layers.iter().all(is_here) {
            self.settle(store)?;
            self.finished(Outcome::Ran, took);
        }
        Ok(())
    }
}

impl std::fmt::Debug for RemoteLayers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteLayers").field("reference", &self.reference).finish_non_exhaustive()
    }
}
