//! RUN: a command in the parent's root, and what it changed as a layer.

#[allow(
    clippy::disallowed_methods,
    reason = "the agent and keys that the user gives; a socket in a folder of rbuild's"
)]
pub(in crate::solve) mod agent;
#[allow(clippy::disallowed_methods, reason = "the store's own folders, by hash and number")]
mod failure;
#[allow(clippy::disallowed_methods, reason = "the store's own folders, by hash and number")]
mod images;
#[allow(clippy::disallowed_methods, reason = "the store's own folders, by hash and number")]
pub(in crate::solve) mod mounts;
mod output;
#[allow(clippy::disallowed_methods, reason = "the store's own folders, by hash and number")]
mod snapshots;
pub(in crate::solve) mod spec;
pub(in crate::solve) mod writable;

use std::sync::Arc;

use self::mounts::MountedRoot;
use self::output::Tail;
pub use self::snapshots::Snapshots;
pub use self::spec::executed;
use self::writable::WritableRoot;
use super::super::session::{self, Left};
use super::super::state::{Files, RootState};
use super::super::{Done, Failures, StepContext, jobs};
use super::{commit, copy};
use crate::cache::Record;
use crate::clock;
use crate::exec::{ExecError, ExitReport, ExitStatus};
use crate::key::{self, LayerForm, Shown};
use crate::oci::{Descriptor, Layer, Seconds};
use crate::plan::graph::ExecOp;
use crate::report::{Event, Outcome};
use crate::rootfs::SpecialOwner;
use crate::snapshot::{CommitJob, DiffJob, OverlayKind};
use crate::solve::full_disk;

/// Takes the layer from the cache, or runs the command.
pub(super) fn run(
    step: &StepContext<'_>,
    op: &ExecOp<Arc<Files>>,
    parent: &RootState,
) -> Result<Done, Failures> {
    let op = &mounts::with_roots(step, op)?;
    let owners = step.environment.snapshots.owners(step)?;
    let key = |shown: &ExecOp<Shown>| step.in_form(key::run(shown, parent.chain, owners));
    let by_roots = key(&mounts::by_roots(op));
    // As with COPY: first by the identity of what the mounts read, which costs nothing, then by what they show of it.
    let (quick, preimage) = match mounts::show_parts(op) {
        false => (None, by_roots),
        true => {
            if let Some(record) = step.lookup_quietly(&by_roots)? {
                return Ok(cached(parent, record));
            }
            let by_files = key(&mounts::by_files(step, op)?);
            (Some(by_roots).filter(|quick| *quick != by_files), by_files)
        }
    };
    if let Some(record) = step.lookup(&preimage)? {
        copy::alias(step, quick.as_ref(), &record);
        return Ok(cached(parent, record));
    }
    step.missed(&preimage);
    let (layer, time) = execute(step, op, parent)?;
    let root = commit::publish(step, parent, &preimage, layer, time)?;
    if let Some(layer) = root.layers.last() {
        let record = Record::new(preimage.key(), layer.clone(), root.chain, root.time);
        copy::alias(step, quick.as_ref(), &record);
    }
    Ok(Done { files: Files::Root(root), outcome: Outcome::Ran })
}

fn cached(parent: &RootState, record: Record) -> Done {
    Done { files: Files::Root(parent.with(record.layer, record.time)), outcome: Outcome::Cached }
}

