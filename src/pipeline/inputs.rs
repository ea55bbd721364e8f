//! What a build reads: Dockerfile, contexts, base images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::context::{self, MainContext};
use super::{ContextFrom, PullPolicy, Request, bases, check, dockerfile, epoch, policy};
use crate::context::Context;
use crate::dockerfile::checks::Filtered;
use crate::dockerfile::syntax::{Dockerfile, Instruction, InstructionKind, Stage, Word};
use crate::image::PlatformImage;
use crate::key::LayerOptions;
use crate::oci::{Platform, Seconds};
use crate::plan::graph::{BaseOp, BaseOrigin, BaseRequest, Goal, Plan};
use crate::plan::{self, ContextSource, Options, Scanned};
use crate::report::{Diagnostic, Event, Severity, Source};
use crate::solve::{self, ContextFiles, Environment, Given, Policy, Services};
use crate::source::git;
use crate::store::{ScratchDir, Store};
use crate::sync::lock;

/// Base images that are looked up at the same time.
const BASES_AT_ONCE: usize = 8;

/// What several builds that are run together read once.
#[derive(Default)]
pub(super) struct Pool {
    contexts: Mutex<Vec<PooledContext>>,
    /// Images that were found, by when registries are asked.
    bases: Mutex<Vec<(PullPolicy, Bases)>>,
}

/// The images that were found.
type Bases = Arc<Mutex<Vec<BaseOp>>>;

/// A folder by its path, and by the ignore file that is not its own.
struct PooledContext {
    key: (PathBuf, Option<PathBuf>),
    context: Arc<Context>,
}

/// Images that builds which are run together make, by the names of these.
pub(super) type Linked = BTreeMap<String, Vec<(Platform, Arc<PlatformImage>)>>;

impl Pool {
    /// The folder, read by whoever asks first.
    pub(super) fn folder(
        &self,
        store: &Store,
        path: &Path,
        dockerfile: Option<&Path>,
        ignore: Option<&Path>,
    ) -> Result<Arc<Context>, Vec<Diagnostic>> {
        let path_of = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let beside = dockerfile.map(context::ignore_beside).filter(|file| file.exists());
        let key = (path_of(path), ignore.map(Path::to_owned).or(beside).map(|file| path_of(&file)));
        let mut known = lock(&self.contexts);
        if let Some(found) = known.iter().find(|pooled| pooled.key == key) {
            return Ok(Arc::clone(&found.context));
        }
        let context = match ignore {
            Some(file) => context::folder_ignoring(store, path, file)?,
            None => context::folder(store, path, dockerfile)?,
        };
        known.push(PooledContext { key, context: Arc::clone(&context) });
        Ok(context)
    }

    fn bases(&self, pull: PullPolicy) -> Bases {
        let mut all = lock(&self.bases);
        if let Some((_, bases)) = all.iter().find(|(known, _)| *known == pull) {
            return Arc::clone(bases);
        }
        let bases = Bases::default();
        all.push((pull, Arc::clone(&bases)));
        bases
    }
}

/// Everything that outlives the single platforms of a build.
pub(super) struct Inputs<'r> {
    request: &'r Request,
    services: &'r Services,
    contexts: BTreeMap<String, ContextFiles>,
    source: Arc<Source>,
    /// Where the Dockerfile is, if it is a file of this machine.
    path: Option<PathBuf>,
    /// The commit of a main context that was fetched.
    commit: Option<String>,
    dockerfile: Dockerfile,
    /// The main context's own, see [`MainContext`].
    time: Option<Seconds>,
    /// What SOURCE_DATE_EPOCH stands for where it is a name; looked up once for all platforms.
    epoch: OnceLock<Option<Seconds>>,
    /// What stands for it with `--reproducible` where nobody says one.
    fallback_epoch: OnceLock<Seconds>,
    /// The images that were found: each is looked up once, however many platforms stand on it.
    bases: Bases,
    /// What other builds make that it is linked to.
    linked: Linked,
    project: String,
    /// What was fetched for this build only.
    _scratch: Option<ScratchDir>,
}

impl<'r> Inputs<'r> {
    /// Opens the contexts and reads the Dockerfile; of folders nothing is read yet but the ignore files.
    pub(super) fn open(request: &'r Request, services: &'r Services) -> Result<Self, Vec<Diagnostic>> {
        Self::open_with(request, services, &Pool::default())
    }

