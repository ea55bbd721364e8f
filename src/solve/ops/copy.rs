//! COPY and ADD as a step: two lookups in the cache, then selecting, landing and writing.

use std::path::PathBuf;
use std::sync::Arc;

use super::commit;
use crate::cache::{Preimage, Reasons, Record};
use crate::copy_files::select::Download;
use crate::copy_files::{self, Destination, Error, FileReasons, FileTree, Selected, Source};
use crate::key;
use crate::plan::graph::{CopyOp, CopySource};
use crate::report::{Diagnostic, Outcome, Span};
use crate::solve::state::{Files, RootState};
use crate::solve::{Done, Failures, NotPinned, StepContext, passwd, trees};
use crate::source::git::{self, GitError, GitSource};
use crate::source::http::{self, HttpError};
use crate::store::ScratchDir;
use crate::text::url::without_password;

/// Takes the layer from the cache, or makes it.
pub(super) fn run(
    step: &StepContext<'_>,
    op: &CopyOp<Arc<Files>>,
    parent: &RootState,
) -> Result<Done, Failures> {
    let words = step.in_form(key::copy(op, parent.chain));
    let quick = quick_preimage(&words, op);
    if let Some(record) = quick.as_ref().map_or(Ok(None), |quick| step.lookup_quietly(quick))? {
        return Ok(cached(parent, record));
    }
    // What was fetched stays on disk until the layer is written.
    let mut fetched = Vec::new();
    let selected = select(step, op, &mut fetched)?;
    let reasons = reasons(step, op, words, &selected)?;
    if let Some(record) = step.lookup(&reasons)? {
        alias(step, quick.as_ref(), &record);
        drop(reasons);
        // Of many files that takes a while, and nobody waits for it.
        rayon::spawn(move || drop(selected));
        return Ok(cached(parent, record));
    }
    step.missed(&reasons);
    let root = make(step, op, parent, &selected, &reasons)?;
    if let Some(layer) = root.layers.last() {
        let record = Record::new(reasons.key(), layer.clone(), root.chain, root.time);
        alias(step, quick.as_ref(), &record);
    }
    Ok(Done { files: Files::Root(root), outcome: Outcome::Ran })
}

/// The files that the instruction means. What had to be fetched for it lies in `fetched`.
pub(super) fn select(
    step: &StepContext<'_>,
    op: &CopyOp<Arc<Files>>,
    fetched: &mut Vec<ScratchDir>,
) -> Result<Selected, Failures> {
    let sources = sources(step, op, fetched)?;
    copy_files::select(op, &sources).map_err(|error| vec![explain(step, &error)])
}

/// The key by the content of the files; `words` is what the instruction itself says.
fn reasons<'s, R>(
    step: &StepContext<'_>,
    op: &CopyOp<R>,
    words: Preimage,
    selected: &'s Selected,
) -> Result<FileReasons<'s>, Failures> {
    FileReasons::new(words, selected, op).map_err(|error| vec![explain(step, &error)])
}

/// The same for somebody who has no use for the files.
pub(super) fn content_preimage(
    step: &StepContext<'_>,
    op: &CopyOp<Arc<Files>>,
    words: Preimage,
) -> Result<Preimage, Failures> {
    let selected = select(step, op, &mut Vec::new())?;
    Ok(reasons(step, op, words, &selected)?.to_preimage())
}

fn cached(parent: &RootState, record: Record) -> Done {
    Done { files: Files::Root(parent.with(record.layer, record.time)), outcome: Outcome::Cached }
}

/// A key that knows its sources by the steps that made them, as a whole: it costs nothing. There is none when
/// something is read that is no step's result, whose content must be looked at in any case.
pub(super) fn quick_preimage(words: &Preimage, op: &CopyOp<Arc<Files>>) -> Option<Preimage> {
    let mut quick = None;
    for source in &op.sources {
        let CopySource::Path { from, .. } = source else { continue };
        match &**from {
            Files::Root(root) => key::push_from(quick.get_or_insert_with(|| words.clone()), root.chain),
            Files::Local(_) => return None,
        }
    }
    quick
}

/// Lets the quick key find the record from now on.
pub(super) fn alias(step: &StepContext<'_>, quick: Option<&Preimage>, record: &Record) {
    let Some(quick) = quick else { return };
    let record = Record { key: quick.key(), ..record.clone() };
    // Without it the next build looks at the files again, no more.
    if let Err(error) = step.environment.cache.publish_alias(record, quick) {
        tracing::warn!(%error, "cannot publish a quick key");
    }
}

/// The sources with what stands behind each.
fn sources<'o>(
    step: &StepContext<'_>,
    op: &'o CopyOp<Arc<Files>>,
    fetched: &mut Vec<ScratchDir>,
) -> Result<Vec<Source<'o>>, Failures> {
    let source = |source: &'o CopySource<Arc<Files>>| {
        Ok(match source {
            CopySource::Path { from, pattern, span } => {
                Source::Path { tree: trees::of(step, from)?, pattern, span: *span }
            }
            CopySource::Inline { name, content } => Source::Inline { name, content },
            CopySource::Url { url, span } => Source::Download(download(step, op, url, *span, fetched)?),
            CopySource::Git { url, span } => Source::Checkout(checkout(step, op, url, *span, fetched)?),
        })
    };
    op.sources.iter().map(source).collect()
}

