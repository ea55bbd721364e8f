//! The options of `rbuild build` as a request: every value is checked here, before anything runs.

use clap::Arg;

use super::budget::BudgetArgs;
use super::build::{BuildArgs, OnFail};
use super::caches;
use super::configuration::Configuration;
use super::contexts::{context, dockerfile, named_contexts};
use super::docker::switch;
use super::secrets;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::face::Face;
use crate::config::policy::Policy;
use crate::export::{Output, Target};
use crate::oci::{Annotation, Platform, Reference};
use crate::pipeline::{self, Budgets, ContextFrom, Identity, PullPolicy, Recording, Request};
use crate::plan::graph::Network;
use crate::plan::{Entitlement, Options};
use crate::report::Diagnostic;

/// Checks the options and makes a request of them.
pub(crate) fn from_args(
    global: &Global,
    configuration: &Configuration,
    args: &BuildArgs,
) -> Result<Request, Failure> {
    refuse_shell_there(args)?;
    let store_root = global.store_root().ok_or_else(Failure::no_store_root)?;
    let platforms = match args.podman.platform() {
        Some(platform) if args.platform.is_empty() => vec![platform],
        _ => platforms(configuration, &args.platform)?,
    };
    let options = Options {
        build_args: args
            .build_arg
            .iter()
            .filter_map(|text| build_arg(text))
            .map(|(name, value)| (name, Some(value)))
            .collect(),
        target: args.target.clone().filter(|t| !t.is_empty()),
        target_number: None,
        stop: None,
        platform: platforms.first().cloned().unwrap_or_else(Platform::host),
        build_platform: Platform::host(),
        explicit_platform: !platforms.is_empty(),
        labels: all(&args.label, "--label", |text| Ok(key_value(text)))?,
        network: args.limits.network(configuration)?,
        lint: false,
        entitlements: all(&args.allow, "--allow", entitlement)?.into_iter().flatten().collect(),
        extra_hosts: args.limits.extra_hosts()?,
        shm_size_bytes: args.limits.shm_size_bytes()?,
        ulimits: args.limits.ulimits()?,
        contexts: named_contexts(&args.build_context)?,
        proxy_env: crate::config::dockers_proxies(),
        hostname: None,
        epoch: args.podman.epoch(),
        fallback_epoch: None,
        epoch_in_run: false,
        epoch_of_source: None,
    };
    let mut outputs = all(&args.output, "--output", |text| Output::parse(text).map_err(|e| e.to_string()))?;
    let push = args.push && !pushed(&mut outputs);
    super::load::add(args.load.as_deref(), global.face, args.push, &mut outputs)?;
    let tags = tags(&args.tag, &mut outputs)?;
    let annotations: Vec<Annotation> =
        all(&args.annotation, "--annotation", Annotation::parse)?.into_iter().flatten().collect();
    outputs.iter_mut().filter(|output| output.is_image()).for_each(|output| {
        output.annotations.splice(..0, annotations.iter().cloned());
    });
    pipeline::agree_about_layers(&outputs).map_err(Failure::usage)?;
    if args.offline && outputs.iter().any(Output::pushes) {
        return Err(bad("--output", "type=registry", "`--offline` forbids to push"));
    }
    pipeline::push::check(push, &tags, &outputs).map_err(Failure::usage)?;
    let (cache_from, from_notes) = caches::from(&args.cache_from, configuration)?;
    let (cache_to, to_notes) = caches::to(&args.cache_to, configuration, global.face)?;
    let mut notes = args.docker.notes(&args.context, args.file.as_deref())?;
    let (attestations, about_attestations) = args.docker.attestations(global.face)?;
    notes.extend(about_attestations);
    notes.extend(outputs.iter().flat_map(|output| output.notes.clone()));
    let insecure = insecure(&tags, &outputs);
    Ok(Request {
        store_root,
        other_stores: Vec::new(),
        uploads: Vec::new(),
        on: super::on::parse(args.on.as_deref(), configuration)?,
        brought: Vec::new(),
        cache_from,
        cache_to,
        cache_mounts: caches::mounts(args.cache_mounts.as_deref())?,
        notes: from_notes.into_iter().chain(to_notes).chain(notes).collect(),
        dockerfile: dockerfile(args.file.as_deref(), &args.context)?,
        context: context(&args.context),
        options,
        platforms,
        tags,
        annotations,
        identity: identity(global.face, &outputs),
        outputs,
        push,
        registries: args.podman.apply(configuration.registries_with(&args.registries, insecure)?)?,
        iidfile: args.iidfile.clone(),
        // As with podman, 0 is no limit; no plan has more steps than that.
        jobs: args.jobs.and_then(|jobs| jobs.0).map(|jobs| if jobs == 0 { usize::MAX } else { jobs }),
        pull: pull(args.pull.as_deref(), args.offline)?,
        store_quota: configuration.own.store_quota_bytes,
        offline: args.offline,
        lock: lock(args)?,
        policies: policies(args, configuration)?,
        no_cache: args.no_cache,
        no_cache_stages: args.no_cache_filter.iter().filter(|name| !name.is_empty()).cloned().collect(),
        squash: args.podman.squashed(),
        list: args.podman.list()?,
        dockers_types: false,
        attestations,
        rewrite_timestamp: args.podman.rewrites(),
        reproducible: reproducible(args.reproducible, configuration)?,
        ignore_file: args.podman.ignorefile.clone(),
        volumes: Vec::new(),
        secrets: secrets::parse(&args.secret)?,
        tripwire: secrets::tripwire(args.tripwire.as_deref(), global.face)?,
        keep_failed: args.on_fail != OnFail::Remove,
        limits: args.limits.limits()?,
        dns: args.limits.dns()?,
        ssh: super::ssh::parse(&args.ssh)?,
        recording: recording(configuration, args),
        budgets: Budgets { limits: args.budget.limits()?, against: None },
    })
}

