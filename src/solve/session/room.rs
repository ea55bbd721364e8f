//! A root that somebody is in, or is about to enter.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use super::super::ops::exec::mounts::{self, Held};
use super::super::ops::exec::writable::WritableRoot;
use super::super::ops::exec::{spec, write_changes};
use super::super::state::{Environment, Files, RootState};
use super::keep::{self, Left};
use super::record::{Kind, Session, Sessions};
use crate::exec::{self, Attach, ExecError, ExitReport, MountKind, MountSpec, Spec, Ulimit, Writes};
use crate::oci::{ImageConfig, Layer};
use crate::plan::graph::{ExecOp, Op, Step};
use crate::report::{Diagnostic, Source, Span, StepNumber};
use crate::rootfs::SpecialOwner;
use crate::solve::{Failures, StepContext, passwd};

/// Where a new room is.
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
    /// Where the instruction stands in the source.
    pub span: Option<Span>,
}

/// A root with everything that a command in it needs. A new one is gone when this is dropped, unless it is kept; one that
/// was kept stays.
pub struct Room {
    /// What is kept of it, or would be.
    session: Session,
    spec: Spec,
    snapshot: WritableRoot,
    source: Arc<Source>,
    span: Option<Span>,
    /// Whether it stays where it is.
    is_kept: bool,
    /// Whether a command has run in it since it was opened.
    has_run: bool,
    _held: Vec<Held>,
    _locks: Vec<File>,
}

/// Why a command did not run.
#[derive(Debug)]
pub enum EnterError {
    /// The program is not in the root.
    NotFound(String),
    /// The program is there, but cannot be executed; in words.
    NotExecutable(String),
    /// Somebody wanted it to end.
    Stopped,
    /// Something else.
    Failed(Failures),
}

/// Messages of a room point at an instruction, or nowhere.
fn step_at(span: Option<Span>) -> Step {
    let number = StepNumber(usize::MAX);
    Step { op: Op::Scratch, span, number, slot: String::new(), origin: None }
}

impl Room {
    /// Makes one. Nothing runs yet. `source` is the Dockerfile.
    pub fn open(
        environment: &Environment<'_>,
        source: &Arc<Source>,
        place: Place<'_>,
    ) -> Result<Self, Failures> {
        let Place { what, kind, op, root, config, span } = place;
        let own = step_at(span);
        let step = StepContext {
            step: &own,
            title: &what,
            source,
            environment,
            is_looked_into: false,
            started: Instant::now(),
            took_then: Arc::default(),
        };
        let snapshots = environment.snapshots;
        let op = &mounts::with_roots(&step, op)?;
        let lowers = snapshots.lowers(&step, root)?;
        let held = mounts::hold(&step, op)?;
        let snapshot = snapshots.prepare(&step, &lowers, snapshots.kind(&step))?;
        let spec = spec::make(&step, op, root, &snapshot, &held)?;
        let left = Left { op, parent: root, spec: &spec, held: &held, ended: String::new(), special: &[] };
        let session = keep::describe(&step, &left, config)?;
        let session = Session { what: what.clone(), kind, ..session };
        let source = Arc::clone(source);
        let held = held.into_iter().map(|mount| mount.held).collect();
        Ok(Self {
            session,
            spec,
            snapshot,
            source,
            span,
            is_kept: false,
            has_run: false,
            _held: held,
            _locks: Vec::new(),
        })
    }

