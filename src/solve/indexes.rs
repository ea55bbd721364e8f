//! What is known, for one build, of stacks of layers: an index for each layer, a merged view for each stack.
//!
//! A layer that is not here may have an index that another place *told*. It is kept apart from those that were read from layers
//! (`HEX.told`, with the place's name), is never handed on, and is compared as soon as the layer is here and somebody looks into
//! it: before contents are read, when it is unpacked, and in any case before the build ends. One that is wrong makes the build
//! look again; see [`Told`].
//!
//! All of it is known by diff id, and which that is of a blob the configuration of an image says, which may be wrong. So before
//! contents of such a blob are read, it is seen that it holds what is said: once, then a file beside its segments remembers it.

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use crate::cache::{self, Lookup, Proof, Record, Told};
use crate::layer::Segments;
use crate::layer::archive::{self, Limits};
use crate::layer::index::Index;
use crate::layer::view::RootView;
use crate::oci::{DiffId, Digest, Hasher, Layer};
use crate::store::{self, Folder, Store, supersede};
use crate::sync::lock;

const HELD_BUFFER_BYTES: usize = 128 * 1024;

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
    /// What places told of layers that are looked at in this build.
    told: Mutex<HashMap<DiffId, Arc<Index>>>,
    /// What this build goes by without having seen it.
    believed: Mutex<HashMap<DiffId, Vec<Belief>>>,
    /// Blobs that images name, and of which nobody has seen in this build that they hold what these say.
    claimed: Mutex<HashSet<(Digest, DiffId)>>,
}

