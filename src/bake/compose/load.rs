//! From compose files to one model: variables, `include`, `extends`, and files over files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::clean_path;
use super::super::fault::{Result, did_you_mean, with_help};
use super::super::limits;
use super::super::read::unreadable;
use super::merge::{as_build, merge, pairs};
use super::{env_file, interpolate, nowhere};
use crate::report::{Diagnostic, Source};
use crate::yaml::{self, Entry, Node, Tag, Yaml};

/// As many files may include each other in a row, and as many services extend each other.
const DEPTH: usize = 50;
/// As many files may be read.
const FILES: usize = 200;

type Environment = BTreeMap<String, String>;

/// Reads files.
pub(super) struct Loader<'f> {
    folder: &'f Path,
    /// Files that include what is being read.
    including: Vec<PathBuf>,
    files: usize,
    pub(super) warnings: Vec<Diagnostic>,
}

impl<'f> Loader<'f> {
    /// Relative paths count from `folder`.
    pub(super) fn new(folder: &'f Path) -> Self {
        Self { folder, including: Vec::new(), files: 0, warnings: Vec::new() }
    }

    /// The model of files whose relative paths count from `base`, itself from the folder; in it, they count from the folder.
    pub(super) fn load(
        &mut self,
        files: &[Arc<Source>],
        base: &str,
        environment: &Environment,
    ) -> Result<Node> {
        let mut model: Option<Node> = None;
        for file in files {
            for document in yaml::parse(file)? {
                if document.is_null() {
                    continue;
                }
                if document.entries().is_none() {
                    return Err(document.fault("a compose file is a mapping", document.kind()));
                }
                let mut over = self.relevant(&document, environment)?;
                self.include(&mut over, base, environment)?;
                self.extend_all(&mut over, base, environment)?;
                model = Some(match model {
                    Some(known) => merge(known, over, &[])?,
                    // What is reset there is nothing of.
                    None => merge(Node::empty(file), over, &[])?,
                });
            }
        }
        let model = model.unwrap_or_else(|| Node::empty(&nowhere()));
        Ok(with_paths(model, base))
    }

    /// Of a file only what counts for builds, with values in the place of variables.
    fn relevant(&mut self, document: &Node, environment: &Environment) -> Result<Node> {
        let mut kept = document.with(Yaml::Map(Vec::new()));
        for key in ["services", "secrets", "include"] {
            let Some(node) = document.get(key).filter(|node| !node.is_null()) else { continue };
            let node = match (key, &node.value) {
                ("services", Yaml::Map(services)) => {
                    let one = |entry: &Entry| Entry { value: service(&entry.value), ..entry.clone() };
                    node.with(Yaml::Map(services.iter().map(one).collect()))
                }
                ("services" | "secrets", value) if !matches!(value, Yaml::Map(_)) => {
                    return Err(node.fault(format!("`{key}` is a mapping of names"), node.kind()));
                }
                _ => node.clone(),
            };
            let mut unset = Vec::new();
            let node = interpolate::node(node, environment, &mut unset)?;
            self.warn_of(unset);
            kept.set(key, Some(node));
        }
        Ok(kept)
    }

    fn warn_of(&mut self, unset: Vec<(String, Node)>) {
        for (name, place) in unset {
            let message = format!("the variable `{name}` is not set, and counts as empty");
            if !self.warnings.iter().any(|known| known.message == message) {
                let warning = Diagnostic::warning("BakeVariableNotSet", message);
                self.warnings.push(warning.at(&place.source, place.span, "here"));
            }
        }
    }

    fn open(&mut self, path: &Path, place: &Node) -> Result<Arc<Source>> {
        self.files += 1;
        if self.files > FILES {
            return Err(
                place.fault(format!("more than {FILES} files are included or extended"), "with this one")
            );
        }
        let full = self.folder.join(path);
        let read = || -> std::io::Result<String> {
            use std::io::Read as _;
            let mut text = String::new();
            std::fs::File::open(&full)?.take(limits::FILE as u64 + 1).read_to_string(&mut text)?;
            Ok(text)
        };
        let name = path.display().to_string();
        let text = read().map_err(|error| {
            Box::new(unreadable(&format!("`{name}`"), &error).at(&place.source, place.span, "named here"))
        })?;
        match text.len() > limits::FILE {
            true => Err(place.fault(format!("`{name}` is too large"), "named here")),
            false => Ok(Arc::new(Source { name, text })),
        }
    }

    /// Takes in the files that `include` names.
    fn include(&mut self, model: &mut Node, base: &str, environment: &Environment) -> Result<()> {
        let Some(include) = model.get("include").cloned() else { return Ok(()) };
        model.set("include", None);
        let Yaml::List(includes) = &include.value else {
            return Err(include.fault("`include` is a list of files", include.kind()));
        };
        for one in includes {
            let included = self.included(one, base, environment)?;
            for key in ["services", "secrets"] {
                let Some(Yaml::Map(entries)) = included.get(key).map(|node| node.value.clone()) else {
                    continue;
                };
                let mut own = model.get(key).cloned().unwrap_or_else(|| Node::empty(&included.source));
                for entry in entries {
                    if own.get(&entry.key).is_some() && key == "services" {
                        let message = format!("the service `{}` is in an included file, too", entry.key);
                        return Err(one.fault(message, "included here"));
                    }
                    if own.get(&entry.key).is_none() {
                        own.set(&entry.key, Some(entry.value));
                    }
                }
                model.set(key, Some(own));
            }
        }
        Ok(())
    }

