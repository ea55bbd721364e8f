//! RUN: a command in the parent's root, and what it changed as a layer.

#[allow(
    clippy::disallowed_methods,
    reason = "the agent and keys that the user gives; a socket in a folder of rbuild's"
)]
pub(in crate::solve) mod agent;
#[allow(clippy::disallowed_methods, reason = "the store's own folders, by hash and number")]
pub(in crate::solve) mod mounts;
mod output;
pub(in crate::solve) mod spec;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use self::mounts::{HeldMount, MountedRoot};
use self::output::Tail;
pub use self::spec::executed;
pub(in crate::solve) use self::spec::secured;
use super::copy;
use crate::clock;
use crate::exec::{ExecError, ExitReport, ExitStatus, Printed, emulation_help};
use crate::key::{self, Shown};
use crate::oci::{Layer, Seconds};
use crate::plan;
use crate::plan::graph::ExecOp;
use crate::report::{Event, FileCounts, ResourceUsage, Span};
use crate::snapshot::OverlayKind;
use crate::solve::environment::Slot;
use crate::solve::error::Error;
use crate::solve::failure::{self, CommandError};
use crate::solve::session::{self, Left};
use crate::solve::state::{Files, RootState};
use crate::solve::step::{Done, StepContext};
use crate::solve::writable::WritableRoot;
use crate::solve::{full_disk, layers};
use crate::text::terminal::last_written;

/// Takes the layer from the cache, or runs the command.
pub(super) fn run(
    step: &StepContext<'_>,
    op: &ExecOp<Arc<Files>>,
    parent: &RootState,
) -> Result<Done, Error> {
    let environment = step.environment;
    let op = &mounts::with_roots((environment, &step.slot().name), op)?;
    let owners = environment.services.snapshots.owners()?;
    let key = |shown: &ExecOp<Shown>| environment.of_command(key::run(shown, parent.chain, owners));
    let by_roots = key(&mounts::by_roots(op));
    let roots = mounts::roots_under(op, parent, false);
    let stood_on: Vec<&Layer> = roots.iter().flat_map(|root| &root.layers).collect();
    // As with COPY: first by the identity of what the mounts read, which costs nothing, then by what they show of it.
    let (quick, preimage) = match mounts::show_parts(op) {
        false => (None, by_roots),
        true => {
            if let Some(record) = step.find(&by_roots)? {
                return Ok(Done::cached(parent, record));
            }
            let by_files = mounts::by_files(environment.services, op);
            let by_files = by_files.map_err(|error| environment.cause(error, stood_on.iter().copied()))?;
            let by_files = key(&by_files);
            (Some(by_roots).filter(|quick| *quick != by_files), by_files)
        }
    };
    if let Some(record) = step.lookup(&preimage)? {
        copy::alias(environment, quick.as_ref(), &record, stood_on.iter().copied());
        return Ok(Done::cached(parent, record));
    }
    step.missed(&preimage);
    let (made, files, usage) = execute(step, op, parent)?;
    let read = stood_on.iter().copied().cloned().collect();
    let slot = Slot { read, files: Some(files), ..step.slot() };
    let made = environment.publish(&slot, parent, &preimage, made)?;
    copy::alias(environment, quick.as_ref(), &made, stood_on.iter().copied());
    Ok(Done { usage: Some(usage), ..Done::ran(parent, made, preimage.key()) })
}

