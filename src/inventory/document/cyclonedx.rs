//! CycloneDX 1.6, as JSON.

mod sources;

use serde::Serialize;

use super::licence::valid;
use super::{Subject, content_hash, short_hash};
use crate::inventory::merge;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

#[derive(Serialize)]
struct Metadata {
    timestamp: String,
    tools: Tools,
    component: Component,
}

#[derive(Serialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Component {
    #[serde(rename = "bom-ref", skip_serializing_if = "String::is_empty")]
    reference: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Organisation>,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Licence>,
    #[serde(skip_serializing_if = "String::is_empty")]
    purl: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pedigree: Option<sources::Pedigree>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<sources::Reference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
}

#[derive(Serialize)]
struct Organisation {
    name: String,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Licence {
    Expression(String),
    License(Named),
}

#[derive(Serialize)]
struct Named {
    name: String,
}

#[derive(Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

#[derive(Serialize)]
struct Evidence {
    occurrences: Vec<Occurrence>,
}

#[derive(Serialize)]
struct Occurrence {
    location: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    depends_on: Vec<String>,
}

const IMAGE: &str = "image";

pub(super) fn document(subject: &Subject<'_>) -> Document {
    let brought = subject.brought();
    let release = subject.history.state.release.map(|release| Component {
        reference: "operating-system".to_owned(),
        kind: "operating-system",
        name: release.id.clone(),
        version: release.version.clone(),
        ..Component::default()
    });
    let packages = subject.history.state.components.iter().map(|found| {
        let event = brought.get(&(found.purl.as_str(), found.path)).filter(|_| subject.by_step);
        let mut properties = Vec::new();
        if let Some(event) = event {
            properties.extend(subject.told(event).map(|told| property("rbuild:step", told)));
            let layer = subject.layers.get(event.layer).map(|layer| layer.diff_id.to_string());
            properties.extend(layer.map(|layer| property("rbuild:layer", layer)));
            let copied = subject.copied(event);
            properties.extend(copied.and_then(|copied| sources::copied_from(subject, copied.number)));
        }
        component(found, "", properties)
    });
    let components: Vec<Component> = release.into_iter().chain(packages).collect();
    let depends_on = components.iter().map(|component| component.reference.clone()).collect();
    let mut document = Document {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: String::new(),
        version: 1,
        metadata: Metadata {
            timestamp: subject.created.clone(),
            tools: Tools {
                components: vec![Component {
                    kind: "application",
                    name: "rbuild".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..Component::default()
                }],
            },
            component: image(subject),
        },
        components,
        dependencies: vec![Dependency { reference: IMAGE.to_owned(), depends_on }],
    };
    document.serial_number = serial_number(&content_hash(&document));
    document
}

/// A package; `prefix` is what its reference begins with.
fn component(found: &merge::Component<'_>, prefix: &str, more: Vec<Property>) -> Component {
    let package = found.package;
    let supplier = Some(&package.supplier).filter(|supplier| !supplier.is_empty());
    let kind = package.kind.name();
    let mut properties = vec![property("rbuild:type", kind.to_owned())];
    properties.extend(more);
    Component {
        reference: format!("{prefix}{kind}-{}", short_hash(found)),
        kind: "library",
        supplier: supplier.map(|name| Organisation { name: name.clone() }),
        name: package.name.clone(),
        version: package.version.clone(),
        licenses: licences(&found.licences),
        purl: found.purl.clone(),
        properties,
        evidence: Some(Evidence { occurrences: vec![Occurrence { location: format!("/{}", found.path) }] }),
        ..Component::default()
    }
}

fn image(subject: &Subject<'_>) -> Component {
    Component {
        reference: IMAGE.to_owned(),
        kind: "container",
        name: subject.name.clone(),
        version: subject.digest.to_string(),
        hashes: vec![Hash { alg: "SHA-256", content: subject.digest.hex() }],
        pedigree: sources::pedigree(subject),
        properties: vec![property("rbuild:platform", subject.platform.clone())],
        ..Component::default()
    }
}

/// One expression, or names: a list has either (so says the schema).
fn licences(said: &[&str]) -> Vec<Licence> {
    let said: Vec<&str> = said.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
    if let [only] = said.as_slice()
        && let Some(expression) = valid(only)
    {
        return vec![Licence::Expression(expression)];
    }
    said.into_iter().map(|name| Licence::License(Named { name: name.to_owned() })).collect()
}

fn property(name: &'static str, value: String) -> Property {
    Property { name, value }
}

/// A UUID of version 8, of the hash of what the document says.
fn serial_number(contents: &str) -> String {
    let mut hex: Vec<char> = contents.chars().take(32).collect();
    (hex[12], hex[16]) = ('8', '8');
    let hex: String = hex.into_iter().collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("urn:uuid:{}", parts.join("-"))
}
