//! What was seen of the files of a mount when it was saved or restored, kept beside it.
//!
//! A file that has the inode, the size and the time of change that it had then has the same content and the same attributes; it
//! is not read again. A time of change that was not clearly past by then tells nothing, as the clock of file systems runs in ticks:
//! such files are read once more.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use super::manifest::{Entry, Manifest, Reader, Writer};
use crate::clock;
use crate::oci::Digest;

const MAGIC: &[u8] = b"rbuild mount note 1\n";
/// Longer than a tick of any kernel, in nanoseconds.
const MARGIN: i128 = 20_000_000;

/// What tells a file from what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    inode: u64,
    changed: (i64, u32),
}

impl Seen {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between machines")]
    pub(super) fn of(stat: &Stat) -> Self {
        Self { inode: stat.st_ino as u64, changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32) }
    }
}

/// What is known of a mount.
#[derive(Debug, Default)]
pub(super) struct Note {
    /// The manifest, and what it is called.
    pub(super) manifest: Option<(Digest, Manifest)>,
    /// In the order of its entries.
    seen: Vec<Seen>,
}

impl Note {
    pub(super) fn read(path: &Path) -> Self {
        let bytes = crate::rootfs::read_regular(path).unwrap_or_default();
        Self::decode(&bytes).unwrap_or_default()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes.strip_prefix(MAGIC)?);
        let digest = Digest::from_bytes(reader.bytes(32)?.try_into().ok()?);
        let manifest = Manifest::decode(reader.text()?).ok()?;
        let seen = |_: &Entry| {
            let inode = reader.number()?;
            Some(Seen { inode, changed: (reader.signed()?, reader.number()?.try_into().ok()?) })
        };
        let seen = manifest.entries.iter().map(seen).collect::<Option<_>>()?;
        Some(Self { manifest: Some((digest, manifest)), seen })
    }

    /// By path.
    pub(super) fn known(&self) -> HashMap<&[u8], (&Entry, Seen)> {
        let Some((_, manifest)) = &self.manifest else { return HashMap::new() };
        let known = manifest.entries.iter().zip(&self.seen);
        known.map(|(entry, seen)| (entry.path.as_slice(), (entry, *seen))).collect()
    }

    /// Writes a note, under another name first. `taken` is when the last of `seen` can have changed, in milliseconds since 1970.
    pub(super) fn write(
        path: &Path,
        (digest, manifest): (&Digest, &Manifest),
        seen: &[Seen],
        taken: u64,
    ) -> std::io::Result<()> {
        let mut out = Writer(MAGIC.to_vec());
        out.0.extend_from_slice(digest.as_bytes());
        out.text(&manifest.encoded());
        let latest = i128::from(taken) * 1_000_000 - MARGIN;
        for Seen { inode, changed: (seconds, nanoseconds) } in seen {
            let is_past = i128::from(*seconds) * 1_000_000_000 + i128::from(*nanoseconds) < latest;
            let Seen { inode, changed } = match is_past {
                true => Seen { inode: *inode, changed: (*seconds, *nanoseconds) },
                false => Seen::default(),
            };
            out.number(inode);
            out.signed(changed.0);
            out.number(changed.1.into());
        }
        let fresh = path.with_extension("note-new");
        fs::write(&fresh, out.0)?;
        fs::rename(&fresh, path)
    }
}

/// Where the note about the mount at `path` is.
pub fn note_path(path: &Path) -> PathBuf {
    path.with_extension("note")
}

/// The manifest that the note is about.
pub fn noted_manifest(path: &Path) -> Option<Digest> {
    let mut start = [0; MAGIC.len() + 32];
    let mut file = crate::rootfs::open_regular(&note_path(path)).ok()?;
    std::io::Read::read_exact(&mut file, &mut start).ok()?;
    let digest = start.strip_prefix(MAGIC)?;
    Some(Digest::from_bytes(digest.try_into().ok()?))
}

/// Forgets what was seen of the mount at `path`.
pub fn drop_note(path: &Path) {
    let _ = fs::remove_file(note_path(path));
}

/// Now, for [`Note::write`].
pub(super) fn now() -> u64 {
    clock::now_ms()
}