/// Runs the command and writes its changes; gives the layer, complete in the store, its time, how many files it changes, and
/// what the command used. The directory with the
/// changes becomes the layer's tree, so that the next RUN need not unpack what was just packed.
fn execute(
    step: &StepContext<'_>,
    op: &ExecOp<MountedRoot>,
    parent: &RootState,
) -> Result<((Layer, Seconds), FileCounts, ResourceUsage), Error> {
    let (environment, services) = (step.environment, step.environment.services);
    let snapshots = &services.snapshots;
    snapshots.try_step()?;
    let shown = step.is_listed.then_some(step.number());
    let began = Instant::now();
    let mut left = snapshots.in_place(shown, parent)?;
    snapshots.unpack_for(shown, &mounts::roots_under(op, parent, left.is_some()))?;
    let _ = step.unpacked.set(began.elapsed());
    // Trees may be here of layers of which another place told what they hold.
    for root in mounts::roots_under(op, parent, false) {
        services.indexes.prove(&root.layers)?;
    }
    let lowers = if left.is_some() { Vec::new() } else { snapshots.lowers(parent)? };
    let held = mounts::hold(environment, op)?;
    let words = environment.words();
    let _ = step.locked.set(held.iter().map(HeldMount::waited).sum());
    let mut full = false;
    loop {
        // What has filled the memory is copied, this once.
        let kind = if full { OverlayKind::Copy } else { snapshots.kind() };
        let mut snapshot = match left.take() {
            Some(left) => left,
            None => snapshots.prepare_for(parent, &lowers, kind)?,
        };
        let spec = spec::make(environment, op, parent, &snapshot, &held)?;
        let mut tail = Tail::default();
        let mut log = services.log.step(&environment.given.project, step.number(), &step.title);
        let outcome = services.executor.run(&spec, |stream, printed| match printed {
            Printed::Line(line) => {
                let masked = words.as_ref().and_then(|words| words.masked(line));
                let line = masked.as_deref().unwrap_or(line);
                tail.push(last_written(line));
                log.line(line);
                services.events.send(Event::Log { step: step.number(), stream, line: line.to_owned() });
            }
            Printed::SoFar(line) => {
                let masked = words.as_ref().and_then(|words| words.masked(line));
                let line = masked.as_deref().unwrap_or(line);
                let line = last_written(line).to_owned();
                services.events.send(Event::LogSoFar { step: step.number(), line });
            }
        });
        if let Some(size_bytes) = overflowed(&outcome, &snapshot, &tail) {
            let note = full_disk::memory_note(&step.title, size_bytes);
            log.end(note.clone());
            services.events.send(Event::Note(note));
            full = true;
            continue;
        }
        let report = match outcome {
            Ok(report) if report.status == ExitStatus::Code(0) => {
                log.end(failure::ended(&report));
                snapshot.note(&report);
                report
            }
            Ok(report) => {
                let ended = failure::ended(&report);
                let logged = log.end(ended.clone());
                let special = &report.special_owners;
                let left = Left { op, parent, spec: &spec, held: &held, ended, special };
                session::keep_failed(step, &left, snapshot);
                let absent = mounts::absent(environment, op);
                return Err(failed(op, report, (&tail, absent), logged).into());
            }
            Err(ExecError::Overlay { error, .. }) => {
                snapshots.fall_back(kind, error)?;
                continue;
            }
            Err(source) => {
                log.end(source.to_string());
                if let (ExecError::NotFound { program }, Some(set_at)) = (&source, shell_set_at(step, op)) {
                    return Err(Error::NoShell { shell: program.clone(), set_at });
                }
                let emulation = emulation_help(&op.platform);
                return Err(CommandError::NotStarted { source, emulation }.into());
            }
        };
        let form = environment.policy.form;
        let watch = environment.watch(step.step.span);
        let (layer, files) =
            layers::of_changes((services, form, Some(&watch)), parent, &snapshot, &report.special_owners)?;
        // A tree must be what its layer unpacks to, so rewritten times rule the directory out.
        if matches!(snapshot.kind(), OverlayKind::Native) && form.newest.is_none() {
            snapshots.adopt(parent.chain.push(layer.diff_id), &snapshot);
        } else if snapshot.before().is_some() && form.newest.is_none() {
            snapshots.hand_on(parent.chain.push(layer.diff_id), snapshot);
        }
        // The one place where the clock enters an image.
        return Ok(((layer, clock::now()), files, failure::usage(&report)));
    }
}

/// Where the SHELL stands whose program was to run the command.
fn shell_set_at<R>(step: &StepContext<'_>, op: &ExecOp<R>) -> Option<Span> {
    let (words, set_at) = plan::shell_of(step.environment.given.dockerfile?, step.step.span?)?;
    (words.first() == op.args.first()).then_some(set_at)
}

/// How much memory there was for the changes of a command that found it too little. Where nothing is left in the end,
/// something may be missing whatever the command says of it.
fn overflowed(outcome: &Result<ExitReport, ExecError>, snapshot: &WritableRoot, tail: &Tail) -> Option<u64> {
    let (memory, report) = (snapshot.memory()?, outcome.as_ref().ok()?);
    let is_told = || tail.text().is_some_and(|text| text.contains(full_disk::NO_SPACE));
    let has_failed = report.status != ExitStatus::Code(0);
    (memory.is_full() || has_failed && is_told()).then(|| memory.size_bytes())
}

/// A command that did not succeed; `logged` is the number of lines that it printed, and where they are.
fn failed<R>(
    op: &ExecOp<R>,
    report: ExitReport,
    (tail, absent): (&Tail, Vec<String>),
    (lines, path): (u64, Option<PathBuf>),
) -> CommandError {
    let log = path.filter(|_| !tail.is_all()).map(|path| (lines, path));
    CommandError::Failed {
        command: spec::shown_command(op),
        report: Box::new(report),
        output: tail.text(),
        log,
        absent,
    }
}
