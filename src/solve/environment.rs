//! What a build works with: services that its steps share, the policy that holds for them, and what it was given.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::cache_mounts::CacheMounts;
use super::error::Error;
use super::images::PullPolicy;
use super::indexes::LayerIndexes;
use super::log::BuildLog;
use super::materials::Materials;
use super::pins::Pins;
use super::session::FailedSteps;
use super::snapshots::Snapshots;
use super::state::{ContextFiles, EmptiedCaches, RootState, SshSource};
use super::watch::{Tripwire, Watched};
use super::{jobs, layers};
use crate::cache::{Lookup, Place, Preimage, Reasons, Record};
use crate::dockerfile::syntax::Dockerfile;
use crate::exec::{Config, Dns, Executor, Limits, MountSpec, Stop};
use crate::http::Hops;
use crate::key::{self, LayerOptions};
use crate::layer::entry::Entry;
use crate::oci::{Layer, Seconds};
use crate::plan::graph::{Graph, Step};
use crate::registry::{Client, Settings};
use crate::report::{Diagnostic, Events, FileCounts, Severity, Source, Span};
use crate::secrets::Secrets;
use crate::shared_cache::Import;
use crate::store::Store;

/// What all parts of one build share. Made once; nothing is contacted or started yet.
pub struct Services {
    /// Where blobs are.
    pub store: Store,
    /// Where layers of earlier builds are found, and brought here from.
    pub lookup: Arc<Lookup>,
    /// Caches of other machines, which are among the places of `lookup`; none at first.
    pub imports: Vec<Arc<Import>>,
    /// What is known of layers, and of stacks of them.
    pub indexes: Arc<LayerIndexes>,
    /// Root file systems for RUN.
    pub snapshots: Snapshots,
    /// Runs commands.
    pub executor: Arc<Executor>,
    /// Cache mounts that travel; none do at first.
    pub mounts: CacheMounts,
    /// Which cache mounts were emptied; none at first.
    pub emptied: EmptiedCaches,
    /// Talks to registries.
    pub registry: Client,
    /// What a lock file says of what comes from elsewhere; nothing at first.
    pub pins: Pins,
    /// What was taken from elsewhere; nothing at first.
    pub materials: Materials,
    /// Where events go.
    pub events: Events,
    /// Keeps what commands print.
    pub log: BuildLog,
    /// What becomes of the roots of steps that fail; they are not kept at first.
    pub failed: FailedSteps,
}

/// What holds for all steps of a build.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// So many steps may be under way at once; as many as usual when absent.
    pub jobs: Option<usize>,
    /// When a registry is asked for an image.
    pub pull: PullPolicy,
    /// Fetch nothing from anywhere.
    pub offline: bool,
    /// Take nothing from the cache.
    pub no_cache: bool,
    /// Take nothing from the cache for steps of these stages, by their numbers in the file.
    pub fresh_stages: BTreeSet<usize>,
    /// How new layers are written.
    pub form: LayerOptions,
    /// What of the machine a command may use; that of the executor when absent.
    pub limits: Option<Limits>,
    /// What becomes of secrets in them.
    pub tripwire: Tripwire,
    /// Where servers may send us for what has a checksum, and for what has none.
    pub hops: [Hops; 2],
}

/// What a build was given.
pub struct Given<'a> {
    /// The contexts by name; the main one has the empty name.
    pub contexts: &'a BTreeMap<String, ContextFiles>,
    /// The text that messages point into: the Dockerfile's.
    pub source: Arc<Source>,
    /// The Dockerfile, once there is one: for hints when a name in it leads nowhere.
    pub dockerfile: Option<&'a Dockerfile>,
    /// What RUN --mount=type=secret may ask for, and logins of what ADD fetches.
    pub secrets: Secrets,
    /// What RUN --mount=type=ssh may ask for, by id.
    pub ssh: BTreeMap<String, SshSource>,
    /// What of these is searched for in what the build makes.
    pub watched: Watched,
    /// What replaces this machine's resolv.conf.
    pub dns: Dns,
    /// What every command finds mounted, beside what its instruction says.
    pub volumes: Vec<MountSpec>,
    /// What tells this build from others in the same store: the Dockerfile's absolute path.
    pub project: String,
}

