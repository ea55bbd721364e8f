//! A service as a target.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::super::clean_path;
use super::super::entries::{Attest, Cache, Entry, Output, Secret, Ssh, parse_all};
use super::super::fault::{Result, did_you_mean};
use super::super::read::unreadable;
use super::super::target::{Target, merged};
use super::env_file;
use super::load::texts;
use super::merge::{hosts, pairs};
use crate::report::{Diagnostic, Source};
use crate::text;
use crate::yaml::{Node, Yaml};

/// A service, and what it can name.
pub(super) struct Service<'m> {
    pub(super) name: &'m str,
    pub(super) node: &'m Node,
    pub(super) model: &'m Node,
    pub(super) environment: &'m BTreeMap<String, String>,
}

const FIELDS: [&str; 25] = [
    "additional_contexts",
    "args",
    "cache_from",
    "cache_to",
    "context",
    "dockerfile",
    "dockerfile_inline",
    "entitlements",
    "extra_hosts",
    "isolation",
    "labels",
    "network",
    "no_cache",
    "no_cache_filter",
    "platforms",
    "privileged",
    "provenance",
    "pull",
    "sbom",
    "secrets",
    "shm_size",
    "ssh",
    "tags",
    "target",
    "ulimits",
];
const BAKE_FIELDS: [&str; 11] = [
    "tags",
    "cache-from",
    "cache-to",
    "secret",
    "ssh",
    "platforms",
    "output",
    "pull",
    "no-cache",
    "no-cache-filter",
    "contexts",
];

