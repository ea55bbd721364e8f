//! From a name to one image: manifest, configuration, layers.

use super::answer::Asked;
use super::error::Error;
use super::{Client, Target};
use crate::http::{Method, Request};
use crate::image::{self, CONFIG_LIMIT, Document, Documents, Fault, MANIFEST_LIMIT, PlatformImage, document};
use crate::oci::{Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, Reference};
use crate::store::{self, Store};

impl Client {
    /// Finds the image that `reference` stands for on `platform`, and stores its manifest and configuration;
    /// no layer is fetched. What the store already has is not fetched again: an image by digest that was
    /// resolved before needs no network, one by tag a single HEAD request.
    ///
    /// An index must have the platform; a single manifest is taken as it is, whatever its platform, as
    /// BuildKit does. Everything is verified against its digest.
    ///
    /// # Errors
    /// Any of [`Error`] but [`Error::Interrupted`].
    pub fn resolve(
        &self,
        store: &Store,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<PlatformImage, Error> {
        let names = self.candidates(reference)?;
        let (last, others) = names.split_last().expect("a name means at least itself");
        for name in others {
            match self.resolve_named(store, name, platform) {
                Err(error) if error.is_not_there() => {}
                outcome => return outcome,
            }
        }
        self.resolve_named(store, last, platform)
    }

    fn resolve_named(
        &self,
        store: &Store,
        name: &Reference,
        platform: &Platform,
    ) -> Result<PlatformImage, Error> {
        let places = self.places(name)?;
        self.at_each_place(name, &places, |target| self.resolve_at(store, target, platform))
    }

    fn resolve_at(
        &self,
        store: &Store,
        target: Target<'_>,
        platform: &Platform,
    ) -> Result<PlatformImage, Error> {
        let target = &target;
        let top = self.top(store, target)?;
        let image = image::resolve(&InRepository { client: self, store, target }, top, platform)?;
        self.remember(target, image.layers.iter().map(|layer| layer.descriptor.digest));
        self.found(target);
        Ok(PlatformImage { remote: Some(target.reference.clone()), ..image })
    }

    /// The document that the name itself stands for.
    pub(super) fn top(&self, store: &Store, target: &Target<'_>) -> Result<Document, Error> {
        if let Some(digest) = target.reference.digest() {
            return self.by_digest(store, target, digest, None);
        }
        match self.ask_digest(target)? {
            Some(digest) if store.has_blob(&digest).is_some() => self.by_digest(store, target, digest, None),
            _ => self.fetch(store, target, &target.reference.wanted(), None),
        }
    }

    /// The digest of a tag by a HEAD request, which registries do not count against limits; `None` when the
    /// registry does not say, or says no: then GET tells why.
    fn ask_digest(&self, target: &Target<'_>) -> Result<Option<Digest>, Error> {
        let path = target.path(&format!("manifests/{}", target.reference.wanted()));
        let response = self.call(target, None, &accepting(Method::HEAD, path))?;
        let digest = response.header("docker-content-digest").filter(|_| response.status == 200);
        Ok(digest.and_then(|text| text.parse().ok()))
    }

    pub(super) fn by_digest(
        &self,
        store: &Store,
        target: &Target<'_>,
        digest: Digest,
        announced: Option<&MediaType>,
    ) -> Result<Document, Error> {
        match stored(store, digest, MANIFEST_LIMIT)? {
            Some(bytes) => {
                document::parse(&bytes, announced.map(MediaType::as_str)).map_err(|fault| target.wrong(fault))
            }
            None => self.fetch(store, target, &digest.to_string(), Some(digest)),
        }
    }

    /// GETs a manifest and stores it.
    fn fetch(
        &self,
        store: &Store,
        target: &Target<'_>,
        wanted: &str,
        expected: Option<Digest>,
    ) -> Result<Document, Error> {
        let image = target.image();
        let request = accepting(Method::GET, target.path(&format!("manifests/{wanted}")));
        let (response, bytes) =
            self.document(target, &request, Asked::Manifest, ("manifest", MANIFEST_LIMIT))?;
        let announced = response.header("content-type").map(str::to_owned);
        let claimed = response.header("docker-content-digest").and_then(|text| text.parse().ok());
        let document = document::parse(&bytes, announced.as_deref());
        let actual = Digest::of(&bytes);
        if let Some(expected) = expected.or(claimed).filter(|expected| *expected != actual) {
            // Registries convert on request; then the header names what they have, not what they sent.
            if matches!(document, Err(Fault::Schema1)) {
                return document.map_err(|fault| target.wrong(fault));
            }
            return Err(Error::DigestMismatch { image, expected, actual });
        }
        let document = document.map_err(|fault| target.wrong(fault))?;
        store.put_blob(&bytes)?;
        Ok(document)
    }

    /// The configuration that a manifest names, from the store or else from the registry.
    fn config(&self, store: &Store, target: &Target<'_>, manifest: &Manifest) -> Result<ImageConfig, Error> {
        let wanted = &manifest.config;
        let bytes = match stored(store, wanted.digest, CONFIG_LIMIT)? {
            Some(bytes) => bytes,
            None => self.fetch_config(store, target, wanted)?,
        };
        document::parse_config(&bytes, wanted).map_err(|fault| target.wrong(fault))
    }

    fn fetch_config(
        &self,
        store: &Store,
        target: &Target<'_>,
        wanted: &Descriptor,
    ) -> Result<Vec<u8>, Error> {
        let image = target.image();
        let (what, limit) = ("image configuration", CONFIG_LIMIT);
        if wanted.size > limit {
            return Err(Error::TooLarge { image, what, size: format!("{} bytes", wanted.size), limit });
        }
        let request = Request::new(Method::GET, target.path(&format!("blobs/{}", wanted.digest)));
        let (_, bytes) = self.document(target, &request, Asked::Blob(wanted.digest), (what, limit))?;
        let actual = Digest::of(&bytes);
        if actual != wanted.digest {
            return Err(Error::DigestMismatch { image, expected: wanted.digest, actual });
        }
        store.put_blob(&bytes)?;
        Ok(bytes)
    }
}

/// The documents of a repository; those that the store has come from there.
struct InRepository<'a> {
    client: &'a Client,
    store: &'a Store,
    target: &'a Target<'a>,
}

