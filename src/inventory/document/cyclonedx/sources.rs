//! What an image is made of, as the pedigree of its component: the base and all that was taken from elsewhere are its ancestors. They are no
//! components of the document, which scanners take for the image's own.

use super::{Component, Hash, Property, component, property};
use crate::inventory::document::{Base, StagePackages, Step, Subject};
use crate::inventory::origin::{Source, Stage, users};

use serde::Serialize;

/// What a component comes from.
#[derive(Serialize, Default)]
pub(super) struct Pedigree {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ancestors: Vec<Component>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    commits: Vec<Commit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
}

#[derive(Serialize)]
struct Commit {
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Reference {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

/// The name of a source in the document.
pub(super) fn reference(source: usize) -> String {
    format!("source-{}", source + 1)
}

/// Of the image; nothing where nothing is known.
pub(super) fn pedigree(subject: &Subject<'_>) -> Option<Pedigree> {
    let base = subject.base.iter().map(|base| image(base, "base".to_owned()));
    let sources = users(subject.origins).into_iter().filter_map(|(number, layers)| {
        let source = subject.origins.sources.get(number)?;
        let packages = subject.stages.iter().enumerate().find(|(_, stage)| stage.source == number);
        let mut found = of_source(source, number, packages.filter(|_| subject.with_stages));
        let steps = layers.iter().filter_map(|layer| subject.step(*layer)).filter(|_| subject.by_step);
        found.properties.extend(steps.map(|step| property("rbuild:taken-by", step.words())));
        Some(found)
    });
    let ancestors: Vec<Component> = base.chain(sources).collect();
    (!ancestors.is_empty()).then(|| Pedigree { ancestors, ..Pedigree::default() })
}

fn of_source(source: &Source, number: usize, packages: Option<(usize, &StagePackages<'_>)>) -> Component {
    let id = reference(number);
    match source {
        Source::Stage(stage) => of_stage(stage, id, packages),
        Source::Image(found) => image(found, id),
        Source::Http { url, digest } => Component {
            reference: id,
            kind: "file",
            name: url.clone(),
            hashes: hashes(digest.as_deref()),
            external_references: referred("distribution", url, None),
            ..Component::default()
        },
        Source::Git { url, commit } => repository(url.clone(), Some(url), commit.as_deref(), id),
        Source::Context { name, repository: url, commit, path } => {
            let called = if name.is_empty() { "context".to_owned() } else { format!("context {name}") };
            let mut found = repository(called, url.as_deref(), commit.as_deref(), id);
            let folder = (!path.is_empty()).then(|| property("rbuild:folder", path.clone()));
            found.properties.extend(folder);
            if let Some(pedigree) = &mut found.pedigree {
                pedigree.notes =
                    Some("the commit that was checked out; files may have been changed since".to_owned());
            }
            found
        }
    }
}

fn of_stage(stage: &Stage, id: String, packages: Option<(usize, &StagePackages<'_>)>) -> Component {
    let steps = stage.layers.iter().map(|(_, step)| property("rbuild:step", step.words()));
    let base = stage.base.iter().map(|base| image(base, format!("{id}-base")));
    let ancestors: Vec<Component> = base.collect();
    Component {
        kind: "container",
        name: format!("stage {}", stage.name),
        properties: steps.collect(),
        components: packages.map(|(number, packages)| in_stage(number, packages)).unwrap_or_default(),
        pedigree: (!ancestors.is_empty()).then(|| Pedigree { ancestors, ..Pedigree::default() }),
        reference: id,
        ..Component::default()
    }
}

/// Packages that a stage has, and the image maybe not.
fn in_stage(number: usize, stage: &StagePackages<'_>) -> Vec<Component> {
    let of = |found| {
        let step: Option<&Step> = stage.history.brought(found).and_then(|event| stage.steps.get(event.layer));
        let brought = step.map(|step| property("rbuild:step", format!("brought by {}", step.words())));
        component(found, &format!("in-stage-{}-", number + 1), brought.into_iter().collect())
    };
    stage.history.state.components.iter().map(of).collect()
}

fn image(found: &Base, id: String) -> Component {
    Component {
        reference: id,
        kind: "container",
        name: found.name.clone(),
        version: found.digest.clone().unwrap_or_default(),
        hashes: hashes(found.digest.as_deref()),
        ..Component::default()
    }
}

fn repository(name: String, url: Option<&str>, commit: Option<&str>, id: String) -> Component {
    let place = url.map(|url| url.split('#').next().unwrap_or(url));
    let commits = commit
        .map(|uid| Commit { uid: uid.to_owned(), url: place.filter(|url| is_url(url)).map(str::to_owned) });
    let commits: Vec<Commit> = commits.into_iter().collect();
    Component {
        reference: id,
        kind: "application",
        name,
        version: commit.unwrap_or_default().to_owned(),
        external_references: place.map(|url| referred("vcs", url, commit)).unwrap_or_default(),
        pedigree: (!commits.is_empty()).then(|| Pedigree { commits, ..Pedigree::default() }),
        ..Component::default()
    }
}

fn referred(kind: &'static str, url: &str, commit: Option<&str>) -> Vec<Reference> {
    let comment = commit.map(|commit| format!("commit {commit}"));
    is_url(url).then(|| Reference { kind, url: url.to_owned(), comment }).into_iter().collect()
}

/// Whether it can stand where the schema wants a URL.
fn is_url(url: &str) -> bool {
    url.contains("://")
        && !url.contains(|c: char| c.is_whitespace() || c.is_control() || "<>\"{}|\\^`".contains(c))
}

fn hashes(digest: Option<&str>) -> Vec<Hash> {
    let hex = digest.and_then(|digest| digest.strip_prefix("sha256:"));
    hex.map(|hex| Hash { alg: "SHA-256", content: hex.to_owned() }).into_iter().collect()
}

/// The stage that a package was copied from.
pub(super) fn copied_from(subject: &Subject<'_>, number: usize) -> Option<Property> {
    let stage = subject.stages.get(number)?;
    Some(property("rbuild:copied-from", reference(stage.source)))
}