fn download<R>(
    step: &StepContext<'_>,
    op: &CopyOp<R>,
    url: &str,
    span: Option<Span>,
    fetched: &mut Vec<ScratchDir>,
) -> Result<Download, Failures> {
    refuse_offline(step, url, span)?;
    let pins = step.environment.pins;
    let pinned = match &op.checksum {
        Some(_) => None,
        None => pins.url(url).map_err(|e| vec![not_pinned(step, span, &e)])?.map(|digest| digest.to_string()),
    };
    let into = scratch(step, fetched)?;
    let expected = op.checksum.as_deref().or(pinned.as_deref());
    let downloaded = http::download(url, expected, &step.environment.secrets, &into);
    let (download, digest) = downloaded.map_err(|error| match error {
        HttpError::Mismatch { url, expected, actual } if pinned.is_some() => {
            let message = format!("`{url}` changed: the lock file says {expected}, the content is {actual}");
            vec![step.error_at(span, message).help(MOVED)]
        }
        error => {
            let diagnostic = step.error_at(span, error.to_string());
            vec![error.help().into_iter().fold(diagnostic, Diagnostic::help)]
        }
    })?;
    if op.checksum.is_none() {
        pins.saw_url(url, digest);
    }
    Ok(download)
}

fn checkout<R>(
    step: &StepContext<'_>,
    op: &CopyOp<R>,
    url: &str,
    span: Option<Span>,
    fetched: &mut Vec<ScratchDir>,
) -> Result<FileTree, Failures> {
    refuse_offline(step, url, span)?;
    let into = scratch(step, fetched)?;
    let fail = |error: GitError| {
        let diagnostic = step.error_at(span, error.to_string());
        vec![error.help().into_iter().fold(diagnostic, Diagnostic::help)]
    };
    let source = GitSource::new(url, op.checksum.as_deref(), op.keep_git_dir);
    let source = source.and_then(|source| source.log_in(&step.environment.secrets)).map_err(fail)?;
    let pins = step.environment.pins;
    let pinned = pins.git(source.clone()).map_err(|e| vec![not_pinned(step, span, &e)])?;
    let cache = step.environment.store.private("git");
    let (tree, commit) = git::checkout(&pinned, &cache, &into).map_err(fail)?;
    pins.saw_git(&source, &commit);
    Ok(tree)
}

/// Fetches what the instruction names outside of this machine, for a lock file alone. What is pinned, or was seen
/// before, is not fetched.
pub(in crate::solve) fn visit(step: &StepContext<'_>, op: &CopyOp) -> Result<(), Failures> {
    let pins = step.environment.pins;
    for source in &op.sources {
        let mut fetched = Vec::new();
        match source {
            CopySource::Url { url, span } if op.checksum.is_none() && !pins.has_url(url) => {
                download(step, op, url, *span, &mut fetched)?;
            }
            CopySource::Git { url, span } => {
                let source = GitSource::new(url, op.checksum.as_deref(), op.keep_git_dir);
                if !source.is_ok_and(|source| pins.has_git(&source)) {
                    checkout(step, op, url, *span, &mut fetched)?;
                }
            }
            CopySource::Url { .. } | CopySource::Path { .. } | CopySource::Inline { .. } => {}
        }
    }
    Ok(())
}

const MOVED: &str = "`rbuild lock --update` takes what is there now, and shows what moved";

fn not_pinned(step: &StepContext<'_>, span: Option<Span>, error: &NotPinned) -> Diagnostic {
    step.error_at(span, error.to_string()).help(error.help())
}

fn refuse_offline(step: &StepContext<'_>, url: &str, span: Option<Span>) -> Result<(), Failures> {
    if !step.environment.offline {
        return Ok(());
    }
    let message =
        format!("`{}` would have to be fetched, and `--offline` forbids that", without_password(url));
    Err(vec![step.error_at(span, message).help("fetch it yourself and COPY it, or leave `--offline` out")])
}

fn scratch(step: &StepContext<'_>, kept: &mut Vec<ScratchDir>) -> Result<PathBuf, Failures> {
    let scratch = step.environment.store.scratch_dir().map_err(|e| vec![step.error(e.to_string())])?;
    let path = scratch.path().to_owned();
    kept.push(scratch);
    Ok(path)
}

fn make<R>(
    step: &StepContext<'_>,
    op: &CopyOp<R>,
    parent: &RootState,
    selected: &Selected,
    reasons: &FileReasons<'_>,
) -> Result<RootState, Failures> {
    let environment = step.environment;
    let tree = match copy_files::land::is_linked(op) {
        true => FileTree::empty(),
        false => trees::of_root(step, parent)?,
    };
    let destination = Destination {
        parent: &tree,
        parent_time: parent.time,
        accounts: &|path| passwd::read_one(environment, parent, path),
        scratch: &|| trees::scratch_file(&environment.store),
    };
    let landed = copy_files::land(selected, op, &destination).map_err(|error| vec![explain(step, &error)])?;
    commit::entries(step, parent, reasons, landed.entries, landed.time)
}

/// The error at its source, with all the help there is.
pub(super) fn explain(step: &StepContext<'_>, error: &Error) -> Diagnostic {
    let diagnostic = step.error_at(error.span(), error.to_string());
    error.help().into_iter().fold(diagnostic, Diagnostic::help)
}
