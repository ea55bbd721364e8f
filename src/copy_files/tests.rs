//! Instructions over small trees: text in, a listing of the layer (or the error) out.
#![allow(clippy::unwrap_used)]

mod archives;
mod mounted;
mod placing;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::tree::{LayerBytes, LayerTree, Range};
use super::*;
use crate::context::{Context, ignore};
use crate::layer::entry::{Content, Entry, EntryKind};
use crate::layer::index::Index;
use crate::layer::view::RootView;
use crate::plan::graph::{Chmod, CopyKind, CopyOp, CopySource, StepId};

/// Layers in memory: a file's offset is its number.
struct Memory(Vec<Vec<u8>>);

impl LayerBytes for Memory {
    fn digests(&self, _: &RootView, wanted: &[Range]) -> io::Result<Vec<[u8; 32]>> {
        Ok(wanted.iter().map(|range| *blake3::hash(&self.0[range.offset as usize]).as_bytes()).collect())
    }

    fn contents(&self, wanted: &[Range]) -> io::Result<Vec<Content>> {
        let content = |range: &Range| Content::Bytes(self.0[range.offset as usize].as_slice().into());
        Ok(wanted.iter().map(content).collect())
    }
}

/// `dir/`, `file=text`, `link->target`, `name=>other` (hard link); `@MODE:UID:GID` may follow a name.
struct Line<'l> {
    path: &'l str,
    mode: Option<u32>,
    owner: (u32, u32),
    what: &'l str,
}

fn parse(line: &str) -> Line<'_> {
    let end = line.find(['=']).or(line.find("->")).unwrap_or(line.len());
    let (head, what) = line.split_at(end);
    let (path, attributes) = head.split_once('@').unwrap_or((head, ""));
    let mut numbers = attributes.trim_end_matches('/').split(':');
    let mode = numbers.next().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let mut id = || numbers.next().map_or(0, |id| id.parse().unwrap());
    Line { path, mode, owner: (id(), id()), what }
}

/// A root made of one layer.
fn image(lines: &[&str]) -> FileTree {
    let mut texts = Vec::new();
    let mut entries = Vec::new();
    for line in lines {
        let Line { path, mode, owner: (uid, gid), what } = parse(line);
        let kind = if let Some(target) = what.strip_prefix("=>") {
            EntryKind::HardLink(target.into())
        } else if let Some(target) = what.strip_prefix("->") {
            EntryKind::Symlink(target.into())
        } else if let Some(text) = what.strip_prefix('=') {
            EntryKind::File(Content::Bytes(text.as_bytes().into()))
        } else {
            EntryKind::Directory
        };
        texts.push(what.trim_start_matches('=').as_bytes().to_vec());
        let mode = mode.unwrap_or(if matches!(kind, EntryKind::Directory) { 0o755 } else { 0o644 });
        let path = path.trim_end_matches('/').as_bytes().to_vec();
        entries.push(Entry { path, kind, mode, uid, gid, mtime: 500, xattrs: Default::default() });
    }
    let offsets: Vec<u64> = (0..entries.len() as u64).collect();
    let index = Index::from_entries(&entries, &offsets).unwrap();
    FileTree::Layers(LayerTree { view: RootView::new(vec![Arc::new(index)]), bytes: Arc::new(Memory(texts)) })
}

/// A folder; every mtime is 1000, or that of `times`.
fn folder(dir: &Path, lines: &[&str]) {
    for line in lines {
        let Line { path, mode, what, .. } = parse(line);
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = what.strip_prefix("=>") {
            fs::hard_link(dir.join(target), &path).unwrap();
        } else if let Some(target) = what.strip_prefix("->") {
            symlink(target, &path).unwrap();
        } else if let Some(text) = what.strip_prefix('=') {
            fs::write(&path, text).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        } else {
            fs::create_dir_all(&path).unwrap();
        }
        if !what.starts_with("->") {
            let default = if path.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode.unwrap_or(default))).unwrap();
        }
    }
}

fn context(dir: &Path) -> FileTree {
    let ignore = ignore::load(dir, None).unwrap();
    FileTree::Context(Arc::new(Context::open(dir, ignore, None).unwrap()))
}

