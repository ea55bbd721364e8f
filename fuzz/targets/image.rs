//! Any bytes as manifest, index, configuration or descriptor: what is accepted is written as what is read back as the same,
//! and an image of it can be put together.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use rbuild::image::document::{Content, parse};
use rbuild::oci::image::{Dialect, assemble, assemble_index};
use rbuild::oci::{ChainId, Descriptor, Digest, ImageConfig, Index, Layer, Manifest, Platform, parse_rfc3339, rfc3339};
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|bytes: &[u8]| {
    let config = round_trip::<ImageConfig>(bytes);
    let manifest = round_trip::<Manifest>(bytes);
    let index = round_trip::<Index>(bytes);
    round_trip::<Layer>(bytes);
    round_trip::<Descriptor>(bytes).as_ref().and_then(|descriptor| descriptor.platform.as_ref()).map(platform);
    if let Ok(document) = parse(bytes, None) {
        assert_eq!(document.descriptor.digest, Digest::of(bytes));
        assert_eq!(document.descriptor.size, bytes.len() as u64);
        let media_type = document.descriptor.media_type;
        match document.content {
            Content::Index(found) => assert_eq!((Some(found), media_type.is_manifest()), (index.clone(), false)),
            Content::Manifest(found) => assert_eq!((Some(*found), media_type.is_index()), (manifest, false)),
        }
    }
    if let Some(config) = config {
        image(config);
    }
    if let Some(index) = index {
        let (bytes, descriptor) = assemble_index(index.manifests.clone(), (&index.annotations, Dialect::Oci));
        assert_eq!(Digest::of(&bytes), descriptor.digest);
        let again: Index = serde_json::from_slice(&bytes).expect("what was written can be read");
        assert_eq!((again.manifests, again.annotations), (index.manifests, index.annotations));
    }
});

fn round_trip<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&value).expect("plain data can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(value, again);
    assert_eq!(written, serde_json::to_vec(&again).expect("plain data can be written"));
    Some(value)
}

fn image(config: ImageConfig) {
    platform(&config.platform());
    let _ = ChainId::of(&config.rootfs.diff_ids);
    let created = config.created.as_deref().and_then(parse_rfc3339).unwrap_or(0);
    assert_eq!(parse_rfc3339(&rfc3339(created)), Some(created));
    let history = config.history.clone();
    let image = assemble(config.clone(), history, &[], created, (&config.config.labels, Dialect::Oci));
    assert_eq!(Digest::of(&image.config_bytes), image.config_descriptor.digest);
    let again: ImageConfig = serde_json::from_slice(&image.config_bytes).expect("what was written can be read");
    assert_eq!((&again.config, &again.history), (&config.config, &config.history));
    let manifest: Manifest = serde_json::from_slice(&image.manifest_bytes).expect("what was written can be read");
    assert_eq!(manifest.config, image.config_descriptor);
}

fn platform(platform: &Platform) {
    let normal = platform.clone().normalised();
    assert_eq!(normal, normal.clone().normalised());
    assert_eq!(platform.match_rank(platform), Some(0));
    for other in [Platform::host(), Platform::new("linux", "arm"), normal] {
        let _ = (platform.match_rank(&other), other.match_rank(platform));
    }
}
