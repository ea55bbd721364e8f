//! `--set PATTERN.KEY[+]=VALUE`

use std::collections::BTreeMap;

use super::Definition;
use super::allow::Granted;
use super::entries::{Attest, Cache, Output, Policy, Secret, Ssh};
use super::fault::{Result, did_you_mean, fault, with_help};
use super::target::{Target, merged, parsed};
use crate::text;

/// What is to be changed, by the names of targets.
#[derive(Debug, Default)]
pub(super) struct Overrides(BTreeMap<String, BTreeMap<String, Override>>);

#[derive(Debug, Clone, Default)]
struct Override {
    value: String,
    /// All values, where the key is a list's.
    values: Vec<String>,
    appends: bool,
}

/// Keys that stand for lists: giving one again adds to it.
const LISTS: [&str; 13] = [
    "output",
    "cache-to",
    "cache-from",
    "tags",
    "platform",
    "secrets",
    "ssh",
    "attest",
    "entitlements",
    "annotations",
    "policy",
    "no-cache-filter",
    "ulimits",
];
/// Keys that are followed by a name.
const NAMED: [&str; 6] = ["args", "contexts", "labels", "secret", "resources", "extra-hosts"];
const OTHERS: [&str; 11] = [
    "context",
    "dockerfile",
    "target",
    "call",
    "no-cache",
    "shm-size",
    "network",
    "pull",
    "push",
    "load",
    "name",
];

impl Overrides {
    /// Reads all of `--set`. The environment is asked for arguments without a value.
    pub(super) fn read(given: &[String], definition: &Definition) -> Result<Self> {
        let mut all = Self::default();
        for text in given {
            all.add(text, definition)?;
        }
        Ok(all)
    }

    fn add(&mut self, text: &str, definition: &Definition) -> Result<()> {
        let wrong = |why: String| {
            let fault = fault(format!("bad value `{text}` for --set: {why}"));
            Box::new(fault.help("write `--set TARGET.KEY=VALUE`, or `TARGET.KEY+=VALUE` to add to a list"))
        };
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        let (key, appends) = key.strip_suffix('+').map_or((key, false), |key| (key, true));
        let mut parts = key.splitn(3, '.');
        let (Some(pattern), Some(field)) = (parts.next(), parts.next()) else {
            return Err(wrong("it names no field of a target".to_owned()));
        };
        let name = parts.next();
        let known = || LISTS.into_iter().chain(NAMED).chain(OTHERS.into_iter().filter(|key| *key != "name"));
        if !known().any(|known| known == field) {
            return Err(with_help(wrong(format!("there is no key `{field}`")), did_you_mean(field, known())));
        }
        match name {
            None | Some("") if NAMED.contains(&field) => {
                return Err(wrong(format!("`{field}` is followed by a name, as in `{field}.NAME`")));
            }
            Some(name) if !NAMED.contains(&field) => {
                return Err(wrong(format!("`{field}` is not followed by a name such as `{name}`")));
            }
            _ => {}
        }
        if appends && matches!(field, "resources" | "secret") {
            return Err(wrong(format!("nothing can be added to `{field}`")));
        }
        let targets = definition.targets_like(pattern)?;
        let value = match (value, field) {
            (Some(value), _) => value.to_owned(),
            // An argument that the environment does not have stays as it is.
            (None, "args") => match definition.argument(name.unwrap_or_default()) {
                Some(value) => value,
                None => return Ok(()),
            },
            (None, _) => return Err(wrong("it has no value".to_owned())),
        };
        let key = match name {
            Some(name) => format!("{field}.{name}"),
            None => field.to_owned(),
        };
        for target in targets {
            let entry = self.0.entry(target).or_default().entry(key.clone()).or_default();
            entry.value.clone_from(&value);
            entry.values.push(value.clone());
            entry.appends = appends;
        }
        Ok(())
    }

    /// Changes a target; what the command line names by itself it allows.
    pub(super) fn apply(&self, name: &str, target: &mut Target, granted: &mut Granted) -> Result<()> {
        let Some(all) = self.0.get(name) else { return Ok(()) };
        // Outputs before what pushes or loads them, secrets before single ones of them.
        let rank = |key: &str| match key.split('.').next() {
            Some("push" | "load") => 2,
            Some("secret") => 1,
            _ => 0,
        };
        let mut keys: Vec<&String> = all.keys().collect();
        keys.sort_by_key(|key| rank(key));
        for key in keys {
            change(target, key, &all[key], granted).map_err(|why| {
                let text = &all[key].value;
                fault(format!("bad value `{name}.{key}={text}` for --set: {why}"))
            })?;
        }
        Ok(())
    }
}

impl Definition {
    fn argument(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }
}

