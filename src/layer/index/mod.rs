//! What one layer holds, without its contents: path to metadata and to the place of the data.
//!
//! An index is canonical. Duplicate entries are merged, hard links inside the layer are resolved to the file
//! they name, entries whose path passes a symlink of the same layer stand where they land. It depends on
//! nothing but the layer, so it is kept under the layer's [`DiffId`]; what depends on lower layers
//! (their symlinks, hard links into them, parents that no entry names) is the affair of
//! [`RootView`](super::view::RootView).

mod build;
mod direct;
mod file;

use std::io::Read;

pub(in crate::layer) use build::fail;
pub use build::{Builder, Link, Placement};
pub use file::Corrupt;

use super::archive::{self, Limits, Names, Reader, decompress};
use super::entry::Entry;
use super::pipeline;
use crate::oci::{DiffId, Seconds};

/// What one layer holds, sorted by path. Flat arrays: made once, loaded quickly, shared by `Arc`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    records: Vec<Flat>,
    heap: Vec<u8>,
}

/// A part of the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Span {
    start: u32,
    len: u32,
}

/// One record as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flat {
    path: Span,
    link: Span,
    xattrs: Span,
    tag: Tag,
    is_opaque: bool,
    has_links: bool,
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: Seconds,
    /// Bytes of a file; major and minor number of a device in the upper and lower half.
    size: u64,
    inode: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Directory,
    File,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
    Implied,
    LowerLink,
    Whiteout,
}

/// What a layer says about one path.
#[derive(Debug, Clone, Copy)]
pub struct Record<'i> {
    /// The path, canonical; empty only for an opaque root.
    pub path: &'i [u8],
    /// Whether what lower layers have *below* this path is gone. (Anything that is no directory hides it anyway.)
    pub is_opaque: bool,
    /// What is at the path.
    pub what: What<'i>,
}

/// What a layer has at a path.
#[derive(Debug, Clone, Copy)]
pub enum What<'i> {
    /// A file, directory and so on.
    Node(Node<'i>),
    /// A directory that no entry names: only its opaque mark is known. Its metadata is the lower layer's.
    Implied,
    /// A hard link to this path of a lower layer.
    LowerLink(&'i [u8]),
    /// Nothing: the path of lower layers is gone.
    Whiteout,
}

/// Metadata of something that exists.
#[derive(Debug, Clone, Copy)]
pub struct Node<'i> {
    /// What it is.
    pub kind: Kind<'i>,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// Owning user, by number.
    pub uid: u32,
    /// Owning group, by number.
    pub gid: u32,
    /// Modification time.
    pub mtime: Seconds,
    /// Extended attributes.
    pub xattrs: Xattrs<'i>,
    /// Equal for the names of one file, different for any two files of one layer: the offset of its
    /// first entry's data in the uncompressed tar.
    pub inode: u64,
    /// Whether the layer has other names for it.
    pub has_links: bool,
}

