//! Compose files: their services that are built are targets.
//!
//! Of a compose file only what says how images are built counts: services with their `build`, `image` and environment,
//! secrets, `extends` and `include`.

mod env_file;
mod interpolate;
mod load;
mod merge;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::{Result, fault};
use super::read::ReadOptions;
use super::target::{Bases, Target};
use super::{Group, folder_of};
use crate::report::{Diagnostic, Source};
use crate::yaml;

/// What compose files say.
pub(super) struct Project {
    pub(super) groups: Vec<Group>,
    pub(super) targets: Vec<Target>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Whether a file whose name does not tell is a compose file.
pub(super) fn is_one(text: &str) -> bool {
    let source = Arc::new(Source { name: String::new(), text: text.to_owned() });
    let Ok(documents) = yaml::parse(&source) else { return false };
    documents
        .iter()
        .any(|document| document.get("services").is_some_and(|services| services.entries().is_some()))
}

/// Reads compose files, each over those before it.
pub(super) fn read(files: &[Arc<Source>], options: &ReadOptions) -> Result<Project> {
    let environment = environment(options)?;
    let mut loader = load::Loader::new(&options.folder);
    let model = loader.load(files, "", &environment)?;
    let Some(services) = model.get("services").and_then(yaml::Node::entries) else {
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        return Err(fault(format!("there are no services in {}", names.join(", "))));
    };
    let mut targets = Vec::new();
    for (name, service) in services {
        let of = service::Service { name, node: service, model: &model, environment: &environment };
        targets.extend(of.target(&options.folder, &mut loader.warnings)?);
    }
    if options.counts_from_files {
        let base = files.first().and_then(|file| folder_of(&file.name));
        targets.iter_mut().for_each(|target| count_from(target, base.as_deref()));
    }
    let names = targets.iter().map(|target| target.name.clone()).collect();
    let group = Group { name: "default".to_owned(), description: String::new(), targets: names };
    Ok(Project { groups: vec![group], targets, warnings: loader.warnings })
}

fn count_from(target: &mut Target, base: Option<&str>) {
    let Some(base) = base else { return };
    target.bases = Bases {
        usual: Some(base.to_owned()),
        context: target.context.as_ref().map(|_| base.to_owned()),
        contexts: target.contexts.keys().map(|name| (name.clone(), base.to_owned())).collect(),
    };
}

/// What variables in compose files stand for: `--var`, then the environment, then `.env`.
fn environment(options: &ReadOptions) -> Result<BTreeMap<String, String>> {
    let mut all = options.environment.clone();
    if let Some(text) = &options.env_file {
        let source = Arc::new(Source { name: ".env".to_owned(), text: text.clone() });
        let known = all.clone();
        for (name, value) in env_file::parse(&source, &|name| known.get(name).cloned())? {
            all.entry(name).or_insert(value);
        }
    }
    all.extend(options.variables.clone());
    Ok(all)
}

/// A place for what stands in no file.
fn nowhere() -> Arc<Source> {
    Arc::new(Source { name: String::new(), text: String::new() })
}
