//! Where the parts of an image are: the first thing that the kernel reads of it.

use super::{BLOCK_BITS, BLOCK_BYTES, HEAD_BYTES};

/// Bytes before the superblock are left to boot loaders, and to our own [`Note`].
const OFFSET: usize = 1024;
const SUPERBLOCK_BYTES: usize = 128;
const NOTE_MAGIC: &[u8; 8] = b"rbuildim";
const MAGIC: u32 = 0xe0f5_e1e2;
/// The times of inodes are those of the last modification.
const FEATURE_COMPAT_MTIME: u32 = 2;

/// What the superblock says.
pub(super) struct Superblock {
    /// Number of the root directory's inode.
    pub(super) root: u16,
    /// Number of inodes.
    pub(super) inodes: u64,
    /// Number of blocks of the whole image.
    pub(super) blocks: u32,
    /// The block from which inode numbers count.
    pub(super) metadata_block: u32,
    /// Tells images apart.
    pub(super) uuid: [u8; 16],
}

impl Superblock {
    /// The beginning of the image. Fields that are not written are features that it does without: compression,
    /// checksum, shared attributes, further devices.
    pub(super) fn to_bytes(&self) -> [u8; HEAD_BYTES as usize] {
        let mut out = [0; HEAD_BYTES as usize];
        let mut put = |at: usize, bytes: &[u8]| out[OFFSET + at..][..bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(8, &FEATURE_COMPAT_MTIME.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.metadata_block.to_le_bytes());
        put(48, &self.uuid);
        out
    }
}

/// What the image says of itself, at its very beginning: enough to verify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    /// Bytes of the tar.
    pub(super) tar_bytes: u64,
    /// BLAKE3 of everything behind the tar, then of the superblock.
    pub(super) metadata: [u8; 32],
}

impl Note {
    pub(super) const BYTES: usize = 48;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(NOTE_MAGIC);
        out[8..16].copy_from_slice(&self.tar_bytes.to_le_bytes());
        out[16..].copy_from_slice(&self.metadata);
        out
    }

    /// The note of an image that begins with `head`.
    pub(super) fn from_head(head: &[u8; HEAD_BYTES as usize]) -> Option<Self> {
        let rest = head[..Self::BYTES].strip_prefix(NOTE_MAGIC)?;
        let (tar_bytes, metadata) = rest.split_first_chunk::<8>()?;
        Some(Self { tar_bytes: u64::from_le_bytes(*tar_bytes), metadata: metadata.try_into().ok()? })
    }
}

/// The superblock's bytes in an image's head.
pub(super) fn of_head(head: &[u8; HEAD_BYTES as usize]) -> &[u8] {
    &head[OFFSET..][..SUPERBLOCK_BYTES]
}

/// The number of the block that begins at byte `at`; `None` where 32 bits do not hold it.
pub(super) fn block_at(at: u64) -> Option<u32> {
    u32::try_from(at / BLOCK_BYTES).ok()
}