/// What is recorded of a build. Traces and reports are made of the record, so whoever wants one has that, too.
fn recording(configuration: &Configuration, args: &BuildArgs) -> Recording {
    let history = &configuration.own.history;
    match args.record_build_args || history.argument_values == Some(true) {
        _ if history.records == Some(false) && args.trace.is_none() && args.report.is_none() => {
            Recording::Off
        }
        true => Recording::WithValues,
        false => Recording::WithoutValues,
    }
}

/// `--at` belongs to another command.
pub(crate) fn refuse_at(args: &BuildArgs) -> Result<(), Failure> {
    match &args.at {
        None => Ok(()),
        Some(at) => {
            let error = Diagnostic::error("--at opens a shell, so it belongs to `rbuild shell`");
            Err(Failure::usage(
                error.help(format!("`rbuild shell --at {at}`; to build one stage only, `--target`")),
            ))
        }
    }
}

/// A step that fails on a worker is kept nowhere.
fn refuse_shell_there(args: &BuildArgs) -> Result<(), Failure> {
    if args.on.is_none() || args.on_fail != OnFail::Shell {
        return Ok(());
    }
    let error =
        Diagnostic::error("`--on-fail=shell` opens no shell with `--on`: what fails, fails on a worker");
    Err(Failure::usage(error.help("leave out `--on` to build on this machine, where the shell opens")))
}

/// `--on` is for what builds and gives images.
pub(crate) fn refuse_on(args: &BuildArgs, what: &str) -> Result<(), Failure> {
    match &args.on {
        None => Ok(()),
        Some(_) => {
            let error =
                Diagnostic::error(format!("`--on` means nothing to {what}, which happens on this machine"));
            Err(Failure::usage(
                error.help("`rbuild build --on` and `rbuild bake --on` have an engine do a build"),
            ))
        }
    }
}

/// Hides options of a build that mean nothing to another command, by their ids.
pub(crate) fn hide(arg: Arg, ids: &[&str]) -> Arg {
    let id = arg.get_id().as_str();
    let hidden = ids.contains(&id) || OF_RESULTS.contains(&id) || BudgetArgs::IDS.contains(&id);
    if hidden { arg.hide(true) } else { arg }
}

