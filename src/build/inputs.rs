//! What a build reads: Dockerfile, contexts, base images.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DOCKERFILE_LIMIT, DockerfileFrom, Request, bases};
use crate::cache::Cache;
use crate::context::{self, Context, statcache::StatCache};
use crate::dockerfile::syntax::Dockerfile;
use crate::exec::{Config, Executor};
use crate::plan::graph::{Plan, ResolvedBase};
use crate::plan::{self, ContextSource, Lowered, Options};
use crate::registry::{Client, Settings};
use crate::report::{Diagnostic, Events, Source};
use crate::solve::jobs;
use crate::solve::{Environment, Roots, Snapshots};
use crate::store::Store;

/// Triggers of base images may name further images, whose triggers may name further ones; so many rounds are heeded.
const MAX_ROUNDS: usize = 32;

/// Reads the Dockerfile, from wherever the request says.
pub(super) fn read_dockerfile(request: &Request, context: &Path) -> Result<Arc<Source>, Vec<Diagnostic>> {
    let (name, bytes) = match &request.dockerfile {
        DockerfileFrom::Stdin => ("<stdin>".to_owned(), read_limited(std::io::stdin().lock())),
        DockerfileFrom::Path(path) => (path.display().to_string(), read_file(path)),
        DockerfileFrom::Context => {
            let path = context.join("Dockerfile");
            (short_name(&path), read_file(&path))
        }
    };
    let bytes = bytes.map_err(|error| vec![unreadable(request, context, &name, &error)])?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        vec![Diagnostic::error(format!("`{name}` is no UTF-8 text: line {line} has other bytes"))]
    })?;
    Ok(Arc::new(Source { name, text }))
}

/// The path as messages show it: `./Dockerfile` is `Dockerfile`.
fn short_name(path: &Path) -> String {
    path.strip_prefix("./").or(path.strip_prefix(".")).unwrap_or(path).display().to_string()
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    read_limited(std::fs::File::open(path)?)
}

fn read_limited(reader: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(DOCKERFILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > DOCKERFILE_LIMIT {
        return Err(std::io::Error::other(format!("it is larger than {} MiB", DOCKERFILE_LIMIT >> 20)));
    }
    Ok(bytes)
}

fn unreadable(request: &Request, context: &Path, name: &str, error: &std::io::Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("cannot read the Dockerfile `{name}`: {error}"));
    if error.kind() != std::io::ErrorKind::NotFound || request.dockerfile == DockerfileFrom::Stdin {
        return diagnostic;
    }
    if !context.exists() {
        return diagnostic.help(format!("the context `{}` does not exist", context.display()));
    }
    let candidates = ["dockerfile", "Dockerfile", "Containerfile", "docker/Dockerfile", "build/Dockerfile"];
    match candidates.iter().map(|c| context.join(c)).find(|path| path.is_file()) {
        Some(found) => diagnostic.help(format!("there is `{0}`; name it with `-f {0}`", short_name(&found))),
        None => diagnostic
            .help("name the Dockerfile with `-f FILE`; relative paths count from the current folder"),
    }
}

/// Everything that outlives the single platforms of a build.
pub(super) struct Inputs<'r> {
    request: &'r Request,
    store: Store,
    contexts: BTreeMap<String, Arc<Context>>,
    snapshots: Snapshots,
    registry: Client,
    executor: Executor,
    project: String,
}

