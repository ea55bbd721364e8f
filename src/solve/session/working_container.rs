//! A root that somebody is in, or is about to enter.

use std::fs::File;
use std::sync::Arc;

use super::keep::{self, Left};
use super::record::{KeptLock, Kind, Session, Sessions};
use crate::exec::{self, Attach, ExecError, ExitReport, MountSource, MountSpec, Spec, Ulimit, Writes};
use crate::oci::{ImageConfig, Layer};
use crate::plan::graph::ExecOp;
use crate::rootfs::SpecialOwner;
use crate::secrets::Secrets;
use crate::solve::environment::{Environment, Services};
use crate::solve::error::Error;
use crate::solve::ops::exec::mounts::{self, Held};
use crate::solve::ops::exec::spec;
use crate::solve::passwd;
use crate::solve::state::{Files, RootState};
use crate::solve::writable::WritableRoot;

/// Where a new container is.
pub struct Place<'a> {
    /// What is entered: `[build 2/5] RUN make`, or an image's name.
    pub what: String,
    /// For what.
    pub kind: Kind,
    /// Environment, user, directory, mounts.
    pub op: &'a ExecOp<Arc<Files>>,
    /// The files.
    pub root: &'a RootState,
    /// What an image of `root` would have as its configuration, its history included.
    pub config: ImageConfig,
}

/// A root with everything that a command in it needs. A new one is gone when this is dropped, unless it is kept; one that
/// was kept stays.
pub struct WorkingContainer {
    /// What is kept of it, or would be.
    session: Session,
    spec: Spec,
    snapshot: WritableRoot,
    /// Whether it stays where it is.
    is_kept: bool,
    /// Whether a command has run in it since it was opened.
    has_run: bool,
    _held: Vec<Held>,
    _locks: Vec<File>,
}

impl WorkingContainer {
    /// Makes one. Nothing runs yet.
    pub fn open(environment: &Environment<'_>, place: Place<'_>) -> Result<Self, Error> {
        let Place { what, kind, op, root, config } = place;
        let services = environment.services;
        let snapshots = &services.snapshots;
        let op = &mounts::with_roots((environment, ""), op)?;
        let lowers = snapshots.lowers(root)?;
        let held = mounts::hold(environment, op)?;
        let snapshot = snapshots.prepare(&lowers, snapshots.kind())?;
        let spec = spec::make(environment, op, root, &snapshot, &held)?;
        let left = Left { op, parent: root, spec: &spec, held: &held, ended: String::new(), special: &[] };
        let session = keep::describe(services, &left, config)?;
        let session = Session { what, kind, ..session };
        let held = held.into_iter().map(|mount| mount.held).collect();
        Ok(Self { session, spec, snapshot, is_kept: false, has_run: false, _held: held, _locks: Vec::new() })
    }

    /// Takes up one that was kept. What is not there any more is left out and told in `notes`.
    pub fn reopen(
        services: &Services,
        secrets: &Secrets,
        session: Session,
        notes: &mut Vec<String>,
    ) -> Result<Self, Error> {
        if services.snapshots.tree_kind()?.name() != session.tree_kind {
            return Err(Error::OtherIds(session.id));
        }
        let folder = Sessions::of(&services.store).folder(&session.id);
        let lock =
            File::options().create(true).truncate(false).read(true).write(true).open(folder.join("lock"));
        let lock = lock.map_err(|source| Error::Session { id: session.id.clone(), source })?;
        lock.try_lock().map_err(|_| Error::InUse(session.id.clone()))?;
        let parent = session.root();
        let kept = (session.overlay, session.changes.as_ref());
        let snapshot = services.snapshots.reopen(&folder, kept, &parent)?;
        let mut spec = session.spec.clone();
        spec.root = spec::root_source(&snapshot);
        notes.extend(session.lost.iter().map(|lost| format!("{lost} is not there")));
        restore_secrets(secrets, &session, &mut spec, notes);
        let locks = restore(services, &session, &mut spec, notes)?;
        services.snapshots.hide(&mut spec)?;
        if let Some(changes) = &session.changes {
            let shown = parent.with(changes.clone(), session.time);
            spec.owned_paths = services.snapshots.owned_paths(&shown)?;
        }
        let _locks = locks.into_iter().chain([lock]).collect();
        Ok(Self { session, spec, snapshot, is_kept: true, has_run: false, _held: Vec::new(), _locks })
    }

    /// What is known of it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Lets its commands run as this user: empty, or `user[:group]`, names or numbers.
    pub fn set_user(&mut self, user: &str) -> Result<(), exec::UserError> {
        let trees: Vec<_> = std::iter::once(self.snapshot.upper_here())
            .chain(self.snapshot.lowers().iter().cloned())
            .collect();
        let read = |path| passwd::read_in_trees(&trees, path).flatten().unwrap_or_default();
        let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
        self.spec.credentials = exec::resolve_user(user, &passwd, &group)?;
        Ok(())
    }

    /// What its commands find, to be changed before they run.
    pub fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// Whether its files may have been changed.
    pub fn has_changes(&self) -> bool {
        self.snapshot.is_changed()
    }

