//! Small files by name, for the cache.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Error, Folder, Store, files, layout};

/// What the file system knows of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordState {
    /// Seconds since 1970 at which it was written or [used](Store::touch_record).
    pub changed: i64,
    /// What it takes up on disk.
    pub disk_bytes: u64,
}

impl Store {
    /// The record of that name, or `None`.
    pub fn record(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        files::read_small(&self.record_path(name)?)
    }

    /// Writes the record at once; readers see the old one or the new one. Mode 0600.
    pub fn put_record(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.put_record_with(name, |file| file.write_all(bytes))
    }

    /// Writes the record through `fill`, as [`Store::put_record`] does, when it is too large to be in memory as a whole.
    pub fn put_record_with(
        &self,
        name: &str,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), Error> {
        let (path, scratch) = (self.record_folder(name)?, self.next_path()?);
        files::write_new_with(&scratch, 0o600, fill)?;
        files::supersede(&scratch, &path).map_err(|e| Error::io("write", &path, e))
    }

    /// Writes the record unless there is one of that name; whether it was written.
    pub fn put_new_record(&self, name: &str, bytes: &[u8]) -> Result<bool, Error> {
        let path = self.record_folder(name)?;
        files::publish_new(&self.next_path()?, &path, bytes, 0o600)
    }

    /// Removes the record; one that is not there is no error.
    pub fn remove_record(&self, name: &str) -> Result<(), Error> {
        files::remove(&self.record_path(name)?)
    }

    /// Notes that a record was used now; see [`RecordState::changed`].
    pub fn touch_record(&self, name: &str) {
        if let Ok(path) = self.record_path(name) {
            files::touch(&path);
        }
    }

    /// All records by name.
    pub fn record_names(&self) -> Result<BTreeMap<String, RecordState>, Error> {
        let mut names = BTreeMap::new();
        for (folder, meta) in files::list(&self.folder(Folder::Records))? {
            let Some(start) = folder.file_name().and_then(|n| n.to_str()).filter(|_| meta.is_dir()) else {
                continue;
            };
            for (path, meta) in files::list(&folder)? {
                if let Some(rest) = path.file_name().and_then(|n| n.to_str()) {
                    let state = RecordState { changed: meta.mtime(), disk_bytes: meta.blocks() * 512 };
                    names.insert(format!("{start}{rest}"), state);
                }
            }
        }
        Ok(names)
    }

    fn record_path(&self, name: &str) -> Result<PathBuf, Error> {
        path(&self.folder(Folder::Records), name)
    }

    fn record_folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.record_path(name)?;
        let folder = path.parent().expect("the path was joined from a folder and a name");
        layout::make_private(folder)?;
        Ok(path)
    }
}

/// `records/ab/cdef…`: the first two characters are a folder, so that none grows too long.
pub(super) fn path(records: &Path, name: &str) -> Result<PathBuf, Error> {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if name.len() < 4 || name.len() > 200 || name.starts_with('.') || !name.bytes().all(safe) {
        return Err(Error::BadRecordName { name: name.to_owned() });
    }
    let (folder, rest) = name.split_at(2);
    Ok(records.join(folder).join(rest))
}
