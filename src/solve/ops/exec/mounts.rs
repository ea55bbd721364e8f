//! What the mounts of a RUN read, and what must be held while it runs.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::super::state::{Files, RootState};
use super::super::super::{Failures, StepContext, jobs, trees};
use super::super::{context_layer, transfer, transfer_step};
use super::agent::Agent;
use crate::key::{self, CacheIdentity, Shown};
use crate::plan::graph::{CacheOwner, ExecOp, Mount, MountKind, Sharing};
use crate::report::Span;
use crate::store::ScratchDir;

/// The files that the mounts read, one for each that reads any, in order. A context becomes a layer of its own, so
/// that a step sees what the ignore file lets through, owned by root, and nothing else.
pub(in crate::solve) fn inputs(
    step: &StepContext<'_>,
    op: &ExecOp,
    reads: &[Arc<Files>],
) -> Result<Vec<RootState>, Failures> {
    reads
        .iter()
        .zip(paths(op))
        .map(|(files, (source, span))| match &**files {
            Files::Root(root) => Ok(root.clone()),
            Files::Local(name) => context_layer::make(step, name, source, span),
        })
        .collect()
}

/// The paths that mounts show of what they read from, and where each stands.
pub(in crate::solve::ops) fn paths(op: &ExecOp) -> impl Iterator<Item = (&str, Option<Span>)> {
    let reading = op.mounts.iter().filter(|mount| mount.reads().is_some());
    reading.map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => (source.as_str(), mount.span),
        MountKind::Cache { from: Some((_, source)), .. } => (source.as_str(), mount.span),
        _ => ("/", mount.span),
    })
}

/// What the inputs say to the key without being looked at.
pub(in crate::solve::ops) fn by_roots(inputs: &[RootState]) -> Vec<Shown> {
    inputs.iter().map(|root| Shown::Root(root.chain)).collect()
}

/// Whether a mount shows a part of a root, so that other parts of it do not count. A context was cut down before.
pub(in crate::solve::ops) fn show_parts(op: &ExecOp, reads: &[Arc<Files>]) -> bool {
    reads.iter().zip(paths(op)).any(|(files, (source, _))| is_part(files, source))
}

fn is_part(files: &Files, source: &str) -> bool {
    matches!(files, Files::Root(_)) && source != "/"
}

/// What the inputs say to the key where a part of a root counts by the files that are in it.
pub(in crate::solve::ops) fn by_files(
    step: &StepContext<'_>,
    op: &ExecOp,
    reads: &[Arc<Files>],
    inputs: &[RootState],
) -> Result<Vec<Shown>, Failures> {
    let mut shown = by_roots(inputs);
    for (at, (files, (source, _))) in reads.iter().zip(paths(op)).enumerate() {
        if is_part(files, source) {
            let tree = trees::of_root(step, &inputs[at])?;
            let found = transfer::mounted(&tree, source.as_bytes());
            let found = found.map_err(|error| vec![transfer_step::explain(step, &error)])?;
            shown[at] = found.map_or(shown[at], |files| Shown::Files(files.key()));
        }
    }
    Ok(shown)
}

/// Something that a mount needs as long as the step runs.
pub(in crate::solve) enum Held {
    /// A bind, a tmpfs: nothing.
    Nothing,
    /// The directory of a cache mount, and the lock that keeps others out.
    Cache {
        /// The directory.
        path: PathBuf,
        /// Locked; let go when the step is over. `None` when another mount of the step holds it.
        _lock: Option<File>,
    },
    /// A secret's value; `None` when it was not given and need not be.
    Secret(Option<Vec<u8>>),
    /// An agent on a socket, until the step is over.
    Agent {
        /// Answers.
        agent: Agent,
        /// Where its socket is.
        _folder: ScratchDir,
    },
}

/// Gets what each mount of `op` needs, in their order; waits for cache mounts that others have locked. `inputs` are the
/// files that its mounts read.
pub(in crate::solve) fn hold(
    step: &StepContext<'_>,
    op: &ExecOp,
    inputs: &[RootState],
) -> Result<Vec<Held>, Failures> {
    let owners = step.environment.snapshots.flavour(step)?;
    let mut inputs = inputs.iter();
    let mut wanted = Vec::with_capacity(op.mounts.len());
    for (at, mount) in op.mounts.iter().enumerate() {
        let input = mount.reads().and_then(|_| inputs.next());
        wanted.push((cache_name(mount, input, owners), at, mount, input));
    }
    // Every step, of every build, locks its caches in the order of their names: two that want the same two never wait for
    // each other.
    wanted.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    let mut held: Vec<Held> = op.mounts.iter().map(|_| Held::Nothing).collect();
    for (name, at, mount, input) in wanted {
        held[at] = match name {
            Some(name) => cache(step, mount, &name, input, &held)?,
            None => hold_one(step, mount)?,
        };
    }
    Ok(held)
}

