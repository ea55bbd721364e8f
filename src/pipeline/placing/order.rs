//! What was asked for, as a value that travels. Everybody who uses the engine's CAS can read it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{Listed, Numbers, Travelling};
use crate::exec::{Dns, Limits};
use crate::export::{Epoch, Output};
use crate::layer::Compression;
use crate::oci::{Platform, Reference};
use crate::pipeline::together::Part;
use crate::pipeline::{ContextFrom, DockerfileFrom, PullPolicy, Request, Squash, Target};
use crate::plan::graph::{BaseOp, BaseOrigin, Graph, MountKind, Network, Op};
use crate::plan::{self, ContextSource, Entitlement};
use crate::report::Diagnostic;
use crate::solve::Tripwire;

/// Of what is written here; a worker of another version refuses it. It cannot happen, as rbuild itself travels, too, unless somebody
/// runs a worker's own.
pub(super) const VERSION: u32 = 4;

/// What one worker is to build.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) version: u32,
    /// Run together; those that others are linked to before these.
    builds: Vec<Build>,
    /// The ids of secrets without which steps fail.
    pub(super) secrets: Vec<String>,
    /// What is in the folders that travel, in the order of their numbers.
    pub(super) contexts: Vec<Vec<Listed>>,
}

/// A build.
#[derive(Debug, Serialize, Deserialize)]
struct Build {
    /// What others are linked to it by; empty for the only one.
    name: String,
    /// The Dockerfile's name, for messages, and its text.
    dockerfile: (String, String),
    build_args: Vec<(String, String)>,
    target: Option<String>,
    platforms: Vec<Platform>,
    /// The one of who placed the build, which `BUILDPLATFORM` and a base for it name: the worker's own may be another.
    build_platform: Platform,
    explicit_platform: bool,
    network: String,
    extra_hosts: Vec<(String, String)>,
    shm_size_bytes: u64,
    ulimits: Vec<(String, i64, i64)>,
    hostname: Option<String>,
    epoch: Option<String>,
    entitlements: Vec<String>,
    /// The bases as they were found here, so that the worker takes no others: name with platform, and reference with digest.
    bases: Vec<(String, String)>,
    /// Named contexts that are images, stages, or what other builds make: name and reference, name and stage, name and build.
    images: Vec<(String, String)>,
    targets: Vec<(String, String)>,
    linked: Vec<(String, String)>,
    /// Those that are folders, and their numbers; the main one has the empty name.
    folders: Numbers,
    /// How layers are compressed, as an output says it.
    compression: String,
    rewrites_times: bool,
    /// RUN sees SOURCE_DATE_EPOCH, too, which is in its cache key.
    reproducible: bool,
    /// What becomes of a secret that the worker finds, as `--tripwire` says it.
    tripwire: String,
    pull: Option<bool>,
    /// The repositories to which the image is pushed from here: a worker with a login for one brings the layers there.
    repositories: Vec<String>,
}

