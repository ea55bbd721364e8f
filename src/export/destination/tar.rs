//! The files of an image as one tar, owners as in the image.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sink::OpenSink;
use crate::export::Error;
use crate::export::beside::{self, Written};
use crate::export::files::{Files, Roots};
use crate::layer::entry::{Content, Entry, EntryKind};
use crate::layer::view::{Kind, ViewEntry};
use crate::layer::{self, Compression, WriteOptions};
use crate::oci::Seconds;
use crate::store::Store;

/// Writes the files of `roots` to `sink`: by path, so that equal images give equal bytes. Contents pass
/// through a temporary file in the store, because layers hold them in another order. The documents take the place of files that are called the
/// same. All have `time`, if there is one.
pub(in crate::export) fn write(
    store: &Store,
    (roots, written): (&Roots, &[Written]),
    time: Option<Seconds>,
    sink: &mut OpenSink,
) -> Result<(), Error> {
    let scratch = store.scratch_dir()?;
    let mut spool = Spool::create(&scratch.path().join("contents"))?;
    let mut entries = Vec::new();
    let mut directories = HashSet::new();
    for (folder, files) in roots {
        let folder = folder.as_os_str().as_bytes();
        if !folder.is_empty() {
            entries.push(directory(folder));
        }
        let contents = spool.fill(store, files)?;
        for found in files.view.walk(b"") {
            let entry = entry(folder, &found, &contents);
            // Without folders of their own, the directories of two images meet.
            if !found.is_dir() || directories.insert(entry.path.clone()) {
                entries.push(entry);
            }
        }
    }
    for Written { path, time, bytes } in written {
        let path = path.as_os_str().as_bytes();
        entries.retain(|entry| entry.path != path);
        entries.push(document(path, *time, bytes));
    }
    if let Some(time) = time {
        entries.iter_mut().for_each(|entry| entry.mtime = time);
    }
    let options = WriteOptions { compression: Compression::None };
    layer::write(entries, &options, sink.file()).map_err(|source| match source {
        layer::WriteError::Sink(source) => sink.error(source),
        source => Error::Archive { source },
    })?;
    Ok(())
}

/// What is known of a regular file by layer and inode: its first name, and where its content is.
type Contents = HashMap<(usize, u64), (Vec<u8>, Content)>;

/// One file with the contents of many.
struct Spool {
    path: PathBuf,
    file: Arc<File>,
    end: u64,
}

impl Spool {
    fn create(path: &Path) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|e| crate::store::Error::io("create", path, e))?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), end: 0 })
    }

    fn fill(&mut self, store: &Store, files: &Files) -> Result<Contents, Error> {
        let mut contents = Contents::new();
        files.each_file(store, |names, content| {
            let len = io::copy(content, &mut &*self.file);
            let len = len.map_err(|e| crate::store::Error::io("write", &self.path, e))?;
            let slice = Content::Slice { file: self.file.clone(), offset: self.end, len };
            self.end += len;
            if let Some(inode) = names[0].inode() {
                contents.insert(inode, (names[0].path.to_vec(), slice));
            }
            Ok(())
        })?;
        Ok(contents)
    }
}

fn document(path: &[u8], mtime: Seconds, bytes: &[u8]) -> Entry {
    let kind = EntryKind::File(Content::Bytes(bytes.to_vec().into()));
    Entry { kind, mode: beside::MODE, mtime, ..directory(path) }
}

fn directory(path: &[u8]) -> Entry {
    Entry {
        path: path.to_vec(),
        kind: EntryKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: std::collections::BTreeMap::new(),
    }
}

fn entry(folder: &[u8], found: &ViewEntry<'_>, contents: &Contents) -> Entry {
    let below = |path: &[u8]| if folder.is_empty() { path.to_vec() } else { [folder, b"/", path].concat() };
    let content = found.inode().and_then(|inode| contents.get(&inode));
    let kind = match (found.node.kind, content) {
        (Kind::Directory, _) => EntryKind::Directory,
        (Kind::File { .. }, Some((first, content))) if *first == found.path => {
            EntryKind::File(content.clone())
        }
        (Kind::File { .. }, Some((first, _))) => EntryKind::HardLink(below(first)),
        (Kind::File { .. }, None) => unreachable!("`each_file` gives every file or fails"),
        (Kind::Symlink(target), _) => EntryKind::Symlink(target.to_vec()),
        (Kind::Fifo, _) => EntryKind::Fifo,
        (Kind::CharDevice { major, minor }, _) => EntryKind::CharDevice { major, minor },
        (Kind::BlockDevice { major, minor }, _) => EntryKind::BlockDevice { major, minor },
    };
    Entry {
        path: below(found.path),
        kind,
        mode: found.node.mode,
        uid: found.node.uid,
        gid: found.node.gid,
        mtime: found.node.mtime,
        xattrs: found.node.xattrs.to_map(),
    }
}
