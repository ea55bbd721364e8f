//! COPY and ADD as a step: two lookups in the cache, then selecting, placing and writing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::{Preimage, Reasons, Record};
use crate::context::Context;
use crate::copy_files::select::Download;
use crate::copy_files::{self, Destination, FileReasons, FileTree, Selected, Source};
use crate::key;
use crate::layer::index::Index;
use crate::oci::Layer;
use crate::plan::graph::{CopyOp, CopySource};
use crate::report::Span;
use crate::solve::environment::{Environment, Slot};
use crate::solve::error::Error;
use crate::solve::state::{Files, RootState};
use crate::solve::step::{Done, StepContext};
use crate::solve::{layers, passwd, trees};
use crate::source::git::{self, Checkout, GitSource};
use crate::source::http::{self, HttpError};
use crate::store::{Folder, ScratchDir};

/// Takes the layer from the cache, or makes it.
pub(super) fn run(
    step: &StepContext<'_>,
    op: &CopyOp<Arc<Files>>,
    parent: &RootState,
) -> Result<Done, Error> {
    take_or_make(step, op, parent).map_err(|error| step.environment.cause(error, stood_on(op, parent)))
}

fn take_or_make(step: &StepContext<'_>, op: &CopyOp<Arc<Files>>, parent: &RootState) -> Result<Done, Error> {
    let words = step.environment.in_form(key::copy(op, parent.chain));
    let quick = quick_preimage(&words, op);
    if let Some(record) = quick.as_ref().map_or(Ok(None), |quick| step.find(quick))? {
        return Ok(Done::cached(parent, record));
    }
    // What was fetched stays on disk until the layer is written.
    let mut fetched = Vec::new();
    let selected = select(step.environment, op, &mut fetched)?;
    let reasons = FileReasons::new(words, &selected, op)?;
    if let Some(record) = step.lookup(&reasons)? {
        alias(step.environment, quick.as_ref(), &record, stood_on(op, parent));
        drop(reasons);
        offer(step, op, selected, &record);
        return Ok(Done::cached(parent, record));
    }
    step.missed(&reasons);
    step.bring_ahead(parent);
    let made = make(step, op, parent, &selected, &reasons)?;
    alias(step.environment, quick.as_ref(), &made, stood_on(op, parent));
    Ok(Done::ran(parent, made, reasons.key()))
}

/// Lets a layer that is elsewhere be made of the files that are here, if that turns out to be faster than to fetch it.
fn offer(step: &StepContext<'_>, op: &CopyOp<Arc<Files>>, selected: Selected, record: &Record) {
    let is_local = |source: &CopySource<Arc<Files>>| match source {
        CopySource::Path { from, .. } => matches!(**from, Files::Folder(..)),
        CopySource::Inline { .. } => true,
        CopySource::Url { .. } | CopySource::Git { .. } => false,
    };
    let services = step.environment.services;
    if !op.sources.iter().all(is_local) || !services.lookup.is_elsewhere(&record.layer) {
        // Of many files that takes a while, and nobody waits for it.
        return rayon::spawn(move || drop(selected));
    }
    let (store, indexes) = (services.store.clone(), Arc::downgrade(&services.indexes));
    let (op, form, layer) = (op.clone(), step.environment.policy.form, record.layer.clone());
    let make = move || {
        let remake = |index: &Index| copy_files::remake(&selected, &op, index);
        let indexes = indexes.upgrade();
        indexes.is_some_and(|indexes| layers::remade((&store, &indexes), form, remake, &layer))
    };
    services.lookup.offer(record, Box::new(make));
}

/// The layers that the instruction copies from and to.
fn stood_on<'l>(op: &'l CopyOp<Arc<Files>>, parent: &'l RootState) -> impl Iterator<Item = &'l Layer> {
    parent.layers.iter().chain(read(op))
}

/// The layers that it copies from.
fn read(op: &CopyOp<Arc<Files>>) -> impl Iterator<Item = &Layer> {
    op.sources.iter().flat_map(|source| match source {
        CopySource::Path { from, .. } => match &**from {
            Files::Root(root) => root.layers.as_slice(),
            Files::Folder(..) => &[],
        },
        CopySource::Inline { .. } | CopySource::Url { .. } | CopySource::Git { .. } => &[],
    })
}

