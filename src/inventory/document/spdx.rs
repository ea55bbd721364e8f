//! SPDX 2.3, as JSON.

mod sources;

use std::collections::BTreeMap;

use serde::Serialize;

use super::licence::licences;
use super::{Subject, TOOL, content_hash, short_hash};
use crate::inventory::merge::Component;
use crate::inventory::steps::Change;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    has_extracted_licensing_infos: Vec<Extracted>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct CreationInfo {
    creators: Vec<String>,
    created: String,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Package {
    name: String,
    #[serde(rename = "SPDXID")]
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version_info: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<String>,
    download_location: String,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: String,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extracted {
    license_id: String,
    extracted_text: String,
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";
const NOTHING: &str = "NOASSERTION";

pub(super) fn document(subject: &Subject<'_>) -> Document {
    let mut packages = vec![image(subject)];
    let mut relationships = vec![relationship(DOCUMENT, "DESCRIBES", IMAGE)];
    if let Some(base) = &subject.base {
        let mut package = plain(base.name.clone(), "SPDXRef-Base".to_owned());
        package.version_info = base.digest.clone().unwrap_or_default();
        package.checksums = base.digest.as_deref().and_then(checksum).into_iter().collect();
        package.primary_package_purpose = Some("CONTAINER");
        packages.push(package);
        relationships.push(relationship(IMAGE, "DESCENDANT_OF", "SPDXRef-Base"));
    }
    if subject.by_step {
        for number in 0..subject.layers.len() {
            let layer = layer(subject, number);
            relationships.push(relationship(IMAGE, "CONTAINS", &layer.id));
            packages.push(layer);
        }
    }
    let mut made_of = sources::MadeOf::of(subject);
    packages.append(&mut made_of.packages);
    relationships.append(&mut made_of.relationships);
    let brought = subject.brought();
    let mut extracted = made_of.extracted;
    for component in &subject.history.state.components {
        let event = brought.get(&(component.purl.as_str(), component.path)).filter(|_| subject.by_step);
        let mut package = of_component(component, "Package", &mut extracted);
        package.comment = event.and_then(|event| subject.told(event));
        if let Some(copied) = event.and_then(|event| subject.copied(event)).filter(|_| subject.with_stages) {
            let there = sources::package_id(copied.number, copied.component);
            relationships.push(relationship(&package.id, "COPY_OF", &there));
        }
        let holder = event.map_or_else(|| IMAGE.to_owned(), |event| layer_id(event.layer));
        relationships.push(relationship(&holder, "CONTAINS", &package.id));
        packages.push(package);
    }
    let extracted = extracted.into_iter();
    let mut document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        name: subject.name.clone(),
        document_namespace: String::new(),
        creation_info: CreationInfo {
            creators: vec![format!("Tool: {TOOL}")],
            created: subject.created.clone(),
        },
        packages,
        has_extracted_licensing_infos: extracted
            .map(|(license_id, text)| Extracted { license_id, name: one_line(&text), extracted_text: text })
            .collect(),
        relationships,
    };
    // Other contents have another name.
    let contents = content_hash(&document);
    document.document_namespace =
        format!("https://spdx.org/spdxdocs/{TOOL}-{}-{}", subject.digest.hex(), &contents[..32]);
    document
}

/// A package; `kind` is what its identifier begins with.
fn of_component(component: &Component<'_>, kind: &str, extracted: &mut BTreeMap<String, String>) -> Package {
    let name = component.package.name.clone();
    let id = format!("SPDXRef-{kind}-{}-{}", component.package.kind.name(), short_hash(component));
    let licences = licences(&component.licences);
    let mut package = plain(name, id);
    component.package.version.clone_into(&mut package.version_info);
    let supplier = Some(&component.package.supplier).filter(|supplier| !supplier.is_empty());
    package.supplier = supplier.map(|supplier| format!("Person: {}", one_line(supplier)));
    package.license_declared = licences.expression.unwrap_or_else(|| NOTHING.to_owned());
    package.source_info = Some(format!("found in /{}", component.path));
    package.external_refs.push(ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: component.purl.clone(),
    });
    extracted.extend(licences.extracted);
    package
}

fn plain(name: String, id: String) -> Package {
    Package {
        name,
        id,
        download_location: NOTHING.to_owned(),
        license_concluded: NOTHING,
        license_declared: NOTHING.to_owned(),
        copyright_text: NOTHING,
        ..Package::default()
    }
}

fn image(subject: &Subject<'_>) -> Package {
    let mut package = plain(subject.name.clone(), IMAGE.to_owned());
    package.version_info = subject.digest.to_string();
    package.checksums = checksum(&package.version_info).into_iter().collect();
    package.comment = Some(format!("an image for {}", subject.platform));
    package.primary_package_purpose = Some("CONTAINER");
    package
}

fn layer_id(number: usize) -> String {
    format!("SPDXRef-Layer-{}", number + 1)
}

fn layer(subject: &Subject<'_>, number: usize) -> Package {
    let layer = &subject.layers[number];
    let mut package = plain(format!("layer {}", number + 1), layer_id(number));
    package.version_info = layer.diff_id.to_string();
    package.checksums = checksum(&layer.descriptor.digest.to_string()).into_iter().collect();
    let mut comment = subject.step(number).map(super::Step::words).unwrap_or_default();
    let events = subject.history.events.iter();
    for gone in events.filter(|event| event.layer == number && event.change == Change::Removed) {
        comment.push_str(&format!("\nremoved: {}", gone.component.purl));
    }
    package.comment = Some(comment);
    package.primary_package_purpose = Some("ARCHIVE");
    package
}

fn checksum(digest: &str) -> Option<Checksum> {
    let checksum_value = digest.strip_prefix("sha256:")?.to_owned();
    Some(Checksum { algorithm: "SHA256", checksum_value })
}

fn relationship(element: &str, kind: &'static str, related: &str) -> Relationship {
    Relationship {
        spdx_element_id: element.to_owned(),
        relationship_type: kind,
        related_spdx_element: related.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
