//! From a name to one image: manifest, configuration, layers.

use std::collections::BTreeSet;

use ureq::http::Method;

use super::answer::Asked;
use super::document::{self, Content, Document};
use super::error::Error;
use super::transport::Request;
use super::{CONFIG_LIMIT, Client, MANIFEST_LIMIT, Target};
use crate::oci::{
    Descriptor, DiffId, Digest, ImageConfig, Index, Layer, MAX_INDEX_DEPTH, Manifest, MediaType, Platform,
    Reference, TooDeep,
};
use crate::store::{self, Store};

/// Entries of an index that do not say their platform are opened to see, so many of them.
const MAX_UNMARKED: usize = 16;

/// An image that a name stands for, for one platform.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The name under which it was found: a short name may mean one that a configuration says.
    pub reference: Reference,
    /// The image's own manifest (never an index). Its blob is in the store.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration. Its blob, `manifest.config`, is in the store.
    pub config: ImageConfig,
    /// The layers, lowest first: each descriptor of the manifest with its identity from the configuration.
    pub layers: Vec<Layer>,
    /// The index that the name stands for, when it is one. Its blob is in the store.
    pub index: Option<Descriptor>,
}

impl Resolved {
    /// The digest that the name stands for: that of the index if there is one, else of the manifest.
    pub fn digest(&self) -> Digest {
        self.index.as_ref().unwrap_or(&self.descriptor).digest
    }
}

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
    ) -> Result<Resolved, Error> {
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

    fn resolve_named(&self, store: &Store, name: &Reference, platform: &Platform) -> Result<Resolved, Error> {
        let places = self.places(name)?;
        self.at_each_place(name, &places, |target| self.resolve_at(store, target, platform))
    }

    fn resolve_at(&self, store: &Store, target: Target<'_>, platform: &Platform) -> Result<Resolved, Error> {
        let target = &target;
        let reference = target.reference;
        let top = self.top(store, target)?;
        let (index, chosen) = match top.content {
            Content::Manifest(manifest) => (None, Chosen { descriptor: top.descriptor, manifest }),
            Content::Index(index) => {
                let chosen = self.choose(store, target, &index, platform, &mut BTreeSet::new(), 0)?;
                let chosen = chosen.ok_or_else(|| no_platform(target, platform, &index))?;
                (Some(top.descriptor), chosen)
            }
        };
        let Chosen { descriptor, manifest } = chosen;
        let config = self.config(store, target, &manifest)?;
        let layers = layers(target, &manifest, &config)?;
        self.remember(target, layers.iter().map(|layer| layer.descriptor.digest));
        self.found(target);
        Ok(Resolved { reference: reference.clone(), descriptor, manifest: *manifest, config, layers, index })
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
            Some(bytes) => document::parse(&target.image(), &bytes, announced.map(MediaType::as_str)),
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
        let document = document::parse(&image, &bytes, announced.as_deref());
        let actual = Digest::of(&bytes);
        if let Some(expected) = expected.or(claimed).filter(|expected| *expected != actual) {
            // Registries convert on request; then the header names what they have, not what they sent.
            if matches!(document, Err(Error::Schema1 { .. })) {
                return document;
            }
            return Err(Error::DigestMismatch { image, expected, actual });
        }
        let document = document?;
        store.put_blob(&bytes)?;
        Ok(document)
    }

    /// The manifest of an index that fits `platform` best. An index that was `tried` in vain is not opened again.
    fn choose(
        &self,
        store: &Store,
        target: &Target<'_>,
        index: &Index,
        platform: &Platform,
        tried: &mut BTreeSet<Digest>,
        depth: u32,
    ) -> Result<Option<Chosen>, Error> {
        for entry in candidates(index, platform) {
            if tried.contains(&entry.digest) {
                continue;
            }
            let document = self.by_digest(store, target, entry.digest, Some(&entry.media_type))?;
            let descriptor = Descriptor { platform: entry.platform.clone(), ..document.descriptor };
            match document.content {
                Content::Index(inner) if depth < MAX_INDEX_DEPTH => {
                    tried.insert(entry.digest);
                    let found = self.choose(store, target, &inner, platform, tried, depth + 1)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Content::Index(_) => return Err(malformed(target, TooDeep(entry.digest).to_string())),
                Content::Manifest(manifest) => {
                    if entry.platform.is_some() || self.runs_on(store, target, &manifest, platform)? {
                        return Ok(Some(Chosen { descriptor, manifest }));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether an image of an index that does not say its platform is for `platform`.
    fn runs_on(
        &self,
        store: &Store,
        target: &Target<'_>,
        manifest: &Manifest,
        platform: &Platform,
    ) -> Result<bool, Error> {
        let kind = &manifest.config.media_type;
        if *kind != MediaType::CONFIG && *kind != MediaType::DOCKER_CONFIG {
            return Ok(false);
        }
        let config = self.config(store, target, manifest)?;
        Ok(platform.match_rank(&config.platform()).is_some())
    }

    /// The configuration that a manifest names, from the store or else from the registry.
    fn config(&self, store: &Store, target: &Target<'_>, manifest: &Manifest) -> Result<ImageConfig, Error> {
        let wanted = &manifest.config;
        let bytes = match stored(store, wanted.digest, CONFIG_LIMIT)? {
            Some(bytes) => bytes,
            None => self.fetch_config(store, target, wanted)?,
        };
        serde_json::from_slice(&bytes)
            .map_err(|e| malformed(target, format!("`{}` is no image configuration: {e}", wanted.media_type)))
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

/// A manifest that was picked.
struct Chosen {
    descriptor: Descriptor,
    manifest: Box<Manifest>,
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

/// The entries worth opening, best first: those that fit by their own word in order of rank and then of the
/// index, then those that do not say.
fn candidates<'a>(index: &'a Index, platform: &Platform) -> Vec<&'a Descriptor> {
    let mut ranked: Vec<(u32, &Descriptor)> = Vec::new();
    let mut unmarked = Vec::new();
    for entry in index.manifests.iter().filter(|entry| is_image(entry)) {
        match &entry.platform {
            Some(offered) => ranked.extend(platform.match_rank(offered).map(|rank| (rank, entry))),
            None => unmarked.push(entry),
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    unmarked.truncate(MAX_UNMARKED);
    ranked.into_iter().map(|(_, entry)| entry).chain(unmarked).collect()
}

/// Attestations of BuildKit sit in the index beside the images they are about.
fn is_image(entry: &Descriptor) -> bool {
    let unknown = |p: &Platform| p.os == "unknown" || p.architecture == "unknown";
    (entry.media_type.is_manifest() || entry.media_type.is_index())
        && !entry.annotations.contains_key("vnd.docker.reference.type")
        && !entry.platform.as_ref().is_some_and(unknown)
}

fn no_platform(target: &Target<'_>, wanted: &Platform, index: &Index) -> Error {
    let offered = index.manifests.iter().filter(|entry| is_image(entry));
    let offered = offered.filter_map(|entry| entry.platform.clone().map(Platform::normalised));
    let mut seen = BTreeSet::new();
    let available = offered.filter(|platform| seen.insert(platform.clone())).collect();
    Error::NoPlatform { image: target.image(), wanted: Box::new(wanted.clone()), available }
}

fn layers(target: &Target<'_>, manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Layer>, Error> {
    let diff_ids: &[DiffId] = &config.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        let reason = format!(
            "the manifest has {} layers, the configuration (`{}`) {}",
            manifest.layers.len(),
            manifest.config.media_type,
            diff_ids.len()
        );
        return Err(malformed(target, reason));
    }
    let pairs = manifest.layers.iter().zip(diff_ids);
    Ok(pairs
        .map(|(descriptor, diff_id)| Layer { descriptor: descriptor.clone(), diff_id: *diff_id })
        .collect())
}

pub(super) fn malformed(target: &Target<'_>, reason: String) -> Error {
    Error::Malformed { image: target.image(), reason }
}
