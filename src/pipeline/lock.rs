//! `rbuild.lock`: what a build takes from elsewhere is held to what it was.

use std::path::PathBuf;

use super::inputs::Inputs;
use super::{PullPolicy, Request};
use crate::config::{Change, Lockfile};
use crate::exec::Stop;
use crate::key::LayerOptions;
use crate::plan;
use crate::report::{Diagnostic, Event, Events};
use crate::solve::{self, Pins, Services, Unpinned};

/// The lock file of a build and what to do with it. One that is there always holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Where it is, or is to be.
    pub file: PathBuf,
    /// What to do about things that it does not have.
    pub missing: Missing,
}

/// What to do about things that a lock file does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// Take them as they are.
    #[default]
    Take,
    /// Take them as they are, and write that down (`--lock`).
    Add,
    /// Refuse them (`--locked`).
    Refuse,
}

/// What to write into a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// What is not in it yet.
    Missing,
    /// What is there now, in the place of what was (`--update`).
    All,
}

/// The pins of several lock files; of what is in more than one, the first holds.
pub(super) fn pins_of(locks: &[&Lock]) -> Result<Pins, Vec<Diagnostic>> {
    let (mut all, mut unpinned) = (Lockfile::default(), Unpinned::Allowed);
    for lock in locks {
        let known = Lockfile::load(&lock.file).map_err(|e| vec![e.diagnose()])?;
        match (lock.missing, &known) {
            (Missing::Take | Missing::Add, _) => {}
            (Missing::Refuse, Some(_)) => unpinned = Unpinned::Refused,
            (Missing::Refuse, None) => {
                let message = format!("there is no `{}`, and `--locked` wants one", lock.file.display());
                return Err(vec![Diagnostic::error(message).help("`rbuild lock` makes it")]);
            }
        }
        all.add(known.unwrap_or_default());
    }
    Ok(Pins::new(all, unpinned))
}

impl Request {
    /// The pins that hold for this build.
    pub(super) fn pins(&self) -> Result<Pins, Vec<Diagnostic>> {
        pins_of(self.lock.as_ref().as_slice())
    }

    /// Writes down what the build found and the lock file does not have, if that was asked for.
    pub(super) fn save_lock(&self, pins: &Pins, events: &Events) -> Result<(), Vec<Diagnostic>> {
        let Some(lock) = self.lock.as_ref().filter(|lock| lock.missing == Missing::Add) else {
            return Ok(());
        };
        let before = Lockfile::load(&lock.file).map_err(|e| vec![e.diagnose()])?;
        let changes = write(lock, before.as_ref(), pins.found(), Refresh::Missing)?;
        if !changes.is_empty() {
            events.send(Event::Note(format!("`{}`: {} added", lock.file.display(), changes.len())));
        }
        Ok(())
    }
}

/// Looks at everything that the request's Dockerfile takes from elsewhere, for every stage that has a name and for each
/// platform, and writes it into the lock file; gives what changed. What the Dockerfile does not take stays: another one
/// may.
pub fn refresh(request: &Request, refresh: Refresh, events: &Events) -> Result<Vec<Change>, Vec<Diagnostic>> {
    let Some(lock) = &request.lock else { return Err(vec![no_folder()]) };
    let before = Lockfile::load(&lock.file).map_err(|e| vec![e.diagnose()])?;
    let (known, pull) = match refresh {
        Refresh::Missing => (before.clone().unwrap_or_default(), request.pull),
        Refresh::All => (Lockfile::default(), PullPolicy::Newest),
    };
    let services = request.services(&Stop::default(), events)?;
    let services = Services { pins: Pins::new(known, Unpinned::Allowed), ..services };
    services.registry.tell(events);
    let outcome = visit(&Request { pull, ..request.clone() }, &services);
    services.empty_trash();
    outcome?;
    write(lock, before.as_ref(), services.pins.found(), refresh)
}

/// Looks at the sources of every target.
fn visit(request: &Request, services: &Services) -> Result<(), Vec<Diagnostic>> {
    let inputs = Inputs::open(request, services)?;
    let named = inputs.dockerfile().stages.iter().filter_map(|stage| stage.from.name.as_ref());
    let mut targets: Vec<Option<String>> = named.map(|name| Some(name.text.clone())).collect();
    targets.push(request.options.target.clone());
    for (options, target) in
        request.options_of_platforms().flat_map(|o| targets.iter().map(move |t| (o.clone(), t)))
    {
        let plan = inputs.plan(&plan::Options { target: target.clone(), ..options })?;
        solve::visit_sources(&plan.graph, &inputs.environment(LayerOptions::default()))?;
    }
    Ok(())
}

/// Writes the file if something changed.
fn write(
    lock: &Lock,
    before: Option<&Lockfile>,
    found: Lockfile,
    refresh: Refresh,
) -> Result<Vec<Change>, Vec<Diagnostic>> {
    let old = before.cloned().unwrap_or_default();
    let mut new = old.clone();
    match refresh {
        Refresh::All => new.replace(found),
        Refresh::Missing => new.add(found),
    }
    if before != Some(&new) {
        let cannot = |e: std::io::Error| {
            vec![Diagnostic::error(format!("cannot write `{}`: {e}", lock.file.display()))]
        };
        // Beside it, so that a reader sees the old file or the new one.
        let scratch = lock.file.with_extension(format!("lock.{}", std::process::id()));
        std::fs::write(&scratch, new.text()).map_err(cannot)?;
        std::fs::rename(&scratch, &lock.file).map_err(cannot)?;
    }
    Ok(new.changes(&old))
}

/// A lock file has to be somewhere.
pub fn no_folder() -> Diagnostic {
    Diagnostic::error("a lock file needs a folder as context")
        .help("`rbuild.lock` is beside the Dockerfile in it")
}