/// The files that the instruction means. What had to be fetched for it lies in `fetched`.
pub(super) fn select(
    environment: &Environment<'_>,
    op: &CopyOp<Arc<Files>>,
    fetched: &mut Vec<ScratchDir>,
) -> Result<Selected, Error> {
    let sources = sources(environment, op, fetched)?;
    Ok(copy_files::select(op, &sources)?)
}

/// The key by the content of the files, for somebody who has no use for them; `words` is what the instruction itself
/// says.
pub(super) fn content_preimage(
    environment: &Environment<'_>,
    op: &CopyOp<Arc<Files>>,
    words: Preimage,
) -> Result<Preimage, Error> {
    let selected = select(environment, op, &mut Vec::new())?;
    Ok(FileReasons::new(words, &selected, op)?.to_preimage())
}

/// A key that knows its sources by the steps that made them, as a whole: it costs nothing. There is none when
/// something is read that is no step's result, whose content must be looked at in any case.
pub(super) fn quick_preimage(words: &Preimage, op: &CopyOp<Arc<Files>>) -> Option<Preimage> {
    let mut quick = None;
    for source in &op.sources {
        let CopySource::Path { from, .. } = source else { continue };
        match &**from {
            Files::Root(root) => key::push_from(quick.get_or_insert_with(|| words.clone()), root.chain),
            Files::Folder(..) => return None,
        }
    }
    quick
}

/// Lets the quick key find the record from now on. Which key it was found by follows from the indexes of `layers`.
pub(super) fn alias<'l>(
    environment: &Environment<'_>,
    quick: Option<&Preimage>,
    record: &Record,
    layers: impl Iterator<Item = &'l Layer>,
) {
    let Some(quick) = quick else { return };
    // What turned out wrong is met again before the build ends.
    let Ok(mut told) = environment.services.indexes.told_of(layers) else { return };
    told.extend(record.told.iter().cloned());
    told.sort();
    told.dedup();
    let record = Record { key: quick.key(), told, ..record.clone() };
    // Without it the next build looks at the files again, no more.
    if let Err(error) = environment.services.lookup.publish_alias(record, quick) {
        tracing::warn!(%error, "cannot publish a quick key");
    }
}

/// The sources with what stands behind each.
fn sources<'o>(
    environment: &Environment<'_>,
    op: &'o CopyOp<Arc<Files>>,
    fetched: &mut Vec<ScratchDir>,
) -> Result<Vec<Source<'o>>, Error> {
    let source = |source: &'o CopySource<Arc<Files>>| {
        Ok(match source {
            CopySource::Path { from, pattern, span } => {
                Source::Path { tree: trees::of(environment.services, from)?, pattern, span: *span }
            }
            CopySource::Inline { name, content } => Source::Inline { name, content },
            CopySource::Url { url, span } => {
                Source::Download(download(environment, op, url, *span, fetched)?)
            }
            CopySource::Git { url, span } => {
                Source::Checkout(checkout(environment, op, url, *span, fetched)?)
            }
        })
    };
    op.sources.iter().map(source).collect()
}

fn download<R>(
    environment: &Environment<'_>,
    op: &CopyOp<R>,
    url: &str,
    span: Option<Span>,
    fetched: &mut Vec<ScratchDir>,
) -> Result<Download, Error> {
    let at = |error: Error| error.at(span);
    refuse_offline(environment, url).map_err(at)?;
    let pins = &environment.services.pins;
    let pinned = match &op.checksum {
        Some(_) => None,
        None => pins.url(url).map_err(|e| at(e.into()))?.map(|digest| digest.to_string()),
    };
    let into = scratch(environment, fetched)?;
    let expected = op.checksum.as_deref().or(pinned.as_deref());
    let file = into.join("content");
    let [checked, unchecked] = &environment.policy.hops;
    let hops = if expected.is_some() { checked } else { unchecked };
    let found = http::fetch_checked(url, expected, (&environment.given.secrets, hops), &file);
    let found = found.map_err(|error| match error {
        HttpError::Mismatch { url, expected, actual } if pinned.is_some() => {
            at(Error::Changed { url, expected, actual })
        }
        error => at(error.into()),
    })?;
    if op.checksum.is_none() {
        pins.saw_url(url, found.digest);
    }
    environment.services.materials.saw_url(url, found.digest);
    let (path, name) = (b"content".to_vec(), http::file_name(url));
    Ok(Download { tree: tree_of(&into).map_err(at)?, path, name, mtime: found.modified.unwrap_or(0) })
}

