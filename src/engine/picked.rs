//! What of an image goes to an engine: one platform of it, or all.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Error, Load};
use crate::image::{Image, StoredPlatform};
use crate::oci::{Descriptor, DiffId, Manifest, Platform};

/// The image of one platform.
pub(super) struct Picked {
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Arc<Manifest>,
    pub(super) diff_ids: Vec<DiffId>,
    /// The platform, if there was a choice.
    pub(super) chosen: Option<Platform>,
}

/// All that a name stands for.
pub(super) struct Whole {
    pub(super) target: Descriptor,
    /// Manifests, indexes and configurations.
    pub(super) documents: Vec<Descriptor>,
    /// Layers, each once, here or not.
    pub(super) layers: Vec<Descriptor>,
    /// Manifests of images.
    pub(super) count: usize,
    /// Whether one of the images is for another platform than this machine's.
    pub(super) is_foreign: bool,
}

/// The image that runs on this machine; an image for one platform is that, whichever.
pub(super) fn one(load: &Load<'_>) -> Result<Picked, Error> {
    let image = Image::read(load.store, load.target)?;
    let host = Platform::host();
    let platforms = &image.platforms;
    let found = match platforms.as_slice() {
        [only] => Some(only),
        _ => image.for_platform(&host),
    };
    let found = found.ok_or_else(|| Error::NoPlatform {
        wanted: Box::new(host.clone()),
        offered: platforms.iter().filter_map(StoredPlatform::platform).map(|p| p.to_string()).collect(),
    })?;
    let config = found.config.as_deref().ok_or(Error::NoFiles { digest: found.descriptor.digest })?;
    let diff_ids = config.rootfs.diff_ids.clone();
    if diff_ids.len() != found.manifest.layers.len() {
        return Err(Error::NoFiles { digest: found.descriptor.digest });
    }
    let chosen = (platforms.len() > 1).then(|| found.platform()).flatten();
    Ok(Picked {
        descriptor: found.descriptor.clone(),
        manifest: Arc::clone(&found.manifest),
        diff_ids,
        chosen,
    })
}

/// All of it.
pub(super) fn whole(load: &Load<'_>) -> Result<Whole, Error> {
    let image = Image::read(load.store, load.target)?;
    let mut seen = BTreeSet::new();
    let layers = image.platforms.iter().flat_map(|platform| &platform.manifest.layers);
    let layers: Vec<Descriptor> = layers.filter(|layer| seen.insert(layer.digest)).cloned().collect();
    // What is no layer is here: an image whose documents are missing is none.
    let documents = image.blobs.iter().filter(|(digest, _)| !seen.contains(*digest));
    let documents = documents
        .map(|(digest, size)| Descriptor::new(crate::oci::MediaType::CONFIG, *digest, *size))
        .collect();
    let host = Platform::host();
    let is_foreign =
        image.platforms.iter().any(|p| p.platform().is_some_and(|p| host.match_rank(&p).is_none()));
    Ok(Whole { target: load.target.clone(), documents, layers, count: image.platforms.len(), is_foreign })
}
