//! Which kind of root file system a store can have.
//!
//! What works is found by trying (`exec` mounts and reports). [`OverlayKind::order`] says what to try.

use std::path::Path;

use rustix::fs::statfs;
use serde::{Deserialize, Serialize};

/// How lower trees and a writable directory become one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OverlayKind {
    /// The kernel's overlayfs, all directories on the store's file system.
    Native,
    /// The kernel's overlayfs with the upper directory on a tmpfs: changes of a step must fit in memory.
    Memory,
    /// A plain copy of everything: works everywhere, costs the most.
    Copy,
}

impl OverlayKind {
    /// What to try for a store, in this order.
    ///
    /// A store on overlayfs (inside a container) is known to be refused as an upper directory, so that the
    /// native kind is not tried.
    pub fn order(store: &Path) -> &'static [OverlayKind] {
        let all = &[OverlayKind::Native, OverlayKind::Memory, OverlayKind::Copy];
        if is_overlayfs(store) { &all[1..] } else { all }
    }
}

/// Whether `path` is on an overlayfs.
pub(super) fn is_overlayfs(path: &Path) -> bool {
    // OVERLAYFS_SUPER_MAGIC of linux/magic.h.
    statfs(path).is_ok_and(|fs| fs.f_type as u64 == 0x794c_7630)
}
