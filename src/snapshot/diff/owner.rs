//! Who owns what was changed, and what else depends on the ids of a user namespace.

use rustix::fs::FileType;

use super::{Differ, OnDisk, Owners};
use crate::rootfs::{OWNER_ATTRIBUTE, RecordedOwner};
use crate::snapshot::{Error, files};

impl Differ<'_> {
    /// User and group in the image.
    pub(super) fn owner(&self, on_disk: &OnDisk<'_>) -> Result<(u32, u32), Error> {
        match &self.job.owners {
            Owners::OnDisk(ids) => {
                let unmapped = |id| Error::UnmappedId { path: on_disk.path(), id };
                let stat = &on_disk.stat;
                Ok((ids.uid(stat.st_uid).map_err(unmapped)?, ids.gid(stat.st_gid).map_err(unmapped)?))
            }
            Owners::Recorded { .. } => {
                if matches!(files::kind(&on_disk.stat), FileType::RegularFile | FileType::Directory) {
                    let owner = self.record(on_disk)?;
                    if !owner.is_usual() || self.special.is_empty() {
                        return Ok((owner.uid, owner.gid));
                    }
                }
                if self.special.is_empty() {
                    return Ok((0, 0));
                }
                let id =
                    on_disk.folder.file_id(on_disk.name).map_err(Error::io("look at", on_disk.path()))?;
                Ok(self.special.get(&id).copied().unwrap_or_default())
            }
        }
    }

    /// What was written down with a file or directory.
    pub(super) fn record(&self, on_disk: &OnDisk<'_>) -> Result<RecordedOwner, Error> {
        if matches!(self.job.owners, Owners::OnDisk(_)) {
            return Ok(RecordedOwner::default());
        }
        let value = on_disk.xattr(OWNER_ATTRIBUTE)?;
        Ok(value.and_then(|value| RecordedOwner::from_bytes(&value)).unwrap_or_default())
    }
}

/// Capabilities as an image has them. In a user namespace the kernel stores them with the id that is root
/// there (revision 3 of vfs_cap_data, linux/capability.h: four bytes at its end); read from outside, that id
/// shows.
pub(super) fn without_root_id(mut value: Vec<u8>) -> Vec<u8> {
    if value.len() == 24 && value[3] == 3 {
        value.truncate(20);
        value[3] = 2;
    }
    value
}