    /// Takes up one that was kept. What is not there any more is left out and told in `notes`.
    pub fn reopen(
        environment: &Environment<'_>,
        session: Session,
        notes: &mut Vec<String>,
    ) -> Result<Self, Failures> {
        let (own, source, title) = (step_at(None), nowhere(), session.what.clone());
        let step = StepContext {
            step: &own,
            title: &title,
            source: &source,
            environment,
            is_looked_into: false,
            started: Instant::now(),
            took_then: Arc::default(),
        };
        let fail = |message: String| vec![step.error(message)];
        if environment.snapshots.tree_kind(&step)?.name() != session.tree_kind {
            let error =
                step.error(format!("session {} was made by another user, or with other ids", session.id));
            return Err(vec![
                error.help("enter it as who made it, with the same lines in /etc/subuid and /etc/subgid"),
            ]);
        }
        let folder = Sessions::of(&environment.store).folder(&session.id);
        let lock =
            File::options().create(true).truncate(false).read(true).write(true).open(folder.join("lock"));
        let lock = lock.map_err(|e| fail(format!("cannot open session {}: {e}", session.id)))?;
        lock.try_lock().map_err(|_| fail(format!("somebody is in session {} already", session.id)))?;
        let parent = session.root();
        let kept = (session.overlay, session.changes.as_ref());
        let snapshot = environment.snapshots.reopen(&step, &folder, kept, &parent)?;
        let mut spec = session.spec.clone();
        spec.root = spec::root_source(&snapshot);
        let locks = restore(&step, &session, &mut spec, notes)?;
        environment.snapshots.hide(&step, &mut spec)?;
        if let Some(changes) = &session.changes {
            let shown = parent.with(changes.clone(), session.time);
            spec.owned_paths = environment.snapshots.owned_paths(&step, &shown)?;
        }
        let locks = locks.into_iter().chain([lock]).collect();
        let source = Arc::clone(&source);
        Ok(Self {
            session,
            spec,
            snapshot,
            source,
            span: None,
            is_kept: true,
            has_run: false,
            _held: Vec::new(),
            _locks: locks,
        })
    }