    /// As [`Self::open`]; what another build has opened in `pool` is taken from there.
    pub(super) fn open_with(
        request: &'r Request,
        services: &'r Services,
        pool: &Pool,
    ) -> Result<Self, Vec<Diagnostic>> {
        let MainContext { files, dockerfile: source, path, commit, time, project, scratch } =
            context::open(request, services, pool)?;
        let mut contexts = BTreeMap::from([(String::new(), files)]);
        for (name, source) in &request.options.contexts {
            if let ContextSource::Dir(path) = source {
                context::check_named(name, path).map_err(|fault| vec![fault])?;
                let folder = pool.folder(&services.store, path, None, None)?;
                contexts.insert(name.clone(), ContextFiles::Folder(folder));
            }
        }
        let dockerfile = dockerfile::parse(&source, &request.options)?;
        let (epoch, bases) = (OnceLock::new(), pool.bases(request.pull));
        Ok(Self {
            request,
            services,
            contexts,
            source,
            path,
            commit,
            dockerfile,
            time,
            epoch,
            fallback_epoch: OnceLock::new(),
            bases,
            linked: Linked::new(),
            project,
            _scratch: scratch,
        })
    }

    /// Says what builds make that this one can be linked to.
    pub(super) fn link(&mut self, made: &Linked) {
        self.linked.clone_from(made);
    }

    /// Its contexts' numbers in `known`, where new ones are added.
    pub(super) fn number_contexts(&self, known: &mut Vec<Option<Arc<Context>>>) -> BTreeMap<String, usize> {
        let mut number = |files: &ContextFiles| {
            let context = match files {
                ContextFiles::Folder(context) => Some(Arc::clone(context)),
                ContextFiles::Root(_) => None,
            };
            let is_same = |other: &Option<Arc<Context>>| match (other, &context) {
                (Some(one), Some(two)) => Arc::ptr_eq(one, two),
                _ => false,
            };
            known.iter().position(is_same).unwrap_or_else(|| {
                known.push(context.clone());
                known.len() - 1
            })
        };
        self.contexts.iter().map(|(name, files)| (name.clone(), number(files))).collect()
    }

