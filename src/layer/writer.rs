//! Writes a layer blob from entries, on all processors, with the same bytes on every machine.
//!
//! The headers are settled before any file is opened, so the place of every byte in the tar is known
//! from the start. The tar is cut into segments that follow from the entries alone; threads fill and
//! compress them in any order, and the calling thread writes them in theirs. A blob is not stored
//! here, and what the entries mean is not known here.

mod fill;
mod layout;
mod memory;
mod order;
mod pieces;
mod pipeline;
mod stargz;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

pub(super) use memory::Place;
pub use memory::{Remembered, Segments};
pub(super) use stargz::TABLE_ANNOTATION;

use super::compress::{CompressError, Compression};
use super::entry::Entry;
use crate::oci::{DiffId, Digest};
use crate::tripwire::{Found, Scanner};

/// How to write a layer. Everything in here changes the blob's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// The blob's compression.
    pub compression: Compression,
}

/// A layer that was written: what is in it, where, and its identities.
#[derive(Debug, Clone)]
pub struct Written {
    /// Identity of the tar.
    pub diff_id: DiffId,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Size of the tar in bytes.
    pub uncompressed_size: u64,
    /// What the blob's descriptor says beside its type, digest and size.
    pub annotations: BTreeMap<String, String>,
    /// For each of `entries`, where its content begins in the tar (for those without: the end of its header).
    pub data_offsets: Vec<u64>,
    /// The entries as written: sorted, and of several names for one file the first holds the content.
    pub entries: Vec<Entry>,
    /// What a later layer can take from this one; empty unless [`write_remembering`] was asked.
    pub segments: Segments,
    /// What a scanner found in it, each once.
    pub found: Vec<Found>,
}

/// Why a layer could not be written. Paths are those in the layer, shown losslessly as far as they are UTF-8.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An empty path or component, `.`, `..`, a zero byte, or a component of more than 255 bytes.
    #[error("`{0}` is no path inside a layer")]
    BadPath(String),
    /// A name beginning with `.wh.`, which every reader would take for a whiteout.
    #[error(
        "`{0}`: names beginning with `.wh.` mean deleted files in a layer, so this file cannot be in one"
    )]
    ReservedName(String),
    /// Two entries of one path.
    #[error("`{0}` is in the layer twice")]
    Duplicate(String),
    /// Something below a path that the layer has as something else than a directory.
    #[error("`{path}` lies below `{parent}`, which is no directory")]
    NotBelowDirectory {
        /// What lies below.
        path: String,
        /// What should be a directory.
        parent: String,
    },
    /// A symlink's target is empty or has a zero byte.
    #[error("`{0}`: a symlink with this target cannot be made")]
    BadTarget(String),
    /// A hard link to something that is not in the layer, or is a directory.
    #[error("`{path}` is a hard link to `{target}`, which is no file of the same layer")]
    BadHardLink {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// An extended attribute whose name tar cannot hold.
    #[error("`{path}`: the extended attribute `{name}` cannot be written")]
    BadXattr {
        /// The entry.
        path: String,
        /// The attribute.
        name: String,
    },
    /// A device number beyond what Linux has.
    #[error("`{0}`: no such device number")]
    BadDevice(String),
    /// A file could not be read.
    #[error("cannot read `{source_path}` for `{path}`: {error}")]
    Read {
        /// The entry.
        path: String,
        /// The file below its root.
        source_path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A scratch file with the content could not be read.
    #[error("cannot read the content of `{path}` back: {error}")]
    ReadScratch {
        /// The entry.
        path: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A file is not what the scan saw.
    #[error("`{source_path}` changed while it was being copied to `{path}`")]
    Changed {
        /// The entry.
        path: String,
        /// The file below its root.
        source_path: PathBuf,
    },
    /// A file looks as it did when its digest was taken, and holds something else.
    #[error(
        "`{source_path}` does not hold what it held when it was looked at, though its size and times are the same; \
         `touch` it and build again"
    )]
    Unlike {
        /// The file below its root.
        source_path: PathBuf,
    },
    /// The name that eStargz wants for its table.
    #[error(
        "`stargz.index.json` cannot be at the root of an eStargz layer, whose table has that name; \
         use another compression"
    )]
    TableName,
    /// A path, a symlink's target or an attribute's name that JSON has no words for.
    #[error("`{0}`: an eStargz layer cannot tell names that are not UTF-8; use another compression")]
    NotUnicode(String),
    /// Compression failed.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// The sink failed.
    #[error("cannot write the layer: {0}")]
    Sink(#[source] io::Error),
}

/// Writes `entries`, in any order, as one layer to `sink`.
///
/// Whiteouts come first, opaque ones before all, because readers that apply entries in order would
/// drop siblings written before them; the rest follows by path bytes, so that parents precede
/// children. Of several names for one file the first by that order holds the content.
///
/// Uses the threads of the current rayon pool's number, and at most a few MiB for each of them. On an
/// error the sink may have received a part.
pub fn write(
    entries: Vec<Entry>,
    options: &WriteOptions,
    sink: &mut impl Write,
) -> Result<Written, WriteError> {
    write_as(entries, options, (Memory::Off, None), sink)
}

/// Writes what [`write()`] writes, and lets `scanner` search all of it on the way.
pub fn write_watched(
    entries: Vec<Entry>,
    options: &WriteOptions,
    scanner: Option<&Scanner>,
    sink: &mut impl Write,
) -> Result<Written, WriteError> {
    write_as(entries, options, (Memory::Off, scanner), sink)
}

/// Writes what [`write()`] writes, to the byte; but segments that `earlier` has are taken from there instead of being compressed, and
/// [`Written::segments`] tells what the next layer can take from this one. Where the digests of their files are known,
/// they are not even read: those before the first that is another are copied, and those after it decompressed, as the
/// tar has to be hashed.
///
/// `scanner` searches what is not copied, and copies nothing while it knows values, which may be others than when `earlier` was written.
pub fn write_remembering(
    entries: Vec<Entry>,
    options: &WriteOptions,
    (earlier, scanner): (Option<&Remembered>, Option<&Scanner>),
    sink: &mut impl Write,
) -> Result<Written, WriteError> {
    write_as(entries, options, (Memory::On { earlier }, scanner), sink)
}

/// Whether segments are remembered.
#[derive(Clone, Copy)]
enum Memory<'m> {
    Off,
    On { earlier: Option<&'m Remembered> },
}

fn write_as(
    entries: Vec<Entry>,
    options: &WriteOptions,
    (memory, scanner): (Memory<'_>, Option<&Scanner>),
    sink: &mut impl Write,
) -> Result<Written, WriteError> {
    options.compression.check()?;
    let entries = order::arrange(entries)?;
    let mut layout = layout::plan(&entries);
    if let Compression::Estargz { .. } = options.compression {
        stargz::check(&entries)?;
        layout.segments = stargz::segments(&entries, &layout);
    }
    let identity = pipeline::run(&entries, &layout, options.compression, (memory, scanner), sink)?;
    let found =
        scanner.map_or_else(Vec::new, |scanner| watch::found(scanner, identity.hits, &layout, &entries));
    let uncompressed_size = layout.size + identity.table.map_or(0, |table| table.raw_bytes);
    let annotations = identity.table.map(|table| stargz::annotations(table.digest, uncompressed_size));
    Ok(Written {
        diff_id: DiffId(identity.raw),
        digest: identity.packed,
        size: identity.packed_size,
        uncompressed_size,
        annotations: annotations.unwrap_or_default(),
        data_offsets: layout.data_offsets,
        entries,
        segments: identity.segments,
        found,
    })
}

/// A path for a message.
fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
