//! Looks a step up in the cache without running it.

use std::sync::Arc;

use super::super::forecast::{Foreseen, Outlook};
use super::super::state::{Environment, Files, RootState};
use super::super::{Failures, StepContext};
use super::exec::mounts::{self, MountedRoot};
use super::{context_layer, copy, source};
use crate::cache::Preimage;
use crate::key::{self, Shown};
use crate::oci::Layer;
use crate::plan::graph::{CopyOp, CopySource, ExecOp, Op};

/// What would become of the step: `op` is its operation with the results that it needs.
pub(in crate::solve) fn step(step: &StepContext<'_>, op: &Op<Arc<Files>>) -> Result<Foreseen, Failures> {
    match op {
        Op::Scratch => Ok(here(source::scratch(step))),
        Op::Local(op) => {
            let files = source::local(step, op).files;
            Ok(Foreseen { outlook: Outlook::Here, files: Some(Arc::new(files)) })
        }
        Op::Base(op) => Ok(fetched(step.environment, source::root(&op.image))),
        Op::Image(op) => {
            let image = source::find(step, op)?;
            Ok(fetched(step.environment, source::root(&image)))
        }
        Op::Workdir { parent, op } => {
            let parent = parent.root();
            look_up(step, parent, &step.in_form(key::workdir(op, parent.chain)))
        }
        Op::Copy { parent, op } => transfer(step, op, parent.root()),
        Op::Exec { parent, op } => command(step, op, parent.root()),
    }
}

fn here(root: RootState) -> Foreseen {
    Foreseen { outlook: Outlook::Here, files: Some(Arc::new(Files::Root(root))) }
}

/// A root whose layers may have to be fetched.
fn fetched(environment: &Environment<'_>, root: RootState) -> Foreseen {
    let missing: Vec<&Layer> = root.layers.iter().filter(|layer| !has(environment, layer)).collect();
    let bytes = missing.iter().map(|layer| layer.descriptor.size).sum();
    let outlook = match missing.len() {
        0 => Outlook::Here,
        layers => Outlook::Fetch { layers, bytes },
    };
    Foreseen { outlook, files: Some(Arc::new(Files::Root(root))) }
}

fn has(environment: &Environment<'_>, layer: &Layer) -> bool {
    environment.store.has_blob(&layer.descriptor.digest) == Some(layer.descriptor.size)
}

/// What the cache has for a key.
fn look_up(step: &StepContext<'_>, parent: &RootState, preimage: &Preimage) -> Result<Foreseen, Failures> {
    Ok(match step.lookup_quietly(preimage)? {
        Some(record) => cached(parent, record.layer, record.time),
        None => Foreseen::run(step.why_missed(preimage)),
    })
}

fn cached(parent: &RootState, layer: Layer, time: crate::oci::Seconds) -> Foreseen {
    let files = Files::Root(parent.with(layer.clone(), time));
    Foreseen { outlook: Outlook::Cached(Box::new(layer)), files: Some(Arc::new(files)) }
}

/// COPY and ADD: first by the identity of what is copied from, then by the files themselves where they are here.
fn transfer(
    step: &StepContext<'_>,
    op: &CopyOp<Arc<Files>>,
    parent: &RootState,
) -> Result<Foreseen, Failures> {
    let words = step.in_form(key::copy(op, parent.chain));
    if let Some(quick) = copy::quick_preimage(&words, op)
        && let Some(record) = step.lookup_quietly(&quick)?
    {
        return Ok(cached(parent, record.layer, record.time));
    }
    for source in &op.sources {
        match source {
            CopySource::Url { .. } | CopySource::Git { .. } => {
                return Ok(Foreseen::run("what is behind the URL is known only when it is fetched"));
            }
            CopySource::Path { .. } | CopySource::Inline { .. } => {}
        }
    }
    let is_here = |source: &CopySource<Arc<Files>>| match source {
        CopySource::Path { from, .. } => is_here(step, from),
        CopySource::Inline { .. } | CopySource::Url { .. } | CopySource::Git { .. } => true,
    };
    if !op.sources.iter().all(is_here) {
        return Ok(Foreseen::run("the image that it copies from is not fetched yet"));
    }
    look_up(step, parent, &copy::content_preimage(step, op, words)?)
}

/// RUN: a mount of a context counts with what it shows.
fn command(
    step: &StepContext<'_>,
    op: &ExecOp<Arc<Files>>,
    parent: &RootState,
) -> Result<Foreseen, Failures> {
    let made = op.try_map(|part| match &**part.from {
        Files::Root(root) => Ok(MountedRoot { root: root.clone(), is_part: part.source != "/" }),
        Files::Local(name) => match context_layer::find(step, name, part.source, part.span) {
            Ok(Some(root)) => Ok(MountedRoot { root, is_part: false }),
            Ok(None) => Err(None),
            Err(failures) => Err(Some(failures)),
        },
    });
    let mounted = match made {
        Ok(mounted) => mounted,
        Err(None) => return Ok(Foreseen::run("the files of a mount changed")),
        Err(Some(failures)) => return Err(failures),
    };
    let owners = step.environment.snapshots.owners(step)?;
    let key = |shown: &ExecOp<Shown>| step.in_form(key::run(shown, parent.chain, owners));
    let by_roots = key(&mounts::by_roots(&mounted));
    if !mounts::show_parts(&mounted) {
        return look_up(step, parent, &by_roots);
    }
    if let Some(record) = step.lookup_quietly(&by_roots)? {
        return Ok(cached(parent, record.layer, record.time));
    }
    if !op.mounted().all(|part| is_here(step, part.from)) {
        return Ok(Foreseen::run("the image that a mount shows is not fetched yet"));
    }
    look_up(step, parent, &key(&mounts::by_files(step, &mounted)?))
}

/// Whether the files can be looked into.
fn is_here(step: &StepContext<'_>, files: &Files) -> bool {
    match files {
        Files::Root(root) => root.layers.iter().all(|layer| has(step.environment, layer)),
        Files::Local(_) => true,
    }
}
