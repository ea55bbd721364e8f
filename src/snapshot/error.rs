//! What can go wrong with root file systems, as facts.

use std::io;
use std::path::{Path, PathBuf};

use crate::oci::DiffId;
use crate::{layer, store};

/// Why a root file system could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file has an owner that the id map does not hold.
    #[error("`{}` belongs to the id {id}, which is not among those mapped into the build", path.display())]
    UnmappedId {
        /// The file.
        path: PathBuf,
        /// Its user or group outside.
        id: u32,
    },
    /// overlayfs moved a directory by reference, which the mount options forbid: the changes cannot be told.
    #[error("`{}` is redirected by the overlay file system; mount it with redirect_dir=nofollow", .0.display())]
    Redirected(PathBuf),
    /// The changes could not be written as a layer.
    #[error(transparent)]
    Write(#[from] layer::WriteError),
    /// The changes could not be indexed.
    #[error(transparent)]
    Archive(#[from] layer::archive::Error),
    /// The index of a parent's layer cannot be used.
    #[error("`{}`: {source}", path.display())]
    Index {
        /// Its file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: layer::index::Corrupt,
    },
    /// A layer could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] layer::unpack::UnpackError),
    /// What a layer of the parent holds could not be compared.
    #[error(transparent)]
    Contents(#[from] layer::contents::ContentsError),
    /// A layer must be unpacked.
    #[error(transparent)]
    Unfit(#[from] layer::erofs::Unfit),
    /// A blob is not the layer that it was taken for.
    #[error("the layer in `{}` is {actual} uncompressed, not {expected} as its image says", path.display())]
    WrongDiffId {
        /// The blob.
        path: PathBuf,
        /// What the image says.
        expected: DiffId,
        /// What it is.
        actual: DiffId,
    },
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// For `map_err`: an [`Error::Io`] about `path`.
    pub(super) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { action, path, source: source.into() }
    }
}