impl Documents for InRepository<'_> {
    type Error = Error;

    fn document(&self, entry: &Descriptor) -> Result<Document, Error> {
        self.client.by_digest(self.store, self.target, entry.digest, Some(&entry.media_type))
    }

    fn config(&self, manifest: &Manifest) -> Result<ImageConfig, Error> {
        self.client.config(self.store, self.target, manifest)
    }

    fn wrong(&self, fault: Fault) -> Error {
        self.target.wrong(fault)
    }
}

impl Target<'_> {
    /// The error for documents that the registry gave, and that are wrong.
    pub(super) fn wrong(&self, fault: Fault) -> Error {
        Error::wrong(self.image(), fault)
    }
}

pub(super) fn accepting(method: Method, path: String) -> Request<'static> {
    let types = [MediaType::INDEX, MediaType::MANIFEST, MediaType::DOCKER_LIST, MediaType::DOCKER_MANIFEST];
    let accept: Vec<&str> = types.iter().map(MediaType::as_str).collect();
    Request::new(method, path).header("accept", accept.join(", "))
}

/// A small blob of the store; `None` when it is not there, or was damaged and has been set aside.
fn stored(store: &Store, digest: Digest, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(size) = store.has_blob(&digest) else { return Ok(None) };
    // The store wants a descriptor; only digest and size of it count.
    match store.read_blob(&Descriptor::new(MediaType::MANIFEST, digest, size), limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(
            store::Error::NotFound { .. } | store::Error::Damaged { .. } | store::Error::WrongSize { .. },
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
