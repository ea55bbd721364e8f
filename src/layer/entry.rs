//! One entry of a layer, as a value: what the tar will hold, or held.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::oci::Seconds;

/// One file, directory or whiteout of a layer.
///
/// `path` is relative to the root, without leading or trailing `/`, never empty (the root itself is in
/// no layer), never with `.` or `..` components; bytes, because names need not be UTF-8.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its path in the layer, as above.
    pub path: Vec<u8>,
    /// File, directory, link, device or whiteout, with what only that has.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777`. Ignored for symlinks (0777) and whiteouts.
    pub mode: u32,
    /// Owner, as in the image.
    pub uid: u32,
    /// Group, as in the image.
    pub gid: u32,
    /// Modification time.
    pub mtime: Seconds,
    /// Extended attributes by full name (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symlink and its target as it stands.
    Symlink(Vec<u8>),
    /// Another name of the file at this path of the same layer.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// The path is gone: written as `.wh.NAME` beside it. `path` is that of what is gone.
    Whiteout,
    /// Everything that lower layers have in the directory `path` is gone: written as `path/.wh..wh..opq`.
    OpaqueWhiteout,
}

/// Where the bytes of a file come from.
#[derive(Debug, Clone)]
pub enum Content {
    /// From memory.
    Bytes(Arc<[u8]>),
    /// From a file on disk, opened only when its bytes are wanted.
    Disk(OnDisk),
    /// From a part of an open file.
    Slice {
        /// The file; read with positioned reads only.
        file: Arc<File>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
}

impl Content {
    /// The number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Disk(file) => file.size,
            Content::Slice { len, .. } => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A regular file found by a scan: one of a list that is held once for all of them, as a layer may have very many.
#[derive(Debug, Clone)]
pub struct OnDisk {
    files: Arc<dyn DiskFiles>,
    size: u64,
    number: u32,
}

/// A list of files on disk.
pub trait DiskFiles: std::fmt::Debug + Send + Sync {
    /// The file with this number.
    fn file(&self, number: u32) -> DiskFile;
    /// Its digest alone; see [`DiskFile::digest`].
    fn digest(&self, number: u32) -> Option<[u8; 32]>;
}

impl OnDisk {
    /// The file of `files` with this number, which has so many bytes.
    pub fn new(files: Arc<dyn DiskFiles>, number: u32, size: u64) -> Self {
        Self { files, size, number }
    }

    /// Where it is and what it looked like.
    pub fn file(&self) -> DiskFile {
        self.files.file(self.number)
    }

    /// See [`DiskFile::digest`].
    pub fn digest(&self) -> Option<[u8; 32]> {
        self.files.digest(self.number)
    }
}

impl From<DiskFile> for OnDisk {
    fn from(file: DiskFile) -> Self {
        let size = file.size;
        Self::new(Arc::new(file), 0, size)
    }
}

/// A list of one.
impl DiskFiles for DiskFile {
    fn file(&self, _: u32) -> DiskFile {
        self.clone()
    }

    fn digest(&self, _: u32) -> Option<[u8; 32]> {
        self.digest
    }
}

/// A regular file found by a scan, and what it looked like then. Reading it must find the same size,
/// mtime and ctime before and after, else the file changed under the build, which is an error.
#[derive(Debug, Clone)]
pub struct DiskFile {
    /// The directory that `path` is relative to.
    pub root: Arc<OwnedFd>,
    /// Path below `root`; opened with `openat2` and `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Inode number.
    pub inode: u64,
    /// Device number as in `st_dev`.
    pub device: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time: seconds and nanoseconds.
    pub ctime: (i64, u32),
    /// BLAKE3 of the content, if somebody has looked at it: then a layer gets these bytes or none.
    pub digest: Option<[u8; 32]>,
}
