//! RUN: a command in the parent's root, and what it changed as a layer.

mod mounts;
mod output;
mod snapshots;
mod spec;

use std::sync::Arc;

pub(super) use self::mounts::paths as mounted_paths;
use self::output::Tail;
pub use self::snapshots::Snapshots;
use super::super::state::{Files, RootState};
use super::super::{Done, Failures, LayerForm, StepContext, jobs, key};
use super::commit;
use crate::exec::{ExecError, ExitReport, ExitStatus};
use crate::oci::{Descriptor, Layer, Seconds};
use crate::plan::graph::ExecOp;
use crate::report::{Diagnostic, Event, Outcome};
use crate::snapshot::{ActiveSnapshot, CommitJob, DiffJob, OverlayKind};

/// Takes the layer from the cache, or runs the command.
pub(super) fn run(
    step: &StepContext<'_>,
    op: &ExecOp,
    parent: &RootState,
    reads: &[Arc<Files>],
) -> Result<Done, Failures> {
    let mounted = mounts::inputs(step, op, reads)?;
    let preimage = step.in_form(key::exec(
        op,
        parent.chain,
        &mounts::key_inputs(&mounted),
        step.environment.snapshots.owners(step)?,
    ));
    if let Some(record) = step.lookup(&preimage)? {
        let root = parent.with(record.layer, record.time);
        return Ok(Done { files: Files::Root(root), outcome: Outcome::Cached });
    }
    step.missed(&preimage);
    let (layer, time) = execute(step, op, parent, &mounted)?;
    let root = commit::publish(step, parent, &preimage, layer, time)?;
    Ok(Done { files: Files::Root(root), outcome: Outcome::Ran })
}

/// Runs the command and writes its changes; gives the layer, complete in the store, and its time.
fn execute(
    step: &StepContext<'_>,
    op: &ExecOp,
    parent: &RootState,
    mounted: &[RootState],
) -> Result<(Layer, Seconds), Failures> {
    let environment = step.environment;
    let snapshots = &environment.snapshots;
    let lowers = snapshots.lowers(step, parent)?;
    let held = mounts::hold(step, op)?;
    loop {
        let kind = snapshots.kind(step);
        let snapshot = snapshots.prepare(step, &lowers, kind)?;
        let spec = spec::make(step, op, parent, &snapshot, mounted, &held)?;
        let mut tail = Tail::default();
        let outcome = environment.executor.run(&spec, |stream, line| {
            tail.push(line);
            environment.events.send(Event::Log { step: step.number(), stream, line: line.to_owned() });
        });
        match outcome {
            Ok(report) => check(step, op, &report, &tail)?,
            Err(ExecError::Overlay { error, .. }) => {
                snapshots.fall_back(step, kind, &error)?;
                continue;
            }
            Err(error) => return Err(vec![explain(step, &error)]),
        }
        return Ok((store_changes(step, parent, &snapshot)?, now()));
    }
}

/// The one place where the clock enters a build.
fn now() -> Seconds {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() as Seconds)
}

/// An error unless the command succeeded.
fn check(step: &StepContext<'_>, op: &ExecOp, report: &ExitReport, tail: &Tail) -> Result<(), Failures> {
    let ended = match report.status {
        ExitStatus::Code(0) => return Ok(()),
        ExitStatus::Code(code) => format!("exit code: {code}"),
        ExitStatus::Signal(signal) if report.out_of_memory => {
            let memory = report.peak_memory_bytes >> 20;
            format!("exit code: {}: killed, out of memory (it used {memory} MiB)", 128 + signal)
        }
        ExitStatus::Signal(signal) => format!("exit code: {}: killed by signal {signal}", 128 + signal),
    };
    let command = spec::shown_command(op);
    let mut diagnostic = step.error(format!("process \"{command}\" did not complete successfully: {ended}"));
    if let Some(text) = tail.text() {
        diagnostic = diagnostic.note(format!("its last output:\n{text}"));
    }
    if report.status == ExitStatus::Code(127) {
        diagnostic = diagnostic
            .help("127 means that the shell did not find a command; is it installed in an earlier step?");
    }
    Err(vec![diagnostic])
}

fn explain(step: &StepContext<'_>, error: &ExecError) -> Diagnostic {
    let diagnostic = step.error(error.to_string());
    match error {
        ExecError::NotFound { .. } => diagnostic
            .help("the root file system of this stage does not have it; a stage FROM scratch has no shell"),
        _ => diagnostic,
    }
}

/// Writes what the command changed as a layer into the store. The directory with the changes becomes the
/// layer's tree, so that the next RUN need not unpack what was just packed.
fn store_changes(
    step: &StepContext<'_>,
    parent: &RootState,
    snapshot: &ActiveSnapshot,
) -> Result<Layer, Failures> {
    let environment = step.environment;
    let fail = |message: String| vec![step.error(message)];
    let scratch = environment.store.scratch_dir().map_err(|e| fail(e.to_string()))?;
    let LayerForm { compression, newest } = environment.form;
    let job = CommitJob {
        diff: DiffJob { newest, ..environment.snapshots.diff_job(step, snapshot)? },
        parents: environment.snapshots.index_files(step, &parent.layers)?,
        compression,
        blob: scratch.path().join("blob"),
        index: scratch.path().join("index"),
    };
    let view = environment.roots.view(&parent.layers).map_err(|e| fail(e.to_string()))?;
    let committed = jobs::commit(environment, &job, &view).map_err(fail)?;
    environment.store.adopt_blob(&job.blob, committed.digest).map_err(|e| fail(e.to_string()))?;
    environment.roots.adopt(committed.diff_id, &job.index).map_err(|e| fail(e.to_string()))?;
    // A tree must be what its layer unpacks to, so rewritten times rule the directory out.
    if matches!(snapshot.kind(), OverlayKind::Native) && newest.is_none() {
        environment.snapshots.adopt(parent.chain.push(committed.diff_id), snapshot);
    }
    let descriptor = Descriptor::new(compression.media_type(), committed.digest, committed.size);
    Ok(Layer { descriptor, diff_id: committed.diff_id })
}
