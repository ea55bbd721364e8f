//! What the mounts of a RUN read, and what must be held while it runs.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::agent::Agent;
use crate::copy_files;
use crate::exec::Privilege;
use crate::key::{self, CacheIdentity, Shown};
use crate::plan::graph::{CacheOwner, ExecOp, Mount, MountKind, Mounted, Sharing};
use crate::report::Event;
use crate::shared_cache;
use crate::solve::cache_mounts::{self, Wanted};
use crate::solve::environment::{Environment, Services};
use crate::solve::error::Error;
use crate::solve::ops::context_layer;
use crate::solve::state::{Files, RootState};
use crate::solve::{jobs, trees};
use crate::store::{Folder, ScratchDir};

/// The root that a mount shows files of.
#[derive(Debug, Clone)]
pub(in crate::solve) struct MountedRoot {
    /// All of it.
    pub(in crate::solve) root: RootState,
    /// Whether the mount shows a part of it only, so that other parts do not count. A context was cut down before.
    pub(in crate::solve) is_part: bool,
    /// What the mount shows of it, an absolute path. Links are left in it where the root has them.
    pub(in crate::solve) path: String,
}

impl MountedRoot {
    /// What the mount shows of a stage or an image.
    pub(in crate::solve::ops) fn of_root(root: &RootState, source: &str) -> Self {
        Self { root: root.clone(), is_part: source != "/", path: source.to_owned() }
    }

    /// What it shows of a context, which was made a layer.
    pub(in crate::solve::ops) fn of_context((root, path): (RootState, String)) -> Self {
        Self { root, is_part: false, path }
    }
}

/// The command with the roots that its mounts show. A context becomes a layer of its own, so that a step sees what the
/// ignore file lets through, owned by root, and nothing else. `slot` is what the step is remembered under.
pub(in crate::solve) fn with_roots(
    (environment, slot): (&Environment<'_>, &str),
    op: &ExecOp<Arc<Files>>,
) -> Result<ExecOp<MountedRoot>, Error> {
    op.try_map(|Mounted { from, source, span }| match &**from {
        Files::Root(root) => Ok(MountedRoot::of_root(root, source)),
        Files::Folder(name, context) => {
            let slot = format!("{slot}/context:{name}:{source}");
            let part = context_layer::Part { name, context, source, span };
            Ok(MountedRoot::of_context(context_layer::make((environment, &slot), &part)?))
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
    services: &Services,
    op: &ExecOp<MountedRoot>,
) -> Result<ExecOp<Shown>, Error> {
    op.try_map(|Mounted { from: MountedRoot { root, is_part, .. }, source, .. }| {
        let by_root = Shown::Root(root.chain);
        if !is_part {
            return Ok(by_root);
        }
        let tree = trees::of_root(services, root)?;
        let found = copy_files::mounted(&tree, source.as_bytes())?;
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
        /// How long others had it.
        waited: Duration,
    },
    /// A secret's value; `None` when it was not given and need not be.
    Secret(Option<Vec<u8>>),
    /// An agent on a socket, until the step is over.
    Agent {
        /// Answers what the command asks of its socket.
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

impl HeldMount<'_> {
    /// How long others had what it needs.
    pub(in crate::solve::ops) fn waited(&self) -> Duration {
        match &self.held {
            Held::Cache { waited, .. } => *waited,
            Held::Nothing | Held::Secret(_) | Held::Agent { .. } => Duration::ZERO,
        }
    }
}

/// The roots that must be there as trees before the command runs; the parent not if it `is_there` already.
pub(in crate::solve::ops) fn roots_under<'o>(
    op: &'o ExecOp<MountedRoot>,
    parent: &'o RootState,
    is_there: bool,
) -> Vec<&'o RootState> {
    let mounted = op.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { from, .. } => Some(&from.root),
        MountKind::Cache { .. }
        | MountKind::Tmpfs { .. }
        | MountKind::Secret { .. }
        | MountKind::Ssh { .. } => None,
    });
    (!is_there).then_some(parent).into_iter().chain(mounted).collect()
}

/// Gets what each mount of `op` needs, in their order; waits for cache mounts that others have locked.
pub(in crate::solve) fn hold<'o>(
    environment: &Environment<'_>,
    op: &'o ExecOp<MountedRoot>,
) -> Result<Vec<HeldMount<'o>>, Error> {
    let owners = environment.services.snapshots.tree_kind()?.name();
    let named = op.mounts.iter().enumerate();
    let mut wanted: Vec<_> = named.map(|(at, mount)| (cache_name(mount, owners), at, mount)).collect();
    // Every step, of every build, locks its caches in the order of their names: two that want the same two never wait for
    // each other.
    wanted.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    let mut held: Vec<(usize, HeldMount<'o>)> = Vec::with_capacity(wanted.len());
    for (name, at, mount) in wanted {
        let needed = match name {
            Some(name) => cache(environment, (op, mount), &name, &held)?,
            None => hold_one(environment, mount)?,
        };
        held.push((at, HeldMount { mount, held: needed }));
    }
    held.sort_by_key(|(at, _)| *at);
    Ok(held.into_iter().map(|(_, held)| held).collect())
}

/// The name of a cache mount's directory.
fn cache_name(mount: &Mount<MountedRoot>, owners: &str) -> Option<String> {
    Some(key::cache_directory(&identity(mount)?, owners).hex())
}

fn identity(mount: &Mount<MountedRoot>) -> Option<CacheIdentity<'_>> {
    let MountKind::Cache { id, from, owner, .. } = &mount.kind else { return None };
    let from = from.as_ref().map(|(part, _)| (part.root.chain, part.path.as_str()));
    Some(CacheIdentity { id, from, owner: *owner })
}

