//! From a step's operation to what the executor runs.

use super::mounts::{Held, HeldMount, MountedRoot};
use crate::exec::{self, MountSpec, RootSource, Spec, Ulimit, Writes};
use crate::plan::graph::{ExecOp, MountKind, Network, Security};
use crate::snapshot::{ActiveSnapshot, OverlayKind};
use crate::solve::environment::{Environment, Services};
use crate::solve::error::Error;
use crate::solve::passwd;
use crate::solve::snapshots::Snapshots;
use crate::solve::state::RootState;

/// The executor's order for `op` in the root of `snapshot`.
pub(in crate::solve) fn make(
    environment: &Environment<'_>,
    op: &ExecOp<MountedRoot>,
    parent: &RootState,
    snapshot: &ActiveSnapshot,
    held: &[HeldMount<'_>],
) -> Result<Spec, Error> {
    let credentials = credentials(environment.services, op, parent, snapshot)?;
    let network = executed(op.network);
    let mut env = op.proxy_env.clone();
    env.extend(op.env.iter().cloned());
    let mut mounts = pipes(op);
    for held in held {
        env.extend(secret_variable(held));
        mounts.extend(mount_spec(&environment.services.snapshots, held)?);
    }
    mounts.extend(environment.given.volumes.iter().cloned());
    let mut spec = Spec {
        root: root_source(snapshot),
        args: op.args.clone(),
        env,
        cwd: op.cwd.clone(),
        credentials,
        hostname: op.hostname.clone(),
        network,
        security: secured(op.security),
        hidden: Vec::new(),
        mounts,
        hosts: exec::hosts_text(&op.hostname, &op.extra_hosts),
        resolv_conf: exec::resolv_conf_text(network, &environment.given.dns),
        shm_size_bytes: op.shm_size_bytes,
        ulimits: limits(op, held),
        owned_paths: environment.services.snapshots.owned_paths(parent)?,
        platform: op.platform.clone(),
        limits: environment.policy.limits.clone(),
    };
    environment.services.snapshots.hide(&mut spec)?;
    Ok(spec)
}

/// A core file of a process that has read a secret would take it into the layer: with secrets and agents there are none, whatever
/// was asked for. The last of equal limits counts.
fn limits<R>(op: &ExecOp<R>, held: &[HeldMount<'_>]) -> Vec<Ulimit> {
    let wished =
        op.ulimits.iter().map(|(name, soft, hard)| Ulimit { name: name.clone(), soft: *soft, hard: *hard });
    let is_secret = |mount: &HeldMount<'_>| matches!(mount.held, Held::Secret(Some(_)) | Held::Agent { .. });
    wished.chain(held.iter().any(is_secret).then(Ulimit::no_core_file)).collect()
}

/// What a network is for the executor.
pub fn executed(network: Network) -> exec::Network {
    match network {
        Network::Default | Network::Host => exec::Network::Host,
        Network::None => exec::Network::None,
        Network::Pasta => exec::Network::Pasta,
    }
}

/// What a step may do, for the executor.
pub(in crate::solve) fn secured(security: Security) -> exec::Security {
    match security {
        Security::Sandbox => exec::Security::Sandbox,
        Security::Insecure => exec::Security::Insecure,
    }
}

/// The command as the user wrote it: without the shell in front, on one line.
pub(super) fn shown_command<R>(op: &ExecOp<R>) -> String {
    op.args.join(" ").split('\n').map(str::trim_end).collect::<Vec<_>>().join("; ")
}

/// Where the root of `snapshot` comes from.
pub(in crate::solve) fn root_source(snapshot: &ActiveSnapshot) -> RootSource {
    let dirs = snapshot.dirs();
    match snapshot.kind() {
        OverlayKind::Copy => RootSource::Plain { dir: dirs.merged.clone() },
        OverlayKind::Native | OverlayKind::Memory => RootSource::Overlay {
            lowers: snapshot.lowers().to_vec(),
            upper: dirs.upper.clone(),
            work: dirs.work.clone(),
            merged: dirs.merged.clone(),
        },
    }
}

/// USER by the root's own account files, out of the trees that are there for the command anyway.
fn credentials<R>(
    services: &Services,
    op: &ExecOp<R>,
    parent: &RootState,
    snapshot: &ActiveSnapshot,
) -> Result<exec::Credentials, Error> {
    let view = services.indexes.view(&parent.layers)?;
    let whole = [snapshot.dirs().merged.clone()];
    let trees = if snapshot.kind() == OverlayKind::Copy { &whole[..] } else { snapshot.lowers() };
    let read = |path: &'static str| {
        let bytes = match passwd::read_unpacked((&view, parent.layers.len()), trees, path) {
            Some(found) => Ok(found),
            None => passwd::read_one(services, parent, path),
        };
        bytes.map(Option::unwrap_or_default).map_err(|source| Error::Accounts { path, source })
    };
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    Ok(exec::resolve_user(&op.user, &passwd, &group)?)
}

/// Here-documents with a `#!` line, which the shell runs as files.
fn pipes<R>(op: &ExecOp<R>) -> Vec<MountSpec> {
    op.pipes
        .iter()
        .map(|(name, content)| MountSpec {
            target: format!("/dev/pipes/{name}"),
            readonly: true,
            kind: exec::MountSource::File {
                content: content.clone().into_bytes(),
                mode: 0o755,
                uid: 0,
                gid: 0,
            },
        })
        .collect()
}

fn secret_variable(HeldMount { mount, held }: &HeldMount<'_>) -> Option<(String, String)> {
    match (&mount.kind, held) {
        (MountKind::Secret { env: Some(name), .. }, Held::Secret(Some(value))) => {
            Some((name.clone(), String::from_utf8_lossy(value).into_owned()))
        }
        _ => None,
    }
}

/// The mount for the executor; nothing for a secret or agent that is not there, or that is a variable only.
fn mount_spec(
    snapshots: &Snapshots,
    HeldMount { mount, held }: &HeldMount<'_>,
) -> Result<Option<MountSpec>, Error> {
    let (readonly, kind) = match (&mount.kind, held) {
        (MountKind::Bind { from, writable, .. }, _) => {
            (!writable, layers(snapshots, &from.root, &from.path, *writable)?)
        }
        (MountKind::Cache { readonly, .. }, Held::Cache { path, .. }) => {
            // It was filled when it was made.
            (*readonly, exec::MountSource::Cache { source: path.clone() })
        }
        (MountKind::Tmpfs { size_bytes }, _) => {
            (false, exec::MountSource::Tmpfs { size_bytes: *size_bytes, mode: 0o1777 })
        }
        (MountKind::Secret { file: true, mode, uid, gid, .. }, Held::Secret(Some(value))) => {
            (true, exec::MountSource::File { content: value.clone(), mode: *mode, uid: *uid, gid: *gid })
        }
        (MountKind::Ssh { mode, uid, gid, .. }, Held::Agent { agent, .. }) => {
            let (mode, uid, gid) = (*mode, *uid, *gid);
            (false, exec::MountSource::Socket { source: agent.path.clone(), mode, uid, gid })
        }
        (MountKind::Cache { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. }, _) => return Ok(None),
    };
    Ok(Some(MountSpec { target: mount.target.clone(), readonly, kind }))
}

fn layers(
    snapshots: &Snapshots,
    root: &RootState,
    source: &str,
    writable: bool,
) -> Result<exec::MountSource, Error> {
    let lowers = snapshots.lowers(root)?;
    let writes = match writable {
        true => snapshots.writes()?,
        false => Writes::Refused,
    };
    Ok(exec::MountSource::Layers { lowers, path: source.to_owned(), writes })
}
