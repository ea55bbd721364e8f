//! A build that was recorded, asked for once more: what its record says in the place of the command line.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::build::BuildArgs;
use super::contexts;
use super::request::{self, bad};
use crate::cli::Failure;
use crate::config::Lockfile;
use crate::dockerfile::MAX_SOURCE_BYTES;
use crate::export::{Epoch, Output, Target};
use crate::oci::{Annotation, Digest, Platform};
use crate::pipeline::{ContextFrom, DockerfileFrom, Lock, Missing, Request, Squash};
use crate::record::{self, Context, ContextKind, MaterialKind, Record, kept};
use crate::report::Diagnostic;
use crate::source::git::here;
use crate::store::{ScratchDir, Store};

/// The build that made an image.
pub(crate) struct Recorded {
    record: Record,
    at: usize,
    /// What people call the image.
    name: String,
}

/// A request that was made of a record, and what it needs as long as it is worked on.
pub(crate) struct Repeated {
    pub(crate) request: Request,
    /// The commit that the context had, where its folder has another by now.
    pub(crate) commit: Option<String>,
    /// Holds the lock file that pins what the build took from elsewhere.
    pub(crate) pins: ScratchDir,
}

/// Options that the record has the answer to.
const SAID: [&str; 8] = [
    "--file",
    "--target",
    "--label",
    "--annotation",
    "--output",
    "--build-context",
    "--reproducible",
    "--locked",
];

impl Recorded {
    /// The last build that made an image of the store.
    pub(crate) fn find(store: &Store, name: &str, digest: &Digest) -> Result<Self, Failure> {
        match kept::of_image(store, digest) {
            Some((record, at)) => Ok(Self { record, at, name: name.to_owned() }),
            None => {
                let message = format!("there is no record of a build that made `{name}`");
                let error = Diagnostic::error(message).note(
                    "records are kept of the last hundred builds of two months, on the machine that built",
                );
                Err(Failure::build(vec![error.help(format!(
                    "name what it was built from: `rbuild reproduce CONTEXT --against {name}`"
                ))]))
            }
        }
    }

    fn target(&self) -> &record::Target {
        &self.record.targets[self.at]
    }

    fn cannot(&self, why: impl std::fmt::Display) -> Diagnostic {
        Diagnostic::error(format!("`{}` cannot be built again from its record: {why}", self.name))
    }

    fn fail(&self, why: impl std::fmt::Display, help: impl Into<String>) -> Failure {
        Failure::build(vec![self.cannot(why).help(help)])
    }

    /// Refuses options that would contradict the record.
    pub(crate) fn refuse_others(&self, args: &BuildArgs, against: bool) -> Result<(), Failure> {
        let given = [
            args.file.is_some(),
            args.target.is_some(),
            !args.label.is_empty(),
            !args.annotation.is_empty(),
            !args.output.is_empty(),
            !args.build_context.is_empty(),
            args.reproducible.is_some(),
            args.locked,
        ];
        let mut said = SAID.iter().zip(given).filter_map(|(name, given)| given.then_some(*name));
        let said = said.next().or(args.podman.recorded()).or(args.limits.recorded());
        match said.or(against.then_some("--against")) {
            None => Ok(()),
            Some(name) => {
                let message =
                    format!("`{}` is built again as its record says, so `{name}` means nothing", self.name);
                let help = "name the context in place of the image to say it yourself";
                Err(Failure::usage(Diagnostic::error(message).help(help)))
            }
        }
    }

    /// What the record says, in the place of what `request` says of context, Dockerfile and result. Of several platforms `wanted` is
    /// built.
    pub(crate) fn repeat(
        &self,
        store: &Store,
        mut request: Request,
        wanted: &Platform,
    ) -> Result<Repeated, Failure> {
        let target = self.target();
        self.arguments(&mut request)?;
        self.contexts(&mut request)?;
        self.given(&request)?;
        let options = &mut request.options;
        options.target.clone_from(&target.stage);
        options.labels =
            target.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
        // As the command line has it: one platform that is this machine's may have been named or not, which is the same.
        request.platforms = vec![wanted.clone()];
        request.options.platform = wanted.clone();
        request.options.explicit_platform = *wanted != Platform::host() || target.platforms.len() > 1;
        self.steps(&mut request)?;
        self.form(&mut request)?;
        let commit = self.context(&mut request)?;
        self.dockerfile(&mut request)?;
        let pins = store.scratch_dir()?;
        request.lock = Some(self.lock(pins.path())?);
        Ok(Repeated { request, commit, pins })
    }

