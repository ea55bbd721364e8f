//! Puts an image together: configuration and manifest as bytes, and their descriptors.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Descriptor, Digest, History, ImageConfig, Layer, Manifest, MediaType, RootFs, Seconds, rfc3339};

/// An image whose every byte is decided, ready to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// The configuration blob.
    pub config_bytes: Vec<u8>,
    /// Points at it.
    pub config_descriptor: Descriptor,
    /// The manifest blob.
    pub manifest_bytes: Vec<u8>,
    /// Points at it, and names the platform.
    pub manifest_descriptor: Descriptor,
    /// The configuration as a value.
    pub config: ImageConfig,
}

/// Whose media types manifests and indexes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// OCI's.
    #[default]
    Oci,
    /// Docker's, schema 2.
    Docker,
}

impl Dialect {
    fn of(self, media_type: &MediaType) -> MediaType {
        match self {
            Dialect::Oci => media_type.to_oci_layer(),
            Dialect::Docker => media_type.to_dockers(),
        }
    }
}

/// Makes the image of `config` (whose `created`, `rootfs` and `history` are replaced) and `layers`, lowest first.
///
/// All media types are those of the dialect: Docker's and OCI's mean the same bytes. Each
/// entry of `history` that is no `empty_layer` belongs to one layer: the caller sees to that. Keys come in the order
/// of Go's encoder and BuildKit's types: the configuration on one line, the manifest indented.
pub fn assemble(
    config: ImageConfig,
    history: Vec<History>,
    layers: &[Layer],
    created: Seconds,
    (annotations, dialect): (&BTreeMap<String, String>, Dialect),
) -> Assembled {
    let diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let rootfs = RootFs { diff_ids, ..RootFs::default() };
    let config = ImageConfig { created: Some(rfc3339(created)), rootfs, history, ..config };
    let config_bytes = json(&config, serde_json::to_vec);
    let config_descriptor = describe(dialect.of(&MediaType::CONFIG), &config_bytes);
    let media_type = dialect.of(&MediaType::MANIFEST);
    let layer = |layer: &Layer| Descriptor {
        media_type: dialect.of(&layer.descriptor.media_type),
        ..layer.descriptor.clone()
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type.clone()),
        config: config_descriptor.clone(),
        layers: layers.iter().map(layer).collect(),
        annotations: annotations.clone(),
    };
    let manifest_bytes = json(&manifest, serde_json::to_vec_pretty);
    let mut manifest_descriptor = describe(media_type, &manifest_bytes);
    manifest_descriptor.platform = Some(config.platform());
    Assembled { config_bytes, config_descriptor, manifest_bytes, manifest_descriptor, config }
}

/// The bytes of an index over several images, and its descriptor.
pub fn assemble_index(
    manifests: Vec<Descriptor>,
    (annotations, dialect): (&BTreeMap<String, String>, Dialect),
) -> (Vec<u8>, Descriptor) {
    let media_type = dialect.of(&MediaType::INDEX);
    let index = super::Index {
        schema_version: 2,
        media_type: Some(media_type.clone()),
        manifests,
        annotations: annotations.clone(),
    };
    let bytes = json(&index, serde_json::to_vec_pretty);
    let descriptor = describe(media_type, &bytes);
    (bytes, descriptor)
}

fn describe(media_type: MediaType, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
}

fn json<T: Serialize>(value: &T, encode: fn(&T) -> serde_json::Result<Vec<u8>>) -> Vec<u8> {
    encode(value).expect("the types of this module have string keys and no failing serialisers")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oci::DiffId;

    fn layer(media_type: MediaType) -> Layer {
        Layer {
            descriptor: Descriptor::new(media_type, Digest::of(b"blob"), 4),
            diff_id: DiffId(Digest::of(b"tar")),
        }
    }

    #[test]
    fn an_image_without_layers_has_empty_lists() {
        let config = ImageConfig {
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            ..ImageConfig::default()
        };
        let image = assemble(config, Vec::new(), &[], 0, (&BTreeMap::new(), Dialect::Oci));
        assert_eq!(
            String::from_utf8(image.config_bytes).unwrap(),
            r#"{"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]},"history":[]}"#
        );
        assert!(String::from_utf8(image.manifest_bytes).unwrap().contains(r#""layers": []"#));
        assert_eq!(image.manifest_descriptor.platform.unwrap().to_string(), "linux/amd64");
    }

    #[test]
    fn docker_layers_get_oci_names() {
        let config = ImageConfig { os: "linux".to_owned(), ..ImageConfig::default() };
        let layers = [layer(MediaType::DOCKER_LAYER_GZIP), layer(MediaType::LAYER_ZSTD)];
        let annotations =
            BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
        let own = (&annotations, Dialect::Oci);
        let image = assemble(config.clone(), vec![History::default()], &layers, 1_700_000_000, own);
        let manifest: Manifest = serde_json::from_slice(&image.manifest_bytes).unwrap();
        let types: Vec<_> = manifest.layers.iter().map(|l| l.media_type.clone()).collect();
        assert_eq!(types, [MediaType::LAYER_GZIP, MediaType::LAYER_ZSTD]);
        assert_eq!(manifest.config, image.config_descriptor);
        assert_eq!(image.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(Digest::of(&image.manifest_bytes), image.manifest_descriptor.digest);
        let dockers = assemble(config, Vec::new(), &layers[..1], 0, (&BTreeMap::new(), Dialect::Docker));
        let manifest: Manifest = serde_json::from_slice(&dockers.manifest_bytes).unwrap();
        assert_eq!(dockers.manifest_descriptor.media_type, MediaType::DOCKER_MANIFEST);
        assert_eq!(manifest.config.media_type, MediaType::DOCKER_CONFIG);
        assert_eq!(manifest.layers[0].media_type, MediaType::DOCKER_LAYER_GZIP);
    }
}
