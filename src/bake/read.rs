//! From files to a definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::{Result, fault};
use super::functions::Surroundings;
use super::limits;
use super::module::blocks::Blocks;
use super::module::{Given, Module};
use super::{Definition, Group, body, compose, functions, is_remote};
use crate::report::{Diagnostic, Source};

/// A file of a definition.
#[derive(Debug, Clone)]
pub struct File {
    /// Its path as it was given; `-` is standard input.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What a definition is read with.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// `--var`
    pub variables: BTreeMap<String, String>,
    /// The environment, as far as definitions may look at it.
    pub environment: BTreeMap<String, String>,
    /// What is in `.env` of the current folder; it counts for compose files.
    pub env_file: Option<String>,
    /// The current folder, which compose files count from.
    pub folder: std::path::PathBuf,
    /// Variables that are there by themselves: `BAKE_CMD_CONTEXT` and `BAKE_LOCAL_PLATFORM`.
    pub built_in: BTreeMap<String, String>,
    /// Paths of contexts count from the file that has them, not from the current folder.
    pub counts_from_files: bool,
    /// What functions know of the world.
    pub surroundings: Surroundings,
}

/// Reads and evaluates all files.
///
/// # Errors
/// What is wrong in them, with its place; what goes beyond a bound.
pub fn read(files: &[File], options: &ReadOptions) -> Result<Definition> {
    if let Some(large) = files.iter().find(|file| file.text.len() > limits::FILE) {
        let most = crate::text::size::bytes(limits::FILE as u64);
        return Err(fault(format!("`{}` is larger than {most}", large.name)));
    }
    // Expressions within each other need a stack that is deep enough for as many as are allowed.
    std::thread::scope(|scope| {
        let work = std::thread::Builder::new().stack_size(limits::STACK);
        let thread = work.spawn_scoped(scope, || read_here(files, options));
        let thread =
            thread.map_err(|error| fault(format!("cannot start to read the definition: {error}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What kind of file it is.
enum Syntax {
    Compose,
    Native,
    Json,
}

fn read_here(files: &[File], options: &ReadOptions) -> Result<Definition> {
    let (mut bodies, mut composed) = (Vec::new(), Vec::new());
    for file in files {
        let source = Arc::new(Source { name: file.name.clone(), text: file.text.clone() });
        match syntax(file) {
            Syntax::Compose => composed.push(source),
            Syntax::Native => bodies.push(body::native(&source)?),
            Syntax::Json => bodies.push(body::json(&source)?),
        }
    }
    let mut known = Blocks { groups: Vec::new(), targets: Vec::new() };
    let mut warnings = Vec::new();
    if !composed.is_empty() {
        let project = compose::read(&composed, options)?;
        known = Blocks { groups: project.groups, targets: project.targets };
        warnings = project.warnings;
    }
    let given = Given {
        variables: options.variables.clone(),
        environment: options.environment.clone(),
        built_in: options.built_in.clone(),
    };
    let module = Module::new(bodies, given, options.surroundings.clone())?;
    let variables = module.variables()?;
    let Blocks { groups, targets } = module.blocks(known, options.counts_from_files)?;
    warnings.extend(module.warnings.take());
    let environment = options.environment.clone();
    let mut definition = Definition { groups: tidy(groups), targets, variables, warnings, environment };
    if options.counts_from_files {
        count_from_files(&mut definition);
    }
    Ok(definition)
}

fn syntax(file: &File) -> Syntax {
    let name = file.name.to_lowercase();
    let ends = |suffix: &str| name.ends_with(suffix);
    if ends(".yml") || ends(".yaml") {
        return Syntax::Compose;
    }
    if ends(".json") {
        return Syntax::Json;
    }
    if ends(".hcl") {
        return Syntax::Native;
    }
    let starts_like_json = file.text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
    match compose::is_one(&file.text) {
        true => Syntax::Compose,
        false if starts_like_json => Syntax::Json,
        false => Syntax::Native,
    }
}

/// Each target of a group once.
fn tidy(mut groups: Vec<Group>) -> Vec<Group> {
    for group in &mut groups {
        let mut known = std::collections::BTreeSet::new();
        group.targets.retain(|name| known.insert(name.clone()));
    }
    groups
}

/// Puts the folders of the files in front of relative paths.
fn count_from_files(definition: &mut Definition) {
    for target in &mut definition.targets {
        match (&mut target.context, &target.bases.context) {
            (Some(context), Some(base)) => *context = based(base, context),
            (Some(_), None) => {}
            (None, _) => {}
        }
        for (name, context) in &mut target.contexts {
            if let Some(base) = target.bases.contexts.get(name) {
                *context = based(base, context);
            }
        }
    }
}

/// A path that counts from `base`; what is no relative path stays.
pub(super) fn based(base: &str, path: &str) -> String {
    let special = ["cwd://", "target:", "docker-image:", "oci-layout://"];
    let is_special = special.into_iter().any(|prefix| path.starts_with(prefix)) || is_remote(path);
    match base.is_empty() || path.is_empty() || path.starts_with('/') || is_special {
        true => path.to_owned(),
        false => functions::clean(&format!("{base}/{path}")),
    }
}

/// A fault of a file that is not there.
pub(super) fn unreadable(what: &str, error: &std::io::Error) -> Box<Diagnostic> {
    fault(format!("cannot read {what}: {error}"))
}