/// An index that somebody went by.
#[derive(Debug)]
struct Belief {
    /// Its checksum.
    index: String,
    /// The place that told it, if it is not a record that was made with it.
    place: Option<String>,
    proof: Proof,
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
            told: Mutex::default(),
            believed: Mutex::default(),
            claimed: Mutex::default(),
        }
    }

    /// These layers are an image's: what their blobs hold is what its configuration says.
    pub(super) fn claim(&self, layers: &[Layer]) {
        lock(&self.claimed).extend(layers.iter().map(|layer| (layer.descriptor.digest, layer.diff_id)));
    }

    /// Sees to it that a blob, which is here, holds what is said of it, before it is read by what is known of that.
    ///
    /// # Errors
    /// When it holds something else, or cannot be read.
    pub(super) fn prove_blob(&self, layer: &Layer) -> Result<(), IndexError> {
        let blob = layer.descriptor.digest;
        if !lock(&self.claimed).contains(&(blob, layer.diff_id)) {
            return Ok(());
        }
        if !self.was_seen(layer) {
            let actual = held(self.store.open_blob(&blob)?).map_err(|(offset, source)| {
                let source = archive::Error::Read { offset, source };
                IndexError::Archive { layer: layer.diff_id, source }
            })?;
            if actual != layer.diff_id {
                return Err(IndexError::WrongDiffId { expected: layer.diff_id, actual });
            }
        }
        self.saw(layer);
        Ok(())
    }

    /// The blob was hashed, and holds what is said of it.
    pub(super) fn saw(&self, layer: &Layer) {
        let claim = (layer.descriptor.digest, layer.diff_id);
        if lock(&self.claimed).remove(&claim) && !self.was_seen(layer) {
            self.keep(&self.seen_path(layer), layer.diff_id.to_string().as_bytes());
        }
    }

    /// In this build or an earlier one, or when it was written here in segments.
    fn was_seen(&self, layer: &Layer) -> bool {
        let segments = self.store.folder(Folder::Segments).join(layer.descriptor.digest.hex());
        let read = |path: &Path| crate::rootfs::read_regular(path).ok();
        read(&self.seen_path(layer)).is_some_and(|bytes| bytes == layer.diff_id.to_string().as_bytes())
            || read(&segments)
                .and_then(|bytes| Segments::from_bytes(&bytes)?.diff_id())
                .is_some_and(|diff_id| diff_id == layer.diff_id)
    }

    fn seen_path(&self, layer: &Layer) -> PathBuf {
        self.store.private(Folder::Segments).join(format!("{}.holds", layer.descriptor.digest.hex()))
    }

    /// The index of a layer as the layer itself has it: from memory, from the store, or by reading the blob, which is brought for
    /// that.
    pub fn own(&self, layer: &Layer) -> Result<Arc<Index>, IndexError> {
        if self.index_file(layer.diff_id).is_none() {
            self.lookup.bring(std::slice::from_ref(layer))?;
        }
        remembered(&self.indexes, layer.diff_id, || match self.load(layer.diff_id) {
            Some(index) => Ok(index),
            None => self.read(layer),
        })
    }

    /// The index of a layer that is known, that was told, or whose blob is here.
    fn here(&self, layer: &Layer) -> Result<Arc<Index>, IndexError> {
        let told = || lock(&self.told).get(&layer.diff_id).map(Arc::clone);
        match self.index_file(layer.diff_id) {
            Some(_) => self.own(layer),
            None => told().map_or_else(|| self.own(layer), Ok),
        }
    }

    /// The index of a layer, its own or one that was told, if it can be had without the layer.
    pub(super) fn known(&self, layer: &Layer) -> Option<Arc<Index>> {
        if self.index_file(layer.diff_id).is_some() {
            return self.own(layer).ok();
        }
        if !lock(&self.told).contains_key(&layer.diff_id) {
            let (place, index) = self.told(layer)?;
            self.believe(layer.diff_id, place, index);
        }
        lock(&self.told).get(&layer.diff_id).map(Arc::clone)
    }

    /// Learns of those of `layers` that are not here what other places tell, and has those come of which nobody tells anything.
    /// This happens before anybody waits for an index: who fetches a layer reads it along, and remembers what it holds.
    fn bring_unknown(&self, layers: &[Layer]) -> Result<(), IndexError> {
        let mut wanted = Vec::new();
        for layer in layers {
            let is_known = self.index_file(layer.diff_id).is_some();
            if is_known || lock(&self.told).contains_key(&layer.diff_id) || !self.lookup.is_elsewhere(layer) {
                continue;
            }
            match self.told(layer) {
                Some((place, index)) => self.believe(layer.diff_id, place, index),
                None => wanted.push(layer.clone()),
            }
        }
        Ok(self.lookup.bring(&wanted)?)
    }

    /// What a place tells of a layer, now or in an earlier build.
    fn told(&self, layer: &Layer) -> Option<(String, Index)> {
        let path = self.told_path(layer.diff_id);
        if let Some((place, index)) = crate::rootfs::read_regular(&path).ok().and_then(|b| told_from(&b))
            && !self.lookup.is_refuted(layer.diff_id, &place)
        {
            return Some((place, index));
        }
        let (place, bytes) = self.lookup.index_elsewhere(layer)?;
        let index = Index::from_bytes(&bytes).ok()?;
        self.keep(&path, &[place.replace('\n', " ").as_bytes(), b"\n", &bytes].concat());
        Some((place, index))
    }

    fn believe(&self, layer: DiffId, place: String, index: Index) {
        let Some(checksum) = Index::checksum(&index.to_bytes()) else { return };
        let belief = Belief { index: checksum, place: Some(place), proof: Proof::None };
        lock(&self.believed).entry(layer).or_default().push(belief);
        lock(&self.told).entry(layer).or_insert_with(|| Arc::new(index));
    }

    /// A record is gone by that was made with these indexes.
    pub(super) fn go_by(&self, record: &Record) {
        let mut believed = lock(&self.believed);
        for Told { layer, index } in &record.told {
            let beliefs = believed.entry(*layer).or_default();
            if !beliefs.iter().any(|belief| belief.index == *index) {
                beliefs.push(Belief { index: index.clone(), place: None, proof: Proof::None });
            }
        }
    }

    /// What a result that stands on `layers` was told of them and has not seen.
    ///
    /// # Errors
    /// When something of that turned out wrong: then the result may be, too.
    pub(super) fn told_of<'l>(
        &self,
        layers: impl IntoIterator<Item = &'l Layer>,
    ) -> Result<Vec<Told>, IndexError> {
        let believed = lock(&self.believed);
        let mut all = Vec::new();
        for layer in layers.into_iter().map(|layer| layer.diff_id) {
            for belief in believed.get(&layer).into_iter().flatten() {
                match belief.proof {
                    Proof::None => all.push(Told { layer, index: belief.index.clone() }),
                    Proof::Same => {}
                    Proof::Refuted => {
                        return Err(self.lookup.refute(layer, belief.place.as_deref())?.into());
                    }
                }
            }
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Looks into those of `layers` that are here, and of which something was told that this build went by.
    ///
    /// # Errors
    /// Also when what was told is wrong.
    pub fn prove(&self, layers: &[Layer]) -> Result<(), IndexError> {
        let is_open = |layer: &&Layer| {
            let believed = lock(&self.believed);
            let mut beliefs = believed.get(&layer.diff_id).into_iter().flatten();
            beliefs.any(|belief| belief.proof == Proof::None)
        };
        let open: Vec<&Layer> = layers.iter().filter(is_open).collect();
        open.par_iter().try_for_each(|layer| {
            let is_here = self.store.has_blob(&layer.descriptor.digest) == Some(layer.descriptor.size);
            match is_here || self.index_file(layer.diff_id).is_some() {
                true => self.prove_one(layer),
                false => Ok(()),
            }
        })
    }

    /// Sees to it that contents of a layer are read by its own index, or by one that is the same.
    ///
    /// # Errors
    /// Also when what was told is wrong.
    pub fn prove_one(&self, layer: &Layer) -> Result<(), IndexError> {
        if !lock(&self.believed).contains_key(&layer.diff_id) {
            return Ok(());
        }
        let index = self.own(layer)?;
        self.compare(layer.diff_id, || Index::checksum(&index.to_bytes()))
    }

    /// The layer's own index is known: whoever told another one was wrong.
    fn compare(&self, layer: DiffId, own: impl FnOnce() -> Option<String>) -> Result<(), IndexError> {
        let mut believed = lock(&self.believed);
        let Some(beliefs) = believed.get_mut(&layer) else { return Ok(()) };
        let Some(own) = own() else { return Ok(()) };
        let mut wrong = None;
        for belief in beliefs {
            belief.proof = if belief.index == own { Proof::Same } else { Proof::Refuted };
            if belief.proof == Proof::Refuted {
                wrong = Some(self.lookup.refute(layer, belief.place.as_deref())?);
            }
        }
        let _ = std::fs::remove_file(self.told_path(layer));
        wrong.map_or(Ok(()), |wrong| Err(wrong.into()))
    }

    /// The build looks again: what was wrong is forgotten, and what was made of it. No step is under way.
    pub fn forget_refuted(&self) {
        let mut believed = lock(&self.believed);
        for beliefs in believed.values_mut() {
            beliefs.retain(|belief| belief.proof != Proof::Refuted);
        }
        believed.retain(|_, beliefs| !beliefs.is_empty());
        lock(&self.told).retain(|layer, _| believed.contains_key(layer));
        lock(&self.views).clear();
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

    /// Takes the index of a layer that was just written or read, so that nobody has to read it again.
    pub fn remember(&self, diff_id: DiffId, index: Index) -> Result<(), IndexError> {
        let index = remembered(&self.indexes, diff_id, || Ok::<_, IndexError>(index))?;
        self.save(diff_id, &index);
        self.compare(diff_id, || Index::checksum(&index.to_bytes()))
    }

    fn read(&self, layer: &Layer) -> Result<Index, IndexError> {
        let blob = self.store.open_blob(&layer.descriptor.digest)?;
        let read = Index::read(blob, Limits::default())
            .map_err(|source| IndexError::Archive { layer: layer.diff_id, source })?;
        if read.diff_id != layer.diff_id {
            return Err(IndexError::WrongDiffId { expected: layer.diff_id, actual: read.diff_id });
        }
        self.saw(layer);
        self.save(layer.diff_id, &read.index);
        self.compare(layer.diff_id, || Index::checksum(&read.index.to_bytes()))?;
        Ok(read.index)
    }

    /// The file with a layer's own index, if it was saved.
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
        supersede(file, &path).map_err(|source| IndexError::Save { path: path.clone(), source })?;
        self.compare(diff_id, || Index::checksum(&crate::rootfs::read_regular(&path).ok()?))
    }

    fn path(&self, diff_id: DiffId) -> PathBuf {
        self.store.private(Folder::Indexes).join(diff_id.0.hex())
    }

    fn told_path(&self, diff_id: DiffId) -> PathBuf {
        self.store.private(Folder::Indexes).join(format!("{}.told", diff_id.0.hex()))
    }

    /// What cannot be read, or is damaged, is as good as absent: the blob tells it again.
    fn load(&self, diff_id: DiffId) -> Option<Index> {
        let bytes = crate::rootfs::read_regular(&self.path(diff_id)).ok()?;
        Index::from_bytes(&bytes).ok()
    }

    /// An index that cannot be saved costs the next build some time, nothing else.
    fn save(&self, diff_id: DiffId, index: &Index) {
        let path = self.path(diff_id);
        if !path.exists() {
            self.keep(&path, &index.to_bytes());
        }
    }

    fn keep(&self, path: &Path, bytes: &[u8]) {
        let Ok(scratch) = self.store.scratch_dir() else { return };
        let temporary = scratch.path().join("index");
        let written = std::fs::File::create(&temporary).and_then(|mut file| file.write_all(bytes));
        if written.and_then(|()| std::fs::rename(&temporary, path)).is_err() {
            tracing::warn!(path = %path.display(), "cannot save the index of a layer");
        }
    }
}

/// The diff id of a blob; or after how many bytes of its tar it could not be read. What is longer than any layer may be has another one.
fn held(blob: std::fs::File) -> Result<DiffId, (u64, std::io::Error)> {
    let tar = archive::decompress(blob).map_err(|error| (0, error))?;
    let mut tar = tar.take(Limits::default().archive_bytes);
    let (mut hasher, mut buffer, mut offset) = (Hasher::new(), vec![0; HELD_BUFFER_BYTES], 0);
    loop {
        match tar.read(&mut buffer) {
            Ok(0) => return Ok(DiffId(hasher.finish())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err((offset, error)),
        }
    }
}

/// What a file with a told index says: the place, and the index.
fn told_from(bytes: &[u8]) -> Option<(String, Index)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let place = std::str::from_utf8(&bytes[..end]).ok()?;
    Some((place.to_owned(), Index::from_bytes(&bytes[end + 1..]).ok()?))
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
