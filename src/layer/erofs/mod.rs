//! A layer as one file that the kernel mounts: an EROFS image around the layer's own tar.
//!
//! ```text
//! 0          4096              a multiple of 512
//! superblock | the tar, byte for byte | inodes | directories, long symlinks
//! ```
//!
//! Blocks have 512 bytes, as those of a tar have: so a file's data need not be moved, its inode says where in the
//! tar they begin. What is in the image is what [`unpack`](super::unpack) would make a tree of, to be stacked by
//! overlayfs in the same way: deleted paths are devices 0/0, directories that hide lower ones carry a mark.
//!
//! Left out of the format: compression, compact inodes, shared attributes, checksums. A few layers cannot be
//! told by metadata alone and are [`Unfit`]; they are unpacked instead. The format is told in the kernel's
//! `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h`.

mod contents;
mod directory;
mod inode;
mod superblock;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

pub use self::verify::is_whole;
use self::writer::{Tee, WriteFailed};
use super::archive::{self, Limits, Names, Reader};
use super::index::{Builder, Index, Link};
use super::pipeline;
use super::view::RootView;
use crate::oci::DiffId;

const BLOCK_BITS: u8 = 9;
const BLOCK_BYTES: u64 = 1 << BLOCK_BITS;
/// What stands before the tar: a page, so that the tar's pages are those of the image.
const HEAD_BYTES: u64 = 4096;

/// What packing gave.
#[derive(Debug)]
pub struct Packed {
    /// What the layer holds.
    pub index: Arc<Index>,
    /// Digest of its uncompressed bytes; comparing it with the expected one is the caller's work.
    pub diff_id: DiffId,
}

/// Why a layer was not packed. The file holds a part of an image and is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The archive is at fault.
    #[error(transparent)]
    Archive(archive::Error),
    /// The image could not be written.
    #[error("cannot write an image of the layer: {0}")]
    Write(#[from] io::Error),
    /// The layer is sound, but no image can stand for its tree.
    #[error("no image can be made of the layer: {0}")]
    Unfit(#[from] Unfit),
}

/// Why a layer needs a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The bytes of a file are in another layer.
    #[error("it has a hard link to a file of a lower layer")]
    LowerLink,
    /// Which of two entries stays depends on the layers below.
    #[error("its paths pass symbolic links of lower layers")]
    MovedBelow,
    /// overlayfs does not ask whether the root of a layer is opaque.
    #[error("it hides all that lower layers have")]
    OpaqueRoot,
    /// Something lies below what is no directory.
    #[error("a path in it has a parent that is no directory")]
    NoParent,
    /// An attribute that only the kernel can set, or that is too long.
    #[error("it has the attribute `{0}`")]
    Attribute(String),
    /// A device number beyond those of the kernel.
    #[error("it has a device {major}:{minor}")]
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// More blocks than 32 bits can count: 2 TiB.
    #[error("it is too large")]
    TooLarge,
}

impl From<archive::Error> for PackError {
    /// Reading fails also when what was read could not be written.
    fn from(error: archive::Error) -> Self {
        match error {
            archive::Error::Read { source, offset } => match source.downcast::<WriteFailed>() {
                Ok(WriteFailed(error)) => Self::Write(error),
                Err(source) => Self::Archive(archive::Error::Read { source, offset }),
            },
            error => Self::Archive(error),
        }
    }
}

/// Writes the image of a layer's blob, compressed or not, into the empty `file`; it is to be mounted over the layers
/// of `below`. Decompression and hashing run on threads of their own; the index is made in the same pass. Nothing
/// is synced to disk. Equal layers on equal roots give equal bytes.
pub fn pack(
    blob: impl Read + Send,
    file: &File,
    below: &RootView,
    limits: Limits,
) -> Result<Packed, PackError> {
    let ((index, tar_bytes), diff_id, _) = pipeline::run_with(blob, |stream| {
        let mut reader = Reader::new(Tee::new(stream, file), Names::Layer, limits);
        let mut builder = Builder::new(limits);
        while let Some(member) = reader.next_member()? {
            let placement = builder.add(member)?;
            if let Some(Link::Lower(_)) = placement.link {
                return Err(Unfit::LowerLink.into());
            }
        }
        let tar_bytes = reader.finish()?;
        Ok::<_, PackError>((Arc::new(builder.finish()?), tar_bytes))
    })?;
    let merged = below.push(Arc::clone(&index));
    let inodes = contents::inodes(below, &index, &merged)?;
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&diff_id.0.as_bytes()[..16]);
    writer::finish(file, &inodes, tar_bytes, uuid)?;
    Ok(Packed { index, diff_id })
}
