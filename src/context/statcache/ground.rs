//! What the file system below a file proves.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, fstat, fstatfs, statx};

use crate::rootfs::writers;

/// What is to be believed on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ground {
    /// Which mount of this boot it was found by; as long as that is there, the device is the same.
    pub(super) mount: u64,
    /// Whether a directory whose times are the same has the same names.
    pub(super) names: bool,
    files: Files,
}

/// How it becomes certain that the next write to a file changes its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    /// It does not.
    Unknown,
    /// By a lease, or by having its pages written back.
    Leased,
    /// By having its pages written back.
    WrittenBack,
}

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): an id that no other mount gets in this boot.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
/// The major number of loop devices.
const LOOP_MAJOR: u32 = 7;
const TMPFS: i64 = 0x0102_1994;
const OVERLAYFS: i64 = 0x794c_7630;

impl Ground {
    /// What is known of `device`, which `file` is on; `None` where stable inodes and honest times are not to be had.
    pub(super) fn of(file: impl AsFd, device: u64) -> Option<Self> {
        let kind = fstatfs(&file).ok()?.f_type & 0xffff_ffff;
        let (names, files) = match kind {
            0xef53 // ext2, ext3, ext4
            | 0x5846_5342 // xfs
            | 0x9123_683e // btrfs
            | 0x8584_58f6 // ramfs
            | 0x2fc1_2fc1 // zfs
            | 0xf2f5_2010 // f2fs
            | 0xca45_1a4e // bcachefs
            | 0x3153_464a // jfs
                => (true, Files::Leased),
            TMPFS => (true, Files::Unknown),
            // Inodes of regular files are those of its layers, times of directories those of one layer.
            OVERLAYFS => (false, Files::WrittenBack),
            _ => return None,
        };
        let mount = mount(&file, device, kind)?;
        // Somebody may have mounted something else there since `device` was asked for.
        (fstat(&file).ok()?.st_dev == device).then_some(Self { mount, names, files })
    }

    /// Whether digests are remembered there at all.
    pub(super) fn keeps_digests(&self) -> bool {
        self.files != Files::Unknown
    }

    /// Whether it is certain that every later write to `file` changes its times. `is_old` says that the kernel has had the time to write
    /// its pages back, so that asking for it costs nothing; a young file is not worth waiting for the disk.
    pub(super) fn watch(&self, file: &File, is_old: bool) -> bool {
        match self.files {
            Files::Unknown => false,
            Files::Leased => is_old && writers::write_back(file) || writers::has_no_writer(file),
            Files::WrittenBack => is_old && writers::write_back(file),
        }
    }
}

/// The unique id of the mount that `file` is in, or 0 where the kernel has none and the device is hardly made again with
/// other content within this boot.
fn mount(file: impl AsFd, device: u64, kind: i64) -> Option<u64> {
    let told = statx(&file, "", AtFlags::EMPTY_PATH, MNT_ID_UNIQUE)
        .ok()
        .filter(|told| told.stx_mask & MNT_ID_UNIQUE.bits() != 0)
        .map(|told| told.stx_mnt_id);
    let is_disk = !matches!(rustix::fs::major(device), 0 | LOOP_MAJOR);
    told.or((is_disk || kind == TMPFS).then_some(0))
}

#[cfg(test)]
impl Ground {
    /// What a file system such as ext4 proves.
    pub(super) const DISK: Self = Self { mount: 1, names: true, files: Files::Leased };
    /// What tmpfs proves.
    pub(super) const MEMORY: Self = Self { mount: 1, names: true, files: Files::Unknown };
    /// What overlayfs proves.
    pub(super) const OVERLAY: Self = Self { mount: 1, names: false, files: Files::WrittenBack };
}
