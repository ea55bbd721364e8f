//! Looks a step up in the cache without running it.

use std::sync::Arc;

use super::exec::mounts::{self, MountedRoot};
use super::{context_layer, copy, source};
use crate::cache::{Preimage, Record};
use crate::image::PlatformImage;
use crate::key::{self, Shown};
use crate::oci::Layer;
use crate::plan::graph::{CopyOp, CopySource, ExecOp, Op};
use crate::solve::error::Error;
use crate::solve::outlook::{Foreseen, Outlook};
use crate::solve::state::{Files, RootState};
use crate::solve::step::StepContext;
use crate::store::Store;

/// What would become of the step: `op` is its operation with the results that it needs.
pub(in crate::solve) fn step(step: &StepContext<'_>, op: &Op<Arc<Files>>) -> Result<Foreseen, Error> {
    match op {
        Op::Scratch => Ok(here(source::scratch())),
        Op::Local(op) => {
            let files = source::local(step.environment, op);
            Ok(Foreseen { outlook: Outlook::Here, files: Some(Arc::new(files)), remote: None })
        }
        Op::Base(op) => Ok(fetched(&step.environment.services.store, &op.image)),
        Op::Image(op) => {
            let image = source::find(step.environment, op)?;
            Ok(fetched(&step.environment.services.store, &image))
        }
        Op::Workdir { parent, op } => {
            let parent = parent.root();
            look_up(step, parent, &step.environment.in_form(key::workdir(op, parent.chain)))
        }
        Op::Copy { parent, op } => transfer(step, op, parent.root()),
        Op::Exec { parent, op } => command(step, op, parent.root()),
    }
}

fn here(root: RootState) -> Foreseen {
    Foreseen { outlook: Outlook::Here, files: Some(Arc::new(Files::Root(root))), remote: None }
}

/// A root whose layers may have to be fetched.
fn fetched(store: &Store, image: &PlatformImage) -> Foreseen {
    let root = source::root(image);
    let missing: Vec<&Layer> = root.layers.iter().filter(|layer| !has(store, layer)).collect();
    let bytes = missing.iter().map(|layer| layer.descriptor.size).sum();
    let outlook = match missing.len() {
        0 => Outlook::Here,
        layers => Outlook::Fetch { layers, bytes },
    };
    let remote = image.remote.as_ref().map(ToString::to_string);
    Foreseen { outlook, files: Some(Arc::new(Files::Root(root))), remote }
}

fn has(store: &Store, layer: &Layer) -> bool {
    store.has_blob(&layer.descriptor.digest) == Some(layer.descriptor.size)
}

/// What the cache has for a key.
fn look_up(step: &StepContext<'_>, parent: &RootState, preimage: &Preimage) -> Result<Foreseen, Error> {
    Ok(match step.find(preimage)? {
        Some(record) => cached(step, parent, record),
        None => Foreseen::run(step.why_missed(preimage)),
    })
}

fn cached(step: &StepContext<'_>, parent: &RootState, Record { layer, time, .. }: Record) -> Foreseen {
    let files = Files::Root(parent.with(layer.clone(), time));
    let from = step.environment.services.lookup.promised_by(&layer);
    let outlook = Outlook::Cached { layer: Box::new(layer), from };
    Foreseen { outlook, files: Some(Arc::new(files)), remote: None }
}

/// COPY and ADD: first by the identity of what is copied from, then by the files themselves where they are here.
fn transfer(step: &StepContext<'_>, op: &CopyOp<Arc<Files>>, parent: &RootState) -> Result<Foreseen, Error> {
    let words = step.environment.in_form(key::copy(op, parent.chain));
    if let Some(quick) = copy::quick_preimage(&words, op)
        && let Some(record) = step.find(&quick)?
    {
        return Ok(cached(step, parent, record));
    }
    for source in &op.sources {
        match source {
            CopySource::Url { .. } | CopySource::Git { .. } => {
                return Ok(Foreseen::run("what is behind the URL is known only when it is fetched"));
            }
            CopySource::Path { .. } | CopySource::Inline { .. } => {}
        }
    }
    let store = &step.environment.services.store;
    let is_here = |source: &CopySource<Arc<Files>>| match source {
        CopySource::Path { from, .. } => is_here(store, from),
        CopySource::Inline { .. } | CopySource::Url { .. } | CopySource::Git { .. } => true,
    };
    if !op.sources.iter().all(is_here) {
        return Ok(Foreseen::run("the image that it copies from is not fetched yet"));
    }
    look_up(step, parent, &copy::content_preimage(step.environment, op, words)?)
}

/// RUN: a mount of a context counts with what it shows.
fn command(step: &StepContext<'_>, op: &ExecOp<Arc<Files>>, parent: &RootState) -> Result<Foreseen, Error> {
    let environment = step.environment;
    let store = &environment.services.store;
    let made = op.try_map(|part| match &**part.from {
        Files::Root(root) => Ok(MountedRoot::of_root(root, part.source)),
        Files::Folder(name, context) => {
            let part = context_layer::Part { name, context, source: part.source, span: part.span };
            match context_layer::find(environment, &part) {
                Ok(Some(found)) => Ok(MountedRoot::of_context(found)),
                Ok(None) => Err(None),
                Err(error) => Err(Some(error)),
            }
        }
    });
    let mounted = match made {
        Ok(mounted) => mounted,
        Err(None) => return Ok(Foreseen::run("the files of a mount changed")),
        Err(Some(error)) => return Err(error),
    };
    let owners = environment.services.snapshots.owners()?;
    let key = |shown: &ExecOp<Shown>| step.environment.of_command(key::run(shown, parent.chain, owners));
    let by_roots = key(&mounts::by_roots(&mounted));
    if !mounts::show_parts(&mounted) {
        return look_up(step, parent, &by_roots);
    }
    if let Some(record) = step.find(&by_roots)? {
        return Ok(cached(step, parent, record));
    }
    if !op.mounted().all(|part| is_here(store, part.from)) {
        return Ok(Foreseen::run("the image that a mount shows is not fetched yet"));
    }
    look_up(step, parent, &key(&mounts::by_files(environment.services, &mounted)?))
}

/// Whether the files can be looked into.
fn is_here(store: &Store, files: &Files) -> bool {
    match files {
        Files::Root(root) => root.layers.iter().all(|layer| has(store, layer)),
        Files::Folder(..) => true,
    }
}
