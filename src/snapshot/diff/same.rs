//! Whether something that was touched is still what the parent has.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use super::Differ;
use crate::layer::contents::Wanted;
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::view::{Kind, ViewEntry};
use crate::rootfs::Root;
use crate::snapshot::Error;
use crate::snapshot::files::CAPABILITY;
use crate::snapshot::listing::Mark;
use crate::snapshot::unpack::open_first;

/// Whether mode, owner, group and capabilities agree.
pub(super) fn metadata(entry: &Entry, below: &ViewEntry<'_>) -> bool {
    let node = &below.node;
    let capability =
        node.xattrs.iter().find(|(name, _)| *name == CAPABILITY.as_bytes()).map(|(_, value)| value);
    let is_symlink = matches!(entry.kind, EntryKind::Symlink(_));
    (entry.mode == node.mode || is_symlink)
        && (entry.uid, entry.gid) == (node.uid, node.gid)
        && entry.xattrs.get(CAPABILITY.as_bytes()).map(Vec::as_slice) == capability
}

impl Differ<'_> {
    /// Whether `entry`, which is no directory, is what the parent has. overlayfs copies a file up for
    /// `chmod` and `chown` also when they change nothing, as `chmod -R` mostly does.
    ///
    /// A file that was written to has another time, to the nanosecond, than the one below it on disk; so the
    /// contents need to be compared only where the time was kept or set back.
    pub(super) fn is_same(&self, entry: &Entry, stat: &Stat, below: &ViewEntry<'_>) -> Result<bool, Error> {
        if entry.mtime != below.node.mtime || !metadata(entry, below) {
            return Ok(false);
        }
        match (&entry.kind, below.node.kind) {
            (EntryKind::File(content), Kind::File { size, .. }) => {
                Ok(content.len() == size && self.is_at_hand(below) && self.same_content(&entry.path, stat)?)
            }
            _ if stat.st_mtime_nsec != 0 => Ok(false),
            (EntryKind::Symlink(target), Kind::Symlink(lower)) => Ok(target == lower),
            (EntryKind::Fifo, Kind::Fifo) => Ok(true),
            (EntryKind::CharDevice { major, minor }, Kind::CharDevice { major: a, minor: b })
            | (EntryKind::BlockDevice { major, minor }, Kind::BlockDevice { major: a, minor: b }) => {
                Ok((*major, *minor) == (a, b))
            }
            _ => Ok(false),
        }
    }

    pub(super) fn lowers(&self) -> Result<&[Root], Error> {
        if let Some(lowers) = self.lowers.get() {
            return Ok(lowers);
        }
        let open = |path: &PathBuf| Root::open(path).map_err(Error::io("open", path));
        let lowers = self.job.lowers.iter().map(open).collect::<Result<_, _>>()?;
        Ok(self.lowers.get_or_init(|| lowers))
    }

    /// What a file would have to hold to be the parent's, where nothing else tells a change and there is no tree to compare it with.
    pub(super) fn doubt(&self, entry: &Entry, stat: &Stat, below: &ViewEntry<'_>) -> Option<Wanted> {
        let tracked = self.job.tracked.as_ref()?;
        let (EntryKind::File(content), Kind::File { size, offset }) = (&entry.kind, below.node.kind) else {
            return None;
        };
        let is_like_it = content.len() == size
            && entry.mtime == below.node.mtime
            && metadata(entry, below)
            && tracked.seems_unwritten(&entry.path, Mark::of(stat));
        let layer = below.layer.filter(|layer| is_like_it && *layer >= tracked.covered)?;
        Some(Wanted { layer, offset, len: size })
    }

    /// Whether the trees below have what the parent has there, and not something older.
    fn is_at_hand(&self, below: &ViewEntry<'_>) -> bool {
        let Some(tracked) = &self.job.tracked else { return true };
        below.layer.is_some_and(|layer| layer < tracked.covered)
    }

    fn same_content(&self, path: &[u8], stat: &Stat) -> Result<bool, Error> {
        // Without the parent's file to compare with, it counts as changed.
        let Ok(lower) = open_first(self.lowers()?, path) else { return Ok(false) };
        let path = Path::new(OsStr::from_bytes(path));
        let nanoseconds =
            lower.metadata().map_err(Error::io("look at", self.job.root.join(path)))?.mtime_nsec();
        if stat.st_mtime_nsec as i64 != nanoseconds {
            return Ok(false);
        }
        let upper = self.root.open_file(path).map_err(Error::io("open", self.job.root.join(path)))?;
        same_bytes(&upper, &lower).map_err(Error::io("compare", self.job.root.join(path)))
    }
}

fn same_bytes(mut a: &File, mut b: &File) -> io::Result<bool> {
    let mut buffers = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let len = a.read(&mut buffers.0)?;
        if len == 0 {
            return Ok(b.read(&mut buffers.1)? == 0);
        }
        match b.read_exact(&mut buffers.1[..len]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if buffers.0[..len] != buffers.1[..len] {
            return Ok(false);
        }
    }
}
