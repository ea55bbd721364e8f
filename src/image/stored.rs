//! Images of the store: one platform's, or everything that a name stands for.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::choose::{Documents, is_attestation, resolve};
use super::document::{self, Document};
use super::{CONFIG_LIMIT, Fault, MANIFEST_LIMIT, PlatformImage};
use crate::oci::{
    ChainId, Descriptor, DiffId, Digest, ImageConfig, Index, Layer, MAX_INDEX_DEPTH, Manifest, MediaType,
    Platform,
};
use crate::store::{self, Store};

/// Why the store cannot give an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not have it all, or could not read it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It has it, but it is wrong.
    #[error(transparent)]
    Wrong(#[from] Fault),
}

/// The documents of the store.
struct InStore<'a>(&'a Store);

impl Documents for InStore<'_> {
    type Error = Error;

    fn document(&self, entry: &Descriptor) -> Result<Document, Error> {
        let bytes = self.0.read_blob(entry, MANIFEST_LIMIT)?;
        Ok(document::parse(&bytes, Some(entry.media_type.as_str()))?)
    }

    fn config(&self, manifest: &Manifest) -> Result<ImageConfig, Error> {
        let bytes = self.0.read_blob(&manifest.config, CONFIG_LIMIT)?;
        Ok(document::parse_config(&bytes, &manifest.config)?)
    }

    fn wrong(&self, fault: Fault) -> Error {
        fault.into()
    }
}

impl PlatformImage {
    /// The image for `wanted` behind `target`, a manifest or an index in the store; what [`resolve`] says of the platform
    /// holds here, too.
    ///
    /// # Errors
    /// When manifest or configuration are not there, or wrong; layers may be missing.
    pub fn in_store(store: &Store, target: &Descriptor, wanted: &Platform) -> Result<Self, Error> {
        let documents = InStore(store);
        let image = resolve(&documents, documents.document(target)?, wanted)?;
        image.check_sizes(store)?;
        Ok(image)
    }

    /// A manifest that is wrong about the size of a layer that is here: whatever is built on it would say so, too.
    fn check_sizes(&self, store: &Store) -> Result<(), store::Error> {
        for Layer { descriptor, .. } in &self.layers {
            let (digest, expected) = (descriptor.digest, descriptor.size);
            if let Some(actual) = store.has_blob(&digest).filter(|actual| *actual != expected)
                // What a crash cut off is another matter: it is set aside, and fetched or missed.
                && store.intact_blob(&digest)? == Some(actual)
            {
                return Err(store::Error::WrongSize { digest, expected, actual });
            }
        }
        Ok(())
    }
}

/// An image as the store has it; what is not there is listed, and no error.
#[derive(Debug, Clone)]
pub struct Image {
    /// What a name points at: a manifest or an index.
    pub target: Descriptor,
    /// The images in it whose manifests are there, in order; attestations are none.
    pub platforms: Vec<StoredPlatform>,
    /// Every blob that it names and that is there, manifests included, with its size in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Blobs that it names and that are not there, or do not parse.
    pub missing: BTreeSet<Digest>,
    /// Of these, those that are there with another size than it says: what it says, and what it is.
    pub wrong_sizes: BTreeMap<Digest, (u64, u64)>,
    /// Indexes that are nested too deeply to be looked at.
    pub too_deep: BTreeSet<Digest>,
}

/// Documents that were read: an index may name one for thousands of platforms.
#[derive(Default)]
struct Known {
    indexes: BTreeSet<Digest>,
    manifests: HashMap<Digest, Option<Arc<Manifest>>>,
    configs: HashMap<Digest, Option<Arc<ImageConfig>>>,
}

/// The image of one platform as far as the store has it. Unlike a [`PlatformImage`] it may lack its
/// configuration, or be something else than an image of files, and can be listed, copied and removed all the same.
#[derive(Debug, Clone)]
pub struct StoredPlatform {
    /// Its manifest, as the index describes it.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Its configuration, if it is there.
    pub config: Option<Arc<ImageConfig>>,
}

