//! Uploads layers while later steps still run.
//!
//! What goes wrong here is not told: the push at the end tries again, and says so.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use super::Request;
use crate::cache::Lookup;
use crate::oci::{Descriptor, Digest, Layer, Reference};
use crate::registry::{self, Client, Progress};
use crate::report::{Event, Events, StepNumber};
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
}

impl Ahead {
    /// Starts the threads; `None` when nothing is to be pushed.
    pub(super) fn start(request: &Request, services: &Services) -> Option<Self> {
        let names = request.pushed_names();
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
    /// Uploads until there is nothing more to come, or one could not be brought there: the others would fare no better.
    fn through(&self) {
        loop {
            let next = lock(&self.layers).recv();
            let Ok((layer, progress)) = next else { return };
            if self.stop.load(Ordering::Relaxed) {
                continue;
            }
            let supply = super::push::supply(&self.lookup);
            match self.registry.push_blob((&self.store, &supply), &layer, &self.names, &progress, &self.stop)
            {
                Ok(()) | Err(registry::Error::Stopped) => {}
                Err(error) => {
                    tracing::debug!(%error, "a layer could not be uploaded ahead");
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}
