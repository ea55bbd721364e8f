//! Small files by name, for the cache.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{Error, Store, files, layout};

impl Store {
    /// The record of that name, or `None`.
    pub fn record(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        files::read_small(&self.record_path(name)?)
    }

    /// Writes the record at once; readers see the old one or the new one. Mode 0600.
    pub fn put_record(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.record_folder(name)?;
        files::replace(&self.next_path()?, &path, bytes, 0o600)
    }

    /// Writes the record unless there is one of that name; whether it was written.
    pub fn put_new_record(&self, name: &str, bytes: &[u8]) -> Result<bool, Error> {
        let path = self.record_folder(name)?;
        files::publish_new(&self.next_path()?, &path, bytes, 0o600)
    }

    /// Removes the record; one that is not there is no error.
    pub fn remove_record(&self, name: &str) -> Result<(), Error> {
        let path = self.record_path(name)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
            _ => Ok(()),
        }
    }

    /// `records/ab/cdef…`: the first two characters are a folder, so that none grows too long.
    fn record_path(&self, name: &str) -> Result<PathBuf, Error> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if name.len() < 4 || name.len() > 200 || name.starts_with('.') || !name.bytes().all(safe) {
            return Err(Error::BadRecordName { name: name.to_owned() });
        }
        let (folder, rest) = name.split_at(2);
        Ok(self.inner.own.join("records").join(folder).join(rest))
    }

    fn record_folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.record_path(name)?;
        let folder = path.parent().expect("the path was joined from a folder and a name");
        layout::make_private(folder)?;
        Ok(path)
    }
}