/// Refuses what does not travel.
pub(super) fn refuse(request: &Request) -> Result<(), Vec<Diagnostic>> {
    let no = |what: &str, help: &str| {
        let told = Diagnostic::error(format!("{what} does not go with `--on`"));
        Err(vec![if help.is_empty() { told } else { told.help(help) }])
    };
    match &request.context {
        ContextFrom::Directory(_) => {}
        ContextFrom::Stdin | ContextFrom::Archive(_) | ContextFrom::Git(_) | ContextFrom::Url(_) => {
            return no("a context that is no folder", "unpack or clone it, and build the folder");
        }
    }
    if !request.secrets.is_empty() || !request.ssh.is_empty() {
        return no(
            "`--secret` or `--ssh`",
            "what travels can be read by others there: give secrets to the workers, or to a cluster as a Secret, by their ids (docs/engines.md)",
        );
    }
    if request.offline {
        return no("`--offline`", "");
    }
    if request.no_cache || !request.no_cache_stages.is_empty() {
        return no(
            "`--no-cache` or `--no-cache-filter`",
            "what a worker made is found as what is in a cache: change what the step depends on, or build on this machine",
        );
    }
    if request.limits != Limits::default() || request.dns != Dns::default() {
        return no(
            "a limit of memory, processors or processes, or a server of names",
            "workers have their own: `--on reapi://…,platform.NAME=VALUE` chooses among them, `limits` of the configuration are those of a pod",
        );
    }
    if !request.volumes.is_empty() {
        return no("`--volume`", "it shows folders of this machine");
    }
    if request.options.contexts.iter().any(|(_, source)| {
        matches!(
            source,
            ContextSource::Layout { .. }
                | ContextSource::Engine(_)
                | ContextSource::Git(_)
                | ContextSource::Url(_)
        )
    }) {
        return no("a named context that is no folder, image, stage or target", "");
    }
    let epochs = request.outputs.iter().any(|output| output.epoch != Epoch::OfBuild);
    let is_number = |text: &str| text.parse::<i64>().is_ok();
    let arguments = request.options.build_args.iter().filter(|(name, _)| name == "SOURCE_DATE_EPOCH");
    let given = arguments.filter_map(|(_, value)| value.as_deref()).next_back();
    let given = given.or(request.options.epoch.as_deref());
    if epochs || given.is_some_and(|text| !is_number(text)) || (request.reproducible && given.is_none()) {
        return no(
            "a time that is looked up here",
            "say SOURCE_DATE_EPOCH as a number of seconds, as a build argument or in the environment",
        );
    }
    Ok(())
}

/// Secrets that the build needs are the worker's to have; that they are not sent was said by [`refuse`]. An ssh agent is nowhere.
pub(super) fn refuse_secrets(graph: &Graph, parts: &[Part<'_>]) -> Result<(), Vec<Diagnostic>> {
    let needs_ssh = graph.steps.iter().any(|step| match &step.op {
        Op::Exec { op, .. } => {
            op.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Ssh { required: true, .. }))
        }
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) | Op::Workdir { .. } | Op::Copy { .. } => {
            false
        }
    });
    let is_insecure =
        |part: &Part<'_>| part.request.options.entitlements.contains(&Entitlement::SecurityInsecure);
    let needs_insecure = parts.iter().any(is_insecure);
    match (needs_ssh, needs_insecure) {
        (true, _) => Err(vec![
            Diagnostic::error("the build needs an ssh agent, and no worker has one")
                .help("build it on this machine, without `--on`"),
        ]),
        (false, true) => Err(vec![Diagnostic::error("`--allow security.insecure` does not go with `--on`")]),
        (false, false) => Ok(()),
    }
}