impl Service<'_> {
    /// What is built for the service; nothing if it has only an image.
    pub(super) fn target(&self, folder: &Path, warnings: &mut Vec<Diagnostic>) -> Result<Option<Target>> {
        let Some(build) = self.node.get("build").filter(|build| !build.is_null()) else { return Ok(None) };
        let Yaml::Map(entries) = &build.value else {
            return Err(build.fault("`build` is a folder or a mapping", build.kind()));
        };
        for entry in entries {
            if !FIELDS.contains(&entry.key.as_str()) && !entry.key.starts_with("x-") {
                let message = format!("`build` has no `{}`", entry.key);
                let fault = Diagnostic::error(message).at(&build.source, entry.key_span, "unknown");
                let near = did_you_mean(&entry.key, FIELDS);
                let help = near.unwrap_or_else(|| "names that begin with `x-` are left alone".to_owned());
                return Err(Box::new(fault.help(help)));
            }
            if matches!(entry.key.as_str(), "isolation" | "privileged") {
                let message = format!("`{}` of a compose file changes nothing here", entry.key);
                let warning = Diagnostic::warning("BakeUnknown", message);
                warnings.push(warning.at(&build.source, entry.key_span, ""));
            }
        }
        let name = self.name.replace('.', "_");
        let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || !name.chars().all(is_fit) {
            let fault = build.fault(format!("`{}` is no name for a target", self.name), "its build");
            return Err(Box::new(fault.help("names have letters, digits, `_`, `-` and `.`")));
        }
        let mut target = Target { name, ..Target::default() };
        self.plain(build, &mut target)?;
        self.lists(build, &mut target)?;
        target.args = self.args(build, folder)?;
        target.secrets = self.secrets(build)?;
        if let Some(own) = build.get("x-bake").filter(|own| !own.is_null()) {
            extend(&mut target, own, warnings)?;
        }
        if target.tags.as_ref().is_none_or(Vec::is_empty) {
            let image = self.node.get("image").and_then(Node::scalar).filter(|image| !image.is_empty());
            target.tags = image.map(|image| vec![image]);
        }
        Ok(Some(target))
    }

    fn plain(&self, build: &Node, target: &mut Target) -> Result<()> {
        let text = |key: &str| -> Result<Option<String>> {
            match build.get(key).filter(|node| !node.is_null()) {
                None => Ok(None),
                Some(node) => match node.scalar() {
                    Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
                    None => Err(node.fault(format!("`{key}` is a string"), node.kind())),
                },
            }
        };
        let set = |key: &str| -> Result<Option<bool>> {
            match (text(key)?, build.get(key)) {
                (Some(given), Some(node)) => match text::boolean(&given) {
                    Some(value) => Ok(Some(value).filter(|value| *value)),
                    None => Err(node.fault(format!("`{key}` is `true` or `false`"), "neither")),
                },
                _ => Ok(None),
            }
        };
        target.context = text("context")?;
        target.dockerfile = text("dockerfile")?;
        target.dockerfile_inline = text("dockerfile_inline")?;
        target.target = text("target")?;
        target.network = text("network")?;
        target.no_cache = set("no_cache")?;
        target.pull = set("pull")?;
        if let (Some(given), Some(node)) = (text("shm_size")?, build.get("shm_size")) {
            let bytes = text::size::parse(&given);
            let bytes = bytes.ok_or_else(|| node.fault(format!("`{given}` is no size"), "such as 64mb"))?;
            target.shm_size = (bytes > 0).then(|| binary(bytes));
        }
        for (key, kind) in [("sbom", "sbom"), ("provenance", "provenance")] {
            let (Some(given), Some(node)) = (text(key)?, build.get(key)) else { continue };
            let long = match text::boolean(&given) {
                Some(wanted) => format!("type={kind},disabled={}", !wanted),
                None => format!("type={kind},{given}"),
            };
            target.attest.push(Attest::parse(&long).map_err(|why| node.fault(why, "here"))?);
        }
        Ok(())
    }

    fn lists(&self, build: &Node, target: &mut Target) -> Result<()> {
        let list = |key: &str| -> Result<Vec<String>> {
            match build.get(key).filter(|node| !node.is_null()) {
                None => Ok(Vec::new()),
                Some(node) if matches!(node.value, Yaml::Map(_)) => {
                    Err(node.fault(format!("`{key}` is a list"), node.kind()))
                }
                Some(node) => Ok(texts(node)),
            }
        };
        let tags = list("tags")?;
        target.tags = (!tags.is_empty()).then_some(tags);
        let platforms = list("platforms")?;
        target.platforms = (!platforms.is_empty()).then_some(platforms);
        target.no_cache_filter = list("no_cache_filter")?;
        target.entitlements = list("entitlements")?;
        let caches = |key: &str| -> Result<Vec<Cache>> {
            parse_all(&list(key)?).map_err(|why| match build.get(key) {
                Some(node) => node.fault(why, "here"),
                None => build.fault(why, "here"),
            })
        };
        target.cache_from = caches("cache_from")?;
        let cache_to = caches("cache_to")?;
        target.cache_to = (!cache_to.is_empty()).then_some(cache_to);
        for (key, value) in build.get("labels").map(pairs).unwrap_or_default() {
            target.labels.insert(key, value.scalar().unwrap_or_default());
        }
        for (key, value) in build.get("additional_contexts").map(pairs).unwrap_or_default() {
            let Some(context) = value.scalar() else {
                return Err(value.fault(format!("the context `{key}` is a string"), value.kind()));
            };
            target.contexts.insert(key, of_service(context));
        }
        for host in build.get("extra_hosts").map(hosts).unwrap_or_default() {
            let text = host.scalar().unwrap_or_default();
            let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
                return Err(host.fault(format!("`{text}` has no address"), "write `HOST=ADDRESS`"));
            };
            let address =
                address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
            match target.extra_hosts.get_mut(name) {
                Some(all) => all.push_str(&format!(",{address}")),
                None => drop(target.extra_hosts.insert(name.to_owned(), address.to_owned())),
            }
        }
        for (id, path) in build.get("ssh").map(pairs).unwrap_or_default() {
            target.ssh.push(Ssh { id, paths: path.scalar().into_iter().collect() });
        }
        target.ssh.sort();
        target.ulimits = ulimits(build)?;
        Ok(())
    }

    /// Arguments without a value have that of the service's environment, or of ours.
    fn args(&self, build: &Node, folder: &Path) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        let Some(args) = build.get("args").filter(|args| !args.is_null()) else { return Ok(all) };
        let own = self.service_environment(folder)?;
        for (name, value) in pairs(args) {
            if matches!(value.value, Yaml::List(_) | Yaml::Map(_)) {
                return Err(value.fault(format!("the argument `{name}` is a string"), value.kind()));
            }
            let found = value
                .scalar()
                .or_else(|| own.get(&name).cloned())
                .or_else(|| self.environment.get(&name).cloned());
            if let Some(found) = found {
                all.insert(name, found);
            }
        }
        Ok(all)
    }

    fn service_environment(&self, folder: &Path) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        let files = match self.node.get("env_file") {
            Some(Node { value: Yaml::List(elements), .. }) => elements.clone(),
            Some(one) if !one.is_null() => vec![one.clone()],
            _ => Vec::new(),
        };
        for file in files {
            let path = file.get("path").and_then(Node::scalar).or_else(|| file.scalar());
            let Some(path) = path else {
                return Err(file.fault("an entry of `env_file` is a file", file.kind()));
            };
            let required = file.get("required").and_then(Node::scalar).as_deref() != Some("false");
            let text = match std::fs::read_to_string(folder.join(&path)) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => continue,
                Err(error) => {
                    let fault = unreadable(&format!("`{path}`"), &error);
                    return Err(Box::new(fault.at(&file.source, file.span, "named here")));
                }
            };
            let source = Arc::new(Source { name: clean_path(&path), text });
            let lookup = |name: &str| self.environment.get(name).cloned();
            all.extend(env_file::parse(&source, &lookup)?);
        }
        for (name, value) in self.node.get("environment").map(pairs).unwrap_or_default() {
            match value.scalar().or_else(|| self.environment.get(&name).cloned()) {
                Some(value) => drop(all.insert(name, value)),
                None => drop(all.remove(&name)),
            }
        }
        Ok(all)
    }

    fn secrets(&self, build: &Node) -> Result<Vec<Secret>> {
        let mut all = Vec::new();
        let Some(secrets) = build.get("secrets").filter(|secrets| !secrets.is_null()) else { return Ok(all) };
        let Yaml::List(elements) = &secrets.value else {
            return Err(secrets.fault("`secrets` is a list", secrets.kind()));
        };
        for element in elements {
            let source = element.get("source").and_then(Node::scalar).or_else(|| element.scalar());
            let Some(id) = source else {
                return Err(element.fault("a secret has a `source`", element.kind()));
            };
            let mut secret = Secret { id: id.clone(), ..Secret::default() };
            let Some(declared) = self.model.get("secrets").and_then(|secrets| secrets.get(&id)) else {
                let names = self.model.get("secrets").and_then(Node::entries).unwrap_or_default();
                let fault = element
                    .fault(format!("there is no secret `{id}` in `secrets` of the file"), "not declared");
                let near = did_you_mean(&id, names.iter().map(|(name, _)| *name));
                return Err(super::super::fault::with_help(fault, near));
            };
            let is_external = declared.get("external").and_then(Node::scalar).as_deref() == Some("true");
            if is_external || declared.get("external").is_some_and(|node| node.entries().is_some()) {
                return Err(element
                    .fault(format!("the secret `{id}` is external, which a build cannot read"), "here"));
            }
            secret.file = declared.get("file").and_then(Node::scalar).unwrap_or_default();
            secret.env = declared.get("environment").and_then(Node::scalar).unwrap_or_default();
            all.push(secret);
        }
        Ok(all)
    }
}

