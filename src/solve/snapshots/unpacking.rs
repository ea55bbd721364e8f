//! Tells that layers are unpacked for a step, and how far that is.
//!
//! It happens before the command runs, once for each base, and can take longer than the command: it has lines of its own and
//! is no part of the step's time.

use std::cell::Cell;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::Snapshots;
use crate::oci::Descriptor;
use crate::report::{Event, Events, StepNumber};
use crate::snapshot::read_so_far;
use crate::solve::error::Error;
use crate::solve::state::RootState;

/// How often it is told how far it is.
const PACE: Duration = Duration::from_millis(100);

/// Whom it is told to, if anybody.
pub(super) struct Unpacking<'e> {
    listener: Option<(&'e Events, StepNumber)>,
    since: Cell<Option<Instant>>,
}

impl<'e> Unpacking<'e> {
    /// Told under `step`, if that is shown.
    pub(super) fn under(events: &'e Events, step: Option<StepNumber>) -> Self {
        Self { listener: step.map(|step| (events, step)), since: Cell::new(None) }
    }

    /// All is unpacked.
    pub(super) fn ended(&self) {
        if let (Some((events, step)), Some(since)) = (self.listener, self.since.get()) {
            events.send(Event::Unpacked { step, took: since.elapsed() });
        }
    }

    /// Nobody is told.
    pub(super) fn silent() -> Self {
        Self { listener: None, since: Cell::new(None) }
    }

    /// Does `work`, which unpacks `layer` and notes in the file `progress` how far it is.
    pub(super) fn watch<T>(&self, layer: &Descriptor, progress: &Path, work: impl FnOnce() -> T) -> T {
        let Some((events, step)) = self.listener else { return work() };
        self.since.set(self.since.get().or_else(|| Some(Instant::now())));
        let tell = |done| {
            let (layer, total) = (layer.digest.short(), layer.size);
            events.send(Event::Unpacking { step, layer, done, total });
        };
        tell(0);
        let (ended, waiting) = channel::<()>();
        let done = std::thread::scope(|scope| {
            // Without a thread nobody sees how far it is.
            let tells = std::thread::Builder::new().name("unpacking".to_owned());
            let _ = tells.spawn_scoped(scope, move || {
                while waiting.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                    read_so_far(progress).into_iter().for_each(tell);
                }
            });
            let _ended = ended;
            work()
        });
        tell(layer.size);
        done
    }
}

impl Snapshots {
    /// Makes the trees of `roots` that are not there, and tells of it under `step`, if that is shown.
    pub(in crate::solve) fn unpack_for(
        &self,
        step: Option<StepNumber>,
        roots: &[&RootState],
    ) -> Result<(), Error> {
        let told = Unpacking::under(&self.events, step);
        for root in roots {
            self.lowers_told(root, &told)?;
        }
        told.ended();
        Ok(())
    }
}
