//! Archives that ADD unpacks: recognised by content, read once, their data kept in a scratch file.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;

use super::Error;
use super::error::shown;
use super::tree::{Bytes, FileTree, Item, ItemKind};
use crate::context::scan::as_path;
use crate::context::{FileDigest, Meta};
use crate::layer::archive::{self, Limits, Member, Names, Reader, Streams};
use crate::layer::entry::Content;

/// Makes an empty file, open for reading and writing, that goes away when it is closed.
pub type Scratch<'a> = dyn Fn() -> io::Result<File> + 'a;

/// The members of an archive, and all of its uncompressed bytes.
pub(super) struct Unpacked {
    pub(super) members: Vec<Member>,
    pub(super) bytes: Data,
}

/// The uncompressed bytes of an archive.
pub(super) struct Data(Arc<File>);

impl Data {
    /// The data of a regular file of `size` bytes.
    pub(super) fn content(&self, offset: u64, size: u64) -> Content {
        Content::Slice { file: Arc::clone(&self.0), offset, len: size }
    }
}

/// Whether the regular file at `path` is a tar, compressed or not. Files of images never are taken for one: ADD
/// knows local files only.
pub(super) fn is_archive(tree: &FileTree, path: &[u8], item: &Item) -> Result<bool, Error> {
    match (open(tree, path).transpose(), &item.kind) {
        (Some(file), ItemKind::File(_)) => {
            Ok(archive::is_archive(file.map_err(|source| failed(path, source))?))
        }
        _ => Ok(false),
    }
}

/// Reads a whole archive. The file must be what it was when it was selected, before and after, and hold what its digest
/// says, which is what the step's key holds.
pub(super) fn unpack(
    tree: &FileTree,
    path: &[u8],
    (item, digest): (&Item, &FileDigest),
    scratch: &Scratch<'_>,
) -> Result<Unpacked, Error> {
    let fail = |source| failed(path, source);
    let Some(file) = open(tree, path).map_err(fail)? else {
        return Err(fail(io::ErrorKind::NotFound.into()));
    };
    check_unchanged(&file, path, item)?;
    let bytes = scratch().map_err(fail)?;
    let mut hashed = Hashed { reader: &file, hasher: blake3::Hasher::new() };
    let decoder = Streams::new(&mut hashed).map_err(fail)?;
    let mut copied = Copied { reader: decoder, copy: BufWriter::with_capacity(1 << 20, bytes) };
    let members = read_members(&mut copied).map_err(|source| Error::Archive { path: shown(path), source })?;
    let bytes = copied.copy.into_inner().map_err(|error| fail(error.into_error()))?;
    // What stands behind the archive counts, too.
    io::copy(&mut hashed, &mut io::sink()).map_err(fail)?;
    check_unchanged(&file, path, item)?;
    if *hashed.hasher.finalize().as_bytes() != digest.content {
        return Err(Error::Unlike { path: shown(path) });
    }
    Ok(Unpacked { members, bytes: Data(Arc::new(bytes)) })
}

fn read_members(stream: impl Read) -> Result<Vec<Member>, archive::Error> {
    let mut reader = Reader::new(stream, Names::Literal, Limits::default());
    let mut members = Vec::new();
    while let Some(member) = reader.next_member()? {
        members.push(member);
    }
    // The data of the last member.
    reader.finish()?;
    Ok(members)
}

fn open(tree: &FileTree, path: &[u8]) -> io::Result<Option<File>> {
    match tree {
        FileTree::Context(context) => context.root().open_file(as_path(path)).map(Some),
        FileTree::Layers(_) => Ok(None),
    }
}

fn check_unchanged(file: &File, path: &[u8], item: &Item) -> Result<(), Error> {
    let now = rustix::fs::fstat(file).map_err(|errno| failed(path, errno.into()))?;
    match &item.kind {
        ItemKind::File(Bytes::Disk(seen)) if Meta::from(&now) != seen.entry().meta() => {
            Err(crate::context::Error::Changed { path: as_path(path).to_owned() }.into())
        }
        _ => Ok(()),
    }
}

fn failed(path: &[u8], source: io::Error) -> Error {
    Error::Io { path: shown(path), source }
}

/// Hashes what is read.
struct Hashed<R> {
    reader: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(into)?;
        self.hasher.update(&into[..len]);
        Ok(len)
    }
}

/// Keeps a copy of what is read.
struct Copied<R> {
    reader: R,
    copy: BufWriter<File>,
}

impl<R: Read> Read for Copied<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(into)?;
        self.copy.write_all(&into[..len])?;
        Ok(len)
    }
}
