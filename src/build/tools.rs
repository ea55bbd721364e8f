//! What all parts of one build share: store, registry client, executor.

use std::collections::BTreeMap;

use crate::cache::Cache;
use crate::exec::{Config, Executor, Stop};
use crate::plan::graph::ResolvedBase;
use crate::registry::{Client, Settings};
use crate::report::Events;
use crate::solve::jobs;
use crate::solve::{ContextFiles, Environment, LayerForm, Roots, Snapshots};
use crate::store::Store;

/// Made once for a build; nothing is contacted or started yet.
pub(super) struct Tools {
    /// Where blobs are.
    pub(super) store: Store,
    /// Talks to registries.
    pub(super) registry: Client,
    snapshots: Snapshots,
    executor: Executor,
}

impl Tools {
    /// Steps end when `stop` says so.
    pub(super) fn new(store: &Store, stop: &Stop) -> Self {
        let executor = Executor::stopped_by(Config::default(), stop.clone());
        Self {
            store: store.clone(),
            registry: Client::new(Settings::from_process()),
            snapshots: Snapshots::new(store, &executor),
            executor,
        }
    }

    /// What steps work with, as far as it does not depend on the request.
    pub(super) fn environment<'a>(
        &'a self,
        contexts: &'a BTreeMap<String, ContextFiles>,
        bases: &'a [ResolvedBase],
        events: &Events,
    ) -> Environment<'a> {
        Environment {
            store: self.store.clone(),
            cache: Cache::new(self.store.clone()),
            roots: Roots::new(self.store.clone()),
            snapshots: &self.snapshots,
            dockerfile: None,
            contexts,
            bases,
            registry: &self.registry,
            executor: &self.executor,
            events: events.clone(),
            no_cache: false,
            form: LayerForm::default(),
            secrets: BTreeMap::new(),
            project: String::new(),
        }
    }

    /// Deletes what was thrown away. Files of other owners can be deleted only inside the user namespace.
    pub(super) fn empty_trash(&self) {
        for left in self.store.empty_trash() {
            if let Err(error) = jobs::remove_left(&self.executor, &left) {
                tracing::warn!(%error, path = %left.display(), "cannot delete what was thrown away");
            }
        }
    }
}