/// What a cache mount is called on all machines. Where owners are only written down, links have none, so that is told apart.
fn shared_name(
    services: &Services,
    op: &ExecOp<MountedRoot>,
    mount: &Mount<MountedRoot>,
) -> Result<Option<String>, Error> {
    let owners = match services.snapshots.owners()? {
        key::Owners::Kept => "kept",
        key::Owners::Recorded => "recorded",
    };
    let name = |name: &str| shared_cache::mounts::name(name, &op.platform.to_string());
    Ok(cache_name(mount, owners).as_deref().map(name))
}

/// Whether a step gets anything that must not leave this machine.
fn has_secrets(environment: &Environment<'_>, op: &ExecOp<MountedRoot>) -> bool {
    let given = &environment.given;
    op.mounts.iter().any(|mount| match &mount.kind {
        MountKind::Secret { id, .. } => given.secrets.is_given(id),
        MountKind::Ssh { id, .. } => given.ssh.contains_key(id),
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } | MountKind::Cache { .. } => false,
    })
}

fn hold_one(environment: &Environment<'_>, mount: &Mount<MountedRoot>) -> Result<Held, Error> {
    match &mount.kind {
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } | MountKind::Cache { .. } => Ok(Held::Nothing),
        MountKind::Secret { id, required, .. } => {
            secret(environment, id, *required).map_err(|e| e.at(mount.span))
        }
        MountKind::Ssh { id, required, .. } => {
            agent(environment, id, *required).map_err(|e| e.at(mount.span))
        }
    }
}

/// Why `mount` fails because something that it requires was not given, or is not where it was said to be.
pub(in crate::solve) fn not_given<R>(environment: &Environment<'_>, mount: &Mount<R>) -> Option<Error> {
    let error = match &mount.kind {
        MountKind::Secret { id, required, .. } => match environment.given.secrets.missing_file(id) {
            Some(error) => Some(error.into()),
            None => no_secret(environment, id).filter(|_| *required),
        },
        MountKind::Ssh { id, required: true, .. } if !environment.given.ssh.contains_key(id) => {
            Some(Error::NoAgent(id.to_owned()))
        }
        _ => None,
    };
    error.map(|error| error.at(mount.span))
}

/// Why there is no value, if there is none.
fn no_secret(environment: &Environment<'_>, id: &str) -> Option<Error> {
    let secrets = &environment.given.secrets;
    match secrets.unset_variable(id) {
        Some(variable) => Some(Error::UnsetSecret { id: id.to_owned(), variable: variable.to_owned() }),
        None => (!secrets.is_given(id)).then(|| Error::NoSecret(id.to_owned())),
    }
}

