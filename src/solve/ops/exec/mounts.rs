//! What the mounts of a RUN read, and what must be held while it runs.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::super::state::{Files, RootState};
use super::super::super::{Failures, StepContext, jobs, trees};
use super::agent::Agent;
use crate::copy_files;
use crate::key::{self, CacheIdentity, Shown};
use crate::plan::graph::{CacheOwner, ExecOp, Mount, MountKind, Mounted, Sharing};
use crate::solve::ops::{context_layer, copy};
use crate::store::ScratchDir;

/// The root that a mount shows files of.
#[derive(Debug, Clone)]
pub(in crate::solve) struct MountedRoot {
    /// All of it.
    pub(in crate::solve) root: RootState,
    /// Whether the mount shows a part of it only, so that other parts do not count. A context was cut down before.
    pub(in crate::solve) is_part: bool,
}

/// The command with the roots that its mounts show. A context becomes a layer of its own, so that a step sees what the
/// ignore file lets through, owned by root, and nothing else.
pub(in crate::solve) fn with_roots(
    step: &StepContext<'_>,
    op: &ExecOp<Arc<Files>>,
) -> Result<ExecOp<MountedRoot>, Failures> {
    op.try_map(|Mounted { from, source, span }| match &**from {
        Files::Root(root) => Ok(MountedRoot { root: root.clone(), is_part: source != "/" }),
        Files::Local(name) => {
            let root = context_layer::make(step, name, source, span)?;
            Ok(MountedRoot { root, is_part: false })
        }
    })
}

/// What the mounts say to the key without being looked at.
pub(in crate::solve::ops) fn by_roots(op: &ExecOp<MountedRoot>) -> ExecOp<Shown> {
    op.map(|part| Shown::Root(part.from.root.chain))
}

/// Whether a mount shows a part of a root.
pub(in crate::solve::ops) fn show_parts(op: &ExecOp<MountedRoot>) -> bool {
    op.mounted().any(|part| part.from.is_part)
}

/// What the mounts say to the key where a part of a root counts by the files that are in it.
pub(in crate::solve::ops) fn by_files(
    step: &StepContext<'_>,
    op: &ExecOp<MountedRoot>,
) -> Result<ExecOp<Shown>, Failures> {
    op.try_map(|Mounted { from: MountedRoot { root, is_part }, source, .. }| {
        let by_root = Shown::Root(root.chain);
        if !is_part {
            return Ok(by_root);
        }
        let tree = trees::of_root(step, root)?;
        let found = copy_files::mounted(&tree, source.as_bytes());
        let found = found.map_err(|error| vec![copy::explain(step, &error)])?;
        Ok(found.map_or(by_root, |files| Shown::Files(files.key())))
    })
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

/// A mount with what it needs.
pub(in crate::solve) struct HeldMount<'o> {
    /// The mount.
    pub(in crate::solve) mount: &'o Mount<MountedRoot>,
    /// What it needs.
    pub(in crate::solve) held: Held,
}

/// Gets what each mount of `op` needs, in their order; waits for cache mounts that others have locked.
pub(in crate::solve) fn hold<'o>(
    step: &StepContext<'_>,
    op: &'o ExecOp<MountedRoot>,
) -> Result<Vec<HeldMount<'o>>, Failures> {
    let owners = step.environment.snapshots.tree_kind(step)?.name();
    let named = op.mounts.iter().enumerate();
    let mut wanted: Vec<_> = named.map(|(at, mount)| (cache_name(mount, owners), at, mount)).collect();
    // Every step, of every build, locks its caches in the order of their names: two that want the same two never wait for
    // each other.
    wanted.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    let mut held: Vec<(usize, HeldMount<'o>)> = Vec::with_capacity(wanted.len());
    for (name, at, mount) in wanted {
        let needed = match name {
            Some(name) => cache(step, mount, &name, &held)?,
            None => hold_one(step, mount)?,
        };
        held.push((at, HeldMount { mount, held: needed }));
    }
    held.sort_by_key(|(at, _)| *at);
    Ok(held.into_iter().map(|(_, held)| held).collect())
}

/// The name of a cache mount's directory.
fn cache_name(mount: &Mount<MountedRoot>, owners: &str) -> Option<String> {
    let MountKind::Cache { id, from, owner, .. } = &mount.kind else { return None };
    let from = from.as_ref().map(|(part, source)| (part.root.chain, source.as_str()));
    Some(key::cache_directory(&CacheIdentity { id, from, owner: *owner }, owners).hex())
}

fn hold_one(step: &StepContext<'_>, mount: &Mount<MountedRoot>) -> Result<Held, Failures> {
    match &mount.kind {
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } | MountKind::Cache { .. } => Ok(Held::Nothing),
        MountKind::Secret { id, required, .. } => secret(step, mount, id, *required),
        MountKind::Ssh { id, required, .. } => agent(step, mount, id, *required),
    }
}

fn secret<R>(step: &StepContext<'_>, mount: &Mount<R>, id: &str, required: bool) -> Result<Held, Failures> {
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

fn agent<R>(step: &StepContext<'_>, mount: &Mount<R>, id: &str, required: bool) -> Result<Held, Failures> {
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
    mount: &Mount<MountedRoot>,
    name: &str,
    others: &[(usize, HeldMount<'_>)],
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
        if others.iter().any(|(_, other)| is_mine(&other.held)) {
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
            let fill = match from {
                Some((part, source)) => Some(jobs::Fill {
                    copy: snapshots.copy_of(step, &part.root)?,
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
                owners: snapshots.privilege(step)?.owners(),
                fill,
            };
            jobs::cache_directory(step.environment, &job).map_err(fail)?;
        }
        return Ok(Held::Cache { path, _lock: Some(lock) });
    }
    Ok(Held::Nothing)
}
