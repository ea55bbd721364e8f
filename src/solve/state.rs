//! What a build works with, and what a step leaves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::images::PullPolicy;
use super::log::BuildLog;
use super::session::FailedSteps;
use super::{Pins, Roots, Snapshots};
use crate::cache::Cache;
use crate::context::Context;
use crate::dockerfile::syntax::Dockerfile;
use crate::exec::{Dns, Executor};
use crate::key::LayerForm;
use crate::oci::{ChainId, Layer, Seconds};
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
    /// For images that only a step names.
    pub registry: &'a Client,
    /// What a lock file says of what comes from elsewhere.
    pub pins: &'a Pins,
    /// Runs commands.
    pub executor: &'a Executor,
    /// Where events go.
    pub events: Events,
    /// Keeps what commands print.
    pub log: &'a BuildLog,
    /// What becomes of the roots of steps that fail.
    pub failed: &'a FailedSteps,
    /// So many steps may be under way at once.
    pub jobs: usize,
    /// When a registry is asked for an image.
    pub pull: PullPolicy,
    /// Fetch nothing from anywhere.
    pub offline: bool,
    /// Hears of the layers of the result as soon as they are complete, lowest first; of the same ones more than once.
    pub on_layers: Option<&'a HearLayers<'a>>,
    /// Take nothing from the cache.
    pub no_cache: bool,
    /// How new layers are written.
    pub form: LayerForm,
    /// What RUN --mount=type=secret may ask for, and logins of what ADD fetches.
    pub secrets: crate::secrets::Secrets,
    /// What replaces this machine's resolv.conf.
    pub dns: Dns,
    /// What RUN --mount=type=ssh may ask for, by id.
    pub ssh: BTreeMap<String, SshSource>,
    /// What tells this build from others in the same store: the Dockerfile's absolute path.
    pub project: String,
}

/// Hears of layers.
pub type HearLayers<'a> = dyn Fn(&[Layer]) + Sync + 'a;

/// What a context consists of.
#[derive(Clone)]
pub enum ContextFiles {
    /// A folder, read as far as a step asks for it.
    Folder(Arc<Context>),
    /// What an archive held, with the owners that it names.
    Root(RootState),
}

/// What answers as an ssh agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshSource {
    /// The agent that listens on this socket.
    Agent(PathBuf),
    /// These private keys.
    Keys(Vec<PathBuf>),
}

/// What a step leaves for others.
#[derive(Debug)]
pub enum Files {
    /// A root file system.
    Root(RootState),
    /// The context of this name.
    Local(String),
}

impl Files {
    /// The root file system of something that is a parent, or a stage's result.
    pub fn root(&self) -> &RootState {
        match self {
            Files::Root(root) => root,
            // `Op::Local`: a stage that begins with a context begins with a copy of it.
            Files::Local(_) => unreachable!("a context is the parent of no step and no stage's result"),
        }
    }
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