impl Order {
    /// To build these, whose steps are in this graph.
    pub(super) fn of(
        (parts, graph): (&[Part<'_>], &Graph),
        (contexts, numbers): (&[Travelling], Vec<Numbers>),
    ) -> Result<Self, Vec<Diagnostic>> {
        let builds = parts.iter().zip(numbers).map(|(part, numbers)| Build::of(part, numbers));
        let mut builds = builds.collect::<Result<Vec<Build>, _>>()?;
        // Lines name nothing where there is nothing to be told apart.
        if let [only] = builds.as_mut_slice() {
            only.name.clear();
        }
        Ok(Self {
            version: VERSION,
            builds,
            secrets: needed_secrets(graph),
            contexts: contexts.iter().map(Travelling::listed).collect(),
        })
    }

    /// What the worker builds, which finds the contexts in these folders.
    ///
    /// # Errors
    /// When a value is none.
    pub(super) fn into_targets(self, store_root: &Path, folders: &[PathBuf]) -> Result<Vec<Target>, String> {
        let target = |build: Build| {
            let name = build.name.clone();
            Ok(Target { name, request: build.into_request(store_root.to_owned(), folders)? })
        };
        self.builds.into_iter().map(target).collect()
    }
}

impl Build {
    /// What of a request makes a difference to layers; it was [looked at](refuse). Each field is named, so that a new one does not compile
    /// until somebody decides.
    fn of(part: &Part<'_>, folders: Numbers) -> Result<Self, Vec<Diagnostic>> {
        let (request, source) = (part.request, part.inputs.source());
        let Request {
            options,
            platforms,
            outputs: _,
            pull,
            // This machine's, and what becomes of the image here.
            store_root: _,
            other_stores: _,
            cache_from: _,
            cache_to: _,
            cache_mounts: _,
            notes: _,
            dockerfile: _,
            context: _,
            tags: _,
            push: _,
            uploads: _,
            iidfile: _,
            identity: _,
            annotations: _,
            jobs: _,
            store_quota: _,
            offline: _,
            registries: _,
            lock: _,
            policies: _,
            squash: _,
            list: _,
            dockers_types: _,
            attestations: _,
            ignore_file: _,
            keep_failed: _,
            recording: _,
            on: _,
            brought: _,
            // Refused, or the worker's own affair.
            no_cache: _,
            no_cache_stages: _,
            secrets: _,
            ssh: _,
            volumes: _,
            limits: _,
            dns: _,
            // In the form of layers, and `reproducible` in RUN's environment.
            rewrite_timestamp: _,
            reproducible,
            tripwire,
            // The image is held to these where it is named.
            budgets: _,
        } = request;
        let plan::Options {
            build_args,
            target,
            network,
            extra_hosts,
            shm_size_bytes,
            ulimits,
            hostname,
            contexts: named,
            epoch,
            entitlements,
            explicit_platform,
            build_platform,
            // In the image's configuration alone, or looked up.
            labels: _,
            target_number: _,
            stop: _,
            platform: _,
            epoch_of_source: _,
            fallback_epoch: _,
            // It follows from `reproducible`.
            epoch_in_run: _,
            lint: _,
            // They can have passwords in them, and are the worker's own affair.
            proxy_env: _,
        } = options;
        let mut images = Vec::new();
        let mut targets = Vec::new();
        let mut linked = Vec::new();
        for (name, source) in named {
            match source {
                ContextSource::Linked(target) => linked.push((name.clone(), target.clone())),
                ContextSource::Image(reference) => images.push((name.clone(), reference.to_string())),
                ContextSource::Target(target) => targets.push((name.clone(), target.clone())),
                ContextSource::Dir(_)
                | ContextSource::Layout { .. }
                | ContextSource::Engine(_)
                | ContextSource::Git(_)
                | ContextSource::Url(_) => {}
            }
        }
        let given = |(name, value): &(String, Option<String>)| Some((name.clone(), value.clone()?));
        Ok(Self {
            name: part.name.to_owned(),
            dockerfile: (source.name.clone(), source.text.clone()),
            build_args: build_args.iter().filter_map(given).collect(),
            target: target.clone(),
            platforms: if platforms.is_empty() { vec![options.platform.clone()] } else { platforms.clone() },
            build_platform: build_platform.clone(),
            explicit_platform: *explicit_platform,
            network: network_name(*network).to_owned(),
            extra_hosts: extra_hosts.clone(),
            shm_size_bytes: *shm_size_bytes,
            ulimits: ulimits.clone(),
            hostname: hostname.clone(),
            epoch: epoch.clone(),
            entitlements: match entitlements.contains(&Entitlement::NetworkHost) {
                true => vec!["network.host".to_owned()],
                false => Vec::new(),
            },
            images,
            targets,
            linked,
            folders,
            compression: compression_name(request.layer_options(None).compression),
            rewrites_times: request.rewrites_times(),
            reproducible: *reproducible,
            tripwire: tripwire_name(*tripwire).to_owned(),
            pull: match pull {
                PullPolicy::Always => Some(true),
                _ => None,
            },
            repositories: repositories(request),
            bases: part.bases.iter().map(pinned).collect::<Result<_, _>>()?,
        })
    }

    fn into_request(self, store_root: PathBuf, folders: &[PathBuf]) -> Result<Request, String> {
        let folder = |name: &str, number: &usize| {
            folders.get(*number).ok_or(format!("the order has no context `{name}`"))
        };
        let main = folder("", self.folders.get("").unwrap_or(&usize::MAX))?;
        let mut request = Request::new(store_root, main.clone());
        let (name, text) = self.dockerfile;
        request.dockerfile = DockerfileFrom::Inline { name, text };
        request.context = ContextFrom::Directory(main.clone());
        let mut contexts: Vec<(String, ContextSource)> = Vec::new();
        for (name, number) in self.folders.iter().filter(|(name, _)| !name.is_empty()) {
            contexts.push((name.clone(), ContextSource::Dir(folder(name, number)?.clone())));
        }
        for (name, image) in self.images.into_iter().chain(self.bases) {
            let reference: Reference = image.parse().map_err(|e| format!("`{image}`: {e}"))?;
            contexts.push((name, ContextSource::Image(reference)));
        }
        contexts.extend(self.targets.into_iter().map(|(name, target)| (name, ContextSource::Target(target))));
        contexts.extend(self.linked.into_iter().map(|(name, target)| (name, ContextSource::Linked(target))));
        let network = [Network::Default, Network::Host, Network::None, Network::Pasta]
            .into_iter()
            .find(|network| network_name(*network) == self.network);
        request.options = plan::Options {
            build_args: self.build_args.into_iter().map(|(name, value)| (name, Some(value))).collect(),
            target: self.target,
            platform: self.platforms.first().cloned().unwrap_or_else(Platform::host),
            build_platform: self.build_platform,
            explicit_platform: self.explicit_platform,
            network: network.ok_or(format!("`{}` is no network", self.network))?,
            extra_hosts: self.extra_hosts,
            shm_size_bytes: self.shm_size_bytes,
            ulimits: self.ulimits,
            hostname: self.hostname,
            contexts,
            epoch: self.epoch,
            entitlements: match self.entitlements.is_empty() {
                true => BTreeSet::new(),
                false => BTreeSet::from([Entitlement::NetworkHost]),
            },
            proxy_env: crate::config::dockers_proxies(),
            ..plan::Options::default()
        };
        request.platforms = self.platforms;
        request.outputs =
            vec![Output::parse(&format!("type=image,{}", self.compression)).map_err(|e| e.to_string())?];
        request.rewrite_timestamp = self.rewrites_times;
        request.reproducible = self.reproducible;
        let tripwire = [Tripwire::Stop, Tripwire::Warn, Tripwire::Off]
            .into_iter()
            .find(|tripwire| tripwire_name(*tripwire) == self.tripwire);
        request.tripwire = tripwire.ok_or(format!("`{}` is no tripwire", self.tripwire))?;
        if self.pull == Some(true) {
            request.pull = PullPolicy::Always;
        }
        request.squash = Squash::None;
        for repository in &self.repositories {
            request.uploads.push(repository.parse().map_err(|e| format!("`{repository}`: {e}"))?);
        }
        Ok(request)
    }
}

/// A base, pinned to what it was found to be.
fn pinned(base: &BaseOp) -> Result<(String, String), Vec<Diagnostic>> {
    let BaseOp { request, image } = base;
    match (&request.origin, &image.remote) {
        (BaseOrigin::Image(_), Some(remote)) => {
            let name = format!("{}::{}", request.name, request.platform);
            Ok((name, remote.pinned(image.target.digest).full()))
        }
        _ => {
            let told = Diagnostic::error(format!("the base `{}` is on this machine alone", request.name));
            Err(vec![told.help("push it to a registry that workers reach, or build without `--on`")])
        }
    }
}

/// The ids of secrets that steps ask for and cannot do without.
fn needed_secrets(graph: &Graph) -> Vec<String> {
    let mounts = graph.steps.iter().flat_map(|step| match &step.op {
        Op::Exec { op, .. } => op.mounts.as_slice(),
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) | Op::Workdir { .. } | Op::Copy { .. } => &[],
    });
    let ids = mounts.filter_map(|mount| match &mount.kind {
        MountKind::Secret { id, required: true, .. } => Some(id.clone()),
        _ => None,
    });
    ids.collect::<BTreeSet<String>>().into_iter().collect()
}

/// The repositories that get the layers as workers make them, each once.
fn repositories(request: &Request) -> Vec<String> {
    if request.squash != Squash::None || request.forced().is_some() {
        return Vec::new();
    }
    let names = request.pushed_names();
    let names = names.iter().map(|name| format!("{}/{}", name.registry(), name.repository()));
    names.collect::<BTreeSet<String>>().into_iter().collect()
}

fn network_name(network: Network) -> &'static str {
    match network {
        Network::Default => "default",
        Network::Host => "host",
        Network::None => "none",
        Network::Pasta => "pasta",
    }
}

