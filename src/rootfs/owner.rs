//! Owners that a file cannot have on disk, because its maker has one id only: written down beside it.
//!
//! An extended attribute goes with a file wherever it is renamed, linked or copied up, and away with it. The
//! kernel takes such attributes on files and directories only; who owns a symbolic link or a pipe is
//! remembered by whoever made it, and stands in the layer.

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

use rustix::fs::{AtFlags, CWD, StatxFlags, XattrFlags};
use serde::{Deserialize, Serialize};

/// The attribute's name. The value is the text of a [`RecordedOwner`].
pub const OWNER_ATTRIBUTE: &str = "user.rbuild.owner";

/// What the attribute says: `UID:GID`, and for an empty file that stands for a device `UID:GID:c:MAJOR:MINOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordedOwner {
    /// The user that the image shall name.
    pub uid: u32,
    /// The group that the image shall name.
    pub gid: u32,
    /// The device that this file stands for.
    pub device: Option<RecordedDevice>,
}

/// See [`RecordedOwner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedDevice {
    /// A block device, else one of characters.
    pub is_block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl RecordedOwner {
    /// The owner of a plain file.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, device: None }
    }

    /// Whether nothing need be written down: an ordinary file of root's.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Writes it down with the file or directory at `path`; nothing for an ordinary file of root's.
    pub fn write_to(&self, path: &Path) -> std::io::Result<()> {
        if !self.is_usual() {
            rustix::fs::setxattr(path, OWNER_ATTRIBUTE, self.to_string().as_bytes(), XattrFlags::empty())?;
        }
        Ok(())
    }

    /// Reads an attribute's value; `None` for one that rbuild did not write.
    pub fn from_bytes(value: &[u8]) -> Option<Self> {
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

impl fmt::Display for RecordedOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)?;
        let Some(RecordedDevice { is_block, major, minor }) = self.device else { return Ok(()) };
        write!(f, ":{}:{major}:{minor}", if is_block { 'b' } else { 'c' })
    }
}

/// Not the text of a [`RecordedOwner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no record of an owner")]
pub struct NoRecord;

impl FromStr for RecordedOwner {
    type Err = NoRecord;

    fn from_str(text: &str) -> Result<Self, NoRecord> {
        let number = |text: &str| text.parse().map_err(|_| NoRecord);
        let fields: Vec<&str> = text.split(':').collect();
        match fields.as_slice() {
            [uid, gid] => Ok(Self::new(number(uid)?, number(gid)?)),
            [uid, gid, kind @ ("b" | "c"), major, minor] => {
                let (major, minor) = (number(major)?, number(minor)?);
                let device = Some(RecordedDevice { is_block: *kind == "b", major, minor });
                Ok(Self { uid: number(uid)?, gid: number(gid)?, device })
            }
            _ => Err(NoRecord),
        }
    }
}

/// Which file, for as long as it exists: another one that gets its inode was born later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Inode number.
    pub inode: u64,
    /// When it was made, in seconds and nanoseconds; zeroes where the file system does not know.
    pub born: (i64, u32),
}

impl FileId {
    /// What is at `path`; links are followed or not.
    pub fn of(path: impl rustix::path::Arg, follow: bool) -> rustix::io::Result<Self> {
        Self::at(CWD, path, follow)
    }

    /// What is at `path`, seen from an open directory.
    pub(super) fn at(
        directory: impl AsFd,
        path: impl rustix::path::Arg,
        follow: bool,
    ) -> rustix::io::Result<Self> {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let stat = rustix::fs::statx(directory, path, flags, StatxFlags::INO | StatxFlags::BTIME)?;
        let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = if has_birth { (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) } else { (0, 0) };
        Ok(Self { inode: stat.stx_ino, born })
    }
}

/// The owner of a file that has no attributes, such as a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialOwner {
    /// Which file.
    pub file: FileId,
    /// The user that the image shall name.
    pub uid: u32,
    /// The group that the image shall name.
    pub gid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written() {
        let device = Some(RecordedDevice { is_block: true, major: 8, minor: 1 });
        for owner in [RecordedOwner::new(101, 4_294_967_294), RecordedOwner { uid: 0, gid: 6, device }] {
            assert_eq!(RecordedOwner::from_bytes(owner.to_string().as_bytes()), Some(owner));
            assert!(!owner.is_usual());
        }
        for text in ["", "1", "1:2:3", "1:-2", "1:2:p:0:0", "a:b"] {
            assert_eq!(text.parse::<RecordedOwner>(), Err(NoRecord), "{text}");
        }
    }
}
