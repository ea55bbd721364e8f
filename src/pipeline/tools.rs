//! What all parts of one build share: store, registry client, executor.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Request;
use crate::cache::Cache;
use crate::exec::{Config, Dns, Executor, Limits, Stop};
use crate::key::LayerForm;
use crate::registry::{Client, Settings};
use crate::report::Events;
use crate::solve::images::PullPolicy;
use crate::solve::log::BuildLog;
use crate::solve::session::FailedSteps;
use crate::solve::{self, jobs};
use crate::solve::{ContextFiles, Environment, Pins, Roots, Snapshots};
use crate::store::{self, Measuring, Store};
use crate::upkeep::{self, Policy};

/// Made once for a build; nothing is contacted or started yet.
pub(super) struct Tools {
    /// Where blobs are.
    pub(super) store: Store,
    /// Talks to registries.
    pub(super) registry: Client,
    /// What a lock file says; nothing at first.
    pub(super) pins: Pins,
    snapshots: Snapshots,
    executor: Executor,
    log: BuildLog,
    /// What becomes of the roots of steps that fail.
    pub(super) failed: FailedSteps,
}

impl Tools {
    /// Steps keep to the request's limits and end when `stop` says so.
    pub(super) fn new(store: &Store, request: &Request, stop: &Stop) -> Self {
        let config = Config { limits: request.limits.clone(), ..Config::default() };
        Self::with(store, &request.registries, config, stop)
    }

    /// The same without a request.
    pub(super) fn limited(store: &Store, registries: &Settings, limits: &Limits, stop: &Stop) -> Self {
        Self::with(store, registries, Config { limits: limits.clone(), ..Config::default() }, stop)
    }

    fn with(store: &Store, registries: &Settings, config: Config, stop: &Stop) -> Self {
        let executor = Executor::stopped_by(config, stop.clone());
        Self {
            store: store.clone(),
            registry: Client::new(registries.clone()),
            pins: Pins::default(),
            snapshots: Snapshots::new(store),
            executor,
            log: BuildLog::new(store),
            failed: FailedSteps::default(),
        }
    }

    /// What steps work with, as far as it does not depend on the request.
    pub(super) fn environment<'a>(
        &'a self,
        contexts: &'a BTreeMap<String, ContextFiles>,
        events: &Events,
    ) -> Environment<'a> {
        Environment {
            store: self.store.clone(),
            cache: Cache::new(self.store.clone()),
            roots: Roots::new(self.store.clone()),
            snapshots: &self.snapshots,
            dockerfile: None,
            contexts,
            registry: &self.registry,
            pins: &self.pins,
            executor: &self.executor,
            events: events.clone(),
            log: &self.log,
            failed: &self.failed,
            jobs: solve::usual_jobs(),
            pull: PullPolicy::default(),
            offline: false,
            no_cache: false,
            on_layers: None,
            form: LayerForm::default(),
            secrets: crate::secrets::Secrets::default(),
            ssh: BTreeMap::new(),
            dns: Dns::default(),
            project: String::new(),
        }
    }

    /// Whether the build is to end early.
    pub(super) fn is_stopped(&self) -> bool {
        self.executor.is_cancelled()
    }

    /// Deletes what was thrown away.
    pub(super) fn empty_trash(&self) {
        empty(&self.store, &self.executor);
    }
}

/// Deletes what is in a store's trash, outside of a build.
pub fn empty_trash(store: &Store) {
    empty(store, &Executor::stopped_by(Config::default(), Stop::default()));
}

/// Keeps the store within `quota` bytes on disk. When three quarters are in use, what was used longest ago goes first, down to
/// one half, unless somebody else uses the store.
///
/// # Errors
/// What the system refuses.
pub fn heed_quota(store: &Store, quota: u64) -> Result<(), store::Error> {
    let used = || Measuring::default().tree(store.root()).disk_bytes;
    if used() > quota / 4 * 3
        && let Ok(lock) = store.lock_exclusive(Duration::ZERO)
    {
        upkeep::prune(&lock, &Policy { keep_bytes: Some(quota / 2), ..Policy::default() })?;
        drop(lock);
        empty_trash(store);
    }
    store.set_quota(quota, used());
    Ok(())
}

/// Files of other owners can be deleted only inside the user namespace.
fn empty(store: &Store, executor: &Executor) {
    for left in store.empty_trash() {
        if let Err(error) = jobs::remove_left(executor, &left) {
            tracing::warn!(%error, path = %left.display(), "cannot delete what was thrown away");
        }
    }
}
