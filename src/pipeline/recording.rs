//! What a build's record says that its events do not carry: what was asked for, what was read, what came of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::inputs::Inputs;
use super::result::{PlatformResult, Results};
use super::{Built, ContextFrom, DockerfileFrom, PullPolicy, Request, Squash, Target};
use crate::export;
use crate::insight::missed::counterpart;
use crate::insight::place;
use crate::oci::{self, Descriptor, Reference};
use crate::plan::ContextSource;
use crate::plan::graph::{BaseOrigin, Network};
use crate::record::{
    self, Argument, Context, ContextKind, Outcome, Pair, Record, Recorder, Repository, Step, kept,
};
use crate::report::Foresight;
use crate::solve::{Materials, Words, usual_jobs};
use crate::source::git::here;
use crate::store::Store;
use crate::text::url::without_password;

/// What of a build is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recording {
    /// Nothing.
    Off,
    /// All but values of build arguments.
    #[default]
    WithoutValues,
    /// Values of build arguments, too; but not those of proxies, which may be logins.
    WithValues,
}

/// A recorder of these targets; `None` if nothing is to be recorded, and nobody wants attestations, which are made of the same.
pub(super) fn start(targets: &[&Target], whole: &Request) -> Option<Recorder> {
    let is_attested = |target: &&Target| !target.request.attestations.is_empty();
    if whole.recording == Recording::Off && !targets.iter().any(is_attested) {
        return None;
    }
    let hidden = targets.iter().flat_map(|target| target.request.hidden_values());
    let asked = targets.iter().map(|target| target.request.asked(&target.name)).collect();
    let recorder = Recorder::new(asked, whole.jobs.unwrap_or_else(usual_jobs), hidden);
    for request in targets.iter().map(|target| &target.request) {
        if !request.secrets.is_empty() || !request.ssh.is_empty() {
            let words = Words::of_given(&request.secrets(), &request.ssh.iter().cloned().collect());
            recorder.hide(Box::new(move |text| words.masked(text)));
        }
    }
    Some(recorder)
}

/// Tells how long the steps of this build took in the builds of the same place before it.
pub(super) fn foresight(recorder: &Arc<Recorder>, store: &Store) -> Foresight {
    let (recorder, store) = (Arc::downgrade(recorder), store.clone());
    Foresight::new(move || {
        recorder.upgrade().map(|recorder| times(&recorder.asked(), &store)).unwrap_or_default()
    })
}

/// How long each of the steps took when it ran last, here or elsewhere, in the builds of the same place before this one.
pub(super) fn times(asked: &Record, store: &Store) -> Vec<Option<Duration>> {
    /// So many builds are asked.
    const BUILDS: usize = 5;
    let kept = kept::list(store);
    let earlier: Vec<Record> = place::earlier(asked, &kept).take(BUILDS).collect();
    let took = |step: &Step| {
        let mut then = earlier.iter().filter_map(|record| counterpart(step, record));
        let took = |then: &Step| match then.outcome {
            Some(Outcome::Ran) => then.took_ms,
            Some(Outcome::Cached) => then.took_then_ms,
            Some(Outcome::ConfigOnly | Outcome::Failed | Outcome::Cancelled) | None => None,
        };
        then.find_map(took).map(Duration::from_millis)
    };
    asked.steps.iter().map(took).collect()
}

/// Tells what a target's inputs turned out to be.
pub(super) fn opened(recorder: &Recorder, at: usize, inputs: &Inputs<'_>) {
    let path = inputs.dockerfile_path().map(|path| match inputs.context_folder() {
        // Where the folder really is was found out already.
        Some(folder) if is_plain_in(path, folder) => recorder.folder_with(at, path),
        Some(_) | None => absolute(path),
    });
    recorder.read(at, inputs.source(), path);
    if let Some(commit) = inputs.commit() {
        recorder.fetched(at, commit);
    }
}

/// The images that the stages of a target stand on.
pub(super) fn saw_bases(materials: &Materials, inputs: &Inputs<'_>) {
    for base in inputs.bases() {
        let (target, platform) = (base.image.target.digest, &base.request.platform);
        match &base.request.origin {
            BaseOrigin::Image(name) => materials.saw_image(name, target, platform),
            BaseOrigin::Layout { .. } | BaseOrigin::Engine(_) => {
                materials.saw_local_image(&base.request.name, target, platform);
            }
            // Another target of this build.
            BaseOrigin::Linked { .. } => {}
        }
    }
}

/// What a target came to.
pub(super) fn made(built: &Built, results: &Results) -> record::Made {
    record::Made {
        digest: built.digest.to_string(),
        media_type: built.descriptor.media_type.to_string(),
        size: built.descriptor.size,
        id: built.id.to_string(),
        names: built.names.iter().map(Reference::full).collect(),
        layers_size: built.size_bytes,
        ran: built.ran,
        cached: built.cached,
        images: results.images.iter().map(image).collect(),
    }
}