    /// What the build works with.
    pub(super) fn services(&self) -> &'r Services {
        self.services
    }

    /// What tells this build from others in the same store.
    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// The text of the Dockerfile.
    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Where it is, if it is a file of this machine.
    pub(super) fn dockerfile_path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The main context, if that is a folder, as it was named.
    pub(super) fn context_folder(&self) -> Option<&Path> {
        match &self.request.context {
            ContextFrom::Directory(folder) => Some(folder),
            ContextFrom::Stdin | ContextFrom::Archive(_) | ContextFrom::Git(_) | ContextFrom::Url(_) => None,
        }
    }

    /// The commit of a main context that was fetched.
    pub(super) fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }

    /// The Dockerfile.
    pub(super) fn dockerfile(&self) -> &Dockerfile {
        &self.dockerfile
    }

    /// Begins to list the context where a step will surely copy all of it: while registries are asked for the bases,
    /// there is nothing else to do.
    pub(super) fn read_ahead(&self) {
        let Some(ContextFiles::Folder(context)) = self.contexts.get("") else { return };
        let copies_all = |instruction: &Instruction| match &instruction.kind {
            InstructionKind::Copy(transfer) | InstructionKind::Add(transfer) => {
                let is_whole = |source: &Word| matches!(source.text.as_str(), "." | "./" | "/");
                transfer.flags.from.is_none() && transfer.sources.iter().any(is_whole)
            }
            _ => false,
        };
        if self.wanted_stage().is_some_and(|stage| stage.instructions.iter().any(copies_all)) {
            context.load_ahead();
        }
    }

    /// Refuses a build that surely has a command where none can be run, before anybody is asked for anything. Others are refused
    /// once there is a plan.
    pub(super) fn refuse_commands(&self) -> Result<(), Vec<Diagnostic>> {
        let is_command = |instruction: &&Instruction| matches!(instruction.kind, InstructionKind::Run(_));
        let command = self.wanted_stage().and_then(|stage| stage.instructions.iter().find(is_command));
        command.map_or(Ok(()), |command| solve::refuse_commands(self.services, (&self.source, command.span)))
    }

    /// The stage that is to be built, where that is seen at a glance.
    fn wanted_stage(&self) -> Option<&Stage> {
        match &self.request.options.target {
            None => self.dockerfile.stages.last(),
            Some(target) => self.dockerfile.stages.iter().find(|stage| {
                stage.from.name.as_ref().is_some_and(|name| name.text.eq_ignore_ascii_case(target))
            }),
        }
    }

    /// The plans of all platforms that were asked for.
    pub(super) fn plans(&self) -> Result<Vec<Plan>, Vec<Diagnostic>> {
        let options: Vec<Options> = self.request.options_of_platforms().collect();
        let is_single = options.len() == 1;
        let of = |platform: &Platform, told: Diagnostic| match is_single || told.severity != Severity::Error {
            true => told,
            false => told.note(format!("this is about the platform {platform}")),
        };
        let plan = |options: &Options| {
            let plan = self.plan(options);
            plan.map_err(|told| told.into_iter().map(|told| of(&options.platform, told)).collect())
        };
        options.iter().map(plan).collect()
    }

    /// Resolves the bases that the Dockerfile needs and lowers it to a plan.
    pub(super) fn plan(&self, options: &Options) -> Result<Plan, Vec<Diagnostic>> {
        plan::lower_with(&self.dockerfile, &self.dated(options)?, &mut |wanted| self.resolve(wanted))
    }

    /// What the plan of this goal was made with.
    pub(super) fn options_of(&self, goal: &Goal) -> Options {
        Options { platform: goal.platform.clone(), ..self.request.options.clone() }
    }

    /// The options with the time that SOURCE_DATE_EPOCH names.
    fn dated(&self, options: &Options) -> Result<Options, Vec<Diagnostic>> {
        let mut options = options.clone();
        if self.request.reproducible {
            options.fallback_epoch = Some(self.fallback_epoch());
            options.epoch_in_run = true;
        }
        let Some(source) = plan::epoch_source(&self.dockerfile, &options)? else { return Ok(options) };
        if self.epoch.get().is_none() {
            let _ = self.epoch.set(epoch::look_up(&source, self.time, self.request, self.services)?);
        }
        options.epoch_of_source = self.epoch.get().copied().flatten();
        Ok(options)
    }

    /// Refuses what may not be taken from elsewhere.
    pub(super) fn heed_policies(&self, plans: &[Plan]) -> Result<(), Vec<Diagnostic>> {
        policy::check(self.request, plans, &self.source, self.services)
    }

    /// The time of the commit that the context is of, of what else it is when that has one, or 1970.
    fn fallback_epoch(&self) -> Seconds {
        let look_up = || match &self.request.context {
            ContextFrom::Directory(folder) => git::head_time(folder),
            ContextFrom::Stdin | ContextFrom::Archive(_) | ContextFrom::Git(_) | ContextFrom::Url(_) => {
                self.time
            }
        };
        *self.fallback_epoch.get_or_init(|| look_up().unwrap_or_default())
    }

    /// The images that were found so far.
    pub(super) fn bases(&self) -> Vec<BaseOp> {
        lock(&self.bases).clone()
    }

    /// Finds one base, which may have been found before.
    fn resolve_one(&self, request: &BaseRequest) -> Result<BaseOp, Diagnostic> {
        if let BaseOrigin::Linked { target, platform } = &request.origin {
            return self.linked_image(target, platform, request);
        }
        let known = |base: &BaseOp| {
            let image = (base.request.key() == request.key()).then(|| Arc::clone(&base.image))?;
            Some(BaseOp { request: request.clone(), image })
        };
        if let Some(base) = lock(&self.bases).iter().find_map(known) {
            return Ok(base);
        }
        let base = bases::resolve(
            self.services,
            (self.request.pull, &self.request.registries.http.environment),
            request,
            &self.dockerfile,
        )?;
        lock(&self.bases).push(base.clone());
        Ok(base)
    }

    /// What another build makes for a platform, or the only thing that it makes.
    fn linked_image(
        &self,
        target: &str,
        platform: &Platform,
        request: &BaseRequest,
    ) -> Result<BaseOp, Diagnostic> {
        let images = self.linked.get(target).map(Vec::as_slice).unwrap_or_default();
        let same = images.iter().find(|(known, _)| known == platform);
        let found = same.or(if images.len() == 1 { images.first() } else { None });
        match found {
            Some((_, image)) => Ok(BaseOp { request: request.clone(), image: Arc::clone(image) }),
            None => {
                let made: Vec<String> = images.iter().map(|(platform, _)| platform.to_string()).collect();
                let message = format!("the target `{target}` is not built for {platform}");
                let diagnostic = Diagnostic::error(message).at(&self.source, request.span, "");
                Err(diagnostic.note(format!("it is built for {}", made.join(", "))))
            }
        }
    }

    /// Finds bases, several at a time; the error is that of the first one in the order of the file.
    fn resolve(&self, wanted: &[BaseRequest]) -> Result<Vec<BaseOp>, Vec<Diagnostic>> {
        let one = |request: &BaseRequest| self.resolve_one(request);
        let mut resolved = Vec::new();
        for some in wanted.chunks(BASES_AT_ONCE) {
            let found: Vec<Result<BaseOp, Diagnostic>> = match some {
                [only] => vec![one(only)],
                several => std::thread::scope(|scope| {
                    let threads: Vec<_> =
                        several.iter().map(|request| scope.spawn(|| one(request))).collect();
                    let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    };
                    threads.into_iter().map(join).collect()
                }),
            };
            for base in found {
                resolved.push(base.map_err(|diagnostic| vec![diagnostic])?);
            }
        }
        Ok(resolved)
    }

    /// The findings of all plans, most of which are the same for every platform, each once; an error when the Dockerfile wants
    /// findings to be errors.
    pub(super) fn warnings(&self, plans: &[Plan]) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let mut found: Vec<Diagnostic> = Vec::new();
        for plan in plans {
            for warning in self.warnings_of(plan)? {
                if !found.contains(&warning) {
                    found.push(warning);
                }
            }
        }
        Ok(found)
    }

    /// The findings of a plan, and of its files where the context's ignore file tells.
    fn warnings_of(&self, plan: &Plan) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let ignore = match self.contexts.get("") {
            Some(ContextFiles::Folder(context)) => context.ignore(),
            Some(ContextFiles::Root(_)) | None => None,
        };
        let Filtered { findings, error } = check::ignored_copies(&self.dockerfile, plan, ignore);
        let all: Vec<Diagnostic> = plan.warnings.iter().cloned().chain(findings).collect();
        match error {
            Some(error) => Err(all.into_iter().chain([error]).collect()),
            None => Ok(all),
        }
    }

    /// What steps work with, and how they write layers.
    pub(super) fn environment(&self, form: LayerOptions) -> Environment<'_> {
        let Request { jobs, pull, offline, no_cache, tripwire, .. } = *self.request;
        let fresh_stages = self.fresh_stages();
        let limits = Some(self.request.limits.clone());
        let hops = [policy::hops(self.request, true), policy::hops(self.request, false)];
        Environment {
            services: self.services,
            policy: Policy { jobs, pull, offline, no_cache, fresh_stages, form, tripwire, limits, hops },
            given: Given {
                dockerfile: Some(&self.dockerfile),
                secrets: self.request.secrets(),
                ssh: self.request.ssh.iter().cloned().collect(),
                dns: self.request.dns.clone(),
                volumes: self.request.volumes.clone(),
                project: self.project.clone(),
                ..Given::new(&self.contexts, &self.source)
            },
        }
    }

    /// The stages whose steps run again, by their numbers. One that is not in the file is told of by [`Self::note_stages`].
    fn fresh_stages(&self) -> BTreeSet<usize> {
        self.request.no_cache_stages.iter().filter_map(|name| self.stage(name)).collect()
    }

    /// What an SBOM generator is to see beside the image of a plan.
    pub(super) fn scanned(&self, plan: &Plan) -> Scanned {
        let options = &self.request.options;
        let named = || options.target.as_deref().and_then(|name| self.stage(name));
        let target = options.target_number.or_else(named).unwrap_or(self.dockerfile.stages.len() - 1);
        plan::scanned(&self.dockerfile, options, &plan.stages, target)
    }

    fn stage(&self, wanted: &str) -> Option<usize> {
        let is_named = |stage: &Stage| {
            stage.from.name.as_ref().is_some_and(|name| name.text.eq_ignore_ascii_case(wanted))
        };
        let number = || wanted.parse().ok().filter(|number| *number < self.dockerfile.stages.len());
        self.dockerfile.stages.iter().position(is_named).or_else(number)
    }

    /// Says which names of `--no-cache-filter` are those of no stage.
    pub(super) fn note_stages(&self) {
        for name in self.request.no_cache_stages.iter().filter(|name| self.stage(name).is_none()) {
            let text = format!("`--no-cache-filter {name}` changes nothing: no stage is named so");
            self.services.events.send(Event::Note(text));
        }
    }

    /// Saves the digests of the contexts' files for the next build.
    pub(super) fn save_digests(&self) {
        for context in self.contexts.values() {
            let ContextFiles::Folder(context) = context else { continue };
            if let Err(error) = context.save_digests() {
                tracing::warn!(%error, "cannot save the digests of the context");
            }
        }
    }
}