/// What a [`Node`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'i> {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Where they begin in the uncompressed tar.
        offset: u64,
    },
    /// A symlink and its target.
    Symlink(&'i [u8]),
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// Extended attributes: pairs of name and value, sorted by name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Xattrs<'i>(&'i [u8]);

/// What was learnt by streaming a layer once.
#[derive(Debug)]
pub struct ReadLayer {
    /// What it holds.
    pub index: Index,
    /// Digest of its uncompressed bytes.
    pub diff_id: DiffId,
    /// Number of its uncompressed bytes.
    pub uncompressed_bytes: u64,
}

impl Index {
    /// The index of a layer that is about to be, or was, written from `entries`; `offsets` are those of their
    /// data in the uncompressed tar. Both in the order written.
    pub fn from_entries(entries: &[Entry], offsets: &[u64]) -> Result<Self, archive::Error> {
        if direct::applies(entries) {
            return direct::index(entries, offsets);
        }
        let mut builder = Builder::new(Limits::default());
        for (entry, offset) in entries.iter().zip(offsets) {
            builder.add(build::member(entry, *offset))?;
        }
        builder.finish()
    }

    /// Reads a layer's blob, compressed or not, to its very end. Decompression, hashing and parsing run on
    /// threads of their own. The blob's own digest is not verified here; comparing the diff id is the
    /// caller's work.
    pub fn read(blob: impl Read + Send, limits: Limits) -> Result<ReadLayer, archive::Error> {
        let (index, diff_id, uncompressed_bytes) = pipeline::run(blob, |stream| {
            let mut reader = Reader::new(stream, Names::Layer, limits);
            let mut builder = Builder::new(limits);
            while let Some(member) = reader.next_member()? {
                builder.add(member)?;
            }
            reader.finish()?;
            builder.finish()
        })?;
        Ok(ReadLayer { index, diff_id, uncompressed_bytes })
    }

    /// Reads an uncompressed layer on this thread alone, without hashing it; for a file that is at hand.
    pub fn read_unhashed(blob: impl Read, limits: Limits) -> Result<Self, archive::Error> {
        let decoder = decompress(blob).map_err(|source| archive::Error::Read { offset: 0, source })?;
        let mut reader = Reader::new(decoder, Names::Layer, limits);
        let mut builder = Builder::new(limits);
        while let Some(member) = reader.next_member()? {
            builder.add(member)?;
        }
        builder.finish()
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the layer changes nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record number `at` in path order. Panics if there is none.
    pub fn record(&self, at: usize) -> Record<'_> {
        let flat = &self.records[at];
        let what = match flat.tag {
            Tag::Implied => What::Implied,
            Tag::LowerLink => What::LowerLink(self.bytes(flat.link)),
            Tag::Whiteout => What::Whiteout,
            tag => What::Node(self.node(flat, tag)),
        };
        Record { path: self.bytes(flat.path), is_opaque: flat.is_opaque, what }
    }

    /// The path of record number `at`. Panics if there is none.
    pub fn path(&self, at: usize) -> &[u8] {
        self.bytes(self.records[at].path)
    }

    /// All records in byte order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.len()).map(|at| self.record(at))
    }

    /// The number of the record at `path`.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        self.records.binary_search_by(|flat| self.bytes(flat.path).cmp(path)).ok()
    }

    fn bytes(&self, span: Span) -> &[u8] {
        &self.heap[span.start as usize..][..span.len as usize]
    }

    fn node(&self, flat: &Flat, tag: Tag) -> Node<'_> {
        let (major, minor) = ((flat.size >> 32) as u32, flat.size as u32);
        let kind = match tag {
            Tag::File => Kind::File { size: flat.size, offset: flat.inode },
            Tag::Symlink => Kind::Symlink(self.bytes(flat.link)),
            Tag::Fifo => Kind::Fifo,
            Tag::CharDevice => Kind::CharDevice { major, minor },
            Tag::BlockDevice => Kind::BlockDevice { major, minor },
            Tag::Directory | Tag::Implied | Tag::LowerLink | Tag::Whiteout => Kind::Directory,
        };
        Node {
            kind,
            mode: u32::from(flat.mode),
            uid: flat.uid,
            gid: flat.gid,
            mtime: flat.mtime,
            xattrs: Xattrs(self.bytes(flat.xattrs)),
            inode: flat.inode,
            has_links: flat.has_links,
        }
    }
}

impl<'i> Xattrs<'i> {
    /// No attributes.
    pub const NONE: Self = Self(&[]);

    /// The pairs.
    pub fn iter(self) -> impl Iterator<Item = (&'i [u8], &'i [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (pair, after) = split_pair(rest)?;
            rest = after;
            Some(pair)
        })
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// As the map that an [`Entry`] wants.
    pub fn to_map(self) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
        self.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }
}

type Pair<'i> = (&'i [u8], &'i [u8]);

/// Takes one attribute off the front: two lengths in four bytes each, name, value.
fn split_pair(bytes: &[u8]) -> Option<(Pair<'_>, &[u8])> {
    let (name_len, rest) = bytes.split_first_chunk::<4>()?;
    let (value_len, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_len) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
    Some(((name, value), rest))
}

#[cfg(test)]
mod tests;
