//! A part of a build context as a layer of its own, for mounts.

use std::sync::Arc;
use std::time::Instant;

use super::copy;
use crate::cache::Preimage;
use crate::context::{Context, path};
use crate::copy_files::{self, Destination, FileReasons, FileTree, Selected};
use crate::key;
use crate::plan::graph::{CopyKind, CopyOp, CopySource};
use crate::report::Span;
use crate::solve::environment::{Environment, Slot};
use crate::solve::error::Error;
use crate::solve::state::{Files, RootState};
use crate::solve::{passwd, trees};

/// What a mount shows of a context.
pub(super) struct Part<'p> {
    /// The context's name; empty for the main one.
    pub(super) name: &'p str,
    /// The context.
    pub(super) context: &'p Arc<Context>,
    /// The path in it, as the mount has it.
    pub(super) source: &'p str,
    /// Where the mount stands.
    pub(super) span: Option<Span>,
}

/// The files of a part at and below its source, at the same path in a root of one layer, and that path: it is where the
/// links in the source lead. Made again only when they changed. `slot` is its own, for misses of the step are not to be
/// compared with this.
pub(super) fn make(
    (environment, slot): (&Environment<'_>, &str),
    part: &Part<'_>,
) -> Result<(RootState, String), Error> {
    let slot = Slot {
        name: slot.into(),
        fresh: environment.policy.no_cache,
        started: Instant::now(),
        read: Vec::new(),
        span: None,
        files: None,
    };
    let (op, path) = part.copy()?;
    let selected = part.select(environment, &op)?;
    let parent = RootState::empty(0);
    let reasons = reasons(environment, &op, &path, &selected)?;
    if let Some(record) = environment.lookup(&reasons)? {
        return Ok((parent.with(record.layer, record.time), path));
    }
    let services = environment.services;
    let destination = Destination {
        parent: &FileTree::empty(),
        parent_time: 0,
        accounts: &|path| passwd::read_one(services, &parent, path),
        scratch: &|| trees::scratch_file(&services.store),
    };
    let placed = copy_files::copy_into(&selected, &op, &destination)?;
    let made = environment.publish_entries(&slot, &parent, &reasons, (placed.entries, placed.time))?;
    Ok((parent.with(made.layer, made.time), path))
}

/// The layer with these files of a context, if it was made before.
pub(super) fn find(
    environment: &Environment<'_>,
    part: &Part<'_>,
) -> Result<Option<(RootState, String)>, Error> {
    let (op, path) = part.copy()?;
    let selected = part.select(environment, &op)?;
    let record = environment.lookup(&reasons(environment, &op, &path, &selected)?)?;
    Ok(record.map(|record| (RootState::empty(0).with(record.layer, record.time), path)))
}

impl Part<'_> {
    /// What brings it to the same place in an empty root, and that place.
    fn copy(&self) -> Result<(CopyOp<Arc<Files>>, String), Error> {
        let files = FileTree::Context(Arc::clone(self.context));
        let real = files.resolve(&path::below_root(self.source.as_bytes()))?;
        // A path with links that lead nowhere is told as it is written.
        let source = match files.entry(&real)? {
            Some(_) => format!("/{}", String::from_utf8_lossy(&real)),
            None => self.source.to_owned(),
        };
        Ok((copy_of(self.context, &source, self.span), source))
    }

    /// Finds and digests the files that `op` brings; says which context lacks them.
    fn select(&self, environment: &Environment<'_>, op: &CopyOp<Arc<Files>>) -> Result<Selected, Error> {
        copy::select(environment, op, &mut Vec::new()).map_err(|mut error| {
            if let Error::Files(copy_files::Error::NotFound(missing)) = &mut error
                && !self.name.is_empty()
            {
                missing.place = format!("the context `{}`", self.name).into();
            }
            error
        })
    }
}

fn reasons<'s>(
    environment: &Environment<'_>,
    op: &CopyOp<Arc<Files>>,
    source: &str,
    selected: &'s Selected,
) -> Result<FileReasons<'s>, Error> {
    let reasons = FileReasons::new(key::files::context(source), selected, op)?;
    Ok(reasons.and(environment.in_form(Preimage::default())))
}

/// What brings `source` of `context` to the same place in an empty root.
fn copy_of(context: &Arc<Context>, source: &str, span: Option<Span>) -> CopyOp<Arc<Files>> {
    let path = source.trim_matches('/');
    let from = Arc::new(Files::Folder(String::new(), Arc::clone(context)));
    CopyOp {
        kind: CopyKind::Copy,
        sources: vec![CopySource::Path { from, pattern: format!("/{path}"), span }],
        destination: "/".to_owned(),
        chown: None,
        chmod: None,
        link: true,
        parents: !path.is_empty(),
        excludes: Vec::new(),
        unpack: None,
        checksum: None,
        keep_git_dir: false,
        epoch: None,
    }
}