fn tripwire_name(tripwire: Tripwire) -> &'static str {
    match tripwire {
        Tripwire::Stop => "stop",
        Tripwire::Warn => "warn",
        Tripwire::Off => "off",
    }
}

/// As an output says it.
fn compression_name(compression: Compression) -> String {
    match compression {
        Compression::None => "compression=uncompressed".to_owned(),
        Compression::Gzip { level } => format!("compression=gzip,compression-level={level}"),
        Compression::Zstd { level } => format!("compression=zstd,compression-level={level}"),
        Compression::Estargz { level } => format!("compression=estargz,compression-level={level}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::files;
    use super::*;
    use crate::exec::Stop;
    use crate::pipeline::inputs::Pool;
    use crate::pipeline::together;
    use crate::report::Events;

    #[test]
    fn a_worker_of_another_architecture_plans_as_who_placed_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let foreign: Platform = "linux/riscv64".parse().unwrap();
        assert_ne!(foreign, Platform::host());
        let mut request = Request::new(dir.path().join("store"), dir.path().to_owned());
        let text =
            "FROM scratch\nARG BUILDPLATFORM BUILDARCH\nWORKDIR /$BUILDARCH/$BUILDPLATFORM\n".to_owned();
        request.dockerfile = DockerfileFrom::Inline { name: "Dockerfile".to_owned(), text };
        request.options.build_platform = foreign.clone();
        let targets = [Target { name: String::new(), request }];
        let (stop, events, pool) = (Stop::default(), Events::silent(), Pool::default());
        // What each plans, and the order that follows from it.
        let planned = |targets: &[Target]| {
            let ordered = together::in_order(targets).unwrap();
            let services = together::whole(&ordered).services(&stop, &events).unwrap();
            let (parts, graph) = together::planned(&ordered, &services, &pool).unwrap();
            let environments = together::environments(&parts).unwrap();
            let contexts: Vec<_> =
                environments.iter().map(|environment| environment.given.contexts).collect();
            let (contexts, numbers) = files::of_graph(&graph, &contexts, &services.store).unwrap();
            let order = Order::of((&parts, &graph), (&contexts, numbers)).unwrap();
            let operations: Vec<String> = graph.steps.iter().map(|step| format!("{:?}", step.op)).collect();
            (serde_json::to_vec(&order).unwrap(), operations)
        };
        let (order, here) = planned(&targets);
        assert!(here.iter().any(|step| step.contains("/riscv64/linux/riscv64")), "{here:?}");
        let order: Order = serde_json::from_slice(&order).unwrap();
        let folders = vec![dir.path().to_owned(); order.contexts.len().max(1)];
        let there = order.into_targets(&dir.path().join("there"), &folders).unwrap();
        assert_eq!(there[0].request.options.build_platform, foreign);
        assert_eq!(planned(&there).1, here);
    }
}
