//! What is known, for one build, of stacks of layers: an index for each layer, a merged view for each stack.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::cache::{self, Lookup};
use crate::layer::archive::{self, Limits};
use crate::layer::index::Index;
use crate::layer::view::RootView;
use crate::oci::{DiffId, Layer};
use crate::store::{self, Folder, Store, supersede};
use crate::sync::lock;

/// Why a layer could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The store could not give its blob.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Its blob could not be brought here.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// Its blob is no layer.
    #[error("layer {layer} cannot be read: {source}")]
    Archive {
        /// What the configuration says of its files.
        layer: DiffId,
        /// What the reader of archives met.
        source: archive::Error,
    },
    /// Its blob holds other files than the configuration of its image says.
    #[error("the layer's files are {actual}, but the image's configuration says {expected}")]
    WrongDiffId {
        /// What the configuration says.
        expected: DiffId,
        /// What the blob holds.
        actual: DiffId,
    },
    /// Its index cannot be kept.
    #[error("cannot write `{}`: {source}", path.display())]
    Save {
        /// The index's file in the store.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Indexes and views; each is made when it is first asked for, by one thread while others wait.
pub struct LayerIndexes {
    store: Store,
    lookup: Arc<Lookup>,
    indexes: Memo<DiffId, Index>,
    /// By all their layers: computing a chain id takes longer than comparing.
    views: Memo<Vec<DiffId>, RootView>,
    /// Layers whose index was seen in the store.
    kept: Mutex<HashSet<DiffId>>,
}

type Memo<K, V> = Mutex<HashMap<K, Arc<Mutex<Option<Arc<V>>>>>>;

impl LayerIndexes {
    /// Nothing is known yet but what the store remembers.
    pub fn new(store: Store, lookup: &Arc<Lookup>) -> Self {
        Self {
            store,
            lookup: Arc::clone(lookup),
            indexes: Mutex::default(),
            views: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// The index of a layer: from memory, from the store, from where the layer is, or by reading the blob.
    pub fn index(&self, layer: &Layer) -> Result<Arc<Index>, IndexError> {
        self.bring_unknown(std::slice::from_ref(layer))?;
        self.here(layer)
    }

    /// The index of a layer that is known, or whose blob is here.
    fn here(&self, layer: &Layer) -> Result<Arc<Index>, IndexError> {
        remembered(&self.indexes, layer.diff_id, || match self.load(layer.diff_id) {
            Some(index) => Ok(index),
            None => self.read(layer),
        })
    }

    /// Has those of `layers` come whose index nobody knows. This happens before anybody waits for an index: who fetches
    /// a layer reads it along, and remembers what it holds.
    fn bring_unknown(&self, layers: &[Layer]) -> Result<(), IndexError> {
        let mut wanted = Vec::new();
        for layer in layers {
            if !self.lookup.is_elsewhere(layer) || self.index_file(layer.diff_id).is_some() {
                continue;
            }
            let told = self.lookup.index_elsewhere(layer).and_then(|bytes| Index::from_bytes(&bytes).ok());
            match told {
                Some(index) => self.remember(layer.diff_id, index)?,
                None => wanted.push(layer.clone()),
            }
        }
        Ok(self.lookup.bring(&wanted)?)
    }

    /// The merged view of a stack of layers, lowest first.
    pub fn view(&self, layers: &[Layer]) -> Result<Arc<RootView>, IndexError> {
        self.bring_unknown(layers)?;
        self.merged(layers)
    }

    fn merged(&self, layers: &[Layer]) -> Result<Arc<RootView>, IndexError> {
        let diff_ids: Vec<DiffId> = layers.iter().map(|l| l.diff_id).collect();
        let Some((top, below)) = layers.split_last() else { return Ok(Arc::default()) };
        remembered(&self.views, diff_ids, || {
            let below = self.merged(below)?;
            Ok(below.push(self.here(top)?))
        })
    }

    /// Takes the index of a layer that was just written or unpacked, so that nobody has to read it again.
    pub fn remember(&self, diff_id: DiffId, index: Index) -> Result<(), IndexError> {
        let index = remembered(&self.indexes, diff_id, || Ok::<_, IndexError>(index))?;
        self.save(diff_id, &index);
        Ok(())
    }

    fn read(&self, layer: &Layer) -> Result<Index, IndexError> {
        let blob = self.store.open_blob(&layer.descriptor.digest)?;
        let read = Index::read(blob, Limits::default())
            .map_err(|source| IndexError::Archive { layer: layer.diff_id, source })?;
        if read.diff_id != layer.diff_id {
            return Err(IndexError::WrongDiffId { expected: layer.diff_id, actual: read.diff_id });
        }
        self.save(layer.diff_id, &read.index);
        Ok(read.index)
    }

    /// The file with a layer's index, if it was saved.
    pub fn index_file(&self, diff_id: DiffId) -> Option<PathBuf> {
        let path = self.store.folder(Folder::Indexes).join(diff_id.0.hex());
        let mut kept = lock(&self.kept);
        let is_there = kept.contains(&diff_id) || path.exists();
        if is_there {
            kept.insert(diff_id);
        }
        is_there.then_some(path)
    }

    /// Takes over a file with a layer's index that a worker wrote.
    pub fn adopt(&self, diff_id: DiffId, file: &Path) -> Result<(), IndexError> {
        let path = self.path(diff_id);
        supersede(file, &path).map_err(|source| IndexError::Save { path, source })
    }

    fn path(&self, diff_id: DiffId) -> PathBuf {
        self.store.private(Folder::Indexes).join(diff_id.0.hex())
    }

    /// What cannot be read, or is damaged, is as good as absent: the blob tells it again.
    fn load(&self, diff_id: DiffId) -> Option<Index> {
        let bytes = crate::rootfs::read_regular(&self.path(diff_id)).ok()?;
        Index::from_bytes(&bytes).ok()
    }

    /// An index that cannot be saved costs the next build some time, nothing else.
    fn save(&self, diff_id: DiffId, index: &Index) {
        let path = self.path(diff_id);
        if path.exists() {
            return;
        }
        let Ok(scratch) = self.store.scratch_dir() else { return };
        let temporary = scratch.path().join("index");
        let written =
            std::fs::File::create(&temporary).and_then(|mut file| file.write_all(&index.to_bytes()));
        if written.and_then(|()| std::fs::rename(&temporary, &path)).is_err() {
            tracing::warn!(layer = %diff_id, "cannot save the index of a layer");
        }
    }
}

/// The value of `key`, made by `make` if there is none yet. Others who ask for the same key wait meanwhile.
fn remembered<K: std::hash::Hash + Eq, V, E>(
    memo: &Memo<K, V>,
    key: K,
    make: impl FnOnce() -> Result<V, E>,
) -> Result<Arc<V>, E> {
    let cell = Arc::clone(lock(memo).entry(key).or_default());
    let mut value = lock(&cell);
    match &*value {
        Some(value) => Ok(Arc::clone(value)),
        None => Ok(Arc::clone(value.insert(Arc::new(make()?)))),
    }
}
