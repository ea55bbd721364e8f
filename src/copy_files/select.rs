//! Phase A: which files an instruction means, and what they hold.

use std::sync::Arc;

use super::Error;
use super::archive;
use super::chmod::ModeChange;
use super::error::{NotFound, shown};
use super::gather::{Gathered, gather};
use super::glob;
use super::tree::{FileTree, Item};
use crate::context::glob::has_wildcards;
use crate::context::matcher::Matcher;
use crate::context::{FileDigest, path};
use crate::oci::Seconds;
use crate::plan::graph::{CopyKind, CopyOp};
use crate::report::Span;
use crate::text::nearest_names;

/// A source of an instruction with what stands behind it.
#[derive(Clone)]
pub enum Source<'o> {
    /// A path or a pattern, and the files that it is about.
    Path {
        /// The files.
        tree: FileTree,
        /// As in [`CopySource::Path`](crate::plan::graph::CopySource::Path).
        pattern: &'o str,
        /// Where it stands.
        span: Option<Span>,
    },
    /// A here-document.
    Inline {
        /// The file's name.
        name: &'o str,
        /// What is in it.
        content: &'o str,
    },
    /// A file that was fetched.
    Download(Download),
    /// The files of a repository, without `.git` unless it is to be kept.
    Checkout(FileTree),
}

/// A file that came from a URL.
#[derive(Clone)]
pub struct Download {
    /// Where the file lies.
    pub tree: FileTree,
    /// Its path there.
    pub path: Vec<u8>,
    /// Its name, from the path of the URL.
    pub name: Vec<u8>,
    /// `Last-Modified`, or 0.
    pub mtime: Seconds,
}

/// The files that an instruction means, digested: all that its outcome depends on, but for its own words, the
/// parent's files, and times.
pub struct Selected {
    pub(super) picks: Vec<Pick>,
}

/// One source, or one match of a wildcard.
pub(super) struct Pick {
    /// Where the contents come from; `None` for an inline file.
    pub(super) tree: Option<FileTree>,
    /// Real path in `tree`.
    pub(super) base: Vec<u8>,
    /// Path as named, for people and for the key.
    pub(super) named: Vec<u8>,
    /// The name it takes in a destination directory.
    pub(super) name: Vec<u8>,
    pub(super) what: What,
}

pub(super) enum What {
    /// A regular file with its digest, or something else that is no directory.
    File(Item, Option<FileDigest>),
    /// What a directory holds; `own` is the directory's own entry where that travels, too (git).
    Directory {
        own: Option<Item>,
        entries: Arc<Gathered>,
    },
    /// A tar, compressed or not, to be unpacked.
    Archive(Item, FileDigest),
    Inline(Arc<[u8]>),
}

/// Finds and digests what `op` copies: `sources` are its own.
pub fn select<R>(op: &CopyOp<R>, sources: &[Source<'_>]) -> Result<Selected, Error> {
    let exclude =
        Matcher::new(&op.excludes).map_err(|(index, _)| Error::Exclude(op.excludes[index].clone()))?;
    let selection = Selection { kind: op.kind, parents: op.parents, unpack: op.unpack, exclude };
    let mut picks = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        selection.source(source, &mut picks).map_err(|error| with_others(error, &sources[at + 1..]))?;
    }
    Ok(Selected { picks })
}