/// Parses an instruction of a test: `COPY --flags a <<NAME b /dest`.
fn op(text: &str) -> CopyOp {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let kind = if words.remove(0) == "ADD" { CopyKind::Add } else { CopyKind::Copy };
    let mut op = CopyOp {
        kind,
        sources: Vec::new(),
        destination: words.pop().unwrap().to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        excludes: Vec::new(),
        unpack: None,
        checksum: None,
        keep_git_dir: false,
        epoch: None,
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("--chown", owner) => op.chown = Some(owner.to_owned()),
            ("--chmod", mode) => {
                let octal = u32::from_str_radix(mode, 8).map(Chmod::Octal);
                op.chmod = Some(octal.unwrap_or_else(|_| Chmod::Symbolic(mode.to_owned())));
            }
            ("--link", _) => op.link = true,
            ("--parents", _) => op.parents = true,
            ("--exclude", pattern) => op.excludes.push(pattern.to_owned()),
            ("--unpack", value) => op.unpack = Some(value != "false"),
            ("--epoch", value) => op.epoch = value.parse().ok(),
            _ => op.sources.push(match word.strip_prefix("<<") {
                Some(name) => CopySource::Inline { name: name.to_owned(), content: format!("{name} text") },
                None => CopySource::Path { from: StepId(0), pattern: word.to_owned(), span: None },
            }),
        }
    }
    op
}

/// The sources of an instruction, paths being those of `tree`.
fn sources<'o>(op: &'o CopyOp, tree: &FileTree) -> Vec<Source<'o>> {
    let source = |source: &'o CopySource| match source {
        CopySource::Path { pattern, span, .. } => Source::Path { tree: tree.clone(), pattern, span: *span },
        CopySource::Inline { name, content } => Source::Inline { name, content },
        CopySource::Url { .. } | CopySource::Git { .. } => panic!("nothing is fetched here"),
    };
    op.sources.iter().map(source).collect()
}

/// Runs an instruction on files of `source`.
fn run(instruction: &str, source: &FileTree, parent: &FileTree) -> Result<Outcome, Error> {
    let op = op(instruction);
    let accounts = |file: &str| {
        Ok(match (parent.entry(file.as_bytes()).unwrap().is_some(), file) {
            (false, _) => None,
            (true, "etc/passwd") => Some(b"app:x:1000:1000::/:/bin/sh\n".to_vec()),
            (true, _) => Some(b"staff:x:50:\n".to_vec()),
        })
    };
    let scratch = || tempfile::tempfile();
    let destination = Destination { parent, parent_time: 700, accounts: &accounts, scratch: &scratch };
    copy_into(&select(&op, &sources(&op, source))?, &op, &destination)
}

/// One line for each entry: `path mode uid:gid text`; an mtime other than 1000 (files) or 1000 as the step's
/// time (directories) is shown.
fn listing(outcome: &Result<Outcome, Error>) -> Vec<String> {
    match outcome {
        Err(error) => vec![format!("error: {error}")],
        Ok(outcome) => outcome.entries.iter().map(line).collect(),
    }
}

fn line(entry: &Entry) -> String {
    let Entry { path, kind, mode, uid, gid, .. } = entry;
    let path = String::from_utf8_lossy(path);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match kind {
        EntryKind::Directory => format!("{path}/ {mode:o} {uid}:{gid}"),
        EntryKind::File(content) => format!("{path} {mode:o} {uid}:{gid} {}", text(&read(content))),
        EntryKind::Symlink(target) => format!("{path} -> {} {uid}:{gid}", text(target)),
        EntryKind::HardLink(target) => format!("{path} => {}", text(target)),
        EntryKind::OpaqueWhiteout => format!("{path} opaque"),
        other => format!("{path} {mode:o} {uid}:{gid} {other:?}"),
    }
}

fn read(content: &Content) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    match content {
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::Slice { file, offset, len } => {
            let mut bytes = vec![0; *len as usize];
            file.read_exact_at(&mut bytes, *offset).unwrap();
            bytes
        }
        Content::Disk(file) => {
            let file = file.file();
            let fd = rustix::fs::openat(
                &file.root,
                &file.path,
                rustix::fs::OFlags::RDONLY,
                rustix::fs::Mode::empty(),
            );
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut fs::File::from(fd.unwrap()), &mut bytes).unwrap();
            bytes
        }
    }
}
