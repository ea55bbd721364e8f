//! A target of a bake file as a request: its fields become the options of `rbuild build` that say the same, so each is checked and
//! means what it means there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::build::{BuildArgs, Jobs};
use super::configuration::{Configuration, RegistryArgs};
use super::request;
use crate::bake::{Cache, Secret, Ssh, Target, Wants, clean_path, is_remote};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::export::{self, Engine, LoadInto};
use crate::pipeline::{DockerfileFrom, Request};
use crate::plan::ContextSource;
use crate::report::Diagnostic;

/// Options of `rbuild bake` that hold for every target.
#[derive(Debug)]
pub(crate) struct Common<'a> {
    pub(crate) registries: &'a RegistryArgs,
    pub(crate) jobs: Option<Jobs>,
    pub(crate) offline: bool,
    /// `--on`
    pub(crate) on: Option<String>,
}

/// The options of a build by themselves.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, args_override_self = true)]
struct Line {
    #[command(flatten)]
    build: BuildArgs,
}

const TARGET: &str = "target:";

/// What a target asks for.
///
/// # Errors
/// A field whose value means nothing.
pub(crate) fn request(
    global: &Global,
    configuration: &Configuration,
    target: &Target,
    common: &Common<'_>,
) -> Result<Request, Failure> {
    let about = |failure: Failure| failure.noting(&format!("this is about the target `{}`", target.name));
    let line = Line::try_parse_from(words(target)).map_err(|error| about(Failure::clap(&error)))?;
    let mut args = line.build;
    args.registries = common.registries.clone();
    args.jobs = common.jobs;
    args.offline = common.offline;
    args.on.clone_from(&common.on);
    let mut request = request::from_args(global, configuration, &args).map_err(about)?;
    if let Some(text) = &target.dockerfile_inline {
        let name = format!("{} (dockerfile-inline)", target.name);
        request.dockerfile = DockerfileFrom::Inline { name, text: text.clone() };
    }
    for (name, context) in &target.contexts {
        if let Some(linked) = context.strip_prefix(TARGET) {
            let source = ContextSource::Linked(linked.to_owned());
            request.options.contexts.push((name.clone(), source));
        }
    }
    if target.is_linked {
        request.tags.clear();
    }
    load(target, &mut request);
    Ok(request)
}

/// Images for docker stay in rbuild's own store where there is none, and that is said: files of compose name docker whatever there is.
/// A target that is there for others is loaded nowhere.
fn load(target: &Target, request: &mut Request) {
    request.outputs.retain(|output| !target.is_linked || !output.loads());
    for output in &mut request.outputs {
        if output.target == export::Target::Load(LoadInto::Engine(Engine::DOCKER)) {
            output.target = export::Target::Load(LoadInto::DockerIfThere);
        }
    }
}

