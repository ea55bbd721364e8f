//! Uploads layers while later steps still run.
//!
//! What goes wrong here is not told: the push at the end tries again, and says so.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Request;
use crate::cache::Lookup;
use crate::oci::{Descriptor, Digest, Layer, Reference};
use crate::registry::{self, Client, Progress};
use crate::report::{Event, Events, StepNumber};
use crate::shared_cache::Import;
use crate::solve::Services;
use crate::store::Store;
use crate::sync::lock;

/// Layers that are sent at the same time.
const AT_ONCE: usize = 3;

/// Threads that upload what they are given. Dropped, they stop where they are.
pub(super) struct Ahead {
    line: Mutex<Line>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// Who waits to be uploaded, and what was heard of before.
struct Line {
    sender: Option<Sender<(Descriptor, Progress)>>,
    seen: BTreeSet<Digest>,
    /// When the first one came.
    began: Option<Instant>,
}

/// What the threads share.
struct Work {
    store: Store,
    lookup: Arc<Lookup>,
    registry: Client,
    names: Vec<Reference>,
    layers: Mutex<Receiver<(Descriptor, Progress)>>,
    stop: Arc<AtomicBool>,
    /// Images that were pushed before to where this one goes, if a shared cache told of any; asked for once.
    earlier: OnceLock<()>,
    imports: Vec<Arc<Import>>,
}

/// So long it is waited for what a shared cache tells of images that were pushed before; without it each layer costs a request.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many of the images that were pushed before are looked at.
const EARLIER: usize = 2;

impl Ahead {
    /// Starts the threads; `None` when nothing is to be pushed.
    pub(super) fn start(request: &Request, services: &Services) -> Option<Self> {
        let mut names = request.pushed_names();
        names.extend(request.uploads.iter().cloned());
        if names.is_empty() {
            return None;
        }
        let (sender, layers) = channel();
        let stop = Arc::<AtomicBool>::default();
        let work = Arc::new(Work {
            store: services.store.clone(),
            lookup: Arc::clone(&services.lookup),
            registry: services.registry.clone(),
            names,
            layers: Mutex::new(layers),
            stop: Arc::clone(&stop),
            earlier: OnceLock::new(),
            imports: services.imports.clone(),
        });
        let start = |_| {
            let work = Arc::clone(&work);
            std::thread::Builder::new().name("push".to_owned()).spawn(move || work.through()).ok()
        };
        let threads = (0..AT_ONCE).filter_map(start).collect();
        let line = Mutex::new(Line { sender: Some(sender), seen: BTreeSet::new(), began: None });
        Some(Self { line, threads, stop })
    }

    /// Hears of layers that are complete; `step` is the line of the display for pushing.
    pub(super) fn hear(&self, layers: &[Layer], events: &Events, step: StepNumber) {
        let mut line = lock(&self.line);
        let Line { sender: Some(sender), seen, began } = &mut *line else { return };
        for layer in layers {
            if seen.insert(layer.descriptor.digest) {
                if began.is_none() {
                    *began = Some(Instant::now());
                    events.send(Event::Started(step));
                }
                let _ = sender.send((layer.descriptor.clone(), Progress::new(events.clone(), step)));
            }
        }
    }

    /// Waits until everything that was heard of is there, or could not be brought there; gives the time when the first
    /// layer came.
    pub(super) fn finish(mut self) -> Option<Instant> {
        self.end();
        lock(&self.line).began
    }

    fn end(&mut self) {
        lock(&self.line).sender = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.store(!self.threads.is_empty(), Ordering::Relaxed);
        self.end();
    }
}

impl Work {
    /// What an image in the same repository names is there, so no layer of it needs a request of its own.
    fn look_at_earlier(&self) {
        for import in &self.imports {
            let Some(known) = import.known_within(PATIENCE) else { continue };
            let mut images: Vec<(&String, i64)> =
                known.pack.images.iter().map(|(name, used)| (name, *used)).collect();
            images.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
            let is_same = |image: &Reference| {
                let here = (image.registry(), image.repository());
                self.names.iter().any(|name| (name.registry(), name.repository()) == here)
            };
            let images = images.into_iter().filter_map(|(name, _)| name.parse().ok()).filter(is_same);
            for image in images.take(EARLIER) {
                let _ = self.registry.manifest(&image);
            }
        }
    }

    /// Uploads until there is nothing more to come, or one could not be brought there: the others would fare no better.
    fn through(&self) {
        loop {
            let next = lock(&self.layers).recv();
            let Ok((layer, progress)) = next else { return };
            if self.stop.load(Ordering::Relaxed) {
                continue;
            }
            self.earlier.get_or_init(|| self.look_at_earlier());
            let supply = super::push::supply(&self.lookup);
            match self.registry.push_blob((&self.store, &supply), &layer, &self.names, &progress, &self.stop)
            {
                Ok(_) | Err(registry::Error::Stopped) => {}
                Err(error) => {
                    tracing::debug!(%error, "a layer could not be uploaded ahead");
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}
