//! Reading and writing down who owns a file.

use std::collections::HashMap;
use std::ffi::CStr;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::rootfs::{FileId, OWNER_ATTRIBUTE, RecordedOwner};

/// Who owns what: attributes of files, and a list of those that can have none (symbolic links, pipes).
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) special: HashMap<FileId, RecordedOwner>,
}

impl Records {
    /// What is known of the file at `path`; `None` is an ordinary file of root's.
    pub(super) fn read(&self, path: &CStr, follow: bool) -> Option<RecordedOwner> {
        let mut value = [0; 64];
        let read = if follow { rustix::fs::getxattr } else { rustix::fs::lgetxattr };
        match read(path, OWNER_ATTRIBUTE, &mut value[..]) {
            Ok(length) => RecordedOwner::from_bytes(&value[..length]),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) if !self.special.is_empty() => {
                let id = FileId::of(path, follow).ok()?;
                self.special.get(&id).copied()
            }
            Err(_) => None,
        }
    }

    /// Writes it down.
    pub(super) fn write(
        &mut self,
        path: &CStr,
        follow: bool,
        owner: RecordedOwner,
    ) -> rustix::io::Result<()> {
        let written = if owner.is_usual() { erase(path, follow) } else { set(path, follow, owner) };
        match written {
            // No file of a kind, or on a file system, that takes attributes.
            Err(Errno::PERM | Errno::NOTSUP) => {
                let id = FileId::of(path, follow)?;
                if owner.is_usual() {
                    self.special.remove(&id);
                } else {
                    self.special.insert(id, owner);
                }
                Ok(())
            }
            other => other,
        }
    }
}

/// Sets the attribute of the file at `path`.
pub(in crate::exec) fn set(path: &CStr, follow: bool, owner: RecordedOwner) -> rustix::io::Result<()> {
    let write = if follow { rustix::fs::setxattr } else { rustix::fs::lsetxattr };
    write(path, OWNER_ATTRIBUTE, owner.to_string().as_bytes(), XattrFlags::empty())
}

fn erase(path: &CStr, follow: bool) -> rustix::io::Result<()> {
    let remove = if follow { rustix::fs::removexattr } else { rustix::fs::lremovexattr };
    match remove(path, OWNER_ATTRIBUTE) {
        Err(Errno::NODATA) => Ok(()),
        other => other,
    }
}