impl<'r> Inputs<'r> {
    /// Opens the contexts; nothing of them is read yet but the ignore files.
    pub(super) fn open(request: &'r Request, store: &Store, main: &Path) -> Result<Self, Vec<Diagnostic>> {
        let dockerfile = match &request.dockerfile {
            DockerfileFrom::Context => Some(main.join("Dockerfile")),
            DockerfileFrom::Path(path) => Some(path.clone()),
            DockerfileFrom::Stdin => None,
        };
        let mut contexts = BTreeMap::new();
        contexts.insert(String::new(), open_context(store, main, dockerfile.as_deref())?);
        for (name, source) in &request.options.contexts {
            if let ContextSource::Dir(path) = source {
                contexts.insert(name.clone(), open_context(store, path, None)?);
            }
        }
        let executor = Executor::new(Config::default());
        let project = dockerfile.as_deref().unwrap_or(main);
        let project = std::fs::canonicalize(project).unwrap_or_else(|_| PathBuf::from(project));
        Ok(Self {
            request,
            store: store.clone(),
            contexts,
            registry: Client::new(Settings::from_process()),
            snapshots: Snapshots::new(store, &executor),
            executor,
            project: project.display().to_string(),
        })
    }

    /// Resolves the bases that the Dockerfile needs and lowers it to a plan. Triggers of a base can need more bases.
    pub(super) fn plan(
        &self,
        dockerfile: &Dockerfile,
        options: &Options,
    ) -> Result<(Plan, Vec<ResolvedBase>), Vec<Diagnostic>> {
        let mut wanted = plan::bases(dockerfile, options)?;
        let mut resolved: Vec<ResolvedBase> = Vec::new();
        for _ in 0..MAX_ROUNDS {
            for request in wanted {
                let base = bases::resolve(&self.store, &self.registry, &request);
                resolved.push(
                    base.map_err(|diagnostic| vec![bases::at(diagnostic, &dockerfile.source, &request)])?,
                );
            }
            match plan::lower(dockerfile, options, &resolved)? {
                Lowered::Plan(plan) => return Ok((*plan, resolved)),
                Lowered::Needs(more) => wanted = more,
            }
        }
        Err(vec![Diagnostic::error("the triggers of base images name ever more base images")])
    }

    /// What the steps of one platform work with.
    pub(super) fn environment<'a>(&'a self, bases: &'a [ResolvedBase], events: &Events) -> Environment<'a> {
        let secrets = self.request.secrets.iter().map(|s| (s.id.clone(), s.from.clone())).collect();
        Environment {
            store: self.store.clone(),
            cache: Cache::new(self.store.clone()),
            roots: Roots::new(self.store.clone()),
            snapshots: &self.snapshots,
            contexts: &self.contexts,
            bases,
            registry: &self.registry,
            executor: &self.executor,
            events: events.clone(),
            no_cache: self.request.no_cache,
            epoch: self.request.options.epoch,
            secrets,
            project: self.project.clone(),
        }
    }

    /// Saves the digests of the contexts' files for the next build, and deletes what was thrown away.
    pub(super) fn clean_up(&self) {
        for context in self.contexts.values() {
            if let Err(error) = context.save_digests() {
                tracing::warn!(%error, "cannot save the digests of the context");
            }
        }
        self.empty_trash();
    }
}

impl Inputs<'_> {
    /// Files of other owners can be deleted only inside the user namespace.
    fn empty_trash(&self) {
        for left in self.store.empty_trash() {
            if let Err(error) = jobs::remove_left(&self.executor, &left) {
                tracing::warn!(%error, path = %left.display(), "cannot delete what was thrown away");
            }
        }
    }
}

fn open_context(
    store: &Store,
    path: &Path,
    dockerfile: Option<&Path>,
) -> Result<Arc<Context>, Vec<Diagnostic>> {
    let fail = |error: context::Error| vec![diagnose(&error)];
    let ignore = context::ignore::load(path, dockerfile).map_err(fail)?;
    let cache = StatCache::open(&store.private("statcache"), path);
    Context::open(path, ignore, Some(cache)).map(Arc::new).map_err(fail)
}

fn diagnose(error: &context::Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(error.to_string());
    match error {
        context::Error::Open { source, .. } if source.kind() == std::io::ErrorKind::NotADirectory => {
            diagnostic
                .help("the context is the folder that COPY reads from; name a Dockerfile with `-f FILE`")
        }
        context::Error::Open { .. } => {
            diagnostic.help("the last argument is the folder that COPY reads from, such as `.`")
        }
        _ => diagnostic,
    }
}