    fn included(&mut self, one: &Node, base: &str, environment: &Environment) -> Result<Node> {
        let paths = match one.get("path") {
            Some(path) => texts(path),
            None => texts(one),
        };
        let Some(first) = paths.first().cloned() else {
            return Err(one.fault("an entry of `include` is a file, or has a `path`", one.kind()));
        };
        let full: Vec<PathBuf> = paths.iter().map(|path| PathBuf::from(joined(base, path))).collect();
        if self.including.contains(&full[0]) || self.including.len() > DEPTH {
            return Err(one.fault(format!("`{first}` includes itself"), "included here"));
        }
        let folder = match one.get("project_directory").and_then(Node::scalar) {
            Some(folder) => joined(base, &folder),
            None => joined(base, &parent(&first)),
        };
        let mut files = Vec::new();
        for path in &full {
            files.push(self.open(path, one)?);
        }
        let mut variables = environment.clone();
        let env_files = match one.get("env_file") {
            Some(node) => texts(node)
                .into_iter()
                .filter(|file| file != "/dev/null")
                .map(|file| joined(base, &file))
                .collect(),
            None => vec![joined(&folder, ".env")]
                .into_iter()
                .filter(|file| self.folder.join(file).is_file())
                .collect::<Vec<_>>(),
        };
        for file in env_files {
            let source = self.open(Path::new(&file), one)?;
            let known = variables.clone();
            for (name, value) in env_file::parse(&source, &|name| known.get(name).cloned())? {
                variables.entry(name).or_insert(value);
            }
        }
        self.including.push(full[0].clone());
        let model = self.load(&files, &folder, &variables);
        self.including.pop();
        // Its paths count from the folder, and ours from the base.
        Ok(from_base(model?, base))
    }

    /// Lays each service over the one that it extends.
    fn extend_all(&mut self, model: &mut Node, base: &str, environment: &Environment) -> Result<()> {
        let Some(mut services) = model.get("services").cloned() else { return Ok(()) };
        let names: Vec<String> =
            services.entries().unwrap_or_default().iter().map(|(name, _)| (*name).to_owned()).collect();
        for name in names {
            let service = self.extended(&name, &services, base, environment, &mut Vec::new())?;
            services.set(&name, Some(service));
        }
        model.set("services", Some(services));
        Ok(())
    }

    fn extended(
        &mut self,
        name: &str,
        services: &Node,
        base: &str,
        environment: &Environment,
        path: &mut Vec<String>,
    ) -> Result<Node> {
        let Some(service) = services.get(name).cloned() else { return Ok(Node::empty(&services.source)) };
        let Some(extends) = service.get("extends").cloned() else { return Ok(service) };
        let at = format!("{}:{name}", service.source.name);
        if path.contains(&at) || path.len() > DEPTH {
            return Err(extends.fault(format!("the service `{name}` extends itself"), "by this"));
        }
        path.push(at);
        let wanted = extends.get("service").and_then(Node::scalar).or_else(|| extends.scalar());
        let Some(wanted) = wanted else {
            return Err(extends.fault("`extends` names a service", "of which?"));
        };
        let file = extends.get("file").and_then(Node::scalar);
        let lacks = |services: &Node| {
            let names: Vec<&str> =
                services.entries().unwrap_or_default().iter().map(|(name, _)| *name).collect();
            let fault = extends.fault(format!("there is no service `{wanted}` to be extended"), "named here");
            with_help(fault, did_you_mean(&wanted, names))
        };
        let parent_service = match file {
            None => {
                services.get(&wanted).ok_or_else(|| lacks(services))?;
                self.extended(&wanted, services, base, environment, path)?
            }
            Some(file) => {
                let source = self.open(Path::new(&joined(base, &file)), &extends)?;
                let mut others = Node::empty(&source);
                for document in yaml::parse(&source)? {
                    let over = self.relevant(&document, environment)?;
                    others = merge(others, over, &[])?;
                }
                let services = others.get("services").cloned().unwrap_or_else(|| Node::empty(&source));
                services.get(&wanted).ok_or_else(|| lacks(&services))?;
                let folder = parent(&file);
                let found = self.extended(&wanted, &services, &joined(base, &folder), environment, path)?;
                service_paths(found, &folder)
            }
        };
        path.pop();
        let mut own = service;
        own.set("extends", None);
        let mut merged = merge(parent_service, own, &["services", name])?;
        merged.set("extends", None);
        Ok(merged)
    }
}

