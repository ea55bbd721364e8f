//! Which files of a context travel, and what is told of each: those that COPY, ADD and mounts can see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::names::Names;
use crate::context::glob::has_wildcards;
use crate::context::{self, Context, Entry, Kind, path};
use crate::oci::Hasher;
use crate::pipeline::context::diagnose;
use crate::plan::graph::{CopySource, Graph, MountKind, Op, StepId};
use crate::reapi::Blob;
use crate::report::Diagnostic;
use crate::solve::ContextFiles;
use crate::store::Store;

/// Links that lead to links, on the way to one file.
const LINKS: u32 = 255;

/// A context, with what travels of it.
pub(super) struct Travelling {
    context: Arc<Context>,
    entries: Vec<(Listed, Option<Blob>)>,
}

/// What is told of an entry beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Relative.
    pub(super) path: String,
    pub(super) kind: ListedKind,
    /// Permission bits.
    pub(super) mode: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ListedKind {
    Folder,
    File,
    /// And where it leads.
    Link(String),
}

impl Travelling {
    pub(super) fn listed(&self) -> Vec<Listed> {
        self.entries.iter().map(|(listed, _)| listed.clone()).collect()
    }

    /// Its files, each with its bytes' name and whether it can be executed.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, Blob, bool)> {
        self.entries
            .iter()
            .filter_map(|(listed, blob)| Some((&*listed.path, (*blob)?, listed.mode & 0o100 != 0)))
    }

    /// Opens a file of it.
    pub(super) fn open(&self, path: &str) -> io::Result<File> {
        self.context.root().open_file(Path::new(path))
    }
}

/// The contexts of one of several builds: the numbers of folders among those of all, by the names that they have in this one.
pub(super) type Numbers = BTreeMap<String, usize>;

/// What of the contexts of a graph is to travel: main contexts also when nothing of them is. `contexts` are those of each build that has steps
/// in it; a folder that several have travels once.
pub(super) fn of_graph(
    graph: &Graph,
    contexts: &[&BTreeMap<String, ContextFiles>],
    store: &Store,
) -> Result<(Vec<Travelling>, Vec<Numbers>), Vec<Diagnostic>> {
    let wanted = wanted(graph);
    let mut folders: Vec<(&Arc<Context>, BTreeSet<Vec<u8>>)> = Vec::new();
    let mut numbers = vec![Numbers::new(); contexts.len()];
    for (build, (contexts, numbers)) in contexts.iter().zip(&mut numbers).enumerate() {
        for (name, files) in *contexts {
            let ContextFiles::Folder(context) = files else { continue };
            let known = folders.iter().position(|(known, _)| Arc::ptr_eq(known, context));
            let number = known.unwrap_or_else(|| {
                folders.push((context, BTreeSet::new()));
                folders.len() - 1
            });
            numbers.insert(name.clone(), number);
            folders[number].1.extend(wanted.get(&(build, name)).into_iter().flatten().cloned());
        }
    }
    let names = Names::open(store);
    let mut travelling = Vec::with_capacity(folders.len());
    for (context, paths) in &folders {
        let kept = collect(context, paths).map_err(|error| vec![diagnose(&error)])?;
        let described: Result<Vec<(Listed, Option<Blob>)>, Diagnostic> =
            kept.par_iter().map(|(path, entry)| describe((context, &names), path, *entry)).collect();
        let entries = described.map_err(|told| vec![told])?;
        travelling.push(Travelling { context: Arc::clone(context), entries });
    }
    names.save();
    Ok((travelling, numbers))
}

/// The paths that steps name, by the build and its context: of a pattern what stands before its first wildcard.
fn wanted(graph: &Graph) -> BTreeMap<(usize, &String), BTreeSet<Vec<u8>>> {
    let mut wanted: BTreeMap<(usize, &String), BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut want = |from: StepId, written: &str| {
        let from = &graph.steps[from.0];
        let Op::Local(local) = &from.op else { return };
        let whole = path::below_root(written.replace("/./", "/").as_bytes());
        let plain: Vec<&[u8]> = path::components(&whole).take_while(|name| !has_wildcards(name)).collect();
        wanted.entry((from.owner, &local.name)).or_default().insert(plain.join(&b'/'));
    };
    for step in &graph.steps {
        match &step.op {
            Op::Copy { op, .. } => {
                for source in &op.sources {
                    if let CopySource::Path { from, pattern, .. } = source {
                        want(*from, pattern);
                    }
                }
            }
            Op::Exec { op, .. } => {
                for mount in &op.mounts {
                    match &mount.kind {
                        MountKind::Bind { from, source, .. }
                        | MountKind::Cache { from: Some((from, source)), .. } => want(*from, source),
                        MountKind::Cache { from: None, .. }
                        | MountKind::Tmpfs { .. }
                        | MountKind::Secret { .. }
                        | MountKind::Ssh { .. } => {}
                    }
                }
            }
            Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) | Op::Workdir { .. } => {}
        }
    }
    wanted
}

