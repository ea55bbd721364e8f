//! Images from the store into registries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use super::answer::Asked;
use super::error::Error;
use super::pull::in_parallel;
use super::upload::{Upload, Way};
use super::{Client, Progress, Target, resolve};
use crate::config::Place;
use crate::http::{Method, Payload, Request};
use crate::image::{Content, Document, MANIFEST_LIMIT, document};
use crate::oci::{Descriptor, Digest, MAX_INDEX_DEPTH, Reference, TooDeep};
use crate::store::Store;
use crate::sync::lock;

impl Client {
    /// Uploads the image or index `image` with everything it names and puts it under each of `references`.
    /// Blobs that a repository already has are not sent; those that this client has seen in another
    /// repository of the same registry, or that the store has from there, are mounted. Tags appear last, so no one sees half an image; one that
    /// stands for the image already is left alone. Several registries are served at once.
    ///
    /// # Errors
    /// The first one; blobs that were uploaded stay in the registry.
    pub fn push(
        &self,
        store: &Store,
        image: &Descriptor,
        references: &[Reference],
        progress: &Progress,
    ) -> Result<(), Error> {
        self.push_supplied((store, &|_| Ok(())), image, references, progress)
    }

    /// As [`Client::push`]; layers that the store does not have, and that have to be sent, are asked for from `supply`.
    ///
    /// # Errors
    /// The first one; blobs that were uploaded stay in the registry.
    pub fn push_supplied(
        &self,
        (store, supply): (&Store, &Supply<'_>),
        image: &Descriptor,
        references: &[Reference],
        progress: &Progress,
    ) -> Result<(), Error> {
        let parts = Parts::load(store, image)?;
        self.note_origins(store, &parts, references);
        let mut registries: BTreeMap<String, Vec<(&Reference, Place)>> = BTreeMap::new();
        for reference in references {
            let place = self.place_to_push(reference)?;
            registries.entry(place.registry.clone()).or_default().push((reference, place));
        }
        let registries: Vec<Vec<(&Reference, Place)>> = registries.into_values().collect();
        let stop = AtomicBool::new(false);
        in_parallel(registries.len(), &registries, &stop, |names| {
            self.push_to_registry(&Sending { store, supply, progress, stop: &stop }, &parts, names)
        })
    }

    /// Uploads one blob ahead of the image that will name it; an image that is pushed later finds it there. Whether bytes were
    /// sent.
    ///
    /// # Errors
    /// The first one. [`Error::Stopped`] soon after `stop` was set.
    pub fn push_blob(
        &self,
        (store, supply): (&Store, &Supply<'_>),
        blob: &Descriptor,
        references: &[Reference],
        progress: &Progress,
        stop: &AtomicBool,
    ) -> Result<bool, Error> {
        let mut is_sent = false;
        let mut done = BTreeSet::new();
        for reference in references {
            let place = self.place_to_push(reference)?;
            if done.insert((place.registry.clone(), place.repository.clone())) {
                let sending = Sending { store, supply, progress, stop };
                is_sent |= self.send_blob(&sending, &Target::push(reference, &place), blob)? == Way::Sent;
            }
        }
        Ok(is_sent)
    }

    /// One registry's repositories one after the other: what the first has the others mount.
    fn push_to_registry(
        &self,
        sending: &Sending<'_>,
        parts: &Parts,
        names: &[(&Reference, Place)],
    ) -> Result<(), Error> {
        let mut done: BTreeSet<&str> = BTreeSet::new();
        for (reference, place) in names {
            let target = Target::push(reference, place);
            if done.insert(&place.repository) {
                let limit = self.inner.settings.parallel_blobs;
                in_parallel(limit, &parts.blobs, sending.stop, |blob| {
                    self.send_blob(sending, &target, blob).map(drop)
                })?;
                in_parallel(limit, &parts.manifests, sending.stop, |manifest| {
                    self.put_manifest(&target, manifest, &manifest.descriptor.digest.to_string())
                })?;
            }
            self.put_manifest(&target, &parts.top, &reference.wanted())?;
        }
        Ok(())
    }

    fn send_blob(&self, sending: &Sending<'_>, target: &Target<'_>, blob: &Descriptor) -> Result<Way, Error> {
        // What goes to a second repository meanwhile is mounted there when this is over.
        let _turn = self.inner.sending.enter((target.registry().to_owned(), blob.digest));
        let way = Upload { client: self, sending, target: *target, blob }.run()?;
        self.remember(target, [blob.digest]);
        if way == Way::Sent {
            sending.progress.bytes(&blob.digest, blob.size, blob.size);
        }
        Ok(way)
    }

    fn put_manifest(&self, target: &Target<'_>, manifest: &Stored, name: &str) -> Result<(), Error> {
        let Stored { descriptor, bytes } = manifest;
        let path = target.path(&format!("manifests/{name}"));
        let known = self.call(target, None, &resolve::accepting(Method::HEAD, path.clone()))?;
        let digest = known.header("docker-content-digest").filter(|_| known.status == 200);
        if digest.and_then(|text| text.parse().ok()) == Some(descriptor.digest) {
            return Ok(());
        }
        let request = Request::new(Method::PUT, path)
            .header("content-type", descriptor.media_type.as_str())
            .payload(Payload::Bytes(bytes));
        let response = self.call(target, None, &request)?;
        match response.status.as_u16() {
            200..=202 => Ok(()),
            _ => Err(self.refusal(target, Asked::Upload, response)),
        }
    }

    /// Remembers what a repository has.
    pub(super) fn remember(&self, target: &Target<'_>, blobs: impl IntoIterator<Item = Digest>) {
        let place = (target.registry().to_owned(), target.place.repository.clone());
        let mut seen = lock(&self.inner.seen);
        for digest in blobs {
            seen.entry(digest).or_default().insert(place.clone());
        }
    }

    /// Whether the repository is known to have the blob.
    pub(super) fn has(&self, target: &Target<'_>, digest: &Digest) -> bool {
        let seen = lock(&self.inner.seen);
        let here = target.place;
        let is_here = |(registry, repository): &(String, String)| {
            *registry == here.registry && *repository == here.repository
        };
        seen.get(digest).is_some_and(|places| places.iter().any(is_here))
    }

    /// Another repository of the same registry that has the blob, or had it when the store fetched it.
    pub(super) fn other_home(&self, target: &Target<'_>, digest: &Digest) -> Option<String> {
        let here = target.place;
        let in_places = |places: &BTreeSet<(String, String)>| {
            let mut places = places.iter();
            let place = places
                .find(|(registry, repository)| *registry == here.registry && *repository != here.repository);
            place.map(|(_, repository)| repository.clone())
        };
        let seen = lock(&self.inner.seen).get(digest).and_then(in_places);
        seen.or_else(|| lock(&self.inner.origins).get(digest).and_then(in_places))
    }

    /// Notes where the store has blobs of an image from, if that is a registry that it is pushed to. Whatever cannot be
    /// found out is sent.
    fn note_origins(&self, store: &Store, parts: &Parts, references: &[Reference]) {
        let is_wanted =
            |origin: &Reference| references.iter().any(|name| name.registry() == origin.registry());
        let wanted: BTreeSet<Digest> = parts.blobs.iter().map(|blob| blob.digest).collect();
        for fetched in store.fetched().unwrap_or_default() {
            if !is_wanted(&fetched.reference) {
                continue;
            }
            let Ok(place) = self.place_to_push(&fetched.reference) else { continue };
            let mut blobs = Vec::new();
            blobs_here(store, &fetched.target, &mut blobs, 0);
            let mut origins = lock(&self.inner.origins);
            for digest in blobs.into_iter().filter(|digest| wanted.contains(digest)) {
                let origin = (place.registry.clone(), place.repository.clone());
                origins.entry(digest).or_default().insert(origin);
            }
        }
    }
}

/// The blobs of an image, or of those images of an index whose manifests are in the store.
fn blobs_here(store: &Store, image: &Descriptor, blobs: &mut Vec<Digest>, depth: u32) {
    let Ok(bytes) = store.read_blob(image, MANIFEST_LIMIT) else { return };
    match document::parse(&bytes, Some(image.media_type.as_str())).map(|document| document.content) {
        Ok(Content::Manifest(manifest)) => blobs.extend(manifest.layers.iter().map(|layer| layer.digest)),
        Ok(Content::Index(index)) if depth < MAX_INDEX_DEPTH => {
            index.manifests.iter().for_each(|entry| blobs_here(store, entry, blobs, depth + 1));
        }
        _ => {}
    }
}

/// Brings a blob into the store that is not there, as far as somebody knows where it is.
pub type Supply<'a> = dyn Fn(&Descriptor) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Sync + 'a;

/// What all uploads of one push share.
pub(super) struct Sending<'a> {
    pub(super) store: &'a Store,
    pub(super) supply: &'a Supply<'a>,
    pub(super) progress: &'a Progress,
    pub(super) stop: &'a AtomicBool,
}

/// A manifest or an index of the store.
struct Stored {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

/// Everything that an image consists of, each once.
struct Parts {
    /// Layers and configurations.
    blobs: Vec<Descriptor>,
    /// Those that an index names, each before the index that names it.
    manifests: Vec<Stored>,
    /// The image or index itself.
    top: Stored,
}

impl Parts {
    fn load(store: &Store, image: &Descriptor) -> Result<Self, Error> {
        let (mut blobs, mut manifests) = (Vec::new(), Vec::new());
        gather(store, image, &mut BTreeSet::new(), &mut blobs, &mut manifests, 0)?;
        let top = manifests.pop().expect("gather() ends with what it was asked for");
        Ok(Self { blobs, manifests, top })
    }
}

/// Lists what `image` names, then the image itself.
fn gather(
    store: &Store,
    image: &Descriptor,
    seen: &mut BTreeSet<Digest>,
    blobs: &mut Vec<Descriptor>,
    manifests: &mut Vec<Stored>,
    depth: u32,
) -> Result<(), Error> {
    if image.media_type.is_index() && depth > MAX_INDEX_DEPTH {
        return Err(Error::NotPushable { image: image.digest, reason: TooDeep(image.digest).into() });
    }
    let bytes = store.read_blob(image, MANIFEST_LIMIT)?;
    let Document { descriptor, content } = document::parse(&bytes, Some(image.media_type.as_str()))
        .map_err(|reason| Error::NotPushable { image: image.digest, reason })?;
    match content {
        Content::Manifest(manifest) => {
            let all = manifest.layers.into_iter().chain([manifest.config]);
            blobs.extend(all.filter(|blob| seen.insert(blob.digest)));
        }
        Content::Index(index) => {
            for entry in &index.manifests {
                if !seen.contains(&entry.digest) {
                    gather(store, entry, seen, blobs, manifests, depth + 1)?;
                }
            }
        }
    }
    seen.insert(image.digest);
    manifests.push(Stored { descriptor, bytes });
    Ok(())
}