/// An error about a source that is not there tells of all of them.
fn with_others(error: Error, rest: &[Source<'_>]) -> Error {
    match error {
        Error::NotFound(mut missing) => {
            missing.others = rest.iter().filter_map(absent).collect();
            Error::NotFound(missing)
        }
        other => other,
    }
}

/// A source without wildcards that is not there, and where it stands. What cannot be looked at counts as there.
fn absent(source: &Source<'_>) -> Option<(String, Option<Span>)> {
    let Source::Path { tree, pattern, span } = source else { return None };
    let named = path::below_root(pattern.replace("/./", "/").as_bytes());
    let found = tree.resolve(&named).and_then(|base| tree.entry(&base));
    (!has_wildcards(&named) && matches!(found, Ok(None))).then(|| (shown(&named), *span))
}

struct Selection {
    kind: CopyKind,
    parents: bool,
    unpack: Option<bool>,
    exclude: Matcher,
}

impl Selection {
    fn source(&self, source: &Source<'_>, picks: &mut Vec<Pick>) -> Result<(), Error> {
        match source {
            Source::Path { tree, pattern, span } if self.parents => {
                self.with_parents(tree, pattern, *span, picks)?;
            }
            Source::Path { tree, pattern, span } => {
                for named in expand(tree, &path::below_root(pattern.as_bytes()), pattern, *span)? {
                    picks.push(self.path(tree, &named, pattern, *span)?);
                }
            }
            Source::Inline { name, content } => picks.push(inline(name, content)),
            Source::Download(download) => picks.push(self.download(download)?),
            Source::Checkout(tree) => {
                let own = tree.entry(b"")?;
                let entries = gather(tree, b"", None, &self.exclude)?;
                picks.push(Pick::new(tree, b"", b"", What::Directory { own, entries }));
            }
        }
        Ok(())
    }

    /// One path, symlinks in it followed.
    fn path(&self, tree: &FileTree, named: &[u8], written: &str, span: Option<Span>) -> Result<Pick, Error> {
        let base = tree.resolve(named)?;
        let Some(item) = tree.entry(&base)? else { return Err(missing(tree, named, written, span)?) };
        let what = if item.is_dir() {
            What::Directory { own: None, entries: gather(tree, &base, None, &self.exclude)? }
        } else {
            self.file(tree, &base, item, true)?
        };
        Ok(Pick::new(tree, &base, named, what))
    }

    /// `--parents`: what comes after `/./`, or the whole path, is kept below the destination.
    fn with_parents(
        &self,
        tree: &FileTree,
        written: &str,
        span: Option<Span>,
        picks: &mut Vec<Pick>,
    ) -> Result<(), Error> {
        let (base, kept) = written.split_once("/./").unwrap_or(("", written));
        let (base, kept) = (path::below_root(base.as_bytes()), path::below_root(kept.as_bytes()));
        if !has_wildcards(&base) && !has_wildcards(&kept) {
            let whole = path::join(&base, &kept);
            if tree.entry(&tree.resolve(&whole)?)?.is_none() {
                return Err(missing(tree, &whole, written, span)?);
            }
        }
        let bad = |_| Error::Pattern { pattern: written.to_owned(), span };
        let include = Matcher::new([&kept]).map_err(bad)?;
        for named in expand(tree, &base, written, span)? {
            let base = tree.resolve(&named)?;
            // The root itself as what is to be kept names everything in it.
            let include = (!include.is_empty()).then_some(&include);
            let entries = gather(tree, &base, include, &self.exclude)?;
            picks.push(Pick::new(tree, &base, &named, What::Directory { own: None, entries }));
        }
        Ok(())
    }

    fn download(&self, download: &Download) -> Result<Pick, Error> {
        let Download { tree, path, name, mtime } = download;
        let Some(mut item) = tree.entry(path)? else { return Err(missing(tree, path, "", None)?) };
        (item.mode, item.mtime) = (0o600, *mtime);
        Ok(Pick::new(tree, path, name, self.file(tree, path, item, false)?))
    }

    /// Anything but a directory, digested.
    fn file(&self, tree: &FileTree, path: &[u8], item: Item, is_local: bool) -> Result<What, Error> {
        Ok(match tree.digest(&item)? {
            Some(digest) if self.unpacks(is_local) && archive::is_archive(tree, path, &item)? => {
                What::Archive(item, digest)
            }
            digest => What::File(item, digest),
        })
    }

    /// Whether archives are unpacked: those that are local files of ADD, or as `--unpack` says.
    fn unpacks(&self, is_local: bool) -> bool {
        self.unpack.unwrap_or(self.kind == CopyKind::Add && is_local)
    }
}

fn inline(name: &str, content: &str) -> Pick {
    let what = What::Inline(content.as_bytes().into());
    Pick {
        tree: None,
        base: Vec::new(),
        named: name.as_bytes().to_vec(),
        name: path::split(name.as_bytes()).1.to_vec(),
        what,
    }
}

fn expand(tree: &FileTree, pattern: &[u8], written: &str, span: Option<Span>) -> Result<Vec<Vec<u8>>, Error> {
    glob::expand(tree, pattern)?.map_err(|_| Error::Pattern { pattern: written.to_owned(), span })
}

/// The error for a source that is not there.
fn missing(tree: &FileTree, named: &[u8], written: &str, span: Option<Span>) -> Result<Error, Error> {
    let (dir, name) = path::split(named);
    let dir = tree.resolve(dir)?;
    let siblings = tree.list(&dir)?;
    let near = nearest_names(name, siblings.iter().map(|(name, _)| name.as_slice()));
    let near = near.into_iter().map(|name| String::from_utf8_lossy(&path::join(&dir, name)).into_owned());
    let (place, blame) = match tree {
        FileTree::Context(context) => {
            ("the build context", context.ignore().and_then(|ignore| ignore.blame(named)))
        }
        FileTree::Layers(_) => ("the files of the stage or image", None),
    };
    let is_socket = match tree {
        FileTree::Context(context) => context.is_socket(named),
        FileTree::Layers(_) => false,
    };
    let is_cut = path::clean(written.trim_start_matches('/').as_bytes()).starts_with(b"../");
    Ok(Error::NotFound(Box::new(NotFound {
        path: shown(named),
        place: place.into(),
        outside: is_cut.then(|| written.to_owned()),
        blame,
        is_socket,
        others: Vec::new(),
        near: near.collect(),
        span,
    })))
}

impl Pick {
    fn new(tree: &FileTree, base: &[u8], named: &[u8], what: What) -> Self {
        let name = path::split(named).1.to_vec();
        Self { tree: Some(tree.clone()), base: base.to_vec(), named: named.to_vec(), name, what }
    }
}

impl Selected {
    /// Whether a file was selected at all; a wildcard may match nothing.
    pub fn is_empty(&self) -> bool {
        self.picks.is_empty()
    }

    pub(super) fn mode_change<R>(op: &CopyOp<R>) -> Result<ModeChange, Error> {
        let written = match &op.chmod {
            Some(crate::plan::graph::Chmod::Symbolic(text)) => text.as_str(),
            _ => "",
        };
        ModeChange::new(op.chmod.as_ref()).ok_or_else(|| Error::Chmod(written.to_owned()))
    }
}
