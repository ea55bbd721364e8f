//! Making a tree from a layer's blob, as a job for any process; or a file to mount.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::commit::read_view;
use super::files::make_dir;
use crate::layer::archive::Limits;
use crate::layer::erofs::{self, PackError};
use crate::layer::index::Index;
use crate::layer::unpack::{self, Note, OpaqueMark, Owners, UnpackOptions};
use crate::layer::view::{RootView, ViewEntry};
use crate::oci::DiffId;
use crate::rootfs::Root;

/// What to unpack where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnpackJob {
    /// The layer's blob, compressed or not.
    pub blob: PathBuf,
    /// What its uncompressed bytes must hash to.
    pub diff_id: DiffId,
    /// The index files of the layers below, the lowest first.
    pub parents: Vec<PathBuf>,
    /// The trees of the layers below, the top one first: for hard links into them.
    pub lowers: Vec<PathBuf>,
    /// The directory to make and fill. What the tree hides and cannot say comes in a file beside it, see
    /// [`super::hidden_by`].
    pub target: PathBuf,
    /// The marks of opaque directories.
    pub mark: OpaqueMark,
    /// How files get their owners.
    pub owners: Owners,
    /// Where to write the layer's index, which this makes in passing.
    pub index: Option<PathBuf>,
    /// The file that says, while this is under way, how much of the blob was read; see [`read_so_far`].
    pub progress: Option<PathBuf>,
}

/// Unpacks one layer and verifies its diff id; gives notes for the user about what the tree lacks.
///
/// Without root this must run inside the user namespace. On an error the target holds a part.
pub fn unpack_tree(job: &UnpackJob) -> Result<Vec<String>, Error> {
    unpack_tree_on(job, &read_view(&job.parents)?)
}

/// Unpacks as [`unpack_tree`] does, onto layers whose view the caller has already; `job.parents` is not read.
pub fn unpack_tree_on(job: &UnpackJob, below: &RootView) -> Result<Vec<String>, Error> {
    let blob = crate::rootfs::open_regular(&job.blob).map_err(Error::io("open", &job.blob))?;
    let open = |path: &PathBuf| Root::open(path).map_err(Error::io("open", path));
    let lowers = job.lowers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    // The mode of the topmost tree's root is that of the root directory if nothing is mounted over it.
    make_dir(&job.target, 0o755)?;
    let target = open(&job.target)?;
    let mut open_lower = |entry: &ViewEntry<'_>| open_first(&lowers, entry.path);
    let blob = Watched::new(blob, job.progress.as_deref())?;
    let done = unpack::unpack(blob, &target, below, &options(job), &mut open_lower)?;
    check(&job.blob, job.diff_id, done.diff_id)?;
    write_index(job.index.as_deref(), &done.index)?;
    super::hidden::write(&job.target, &done.hidden)?;
    Ok(done.notes.iter().map(note).collect())
}

/// A blob that notes how much of it was read.
struct Watched {
    blob: File,
    read: u64,
    noted: u64,
    notes: Option<File>,
}

/// So much more is read before it is noted again.
const NOTED_BYTES: u64 = 1 << 20;

impl Watched {
    fn new(blob: File, notes: Option<&Path>) -> Result<Self, Error> {
        let notes = notes.map(|path| File::create(path).map_err(Error::io("write", path))).transpose()?;
        Ok(Self { blob, read: 0, noted: 0, notes })
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.blob.read(buffer)?;
        self.read += len as u64;
        if let Some(notes) = self.notes.as_ref().filter(|_| self.read - self.noted >= NOTED_BYTES) {
            // Nobody sees how it goes on; the work is the same.
            let _ = notes.write_at(&self.read.to_le_bytes(), 0);
            self.noted = self.read;
        }
        Ok(len)
    }
}

/// What a job noted in its file of progress: bytes of the blob that were read.
pub fn read_so_far(progress: &Path) -> Option<u64> {
    let noted = crate::rootfs::read_regular(progress).ok()?;
    noted.try_into().ok().map(u64::from_le_bytes)
}

/// What to make an image of.
#[derive(Debug, Clone)]
pub struct PackJob {
    /// The layer's blob, compressed or not.
    pub blob: PathBuf,
    /// What its uncompressed bytes must hash to.
    pub diff_id: DiffId,
    /// The file to make.
    pub target: PathBuf,
    /// Where to write the layer's index, which this makes in passing.
    pub index: Option<PathBuf>,
}

/// Makes a layer on the root `below` a file that can be mounted, and verifies its diff id. On an error the target holds
/// a part; [`Error::Unfit`] says that the layer must be unpacked.
pub fn pack_layer(job: &PackJob, below: &RootView) -> Result<(), Error> {
    let blob = crate::rootfs::open_regular(&job.blob).map_err(Error::io("open", &job.blob))?;
    let target = File::create_new(&job.target).map_err(Error::io("make", &job.target))?;
    let packed = erofs::pack(blob, &target, below, Limits::default()).map_err(|error| match error {
        PackError::Archive(error) => Error::Unpack(error.into()),
        PackError::Write(source) => Error::io("write", &job.target)(source),
        PackError::Unfit(unfit) => Error::Unfit(unfit),
    })?;
    check(&job.blob, job.diff_id, packed.diff_id)?;
    write_index(job.index.as_deref(), &packed.index)
}

fn check(blob: &Path, expected: DiffId, actual: DiffId) -> Result<(), Error> {
    if actual == expected {
        return Ok(());
    }
    Err(Error::WrongDiffId { path: blob.to_owned(), expected, actual })
}

fn write_index(path: Option<&Path>, index: &Index) -> Result<(), Error> {
    path.map_or(Ok(()), |path| fs::write(path, index.to_bytes()).map_err(Error::io("write", path)))
}

fn options(job: &UnpackJob) -> UnpackOptions {
    UnpackOptions { owners: job.owners, opaque: job.mark, limits: Limits::default() }
}

/// Opens the file at `path` in the first tree that has anything there. The merged root has a file at this
/// path, so that is the one.
pub(super) fn open_first(lowers: &[Root], path: &[u8]) -> io::Result<File> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    for lower in lowers {
        match lower.open_file(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            opened => return opened,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn note(note: &Note) -> String {
    match note {
        Note::Device { path } => {
            format!("the device `/{}` cannot be made without root; RUN does not see it", path.escape_ascii())
        }
        Note::Xattr { path, name } => {
            let (path, name) = (path.escape_ascii(), name.escape_ascii());
            format!("`/{path}`: the attribute `{name}` cannot be set here; RUN does not see it")
        }
    }
}
