//! Looks a step up in the cache without running it.

use std::sync::Arc;

use super::super::forecast::{Foreseen, Outlook};
use super::super::state::{Environment, Files, RootState};
use super::super::{Failures, StepContext};
use super::{context_layer, exec, root, source, transfer_step};
use crate::cache::Preimage;
use crate::key::{self, Shown};
use crate::oci::Layer;
use crate::plan::graph::{ExecOp, Op, TransferOp, TransferSource};

/// What would become of the step. `parent` and `reads` are known results.
pub(in crate::solve) fn step(
    step: &StepContext<'_>,
    parent: Option<&Files>,
    reads: &[Arc<Files>],
) -> Result<Foreseen, Failures> {
    let parent = parent.map(|files| root(step, files)).transpose()?;
    match (&step.step.op, parent) {
        (Op::Scratch, _) => Ok(here(source::scratch(step))),
        (Op::Local(op), _) => {
            let files = source::local(step, op).files;
            Ok(Foreseen { outlook: Outlook::Here, files: Some(Arc::new(files)) })
        }
        (Op::Base(op), _) => Ok(fetched(step.environment, source::root(&op.image))),
        (Op::Image(op), _) => {
            let image = source::find(step, op)?;
            Ok(fetched(step.environment, source::root(&image)))
        }
        (Op::Workdir(op), Some(parent)) => {
            look_up(step, parent, &step.in_form(key::workdir(op, parent.chain)))
        }
        (Op::Transfer(op), Some(parent)) => transfer(step, op, parent, reads),
        (Op::Exec(op), Some(parent)) => command(step, op, parent, reads),
        (Op::Workdir(_) | Op::Transfer(_) | Op::Exec(_), None) => {
            Err(vec![step.error("this step starts from nothing; that is a bug of rbuild's")])
        }
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
    op: &TransferOp,
    parent: &RootState,
    reads: &[Arc<Files>],
) -> Result<Foreseen, Failures> {
    let words = step.in_form(key::copy(op, parent.chain));
    if let Some(quick) = transfer_step::quick_preimage(&words, reads)
        && let Some(record) = step.lookup_quietly(&quick)?
    {
        return Ok(cached(parent, record.layer, record.time));
    }
    let remote =
        |source: &TransferSource| matches!(source, TransferSource::Url { .. } | TransferSource::Git { .. });
    if op.sources.iter().any(remote) {
        return Ok(Foreseen::run("what is behind the URL is known only when it is fetched"));
    }
    if !reads.iter().all(|files| is_here(step, files)) {
        return Ok(Foreseen::run("the image that it copies from is not fetched yet"));
    }
    look_up(step, parent, &transfer_step::content_preimage(step, op, words, reads)?)
}

/// RUN: a mount of a context counts with what it shows.
fn command(
    step: &StepContext<'_>,
    op: &ExecOp,
    parent: &RootState,
    reads: &[Arc<Files>],
) -> Result<Foreseen, Failures> {
    let mut mounted = Vec::with_capacity(reads.len());
    for (files, (source, span)) in reads.iter().zip(exec::mounted_paths(op)) {
        mounted.push(match &**files {
            Files::Root(root) => root.clone(),
            Files::Local(name) => match context_layer::find(step, name, source, span)? {
                Some(root) => root,
                None => return Ok(Foreseen::run("the files of a mount changed")),
            },
        });
    }
    let owners = step.environment.snapshots.owners(step)?;
    let key = |shown: &[Shown]| step.in_form(key::run(op, parent.chain, shown, owners));
    let by_roots = key(&exec::by_roots(&mounted));
    if !exec::show_parts(op, reads) {
        return look_up(step, parent, &by_roots);
    }
    if let Some(record) = step.lookup_quietly(&by_roots)? {
        return Ok(cached(parent, record.layer, record.time));
    }
    if !reads.iter().all(|files| is_here(step, files)) {
        return Ok(Foreseen::run("the image that a mount shows is not fetched yet"));
    }
    look_up(step, parent, &key(&exec::by_files(step, op, reads, &mounted)?))
}

/// Whether the files can be looked into.
fn is_here(step: &StepContext<'_>, files: &Files) -> bool {
    match files {
        Files::Root(root) => root.layers.iter().all(|layer| has(step.environment, layer)),
        Files::Local(_) => true,
    }
}
