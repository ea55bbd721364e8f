//! What files take up on disk, as `du` counts: blocks, each file once however many names it has.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Adds up folders; a file that was counted in one of them is not counted in another. What was asked for once is not looked
/// at again, by itself or as a part of something else.
#[derive(Debug, Default)]
pub struct Measuring {
    /// Device and inode of files with several names.
    seen: HashSet<(u64, u64)>,
    /// The sums of paths.
    known: HashMap<PathBuf, Measured>,
}

/// What was found below one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Allocated blocks in bytes, those of directories included.
    pub disk_bytes: u64,
    /// Directories that may not be read; what is in them is not counted.
    pub unreadable: u64,
}

impl std::ops::AddAssign for Measured {
    fn add_assign(&mut self, other: Self) {
        self.disk_bytes += other.disk_bytes;
        self.unreadable += other.unreadable;
    }
}

impl Measuring {
    /// Begins with sums that are known already.
    pub fn knowing(known: HashMap<PathBuf, Measured>) -> Self {
        Self { known, ..Self::default() }
    }

    /// Counts files again that were counted; the sums of paths stay.
    pub fn again(&mut self) {
        self.seen.clear();
    }

    /// Everything at and below `path`. What goes meanwhile is not counted.
    pub fn tree(&mut self, path: &Path) -> Measured {
        let sum = self.walk(path);
        self.known.insert(path.to_owned(), sum);
        sum
    }

    fn walk(&mut self, path: &Path) -> Measured {
        if let Some(known) = self.known.get(path) {
            return *known;
        }
        let Ok(meta) = fs::symlink_metadata(path) else { return Measured::default() };
        let mut sum = self.entry(&meta);
        if meta.is_dir() {
            match fs::read_dir(path) {
                Ok(entries) => {
                    for entry in entries.filter_map(Result::ok) {
                        sum += self.walk(&entry.path());
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => sum.unreadable += 1,
            }
        }
        sum
    }

    /// The entry itself, without what is below it.
    pub fn alone(&mut self, path: &Path) -> Measured {
        fs::symlink_metadata(path).map(|meta| self.entry(&meta)).unwrap_or_default()
    }

    fn entry(&mut self, meta: &fs::Metadata) -> Measured {
        let is_new = meta.is_dir() || meta.nlink() < 2 || self.seen.insert((meta.dev(), meta.ino()));
        Measured { disk_bytes: if is_new { meta.blocks() * 512 } else { 0 }, unreadable: 0 }
    }
}
