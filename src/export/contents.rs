//! What belongs to an image: its manifests and all of its blobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Error;
use crate::image::MANIFEST_LIMIT;
use crate::oci::{Descriptor, Digest, Index, MAX_INDEX_DEPTH, Manifest, TooDeep};
use crate::store::Store;

/// Everything that a manifest or an index stands for.
#[derive(Debug)]
pub(super) struct Contents {
    /// The manifest or index itself.
    pub(super) root: Descriptor,
    /// The manifests of images in it, in order.
    pub(super) images: Vec<Image>,
    /// Every blob and its size, manifests included.
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// Those that were read: an index may name one for many platforms.
    manifests: HashMap<Digest, Arc<Manifest>>,
}

/// One platform's image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Arc<Manifest>,
}

impl Contents {
    /// Reads the manifests, and finds out that every blob is there, whole. Foreign layers, which have URLs, may be
    /// missing.
    pub(super) fn collect(store: &Store, root: &Descriptor) -> Result<Self, Error> {
        let (images, blobs, manifests) = (Vec::new(), BTreeMap::new(), HashMap::new());
        let mut contents = Self { root: root.clone(), images, blobs, manifests };
        contents.add(store, root, 0)?;
        Ok(contents)
    }

    /// What belongs to entries of a layout that are no images: manifests with all that they name, and indexes alone.
    pub(super) fn of_referrers(
        store: &Store,
        root: &Descriptor,
        entries: &[Descriptor],
    ) -> Result<Self, Error> {
        let (images, blobs, manifests) = (Vec::new(), BTreeMap::new(), HashMap::new());
        let mut contents = Self { root: root.clone(), images, blobs, manifests };
        for entry in entries {
            match entry.media_type.is_index() {
                true => contents.add_blob(store, entry)?,
                false => contents.add(store, entry, 0)?,
            }
        }
        contents.images.clear();
        Ok(contents)
    }

    fn add(&mut self, store: &Store, descriptor: &Descriptor, depth: u32) -> Result<(), Error> {
        if descriptor.media_type.is_index() {
            // Each is gone through once, however often it is named.
            if self.blobs.contains_key(&descriptor.digest) {
                return Ok(());
            }
            if depth > MAX_INDEX_DEPTH {
                return Err(TooDeep(descriptor.digest).into());
            }
            let index: Index = self.read(store, descriptor)?;
            return index.manifests.iter().try_for_each(|child| self.add(store, child, depth + 1));
        }
        if descriptor.media_type.is_manifest() {
            let manifest = match self.manifests.get(&descriptor.digest) {
                Some(known) => Arc::clone(known),
                None => {
                    let manifest: Arc<Manifest> = Arc::new(self.read(store, descriptor)?);
                    self.add_blob(store, &manifest.config)?;
                    manifest.layers.iter().try_for_each(|layer| self.add_blob(store, layer))?;
                    self.manifests.insert(descriptor.digest, Arc::clone(&manifest));
                    manifest
                }
            };
            self.images.push(Image { descriptor: descriptor.clone(), manifest });
            return Ok(());
        }
        self.add_blob(store, descriptor)
    }

    fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
    ) -> Result<T, Error> {
        let bytes = store.read_blob(descriptor, MANIFEST_LIMIT)?;
        self.blobs.insert(descriptor.digest, descriptor.size);
        serde_json::from_slice(&bytes)
            .map_err(|source| Error::BadManifest { digest: descriptor.digest, reason: source.to_string() })
    }

    fn add_blob(&mut self, store: &Store, descriptor: &Descriptor) -> Result<(), Error> {
        let Descriptor { digest, size, .. } = *descriptor;
        if self.blobs.contains_key(&digest) {
            return Ok(());
        }
        match store.intact_blob(&digest)? {
            Some(actual) if actual == size => {
                self.blobs.insert(digest, size);
                Ok(())
            }
            Some(actual) => Err(crate::store::Error::WrongSize { digest, expected: size, actual }.into()),
            None if !descriptor.urls.is_empty() => Ok(()),
            None => Err(crate::store::Error::NotFound { digest }.into()),
        }
    }
}
