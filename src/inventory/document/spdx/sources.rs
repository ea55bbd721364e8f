//! What an image is made of, as packages and relationships: stages, images, files, repositories, contexts.

use std::collections::BTreeMap;

use super::{
    IMAGE, NOTHING, Package, Relationship, Subject, checksum, layer_id, of_component, plain, relationship,
};
use crate::inventory::document::{Base, short_hash};
use crate::inventory::merge::Component;
use crate::inventory::origin::{Source, Stage, users};

/// Packages and what they are to the image.
#[derive(Default)]
pub(super) struct MadeOf {
    pub(super) packages: Vec<Package>,
    pub(super) relationships: Vec<Relationship>,
    pub(super) extracted: BTreeMap<String, String>,
}

/// The identifier of a package of the stage that has this place among [`Subject::stages`].
pub(super) fn package_id(stage: usize, component: &Component<'_>) -> String {
    format!("SPDXRef-{}-{}-{}", in_stage(stage), component.package.kind.name(), short_hash(component))
}

fn in_stage(number: usize) -> String {
    format!("InStage-{}", number + 1)
}

impl MadeOf {
    pub(super) fn of(subject: &Subject<'_>) -> Self {
        let mut made_of = Self::default();
        for (number, layers) in users(subject.origins) {
            let Some(source) = subject.origins.sources.get(number) else { continue };
            let id = format!("SPDXRef-Source-{}", number + 1);
            made_of.source(source, &id);
            if let Source::Stage(_) = source {
                made_of.relationships.push(relationship(&id, "BUILD_TOOL_OF", IMAGE));
            }
            match subject.by_step {
                false => made_of.relationships.push(relationship(IMAGE, "GENERATED_FROM", &id)),
                true => made_of.relationships.extend(
                    layers.iter().map(|layer| relationship(&layer_id(*layer), "GENERATED_FROM", &id)),
                ),
            }
        }
        if subject.with_stages {
            made_of.packages_of_stages(subject);
        }
        made_of
    }

    fn source(&mut self, source: &Source, id: &str) {
        let mut package = plain(String::new(), id.to_owned());
        match source {
            Source::Stage(stage) => {
                package.name = format!("stage {}", stage.name);
                package.comment = Some(of_stage(stage));
                package.primary_package_purpose = Some("CONTAINER");
                if let Some(base) = &stage.base {
                    let base_id = format!("{id}-Base");
                    self.packages.push(image(base, base_id.clone()));
                    self.relationships.push(relationship(id, "DESCENDANT_OF", &base_id));
                }
            }
            Source::Image(found) => package = image(found, id.to_owned()),
            Source::Http { url, digest } => {
                package.name = last(url);
                package.download_location.clone_from(url);
                package.version_info = digest.clone().unwrap_or_default();
                package.checksums = digest.as_deref().and_then(checksum).into_iter().collect();
                package.primary_package_purpose = Some("FILE");
            }
            Source::Git { url, commit } => {
                package.name = last(url.split('#').next().unwrap_or(url));
                package.version_info = commit.clone().unwrap_or_default();
                package.download_location = location(url, commit.as_deref(), "");
                package.primary_package_purpose = Some("SOURCE");
            }
            Source::Context { name, repository, commit, path } => {
                package.name = if name.is_empty() { "context".to_owned() } else { format!("context {name}") };
                package.version_info = commit.clone().unwrap_or_default();
                package.primary_package_purpose = Some("SOURCE");
                if let Some(url) = repository {
                    package.download_location = location(url, commit.as_deref(), path);
                    package.comment =
                        Some("the commit that was checked out; files may have been changed since".to_owned());
                }
            }
        }
        self.packages.push(package);
    }

    fn packages_of_stages(&mut self, subject: &Subject<'_>) {
        for (number, stage) in subject.stages.iter().enumerate() {
            let holder = format!("SPDXRef-Source-{}", stage.source + 1);
            for component in &stage.history.state.components {
                let mut package = of_component(component, &in_stage(number), &mut self.extracted);
                let step = stage.history.brought(component).and_then(|event| stage.steps.get(event.layer));
                package.comment = step.map(|step| format!("in that stage; brought by {}", step.words()));
                self.relationships.push(relationship(&holder, "CONTAINS", &package.id));
                self.packages.push(package);
            }
        }
    }
}

fn of_stage(stage: &Stage) -> String {
    let mut text = "a stage of the build, of which files were copied".to_owned();
    for (_, step) in &stage.layers {
        text.push_str(&format!("\n{}", step.words()));
    }
    text
}

fn image(found: &Base, id: String) -> Package {
    let mut package = plain(found.name.clone(), id);
    package.version_info = found.digest.clone().unwrap_or_default();
    package.checksums = found.digest.as_deref().and_then(checksum).into_iter().collect();
    package.primary_package_purpose = Some("CONTAINER");
    package
}

/// The last component of a URL's path, without what a repository's name ends with.
fn last(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".git").unwrap_or(name).to_owned()
}

/// `git+URL@COMMIT#FOLDER` (SPDX 2.3, 7.7.1); what cannot be written so is not said.
fn location(url: &str, commit: Option<&str>, folder: &str) -> String {
    let url = url.split('#').next().unwrap_or(url);
    let is_url = ["https://", "http://", "ssh://", "git://"].iter().any(|scheme| url.starts_with(scheme));
    if !is_url || url.contains(char::is_whitespace) {
        return NOTHING.to_owned();
    }
    let commit = commit.map(|commit| format!("@{commit}")).unwrap_or_default();
    let folder = if folder.is_empty() { String::new() } else { format!("#{folder}") };
    format!("git+{url}{commit}{folder}")
}
