//! Blobs: written once, under the name of their digest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD};

use super::{Error, Store, files, layout};
use crate::oci::{Descriptor, Digest, Hasher};

impl Store {
    /// Where the blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.blobs.join(digest.hex())
    }

    /// The size in bytes of a blob that is there. Its content is not read, and after a crash may not be what it was;
    /// see [`Store::intact_blob`].
    pub fn has_blob(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().filter(fs::Metadata::is_file).map(|m| m.len())
    }

    /// Opens a blob for reading. The caller verifies, or trusts that nobody changed the store.
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

    /// The whole blob, with size and digest verified. One that fails is set aside.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::TooLarge`] when the descriptor names more than `limit` bytes,
    /// [`Error::WrongSize`] when the descriptor does not fit, [`Error::Damaged`] when the blob is not what it
    /// was.
    pub fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        let Descriptor { digest, size, .. } = *descriptor;
        if size > limit {
            return Err(Error::TooLarge { digest, size, limit });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        let file = self.open_blob(&digest)?;
        let path = self.blob_path(&digest);
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", &path, e))?;
        if Digest::of(&bytes) == digest {
            return match bytes.len() as u64 {
                actual if actual == size => Ok(bytes),
                actual => Err(Error::WrongSize { digest, expected: size, actual }),
            };
        }
        // Longer than the caller's limit is no damage: then the descriptor was wrong.
        match self.has_blob(&digest) {
            Some(actual) if actual > limit => Err(Error::WrongSize { digest, expected: size, actual }),
            _ => {
                self.trash(&path)?;
                Err(Error::Damaged { digest })
            }
        }
    }

    /// The digest of the bytes of a blob that is there; nothing is set aside.
    pub fn hash_blob(&self, digest: &Digest) -> Result<Option<Digest>, Error> {
        match self.open_blob(digest) {
            Ok(file) => hash(&file).map(Some).map_err(|e| Error::io("read", &self.blob_path(digest), e)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the blob is there and its bytes have its digest. One that is damaged is set aside.
    pub fn verify_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let file = match self.open_blob(digest) {
            Ok(file) => file,
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(e) => return Err(e),
        };
        let path = self.blob_path(digest);
        if hash(&file).map_err(|e| Error::io("read", &path, e))? == *digest {
            return Ok(true);
        }
        self.trash(&path)?;
        Ok(false)
    }

    /// The size of a blob that is there and whole. Costs a look at its times when it was written or verified since
    /// the machine was started, or before the store was [synced](Store::sync), and nobody wrote to it since; else its bytes are hashed, once: a crash may have cut
    /// them off, or somebody changed a layout that shares them. One that is damaged is set aside and counts as none.
    pub fn intact_blob(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let path = self.blob_path(digest);
        let Ok(meta) = fs::metadata(&path) else { return Ok(None) };
        if !self.is_known_whole(&meta) {
            if !self.verify_blob(digest)? {
                return Ok(None);
            }
            // The change time becomes now, which is what the next look sees. A store of another user stays as it is.
            let _ = rustix::fs::utimensat(CWD, &path, &SEALED, AtFlags::empty());
        }
        Ok(Some(meta.len()))
    }

    /// Whether a blob need not be hashed again.
    fn is_known_whole(&self, meta: &fs::Metadata) -> bool {
        let is_on_disk = || self.is_older_than_sync(meta.ctime());
        meta.is_file() && (meta.ctime() > boot_time() || is_on_disk()) && self.is_sealed(meta)
    }

    /// The digests of the blobs whose hex digits begin with `digits`.
    pub fn blobs_that_begin_with(&self, digits: &str) -> Result<Vec<Digest>, Error> {
        let folder = self.inner.root.join("blobs/sha256");
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|e| Error::io("read", &folder, e))? {
            let name = entry.map_err(|e| Error::io("read", &folder, e))?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(digits) {
                found.extend(format!("sha256:{name}").parse::<Digest>().ok());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Every blob that is there, by digest. Files with other names are left out.
    pub fn blobs(&self) -> Result<BTreeMap<Digest, BlobState>, Error> {
        let mut blobs = BTreeMap::new();
        for (path, meta) in files::list(&self.inner.blobs)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Ok(digest) = format!("sha256:{name}").parse::<Digest>()
                && meta.is_file()
            {
                let disk_bytes = meta.blocks() * 512;
                let shared = meta.nlink() > 1;
                blobs.insert(
                    digest,
                    BlobState { bytes: meta.len(), disk_bytes, changed: meta.ctime(), shared },
                );
            }
        }
        Ok(blobs)
    }

    /// Removes a blob at once; one that is not there is no error. Whoever has it open keeps it.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), Error> {
        files::remove(&self.blob_path(digest))
    }

    /// Whether nobody wrote to a blob since it was sealed. Its owner counts, too: whoever was given a layout that
    /// shares the file may write to it and then set any time.
    fn is_sealed(&self, meta: &fs::Metadata) -> bool {
        let owner = fs::metadata(&self.inner.blobs).map(|folder| folder.uid());
        has_seal(meta) && owner.is_ok_and(|owner| owner == meta.uid())
    }

    /// Keeps `bytes`, meant for small blobs, and gives their digest. Keeping them twice is no error.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        let there = self.has_blob(&digest) == Some(bytes.len() as u64);
        if there && files::read_small(&path)?.as_deref() == Some(bytes) {
            return Ok(digest);
        }
        let scratch = self.next_path()?;
        files::write_new(&scratch, bytes, 0o644)?;
        self.adopt_blob(&scratch, digest)?;
        Ok(digest)
    }

    /// A blob that is there already, and whole, stays: writing it out could be lost in a crash of the machine, and
    /// renaming over it waits for the disk. The rename heals: a file of that name that a crash has damaged is replaced.
    fn publish(&self, scratch: &Path, digest: &Digest) -> Result<(), Error> {
        let target = self.blob_path(digest);
        if fs::metadata(&target).is_ok_and(|meta| self.is_known_whole(&meta))
            // Its change time becomes now, so that nobody takes it for unused. The store may belong to another user.
            && rustix::fs::utimensat(CWD, &target, &SEALED, AtFlags::empty()).is_ok()
        {
            return files::remove(scratch);
        }
        match fs::rename(scratch, &target) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                layout::make_blobs(self.root())?;
                files::rename(scratch, &target)
            }
            Err(e) => {
                let _ = fs::remove_file(scratch);
                Err(Error::io("write", &target, e))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Takes over a finished file on the store's file system as the blob `digest`. The caller vouches for its
    /// content: the bytes were hashed while they were written.
    pub fn adopt_blob(&self, file: &Path, digest: Digest) -> Result<(), Error> {
        let sealed = rustix::fs::utimensat(CWD, file, &SEALED, AtFlags::empty());
        sealed.map_err(|e| Error::io("write", file, e.into()))?;
        self.publish(file, &digest)
    }

    /// A blob to be written.
    pub fn new_blob(&self) -> Result<BlobWriter, Error> {
        let path = self.next_path()?;
        let file = files::create(&path, 0o644)?;
        Ok(BlobWriter {
            store: self.clone(),
            path,
            file,
            hasher: Some(Hasher::new()),
            written: 0,
            kept: false,
            is_partial: false,
        })
    }
}

/// What the file system knows of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobState {
    /// Its size.
    pub bytes: u64,
    /// What it takes up on disk.
    pub disk_bytes: u64,
    /// Seconds since 1970 at which it was written, or verified after a start of the machine.
    pub changed: i64,
    /// Whether a layout elsewhere has the same file, so that removing it here frees nothing.
    pub shared: bool,
}