/// The entries at and below some paths, with the folders and links on the way to them and what those links lead to.
fn collect<'c>(
    context: &'c Context,
    paths: &BTreeSet<Vec<u8>>,
) -> Result<BTreeMap<Vec<u8>, Entry<'c>>, context::Error> {
    let mut kept = BTreeMap::new();
    let mut todo: Vec<(Vec<u8>, u32)> = paths.iter().map(|path| (path.clone(), LINKS)).collect();
    while let Some((wanted, links)) = todo.pop() {
        let (mut entry, mut at) = (context.top(), Vec::new());
        let mut names = path::components(&wanted);
        let mut is_there = true;
        while let Some(name) = names.next() {
            let Some(found) = context.list(entry)?.find(name) else {
                // Whoever wants it will say that it is not there.
                is_there = false;
                break;
            };
            let folder = at.clone();
            at = path::join(&at, name);
            entry = found;
            kept.insert(at.clone(), entry);
            if let Kind::Symlink(target) = entry.kind() {
                let target =
                    if target.starts_with(b"/") { target.to_vec() } else { path::join(&folder, target) };
                let rest: Vec<&[u8]> = names.by_ref().collect();
                let target = path::join(&target, &rest.join(&b'/'));
                if let Some(links) = links.checked_sub(1) {
                    todo.push((path::below_root(&target), links));
                }
                is_there = false;
                break;
            }
        }
        if is_there && (entry.is_dir() || wanted.is_empty()) {
            context.load(entry);
            context.walk(entry, &mut |path, entry| {
                kept.insert(path.to_vec(), entry);
            })?;
        }
    }
    Ok(kept)
}

fn describe(
    (context, names): (&Context, &Names),
    path: &[u8],
    entry: Entry<'_>,
) -> Result<(Listed, Option<Blob>), Diagnostic> {
    let shown = String::from_utf8_lossy(path);
    let no = |what: &str| {
        let told = Diagnostic::error(format!("`{shown}` does not go with `--on`: {what}"));
        told.help("add it to .dockerignore, or build on this machine")
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| no("its name is no UTF-8"));
    let kind = match entry.kind() {
        Kind::Directory => ListedKind::Folder,
        Kind::File => ListedKind::File,
        Kind::Symlink(target) => ListedKind::Link(text(target)?),
        Kind::Fifo | Kind::CharDevice(..) | Kind::BlockDevice(..) => return Err(no("it is no file")),
    };
    let blob = match kind {
        ListedKind::File => {
            let content = context.known_content(entry);
            match content.and_then(|content| names.get(&content)) {
                Some(blob) => Some(blob),
                None => {
                    let blob = blob_of(context, path, &no)?;
                    content.into_iter().for_each(|content| names.add(content, blob));
                    Some(blob)
                }
            }
        }
        ListedKind::Folder | ListedKind::Link(_) => None,
    };
    let meta = entry.meta();
    Ok((Listed { path: text(path)?, kind, mode: meta.mode, mtime: meta.mtime }, blob))
}

fn blob_of(context: &Context, path: &[u8], no: &dyn Fn(&str) -> Diagnostic) -> Result<Blob, Diagnostic> {
    let read = || -> io::Result<Result<Blob, Diagnostic>> {
        let mut file = context.root().open_file(Path::new(std::ffi::OsStr::from_bytes(path)))?;
        if rustix::fs::fgetxattr(&file, "security.capability", &mut [0_u8; 64]).is_ok() {
            return Ok(Err(no("it has capabilities, which the protocol does not carry")));
        }
        let (mut hasher, mut size) = (Hasher::new(), 0);
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Ok(Blob { digest: hasher.finish(), size })),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    size += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    };
    let shown = String::from_utf8_lossy(path).into_owned();
    read().map_err(|e| Diagnostic::error(format!("cannot read `{shown}`: {e}")))?
}
