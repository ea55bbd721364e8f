//! Manifests and blobs of a repository that are no image's: what is kept beside images, read and written as bytes.
//!
//! Manifests that are already there under their digest are written again: registries have no compare-and-swap.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::answer::Asked;
use super::error::Error;
use super::resolve::accepting;
use super::{Access, Client, Target};
use crate::config::Place;
use crate::http::{Method, Payload, Request, percent_encoded};
use crate::image::MANIFEST_LIMIT;
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Reference};
use crate::sync::lock;

/// Names on one page of a listing.
const PAGE: usize = 1000;
/// More pages of names are not read.
const PAGES: usize = 50;
/// A page of names is read up to here.
const PAGE_LIMIT: u64 = 4 << 20;

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Client {
    /// The manifest under `reference`, as bytes; `None` when the repository has none, or there is no such repository. Its
    /// repository is known from then on to have the blobs that it names.
    pub fn manifest(&self, reference: &Reference) -> Result<Option<Vec<u8>>, Error> {
        let place = self.place_to_push(reference)?;
        let target = Target { reference, place: &place, access: Access::Pull };
        let request = accepting(Method::GET, target.path(&format!("manifests/{}", reference.wanted())));
        let answer = self.document(&target, &request, Asked::Manifest, ("manifest", MANIFEST_LIMIT));
        let (_, bytes) = match answer {
            Ok(answer) => answer,
            Err(Error::UnknownManifest { .. } | Error::UnknownRepository { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
            let blobs = manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest);
            self.remember(&target, blobs);
        }
        Ok(Some(bytes))
    }

    /// Puts a manifest under `reference`. The blobs that it names must be there.
    pub fn write_manifest(
        &self,
        reference: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let place = self.place_to_push(reference)?;
        let target = Target::push(reference, &place);
        let request = Request::new(Method::PUT, target.path(&format!("manifests/{}", reference.wanted())))
            .header("content-type", media_type.as_str())
            .payload(Payload::Bytes(bytes));
        let response = self.call(&target, None, &request)?;
        match response.status.as_u16() {
            200..=202 => Ok(()),
            _ => Err(self.refusal(&target, Asked::Upload, response)),
        }
    }

    /// The tags of a repository that begin with `prefix`, in their order. A registry that cannot tell has none.
    pub fn tags_that_begin_with(&self, reference: &Reference, prefix: &str) -> Result<Vec<String>, Error> {
        let place = self.place_to_push(reference)?;
        let target = Target { reference, place: &place, access: Access::Pull };
        let (mut last, mut found) = (prefix.to_owned(), BTreeSet::new());
        for _ in 0..PAGES {
            let path = target.path(&format!("tags/list?n={PAGE}&last={}", percent_encoded(&last)));
            let request = Request::new(Method::GET, path);
            let answer = self.document(&target, &request, Asked::Manifest, ("list of tags", PAGE_LIMIT));
            let (response, bytes) = match answer {
                Ok(answer) => answer,
                Err(Error::UnknownManifest { .. } | Error::UnknownRepository { .. }) => break,
                Err(error) => return Err(error),
            };
            let page = serde_json::from_slice::<Tags>(&bytes).ok().and_then(|page| page.tags);
            let page = page.unwrap_or_default();
            let Some(end) = page.iter().max().cloned() else { break };
            found.extend(page.iter().filter(|tag| tag.starts_with(prefix)).cloned());
            // Others do not heed `last` and give everything at once.
            if response.header("link").is_none() || end <= last || !end.starts_with(prefix) {
                break;
            }
            last = end;
        }
        Ok(found.into_iter().collect())
    }

    /// Removes the manifest under `reference`; whether the registry let that happen.
    pub fn delete_manifest(&self, reference: &Reference) -> Result<bool, Error> {
        let place = self.place_to_push(reference)?;
        let target = Target::push(reference, &place);
        let path = target.path(&format!("manifests/{}", reference.wanted()));
        let known = self.call(&target, None, &accepting(Method::HEAD, path))?;
        let Some(digest) = known.header("docker-content-digest").filter(|_| known.status == 200) else {
            return Ok(false);
        };
        let request = Request::new(Method::DELETE, target.path(&format!("manifests/{digest}")));
        Ok(self.call(&target, None, &request)?.status == 202)
    }

    /// A small blob, verified.
    pub fn read_blob(&self, reference: &Reference, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let place = self.place_to_push(reference)?;
        let target = Target { reference, place: &place, access: Access::Pull };
        let request = Request::new(Method::GET, target.path(&format!("blobs/{}", blob.digest)));
        let (_, bytes) = self.document(&target, &request, Asked::Blob(blob.digest), ("blob", blob.size))?;
        match Digest::of(&bytes) {
            actual if actual == blob.digest => Ok(bytes),
            actual => Err(Error::DigestMismatch { image: target.image(), expected: blob.digest, actual }),
        }
    }

    /// Keeps a small blob, unless the repository is known to have it; whether it was sent.
    pub fn write_blob(&self, reference: &Reference, bytes: &[u8]) -> Result<bool, Error> {
        let place = self.place_to_push(reference)?;
        let target = Target::push(reference, &place);
        let digest = Digest::of(bytes);
        if self.has(&target, &digest) {
            return Ok(false);
        }
        let begin = Request::new(Method::POST, target.path("blobs/uploads/")).payload(Payload::Bytes(&[]));
        let begun = self.call(&target, None, &begin)?;
        let Some(location) = begun.location().filter(|_| begun.status == 202) else {
            return Err(self.refusal(&target, Asked::Upload, begun));
        };
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", percent_encoded(&digest.to_string()));
        let request = Request::new(Method::PUT, url)
            .header("content-type", "application/octet-stream")
            .payload(Payload::Bytes(bytes));
        let response = self.call(&target, None, &request)?;
        match response.status.as_u16() {
            200 | 201 | 204 => {
                self.remember(&target, [digest]);
                Ok(true)
            }
            _ => Err(self.refusal(&target, Asked::Upload, response)),
        }
    }

    /// The repository of `reference` turned out not to have blobs.
    pub fn forget_blobs(
        &self,
        reference: &Reference,
        blobs: impl IntoIterator<Item = Digest>,
    ) -> Result<(), Error> {
        let place = self.place_to_push(reference)?;
        let here = (place.registry, place.repository);
        let mut seen = lock(&self.inner.seen);
        for digest in blobs {
            if let Some(places) = seen.get_mut(&digest) {
                places.remove(&here);
            }
        }
        Ok(())
    }

    /// Whether the repository of `reference` is known to have a blob: a manifest there names it, or it was sent.
    pub fn knows_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool, Error> {
        let place: Place = self.place_to_push(reference)?;
        Ok(self.has(&Target::push(reference, &place), digest))
    }
}