/// The name of a cache mount's directory.
fn cache_name(mount: &Mount, input: Option<&RootState>, owners: &str) -> Option<String> {
    let MountKind::Cache { id, from, owner, .. } = &mount.kind else { return None };
    let from = from.as_ref().zip(input).map(|((_, source), root)| (root.chain, source.as_str()));
    Some(key::cache_directory(&CacheIdentity { id, from, owner: *owner }, owners).hex())
}

fn hold_one(step: &StepContext<'_>, mount: &Mount) -> Result<Held, Failures> {
    match &mount.kind {
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } | MountKind::Cache { .. } => Ok(Held::Nothing),
        MountKind::Secret { id, required, .. } => secret(step, mount, id, *required),
        MountKind::Ssh { id, required, .. } => agent(step, mount, id, *required),
    }
}

fn secret(step: &StepContext<'_>, mount: &Mount, id: &str, required: bool) -> Result<Held, Failures> {
    let value = step.environment.secrets.read(id);
    let value = value.map_err(|error| vec![step.error_at(mount.span, error.to_string())])?;
    if value.is_none() && required {
        let error = step.error_at(mount.span, format!("secret {id}: not found"));
        return Err(vec![
            error.help(format!("give it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`")),
        ]);
    }
    Ok(Held::Secret(value))
}

fn agent(step: &StepContext<'_>, mount: &Mount, id: &str, required: bool) -> Result<Held, Failures> {
    let fail = |message: String| vec![step.error_at(mount.span, message)];
    let Some(source) = step.environment.ssh.get(id) else {
        if !required {
            return Ok(Held::Nothing);
        }
        let error = step.error_at(mount.span, format!("no SSH key `{id}` was given"));
        return Err(vec![error.help(format!("give it with `--ssh {id}` (your agent) or `--ssh {id}=FILE`"))]);
    };
    let folder = step.environment.store.scratch_dir().map_err(|e| fail(e.to_string()))?;
    let agent = Agent::start(source, folder.path()).map_err(|e| fail(e.to_string()))?;
    Ok(Held::Agent { agent, _folder: folder })
}

/// The directory of a cache mount. Instances of a private one are numbered; the first that nobody has is taken.
fn cache(
    step: &StepContext<'_>,
    mount: &Mount,
    name: &str,
    input: Option<&RootState>,
    held: &[Held],
) -> Result<Held, Failures> {
    let MountKind::Cache { sharing, from, owner, .. } = &mount.kind else { return Ok(Held::Nothing) };
    let fail = |message: String| vec![step.error_at(mount.span, message)];
    let folder = step.environment.store.private("cachemounts");
    for instance in 0.. {
        let name = if instance == 0 { name.to_owned() } else { format!("{name}-{instance}") };
        let lock_path = folder.join(format!("{name}.lock"));
        let path = folder.join(&name);
        // This step has it already, under another target; it would wait for itself.
        let is_mine = |held: &Held| matches!(held, Held::Cache { path: mine, .. } if *mine == path);
        if held.iter().any(is_mine) {
            return Ok(Held::Cache { path, _lock: None });
        }
        // For reading too: with a fifo in its place, nobody is waited for.
        let lock = File::options().create(true).truncate(false).read(true).write(true).open(&lock_path);
        let lock = lock.map_err(|e| fail(format!("cannot open `{}`: {e}", lock_path.display())))?;
        let taken = match sharing {
            Sharing::Shared => lock.lock_shared().map(|()| true),
            Sharing::Locked => lock.lock().map(|()| true),
            Sharing::Private => Ok(lock.try_lock().is_ok()),
        };
        step.environment.store.note_use(&lock_path);
        if !taken.map_err(|e| fail(format!("cannot lock `{}`: {e}", lock_path.display())))? {
            continue;
        }
        if !path.is_dir() {
            let snapshots = step.environment.snapshots;
            let scratch = step.environment.store.scratch_dir().map_err(|e| fail(e.to_string()))?;
            let CacheOwner { mode, uid, gid } = owner.unwrap_or_default();
            let fill = match from.as_ref().zip(input) {
                Some(((_, source), root)) => Some(jobs::Fill {
                    copy: snapshots.copy_of(step, root)?,
                    source: source.clone(),
                    may_be_missing: owner.is_some(),
                }),
                None => None,
            };
            let job = jobs::CacheDirectory {
                path: path.clone(),
                fresh: scratch.path().join("cache"),
                mode,
                uid,
                gid,
                records_owner: snapshots.owners(step)? == key::Owners::Recorded,
                fill,
            };
            jobs::cache_directory(step.environment, &job).map_err(fail)?;
        }
        return Ok(Held::Cache { path, _lock: Some(lock) });
    }
    Ok(Held::Nothing)
}
