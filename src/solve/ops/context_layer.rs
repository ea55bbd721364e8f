//! A part of a build context as a layer of its own, for mounts.

use std::sync::Arc;

use super::super::state::{Files, RootState};
use super::{commit, copy};
use crate::cache::Preimage;
use crate::copy_files::{self, Destination, FileReasons, FileTree, Selected};
use crate::key;
use crate::plan::graph::{CopyKind, CopyOp, CopySource, Step};
use crate::report::Span;
use crate::solve::{Failures, StepContext, passwd, trees};

/// The files of the context `name` at and below `source`, at the same path in a root of one layer. Made again
/// only when they changed.
pub(super) fn make(
    step: &StepContext<'_>,
    name: &str,
    source: &str,
    span: Option<Span>,
) -> Result<RootState, Failures> {
    let op = copy_of(name, source, span);
    let selected = copy::select(step, &op, &mut Vec::new())?;
    let parent = RootState::empty(0);
    let reasons = reasons(step, &op, source, &selected)?;
    if let Some(record) = step.lookup_quietly(&reasons)? {
        return Ok(parent.with(record.layer, record.time));
    }
    let destination = Destination {
        parent: &FileTree::empty(),
        parent_time: 0,
        accounts: &|path| passwd::read_one(step.environment, &parent, path),
        scratch: &|| trees::scratch_file(&step.environment.store),
    };
    let landed =
        copy_files::land(&selected, &op, &destination).map_err(|error| vec![copy::explain(step, &error)])?;
    // Under a slot of its own: the step's own misses are not to be compared with this.
    let own = Step { slot: format!("{}/context:{name}:{source}", step.step.slot), ..step.step.clone() };
    let step = StepContext { step: &own, is_looked_into: false, took_then: step.took_then.clone(), ..*step };
    commit::entries(&step, &parent, &reasons, landed.entries, landed.time)
}

/// The same if it was made before.
pub(super) fn find(
    step: &StepContext<'_>,
    name: &str,
    source: &str,
    span: Option<Span>,
) -> Result<Option<RootState>, Failures> {
    let op = copy_of(name, source, span);
    let selected = copy::select(step, &op, &mut Vec::new())?;
    let record = step.lookup_quietly(&reasons(step, &op, source, &selected)?)?;
    Ok(record.map(|record| RootState::empty(0).with(record.layer, record.time)))
}

fn reasons<'s>(
    step: &StepContext<'_>,
    op: &CopyOp<Arc<Files>>,
    source: &str,
    selected: &'s Selected,
) -> Result<FileReasons<'s>, Failures> {
    let reasons = FileReasons::new(key::files::context(source), selected, op);
    let reasons = reasons.map_err(|error| vec![copy::explain(step, &error)])?;
    Ok(reasons.and(step.in_form(Preimage::default())))
}

/// What brings `source` of the context `name` to the same place in an empty root.
fn copy_of(name: &str, source: &str, span: Option<Span>) -> CopyOp<Arc<Files>> {
    let path = source.trim_matches('/');
    let from = Arc::new(Files::Local(name.to_owned()));
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
