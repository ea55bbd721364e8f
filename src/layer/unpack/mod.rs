//! A layer's blob to a directory tree that overlayfs can use as a lower directory.
//!
//! The tree belongs to the layer *on a given root*: directories that the tar does not name get the metadata
//! they have below, paths through lower symlinks land where those lead, hard links to lower files become
//! copies. Every path is opened beneath the destination and without following symlinks, whatever the archive
//! says; what an archive may do at worst is to waste space inside the destination.
//!
//! Nothing is synced to disk. The destination should be empty.

mod finish;
mod stream;
mod tree;

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::archive::{self, Limits, Names, Reader};
use super::index::{Builder, Index};
use super::pipeline;
use super::view::{RootView, ViewEntry};
use crate::oci::DiffId;
use crate::rootfs::Root;
use finish::Finished;
use stream::Unpacker;

/// How to unpack.
#[derive(Debug, Clone, Copy)]
pub struct UnpackOptions {
    /// Whether files get their owners.
    pub owners: Owners,
    /// The attribute that marks opaque directories.
    pub opaque: OpaqueMark,
    /// Bounds on the archive.
    pub limits: Limits,
}

/// Whether files get their owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owners {
    /// `chown`, as root or in a user namespace that maps all ids needed.
    Apply,
    /// Everything belongs to whoever unpacks, because there is but one id; whose it is otherwise is written down
    /// beside it (see [`crate::rootfs::RecordedOwner`]), and devices become empty files that say so.
    Record,
}

/// The attribute that marks a directory as opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpaqueMark {
    /// `trusted.overlay.opaque`: for overlays mounted by root.
    Trusted,
    /// `user.overlay.opaque`: for overlays mounted with `userxattr`.
    User,
}

impl OpaqueMark {
    /// Its name.
    pub fn xattr(self) -> &'static str {
        match self {
            OpaqueMark::Trusted => "trusted.overlay.opaque",
            OpaqueMark::User => "user.overlay.opaque",
        }
    }
}

/// What unpacking gave.
#[derive(Debug)]
pub struct Unpacked {
    /// What the layer holds.
    pub index: Arc<Index>,
    /// The root below with this layer on top.
    pub view: RootView,
    /// Digest of its uncompressed bytes; comparing it with the expected one is the caller's work.
    pub diff_id: DiffId,
    /// Number of its uncompressed bytes.
    pub uncompressed_bytes: u64,
    /// What the tree lacks of what the layer has.
    pub notes: Vec<Note>,
    /// What the layer hides of the layers below although the tree cannot say so, as paths in it: overlayfs lets nobody
    /// make its marks. What the tree itself has at such a path stays.
    pub hidden: Vec<Vec<u8>>,
}

/// Something that could not be put into the tree, which is no reason to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A device that may not be made here: in a user namespace there are none.
    Device {
        /// Its path.
        path: Vec<u8>,
    },
    /// An attribute that the file system or the kernel does not take here.
    Xattr {
        /// The file.
        path: Vec<u8>,
        /// The attribute.
        name: Vec<u8>,
    },
}

/// Why a layer was not unpacked. The destination holds a part of it and is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is at fault.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// The file system refused something.
    #[error("cannot {action} `/{path}`: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The path in the image, lossy.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// An owner that has no id here: in a user namespace, the subordinate ids do not reach that far.
    #[error(
        "cannot give `/{path}` to {uid}:{gid}: not enough subordinate ids in /etc/subuid and /etc/subgid"
    )]
    Owner {
        /// The path in the image, lossy.
        path: String,
        /// The owner asked for.
        uid: u32,
        /// The group asked for.
        gid: u32,
    },
}

/// Opens a regular file of the root below, for a hard link into it. The entry is that of the file.
pub type OpenLower<'o> = dyn FnMut(&ViewEntry<'_>) -> io::Result<File> + 'o;

/// Unpacks a layer's blob, compressed or not, into `dest`, to be mounted over the layers of `below`.
/// Decompression and hashing run on threads of their own; the index is made in the same pass.
pub fn unpack(
    blob: impl Read + Send,
    dest: &Root,
    below: &RootView,
    options: &UnpackOptions,
    open_lower: &mut OpenLower<'_>,
) -> Result<Unpacked, UnpackError> {
    let (Finished { index, view, notes, hidden }, diff_id, uncompressed_bytes) =
        pipeline::run_with(blob, |stream| {
            let mut reader = Reader::new(stream, Names::Layer, options.limits);
            let mut builder = Builder::new(options.limits);
            let mut unpacker = Unpacker::new(dest, below, *options);
            while let Some(member) = reader.next_member()? {
                let placement = builder.add(member.clone())?;
                unpacker.apply(&member, &placement, &builder, &mut reader, open_lower)?;
            }
            reader.finish()?;
            let index = Arc::new(builder.finish()?);
            unpacker.finish(index)
        })?;
    Ok(Unpacked { index, view, diff_id, uncompressed_bytes, notes, hidden })
}

#[cfg(test)]
mod tests;
