//! Layers are unpacked while those above them still arrive.

use std::cell::Cell;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, ScopedJoinHandle};
use std::time::Duration;

use super::Snapshots;
use crate::cache;
use crate::oci::Layer;
use crate::solve::error::Error;

/// How often it is looked whether a layer has come.
const PACE: Duration = Duration::from_millis(5);

/// Waits until a layer is here, or cannot be had.
pub(super) type Come<'a> = dyn Fn(&Layer) -> Result<(), Error> + 'a;

impl Snapshots {
    /// Has all of `wanted` come, the first one first, and does `work` meanwhile, which waits for each one.
    pub(super) fn while_coming<T>(
        &self,
        wanted: &[Layer],
        work: impl FnOnce(&Come<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let one_by_one = |layer: &Layer| Ok(self.lookup.bring(std::slice::from_ref(layer))?);
        if wanted.len() < 2 {
            return work(&one_by_one);
        }
        std::thread::scope(|scope| {
            let (ended, waiting) = channel::<()>();
            let bring = move || {
                let _ended = ended;
                self.lookup.bring(wanted)
            };
            let Ok(thread) = Builder::new().name("layers".to_owned()).spawn_scoped(scope, bring) else {
                // Without a thread nothing is unpacked meanwhile.
                self.lookup.bring(wanted)?;
                return work(&one_by_one);
            };
            let thread = Cell::new(Some(thread));
            let come = |layer: &Layer| {
                let blob = &layer.descriptor;
                // A blob is whole and verified from the moment that it can be seen.
                while self.store.has_blob(&blob.digest) != Some(blob.size) {
                    if waiting.recv_timeout(PACE) != Err(RecvTimeoutError::Timeout) {
                        ended_well(thread.take())?;
                        return one_by_one(layer);
                    }
                }
                Ok(())
            };
            let done = work(&come)?;
            ended_well(thread.take())?;
            Ok(done)
        })
    }
}

fn ended_well(thread: Option<ScopedJoinHandle<'_, Result<(), cache::Error>>>) -> Result<(), Error> {
    match thread.map(ScopedJoinHandle::join) {
        None => Ok(()),
        Some(Ok(brought)) => Ok(brought?),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
    }
}
