//! Content digests of context files: from the stat cache where it still holds, else from the bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use rayon::prelude::*;

use super::Error;
use super::listing::Entry;
use super::listing::Meta;
use super::scan::{Context, as_path, unreadable};
use crate::busy;

const BUFFER_BYTES: usize = 128 * 1024;

/// What a regular file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// BLAKE3 of its bytes.
    pub content: [u8; 32],
    /// Its `security.capability`, the one extended attribute that images carry.
    pub capability: Option<Box<[u8]>>,
}

/// The digests of a list of entries.
#[derive(Debug, Default)]
pub struct Digests {
    /// By the number of the entry; zeros for what is no regular file.
    contents: Vec<[u8; 32]>,
    /// Those that there are, which are few, by the number of the entry.
    capabilities: BTreeMap<usize, Box<[u8]>>,
}

impl Digests {
    /// The digest of the entry with this number, which must be a regular file.
    pub fn get(&self, number: usize) -> FileDigest {
        FileDigest { content: self.contents[number], capability: self.capabilities.get(&number).cloned() }
    }

    /// The content's digest alone.
    pub fn content(&self, number: usize) -> &[u8; 32] {
        &self.contents[number]
    }
}

impl FromIterator<FileDigest> for Digests {
    fn from_iter<I: IntoIterator<Item = FileDigest>>(digests: I) -> Self {
        let mut all = Self::default();
        for FileDigest { content, capability } in digests {
            all.capabilities.extend(capability.map(|capability| (all.contents.len(), capability)));
            all.contents.push(content);
        }
        all
    }
}

impl Context {
    /// The digests of the regular files among `count` entries, which `entry` gives. What is not in the cache is read on
    /// all processors. A file that is not what the listing says any more is an error.
    pub fn digests<'e>(
        &self,
        count: usize,
        entry: impl Fn(usize) -> Entry<'e> + Sync,
    ) -> Result<Digests, Error> {
        let mut contents = vec![[0; 32]; count];
        let capabilities: Result<Vec<_>, Error> = contents
            .par_iter_mut()
            .enumerate()
            .with_min_len(64)
            .map(|(number, content)| (number, content, entry(number)))
            .filter(|(_, _, entry)| entry.is_file())
            .filter_map(|(number, content, entry)| match self.digest(entry) {
                Err(error) => Some(Err(error)),
                Ok(digest) => {
                    *content = digest.content;
                    digest.capability.map(|capability| Ok((number, capability)))
                }
            })
            .collect();
        Ok(Digests { contents, capabilities: capabilities?.into_iter().collect() })
    }

    /// The BLAKE3 of a regular file that is as it was when an earlier build digested it, which has no capability then; nothing is read.
    pub fn known_content(&self, entry: Entry<'_>) -> Option<[u8; 32]> {
        Some(self.cache()?.digest(entry.remembered()?))
    }

    /// The digest of one regular file.
    pub fn digest(&self, entry: Entry<'_>) -> Result<FileDigest, Error> {
        if let (Some(cache), Some(remembered)) = (self.cache(), entry.remembered()) {
            return Ok(FileDigest { content: cache.digest(remembered), capability: None });
        }
        self.read_digest(entry)
    }

    fn read_digest(&self, entry: Entry<'_>) -> Result<FileDigest, Error> {
        let (at, seen) = (&entry.path(), entry.meta());
        let changed = || Error::Changed { path: as_path(at).to_owned() };
        let mut file = match self.root().open_file(as_path(at)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(changed()),
            other => other.map_err(|error| unreadable(at, error))?,
        };
        let stat = |file: &File| rustix::fs::fstat(file).map_err(|errno| unreadable(at, errno.into()));
        if Meta::from(&stat(&file)?) != seen {
            return Err(changed());
        }
        // Before the bytes are read: what is written later shall not go unseen.
        let watched = self.cache().and_then(|cache| cache.watch(&seen, &file));
        let size = usize::try_from(seen.size).unwrap_or(0);
        let content =
            busy::with("BLAKE3", size, || hash(&mut file)).map_err(|error| unreadable(at, error))?;
        let capability = read_capability(&file).map_err(|errno| unreadable(at, errno.into()))?;
        if Meta::from(&stat(&file)?) != seen {
            return Err(changed());
        }
        if let (Some(cache), Some(watched), None) = (self.cache(), watched, &capability) {
            cache.digested(entry, &content, watched);
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
        let entry = context.entry(b"a").unwrap().unwrap();
        assert_eq!(context.digest(entry).unwrap().content, *blake3::hash(b"hello").as_bytes());
        fs::write(dir.path().join("a"), "longer text").unwrap();
        assert!(matches!(context.digest(entry), Err(Error::Changed { .. })));
        fs::remove_file(dir.path().join("a")).unwrap();
        assert!(matches!(context.digest(entry), Err(Error::Changed { .. })));
    }
}
