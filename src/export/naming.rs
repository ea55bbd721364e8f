//! The small files that tell readers of a layout or an archive which image is which.

use std::collections::BTreeMap;

use serde::Serialize;

use super::contents::{Contents, Image};
use crate::image;
use crate::oci::{Descriptor, Digest, Index, MediaType, Platform, Reference};

/// The tag alone (image-spec, "Pre-Defined Annotation Keys"; BuildKit writes it so).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full name, in containerd's words.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The content of `oci-layout`.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image with the names that it has in a layout or an archive.
#[derive(Debug)]
pub(super) struct Named<'c> {
    pub(super) contents: &'c Contents,
    pub(super) names: Vec<Reference>,
    /// Its entries in `index.json`.
    pub(super) entries: Vec<Descriptor>,
}

/// What lies beside images, as an archive has it: under no name.
pub(super) fn referrers<'c>(contents: &'c Contents, entries: &[Descriptor]) -> Named<'c> {
    Named { contents, names: Vec::new(), entries: entries.to_vec() }
}

/// The entry of `index.json` that calls the image `label`, as skopeo writes it.
pub(super) fn labelled(root: &Descriptor, label: &str) -> Descriptor {
    let mut entry = root.clone();
    entry.annotations.insert(REF_NAME.to_owned(), label.to_owned());
    entry
}

/// The entries of `index.json`: one for each name, or one without a name.
pub(crate) fn entries(
    root: &Descriptor,
    names: &[Reference],
    annotations: &BTreeMap<String, String>,
) -> Vec<Descriptor> {
    let mut plain = root.clone();
    plain.annotations.extend(annotations.clone());
    if names.is_empty() {
        return vec![plain];
    }
    let named = names.iter().map(|name| {
        let mut entry = plain.clone();
        entry.annotations.insert(REF_NAME.to_owned(), name.wanted());
        entry.annotations.insert(CONTAINERD_NAME.to_owned(), name.clone().with_default_tag().full());
        entry
    });
    named.collect()
}

/// Whether an entry is the index of what is kept beside an image: `sha256-HEX` (distribution-spec, "Referrers Tag Schema").
pub(crate) fn is_of_referrers(entry: &Descriptor) -> bool {
    let label = entry.annotations.get(REF_NAME).filter(|_| !entry.annotations.contains_key(CONTAINERD_NAME));
    label.is_some_and(|label| label.strip_prefix("sha256-").is_some_and(|hex| hex.len() == 64))
        && entry.media_type.is_index()
}

/// The entry of the index of what is kept beside the image of this digest.
pub fn entry_of_referrers(subject: &Digest, index: &Descriptor) -> Descriptor {
    labelled(index, &subject.referrers_tag())
}

/// The bytes of an `index.json`.
pub(crate) fn index(manifests: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Vec<u8> {
    json(&Index { schema_version: 2, media_type: Some(MediaType::INDEX), manifests, annotations })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Docker's `manifest.json`. It knows nothing of platforms: of an image that has several, it names the one that
/// runs on this machine, else the first. `None` when there is no image.
pub(super) fn docker_manifest(images: &[Named<'_>]) -> Option<Vec<u8>> {
    let blob = |descriptor: &Descriptor| format!("blobs/sha256/{}", descriptor.digest.hex());
    let entry = |named: &Named<'_>| {
        let image = for_this_machine(&named.contents.images)?;
        Some(DockerImage {
            config: blob(&image.manifest.config),
            repo_tags: docker_names(&named.names),
            layers: image.manifest.layers.iter().map(blob).collect(),
        })
    };
    let entries: Vec<DockerImage> = images.iter().filter_map(entry).collect();
    (!entries.is_empty()).then(|| json(&entries))
}

/// Docker's older `repositories`: name, tag, uppermost layer. `None` when nothing is named.
pub(super) fn docker_repositories(images: &[Named<'_>]) -> Option<Vec<u8>> {
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for named in images {
        let top = for_this_machine(&named.contents.images).and_then(|image| image.manifest.layers.last());
        let Some(top) = top else { continue };
        for name in docker_names(&named.names) {
            let (repository, tag) = name.rsplit_once(':').expect("docker_names gives names with tags");
            repositories.entry(repository.to_owned()).or_default().insert(tag.to_owned(), top.digest.hex());
        }
    }
    (!repositories.is_empty()).then(|| json(&repositories))
}

/// As docker shows them: `debian:latest`. Names by digest cannot be loaded.
pub(crate) fn docker_names(names: &[Reference]) -> Vec<String> {
    let tagged = names.iter().filter(|name| name.digest().is_none());
    tagged.map(|name| name.clone().with_default_tag().to_string()).collect()
}

fn for_this_machine(images: &[Image]) -> Option<&Image> {
    let best = image::best(&Platform::host(), images, |image| image.descriptor.platform.clone());
    best.or(images.first())
}

fn json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("these types have string keys and no failing serialisers")
}