    fn arguments(&self, request: &mut Request) -> Result<(), Failure> {
        let given = std::mem::take(&mut request.options.build_args);
        let mut args = Vec::new();
        for argument in &self.target().arguments {
            let is_proxy = argument.name.to_ascii_lowercase().ends_with("_proxy");
            match (&argument.value, given.iter().any(|(name, _)| *name == argument.name)) {
                (Some(value), false) => args.push((argument.name.clone(), Some(value.clone()))),
                (None, false) if !is_proxy => {
                    let name = &argument.name;
                    let why = format!("it does not have the value of the build argument `{name}`");
                    let help = format!(
                        "say it with `--build-arg {name}=VALUE`; `--record-build-args` has builds keep values"
                    );
                    return Err(self.fail(why, help));
                }
                _ => {}
            }
        }
        args.extend(given);
        request.options.build_args = args;
        Ok(())
    }

    fn contexts(&self, request: &mut Request) -> Result<(), Failure> {
        let named = self.target().contexts.iter().map(|named| format!("{}={}", named.name, named.value));
        let named: Vec<String> = named.collect();
        let is_linked = |value: &str| value.starts_with("target:");
        let linked = self.target().contexts.iter().find(|named| is_linked(&named.value));
        if let Some(linked) = linked.filter(|_| self.record.targets.len() > 1) {
            let why = format!("it stands on another target of the same run, `{}`", linked.value);
            return Err(self.fail(why, "`rbuild bake` builds them together"));
        }
        request.options.contexts = contexts::named_contexts(&named)?;
        Ok(())
    }

    /// Whether the secrets and agents are there that the build had.
    fn given(&self, request: &Request) -> Result<(), Failure> {
        let target = self.target();
        let secret = target.secrets.iter().find(|id| !request.secrets.iter().any(|given| given.id == **id));
        if let Some(id) = secret {
            let help = format!("give it: `--secret id={id},src=FILE`");
            return Err(self.fail(format!("the build had the secret `{id}`"), help));
        }
        match target.ssh.iter().find(|id| !request.ssh.iter().any(|(given, _)| given == *id)) {
            None => Ok(()),
            Some(id) => {
                Err(self
                    .fail(format!("the build had the ssh agent `{id}`"), format!("give it: `--ssh {id}`")))
            }
        }
    }

    /// What commands found around them, as far as it can show in files.
    fn steps(&self, request: &mut Request) -> Result<(), Failure> {
        let attributes = &self.target().attributes;
        let get = |name: &str| attributes.get(name).map(String::as_str);
        let listed = |name: &str| get(name).into_iter().flat_map(|text| text.split(','));
        let damaged = |reason: String| self.fail(format!("it is damaged: {reason}"), "build it anew");
        let options = &mut request.options;
        if let Some(network) = get("force-network-mode") {
            options.network = request::network_named(network).ok_or_else(|| damaged(network.to_owned()))?;
        }
        if let Some(hostname) = get("hostname") {
            options.hostname = Some(hostname.to_owned());
        }
        if let Some(size) = get("shm-size") {
            options.shm_size_bytes = size.parse().map_err(|_| damaged(size.to_owned()))?;
        }
        for host in listed("add-hosts") {
            options.extra_hosts.push(request::extra_host(host).map_err(damaged)?);
        }
        for limit in listed("ulimit") {
            options.ulimits.push(request::ulimit(limit).map_err(damaged)?);
        }
        Ok(())
    }

    fn form(&self, request: &mut Request) -> Result<(), Failure> {
        let form = &self.target().form;
        let mut output = Output::new(Target::Image { push: false, by_digest: false });
        output.epoch = match form.output_epoch.as_deref() {
            None => Epoch::OfBuild,
            Some("") => Epoch::Unset,
            Some(text) => {
                Epoch::At(text.parse().map_err(|_| bad("source-date-epoch", text, "the record is damaged"))?)
            }
        };
        output.layers.compression = form.compression;
        output.layers.force = form.forces_compression;
        request.outputs = vec![output];
        request.options.epoch.clone_from(&form.epoch);
        request.reproducible = form.is_reproducible;
        request.rewrite_timestamp = form.rewrites_times;
        request.dockers_types = form.has_dockers_types;
        request.squash = match form.squash.as_deref() {
            None => Squash::None,
            Some("new") => Squash::New,
            Some(_) => Squash::All,
        };
        let annotations = form.annotations.iter().map(|text| Annotation::parse(text));
        let annotations = annotations.collect::<Result<Vec<_>, _>>();
        let annotations = annotations.map_err(|reason| self.fail(reason, "build it anew"))?;
        request.annotations = annotations.into_iter().flatten().collect();
        Ok(())
    }