/// All of it.
pub struct Environment<'a> {
    /// What all parts of the build share.
    pub services: &'a Services,
    /// What holds for all steps.
    pub policy: Policy,
    /// What the build was given.
    pub given: Given<'a>,
}

/// What the results of a step are remembered under, and since when it works on them.
pub(super) struct Slot<'s> {
    /// Its name in the project.
    pub(super) name: Cow<'s, str>,
    /// Nothing is taken from the cache for it.
    pub(super) fresh: bool,
    /// When it began.
    pub(super) started: Instant,
    /// The layers that it reads beside those that it stands on.
    pub(super) read: Vec<Layer>,
    /// Where in the Dockerfile it stands.
    pub(super) span: Option<Span>,
    /// How many files its layer changes, if that was counted.
    pub(super) files: Option<FileCounts>,
}

impl<'a> Given<'a> {
    /// Contexts, and what messages point into; nothing else.
    pub fn new(contexts: &'a BTreeMap<String, ContextFiles>, source: &Arc<Source>) -> Self {
        Self {
            contexts,
            source: Arc::clone(source),
            dockerfile: None,
            secrets: Secrets::default(),
            ssh: BTreeMap::new(),
            watched: Watched::default(),
            dns: Dns::default(),
            volumes: Vec::new(),
            project: String::new(),
        }
    }
}

impl Services {
    /// Layers are looked up in `store`, then in `others`. Steps keep to `limits`, end when `stop` says so, and tell `events` what happens.
    pub fn new(
        (store, others): (&Store, Vec<Arc<dyn Place>>),
        registries: &Settings,
        limits: &Limits,
        (stop, events): (&Stop, &Events),
    ) -> Self {
        let config = Config { limits: limits.clone(), ..Config::default() };
        let executor = Arc::new(Executor::stopped_by(config, stop.clone()));
        let lookup = Arc::new(Lookup::new(store, others));
        let indexes = Arc::new(LayerIndexes::new(store.clone(), &lookup));
        Self {
            store: store.clone(),
            snapshots: Snapshots::new((store, &lookup), &executor, &indexes, events),
            lookup,
            imports: Vec::new(),
            indexes,
            executor,
            mounts: CacheMounts::default(),
            emptied: EmptiedCaches::default(),
            registry: Client::new(registries.clone()),
            pins: Pins::default(),
            materials: Materials::default(),
            events: events.clone(),
            log: BuildLog::new(store),
            failed: FailedSteps::default(),
        }
    }

    /// Tells nothing from now on, and lets the channel of events go, so that whoever reads it comes to its end.
    pub fn silenced(self) -> Self {
        let events = Events::silent();
        Self { snapshots: self.snapshots.telling(&events), events, ..self }
    }

    /// Deletes what was thrown away, and roots that no step goes on from, unless one is worth keeping.
    pub fn empty_trash(&self) {
        self.snapshots.keep_root();
        jobs::empty_trash(&self.store, &self.executor);
    }
}