/// A blob that is being written: a file in the folder of this process, gone on drop unless committed; or one that
/// [`Store::resume_blob`] gave, which stays.
pub struct BlobWriter {
    pub(super) store: Store,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Of what went through [`Write`]; `None` when the caller does the hashing.
    pub(super) hasher: Option<Hasher>,
    pub(super) written: u64,
    pub(super) kept: bool,
    /// It stays for the next attempt when it is dropped.
    pub(super) is_partial: bool,
}

impl BlobWriter {
    /// Stops hashing what is written: for callers that hash themselves and end with
    /// [`BlobWriter::commit_trusted`].
    pub fn without_hashing(mut self) -> Self {
        self.hasher = None;
        self
    }

    /// The file, for positioned writes and reads. Who writes here ends with [`BlobWriter::commit_trusted`];
    /// [`BlobWriter::commit`] then reads the whole file again.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the file is until it is committed, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Publishes the blob under the digest of its bytes, which must be `expected` if that is given; gives
    /// digest and size. Atomic; a blob of the same digest is replaced by equal bytes.
    ///
    /// # Errors
    /// [`Error::WrongDigest`]: then nothing was published.
    pub fn commit(mut self, expected: Option<Digest>) -> Result<(Digest, u64), Error> {
        let len = self.len()?;
        let actual = match self.hasher.take() {
            Some(hasher) if self.written == len => hasher.finish(),
            _ => hash_from_start(&self.file).map_err(|e| Error::io("read", &self.path, e))?,
        };
        match expected {
            Some(expected) if expected != actual => {
                self.is_partial = false;
                Err(Error::WrongDigest { expected, actual })
            }
            _ => self.publish(actual).map(|()| (actual, len)),
        }
    }

