//! A file system in memory for what a step changes, where the store takes no upper directory.
//!
//! The zygote mounts it in a mount namespace of its own. Every step that is started afterwards sees it, at its path in the
//! store and with what earlier commands in the same root have left in it; nobody else does. Jobs that read it enter that
//! namespace.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::{Deserialize, Serialize};

use super::{mounts, overlay};
use crate::exec::failure::{Doing as _, Failure};
use crate::exec::sys;

/// So many bytes for each file and directory are allowed for: the kernel's own memory for them is bounded, too.
const BYTES_PER_INODE: u64 = 1024;

/// What to mount where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::exec) struct Memory {
    /// A directory.
    pub(in crate::exec) at: PathBuf,
    pub(in crate::exec) size_bytes: u64,
    /// Directories to make in it, absolute, with their modes.
    pub(in crate::exec) folders: Vec<(PathBuf, u32)>,
}

/// Gives this (single-threaded) process a mount namespace of its own, in which the machine still unmounts.
pub(in crate::exec) fn leave_mounts() -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWNS).doing(|| "make a mount namespace".into())?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .doing(|| "make mounts private".into())
}

/// Mounts it; gives the mount namespace and the root of the file system.
pub(in crate::exec) fn mount(memory: &Memory) -> Result<[OwnedFd; 2], Failure> {
    let doing = || "mount a file system in memory".to_owned();
    let (size, inodes) = (memory.size_bytes, memory.size_bytes / BYTES_PER_INODE);
    let options = [("mode", "755"), ("size", &size.to_string()), ("nr_inodes", &inodes.to_string())];
    // Devices cannot be opened in a step, wherever they are.
    let flags = MountAttrFlags::MOUNT_ATTR_NODEV;
    let mounted = mounts::fresh("tmpfs", &options, flags).doing(doing)?;
    overlay::attach(&mounted, rustix::fs::CWD, &memory.at).doing(doing)?;
    for (path, mode) in &memory.folders {
        let doing = || format!("make {}", path.display());
        let mode = Mode::from_raw_mode(*mode);
        rustix::fs::mkdir(path, mode).doing(doing)?;
        rustix::fs::chmod(path, mode).doing(doing)?;
    }
    let namespace = File::open("/proc/self/ns/mnt").doing(|| "open the mount namespace".into())?;
    Ok([namespace.into(), overlay::open_directory(&memory.at)?])
}

/// Unmounts it here; steps that see it keep it.
pub(in crate::exec) fn unmount(at: &Path) {
    // What cannot be unmounted goes with the zygote.
    let _ = rustix::mount::unmount(at, UnmountFlags::DETACH);
}

/// Moves this thread into such a mount namespace.
pub(in crate::exec) fn enter(namespace: BorrowedFd<'_>) -> std::io::Result<()> {
    // A namespace is entered by who shares its working directory with no other thread.
    sys::unshare(UnshareFlags::FS)?;
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?)
}
