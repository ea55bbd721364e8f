//! A tag in a registry, which registries and their garbage collectors see as an image like any other.
//!
//! The head is an image manifest without an artifact type, because some registries take no other: its configuration is a few
//! constant bytes, its layers are all blobs that the cache names, and the pack is an annotation, so that one request brings it.
//! A pack too large for that is a blob, named by the annotation. Packs beside the head have tags of their own.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Backend, Content, Error, Head, IS_IMAGE, PackId, Put, Sent, image};
use crate::oci::{Descriptor, Digest, MediaType, Reference};
use crate::registry::{Client, Progress};
use crate::report::Events;
use crate::shared_cache::pack::COMPRESSED_LIMIT;
use crate::store::Store;

/// The pack itself, in base64.
pub(super) const PACK: &str = "io.rbuild.cache.pack.v1";
/// Digest and size of the blob that is the pack.
pub(super) const PACK_BLOB: &str = "io.rbuild.cache.pack-blob.v1";
/// A pack that is larger is a blob: a manifest of 4 MiB is refused, and what it names takes room, too.
const EMBEDDED: usize = 512 << 10;
/// What every configuration of an image has; it says of no file system.
const CONFIG: &str = r#"{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}"#;
/// BuildKit's word for the configuration of its own cache.
pub(super) const OF_BUILDKIT: &str = "application/vnd.buildkit.cacheconfig.v0";

/// A cache under a tag.
pub struct Registry {
    client: Client,
    reference: Reference,
    /// What is under the reference was an image when it was looked at last.
    is_image: AtomicBool,
}

impl Registry {
    /// The cache under `reference`.
    pub fn new(client: Client, reference: Reference) -> Self {
        Self { client, reference, is_image: AtomicBool::new(false) }
    }

    /// Whoever removes or replaces the head has looked at it before.
    fn refuse_image(&self) -> Result<(), Error> {
        let is_image = self.is_image.load(Ordering::Relaxed);
        Head { is_image, ..Head::of_cache(Vec::new(), None) }.refuse_image()
    }

    fn named(&self, tag: &str) -> Result<Reference, Error> {
        let name = format!("{}/{}:{tag}", self.reference.registry(), self.reference.repository());
        name.parse().map_err(|e| Error::Server(format!("`{name}` is no name: {e}")))
    }

    fn tag(&self) -> &str {
        self.reference.tag().unwrap_or("latest")
    }

    fn pack_prefix(&self) -> String {
        format!("{}-p-", self.tag())
    }

    fn write(&self, name: &Reference, pack: &[u8], blobs: &[Descriptor]) -> Result<(), Error> {
        self.client.write_blob(name, CONFIG.as_bytes())?;
        let mut annotations = Map::new();
        let mut layers: Vec<Value> = Vec::new();
        if pack.len() <= EMBEDDED {
            annotations.insert(PACK.to_owned(), STANDARD.encode(pack).into());
        } else {
            self.client.write_blob(name, pack)?;
            let digest = Digest::of(pack);
            annotations.insert(PACK_BLOB.to_owned(), format!("{digest} {}", pack.len()).into());
            layers.push(layer(&digest, pack.len() as u64, &MediaType::LAYER_ZSTD));
        }
        layers.extend(blobs.iter().map(|blob| {
            // Some registries have a list of the types that layers may have.
            let media_type = if blob.media_type == MediaType::OCTET_STREAM {
                &MediaType::LAYER_ZSTD
            } else {
                &blob.media_type
            };
            layer(&blob.digest, blob.size, media_type)
        }));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::MANIFEST,
            "config": {
                "mediaType": MediaType::CONFIG,
                "digest": Digest::of(CONFIG.as_bytes()),
                "size": CONFIG.len(),
            },
            "layers": layers,
            "annotations": annotations,
        });
        Ok(self.client.write_manifest(name, &MediaType::MANIFEST, manifest.to_string().as_bytes())?)
    }

    fn pack_of(&self, name: &Reference, manifest: &[u8]) -> Result<Vec<u8>, Error> {
        let no_pack = |what: &str| Error::NoPack(what.to_owned());
        let manifest: Value = serde_json::from_slice(manifest).map_err(|_| no_pack("it is no manifest"))?;
        if manifest.to_string().contains(OF_BUILDKIT) {
            return Err(no_pack("it is a cache of BuildKit's; give rbuild a name of its own"));
        }
        let annotation = |key: &str| manifest["annotations"][key].as_str();
        if let Some(text) = annotation(PACK) {
            return STANDARD.decode(text).map_err(|_| no_pack("its pack is damaged"));
        }
        let Some(text) = annotation(PACK_BLOB) else { return Err(no_pack(IS_IMAGE)) };
        let blob = text.split_once(' ').and_then(|(digest, size)| {
            let size: u64 = size.parse().ok().filter(|size| *size <= COMPRESSED_LIMIT)?;
            Some(Descriptor::new(MediaType::OCTET_STREAM, digest.parse().ok()?, size))
        });
        Ok(self.client.read_blob(name, &blob.ok_or_else(|| no_pack("its pack is damaged"))?)?)
    }
}