fn ulimits(build: &Node) -> Result<Vec<String>> {
    let Some(node) = build.get("ulimits").filter(|node| !node.is_null()) else { return Ok(Vec::new()) };
    let Some(entries) = node.entries() else { return Err(node.fault("`ulimits` is a mapping", node.kind())) };
    let one = |(name, limit): (&str, &Node)| {
        let number =
            |node: Option<&Node>| node.and_then(Node::scalar).and_then(|text| text.parse::<i64>().ok());
        let both = match limit.entries() {
            Some(_) => number(limit.get("soft")).zip(number(limit.get("hard"))),
            None => number(Some(limit)).map(|both| (both, both)),
        };
        match both {
            Some((soft, hard)) => Ok(format!("{name}={soft}:{hard}")),
            None => Err(limit
                .fault(format!("the limit `{name}` is a number, or has `soft` and `hard`"), limit.kind())),
        }
    };
    let mut all = entries.into_iter().map(one).collect::<Result<Vec<_>>>()?;
    all.sort();
    Ok(all)
}

/// `service:NAME` is `target:NAME`.
fn of_service(context: String) -> String {
    match context.strip_prefix("service:").or_else(|| context.strip_prefix("target:")) {
        Some(name) => format!("target:{}", name.replace('.', "_")),
        None => context,
    }
}

