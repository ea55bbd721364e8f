//! Blobs of which a part is there: what arrived of a transfer outlives the process that began it.
//!
//! `ROOT/rbuild/partial/<hex>` is locked by whoever writes to it. Nothing in there is believed: the bytes are hashed
//! again when somebody goes on.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::blob::BlobWriter;
use super::{Error, Folder, Store, files, lock};
use crate::oci::{Digest, Hasher};

/// A part that nobody went on with for so long is removed.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

impl Store {
    /// The blob `digest`, to be written from where an earlier attempt ended; `known` gets the bytes that are there.
    /// Waits while another process writes the same one, so the caller looks afterwards whether it is there by now.
    /// Dropped, it stays for the next attempt; see [`BlobWriter::forget`].
    ///
    /// # Errors
    /// What the system refuses.
    pub fn resume_blob(&self, digest: &Digest, known: &mut dyn FnMut(&[u8])) -> Result<BlobWriter, Error> {
        let path = self.private(Folder::Partial).join(digest.hex());
        let mut file = open_locked(&path)?;
        let (hasher, written) = read_again(&mut file, known).map_err(|e| Error::io("read", &path, e))?;
        Ok(BlobWriter::resumed(self.clone(), path, file, hasher, written))
    }

    /// Removes parts that nobody goes on with.
    pub fn forget_old_partials(&self) {
        let oldest = SystemTime::now().checked_sub(KEPT_FOR);
        let entries = fs::read_dir(self.private(Folder::Partial)).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let modified = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
            if modified.zip(oldest).is_some_and(|(modified, oldest)| modified < oldest)
                && lock::open(&path).is_ok_and(|file| lock::try_exclusive(&file))
            {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// The file under that name, locked. Whoever held the lock before may have published or removed the file meanwhile.
fn open_locked(path: &Path) -> Result<File, Error> {
    loop {
        let file = match fs::OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(_) => match files::create(path, 0o644) {
                Ok(file) => file,
                // Somebody else was faster.
                Err(_) if path.exists() => continue,
                Err(error) => return Err(error),
            },
        };
        lock::wait_exclusive(&file).map_err(|e| Error::io("lock", path, e))?;
        let inode = |meta: &fs::Metadata| (meta.dev(), meta.ino());
        let ours = file.metadata().map_err(|e| Error::io("read", path, e))?;
        if fs::metadata(path).is_ok_and(|named| inode(&named) == inode(&ours)) {
            return Ok(file);
        }
    }
}

/// Hashes what is there and ends behind it.
fn read_again(file: &mut File, known: &mut dyn FnMut(&[u8])) -> std::io::Result<(Hasher, u64)> {
    let (mut hasher, mut written) = (Hasher::new(), 0);
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher, written)),
            n => {
                hasher.update(&buffer[..n]);
                known(&buffer[..n]);
                written += n as u64;
            }
        }
    }
}

impl BlobWriter {
    fn resumed(store: Store, path: PathBuf, file: File, hasher: Hasher, written: u64) -> Self {
        Self { store, path, file, hasher: Some(hasher), written, kept: false, is_partial: true }
    }

    /// Bytes that are written, those of earlier attempts included.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Begins anew: what is there is wrong, or of no use.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn restart(&mut self) -> Result<(), Error> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|e| Error::io("write", &self.path, e))?;
        (self.hasher, self.written) = (Some(Hasher::new()), 0);
        Ok(())
    }

    /// Removes what was written, also of a blob that others could go on with.
    pub fn forget(mut self) {
        self.is_partial = false;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    fn resume(store: &Store, digest: &Digest) -> (BlobWriter, Vec<u8>) {
        let mut known = Vec::new();
        let writer = store.resume_blob(digest, &mut |bytes| known.extend_from_slice(bytes)).unwrap();
        (writer, known)
    }

    #[test]
    fn what_was_written_is_there_for_the_next_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let digest = Digest::of(b"hello world");
        let (mut writer, known) = resume(&store, &digest);
        assert!(known.is_empty());
        writer.write_all(b"hello ").unwrap();
        drop(writer);
        let (mut writer, known) = resume(&store, &digest);
        assert_eq!((known.as_slice(), writer.written()), (b"hello ".as_slice(), 6));
        writer.write_all(b"world").unwrap();
        assert_eq!(writer.commit(Some(digest)).unwrap(), (digest, 11));
        assert_eq!(store.intact_blob(&digest).unwrap(), Some(11));
        assert_eq!(fs::read_dir(store.private(Folder::Partial)).unwrap().count(), 0);
    }

    #[test]
    fn what_is_wrong_or_empty_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let digest = Digest::of(b"right");
        let (mut writer, _) = resume(&store, &digest);
        writer.write_all(b"wrong").unwrap();
        assert!(matches!(writer.commit(Some(digest)), Err(Error::WrongDigest { .. })));
        let (mut writer, known) = resume(&store, &digest);
        assert!(known.is_empty());
        writer.write_all(b"of no use").unwrap();
        writer.restart().unwrap();
        writer.write_all(b"right").unwrap();
        drop(writer);
        let (writer, known) = resume(&store, &digest);
        assert_eq!(known, b"right");
        writer.forget();
        assert_eq!(fs::read_dir(store.private(Folder::Partial)).unwrap().count(), 0);
        drop(resume(&store, &digest));
        assert_eq!(fs::read_dir(store.private(Folder::Partial)).unwrap().count(), 0);
    }

    #[test]
    fn only_one_writes_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let digest = Digest::of(&[7; 3000]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let (mut writer, _) = resume(&store, &digest);
                    if store.intact_blob(&digest).unwrap().is_some() {
                        assert_eq!(writer.written(), 0);
                        return;
                    }
                    while writer.written() < 3000 {
                        writer.write_all(&[7; 100]).unwrap();
                    }
                    writer.commit(Some(digest)).unwrap();
                });
            }
        });
        assert_eq!(store.intact_blob(&digest).unwrap(), Some(3000));
    }
}
