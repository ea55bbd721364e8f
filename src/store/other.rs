//! Another store, of which nothing but records and blobs is read.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, Folder, files, records};
use crate::oci::Digest;

/// A store that is not this process's own. It is only read: nothing in it is locked, noted or set aside, so what is there may
/// go at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherStore {
    root: PathBuf,
}

impl OtherStore {
    /// The store at `root`. One that is not there has nothing.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The record of that name, or `None`.
    pub fn record(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let folder = self.root.join("rbuild").join(Folder::Records.name());
        files::read_small(&records::path(&folder, name)?)
    }

    /// The size in bytes of a blob that is there; its content may be anything.
    pub fn has_blob(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
    }

    /// Opens a blob, which the caller verifies.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not there.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, Error> {
        let path = self.blob_path(digest);
        crate::rootfs::open_regular(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound { digest: *digest },
            _ => Error::io("open", &path, e),
        })
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }
}