/// The options, as they would be typed.
fn words(target: &Target) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |option: &str, value: &str| words.push(format!("--{option}={value}"));
    let context = target.context.clone().unwrap_or_else(|| ".".to_owned());
    if let Some(file) = dockerfile(target, &context).filter(|_| target.dockerfile_inline.is_none()) {
        add("file", &file);
    }
    for (name, value) in &target.args {
        add("build-arg", &format!("{name}={value}"));
    }
    for (name, value) in &target.labels {
        add("label", &format!("{name}={value}"));
    }
    for (name, context) in target.contexts.iter().filter(|(_, context)| !context.starts_with(TARGET)) {
        add("build-context", &format!("{name}={context}"));
    }
    for (host, addresses) in &target.extra_hosts {
        for address in addresses.split(',') {
            add("add-host", &format!("{host}={address}"));
        }
    }
    for (option, values) in [
        ("annotation", Some(&target.annotations)),
        ("tag", target.tags.as_ref()),
        ("platform", target.platforms.as_ref()),
        ("no-cache-filter", Some(&target.no_cache_filter)),
        ("ulimit", Some(&target.ulimits)),
        ("allow", Some(&target.entitlements)),
    ] {
        values.into_iter().flatten().for_each(|value| add(option, value));
    }
    for (option, value) in
        [("target", &target.target), ("network", &target.network), ("shm-size", &target.shm_size)]
    {
        value.iter().filter(|value| !value.is_empty()).for_each(|value| add(option, value));
    }
    target.secrets.iter().for_each(|secret| add("secret", &secret_word(secret)));
    target.ssh.iter().for_each(|ssh| add("ssh", &ssh_word(ssh)));
    target.cache_from.iter().for_each(|cache| add("cache-from", &cache_word(cache)));
    target.cache_to.iter().flatten().for_each(|cache| add("cache-to", &cache_word(cache)));
    for attest in &target.attest {
        let own = [("type", attest.kind.clone()), ("disabled", attest.disabled.to_string())];
        add("attest", &csv(&own, &attest.attributes));
    }
    for policy in &target.policy {
        let mut own: Vec<(&str, String)> =
            policy.files.iter().map(|file| ("filename", file.clone())).collect();
        own.extend([("reset", policy.reset.to_string()), ("disabled", policy.disabled.to_string())]);
        own.extend(policy.strict.map(|strict| ("strict", strict.to_string())));
        add("policy", &csv(&own, &BTreeMap::new()));
    }
    for output in target.outputs.iter().flatten() {
        let mut own = vec![("type", output.kind.clone())];
        own.extend((!output.destination.is_empty()).then(|| ("dest", output.destination.clone())));
        add("output", &csv(&own, &output.attributes));
    }
    for (name, value) in target.resources.iter().flat_map(crate::bake::Resources::pairs) {
        add("resource", &format!("{name}={value}"));
    }
    if let Some(pull) = target.pull {
        add("pull", &pull.to_string());
    }
    if target.no_cache == Some(true) {
        words.push("--no-cache".to_owned());
    }
    words.extend(["--".to_owned(), context]);
    words
}

/// Where the Dockerfile is; none where it has its usual name and place.
fn dockerfile(target: &Target, context: &str) -> Option<String> {
    let file = target.dockerfile.as_deref().unwrap_or("Dockerfile");
    if let Some(here) = file.strip_prefix("cwd://") {
        return Some(clean_path(here));
    }
    match (is_remote(context), is_remote(file) || file.starts_with('/')) {
        _ if clean_path(file) == "Dockerfile" => None,
        (_, true) => Some(file.to_owned()),
        (true, false) => Some(clean_path(file)),
        (false, false) => Some(clean_path(&format!("{context}/{file}"))),
    }
}

fn secret_word(secret: &Secret) -> String {
    let all = [("id", &secret.id), ("src", &secret.file), ("env", &secret.env)];
    let given: Vec<(&str, String)> =
        all.into_iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| (key, text.clone())).collect();
    csv(&given, &BTreeMap::new())
}

fn ssh_word(ssh: &Ssh) -> String {
    match ssh.paths.as_slice() {
        [] => ssh.id.clone(),
        paths => format!("{}={}", ssh.id, paths.join(",")),
    }
}

fn cache_word(cache: &Cache) -> String {
    csv(&[("type", cache.kind.clone())], &cache.attributes)
}

/// `key=value` fields; those with commas or quotes are in quotes.
fn csv(own: &[(&str, String)], more: &BTreeMap<String, String>) -> String {
    let own = own.iter().map(|(key, value)| format!("{key}={value}"));
    let fields = own.chain(more.iter().map(|(key, value)| format!("{key}={value}")));
    let quoted = |field: String| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    };
    fields.map(quoted).collect::<Vec<_>>().join(",")
}