impl Environment<'_> {
    /// What went wrong, told at `span` unless it has a place of its own.
    pub fn diagnose(&self, error: &Error, span: Option<Span>) -> Diagnostic {
        let diagnostic = error.diagnose(&self.given.source, span, self.services.store.root());
        let stdin = "<stdin>";
        let has_no_files = self.given.project == stdin && self.given.source.name == stdin;
        match has_no_files && error.is_missing_in_the_context() {
            true => diagnostic.help(
                "a Dockerfile on standard input (`rbuild -`) comes without files; `rbuild -f - DIR` takes them from DIR",
            ),
            false => diagnostic,
        }
    }

    /// A warning about the step at `span`.
    pub(super) fn warning(&self, span: Option<Span>, message: String) -> Diagnostic {
        let warning = Diagnostic { severity: Severity::Warning, ..Diagnostic::error(message) };
        match span {
            Some(span) => warning.at(&self.given.source, span, ""),
            None => warning,
        }
    }

    /// The key of a step whose layer is written in the form that the build wants.
    pub(super) fn in_form(&self, mut preimage: Preimage) -> Preimage {
        self.policy.form.push_to(&mut preimage);
        preimage
    }

    /// As [`Self::in_form`], of a command, which finds the build's volumes: where they come from counts, and what they hold does
    /// not.
    pub(super) fn of_command(&self, mut preimage: Preimage) -> Preimage {
        key::push_volumes(&mut preimage, &self.given.volumes);
        self.in_form(preimage)
    }

    /// Whether nothing is taken from the cache for a step.
    pub(super) fn is_fresh(&self, step: &Step) -> bool {
        let is_named = |(stage, _): (usize, usize)| self.policy.fresh_stages.contains(&stage);
        self.policy.no_cache || step.origin.is_some_and(is_named)
    }

    /// Looks a key up, unless everything is to run again.
    pub(super) fn lookup(&self, preimage: &dyn Reasons) -> Result<Option<Record>, Error> {
        match self.policy.no_cache {
            true => Ok(None),
            false => Ok(self.services.lookup.find(preimage)?.record().inspect(|record| {
                self.services.indexes.go_by(record);
            })),
        }
    }

    /// Why a step failed: if it went by what another place told of some of `layers`, and that is wrong, then this.
    pub(super) fn cause<'l>(&self, error: Error, layers: impl IntoIterator<Item = &'l Layer>) -> Error {
        let indexes = &self.services.indexes;
        let asked = layers.into_iter().try_for_each(|layer| indexes.prove_one(layer));
        asked.map_or_else(Error::from, |()| error)
    }

    /// Remembers a record that was found, for explanations.
    pub(super) fn remember(&self, slot: &Slot<'_>, found: &Record) {
        // Forgetting a slot's last key costs an explanation, not a build.
        let _ = self.services.lookup.remember(&self.name(slot), &found.key);
    }

    /// What a step of this project made last, unless everything is to be made again.
    fn last_record(&self, slot: &Slot<'_>) -> Option<Record> {
        match slot.fresh {
            true => None,
            false => self.services.lookup.last_record(&self.name(slot)),
        }
    }

    /// Whether none of the steps of `graph` was ever built in this project.
    pub(super) fn is_new(&self, graph: &Graph) -> bool {
        let knows = |step: &Step| self.services.lookup.knows(&self.name_of(&step.slot));
        !graph.steps.iter().any(knows)
    }

    /// Why a step is not in the cache, in one clause; nothing of one that was not built before.
    pub(super) fn why_missed(&self, slot: &Slot<'_>, preimage: &dyn Reasons) -> Option<String> {
        match (self.policy.no_cache, slot.fresh) {
            (true, _) => Some("--no-cache".to_owned()),
            (false, true) => Some("--no-cache-filter".to_owned()),
            (false, false) => self.services.lookup.explain(&self.name(slot), preimage),
        }
    }

    /// Writes `entries` as a layer, publishes it under the key of `preimage`, and gives its record.
    pub(super) fn publish_entries(
        &self,
        slot: &Slot<'_>,
        parent: &RootState,
        preimage: &dyn Reasons,
        (entries, time): (Vec<Entry>, Seconds),
    ) -> Result<Record, Error> {
        let earlier = self.last_record(slot).map(|record| record.layer);
        let watch = self.watch(slot.span);
        let with = (earlier.as_ref(), Some(&watch));
        let layer = layers::of_entries(self.services, self.policy.form, entries, with)?;
        self.publish(slot, parent, preimage, (layer, time))
    }

    /// Publishes a layer whose blob is in the store, and gives its record, or what another build published first.
    pub(super) fn publish(
        &self,
        slot: &Slot<'_>,
        parent: &RootState,
        preimage: &dyn Reasons,
        (layer, time): (Layer, Seconds),
    ) -> Result<Record, Error> {
        let chain = parent.chain.push(layer.diff_id);
        let took = Some(slot.started.elapsed());
        let told = self.services.indexes.told_of(parent.layers.iter().chain(&slot.read))?;
        let record =
            Record { took, told, files: slot.files, ..Record::new(preimage.key(), layer, chain, time) };
        let (lookup, name) = (&self.services.lookup, self.name(slot));
        Ok(match slot.fresh {
            true => lookup.replace(record, preimage, &name)?,
            false => lookup.publish(record, preimage, &name)?,
        })
    }

    /// The slot's name among those of all projects.
    fn name(&self, slot: &Slot<'_>) -> String {
        self.name_of(&slot.name)
    }

    fn name_of(&self, slot: &str) -> String {
        format!("{}\n{slot}", self.given.project)
    }
}