/// The secrets that the command may use without requiring them, and that were not given.
pub(super) fn absent<R>(environment: &Environment<'_>, op: &ExecOp<R>) -> Vec<String> {
    let absent = |mount: &Mount<R>| match &mount.kind {
        MountKind::Secret { id, required: false, .. } => no_secret(environment, id).map(|_| id.clone()),
        _ => None,
    };
    op.mounts.iter().filter_map(absent).collect()
}

fn secret(environment: &Environment<'_>, id: &str, required: bool) -> Result<Held, Error> {
    match environment.given.secrets.read(id)? {
        None if required => Err(no_secret(environment, id).unwrap_or_else(|| Error::NoSecret(id.to_owned()))),
        value => Ok(Held::Secret(value)),
    }
}

fn agent(environment: &Environment<'_>, id: &str, required: bool) -> Result<Held, Error> {
    let Some(source) = environment.given.ssh.get(id) else {
        return if required { Err(Error::NoAgent(id.to_owned())) } else { Ok(Held::Nothing) };
    };
    let folder = environment.services.store.scratch_dir()?;
    let agent = Agent::start(source, folder.path())?;
    Ok(Held::Agent { agent, _folder: folder })
}

/// The directory of a cache mount. Instances of a private one are numbered; the first that nobody has is taken.
fn cache(
    environment: &Environment<'_>,
    (op, mount): (&ExecOp<MountedRoot>, &Mount<MountedRoot>),
    name: &str,
    others: &[(usize, HeldMount<'_>)],
) -> Result<Held, Error> {
    let services = environment.services;
    let MountKind::Cache { id, sharing, readonly, .. } = &mount.kind else { return Ok(Held::Nothing) };
    // Where there are no mounts a directory can be in one root at a time.
    let sharing = match sharing {
        Sharing::Shared if services.snapshots.privilege()? == Privilege::Plain => &Sharing::Locked,
        sharing => sharing,
    };
    let shared_name = shared_name(services, op, mount)?.filter(|_| *sharing != Sharing::Private);
    let folder = services.store.private(Folder::CacheMounts);
    for instance in first_instance(services, name).. {
        let numbered = if instance == 0 { name.to_owned() } else { format!("{name}-{instance}") };
        let lock_path = folder.join(format!("{numbered}.lock"));
        let path = folder.join(&numbered);
        // This step has it already, under another target; it would wait for itself.
        let is_mine = |held: &Held| matches!(held, Held::Cache { path: mine, .. } if *mine == path);
        if others.iter().any(|(_, other)| is_mine(&other.held)) {
            return Ok(Held::Cache { path, _lock: None, waited: Duration::ZERO });
        }
        let fail = |action| {
            let path = lock_path.clone();
            move |source| Error::CacheMount { action, path, source }.at(mount.span)
        };
        // For reading too: with a fifo in its place, nobody is waited for.
        let lock = File::options().create(true).truncate(false).read(true).write(true).open(&lock_path);
        let lock = lock.map_err(fail("open"))?;
        if environment.policy.no_cache && !start_empty(services, mount, (name, instance), (&path, &lock))? {
            continue;
        }
        let wanted = shared_name.as_deref().map(|name| Wanted { name, id, path: &path, lock: &lock });
        if let Some(wanted) = &wanted
            && !environment.policy.no_cache
        {
            cache_mounts::bring(services, wanted);
        }
        let asked = Instant::now();
        let taken = take(services, mount, &lock, *sharing);
        let waited = asked.elapsed();
        services.store.note_use(&lock_path);
        if !taken.map_err(fail("lock"))? {
            continue;
        }
        if !path.is_dir() {
            // It may be in the root of a step that was killed.
            services.store.undo_leftovers();
        }
        if !path.is_dir() {
            make_cache(services, &mount.kind, &path, Before::Nothing).map_err(|e| e.at(mount.span))?;
        }
        if let Some(wanted) = &wanted
            && !readonly
        {
            let noted = services.mounts.note_use(wanted, &lock_path, has_secrets(environment, op));
            noted.map_err(fail("write"))?;
        }
        return Ok(Held::Cache { path, _lock: Some(lock), waited });
    }
    Ok(Held::Nothing)
}

/// Which instance of a cache is asked for first: one that this build has emptied, if there is one.
fn first_instance(services: &Services, name: &str) -> u32 {
    let emptied = crate::sync::lock(&services.emptied);
    emptied.get(name).and_then(BTreeSet::first).copied().unwrap_or(0)
}

/// Empties an instance of a cache unless this build has done so; `false` while others use it, who keep what they have.
fn start_empty(
    services: &Services,
    mount: &Mount<MountedRoot>,
    (name, instance): (&str, u32),
    (path, lock): (&Path, &File),
) -> Result<bool, Error> {
    let mut emptied = crate::sync::lock(&services.emptied);
    let instances = emptied.entry(name.to_owned()).or_default();
    if instances.contains(&instance) {
        return Ok(true);
    }
    if lock.try_lock().is_err() {
        return Ok(false);
    }
    make_cache(services, &mount.kind, path, Before::ThrownAway).map_err(|e| e.at(mount.span))?;
    let fail = |source| Error::CacheMount { action: "write", path: path.to_owned(), source }.at(mount.span);
    cache_mounts::forget(path, lock).map_err(fail)?;
    instances.insert(instance);
    Ok(true)
}

/// Locks an instance of a cache as its sharing asks for; `false` for a private one that somebody has. Who has to wait for
/// long is told so.
fn take(
    services: &Services,
    mount: &Mount<MountedRoot>,
    lock: &File,
    sharing: Sharing,
) -> std::io::Result<bool> {
    let tried = match sharing {
        Sharing::Shared => lock.try_lock_shared(),
        Sharing::Private | Sharing::Locked => lock.try_lock(),
    };
    match (tried, sharing) {
        (Ok(()), _) => return Ok(true),
        (Err(TryLockError::Error(error)), _) => return Err(error),
        (Err(TryLockError::WouldBlock), Sharing::Private) => return Ok(false),
        (Err(TryLockError::WouldBlock), Sharing::Shared | Sharing::Locked) => {}
    }
    let note = format!(
        "waiting for the cache of the mount at {}: another step or build has locked it",
        mount.target
    );
    // Steps of one build take turns in less.
    let (done, waiting) = channel::<()>();
    let events = services.events.clone();
    // Without a thread there is no note.
    let _ = std::thread::Builder::new().name("waiting".to_owned()).spawn(move || {
        if waiting.recv_timeout(WORTH_A_NOTE) == Err(RecvTimeoutError::Timeout) {
            events.send(Event::Note(note));
        }
    });
    let locked = match sharing {
        Sharing::Shared => lock.lock_shared(),
        Sharing::Private | Sharing::Locked => lock.lock(),
    };
    drop(done);
    locked.map(|()| true)
}

/// Who waits longer for a cache is told so.
const WORTH_A_NOTE: Duration = Duration::from_secs(1);

/// What becomes of the directory that a cache mount had.
#[derive(Clone, Copy)]
enum Before {
    /// It had none; one that another step makes meanwhile is as good.
    Nothing,
    /// It is thrown away.
    ThrownAway,
}

/// Makes the directory of a cache mount, empty or filled.
fn make_cache(
    services: &Services,
    kind: &MountKind<MountedRoot>,
    path: &Path,
    before: Before,
) -> Result<(), Error> {
    let MountKind::Cache { from, owner, .. } = kind else { return Ok(()) };
    let snapshots = &services.snapshots;
    let scratch = services.store.scratch_dir()?;
    let CacheOwner { mode, uid, gid } = owner.unwrap_or_default();
    let fill = match from {
        Some((part, _)) => Some(jobs::Fill {
            copy: snapshots.copy_of(&part.root)?,
            source: part.path.clone(),
            may_be_missing: owner.is_some(),
        }),
        None => None,
    };
    let job = jobs::CacheDirectory {
        path: path.to_owned(),
        fresh: scratch.path().join("cache"),
        replaced: matches!(before, Before::ThrownAway).then(|| scratch.path().join("replaced")),
        mode,
        uid,
        gid,
        owners: snapshots.privilege()?.owners(),
        fill,
    };
    Ok(jobs::cache_directory(&services.executor, &job)?)
}