/// The ids of the options about what a build gives.
const OF_RESULTS: [&str; 18] = [
    "advice",
    "attest",
    "provenance",
    "sbom",
    "tag",
    "output",
    "load",
    "push",
    "iidfile",
    "metadata_file",
    "manifest",
    "squash",
    "squash_all",
    "label",
    "annotation",
    "check",
    "call",
    "quiet",
];

/// An option that changes nothing would be believed to change something: refuses those about what a build gives, for a
/// `command` that gives no image, and `others`, each with whether it was given.
pub(crate) fn refuse_results(
    args: &BuildArgs,
    others: &[(&str, bool)],
    command: &str,
    help: &str,
) -> Result<(), Failure> {
    let results = [
        ("--tag", !args.tag.is_empty()),
        ("--output", !args.output.is_empty()),
        ("--push", args.push),
        ("--load", args.load.is_some()),
        ("--iidfile", args.iidfile.is_some()),
        ("--label", !args.label.is_empty()),
        ("--annotation", !args.annotation.is_empty()),
        ("--metadata-file", args.docker.metadata_file.is_some()),
        ("--sbom, --provenance or --attest", args.docker.wants_attestations()),
        ("--manifest", args.podman.manifest.is_some()),
        ("--squash", args.podman.squash || args.podman.squash_all),
        ("--on-fail", args.on_fail != OnFail::Keep),
        ("--check", args.check),
        ("--call", args.call.is_some() || args.docker.print.is_some()),
        ("--quiet", args.quiet),
        ("--report", args.report.is_some()),
        ("--trace", args.trace.is_some()),
        ("--advice", args.advice.is_some()),
        (args.budget.given().unwrap_or_default(), args.budget.given().is_some()),
    ];
    match results.iter().chain(others).find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("`{name}` means nothing to `rbuild {command}`, which makes no image");
            Err(Failure::usage(Diagnostic::error(message).help(help)))
        }
    }
}

/// The configuration's rules, which nobody switches off, and those of `--policy`.
fn policies(args: &BuildArgs, configuration: &Configuration) -> Result<Vec<Policy>, Failure> {
    let mut policies: Vec<Policy> = configuration.own.policy.iter().cloned().collect();
    policies.extend(args.docker.policies()?);
    Ok(policies)
}

/// `--reproducible`
fn reproducible(option: Option<bool>, configuration: &Configuration) -> Result<bool, Failure> {
    let variable = "RBUILD_REPRODUCIBLE";
    match (option, self::variable(variable)) {
        (Some(is_on), _) => Ok(is_on),
        (None, Some(text)) => switch(&text).map_err(|_| {
            Failure::usage(Diagnostic::error(format!("`{variable}={text}`: it is `true` or `false`")))
        }),
        (None, None) => Ok(configuration.own.defaults.reproducible.unwrap_or(false)),
    }
}

/// A lock file is beside the Dockerfile of a folder, whatever that is called.
fn lock(args: &BuildArgs) -> Result<Option<pipeline::Lock>, Failure> {
    let missing = match (args.lock, args.locked) {
        (true, _) => pipeline::Missing::Add,
        (_, true) => pipeline::Missing::Refuse,
        (false, false) => pipeline::Missing::Take,
    };
    match context(&args.context) {
        ContextFrom::Directory(folder) => {
            Ok(Some(pipeline::Lock { file: folder.join("rbuild.lock"), missing }))
        }
        _ if missing == pipeline::Missing::Take => Ok(None),
        _ => Err(Failure::usage(pipeline::no_folder())),
    }
}

/// docker's `--pull` is a switch, podman's has policies; both are understood.
pub(crate) fn pull(given: Option<&str>, offline: bool) -> Result<PullPolicy, Failure> {
    match given {
        None if offline => Ok(PullPolicy::Never),
        None | Some("false") => Ok(PullPolicy::Current),
        Some("always" | "true") => Ok(PullPolicy::Always),
        Some("missing") => Ok(PullPolicy::Missing),
        Some("never") => Ok(PullPolicy::Never),
        Some(other) => Err(bad("--pull", other, "it is always, missing or never")),
    }
}

