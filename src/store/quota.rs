//! What the store may take up on disk.
//!
//! What is there is measured once, when a process sets the quota; what this process writes is added. Processes that write
//! at the same time do not see each other's, so together they may exceed it by what each of them writes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Error, Store};

#[derive(Debug)]
pub(super) struct Quota {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl Store {
    /// From now on nothing more is written than `limit_bytes` less `used_bytes`, which are there already. Only the first
    /// call of a process counts.
    pub fn set_quota(&self, limit_bytes: u64, used_bytes: u64) {
        let _ = self.inner.quota.set(Quota { limit_bytes, used_bytes: AtomicU64::new(used_bytes) });
    }

    /// Takes room for `bytes` that are about to be written; 0 asks whether there is any left.
    ///
    /// # Errors
    /// [`Error::OverQuota`]; then nothing was taken.
    pub(super) fn take_room(&self, bytes: u64) -> Result<(), Error> {
        let Some(Quota { limit_bytes, used_bytes }) = self.inner.quota.get() else { return Ok(()) };
        let used = used_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used < *limit_bytes {
            return Ok(());
        }
        used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Err(Error::OverQuota {
            root: self.root().to_owned(),
            limit_bytes: *limit_bytes,
            used_bytes: used - bytes,
        })
    }

    /// Gives room back that was taken for what did not stay.
    pub(super) fn give_back_room(&self, bytes: u64) {
        if let Some(quota) = self.inner.quota.get() {
            quota.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Counts what others have put into the store, such as an unpacked layer.
    pub fn count_growth(&self, disk_bytes: u64) {
        if let Some(quota) = self.inner.quota.get() {
            quota.used_bytes.fetch_add(disk_bytes, Ordering::Relaxed);
        }
    }
}
