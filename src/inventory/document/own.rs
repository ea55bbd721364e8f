//! rbuild's own JSON: packages, steps, and what belongs to no package.

use serde::Serialize;

use super::{Base, StagePackages, Step, Subject};
use crate::inventory::Release;
use crate::inventory::merge::Component;
use crate::inventory::origin::Source;
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
    /// What it is made of beside its base; steps name them by their places here.
    #[serde(skip_serializing_if = "<[Source]>::is_empty")]
    sources: &'a [Source],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Made<'a>>,
    /// What stages have that were copied from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<OfStage<'a>>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    copied: Option<From<'a>>,
}

/// Where a package was copied from.
#[derive(Serialize)]
struct From<'a> {
    stage: &'a str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a Step>,
}

#[derive(Serialize)]
struct OfStage<'a> {
    source: usize,
    name: &'a str,
    packages: Vec<Package<'a>>,
    /// Why some are missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<&'a str>,
}

#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    step: &'a Step,
    layer: String,
    #[serde(skip_serializing_if = "<[usize]>::is_empty")]
    sources: &'a [usize],
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
    let packages = subject.history.state.components.iter().map(|component| {
        let event = brought.get(&(component.purl.as_str(), component.path)).filter(|_| subject.by_step);
        let copied = event.and_then(|event| subject.copied(event));
        Package {
            step: event.and_then(|event| Some(subject.step(event.layer)?.number)),
            copied: copied.map(|copied| From {
                stage: &copied.stage.name,
                path: format!("/{}", copied.component.path),
                step: copied.step,
            }),
            ..package(component)
        }
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
        sources: &subject.origins.sources,
        steps: made.collect(),
        stages: subject.stages.iter().filter_map(|packages| stage(subject, packages)).collect(),
        unread: subject.unread.iter().map(|(path, why)| Unread { path: format!("/{path}"), why }).collect(),
    }
}

fn package<'a>(component: &'a Component<'a>) -> Package<'a> {
    Package {
        name: &component.package.name,
        version: &component.package.version,
        kind: component.package.kind.name(),
        purl: &component.purl,
        licences: component.licences.clone(),
        supplier: &component.package.supplier,
        path: format!("/{}", component.path),
        step: None,
        copied: None,
    }
}

fn stage<'a>(subject: &'a Subject<'a>, packages: &'a StagePackages<'a>) -> Option<OfStage<'a>> {
    let Source::Stage(stage) = subject.origins.sources.get(packages.source)? else { return None };
    let components = packages.history.state.components.iter();
    subject.with_stages.then(|| OfStage {
        source: packages.source,
        name: &stage.name,
        packages: components.map(package).collect(),
        absent: packages.absent,
    })
}

fn made<'a>(subject: &'a Subject<'a>, layer: usize) -> Option<Made<'a>> {
    let mut made = Made {
        step: subject.step(layer)?,
        layer: subject.layers.get(layer)?.diff_id.to_string(),
        sources: subject.origins.of_layer.get(layer).map(Vec::as_slice).unwrap_or_default(),
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