/// Runs the command and writes its changes; gives the layer, complete in the store, and its time. The directory with the
/// changes becomes the layer's tree, so that the next RUN need not unpack what was just packed.
fn execute(
    step: &StepContext<'_>,
    op: &ExecOp<MountedRoot>,
    parent: &RootState,
) -> Result<(Layer, Seconds), Failures> {
    let environment = step.environment;
    let snapshots = &environment.snapshots;
    let lowers = snapshots.lowers(step, parent)?;
    let held = mounts::hold(step, op)?;
    let mut full = false;
    loop {
        // What has filled the memory is copied, this once.
        let kind = if full { OverlayKind::Copy } else { snapshots.kind(step) };
        let snapshot = snapshots.prepare(step, &lowers, kind)?;
        let spec = spec::make(step, op, parent, &snapshot, &held)?;
        let mut tail = Tail::default();
        let mut log = environment.log.step(&environment.project, step.number(), step.title);
        let outcome = environment.executor.run(&spec, |stream, line| {
            tail.push(line);
            log.line(line);
            environment.events.send(Event::Log { step: step.number(), stream, line: line.to_owned() });
        });
        if let Some(size_bytes) = overflowed(&outcome, &snapshot, &tail) {
            let note = full_disk::memory_note(step.title, size_bytes);
            log.end(note.clone());
            environment.events.send(Event::Note(note));
            full = true;
            continue;
        }
        let special = match outcome {
            Ok(report) if report.status == ExitStatus::Code(0) => {
                log.end(failure::ended(&report));
                report.special_owners
            }
            Ok(report) => {
                let ended = failure::ended(&report);
                let logged = log.end(ended.clone());
                let special = &report.special_owners;
                let left = Left { op, parent, spec: &spec, held: &held, ended, special };
                session::keep_failed(step, &left, snapshot);
                return Err(vec![failure::explain(step, op, &report, &tail, logged)]);
            }
            Err(ExecError::Overlay { error, .. }) => {
                snapshots.fall_back(step, kind, &error)?;
                continue;
            }
            Err(error) => {
                log.end(error.to_string());
                return Err(vec![failure::explain_start(step, op, &error)]);
            }
        };
        let layer = write_changes(step, parent, &snapshot, &special)?;
        // A tree must be what its layer unpacks to, so rewritten times rule the directory out.
        if matches!(snapshot.kind(), OverlayKind::Native) && environment.form.newest.is_none() {
            environment.snapshots.adopt(parent.chain.push(layer.diff_id), &snapshot);
        }
        // The one place where the clock enters an image.
        return Ok((layer, clock::now()));
    }
}

/// How much memory there was for the changes of a command that found it too little. Where nothing is left in the end,
/// something may be missing whatever the command says of it.
fn overflowed(outcome: &Result<ExitReport, ExecError>, snapshot: &WritableRoot, tail: &Tail) -> Option<u64> {
    let (memory, report) = (snapshot.memory()?, outcome.as_ref().ok()?);
    let is_told = || tail.text().is_some_and(|text| text.contains(full_disk::NO_SPACE));
    let has_failed = report.status != ExitStatus::Code(0);
    (memory.is_full() || has_failed && is_told()).then(|| memory.size_bytes())
}

/// Writes what a command changed as a layer into the store.
pub(in crate::solve) fn write_changes(
    step: &StepContext<'_>,
    parent: &RootState,
    snapshot: &WritableRoot,
    special: &[SpecialOwner],
) -> Result<Layer, Failures> {
    let environment = step.environment;
    let fail = |message: String| vec![step.error(message)];
    let scratch = environment.store.scratch_dir().map_err(|e| fail(e.to_string()))?;
    let LayerForm { compression, newest } = environment.form;
    let job = CommitJob {
        diff: DiffJob { newest, ..environment.snapshots.diff_job(step, snapshot, special)? },
        // For a worker, which has no view.
        parents: match snapshot.memory().is_some() || environment.executor.is_rootless() {
            true => environment.snapshots.index_files(step, &parent.layers)?,
            false => Vec::new(),
        },
        compression,
        blob: scratch.path().join("blob"),
        index: scratch.path().join("index"),
    };
    let view = environment.roots.view(&parent.layers).map_err(|e| fail(e.to_string()))?;
    let committed = jobs::commit(environment, snapshot.memory(), &job, &view).map_err(fail)?;
    environment.store.adopt_blob(&job.blob, committed.digest).map_err(|e| fail(e.to_string()))?;
    environment.roots.adopt(committed.diff_id, &job.index).map_err(|e| fail(e.to_string()))?;
    let descriptor = Descriptor {
        annotations: committed.annotations,
        ..Descriptor::new(compression.media_type(), committed.digest, committed.size)
    };
    Ok(Layer { descriptor, diff_id: committed.diff_id })
}