fn checkout<R>(
    environment: &Environment<'_>,
    op: &CopyOp<R>,
    url: &str,
    span: Option<Span>,
    fetched: &mut Vec<ScratchDir>,
) -> Result<FileTree, Error> {
    let at = |error: Error| error.at(span);
    refuse_offline(environment, url).map_err(at)?;
    let into = scratch(environment, fetched)?;
    let source = GitSource::new(url, op.checksum.as_deref(), op.keep_git_dir);
    let source = source.and_then(|source| source.log_in(&environment.given.secrets));
    let source = source.map_err(|e| at(e.into()))?;
    let pins = &environment.services.pins;
    let pinned = pins.git(source.clone()).map_err(|e| at(e.into()))?;
    let cache = environment.services.store.private(Folder::Git);
    let checked_out = git::checkout(&pinned, &cache, &into);
    let Checkout { root, commit, .. } = checked_out.map_err(|e| at(e.into()))?;
    pins.saw_git(&source, &commit);
    environment.services.materials.saw_git(&source, &commit);
    tree_of(&root).map_err(at)
}

/// The files of a folder that rbuild filled itself; no ignore file counts in it.
fn tree_of(folder: &Path) -> Result<FileTree, Error> {
    let opened = Context::open(folder, None, None).map_err(copy_files::Error::from)?;
    Ok(FileTree::Context(Arc::new(opened)))
}

/// Fetches what the instruction names outside of this machine, for a lock file alone. What is pinned, or was seen
/// before, is not fetched.
pub(super) fn visit(environment: &Environment<'_>, op: &CopyOp) -> Result<(), Error> {
    let pins = &environment.services.pins;
    for source in &op.sources {
        let mut fetched = Vec::new();
        match source {
            CopySource::Url { url, span } if op.checksum.is_none() && !pins.has_url(url) => {
                download(environment, op, url, *span, &mut fetched)?;
            }
            CopySource::Git { url, span } => {
                let source = GitSource::new(url, op.checksum.as_deref(), op.keep_git_dir);
                if !source.is_ok_and(|source| pins.has_git(&source)) {
                    checkout(environment, op, url, *span, &mut fetched)?;
                }
            }
            CopySource::Url { .. } | CopySource::Path { .. } | CopySource::Inline { .. } => {}
        }
    }
    Ok(())
}

fn refuse_offline(environment: &Environment<'_>, url: &str) -> Result<(), Error> {
    match environment.policy.offline {
        true => Err(Error::Offline(url.to_owned())),
        false => Ok(()),
    }
}

fn scratch(environment: &Environment<'_>, kept: &mut Vec<ScratchDir>) -> Result<PathBuf, Error> {
    let scratch = environment.services.store.scratch_dir()?;
    let path = scratch.path().to_owned();
    kept.push(scratch);
    Ok(path)
}

fn make(
    step: &StepContext<'_>,
    op: &CopyOp<Arc<Files>>,
    parent: &RootState,
    selected: &Selected,
    reasons: &FileReasons<'_>,
) -> Result<Record, Error> {
    let services = step.environment.services;
    let tree = match copy_files::is_linked(op) {
        true => FileTree::empty(),
        false => trees::of_root(services, parent)?,
    };
    let destination = Destination {
        parent: &tree,
        parent_time: parent.time,
        accounts: &|path| passwd::read_one(services, parent, path),
        scratch: &|| trees::scratch_file(&services.store),
    };
    let placed = copy_files::copy_into(selected, op, &destination)?;
    for warning in placed.warnings {
        step.warn(format!("--chown={}: {warning}", op.chown.as_deref().unwrap_or_default()));
    }
    let files = Some(tree.count(&placed.entries));
    let slot = Slot { read: read(op).cloned().collect(), files, ..step.slot() };
    step.environment.publish_entries(&slot, parent, reasons, (placed.entries, placed.time))
}
