//! What cache mounts hold, kept file by file.
//!
//! A *snapshot* of a mount is a [`Manifest`], which names every file with all that tools compare (mode, owner, time to the
//! nanosecond, links), and *packs*: blobs of zstd that hold the bytes of files which no earlier pack of that mount has.
//! Files are known again by inode, size and time of change, from a note beside the mount (`note.rs`), so what did not change is not read.
//!
//! A snapshot stands or falls as a whole: of two writers the newer one's stays. Two folders are never mixed, as nothing tells
//! whether a tool names its files by their content; what cargo builds from two commits must not meet in one `target/`.
//!
//! Which mounts there are, where they lie and who has them locked is the caller's affair (`solve/cache_mounts`).
//!
//! ```text
//! manifest.rs  what is in a mount, as bytes and back; what a hostile one may not say
//! note.rs      what was seen of the files last time
//! scan.rs      a folder as the entries of a manifest
//! save.rs      which packs stay, which are made
//! restore.rs   a folder from manifest and packs
//! remote.rs    both, at a backend
//! ```

mod manifest;
mod note;
pub mod remote;
mod restore;
mod save;
mod scan;
#[cfg(test)]
mod tests;

use std::io;

use serde::{Deserialize, Serialize};

pub use manifest::{Entry, Kind, Manifest};
pub use note::{drop_note, note_path, noted_manifest};
pub use restore::{Restore, restore};
pub use save::{Outcome, Parent, Save, save};

use crate::oci::{Descriptor, Digest, MediaType, Seconds};

/// A mount that is larger, in bytes of its files, does not travel.
pub const MOUNT_LIMIT: u64 = 2 << 30;
/// All mounts that one cache names, in bytes as they travel.
pub const ALL_LIMIT: u64 = 10 << 30;

/// Whether cache mounts travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// Neither way.
    Off,
    /// They are brought, never sent.
    In,
    /// Both ways.
    InAndOut,
}

impl Travel {
    /// `off`, `ro` or `rw`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Travel::Off),
            "ro" => Some(Travel::In),
            "rw" => Some(Travel::InAndOut),
            _ => None,
        }
    }
}

/// What a pack of records says of a mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Snapshot {
    /// The manifest's SHA-256.
    pub manifest: Digest,
    /// Its size as it travels.
    pub size: u64,
    /// The packs that it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<PackRef>,
    /// The bytes of its files.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// When it was taken, in seconds since 1970.
    pub written: Seconds,
    /// The day on which it was used last, in seconds since 1970.
    pub used: Seconds,
    /// Who wrote it: what the pipeline is called, as far as it says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub writer: String,
    /// Whether a step that had secrets or an ssh agent wrote to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secrets: bool,
}

/// A blob of file content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackRef {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its size as it travels.
    pub size: u64,
    /// The bytes that are in it.
    pub raw: u64,
}

impl Snapshot {
    /// The manifest and the packs as others name blobs.
    pub fn blobs(&self) -> impl Iterator<Item = Descriptor> {
        let blob = |digest, size| Descriptor::new(MediaType::OCTET_STREAM, digest, size);
        let packs = self.packs.iter().map(move |pack| blob(pack.digest, pack.size));
        std::iter::once(blob(self.manifest, self.size)).chain(packs)
    }

    /// All of it as it travels.
    pub fn total(&self) -> u64 {
        self.packs.iter().fold(self.size, |sum, pack| sum.saturating_add(pack.size))
    }
}

/// Why a mount was not saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or made.
    #[error("cannot {action} `{path}`: {source}")]
    File {
        /// What was tried: a verb.
        action: &'static str,
        /// On what, in the mount; lossy.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// What came is not what it should be.
    #[error("it does not hold what it should: {0}")]
    Hostile(String),
    /// It is larger than what is allowed.
    #[error("it has {bytes} bytes, which is more than the {limit} that a mount may have")]
    TooLarge {
        /// What it has.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
}

impl Error {
    fn file(action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Self {
        let path = String::from_utf8_lossy(path).into_owned();
        move |source| Self::File { action, path, source }
    }

    fn hostile(what: impl Into<String>) -> Self {
        Self::Hostile(what.into())
    }
}

/// What a mount is called in packs of records: which mount it is, for which platform, and how owners are kept there.
pub fn name(identity: &str, platform: &str) -> String {
    blake3::hash(format!("rbuild mount 1\n{identity}\n{platform}").as_bytes()).to_hex()[..32].to_owned()
}