fn change(
    target: &mut Target,
    key: &str,
    by: &Override,
    granted: &mut Granted,
) -> std::result::Result<(), String> {
    let (field, name) = key.split_once('.').unwrap_or((key, ""));
    let (value, name) = (by.value.clone(), name.to_owned());
    let texts = |own: &mut Vec<String>| match by.appends {
        true => own.extend(by.values.iter().cloned()),
        false => own.clone_from(&by.values),
    };
    let boolean = || text::boolean(&by.value).ok_or_else(|| format!("`{}` is no bool", by.value));
    match field {
        "context" => target.context = Some(value),
        "dockerfile" => target.dockerfile = Some(value),
        "args" => drop(target.args.insert(name, value)),
        "contexts" => drop(target.contexts.insert(name, value)),
        "labels" => drop(target.labels.insert(name, value)),
        "extra-hosts" => drop(target.extra_hosts.insert(name, value)),
        "tags" => texts(target.tags.get_or_insert_default()),
        "platform" => texts(target.platforms.get_or_insert_default()),
        "no-cache-filter" => texts(&mut target.no_cache_filter),
        "ulimits" => texts(&mut target.ulimits),
        "annotations" => target.annotations.extend(by.values.iter().cloned()),
        "target" => target.target = Some(value),
        "call" => target.call = Some(value),
        "network" => target.network = Some(value),
        "shm-size" => target.shm_size = Some(value),
        "no-cache" => target.no_cache = Some(boolean()?),
        "pull" => target.pull = Some(boolean()?),
        "push" => push(target.outputs.get_or_insert_default(), boolean()?),
        "load" => load(target.outputs.get_or_insert_default(), boolean()?),
        "resources" => target.resources.get_or_insert_default().set(&name, &value)?,
        "policy" => {
            let all: Vec<Policy> = parsed(&by.values)?;
            if !by.appends {
                target.policy.clear();
            }
            target.policy.extend(all);
        }
        "cache-from" => {
            let all: Vec<Cache> = parsed(&by.values)?;
            granted.read.extend(all.iter().filter_map(Cache::read_folder));
            target.cache_from = if by.appends { merged(&target.cache_from, &all) } else { all };
        }
        "cache-to" => {
            let all: Vec<Cache> = parsed(&by.values)?;
            granted.write.extend(all.iter().filter_map(Cache::written_folder));
            let own = target.cache_to.take().unwrap_or_default();
            target.cache_to = Some(if by.appends { merged(&own, &all) } else { all });
        }
        "secrets" => {
            let all: Vec<Secret> = parsed(&by.values)?;
            granted.read.extend(all.iter().filter(|one| !one.file.is_empty()).map(|one| one.file.clone()));
            target.secrets = if by.appends { merged(&target.secrets, &all) } else { all };
        }
        "secret" => {
            let next = <Secret as super::entries::Entry>::parse(&value)?;
            if !next.id.is_empty() && next.id != name {
                return Err(format!("the id `{}` is not that of the secret `{name}`", next.id));
            }
            let own = target.secrets.iter_mut().find(|secret| secret.id == name);
            let own = own.ok_or_else(|| format!("the target has no secret `{name}`"))?;
            (own.env, own.file) = (next.env, next.file.clone());
            granted.read.extend(Some(next.file).filter(|file| !file.is_empty()));
        }
        "ssh" => {
            let all: Vec<Ssh> = parsed(&by.values)?;
            target.ssh = if by.appends { merged(&target.ssh, &all) } else { all };
            granted.read.extend(target.ssh.iter().flat_map(|ssh| ssh.paths.clone()));
        }
        "output" => {
            let all: Vec<Output> = parsed(&by.values)?;
            let own = target.outputs.take().unwrap_or_default();
            let all = if by.appends { merged(&own, &all) } else { all };
            granted
                .write
                .extend(all.iter().map(|one| one.destination.clone()).filter(|dest| !dest.is_empty()));
            target.outputs = Some(all);
        }
        "attest" => {
            let all: Vec<Attest> = parsed(&by.values)?;
            target.attest = merged(&target.attest, &all);
        }
        "entitlements" => {
            target.entitlements.extend(by.values.iter().cloned());
            granted.network_host |= by.values.iter().any(|value| value == "network.host");
            granted.security_insecure |= by.values.iter().any(|value| value == "security.insecure");
        }
        other => return Err(format!("there is no key `{other}`")),
    }
    Ok(())
}

impl Cache {
    /// The folder that a local cache is read from.
    pub(super) fn read_folder(&self) -> Option<String> {
        self.attributes.get("src").filter(|_| self.kind == "local").cloned()
    }

    /// The folder that a local cache is written to.
    pub(super) fn written_folder(&self) -> Option<String> {
        self.attributes.get("dest").filter(|_| self.kind == "local").cloned()
    }
}

/// `--push`: images are pushed, and where there is nothing but what docker gets, there is an image that is.
fn push(outputs: &mut Vec<Output>, wanted: bool) {
    let set =
        |output: &mut Output, to: &str| drop(output.attributes.insert("push".to_owned(), to.to_owned()));
    if !wanted {
        let mut at = 0;
        while at < outputs.len() {
            match outputs[at].kind.as_str() {
                "registry" => {
                    outputs.swap_remove(at);
                    continue;
                }
                "image" => set(&mut outputs[at], "false"),
                _ => {}
            }
            at += 1;
        }
        return;
    }
    let only_docker = outputs.iter().all(|output| output.kind == "docker");
    outputs.iter_mut().filter(|output| output.kind == "image").for_each(|output| set(output, "true"));
    if only_docker {
        let mut output = Output { kind: "image".to_owned(), ..Output::default() };
        set(&mut output, "true");
        outputs.push(output);
    }
}

/// `--load`: the image is given to docker, unless there are plain files to be written.
fn load(outputs: &mut Vec<Output>, wanted: bool) {
    let is_image = |output: &Output| matches!(output.kind.as_str(), "image" | "registry" | "oci" | "docker");
    let is_there = outputs.iter().any(|output| output.kind == "docker" && output.destination.is_empty());
    if wanted && !is_there && outputs.iter().all(is_image) {
        outputs.push(Output { kind: "docker".to_owned(), ..Output::default() });
    }
}