/// As docker prints sizes: four digits, and units of 1024.
fn binary(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    let before_point = if size >= 1000.0 {
        4
    } else if size >= 100.0 {
        3
    } else if size >= 10.0 {
        2
    } else {
        1
    };
    let text = format!("{size:.*}", 4 - before_point);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[unit])
}

/// `x-bake`: what compose has no word for.
fn extend(target: &mut Target, own: &Node, warnings: &mut Vec<Diagnostic>) -> Result<()> {
    let Yaml::Map(entries) = &own.value else { return Err(own.fault("`x-bake` is a mapping", own.kind())) };
    for entry in entries {
        if BAKE_FIELDS.contains(&entry.key.as_str()) {
            continue;
        }
        let message = format!("`x-bake` has no `{}`", entry.key);
        let warning = Diagnostic::warning("BakeUnknown", message);
        let warning = warning.at(&own.source, entry.key_span, "it changes nothing");
        let near = did_you_mean(&entry.key, BAKE_FIELDS);
        warnings.push(near.into_iter().fold(warning, Diagnostic::help));
    }
    let list = |key: &str| -> Vec<String> {
        match own.get(key).map(|node| (&node.value, node)) {
            Some((Yaml::List(_), node)) => texts(node),
            // In one string they are parted by white space.
            Some((_, node)) => {
                node.scalar().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
            }
            None => Vec::new(),
        }
    };
    fn all<E: Entry>(own: &Node, key: &str, texts: &[String]) -> Result<Vec<E>> {
        parse_all(texts).map_err(|why| match own.get(key) {
            Some(node) => node.fault(why, "here"),
            None => own.fault(why, "here"),
        })
    }
    let add = |own: &mut Vec<String>, more: Vec<String>| {
        for text in more {
            if !own.contains(&text) {
                own.push(text);
            }
        }
    };
    let set = |key: &str| -> Result<Option<bool>> {
        match own.get(key).and_then(|node| Some((node.scalar()?, node))) {
            Some((given, node)) => match text::boolean(&given) {
                Some(value) => Ok(Some(value)),
                None => Err(node.fault(format!("`{key}` is `true` or `false`"), "neither")),
            },
            None => Ok(None),
        }
    };
    for (key, texts) in [("tags", &mut target.tags), ("platforms", &mut target.platforms)] {
        let more = list(key);
        if !more.is_empty() {
            add(texts.get_or_insert_default(), more);
        }
    }
    target.cache_from = merged(&target.cache_from, &all(own, "cache-from", &list("cache-from"))?);
    let cache_to = all(own, "cache-to", &list("cache-to"))?;
    if !cache_to.is_empty() {
        target.cache_to = Some(merged(&target.cache_to.take().unwrap_or_default(), &cache_to));
    }
    target.secrets = merged(&target.secrets, &all(own, "secret", &list("secret"))?);
    target.ssh = merged(&target.ssh, &all(own, "ssh", &list("ssh"))?);
    target.ssh.sort();
    let outputs: Vec<Output> = all(own, "output", &list("output"))?;
    if !outputs.is_empty() {
        target.outputs = Some(merged(&target.outputs.take().unwrap_or_default(), &outputs));
    }
    add(&mut target.no_cache_filter, list("no-cache-filter"));
    target.pull = set("pull")?.or(target.pull);
    target.no_cache = set("no-cache")?.or(target.no_cache);
    for (key, value) in own.get("contexts").map(pairs).unwrap_or_default() {
        // What compose says itself goes before.
        target.contexts.entry(key).or_insert_with(|| of_service(value.scalar().unwrap_or_default()));
    }
    Ok(())
}
