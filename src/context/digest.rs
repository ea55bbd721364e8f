//! Content digests of context files: from the stat cache where it still holds, else from the bytes.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;

use rayon::prelude::*;

use super::Error;
use super::scan::{Context, Meta, as_path, meta, unreadable};
use super::statcache::Recording;

const BUFFER_BYTES: usize = 128 * 1024;

/// What a regular file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// BLAKE3 of its bytes.
    pub content: [u8; 32],
    /// Its `security.capability`, the one extended attribute that images carry.
    pub capability: Option<Box<[u8]>>,
}

impl Context {
    /// The digests of regular files, in the order given; fast when that is the order of a walk. What is not in
    /// the cache is read on all processors. A file that is not what the listing says any more is an error.
    pub fn digests<P: AsRef<[u8]> + Sync>(&self, files: &[(P, &Meta)]) -> Result<Vec<FileDigest>, Error> {
        let known = match self.cache() {
            Some(cache) => {
                let mut cursor = cache.cursor();
                files.iter().map(|(path, meta)| cursor.find(path.as_ref(), meta)).collect()
            }
            None => vec![None; files.len()],
        };
        let recording = self.cache().map(super::statcache::StatCache::recording);
        let read = |((path, meta), known): (&(P, &Meta), Option<[u8; 32]>)| match known {
            Some(content) => Ok(FileDigest { content, capability: None }),
            None => self.read_digest(path.as_ref(), meta, recording.as_ref()),
        };
        files.par_iter().zip(known).with_min_len(64).map(read).collect()
    }

    fn read_digest(
        &self,
        at: &[u8],
        seen: &Meta,
        recording: Option<&Recording<'_>>,
    ) -> Result<FileDigest, Error> {
        let changed = || Error::Changed { path: as_path(at).to_owned() };
        let mut file = match self.root().open_file(as_path(at)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(changed()),
            other => other.map_err(|error| unreadable(at, error))?,
        };
        let stat = |file: &File| rustix::fs::fstat(file).map_err(|errno| unreadable(at, errno.into()));
        if meta(&stat(&file)?) != *seen {
            return Err(changed());
        }
        let content = hash(&mut file).map_err(|error| unreadable(at, error))?;
        let capability = read_capability(&file).map_err(|errno| unreadable(at, errno.into()))?;
        if meta(&stat(&file)?) != *seen {
            return Err(changed());
        }
        if let (Some(recording), None) = (recording, &capability) {
            recording.add(at, seen, &content, &file);
        }
        Ok(FileDigest { content, capability })
    }
}

fn hash(file: &mut File) -> std::io::Result<[u8; 32]> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
    }
    let mut hasher = blake3::Hasher::new();
    BUFFER.with_borrow_mut(|buffer| {
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(*hasher.finalize().as_bytes()),
                Ok(len) => hasher.update(&buffer[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
        }
    })
}

fn read_capability(file: &File) -> rustix::io::Result<Option<Box<[u8]>>> {
    // Version 3 of the attribute has 24 bytes (linux/capability.h, XATTR_CAPS_SZ_3).
    let mut value = [0; 64];
    match rustix::fs::fgetxattr(file, "security.capability", &mut value) {
        Ok(len) => Ok(Some(value[..len].into())),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn digests_the_bytes_and_notices_a_change() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "hello").unwrap();
        let context = Context::open(dir.path(), None, None).unwrap();
        let node = context.entry(b"a").unwrap().unwrap();
        let digests = context.digests(&[("a", node.meta())]).unwrap();
        assert_eq!(digests[0].content, *blake3::hash(b"hello").as_bytes());
        fs::write(dir.path().join("a"), "longer text").unwrap();
        assert!(matches!(context.digests(&[("a", node.meta())]), Err(Error::Changed { .. })));
        fs::remove_file(dir.path().join("a")).unwrap();
        assert!(matches!(context.digests(&[("a", node.meta())]), Err(Error::Changed { .. })));
    }
}
