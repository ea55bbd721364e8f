//! What a step leaves for others, and what it may read that no step made.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::context::Context;
use crate::oci::{ChainId, Layer, Seconds};

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
    /// A context that is a folder, and its name.
    Folder(String, Arc<Context>),
}

impl Files {
    /// The root file system of something that is a parent, or a stage's result.
    pub fn root(&self) -> &RootState {
        match self {
            Files::Root(root) => root,
            // `Op::Local`: a stage that begins with a context begins with a copy of it.
            Files::Folder(..) => unreachable!("a context is the parent of no step and no stage's result"),
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

    /// A root file system with one more layer on top; itself stays.
    pub fn with(&self, layer: Layer, time: Seconds) -> Self {
        let chain = self.chain.push(layer.diff_id);
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers, chain, time }
    }
}

/// The caches that a build with `--no-cache` has emptied: by name, the numbers of their instances. It empties each before it
/// first uses it, and no more.
pub type EmptiedCaches = Mutex<HashMap<String, BTreeSet<u32>>>;