    /// Publishes the blob under `digest`, which the caller computed from the bytes that it wrote; they are
    /// not hashed again. Only the size is compared.
    ///
    /// # Errors
    /// [`Error::WrongSize`]: then nothing was published.
    pub fn commit_trusted(self, digest: Digest, size: u64) -> Result<(Digest, u64), Error> {
        let actual = self.len()?;
        if actual != size {
            return Err(Error::WrongSize { digest, expected: size, actual });
        }
        self.publish(digest).map(|()| (digest, size))
    }

    fn len(&self) -> Result<u64, Error> {
        self.file.metadata().map(|m| m.len()).map_err(|e| Error::io("read", &self.path, e))
    }

    fn publish(mut self, digest: Digest) -> Result<(), Error> {
        // Positioned writes are counted here.
        let uncounted = self.len()?.saturating_sub(self.written);
        self.store.take_room(uncounted)?;
        seal(&self.file).map_err(|e| Error::io("write", &self.path, e))?;
        self.kept = true;
        self.store.publish(&self.path, &digest)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.store.take_room(bytes.len() as u64)?;
        let n = self.file.write(bytes).map_err(|e| named(&self.path, e))?;
        self.store.give_back_room((bytes.len() - n) as u64);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes[..n]);
        }
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A full disk shall be reported with its path and the way on, also through writers that speak `io::Error`.
fn named(path: &Path, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    Error::io("write", path, error).into()
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let stays = self.is_partial && self.written > 0;
        if !self.kept && !stays {
            self.store.give_back_room(self.written);
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Seconds since 1970 at which this machine was started, by its present clock.
fn boot_time() -> i64 {
    use rustix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::Realtime).tv_sec - clock_gettime(ClockId::Boottime).tv_sec
}

/// The modification time of every blob. Writing to a file changes it, so a blob that has it is as it was published,
/// also when a layout elsewhere shares the file.
const SEAL: rustix::fs::Timespec = rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 };

/// Access time now, modification time the seal.
const SEALED: rustix::fs::Timestamps = rustix::fs::Timestamps {
    last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
    last_modification: SEAL,
};

/// Marks a file as a complete blob that nobody writes to any more.
pub fn seal(file: &File) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &SEALED)?)
}

/// Whether nobody wrote to a file since it was [sealed](seal).
pub fn has_seal(meta: &fs::Metadata) -> bool {
    (meta.mtime(), meta.mtime_nsec()) == (SEAL.tv_sec, 0)
}

fn hash_from_start(file: &File) -> io::Result<Digest> {
    use std::io::Seek;
    let mut reader = file;
    reader.rewind()?;
    hash(file)
}

fn hash(mut file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