    /// Whether it stays without being kept once more.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Runs a command in it, in front of whoever started rbuild.
    pub fn run(&mut self, services: &Services, args: &[String], attach: Attach) -> Result<ExitReport, Error> {
        args.clone_into(&mut self.spec.args);
        let mut spec = self.spec.clone();
        if attach.terminal && !spec.env.iter().any(|(name, _)| name == "TERM") {
            spec.env.push(("TERM".to_owned(), terminal_kind()));
        }
        loop {
            spec.root = spec::root_source(&self.snapshot);
            let report = match services.executor.attach(&spec, attach) {
                Err(ExecError::Overlay { error, .. }) if !self.is_kept => {
                    self.fall_back(services, error, &mut spec)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
                Ok(report) => report,
            };
            self.has_run = true;
            self.snapshot.note(&report);
            let known = std::mem::take(&mut self.session.special_owners);
            let is_told =
                |owner: &SpecialOwner| report.special_owners.iter().any(|new| new.file == owner.file);
            self.session.special_owners = known.into_iter().filter(|owner| !is_told(owner)).collect();
            self.session.special_owners.extend(report.special_owners.iter().cloned());
            // What a failed step is remembered for is its failure.
            if self.session.kind != Kind::Failed {
                args.clone_into(&mut self.session.command);
                self.session.ended = match report.status {
                    exec::ExitStatus::Code(code) => format!("exit code: {code}"),
                    exec::ExitStatus::Signal(signal) => format!("signal {signal}"),
                };
            }
            return Ok(report);
        }
    }

    fn fall_back(
        &mut self,
        services: &Services,
        error: std::io::Error,
        spec: &mut Spec,
    ) -> Result<(), Error> {
        let snapshots = &services.snapshots;
        snapshots.fall_back(self.snapshot.kind(), error)?;
        snapshots.hide(spec)?;
        self.snapshot = snapshots.prepare(self.snapshot.lowers(), snapshots.kind())?;
        Ok(())
    }

    /// Keeps it, under a name if it is given one.
    pub fn keep(self, services: &Services, name: Option<String>) -> Result<Session, Error> {
        let Self { mut session, snapshot, is_kept, has_run, .. } = self;
        if !is_kept {
            session.name = name;
            return keep::keep(services, session, snapshot);
        }
        // Only the story goes on, and what is in memory.
        if has_run {
            keep::keep_memory(services, &mut session, &snapshot)?;
        }
        let _ = Sessions::of(&services.store).update(&session);
        Ok(session)
    }

    /// Writes what was changed as a layer into the store.
    pub fn commit(&self, services: &Services) -> Result<Layer, Error> {
        // What was restored from a layer is that layer.
        match &self.session.changes {
            Some(layer) if !self.has_run => Ok(layer.clone()),
            _ => self.session.write_changes(services, &self.snapshot),
        }
    }
}

/// What programs may expect of the terminal. Few images know more kinds than these.
fn terminal_kind() -> String {
    let own = std::env::var("TERM").unwrap_or_default();
    if own.contains("256color") { "xterm-256color".to_owned() } else { "xterm".to_owned() }
}

/// Gets again what was not kept: scratch folders, locks. Mounts of what is gone are left out.
fn restore(
    services: &Services,
    session: &Session,
    spec: &mut Spec,
    notes: &mut Vec<String>,
) -> Result<Vec<File>, Error> {
    for mut mount in std::mem::take(&mut spec.mounts) {
        let is_there = match &mut mount.kind {
            MountSource::Bind { source } | MountSource::Cache { source } => source.exists(),
            MountSource::Layers { lowers, writes, .. } => {
                if *writes != Writes::Refused {
                    *writes = services.snapshots.writes()?;
                }
                services.snapshots.at_hand(lowers)
            }
            MountSource::Tmpfs { .. } | MountSource::File { .. } | MountSource::Socket { .. } => true,
        };
        match is_there {
            true => spec.mounts.push(mount),
            false => notes.push(format!("what was mounted at {} is gone", mount.target)),
        }
    }
    Ok(session.locks.iter().filter_map(relock).collect())
}

/// Waits for others to let go of a cache. One that is gone needs no lock.
fn relock(lock: &KeptLock) -> Option<File> {
    let file = File::options().write(true).open(&lock.path).ok()?;
    let taken = if lock.shared { file.lock_shared() } else { file.lock() };
    taken.ok().map(|()| file)
}

fn restore_secrets(secrets: &Secrets, session: &Session, spec: &mut Spec, notes: &mut Vec<String>) {
    for secret in &session.secrets {
        let value = secrets.read(&secret.id).unwrap_or_default();
        let Some(value) = value else {
            let id = &secret.id;
            notes.push(format!("the secret `{id}` is not there; give it with `--secret id={id},src=FILE`"));
            continue;
        };
        spec.ulimits.push(Ulimit::no_core_file());
        if let Some(name) = &secret.env {
            spec.env.push((name.clone(), String::from_utf8_lossy(&value).into_owned()));
        }
        if let Some((target, mode, uid, gid)) = secret.file.clone() {
            let kind = MountSource::File { content: value, mode, uid, gid };
            spec.mounts.push(MountSpec { target, readonly: true, kind });
        }
    }
}
