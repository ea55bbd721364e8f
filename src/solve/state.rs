//! What a build works with, and what a step leaves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{LayerForm, Roots, Snapshots};
use crate::cache::Cache;
use crate::context::Context;
use crate::dockerfile::syntax::Dockerfile;
use crate::exec::Executor;
use crate::oci::{ChainId, Layer, Seconds};
use crate::plan::graph::ResolvedBase;
use crate::registry::Client;
use crate::report::Events;
use crate::store::Store;

/// Everything that steps use; shared by all of them.
pub struct Environment<'a> {
    /// Where blobs are.
    pub store: Store,
    /// Where layers of earlier builds are found.
    pub cache: Cache,
    /// What is known of stacks of layers.
    pub roots: Roots,
    /// Root file systems for RUN.
    pub snapshots: &'a Snapshots,
    /// The Dockerfile, once there is one: for hints when a name in it leads nowhere.
    pub dockerfile: Option<&'a Dockerfile>,
    /// The contexts by name; the main one has the empty name.
    pub contexts: &'a BTreeMap<String, ContextFiles>,
    /// The bases that the plan was lowered with.
    pub bases: &'a [ResolvedBase],
    /// For images that only a step names.
    pub registry: &'a Client,
    /// Runs commands.
    pub executor: &'a Executor,
    /// Where events go.
    pub events: Events,
    /// Take nothing from the cache.
    pub no_cache: bool,
    /// How new layers are written.
    pub form: LayerForm,
    /// What RUN --mount=type=secret may ask for.
    pub secrets: BTreeMap<String, SecretSource>,
    /// What tells this build from others in the same store: the Dockerfile's absolute path.
    pub project: String,
}

/// What a context consists of.
#[derive(Clone)]
pub enum ContextFiles {
    /// A folder, read as far as a step asks for it.
    Folder(Arc<Context>),
    /// What an archive held, with the owners that it names.
    Root(RootState),
}

/// Where a secret's value comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// A variable of rbuild's environment.
    Env(String),
}

/// What a step leaves for others.
#[derive(Debug)]
pub enum Files {
    /// A root file system.
    Root(RootState),
    /// The context of this name.
    Local(String),
}

/// A root file system as a stack of layers.
#[derive(Debug, Clone)]
pub struct RootState {
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// Their identity.
    pub chain: ChainId,
    /// The newest time of what went into it.
    pub time: Seconds,
}

impl RootState {
    /// The empty root file system, of `time`.
    pub fn empty(time: Seconds) -> Self {
        Self { layers: Vec::new(), chain: ChainId::EMPTY, time }
    }

    /// The same with one more layer on top.
    pub fn with(&self, layer: Layer, time: Seconds) -> Self {
        let chain = self.chain.push(layer.diff_id);
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers, chain, time }
    }
}
