//! A part of a build context as a layer of its own, for mounts.

use std::sync::Arc;
use std::time::Instant;

use super::copy;
use crate::cache::Preimage;
use crate::context::Context;
use crate::copy_files::{self, Destination, FileReasons, FileTree, Selected};
use crate::key;
use crate::plan::graph::{CopyKind, CopyOp, CopySource};
use crate::report::Span;
use crate::solve::environment::{Environment, Slot};
use crate::solve::error::Error;
use crate::solve::state::{Files, RootState};
use crate::solve::{passwd, trees};

/// The files of `context` at and below `source`, at the same path in a root of one layer. Made again only when they
/// changed. `slot` is its own, for misses of the step are not to be compared with this.
pub(super) fn make(
    (environment, slot): (&Environment<'_>, &str),
    context: &Arc<Context>,
    source: &str,
    span: Option<Span>,
) -> Result<RootState, Error> {
    let slot = Slot { name: slot.into(), started: Instant::now() };
    let op = copy_of(context, source, span);
    let selected = copy::select(environment, &op, &mut Vec::new())?;
    let parent = RootState::empty(0);
    let reasons = reasons(environment, &op, source, &selected)?;
    if let Some(record) = environment.lookup(&reasons)? {
        return Ok(parent.with(record.layer, record.time));
    }
    let services = environment.services;
    let destination = Destination {
        parent: &FileTree::empty(),
        parent_time: 0,
        accounts: &|path| passwd::read_one(services, &parent, path),
        scratch: &|| trees::scratch_file(&services.store),
    };
    let placed = copy_files::copy_into(&selected, &op, &destination)?;
    environment.publish_entries(&slot, &parent, &reasons, (placed.entries, placed.time))
}

/// The layer with these files of a context, if it was made before.
pub(super) fn find(
    environment: &Environment<'_>,
    context: &Arc<Context>,
    source: &str,
    span: Option<Span>,
) -> Result<Option<RootState>, Error> {
    let op = copy_of(context, source, span);
    let selected = copy::select(environment, &op, &mut Vec::new())?;
    let record = environment.lookup(&reasons(environment, &op, source, &selected)?)?;
    Ok(record.map(|record| RootState::empty(0).with(record.layer, record.time)))
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
