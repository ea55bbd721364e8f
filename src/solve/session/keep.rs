//! From a command that has ended to a session that is kept.

use std::sync::Mutex;

use super::super::ops::exec::mounts::{Held, HeldMount, MountedRoot};
use super::record::{KeptLock, KeptSecret, Kind, Session, Sessions};
use crate::clock::{now, now_ms};
use crate::exec::{self, RootSource, Spec};
use crate::key::LayerOptions;
use crate::oci::{ImageConfig, Layer};
use crate::plan::graph::{ExecOp, MountKind, Sharing};
use crate::rootfs::SpecialOwner;
use crate::solve::environment::Services;
use crate::solve::error::Error;
use crate::solve::layers;
use crate::solve::state::RootState;
use crate::solve::step::StepContext;
use crate::solve::writable::WritableRoot;
use crate::store;
use crate::sync::lock;

/// Less free space than this many bytes may be the very reason for a failure; then nothing is kept.
const FREE_BYTES: u64 = 512 << 20;

/// What becomes of the roots of steps that fail.
#[derive(Debug, Default)]
pub struct FailedSteps {
    /// Whether they are kept.
    pub keep: bool,
    kept: Mutex<Vec<Session>>,
}

impl FailedSteps {
    /// Keeps them, if `keep`.
    pub fn new(keep: bool) -> Self {
        Self { keep, kept: Mutex::default() }
    }

    /// Those that were kept, in the order in which they failed.
    pub fn kept(&self) -> Vec<Session> {
        lock(&self.kept).clone()
    }
}

/// What a command leaves.
pub(in crate::solve) struct Left<'a> {
    /// The step.
    pub(in crate::solve) op: &'a ExecOp<MountedRoot>,
    /// What it stood on.
    pub(in crate::solve) parent: &'a RootState,
    /// What ran.
    pub(in crate::solve) spec: &'a Spec,
    /// Its caches and secrets.
    pub(in crate::solve) held: &'a [HeldMount<'a>],
    /// How it ended.
    pub(in crate::solve) ended: String,
    /// Owners that cannot be written down beside their files.
    pub(in crate::solve) special: &'a [SpecialOwner],
}

/// Keeps the root of a step that failed, if that is wanted. What does not work out is no further failure.
pub(in crate::solve) fn keep_failed(step: &StepContext<'_>, left: &Left<'_>, snapshot: WritableRoot) {
    let services = step.environment.services;
    let root = services.store.root();
    let is_full = rustix::fs::statvfs(root).is_ok_and(|stat| stat.f_bavail * stat.f_frsize < FREE_BYTES);
    if !services.failed.keep || is_full || services.executor.is_cancelled() {
        return;
    }
    let what = step.title.clone();
    let command = left.spec.args.clone();
    let ended = left.ended.clone();
    let platform = &left.op.platform;
    // The build fills in the rest: what the image of the stage would be is in the plan.
    let config = ImageConfig {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    };
    let Ok(session) = describe(services, left, config) else { return };
    let session = Session { kind: Kind::Failed, what, command, ended, origin: step.step.origin, ..session };
    match keep(services, session, snapshot) {
        Ok(session) => lock(&services.failed.kept).push(session),
        Err(error) => tracing::info!(?error, "cannot keep a failed step"),
    }
}

/// What is kept of a session, without its own story.
pub(super) fn describe(services: &Services, left: &Left<'_>, config: ImageConfig) -> Result<Session, Error> {
    let Left { op, parent, spec, held, .. } = left;
    let mut session = Session {
        version: Session::VERSION,
        id: String::new(),
        name: None,
        kind: Kind::Shell,
        what: String::new(),
        command: Vec::new(),
        ended: String::new(),
        created: now(),
        created_ms: now_ms(),
        layers: parent.layers.clone(),
        time: parent.time,
        config,
        origin: None,
        overlay: services.snapshots.kind(),
        tree_kind: services.snapshots.tree_kind()?.name().to_owned(),
        spec: without_root(spec),
        secrets: Vec::new(),
        locks: Vec::new(),
        lost: Vec::new(),
        special_owners: left.special.to_vec(),
        changes: None,
    };
    for HeldMount { mount, held } in *held {
        forget_secrets(&mut session, &mount.target, &mount.kind, held);
    }
    // Proxies may hold passwords, and are the build's affair, not the step's.
    session.spec.env.retain(|variable| !op.proxy_env.contains(variable));
    Ok(session)
}

/// What is in memory would be gone: it becomes a layer of the store's, from which it is restored.
pub(super) fn keep_memory(
    services: &Services,
    session: &mut Session,
    snapshot: &WritableRoot,
) -> Result<(), Error> {
    if snapshot.memory().is_some() {
        session.changes = Some(session.write_changes(services, snapshot)?);
    }
    Ok(())
}

impl Session {
    /// Writes what was changed in it as a layer into the store.
    pub(super) fn write_changes(&self, services: &Services, snapshot: &WritableRoot) -> Result<Layer, Error> {
        let made = layers::of_changes(
            (services, LayerOptions::default(), None),
            &self.root(),
            snapshot,
            &self.special_owners,
        );
        made.map(|(layer, _)| layer)
    }
}

fn without_root(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.root = RootSource::Plain { dir: "/".into() };
    spec
}

/// Takes what a mount brought out of what is kept, where it must not be or will not be there.
fn forget_secrets(session: &mut Session, target: &str, kind: &MountKind<MountedRoot>, held: &Held) {
    match kind {
        MountKind::Secret { id, file, env, mode, uid, gid, .. } => {
            session.spec.mounts.retain(|mount| mount.target != target);
            session.spec.env.retain(|(name, _)| env.as_deref() != Some(name.as_str()));
            let file = file.then(|| (target.to_owned(), *mode, *uid, *gid));
            // One that was not given need not be there later.
            if matches!(held, Held::Secret(Some(_))) {
                session.secrets.push(KeptSecret { id: id.clone(), env: env.clone(), file });
            }
        }
        MountKind::Ssh { id, .. } => {
            let count = session.spec.mounts.len();
            session.spec.mounts.retain(|mount| mount.target != target);
            if session.spec.mounts.len() < count {
                session.lost.push(format!("the ssh agent `{id}`"));
            }
        }
        MountKind::Cache { sharing, .. } => {
            if let Held::Cache { path, .. } = held {
                let mut lock = path.clone().into_os_string();
                lock.push(".lock");
                session.locks.push(KeptLock { path: lock.into(), shared: *sharing == Sharing::Shared });
            }
        }
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } => {}
    }
}

/// Gives the session an id and moves its directories to where they stay.
pub(super) fn keep(
    services: &Services,
    mut session: Session,
    snapshot: WritableRoot,
) -> Result<Session, Error> {
    let sessions = Sessions::of(&services.store);
    // Who enters it one day has no other place.
    services.lookup.bring(&session.layers)?;
    while session.id.is_empty() || sessions.folder(&session.id).exists() {
        // The random part of a name that nobody else has.
        session.id = store::unique().chars().rev().take(6).collect();
    }
    session.overlay = snapshot.kind();
    (session.created, session.created_ms) = (now(), now_ms());
    for mount in &mut session.spec.mounts {
        if let exec::MountSource::Layers { lowers, .. } = &mut mount.kind {
            services.snapshots.lasting(lowers);
        }
    }
    keep_memory(services, &mut session, &snapshot)?;
    let folder = sessions.folder(&session.id);
    snapshot.into_snapshot().keep(&folder, &[("session.json", &session.to_bytes())])?;
    sessions.expire(now());
    Ok(session)
}