fn layer(digest: &Digest, size: u64, media_type: &MediaType) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

impl Backend for Registry {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn head(&self) -> Result<Option<Head>, Error> {
        let Some(manifest) = self.client.manifest(&self.reference)? else { return Ok(None) };
        let is_image = image::is_image(&manifest);
        self.is_image.store(is_image, Ordering::Relaxed);
        let pack = match is_image {
            true => image::pack(&self.client, &self.reference, &manifest)?.to_bytes(),
            false => self.pack_of(&self.reference, &manifest)?,
        };
        Ok(Some(Head { is_image, ..Head::of_cache(pack, None) }))
    }

    fn put_head(&self, pack: &[u8], blobs: &[Descriptor], _: Option<&Head>) -> Result<Put, Error> {
        self.refuse_image()?;
        self.write(&self.reference, pack, blobs).map(|()| Put::Done)
    }

    fn put_pack(&self, id: &PackId, pack: &[u8], blobs: &[Descriptor]) -> Result<(), Error> {
        self.write(&self.named(&format!("{}{}", self.pack_prefix(), id.0))?, pack, blobs)
    }

    fn packs(&self) -> Result<Vec<PackId>, Error> {
        let prefix = self.pack_prefix();
        let tags = self.client.tags_that_begin_with(&self.reference, &prefix)?;
        Ok(tags.iter().filter_map(|tag| tag.strip_prefix(&prefix)).map(|id| PackId(id.to_owned())).collect())
    }

    fn pack(&self, id: &PackId) -> Result<Option<Vec<u8>>, Error> {
        let name = self.named(&format!("{}{}", self.pack_prefix(), id.0))?;
        let manifest = self.client.manifest(&name)?;
        manifest.map(|manifest| self.pack_of(&name, &manifest)).transpose()
    }

    fn remove_pack(&self, id: &PackId) -> Result<(), Error> {
        let name = self.named(&format!("{}{}", self.pack_prefix(), id.0))?;
        // Many registries do not let anybody; a pack is small.
        self.client.delete_manifest(&name)?;
        Ok(())
    }

    fn remove(&self) -> Result<(), Error> {
        self.refuse_image()?;
        for id in self.packs()? {
            self.remove_pack(&id)?;
        }
        match self.client.delete_manifest(&self.reference)? {
            true => Ok(()),
            false => Err(Error::Server("the registry does not let it be deleted".to_owned())),
        }
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        Ok(self.client.read_blob(&self.reference, blob)?)
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor], _: &Events) -> Result<(), Error> {
        let pulled = self.client.pull_blobs(store, &self.reference, blobs, &Progress::silent());
        if pulled.is_err() {
            // What is not there is to be sent again, though a manifest names it.
            let missing = blobs.iter().filter(|blob| store.has_blob(&blob.digest).is_none());
            self.client.forget_blobs(&self.reference, missing.map(|blob| blob.digest))?;
        }
        Ok(pulled?)
    }

    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error> {
        if self.client.knows_blob(&self.reference, &blob.digest)? {
            return Ok(Sent::Known);
        }
        let sent = match content {
            Content::Bytes(bytes) => self.client.write_blob(&self.reference, bytes)?,
            Content::Stored(store) => {
                let stop = std::sync::atomic::AtomicBool::new(false);
                let (name, progress) = (std::slice::from_ref(&self.reference), Progress::silent());
                self.client.push_blob((store, &|_| Ok(())), blob, name, &progress, &stop)?
            }
        };
        Ok(if sent { Sent::Bytes(blob.size) } else { Sent::Known })
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("reference", &self.reference).finish_non_exhaustive()
    }
}
