//! What the mounts of a RUN read, and what must be held while it runs.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::super::state::{Files, RootState, SecretSource};
use super::super::super::{Failures, StepContext, jobs};
use super::super::{context_layer, reads_of_mount};
use crate::cache::Key;
use crate::cache::Preimage;
use crate::oci::ChainId;
use crate::plan::graph::{ExecOp, Mount, MountKind, Sharing};
use crate::report::Span;

/// A secret larger than this is no secret.
const SECRET_LIMIT: u64 = 500 << 10;

/// The files that the mounts read, one for each that reads any, in order. A context becomes a layer of its own, so
/// that a step sees what the ignore file lets through, owned by root, and nothing else.
pub(super) fn inputs(
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
    let reading = op.mounts.iter().filter(|mount| reads_of_mount(mount).is_some());
    reading.map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => (source.as_str(), mount.span),
        MountKind::Cache { from: Some((_, source)), .. } => (source.as_str(), mount.span),
        _ => ("/", mount.span),
    })
}

/// What the inputs say to the key.
pub(super) fn key_inputs(inputs: &[RootState]) -> Vec<ChainId> {
    inputs.iter().map(|root| root.chain).collect()
}

/// Something that a mount needs as long as the step runs.
pub(super) enum Held {
    /// A bind, a tmpfs: nothing.
    Nothing,
    /// The directory of a cache mount, and the lock that keeps others out.
    Cache {
        /// The directory.
        path: PathBuf,
        /// Locked; let go when the step is over.
        _lock: File,
    },
    /// A secret's value; `None` when it was not given and need not be.
    Secret(Option<Vec<u8>>),
}

/// Gets what each mount of `op` needs, in their order; waits for cache mounts that others have locked.
pub(super) fn hold(step: &StepContext<'_>, op: &ExecOp) -> Result<Vec<Held>, Failures> {
    op.mounts
        .iter()
        .map(|mount| match &mount.kind {
            MountKind::Bind { .. } | MountKind::Tmpfs { .. } => Ok(Held::Nothing),
            MountKind::Cache { .. } => cache(step, mount),
            MountKind::Secret { id, required, .. } => secret(step, mount, id, *required),
            MountKind::Ssh { required: false, .. } => Ok(Held::Nothing),
            MountKind::Ssh { id, required: true, .. } => {
                let error = step.error_at(
                    mount.span,
                    format!("no SSH key `{id}` was given; forwarding an agent is not possible yet"),
                );
                Err(vec![error])
            }
        })
        .collect()
}

fn secret(step: &StepContext<'_>, mount: &Mount, id: &str, required: bool) -> Result<Held, Failures> {
    let unreadable = |what: String, error: String| {
        vec![step.error_at(mount.span, format!("cannot read the secret `{id}` from {what}: {error}"))]
    };
    let value = match step.environment.secrets.get(id) {
        Some(SecretSource::Env(name)) => std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes),
        Some(SecretSource::File(path)) => {
            let shown = format!("`{}`", path.display());
            let size = std::fs::metadata(path).map_err(|e| unreadable(shown.clone(), e.to_string()))?.len();
            if size > SECRET_LIMIT {
                return Err(unreadable(shown, format!("it has {size} bytes, more than {SECRET_LIMIT}")));
            }
            Some(std::fs::read(path).map_err(|e| unreadable(shown, e.to_string()))?)
        }
        None => None,
    };
    if value.is_none() && required {
        let error = step.error_at(mount.span, format!("secret {id}: not found"));
        return Err(vec![
            error.help(format!("give it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`")),
        ]);
    }
    Ok(Held::Secret(value))
}

/// The directory of a cache mount. Instances of a private one are numbered; the first that nobody has is taken.
fn cache(step: &StepContext<'_>, mount: &Mount) -> Result<Held, Failures> {
    let MountKind::Cache { id, sharing, mode, uid, gid, .. } = &mount.kind else { return Ok(Held::Nothing) };
    let fail = |message: String| vec![step.error_at(mount.span, message)];
    let folder = step.environment.store.private("cachemounts");
    let name = cache_name(id, step.environment.snapshots.flavour(step)?);
    for instance in 0.. {
        let name = if instance == 0 { name.clone() } else { format!("{name}-{instance}") };
        let lock_path = folder.join(format!("{name}.lock"));
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|e| fail(format!("cannot open `{}`: {e}", lock_path.display())))?;
        let taken = match sharing {
            Sharing::Shared => lock.lock_shared().map(|()| true),
            Sharing::Locked => lock.lock().map(|()| true),
            Sharing::Private => Ok(lock.try_lock().is_ok()),
        };
        if !taken.map_err(|e| fail(format!("cannot lock `{}`: {e}", lock_path.display())))? {
            continue;
        }
        let path = folder.join(name);
        let job = jobs::CacheDirectory { path: path.clone(), mode: *mode, uid: *uid, gid: *gid };
        jobs::cache_directory(step.environment, &job).map_err(fail)?;
        return Ok(Held::Cache { path, _lock: lock });
    }
    Ok(Held::Nothing)
}

/// A file name for any id; owners on disk differ between root and user namespaces, so these do not share.
fn cache_name(id: &str, flavour: &str) -> String {
    let mut preimage = Preimage::new("cache-mount/1");
    preimage.push("id", id);
    preimage.push("owners", flavour);
    let key: Key = preimage.key();
    key.hex()
}
