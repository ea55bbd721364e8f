//! Images from the store into registries.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;

use ureq::http::Method;

use super::answer::Asked;
use super::auth::percent_encode;
use super::document::{self, Content, Document};
use super::error::Error;
use super::pull::in_parallel;
use super::retry::Schedule;
use super::transport::{Payload, Request, Response};
use super::{Client, MANIFEST_LIMIT, Progress, Target};
use crate::oci::{Descriptor, Digest, Layer, Manifest, Reference};
use crate::store::Store;

impl Client {
    /// Uploads the image or index `image` with everything it names and puts it under each of `references`.
    /// Blobs that a repository already has are not sent; those that this client has seen in another
    /// repository of the same registry are mounted. Tags appear last, so no one sees half an image.
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
        let mut done: BTreeSet<(&str, &str)> = BTreeSet::new();
        for reference in references {
            let target = Target::push(reference);
            let first = done.insert((reference.registry(), reference.repository()));
            if first {
                self.push_content(store, &target, image, progress)?;
            }
            self.put_manifest(store, &target, image, &reference.wanted())?;
        }
        Ok(())
    }

    /// Everything below the manifest or index itself.
    fn push_content(
        &self,
        store: &Store,
        target: &Target<'_>,
        image: &Descriptor,
        progress: &Progress,
    ) -> Result<(), Error> {
        match load(store, target, image)?.content {
            Content::Manifest(manifest) => self.push_blobs(store, target, &manifest, progress),
            Content::Index(index) => {
                for entry in &index.manifests {
                    self.push_content(store, target, entry, progress)?;
                    self.put_manifest(store, target, entry, &entry.digest.to_string())?;
                }
                Ok(())
            }
        }
    }

    fn push_blobs(
        &self,
        store: &Store,
        target: &Target<'_>,
        manifest: &Manifest,
        progress: &Progress,
    ) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        let blobs: Vec<&Descriptor> = blobs.filter(|blob| seen.insert(blob.digest)).collect();
        let stop = AtomicBool::new(false);
        in_parallel(self.inner.settings.parallel_blobs, &blobs, &stop, |blob| {
            let upload = Upload { client: self, store, target: *target, blob };
            upload.run()?;
            progress.bytes(&blob.digest, blob.size, blob.size);
            Ok(())
        })
    }

    fn put_manifest(
        &self,
        store: &Store,
        target: &Target<'_>,
        image: &Descriptor,
        name: &str,
    ) -> Result<(), Error> {
        let bytes = store.read_blob(image, MANIFEST_LIMIT)?;
        let media_type = load(store, target, image)?.descriptor.media_type;
        let request = Request::new(Method::PUT, target.path(&format!("manifests/{name}")))
            .header("content-type", media_type.as_str())
            .payload(Payload::Bytes(&bytes));
        let response = self.call(target, None, &request)?;
        match response.status.as_u16() {
            200..=202 => Ok(()),
            _ => Err(self.refusal(target, Asked::Upload, response)),
        }
    }

    /// Remembers where layers can be had from.
    pub(super) fn remember(&self, reference: &Reference, layers: &[Layer]) {
        let place = (reference.registry().to_owned(), reference.repository().to_owned());
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in layers {
            seen.entry(layer.descriptor.digest).or_default().insert(place.clone());
        }
    }

    /// Another repository of the same registry that has the blob.
    fn other_home(&self, target: &Target<'_>, digest: &Digest) -> Option<String> {
        let seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let here = target.reference;
        let mut places = seen.get(digest)?.iter();
        let place = places
            .find(|(registry, repository)| registry == here.registry() && repository != here.repository());
        place.map(|(_, repository)| repository.clone())
    }
}

fn load(store: &Store, target: &Target<'_>, image: &Descriptor) -> Result<Document, Error> {
    let bytes = store.read_blob(image, MANIFEST_LIMIT)?;
    document::parse(&target.image(), &bytes, Some(image.media_type.as_str()))
}

/// One blob on its way out.
struct Upload<'a> {
    client: &'a Client,
    store: &'a Store,
    target: Target<'a>,
    blob: &'a Descriptor,
}

impl Upload<'_> {
    /// Brings the blob there. An upload that went wrong is begun anew: how much of it arrived is unknown.
    fn run(&self) -> Result<(), Error> {
        let known = Request::new(Method::HEAD, self.target.path(&format!("blobs/{}", self.blob.digest)));
        if self.client.call(&self.target, None, &known)?.status == 200 {
            return Ok(());
        }
        let mut schedule = Schedule::new(&self.client.inner.settings);
        let mut response = match self.client.other_home(&self.target, &self.blob.digest) {
            Some(from) => self.mount(&from)?,
            None => self.begin()?,
        };
        loop {
            if response.status == 202 {
                response = self.send(&response)?;
            }
            let wait = match response.status.as_u16() {
                200 | 201 | 204 => return Ok(()),
                400 | 404 | 416 => schedule.next(None),
                _ => None,
            };
            let Some(wait) = wait else {
                return Err(self.client.refusal(&self.target, Asked::Upload, response));
            };
            std::thread::sleep(wait);
            response = self.begin()?;
        }
    }

    /// Asks to have the blob from another repository; a registry that cannot begins an upload instead.
    fn mount(&self, from: &str) -> Result<Response, Error> {
        let query = format!("blobs/uploads/?mount={}&from={}", self.blob.digest, percent_encode(from));
        let request = Request::new(Method::POST, self.target.path(&query)).payload(Payload::Bytes(&[]));
        let scope = format!("repository:{from}:pull");
        match self.client.call(&self.target, Some(&scope), &request) {
            Ok(response) if matches!(response.status.as_u16(), 201 | 202) => Ok(response),
            // Who may not read there may still write here.
            _ => self.begin(),
        }
    }

    fn begin(&self) -> Result<Response, Error> {
        let request =
            Request::new(Method::POST, self.target.path("blobs/uploads/")).payload(Payload::Bytes(&[]));
        self.client.call(&self.target, None, &request)
    }

    /// The whole blob in one PUT to the place that the registry named (distribution-spec, "POST then PUT").
    fn send(&self, begun: &Response) -> Result<Response, Error> {
        let Some(place) = begun.location() else {
            let reason = "it began an upload without saying where".to_owned();
            return Err(Error::Malformed { image: self.target.image(), reason });
        };
        let separator = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{separator}digest={}", percent_encode(&self.blob.digest.to_string()));
        let path = self.store.blob_path(&self.blob.digest);
        let request = Request::new(Method::PUT, url)
            .header("content-type", "application/octet-stream")
            .payload(Payload::File(&path, self.blob.size));
        self.client.call(&self.target, None, &request)
    }
}