    /// What is known of it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Lets its commands run as this user: empty, or `user[:group]`, names or numbers.
    pub fn set_user(&mut self, user: &str) -> Result<(), Diagnostic> {
        let trees: Vec<_> = std::iter::once(self.snapshot.upper_here())
            .chain(self.snapshot.lowers().iter().cloned())
            .collect();
        let read = |path| passwd::read_in_trees(&trees, path).flatten().unwrap_or_default();
        let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
        let credentials = exec::resolve_user(user, &passwd, &group);
        self.spec.credentials = credentials.map_err(|e| Diagnostic::error(e.to_string()))?;
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
    pub fn run(
        &mut self,
        environment: &Environment<'_>,
        args: &[String],
        attach: Attach,
    ) -> Result<ExitReport, EnterError> {
        args.clone_into(&mut self.spec.args);
        let mut spec = self.spec.clone();
        if attach.terminal && !spec.env.iter().any(|(name, _)| name == "TERM") {
            spec.env.push(("TERM".to_owned(), terminal_kind()));
        }
        loop {
            spec.root = spec::root_source(&self.snapshot);
            let report = match environment.executor.attach(&spec, attach) {
                Err(ExecError::Overlay { error, .. }) if !self.is_kept => {
                    self.fall_back(environment, &error, &mut spec).map_err(EnterError::Failed)?;
                    continue;
                }
                Err(error) => return Err(explain(&error)),
                Ok(report) => report,
            };
            self.has_run = true;
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
        environment: &Environment<'_>,
        error: &std::io::Error,
        spec: &mut Spec,
    ) -> Result<(), Failures> {
        self.with_step(environment, |step| {
            let snapshots = environment.snapshots;
            snapshots.fall_back(step, self.snapshot.kind(), error)?;
            snapshots.hide(step, spec)?;
            snapshots.prepare(step, self.snapshot.lowers(), snapshots.kind(step))
        })
        .map(|snapshot| self.snapshot = snapshot)
    }

    fn with_step<T>(&self, environment: &Environment<'_>, work: impl FnOnce(&StepContext<'_>) -> T) -> T {
        let own = step_at(self.span);
        work(&StepContext {
            step: &own,
            title: &self.session.what,
            source: &self.source,
            environment,
            is_looked_into: false,
            started: Instant::now(),
            took_then: Arc::default(),
        })
    }

    /// Keeps it, under a name if it is given one.
    pub fn keep(self, environment: &Environment<'_>, name: Option<String>) -> Result<Session, Failures> {
        let Self { mut session, snapshot, source, span, is_kept, has_run, .. } = self;
        if !is_kept {
            session.name = name;
        }
        let own = step_at(span);
        let what = session.what.clone();
        let step = StepContext {
            step: &own,
            title: &what,
            source: &source,
            environment,
            is_looked_into: false,
            started: Instant::now(),
            took_then: Arc::default(),
        };
        if !is_kept {
            return keep::keep(&step, session, snapshot);
        }
        // Only the story goes on, and what is in memory.
        if has_run {
            keep::keep_memory(&step, &mut session, &snapshot)?;
        }
        let _ = Sessions::of(&environment.store).update(&session);
        Ok(session)
    }

    /// Writes what was changed as a layer into the store.
    pub fn commit(&self, environment: &Environment<'_>) -> Result<Layer, Failures> {
        // What was restored from a layer is that layer.
        if let Some(layer) = self.session.changes.as_ref().filter(|_| !self.has_run) {
            return Ok(layer.clone());
        }
        self.with_step(environment, |step| {
            write_changes(step, &self.session.root(), &self.snapshot, &self.session.special_owners)
        })
    }
}

fn nowhere() -> Arc<Source> {
    Arc::new(Source { name: String::new(), text: String::new() })
}

/// What programs may expect of the terminal. Few images know more kinds than these.
fn terminal_kind() -> String {
    let own = std::env::var("TERM").unwrap_or_default();
    if own.contains("256color") { "xterm-256color".to_owned() } else { "xterm".to_owned() }
}

fn explain(error: &ExecError) -> EnterError {
    let text = error.to_string();
    match error {
        ExecError::NotFound { .. } => EnterError::NotFound(text),
        ExecError::NotExecutable { .. } | ExecError::WrongFormat { .. } => EnterError::NotExecutable(text),
        ExecError::Cancelled => EnterError::Stopped,
        _ => EnterError::Failed(vec![Diagnostic::error(text)]),
    }
}

/// Gets again what was not kept: secrets, scratch folders, locks. Mounts of what is gone are left out.
fn restore(
    step: &StepContext<'_>,
    session: &Session,
    spec: &mut Spec,
    notes: &mut Vec<String>,
) -> Result<Vec<File>, Failures> {
    notes.extend(session.lost.iter().map(|lost| format!("{lost} is not there")));
    restore_secrets(step, session, spec, notes);
    for mut mount in std::mem::take(&mut spec.mounts) {
        let is_there = match &mut mount.kind {
            MountKind::Bind { source } => source.exists(),
            MountKind::Layers { lowers, writes, .. } => {
                if *writes != Writes::Refused {
                    *writes = step.environment.snapshots.writes(step)?;
                }
                step.environment.snapshots.at_hand(lowers)
            }
            MountKind::Tmpfs { .. } | MountKind::File { .. } | MountKind::Socket { .. } => true,
        };
        match is_there {
            true => spec.mounts.push(mount),
            false => notes.push(format!("what was mounted at {} is gone", mount.target)),
        }
    }
    Ok(session.locks.iter().filter_map(relock).collect())
}

/// Waits for others to let go of a cache. One that is gone needs no lock.
fn relock(lock: &super::record::KeptLock) -> Option<File> {
    let file = File::options().write(true).open(&lock.path).ok()?;
    let taken = if lock.shared { file.lock_shared() } else { file.lock() };
    taken.ok().map(|()| file)
}

fn restore_secrets(step: &StepContext<'_>, session: &Session, spec: &mut Spec, notes: &mut Vec<String>) {
    for secret in &session.secrets {
        let value = step.environment.secrets.read(&secret.id).unwrap_or_default();
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
            let kind = MountKind::File { content: value, mode, uid, gid };
            spec.mounts.push(MountSpec { target, readonly: true, kind });
        }
    }
}