    /// The context; gives its commit where the folder has another by now.
    fn context(&self, request: &mut Request) -> Result<Option<String>, Failure> {
        let Context { kind, at, commit, repository } = &self.target().context;
        let against = format!("`rbuild reproduce CONTEXT --against {}` builds from another", self.name);
        let there = |path: &Path| match path.symlink_metadata() {
            Ok(_) => Ok(()),
            Err(_) => Err(self.fail(format!("its context `{at}` is not here"), against.clone())),
        };
        request.context = match kind {
            ContextKind::Stdin => {
                return Err(self.fail("its context came from standard input", against));
            }
            ContextKind::Archive => ContextFrom::Archive(PathBuf::from(at)),
            ContextKind::Url => ContextFrom::Url(at.clone()),
            ContextKind::Git => ContextFrom::Git(match commit {
                None => at.clone(),
                Some(commit) => {
                    let (url, fragment) = at.split_once('#').unwrap_or((at, ""));
                    match fragment.split_once(':') {
                        Some((_, folder)) => format!("{url}#{commit}:{folder}"),
                        None => format!("{url}#{commit}"),
                    }
                }
            }),
            ContextKind::Folder => ContextFrom::Directory(PathBuf::from(at)),
        };
        match kind {
            ContextKind::Archive => there(Path::new(at)).map(|()| None),
            ContextKind::Folder => {
                there(Path::new(at))?;
                let was = repository.as_ref().and_then(|found| found.commit.clone());
                let now = here::here(Path::new(at)).and_then(|found| found.commit);
                Ok(was.filter(|was| now.as_ref() != Some(was)))
            }
            ContextKind::Stdin | ContextKind::Url | ContextKind::Git => Ok(None),
        }
    }

    /// The Dockerfile's file, if it is as it was; else its text.
    fn dockerfile(&self, request: &mut Request) -> Result<(), Failure> {
        let record::Dockerfile { name, path, digest, text } = &self.target().dockerfile;
        let is_there = |path: &&String| {
            // Records come from elsewhere, too: what they name may be a pipe, or have no end.
            let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
            let file = is_file.then(|| File::open(path).ok()).flatten();
            let mut bytes = Vec::new();
            let read = file.map(|file| file.take(MAX_SOURCE_BYTES as u64).read_to_end(&mut bytes));
            matches!(read, Some(Ok(_))) && Digest::of(&bytes).to_string() == *digest
        };
        request.dockerfile = match (path.as_ref().filter(is_there), text) {
            (Some(path), _) => DockerfileFrom::Path(PathBuf::from(path)),
            (None, Some(text)) => DockerfileFrom::Inline { name: name.clone(), text: text.clone() },
            (None, None) => {
                let why = format!("`{name}` is not as it was, and too long to be in the record");
                return Err(self.fail(why, "name the context in place of the image"));
            }
        };
        // Ignore rules that lie beside the file are found by its path alone.
        if let (DockerfileFrom::Inline { .. }, Some(path)) = (&request.dockerfile, path) {
            let beside = PathBuf::from(format!("{path}.dockerignore"));
            request.ignore_file = Some(beside).filter(|path| path.symlink_metadata().is_ok());
        }
        Ok(())
    }

    /// What the build took from elsewhere is to be what it was.
    fn lock(&self, folder: &Path) -> Result<Lock, Failure> {
        let mut pins = Lockfile::default();
        for material in &self.record.materials {
            let Some(digest) = &material.digest else { continue };
            let name = material.name.clone();
            match (material.kind, digest.parse::<Digest>()) {
                // A name that has its digest needs no pin.
                (MaterialKind::Image, Ok(digest)) if !name.contains('@') => {
                    pins.images.insert(name, digest);
                }
                (MaterialKind::Http, Ok(digest)) => drop(pins.urls.insert(name, digest)),
                (MaterialKind::Git, _) => {
                    let commit = digest.split_once(':').map_or(digest.as_str(), |(_, commit)| commit);
                    pins.git.insert(name, commit.to_owned());
                }
                (MaterialKind::Image | MaterialKind::Http | MaterialKind::LocalImage, _) => {}
            }
        }
        let file = folder.join("rbuild.lock");
        std::fs::write(&file, pins.text())
            .map_err(|error| Failure::message(format!("cannot write `{}`: {error}", file.display())))?;
        Ok(Lock { file, missing: Missing::Take })
    }
}
