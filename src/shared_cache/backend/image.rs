//! An image of a registry as a cache that is only read: the records that its configuration carries (`--cache-to type=inline`).
//!
//! What an image carries names its layers by their number, so it is right also when somebody has compressed them anew on the way. Of
//! an index all images are read: a record's key says which platform it is of.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::registry::{OF_BUILDKIT, PACK, PACK_BLOB};
use super::web::at_once;
use super::{Error, IS_IMAGE};
use crate::image::CONFIG_LIMIT;
use crate::oci::{CarriedRecord, Descriptor, Index, Layer, Manifest, MediaType, Reference, RootFs};
use crate::registry::Client;
use crate::shared_cache::inline;
use crate::shared_cache::pack::Pack;

/// More images of an index are not read.
const IMAGES: usize = 16;

/// The part of a configuration that says what it carries.
#[derive(Deserialize)]
struct Carrier {
    rootfs: RootFs,
    #[serde(rename = "io.rbuild.cache.v1", default)]
    records: Value,
    #[serde(rename = "moby.buildkit.cache.v0", default)]
    of_buildkit: Option<IgnoredAny>,
}

/// What an image has to say.
#[derive(Default)]
struct Carried {
    pack: Pack,
    is_of_buildkit: bool,
}

/// Whether a manifest is an image's, or an index of several, and nobody's cache.
pub(super) fn is_image(manifest: &[u8]) -> bool {
    let text = String::from_utf8_lossy(manifest);
    if [PACK, PACK_BLOB, OF_BUILDKIT].iter().any(|mark| text.contains(mark)) {
        return false;
    }
    let is_config =
        |media_type: &MediaType| *media_type == MediaType::CONFIG || *media_type == MediaType::DOCKER_CONFIG;
    index(manifest).is_some()
        || serde_json::from_slice::<Manifest>(manifest).is_ok_and(|m| is_config(&m.config.media_type))
}

/// The records that an image carries.
///
/// # Errors
/// [`Error::NoPack`] when there are none.
pub(super) fn pack(client: &Client, reference: &Reference, manifest: &[u8]) -> Result<Pack, Error> {
    let carried: Vec<Carried> = match index(manifest) {
        None => vec![carried(client, reference, manifest)?],
        Some(index) => {
            // Attestations have no platform.
            let is_image = |image: &&Descriptor| {
                image.media_type.is_manifest()
                    && image.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
            };
            let images: Vec<&Descriptor> = index.manifests.iter().filter(is_image).take(IMAGES).collect();
            let read = |image: &&Descriptor| of_index(client, reference, image);
            at_once(&images, read).into_iter().collect::<Result<_, Error>>()?
        }
    };
    let is_of_buildkit = carried.iter().any(|carried| carried.is_of_buildkit);
    let mut all = Pack::default();
    carried.into_iter().for_each(|carried| all.entries.extend(carried.pack.entries));
    match (all.entries.is_empty(), is_of_buildkit) {
        (false, _) => Ok(all),
        (true, false) => Err(Error::NoPack(format!("{IS_IMAGE}: it carries no records of rbuild's"))),
        (true, true) => {
            Err(Error::NoPack(format!("{IS_IMAGE}: it carries BuildKit's records and none of rbuild's")))
        }
    }
}

fn index(manifest: &[u8]) -> Option<Index> {
    serde_json::from_slice::<Index>(manifest).ok().filter(|index| !index.manifests.is_empty())
}

fn of_index(client: &Client, reference: &Reference, image: &Descriptor) -> Result<Carried, Error> {
    let name = format!("{}/{}@{}", reference.registry(), reference.repository(), image.digest);
    let reference: Reference =
        name.parse().map_err(|e| Error::Server(format!("`{name}` is no name: {e}")))?;
    match client.manifest(&reference)? {
        Some(manifest) => carried(client, &reference, &manifest),
        None => Ok(Carried::default()),
    }
}

fn carried(client: &Client, reference: &Reference, manifest: &[u8]) -> Result<Carried, Error> {
    let no_pack = |what: &str| Error::NoPack(what.to_owned());
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(|_| no_pack("it is no manifest"))?;
    if manifest.config.size > CONFIG_LIMIT {
        return Err(no_pack("its configuration is too large"));
    }
    let config = client.read_blob(reference, &manifest.config)?;
    let Ok(carrier) = serde_json::from_slice::<Carrier>(&config) else { return Ok(Carried::default()) };
    let diff_ids = &carrier.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(no_pack("its layers are not those of its configuration"));
    }
    let layers = manifest.layers.iter().zip(diff_ids).map(|(layer, diff_id)| Layer {
        descriptor: Descriptor::new(layer.media_type.to_oci_layer(), layer.digest, layer.size),
        diff_id: *diff_id,
    });
    // What another version wrote there is nothing to this one.
    let records: Vec<CarriedRecord> = serde_json::from_value(carrier.records).unwrap_or_default();
    let pack = inline::pack(records, &layers.collect::<Vec<Layer>>());
    Ok(Carried { pack, is_of_buildkit: carrier.of_buildkit.is_some() })
}
