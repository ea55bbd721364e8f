//! Whole images: one platform with its layers, or an index with everything that it names.

use std::collections::BTreeSet;

use super::error::Error;
use super::{Client, Progress, Target};
use crate::image::{Content, Document};
use crate::oci::{Descriptor, Digest, MAX_INDEX_DEPTH, Platform, Reference, TooDeep};
use crate::store::Store;

/// Which platforms of an image are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that serves this platform best.
    One(Platform),
    /// All of them, and what else the index names.
    All,
}

impl Client {
    /// Brings an image into the store with everything it needs, and gives its manifest, or its index if all platforms
    /// are meant. Blobs that the store has are not fetched.
    ///
    /// # Errors
    /// The first one; what is complete stays in the store.
    pub fn pull(
        &self,
        store: &Store,
        reference: &Reference,
        which: &Which,
        progress: &Progress,
    ) -> Result<Descriptor, Error> {
        match which {
            Which::One(platform) => {
                let image = self.resolve(store, reference, platform)?;
                let from = image.remote.as_ref().unwrap_or(reference);
                self.pull_layers(store, from, &image.layers, progress)?;
                Ok(image.manifest)
            }
            Which::All => {
                let names = self.candidates(reference)?;
                let (last, others) = names.split_last().expect("a name means at least itself");
                for name in others {
                    match self.pull_all(store, name, progress) {
                        Err(error) if error.is_not_there() => {}
                        outcome => return outcome,
                    }
                }
                self.pull_all(store, last, progress)
            }
        }
    }

    fn pull_all(&self, store: &Store, name: &Reference, progress: &Progress) -> Result<Descriptor, Error> {
        let places = self.places(name)?;
        let (top, blobs) = self.at_each_place(name, &places, |target| {
            let document = self.top(store, &target)?;
            let top = document.descriptor.clone();
            let mut blobs = Vec::new();
            let mut seen = BTreeSet::from([top.digest]);
            self.gather(store, &target, document, &mut Needed { blobs: &mut blobs, seen: &mut seen }, 0)?;
            self.found(&target);
            Ok((top, blobs))
        })?;
        self.pull_blobs(store, name, &blobs, progress)?;
        Ok(top)
    }

    /// Stores the manifests below a document, and lists the blobs that they name.
    fn gather(
        &self,
        store: &Store,
        target: &Target<'_>,
        document: Document,
        needed: &mut Needed<'_>,
        depth: u32,
    ) -> Result<(), Error> {
        match document.content {
            Content::Manifest(manifest) => {
                let layers = manifest.layers.into_iter().filter(|layer| layer.urls.is_empty());
                std::iter::once(manifest.config).chain(layers).for_each(|blob| needed.add(blob));
            }
            Content::Index(index) => {
                for entry in index.manifests {
                    let is_index = entry.media_type.is_index();
                    if !entry.media_type.is_manifest() && !is_index {
                        needed.add(entry);
                    } else if needed.seen.insert(entry.digest) {
                        if is_index && depth == MAX_INDEX_DEPTH {
                            return Err(target.wrong(TooDeep(entry.digest).into()));
                        }
                        let inner = self.by_digest(store, target, entry.digest, Some(&entry.media_type))?;
                        self.gather(store, target, inner, needed, depth + 1)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What an image consists of, each once however often it is named.
struct Needed<'a> {
    blobs: &'a mut Vec<Descriptor>,
    /// These and the documents.
    seen: &'a mut BTreeSet<Digest>,
}

impl Needed<'_> {
    fn add(&mut self, blob: Descriptor) {
        if self.seen.insert(blob.digest) {
            self.blobs.push(blob);
        }
    }
}