/// What a build of the targets reads and writes outside of what is its own.
pub(crate) fn wants<'t>(targets: impl IntoIterator<Item = &'t Target>) -> Wants {
    let mut wants = Wants::default();
    for target in targets {
        let context = target.context.clone().unwrap_or_else(|| ".".to_owned());
        let contexts = target.contexts.values().chain([&context]);
        for path in contexts.filter_map(|context| local(context)) {
            wants.read.insert(path);
        }
        let file = dockerfile(target, &context).unwrap_or_else(|| format!("{context}/Dockerfile"));
        let is_here = !is_remote(&context) || file.starts_with('/');
        if target.dockerfile_inline.is_none() && is_here && !is_remote(&file) {
            wants.read.insert(PathBuf::from(file));
        }
        let folder = |cache: &Cache, key: &str| {
            cache.attributes.get(key).filter(|_| cache.kind == "local").map(PathBuf::from)
        };
        wants.read.extend(target.cache_from.iter().filter_map(|cache| folder(cache, "src")));
        wants.write.extend(target.cache_to.iter().flatten().filter_map(|cache| folder(cache, "dest")));
        let files = target.secrets.iter().map(|secret| &secret.file);
        wants.read.extend(files.filter(|file| !file.is_empty()).map(PathBuf::from));
        wants.read.extend(target.ssh.iter().flat_map(|ssh| &ssh.paths).map(PathBuf::from));
        wants.ssh |= target.ssh.iter().any(|ssh| ssh.paths.is_empty());
        for output in target.outputs.iter().flatten() {
            if !matches!(output.destination.as_str(), "" | "-") {
                wants.write.insert(PathBuf::from(&output.destination));
            }
            wants.local_delete |=
                output.kind == "local" && output.attributes.get("mode").is_some_and(|mode| mode == "delete");
        }
        wants.entitlements.extend(target.entitlements.iter().cloned());
    }
    wants
}

/// The folder or layout that a context is, if it is one of this machine.
fn local(context: &str) -> Option<PathBuf> {
    if context.starts_with(TARGET) || context.starts_with("docker-image:") || is_remote(context) {
        return None;
    }
    let path = match context.strip_prefix("oci-layout://") {
        Some(layout) => layout.split('@').next().unwrap_or(layout),
        None => context,
    };
    // A layout's tag follows its last colon, but only if the path is not there with it.
    let plain = path.rsplit_once(':').map(|(path, _)| path).filter(|_| !Path::new(path).exists());
    Some(PathBuf::from(plain.filter(|_| context.starts_with("oci-layout://")).unwrap_or(path)))
}

/// Refuses what two targets would write to standard output at once.
pub(crate) fn check_stdout(requests: &[(String, Request)]) -> Result<(), Failure> {
    let writes = |request: &Request| {
        request.outputs.iter().any(|output| match &output.target {
            export::Target::OciArchive(sink)
            | export::Target::DockerArchive(sink)
            | export::Target::Tar { sink, .. } => matches!(sink, export::Sink::Stdout),
            _ => false,
        })
    };
    let names: Vec<&str> =
        requests.iter().filter(|(_, r)| writes(r)).map(|(name, _)| name.as_str()).collect();
    match names.as_slice() {
        [] | [_] => Ok(()),
        [one, two, ..] => {
            let message = format!("the targets `{one}` and `{two}` would both be written to standard output");
            Err(Failure::usage(Diagnostic::error(message).help("give their outputs files with `dest=FILE`")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bake::Output;

    #[test]
    fn fields_become_options() {
        let mut target = Target::default();
        target.name = "app".to_owned();
        target.context = Some("dir".to_owned());
        target.dockerfile = Some("d/File".to_owned());
        target.args = BTreeMap::from([("A".to_owned(), "x,y".to_owned())]);
        target.extra_hosts = BTreeMap::from([("h".to_owned(), "1.1.1.1,::1".to_owned())]);
        target.outputs = Some(vec![Output {
            kind: "oci".to_owned(),
            destination: "a,b.tar".to_owned(),
            ..Output::default()
        }]);
        let words = words(&target);
        assert_eq!(
            words,
            [
                "--file=dir/d/File",
                "--build-arg=A=x,y",
                "--add-host=h=1.1.1.1",
                "--add-host=h=::1",
                "--output=type=oci,\"dest=a,b.tar\"",
                "--",
                "dir"
            ]
        );
    }
}