/// Parses each value of a repeated option; the first bad one is a usage error that names the option.
pub(crate) fn all<T>(
    values: &[String],
    option: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Failure> {
    values.iter().map(|value| parse(value).map_err(|reason| bad(option, value, &reason))).collect()
}

/// A usage error that names the option.
pub(crate) fn bad(option: &str, value: &str, reason: &str) -> Failure {
    // A secret's value can only be in `--build-arg` and friends, none of which are refused here.
    Failure::usage(Diagnostic::error(format!("bad value `{value}` for {option}: {reason}")))
}

/// `K=V`, or `K` alone with the value from the environment; nothing when the environment has none.
fn build_arg(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.to_owned(), value)),
    }
}

fn key_value(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// `--push` is about the outputs that are images in a registry, if there are any, as in buildx.
fn pushed(outputs: &mut [Output]) -> bool {
    let mut is_said = false;
    for output in outputs {
        if let Target::Image { push, .. } = &mut output.target {
            (*push, is_said) = (true, true);
        }
    }
    is_said
}

/// The names of the image. Where an output pushes it by its digest, they are names of that output, and have no tag.
fn tags(given: &[String], outputs: &mut [Output]) -> Result<Vec<Reference>, Failure> {
    let by_digest: Vec<&mut Output> = outputs.iter_mut().filter(|output| output.pushes_by_digest()).collect();
    if by_digest.is_empty() {
        return all(given, "--tag", tag);
    }
    let names = all(given, "--tag", |text| {
        tag(text)?;
        let name = text.parse::<Reference>().map_err(|e| e.reason.to_owned())?;
        match name.tag() {
            None => Ok(name),
            Some(_) => {
                Err("what is pushed by its digest has no tag; leave it out, or `push-by-digest=true`"
                    .to_owned())
            }
        }
    })?;
    by_digest.into_iter().for_each(|output| output.names.extend(names.iter().cloned()));
    Ok(Vec::new())
}

/// The registries that `registry.insecure=true` is said of.
fn insecure(tags: &[Reference], outputs: &[Output]) -> Vec<String> {
    let named = outputs.iter().filter(|output| output.insecure);
    let names = named.flat_map(|output| output.names.iter().chain(tags));
    names.map(|name| name.registry().to_owned()).collect()
}

/// What docker is to load it knows by the digest of its configuration, as buildx prints it then; rbuild's own store knows it
/// by that of its manifest, as does docker's with containerd. Who calls rbuild docker expects docker's.
fn identity(face: Face, outputs: &[Output]) -> Identity {
    let is_dockers = face == Face::Docker;
    let is_for_docker = |output: &Output| matches!(output.target, Target::DockerArchive(_) | Target::Load(_));
    match is_dockers || outputs.iter().any(is_for_docker) {
        true => Identity::Configuration,
        false => Identity::Manifest,
    }
}

/// `NAME[:TAG]`
pub(crate) fn tag(text: &str) -> Result<Reference, String> {
    let reference = text.parse::<Reference>().map_err(|e| e.reason.to_owned())?;
    if reference.digest().is_some() {
        return Err("a name for a new image cannot have a digest".to_owned());
    }
    Ok(reference.with_default_tag())
}

/// `--network`
pub(crate) fn network(configuration: &Configuration, given: Option<&str>) -> Result<Network, Failure> {
    let (option, text) = match (given, &configuration.own.defaults.network) {
        (Some(text), _) => ("--network", text),
        (None, Some(text)) => ("`network` in the configuration", text.as_str()),
        (None, None) => return Ok(Network::Default),
    };
    network_named(text).ok_or_else(|| bad(option, text, "it is default, host, none or pasta"))
}

/// The network of that name.
pub(super) fn network_named(name: &str) -> Option<Network> {
    match name {
        "default" | "" => Some(Network::Default),
        "host" => Some(Network::Host),
        "none" => Some(Network::None),
        "pasta" => Some(Network::Pasta),
        _ => None,
    }
}

/// What to build for; empty means this machine.
fn platforms(configuration: &Configuration, given: &[String]) -> Result<Vec<Platform>, Failure> {
    let parse = |text: &str| text.parse::<Platform>().map_err(|e| e.to_string());
    let listed = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<String>>();
    match (given, variable("DOCKER_DEFAULT_PLATFORM"), &configuration.own.defaults.platform) {
        ([], Some(text), _) => all(&listed(&text), "$DOCKER_DEFAULT_PLATFORM", parse),
        ([], None, Some(text)) => all(&listed(text), "`platform` in the configuration", parse),
        _ => all(given, "--platform", parse),
    }
}

/// A variable of rbuild's environment; an empty one is as none.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// buildx's others allow what a build of rbuild's may do anyway: it reads and writes what its command line names.
fn entitlement(text: &str) -> Result<Option<Entitlement>, String> {
    match text.split_once('=').map_or(text, |(key, _)| key) {
        "network.host" => Ok(Some(Entitlement::NetworkHost)),
        "security.insecure" => Ok(Some(Entitlement::SecurityInsecure)),
        "buildx.local.delete" | "fs" | "fs.read" | "fs.write" | "ssh" | "image" => Ok(None),
        "device" => Err("there are no devices for a RUN".to_owned()),
        _ => Err("it is network.host or security.insecure".to_owned()),
    }
}

/// `HOST:IP` or `HOST=IP`
pub(crate) fn extra_host(text: &str) -> Result<(String, String), String> {
    let (host, address) =
        text.split_once('=').or_else(|| text.split_once(':')).ok_or("write it as HOST:IP")?;
    // RUN is on this machine's own network, so the way to the machine is its loopback.
    let address = if address == "host-gateway" { "127.0.0.1" } else { address };
    let plain = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if host.is_empty() || plain.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("`{address}` is no IP address"));
    }
    Ok((host.to_owned(), plain.to_owned()))
}