/// Of a service only what counts for builds.
fn service(node: &Node) -> Node {
    let Yaml::Map(entries) = &node.value else { return node.with(Yaml::Map(Vec::new())) };
    let counts = |entry: &&Entry| {
        matches!(entry.key.as_str(), "image" | "build" | "environment" | "env_file" | "extends")
    };
    let tidy = |entry: &Entry| match entry.key.as_str() {
        "build" => Entry { value: as_build(entry.value.clone()), ..entry.clone() },
        _ => entry.clone(),
    };
    node.with(Yaml::Map(entries.iter().filter(counts).map(tidy).collect()))
}

/// The texts of a list, or of one scalar.
pub(super) fn texts(node: &Node) -> Vec<String> {
    match &node.value {
        Yaml::List(elements) => elements.iter().filter_map(Node::scalar).collect(),
        _ => node.scalar().into_iter().collect(),
    }
}

/// The folder of a file.
fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or_else(
        || ".".to_owned(),
        |(folder, _)| if folder.is_empty() { "/".to_owned() } else { folder.to_owned() },
    )
}

/// A path that counts from `base`.
pub(super) fn joined(base: &str, path: &str) -> String {
    let path = match path.strip_prefix("~") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let home = std::env::var("HOME").unwrap_or_default();
            if home.is_empty() { path.to_owned() } else { format!("{home}{rest}") }
        }
        _ => path.to_owned(),
    };
    match path.starts_with('/') || base.is_empty() {
        true => clean_path(&path),
        false => clean_path(&format!("{base}/{path}")),
    }
}

fn with_paths(mut model: Node, base: &str) -> Node {
    if let Some(Yaml::Map(services)) = model.get("services").map(|node| node.value.clone()) {
        let one = |entry: Entry| Entry { value: service_paths(with_context(entry.value), base), ..entry };
        let services = Yaml::Map(services.into_iter().map(one).collect());
        let node = model.get("services").map(|node| node.with(services));
        model.set("services", node);
    }
    if let Some(Yaml::Map(secrets)) = model.get("secrets").map(|node| node.value.clone()) {
        let one = |entry: Entry| {
            let mut value = entry.value;
            if let Some(file) = value.get("file").cloned() {
                let path = file.scalar().map(|path| file.with(Yaml::Text(joined(base, &path))));
                value.set("file", path);
            }
            Entry { value, key: entry.key, key_span: entry.key_span }
        };
        let secrets = Yaml::Map(secrets.into_iter().map(one).collect());
        let node = model.get("secrets").map(|node| node.with(secrets));
        model.set("secrets", node);
    }
    model
}

/// A build without a context has the folder of the file.
fn with_context(mut service: Node) -> Node {
    let Some(mut build) = service.get("build").cloned() else { return service };
    if build.get("context").is_none() && build.entries().is_some() {
        build.set("context", Some(build.with(Yaml::Text(".".to_owned()))));
        service.set("build", Some(Node { tag: Tag::None, ..build }));
    }
    service
}

/// Paths of contexts, keys and files of variables, which counted from `base`, count from where that counts from.
fn service_paths(mut service: Node, base: &str) -> Node {
    let is_path = |text: &str| {
        let remote =
            ["https://", "http://", "git://", "ssh://", "github.com/", "git@", "service:", "target:"];
        !(text.contains("://")
            || text.starts_with("docker-image:")
            || remote.into_iter().any(|start| text.starts_with(start)))
    };
    let moved = |node: &Node| match node.scalar() {
        Some(text) if is_path(&text) => node.with(Yaml::Text(joined(base, &text))),
        _ => node.clone(),
    };
    if let Some(mut build) = service.get("build").cloned() {
        if let Some(context) = build.get("context").map(moved) {
            build.set("context", Some(context));
        }
        for key in ["additional_contexts", "ssh"] {
            let Some(node) = build.get(key).cloned() else { continue };
            let mut all = node.with(Yaml::Map(Vec::new()));
            for (name, value) in pairs(&node) {
                all.set(&name, Some(moved(&value)));
            }
            build.set(key, Some(all));
        }
        service.set("build", Some(build));
    }
    if let Some(files) = service.get("env_file").cloned() {
        let entry = |node: &Node| match node.get("path") {
            Some(path) => {
                let mut node = node.clone();
                node.set("path", Some(moved(path)));
                node
            }
            None => moved(node),
        };
        let files = match &files.value {
            Yaml::List(elements) => files.with(Yaml::List(elements.iter().map(entry).collect())),
            _ => entry(&files),
        };
        service.set("env_file", Some(files));
    }
    service
}

/// Paths that count from the folder, told from `base`: as they are, for they are joined to it once more.
fn from_base(model: Node, base: &str) -> Node {
    if base.is_empty() || base == "." {
        return model;
    }
    let up =
        base.split('/').filter(|part| !matches!(*part, "" | ".")).map(|_| "..").collect::<Vec<_>>().join("/");
    with_paths(model, &up)
}
