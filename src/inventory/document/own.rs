//! rbuild's own JSON: packages, steps, and what belongs to no package.

use serde::Serialize;

use super::{Base, Step, Subject};
use crate::inventory::Release;
use crate::inventory::steps::Change;

#[derive(Serialize)]
pub(super) struct Document<'a> {
    image: &'a str,
    digest: String,
    platform: &'a str,
    created: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<&'a Base>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distribution: Option<&'a Release>,
    packages: Vec<Package<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Made<'a>>,
    /// Files that look as if they told of packages, and could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<Unread<'a>>,
}

#[derive(Serialize)]
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    purl: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licences: Vec<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    supplier: &'a str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
}

#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    step: &'a Step,
    layer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    added: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changed: Vec<Changed<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unowned: Vec<File>,
}

#[derive(Serialize)]
struct Changed<'a> {
    purl: &'a str,
    from: &'a str,
}

#[derive(Serialize)]
struct File {
    path: String,
    size: u64,
}

#[derive(Serialize)]
struct Unread<'a> {
    path: String,
    why: &'a str,
}

pub(super) fn document<'a>(subject: &'a Subject<'a>) -> Document<'a> {
    let brought = subject.brought();
    let packages = subject.history.state.components.iter().map(|component| Package {
        name: &component.package.name,
        version: &component.package.version,
        kind: component.package.kind.name(),
        purl: &component.purl,
        licences: component.licences.clone(),
        supplier: &component.package.supplier,
        path: format!("/{}", component.path),
        step: brought
            .get(&(component.purl.as_str(), component.path))
            .filter(|_| subject.by_step)
            .and_then(|event| Some(subject.step(event.layer)?.number)),
    });
    let steps = if subject.by_step { subject.layers.len() } else { 0 };
    let made = (0..steps).filter_map(|layer| made(subject, layer));
    Document {
        image: &subject.name,
        digest: subject.digest.to_string(),
        platform: &subject.platform,
        created: &subject.created,
        base: subject.base.as_ref(),
        distribution: subject.history.state.release,
        packages: packages.collect(),
        steps: made.collect(),
        unread: subject.unread.iter().map(|(path, why)| Unread { path: format!("/{path}"), why }).collect(),
    }
}

fn made<'a>(subject: &'a Subject<'a>, layer: usize) -> Option<Made<'a>> {
    let mut made = Made {
        step: subject.step(layer)?,
        layer: subject.layers.get(layer)?.diff_id.to_string(),
        added: Vec::new(),
        changed: Vec::new(),
        removed: Vec::new(),
        unowned: Vec::new(),
    };
    for event in subject.history.events.iter().filter(|event| event.layer == layer) {
        let purl = event.component.purl.as_str();
        match &event.change {
            Change::Added => made.added.push(purl),
            Change::Changed { from } => made.changed.push(Changed { purl, from }),
            Change::Removed => made.removed.push(purl),
        }
    }
    let files = subject.unowned.iter().filter(|file| file.layer == layer);
    made.unowned = files.map(|file| File { path: format!("/{}", file.path), size: file.size }).collect();
    Some(made)
}
