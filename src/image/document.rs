//! Manifests and indexes from bytes, whichever of the two they are.

use serde::Deserialize;

use super::Fault;
use crate::oci::{Descriptor, Digest, ImageConfig, Index, Manifest, MediaType};

/// A manifest or an index, with the descriptor of its exact bytes.
#[derive(Debug, Clone)]
pub struct Document {
    /// Of its bytes.
    pub descriptor: Descriptor,
    /// What they say.
    pub content: Content,
}

/// The two kinds of documents that a name can stand for.
#[derive(Debug, Clone)]
pub enum Content {
    /// A list of manifests.
    Index(Index),
    /// One image.
    Manifest(Box<Manifest>),
}

/// The fields that tell one from the other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<MediaType>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Reads `bytes`. `announced` is the media type by which they came; the document's own word counts more.
///
/// # Errors
/// [`Fault::Malformed`] and [`Fault::Schema1`].
pub fn parse(bytes: &[u8], announced: Option<&str>) -> Result<Document, Fault> {
    let not_json = |e: serde_json::Error| Fault::Malformed(format!("the manifest cannot be read: {e}"));
    let shape: Shape = serde_json::from_slice(bytes).map_err(not_json)?;
    if shape.schema_version == 1 || shape.fs_layers.is_some() {
        return Err(Fault::Schema1);
    }
    if shape.manifests.is_some() && (shape.config.is_some() || shape.layers.is_some()) {
        // Readers that disagree on what it is would see different images under one digest (CVE-2021-41190).
        return Err(Fault::Malformed("it is an index and a manifest at once".to_owned()));
    }
    let is_index = shape.manifests.is_some();
    let media_type = media_type(&shape, announced, is_index);
    if (media_type.is_index() && !is_index) || (media_type.is_manifest() && is_index) {
        return Err(Fault::Malformed(format!("it does not hold what its type `{media_type}` says")));
    }
    let content = if is_index {
        Content::Index(serde_json::from_slice(bytes).map_err(not_json)?)
    } else {
        Content::Manifest(serde_json::from_slice(bytes).map_err(not_json)?)
    };
    let descriptor = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
    Ok(Document { descriptor, content })
}

/// Reads the configuration that a manifest calls `descriptor`.
///
/// # Errors
/// [`Fault::Malformed`].
pub fn parse_config(bytes: &[u8], descriptor: &Descriptor) -> Result<ImageConfig, Fault> {
    let not_one = |e| Fault::Malformed(format!("`{}` is no image configuration: {e}", descriptor.media_type));
    serde_json::from_slice(bytes).map_err(not_one)
}

fn media_type(shape: &Shape, announced: Option<&str>, is_index: bool) -> MediaType {
    let announced = announced
        .map(|text| MediaType::new(text.split(';').next().unwrap_or(text).trim()))
        .filter(|t| t.is_index() || t.is_manifest());
    let fallback = if is_index { MediaType::INDEX } else { MediaType::MANIFEST };
    shape.media_type.clone().or(announced).unwrap_or(fallback)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn kind(text: &str, announced: Option<&str>) -> String {
        match parse(text.as_bytes(), announced) {
            Ok(document) => document.descriptor.media_type.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn tells_manifests_from_indexes() {
        let config = format!(
            r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":1}}"#,
            Digest::of(b"c")
        );
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":null}}"#);
        assert_eq!(kind(&manifest, None), MediaType::MANIFEST.as_str());
        assert_eq!(kind(&manifest, Some("application/json")), MediaType::MANIFEST.as_str());
        let docker = MediaType::DOCKER_MANIFEST;
        assert_eq!(kind(&manifest, Some(docker.as_str())), docker.as_str());
        assert_eq!(kind(r#"{"schemaVersion":2,"manifests":[]}"#, None), MediaType::INDEX.as_str());
    }

    #[test]
    fn refuses_what_is_neither_or_both() {
        for (text, announced, expected) in [
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, None, "schema 1"),
            (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, None, "at once"),
            (r#"{"schemaVersion":2,"manifests":[]}"#, Some(MediaType::MANIFEST.as_str().to_owned()), "says"),
            ("<html>", None, "cannot be read"),
            ("{}", None, "cannot be read"),
        ] {
            let said = kind(text, announced.as_deref());
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
