//! What a store has.

use std::path::Path;

use super::Error;
use crate::image::{self, CONFIG_LIMIT, MANIFEST_LIMIT};
use crate::oci::{Descriptor, Reference};
use crate::pipeline::diagnose_store;
use crate::store::{self, Store};

/// The images of a store. It is an OCI image layout, too, which other programs read.
#[derive(Debug)]
pub struct Images {
    store: Store,
}

/// An image, as far as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// `sha256:…` of the manifest, or of the index over several platforms.
    pub digest: String,
    /// The image of each platform.
    pub platforms: Vec<PlatformImage>,
}

/// The image of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlatformImage {
    /// Such as `linux/amd64`; none where its configuration is not here.
    pub platform: Option<String>,
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// Its manifest, as JSON.
    pub manifest: String,
    /// Its configuration, as JSON, if it is here.
    pub config: Option<String>,
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// From the lowest up.
    pub layers: Vec<Layer>,
}

/// A layer, compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// `sha256:…` of its blob.
    pub digest: String,
    /// Of its blob.
    pub size_bytes: u64,
}

impl Images {
    /// Those of the store in that folder, which is made where there is none.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn open(store: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self { store: Store::open(store.as_ref()).map_err(refused)? })
    }

    /// Names and digests, sorted by name.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn list(&self) -> Result<Vec<(String, String)>, Error> {
        let tags = self.store.tags().map_err(refused)?;
        let mut names: Vec<_> =
            tags.iter().map(|(name, target)| (name.to_string(), target.digest.to_string())).collect();
        names.sort();
        Ok(names)
    }

    /// The image of that name.
    ///
    /// # Errors
    /// There is none, or its documents cannot be read.
    pub fn inspect(&self, name: &str) -> Result<Image, Error> {
        let reference: Reference =
            name.parse().map_err(|error| Error::plain(format!("`{name}`: {error}")))?;
        let target = self.store.tag(&reference).map_err(refused)?;
        let target = target.ok_or_else(|| Error::plain(format!("no image `{name}` in the local store")))?;
        let found = image::Image::read(&self.store, &target).map_err(refused)?;
        let platforms = found.platforms.iter().map(|platform| self.platform(platform));
        Ok(Image { digest: target.digest.to_string(), platforms: platforms.collect::<Result<_, _>>()? })
    }

    fn platform(&self, found: &image::StoredPlatform) -> Result<PlatformImage, Error> {
        let text = |descriptor: &Descriptor, limit| {
            let bytes = self.store.read_blob(descriptor, limit).map_err(refused)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let config = found.config.as_ref();
        let labels = config.iter().flat_map(|config| config.config.labels.clone()).collect();
        Ok(PlatformImage {
            platform: found.platform().map(|platform| platform.to_string()),
            digest: found.descriptor.digest.to_string(),
            manifest: text(&found.descriptor, MANIFEST_LIMIT)?,
            config: config.map(|_| text(&found.manifest.config, CONFIG_LIMIT)).transpose()?,
            labels,
            layers: found
                .manifest
                .layers
                .iter()
                .map(|layer| Layer { digest: layer.digest.to_string(), size_bytes: layer.size })
                .collect(),
        })
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: store::Error) -> Error {
    Error::of(&[diagnose_store(&error)])
}
