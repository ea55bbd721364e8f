//! Which kind of root file system a store can have.
//!
//! What works is found by trying (`exec` mounts and reports), not by guessing from the name of a file
//! system. [`OverlayKind::order`] says what to try, [`OverlayKind::next`] what comes after a failure.

use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use serde::{Deserialize, Serialize};

/// How lower trees and a writable directory become one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OverlayKind {
    /// The kernel's overlayfs, all directories on the store's file system.
    Native,
    /// `fuse-overlayfs`, a program: where the kernel refuses an upper directory on this file system.
    Fuse,
    /// The kernel's overlayfs with the upper directory on a tmpfs: changes of a step must fit in memory.
    TmpfsUpper,
    /// A plain copy of everything: works everywhere, costs the most.
    Copy,
}

impl OverlayKind {
    /// What to try for a store in this order; `fuse` says whether the program `fuse-overlayfs` and
    /// `/dev/fuse` are there.
    ///
    /// A store on overlayfs (inside a container) is known to be refused as an upper directory, so that the
    /// native kind is not tried.
    pub fn order(store: &Path, fuse: bool) -> Vec<OverlayKind> {
        // OVERLAYFS_SUPER_MAGIC of linux/magic.h.
        let on_overlay = statfs(store).is_ok_and(|fs| fs.f_type as u64 == 0x794c_7630);
        let mut order =
            vec![OverlayKind::Native, OverlayKind::Fuse, OverlayKind::TmpfsUpper, OverlayKind::Copy];
        order.retain(|kind| match kind {
            OverlayKind::Native => !on_overlay,
            OverlayKind::Fuse => fuse,
            OverlayKind::TmpfsUpper | OverlayKind::Copy => true,
        });
        order
    }

    /// The one to try when `self` failed; `None` after the last.
    pub fn next(self, order: &[OverlayKind]) -> Option<OverlayKind> {
        let at = order.iter().position(|kind| *kind == self)?;
        order.get(at + 1).copied()
    }

    /// For one line that tells the user what is in use instead of the native kind; `None` for that one.
    pub fn note(self) -> Option<&'static str> {
        match self {
            OverlayKind::Native => None,
            OverlayKind::Fuse => {
                Some("using fuse-overlayfs: the store's file system takes no native overlay")
            }
            OverlayKind::TmpfsUpper => {
                Some("keeping changes of RUN in memory: the store's file system takes no overlay")
            }
            OverlayKind::Copy => Some("copying the root file system for every RUN: no overlay works here"),
        }
    }
}

/// Where `fuse-overlayfs` is, if it can be used: found on `path` (the value of `$PATH`), with `/dev/fuse`.
pub fn find_fuse(path: &std::ffi::OsStr) -> Option<PathBuf> {
    if !Path::new("/dev/fuse").exists() {
        return None;
    }
    std::env::split_paths(path).map(|dir| dir.join("fuse-overlayfs")).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_last_resort() {
        let order = OverlayKind::order(Path::new("/proc"), false);
        assert_eq!(order, [OverlayKind::Native, OverlayKind::TmpfsUpper, OverlayKind::Copy]);
        assert_eq!(OverlayKind::Native.next(&order), Some(OverlayKind::TmpfsUpper));
        assert_eq!(OverlayKind::Copy.next(&order), None);
        assert_eq!(OverlayKind::order(Path::new("/proc"), true).len(), 4);
    }
}