impl Image {
    /// Reads manifests and configurations; of layers only the sizes.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn read(store: &Store, target: &Descriptor) -> Result<Self, store::Error> {
        let mut image = Self {
            target: target.clone(),
            platforms: Vec::new(),
            blobs: BTreeMap::new(),
            missing: BTreeSet::new(),
            wrong_sizes: BTreeMap::new(),
            too_deep: BTreeSet::new(),
        };
        image.add(store, target, &mut Known::default(), 0)?;
        Ok(image)
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.too_deep.is_empty() && !self.platforms.is_empty()
    }

    /// Layers of its platforms that are not here, each once.
    pub fn absent_layers(&self) -> BTreeMap<Digest, Descriptor> {
        let layers = self.platforms.iter().flat_map(|platform| &platform.manifest.layers);
        let absent = layers.filter(|layer| self.missing.contains(&layer.digest));
        absent.map(|layer| (layer.digest, layer.clone())).collect()
    }

    /// Whether layers are all that it lacks: then it is whole where a registry has those.
    pub fn lacks_layers_only(&self) -> bool {
        let absent = self.absent_layers();
        let is_layer = |digest: &Digest| absent.contains_key(digest);
        let is_whole = self.wrong_sizes.is_empty() && self.too_deep.is_empty() && !self.platforms.is_empty();
        is_whole && self.missing.iter().all(is_layer)
    }

    /// Lets remote names of `target` be ordinary ones if nothing of it is missing any more. Whether it is all here now.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn settle(store: &Store, target: &Descriptor) -> Result<bool, store::Error> {
        let names = store.remote_names_of(&target.digest)?;
        let is_whole = Self::read(store, target)?.is_complete();
        if is_whole && !names.is_empty() {
            store.set_tags(names.iter().map(|name| (name, target)))?;
        }
        Ok(is_whole)
    }

    /// The layers of its platforms, as far as they are here, with the bytes of each. Their sum is what is called the size of
    /// an image everywhere: manifests and configurations do not count, as in the lists of registries.
    pub fn layers(&self) -> BTreeMap<Digest, u64> {
        let mut seen = BTreeSet::new();
        let platforms = self.platforms.iter().filter(|p| seen.insert(p.descriptor.digest));
        platforms.flat_map(|platform| self.layers_of(platform)).collect()
    }

    /// Their bytes, each counted once, with those of layers that are not here.
    pub fn layers_size(&self) -> u64 {
        let layers = self.platforms.iter().flat_map(|platform| &platform.manifest.layers);
        layers.map(|layer| (layer.digest, layer.size)).collect::<BTreeMap<_, _>>().into_values().sum()
    }

    /// Those of one of its platforms.
    pub fn layers_of(&self, platform: &StoredPlatform) -> BTreeMap<Digest, u64> {
        let layers = platform.manifest.layers.iter().map(|layer| layer.digest);
        layers.filter_map(|digest| Some((digest, *self.blobs.get(&digest)?))).collect()
    }

    /// The platform that serves this machine best, else the first.
    pub fn for_this_machine(&self) -> Option<&StoredPlatform> {
        self.for_platform(&Platform::host()).or(self.platforms.first())
    }

    /// The platform that serves `wanted` best.
    pub fn for_platform(&self, wanted: &Platform) -> Option<&StoredPlatform> {
        super::best(wanted, &self.platforms, |platform| platform.platform())
    }

    /// The configurations of its platforms, each once.
    pub fn configs(&self) -> impl Iterator<Item = &ImageConfig> {
        let mut seen = BTreeSet::new();
        let platforms = self.platforms.iter().filter(move |p| seen.insert(p.manifest.config.digest));
        platforms.filter_map(|p| p.config.as_deref())
    }

    /// The stacks of layers that its platforms consist of, every height of each.
    pub fn chains(&self) -> BTreeSet<ChainId> {
        let mut chains = BTreeSet::new();
        for config in self.configs() {
            let mut chain = ChainId::EMPTY;
            for diff_id in &config.rootfs.diff_ids {
                chain = chain.push(*diff_id);
                chains.insert(chain);
            }
        }
        chains
    }

    /// The identities of all its layers.
    pub fn diff_ids(&self) -> BTreeSet<DiffId> {
        self.configs().flat_map(|config| config.rootfs.diff_ids.iter().copied()).collect()
    }

    fn add(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
        known: &mut Known,
        depth: u32,
    ) -> Result<(), store::Error> {
        if descriptor.media_type.is_index() {
            if !known.indexes.insert(descriptor.digest) {
                return Ok(());
            }
            if depth > MAX_INDEX_DEPTH {
                self.too_deep.insert(descriptor.digest);
                return Ok(());
            }
            let Some(index) = self.document::<Index>(store, descriptor, MANIFEST_LIMIT)? else {
                return Ok(());
            };
            return index.manifests.iter().try_for_each(|entry| self.add(store, entry, known, depth + 1));
        }
        if !descriptor.media_type.is_manifest() {
            self.blob(store, descriptor);
            return Ok(());
        }
        let Some(manifest) = self.manifest(store, descriptor, known)? else { return Ok(()) };
        let config = known.configs.get(&manifest.config.digest).cloned().flatten();
        if !is_attestation(descriptor) {
            self.platforms.push(StoredPlatform { descriptor: descriptor.clone(), manifest, config });
        }
        Ok(())
    }

    fn manifest(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
        known: &mut Known,
    ) -> Result<Option<Arc<Manifest>>, store::Error> {
        if let Some(manifest) = known.manifests.get(&descriptor.digest) {
            return Ok(manifest.clone());
        }
        let manifest = self.document::<Manifest>(store, descriptor, MANIFEST_LIMIT)?.map(Arc::new);
        known.manifests.insert(descriptor.digest, manifest.clone());
        if let Some(manifest) = &manifest {
            let config = &manifest.config;
            if let Entry::Vacant(free) = known.configs.entry(config.digest) {
                free.insert(self.document::<ImageConfig>(store, config, CONFIG_LIMIT)?.map(Arc::new));
            }
            manifest.layers.iter().for_each(|layer| self.blob(store, layer));
        }
        Ok(manifest)
    }

    /// A JSON blob; one that is not there or does not parse is missing.
    fn document<T: serde::de::DeserializeOwned>(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Option<T>, store::Error> {
        let parsed = match store.read_blob(descriptor, limit) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(
                store::Error::NotFound { .. }
                | store::Error::Damaged { .. }
                | store::Error::WrongSize { .. }
                | store::Error::TooLarge { .. },
            ) => None,
            Err(error) => return Err(error),
        };
        match parsed {
            Some(_) => drop(self.blobs.insert(descriptor.digest, descriptor.size)),
            // A blob that is no JSON but whole, such as the empty configuration of an artifact, is not missing.
            None => self.blob(store, descriptor),
        }
        Ok(parsed)
    }

    /// Foreign layers, which have URLs, may be missing.
    fn blob(&mut self, store: &Store, descriptor: &Descriptor) {
        match store.has_blob(&descriptor.digest) {
            Some(size) if size == descriptor.size => drop(self.blobs.insert(descriptor.digest, size)),
            Some(size) => {
                self.missing.insert(descriptor.digest);
                self.wrong_sizes.insert(descriptor.digest, (descriptor.size, size));
            }
            _ if descriptor.urls.is_empty() => drop(self.missing.insert(descriptor.digest)),
            _ => {}
        }
    }
}

/// What a blob is, if it is a manifest or an index that says so.
///
/// # Errors
/// When the store cannot be read.
pub fn described(store: &Store, digest: Digest) -> Result<Option<Descriptor>, store::Error> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: MediaType,
    }
    let Some(size) = store.has_blob(&digest).filter(|size| *size <= MANIFEST_LIMIT) else { return Ok(None) };
    let bytes = store.read_blob(&Descriptor::new(MediaType::MANIFEST, digest, size), MANIFEST_LIMIT)?;
    let Ok(Typed { media_type }) = serde_json::from_slice(&bytes) else { return Ok(None) };
    let describes = media_type.is_index() || media_type.is_manifest();
    Ok(describes.then(|| Descriptor::new(media_type, digest, size)))
}

impl StoredPlatform {
    /// What its index says, else its configuration.
    pub fn platform(&self) -> Option<Platform> {
        self.descriptor.platform.clone().or_else(|| self.config.as_deref().map(ImageConfig::platform))
    }
}