/// A size as docker reads it.
pub(crate) fn size(option: &str, text: &str) -> Result<u64, Failure> {
    let reason = "write it as a number with k, m or g, such as 128m";
    crate::text::size::parse(text.trim()).ok_or_else(|| bad(option, text, reason))
}

/// `nofile=1024:2048`; -1 is unlimited.
pub(crate) fn ulimit(text: &str) -> Result<(String, i64, i64), String> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, value) = text.split_once('=').ok_or("write it as NAME=SOFT[:HARD]")?;
    if !NAMES.contains(&name) {
        return Err(format!("`{name}` is no limit; there are {}", NAMES.join(", ")));
    }
    let number =
        |text: &str| text.parse::<i64>().ok().filter(|n| *n >= -1).ok_or(format!("`{text}` is no number"));
    let (soft, hard) = match value.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(value)?, number(value)?),
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err("the soft limit is above the hard one".to_owned());
    }
    Ok((name.to_owned(), soft, hard))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ulimits_are_checked() {
        assert_eq!(ulimit("nofile=1024:2048").unwrap(), ("nofile".to_owned(), 1024, 2048));
        assert_eq!(ulimit("core=-1").unwrap(), ("core".to_owned(), -1, -1));
        for text in ["nofile", "what=1", "nofile=2:1", "nofile=x"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_may_be_written_both_ways() {
        assert_eq!(extra_host("a:10.0.0.1").unwrap(), ("a".to_owned(), "10.0.0.1".to_owned()));
        assert_eq!(extra_host("h:host-gateway").unwrap(), ("h".to_owned(), "127.0.0.1".to_owned()));
        assert_eq!(extra_host("a=[::1]").unwrap(), ("a".to_owned(), "::1".to_owned()));
        assert_eq!(extra_host("a:::1").unwrap(), ("a".to_owned(), "::1".to_owned()));
        assert!(extra_host("a:b").is_err());
    }
}