/// The image of a platform.
pub(super) fn image(made: &PlatformResult) -> record::Image {
    let Descriptor { digest, size, media_type, .. } = made.manifest();
    let layer = |layer: &oci::Layer| record::Layer {
        digest: layer.descriptor.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        size: layer.descriptor.size,
    };
    record::Image {
        platform: made.platform().to_string(),
        manifest: digest.to_string(),
        media_type: media_type.to_string(),
        size: *size,
        config: made.config().to_string(),
        layers: made.layers().iter().map(layer).collect(),
    }
}

impl Request {
    /// Values of build arguments that are not to be recorded.
    fn hidden_values(&self) -> Vec<String> {
        let given = self.options.build_args.iter();
        let hidden = given.filter(|(name, _)| !self.records_value_of(name));
        let proxies = self.options.proxy_env.iter().map(|(_, value)| value.clone());
        hidden.filter_map(|(_, value)| value.clone()).chain(proxies).collect()
    }

    fn records_value_of(&self, name: &str) -> bool {
        const ALWAYS: [&str; 2] = ["SOURCE_DATE_EPOCH", "BUILDKIT_BUILD_NAME"];
        !is_proxy(name) && (self.recording == Recording::WithValues || ALWAYS.contains(&name))
    }

    /// What was asked for.
    fn asked(&self, name: &str) -> record::Target {
        let options = &self.options;
        let mut arguments: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for (name, value) in options.build_args.iter().filter(|(_, value)| value.is_some()) {
            arguments.insert(name, value.as_deref().filter(|_| self.records_value_of(name)));
        }
        let argument = |(name, value): (&str, Option<&str>)| Argument {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        let contexts = options.contexts.iter();
        let contexts = contexts.map(|(name, source)| Pair { name: name.clone(), value: shown(source) });
        let pair = |(name, value): &(String, String)| Pair { name: name.clone(), value: value.clone() };
        record::Target {
            name: name.to_owned(),
            context: self.context(),
            dockerfile: record::Dockerfile { name: self.dockerfile_name(), ..record::Dockerfile::default() },
            stage: options.target.clone(),
            platforms: self.platforms_or_host().iter().map(ToString::to_string).collect(),
            arguments: arguments.into_iter().map(argument).collect(),
            labels: options.labels.iter().map(pair).collect(),
            contexts: contexts.collect(),
            secrets: self.secrets.iter().map(|secret| secret.id.clone()).collect(),
            ssh: self.ssh.iter().map(|(id, _)| id.clone()).collect(),
            attributes: self.attributes(),
            form: self.form(),
            names: self.tags.iter().map(Reference::full).collect(),
            outputs: self.output_names(),
            made: None,
        }
    }

    fn context(&self) -> Context {
        let of = |kind, at: String| Context { kind, at, ..Context::default() };
        match &self.context {
            ContextFrom::Directory(path) => {
                let at = absolute(path);
                let repository = here::at(Path::new(&at)).map(|found| Repository {
                    remote: found.remote,
                    commit: found.commit,
                    path: found.path.display().to_string(),
                });
                Context { repository, ..of(ContextKind::Folder, at) }
            }
            ContextFrom::Stdin => of(ContextKind::Stdin, String::new()),
            ContextFrom::Archive(path) => of(ContextKind::Archive, absolute(path)),
            ContextFrom::Git(url) => of(ContextKind::Git, without_password(url)),
            ContextFrom::Url(url) => of(ContextKind::Url, without_password(url)),
        }
    }

    fn dockerfile_name(&self) -> String {
        match &self.dockerfile {
            DockerfileFrom::Context => "Dockerfile".to_owned(),
            DockerfileFrom::Path(path) => path.display().to_string(),
            DockerfileFrom::Url(url) => without_password(url),
            DockerfileFrom::Stdin => "<stdin>".to_owned(),
            DockerfileFrom::Inline { name, .. } => name.clone(),
        }
    }

    /// What else was asked for, by BuildKit's names.
    fn attributes(&self) -> BTreeMap<String, String> {
        let options = &self.options;
        let limits = &self.limits;
        let network = match options.network {
            Network::Default => None,
            Network::Host => Some("host"),
            Network::None => Some("none"),
            Network::Pasta => Some("pasta"),
        };
        let pull = match self.pull {
            PullPolicy::Current | PullPolicy::Missing | PullPolicy::Never => None,
            PullPolicy::Always | PullPolicy::Newest => Some("pull"),
        };
        let no_cache = match (self.no_cache, self.no_cache_stages.as_slice()) {
            (true, _) => Some(String::new()),
            (false, []) => None,
            (false, stages) => Some(stages.join(",")),
        };
        let listed = |all: Vec<String>| (!all.is_empty()).then(|| all.join(","));
        let hosts = options.extra_hosts.iter().map(|(name, address)| format!("{name}={address}"));
        let ulimits = options.ulimits.iter().map(|(name, soft, hard)| format!("{name}={soft}:{hard}"));
        let shm = Some(options.shm_size_bytes).filter(|bytes| *bytes > 0);
        let all = [
            ("force-network-mode", network.map(str::to_owned)),
            ("image-resolve-mode", pull.map(str::to_owned)),
            ("no-cache", no_cache),
            ("add-hosts", listed(hosts.collect())),
            ("ulimit", listed(ulimits.collect())),
            ("hostname", options.hostname.clone()),
            ("shm-size", shm.map(|bytes| bytes.to_string())),
            ("memory", limits.memory_bytes.map(|bytes| bytes.to_string())),
            ("memswap", limits.memory_swap_bytes.map(|bytes| bytes.to_string())),
            ("cpushares", limits.cpu_shares.map(|shares| shares.to_string())),
            ("cpuperiod", limits.cpu_period_us.map(|period| period.to_string())),
            ("cpuquota", limits.cpu_quota_us.map(|quota| quota.to_string())),
            ("cpusetcpus", limits.cpuset_cpus.clone()),
            ("cpusetmems", limits.cpuset_mems.clone()),
        ];
        let said = all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        said.collect()
    }

    /// What its times, layers and documents depend on.
    fn form(&self) -> record::Form {
        let images = || self.outputs.iter().filter(|output| output.is_image());
        let epoch = images().map(|output| output.epoch).find(|epoch| *epoch != export::Epoch::OfBuild);
        let annotations = images().flat_map(|output| &output.annotations).chain(&self.annotations);
        let mut annotations: Vec<String> = annotations.map(ToString::to_string).collect();
        annotations.sort();
        annotations.dedup();
        record::Form {
            epoch: self.options.epoch.clone(),
            output_epoch: epoch
                .map(|epoch| epoch.or(None).map(|seconds| seconds.to_string()).unwrap_or_default()),
            is_reproducible: self.reproducible,
            rewrites_times: self.rewrite_timestamp
                || self.outputs.iter().any(|output| output.layers.rewrite_timestamp),
            squash: match self.squash {
                Squash::None => None,
                Squash::New => Some("new".to_owned()),
                Squash::All => Some("all".to_owned()),
            },
            compression: self.outputs.iter().find_map(|output| output.layers.compression),
            forces_compression: self.outputs.iter().any(|output| output.layers.force),
            has_dockers_types: self.dockers_types || images().any(|output| output.dockers_types),
            annotations,
        }
    }

    fn output_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        names.extend((!self.pushed_names().is_empty()).then(|| "push".to_owned()));
        for output in &self.outputs {
            let name = match &output.target {
                export::Target::OciArchive(_) | export::Target::OciDirectory(_) => "oci".to_owned(),
                export::Target::DockerArchive(_) => "docker".to_owned(),
                export::Target::LocalDirectory { .. } => "local".to_owned(),
                export::Target::Tar { .. } => "tar".to_owned(),
                export::Target::Image { .. } => "image".to_owned(),
                export::Target::Load(export::LoadInto::Engine(engine)) => format!("load:{}", engine.name()),
                export::Target::Load(_) => "load".to_owned(),
                export::Target::CacheOnly => "cacheonly".to_owned(),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// Whether an argument is a proxy's, which may be a login.
pub(super) fn is_proxy(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("_proxy")
}

/// A named context, without passwords.
fn shown(source: &ContextSource) -> String {
    match source {
        ContextSource::Dir(path) => absolute(path),
        ContextSource::Image(reference) => format!("docker-image://{reference}"),
        ContextSource::Layout { path, selector } if selector.is_empty() => format!("oci-layout://{path}"),
        ContextSource::Layout { path, selector } => {
            let sign = if selector.contains(':') { '@' } else { ':' };
            format!("oci-layout://{path}{sign}{selector}")
        }
        ContextSource::Engine(image) => match image.engine {
            export::Engine::Podman => format!("containers-storage:{}", image.name),
            export::Engine::Docker { .. } | export::Engine::Containerd { .. } => {
                format!("docker-daemon:{}", image.name)
            }
        },
        ContextSource::Git(url) | ContextSource::Url(url) => without_password(url),
        ContextSource::Target(stage) => format!("target:{stage}"),
        ContextSource::Linked(target) => format!("target:{target}"),
    }
}

/// Whether a path is that of a file of this folder, which is no link to another.
fn is_plain_in(path: &Path, folder: &Path) -> bool {
    path.parent() == Some(folder) && path.symlink_metadata().is_ok_and(|file| !file.is_symlink())
}

fn absolute(path: &Path) -> String {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
