//! What can be wrong with an archive.

use std::io;

use super::block::BLOCK_BYTES;
use super::name::PATH_LIMIT;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream broke: it could not be read or decompressed, or it ends too early.
    #[error("cannot read the archive at byte {offset} of its uncompressed form: {source}")]
    Read {
        /// How far the uncompressed stream was read.
        offset: u64,
        /// What the reader or the decompressor said.
        source: io::Error,
    },
    /// An entry is malformed, or asks for something that no layer may hold.
    #[error("archive entry `{name}` (byte {offset}): {problem}")]
    Entry {
        /// The entry's name as it stands in the archive, lossy.
        name: String,
        /// Where its header begins in the uncompressed archive.
        offset: u64,
        /// What is wrong.
        problem: Problem,
    },
    /// The archive as a whole exceeds a bound.
    #[error("the archive has more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
}

impl Error {
    /// What is wrong with the entry `path`, whose data begin at `offset`; the header is the block before.
    pub(in crate::layer) fn of_entry(path: &[u8], offset: u64, problem: Problem) -> Self {
        let name = String::from_utf8_lossy(path).into_owned();
        Self::Entry { name, offset: offset.saturating_sub(BLOCK_BYTES as u64), problem }
    }

    /// The entry `path`, whose data begin at `offset`, leads through symlinks to a path of `len` bytes.
    pub fn too_long(path: &[u8], offset: u64, len: usize) -> Self {
        let (len, limit) = (len as u64, PATH_LIMIT as u64);
        Self::of_entry(path, offset, Problem::TooLong { what: "path", len, limit })
    }
}

/// What is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The header's checksum is not that of its bytes: this is no tar, or it is damaged.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// A number in the header is no number.
    #[error("the field `{0}` is no number")]
    Number(&'static str),
    /// A number is too large, or negative where it must not be.
    #[error("the field `{0}` is out of range")]
    Range(&'static str),
    /// A PAX extension header is malformed.
    #[error("its PAX extension is malformed")]
    Pax,
    /// An extension header or a name is longer than any reader accepts.
    #[error("its {what} of {len} bytes is longer than {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it is.
        len: u64,
        /// The bound.
        limit: u64,
    },
    /// The name is empty, or leads to the root itself, for something that is no directory.
    #[error("it has no name")]
    NoName,
    /// A name or link target with a NUL byte.
    #[error("its name or link target holds a NUL byte")]
    Nul,
    /// A whiteout of nothing, of `.` or of `..`, or a path that passes through the name of a whiteout.
    #[error("it misuses the reserved prefix `.wh.`")]
    Whiteout,
    /// The type is none that a root file system can hold.
    #[error("its type `{}` is not supported", char::from(*.0).escape_default())]
    Type(u8),
    /// A sparse file. No writer of layers makes them.
    #[error("it is a sparse file, which is not supported; archive it without --sparse")]
    Sparse,
    /// A character device 0/0, which overlayfs takes for a whiteout.
    #[error("it is a character device 0/0, which would act as a whiteout")]
    ZeroDevice,
    /// An extension header that describes an entry which never comes.
    #[error("the archive ends where this extension's entry should follow")]
    Dangling,
    /// Something that is no directory stands where its parent should be, in the same archive.
    #[error("its parent `{0}` is no directory")]
    ParentNoDirectory(String),
    /// A hard link to something that the archive does not hold, and no lower layer either.
    #[error("it is a hard link to `{0}`, which does not exist")]
    LinkTarget(String),
    /// The path passes more symlinks than the kernel would follow.
    #[error("its path passes too many symlinks")]
    SymlinkLoop,
}
