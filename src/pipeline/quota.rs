//! Keeps the store small, outside of a build.

use std::time::Duration;

use crate::exec::{Config, Executor, Stop};
use crate::snapshot;
use crate::solve::jobs;
use crate::store::{self, Store};
use crate::upkeep::{self, Policy};

/// Deletes what is in a store's trash.
pub fn empty_trash(store: &Store) {
    jobs::empty_trash(store, &Executor::stopped_by(Config::default(), Stop::default()));
}

/// Keeps the store within `quota` bytes on disk. When three quarters are in use, what was used longest ago goes first, down to
/// one half, unless somebody else uses the store.
///
/// # Errors
/// What the system refuses.
pub fn heed_quota(store: &Store, quota: u64) -> Result<(), store::Error> {
    let used =
        || -> Result<u64, store::Error> { Ok(snapshot::measuring(store)?.tree(store.root()).disk_bytes) };
    if used()? > quota / 4 * 3
        && let Ok(lock) = store.lock_exclusive(Duration::ZERO)
    {
        upkeep::prune(&lock, &Policy { keep_bytes: Some(quota / 2), ..Policy::default() })?;
        drop(lock);
        empty_trash(store);
    }
    store.set_quota(quota, used()?);
    Ok(())
}
