//! What an operation sees of its step, and what it gives back.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::environment::{Environment, Slot};
use super::error::Error;
use super::remote::RemoteLayers;
use super::state::{Files, RootState};
use crate::cache::{Key, Reasons, Record};
use crate::plan::graph::Step;
use crate::report::{Diagnostic, Event, FileCounts, Outcome, ResourceUsage, StepNumber, Waited};

/// Why a step is not in the cache of which nothing more is known.
const NOT_BUILT: &str = "not built before";

/// A step that is under way.
pub(super) struct StepContext<'a> {
    /// The step.
    pub(super) step: &'a Step,
    /// What to call it: `[build 2/5] RUN make`.
    pub(super) title: String,
    /// What the build works with.
    pub(super) environment: &'a Environment<'a>,
    /// Whether the display knows its number.
    pub(super) is_listed: bool,
    /// Whether neither it nor any other step of the build was built before.
    pub(super) is_of_new_build: bool,
    /// Whether the display shows its line as this step's.
    pub(super) is_shown: bool,
    /// Whether a later step asks which files this one leaves, not only runs something on them.
    pub(super) is_looked_into: bool,
    /// Whether a command runs on what this step leaves.
    pub(super) is_run_on: bool,
    /// When it began.
    pub(super) started: Instant,
    /// How long it took to fetch and unpack what its command stands on, which is no part of its time.
    pub(super) unpacked: OnceLock<Duration>,
    /// How long it waited for its cache mounts.
    pub(super) locked: OnceLock<Duration>,
    /// How long the step took when it ran in another build, if the cache told.
    pub(super) took_then: OnceLock<Duration>,
}

/// A step's result, and how it came to be.
pub(super) struct Done {
    /// What it left.
    pub(super) files: Files,
    /// How it came to be.
    pub(super) outcome: Outcome,
    /// The key that the cache knows it by.
    pub(super) key: Option<Key>,
    /// What its command used, if one ran.
    pub(super) usage: Option<ResourceUsage>,
    /// How many files its layer changes, if that is known.
    pub(super) changes: Option<FileCounts>,
    /// Layers that will be fetched when somebody needs them, and told of then.
    pub(super) remote: Option<Arc<RemoteLayers>>,
}

impl Done {
    /// Files that no step made.
    pub(super) fn brought(files: Files, outcome: Outcome) -> Self {
        Self { files, outcome, key: None, usage: None, changes: None, remote: None }
    }

    /// A layer that the cache had for a step on `parent`.
    pub(super) fn cached(parent: &RootState, record: Record) -> Self {
        let (key, changes) = (Some(record.key), record.files);
        let files = Files::Root(parent.with(record.layer, record.time));
        Self { files, outcome: Outcome::Cached, key, usage: None, changes, remote: None }
    }

    /// What a step on `parent` left that ran, published under `key` as `made`.
    pub(super) fn ran(parent: &RootState, made: Record, key: Key) -> Self {
        let changes = made.files;
        let files = Files::Root(parent.with(made.layer, made.time));
        Self { files, outcome: Outcome::Ran, key: Some(key), usage: None, changes, remote: None }
    }
}

impl<'a> StepContext<'a> {
    /// A step that begins now and that nobody has a name for.
    pub(super) fn new(step: &'a Step, environment: &'a Environment<'a>) -> Self {
        Self {
            step,
            title: String::new(),
            environment,
            is_listed: false,
            is_of_new_build: false,
            is_shown: false,
            is_looked_into: false,
            is_run_on: false,
            started: Instant::now(),
            unpacked: OnceLock::new(),
            locked: OnceLock::new(),
            took_then: OnceLock::new(),
        }
    }

    /// The step's place in the display.
    pub(super) fn number(&self) -> StepNumber {
        self.step.number
    }

    /// How long it has been under way.
    pub(super) fn elapsed(&self) -> Duration {
        self.own_start().elapsed()
    }

    /// When it began, or would have, had everything been unpacked.
    fn own_start(&self) -> Instant {
        self.started + self.unpacked.get().copied().unwrap_or_default()
    }

    /// What it waited for since it began.
    pub(super) fn waited(&self) -> Waited {
        let time = |cell: &OnceLock<Duration>| cell.get().copied().unwrap_or_default();
        Waited { slot: Duration::ZERO, lock: time(&self.locked), transfer: time(&self.unpacked) }
    }

    /// How long it took when it ran, in another build, if the cache told.
    pub(super) fn took_then(&self) -> Option<Duration> {
        self.took_then.get().copied()
    }

    /// What went wrong, told at the step's line unless it has a place of its own.
    pub(super) fn diagnose(&self, error: &Error) -> Diagnostic {
        self.environment.diagnose(error, self.step.span)
    }

    /// Tells that something is not as the step says.
    pub(super) fn warn(&self, message: String) {
        let warning = self.environment.warning(self.step.span, message);
        self.environment.services.events.send(Event::Warning(warning));
    }

    /// What this step of this project is remembered under.
    pub(super) fn slot(&self) -> Slot<'a> {
        let fresh = self.environment.is_fresh(self.step);
        let name = self.step.slot.as_str().into();
        let (started, span) = (self.own_start(), self.step.span);
        Slot { name, fresh, started, read: Vec::new(), span, files: None }
    }

    /// Looks a key up that is not the one that the step is remembered by.
    pub(super) fn find(&self, preimage: &dyn Reasons) -> Result<Option<Record>, Error> {
        match self.environment.is_fresh(self.step) {
            true => Ok(None),
            false => self.environment.lookup(preimage),
        }
    }

    /// Looks a key up, unless everything is to run again.
    pub(super) fn lookup(&self, preimage: &dyn Reasons) -> Result<Option<Record>, Error> {
        let found = self.find(preimage)?;
        if let Some(found) = &found {
            let _ = found.took.map(|took| self.took_then.set(took));
            self.environment.remember(&self.slot(), found);
        }
        Ok(found)
    }

    /// After a miss: a command will run on what stands on `parent`, so its layers will be needed. What of them is elsewhere
    /// comes while the step works.
    pub(super) fn bring_ahead(&self, parent: &RootState) {
        let lookup = &self.environment.services.lookup;
        if !self.is_run_on || !parent.layers.iter().any(|layer| lookup.is_elsewhere(layer)) {
            return;
        }
        let (lookup, layers) = (Arc::clone(lookup), parent.layers.clone());
        // What goes wrong is met again by who needs them: a promise that was not kept stays so.
        let bring = move || drop(lookup.bring(&layers));
        let _ = std::thread::Builder::new().name("fetch".to_owned()).spawn(bring);
    }

    /// Tells that the step is not in the cache, and why. That a first build was not built before goes without saying.
    pub(super) fn missed(&self, preimage: &dyn Reasons) {
        if !self.is_listed {
            return;
        }
        let why = self.environment.why_missed(&self.slot(), preimage);
        let why = why.or_else(|| (!self.is_of_new_build).then(|| NOT_BUILT.to_owned()));
        self.environment.services.events.send(Event::Missed { step: self.number(), why });
    }

    /// Why the step is not in the cache, in one clause.
    pub(super) fn why_missed(&self, preimage: &dyn Reasons) -> String {
        self.environment.why_missed(&self.slot(), preimage).unwrap_or_else(|| NOT_BUILT.to_owned())
    }
}
