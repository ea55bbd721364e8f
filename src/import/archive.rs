//! An archive, spread out in the store's own folder for temporary files: a tar names what comes later.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::{DOCUMENT_LIMIT, Error, Files};
use crate::layer::archive::{Error as ArchiveError, Kind, Limits, Names, Reader, decompress};
use crate::oci::{Digest, Hasher};
use crate::store::{ScratchDir, Store};

/// The files of an archive. They go with the value, but for those that became blobs.
#[derive(Debug)]
pub struct Archive {
    name: String,
    folder: ScratchDir,
    files: BTreeMap<String, Spooled>,
    /// Symlinks and hard links: what they lead to.
    links: BTreeMap<String, String>,
}

/// A file that was written to the folder.
#[derive(Debug, Clone)]
struct Spooled {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl Archive {
    /// Reads a tar, compressed or not. `name` is for messages.
    ///
    /// # Errors
    /// [`Error::BadArchive`], or what the store or the system refuses.
    pub fn read(store: &Store, stream: impl Read, name: &str) -> Result<Self, Error> {
        let folder = store.scratch_dir()?;
        let mut archive =
            Self { name: name.to_owned(), folder, files: BTreeMap::new(), links: BTreeMap::new() };
        let bad = |source| Error::BadArchive { name: name.to_owned(), source };
        let decoder = decompress(stream).map_err(|source| bad(ArchiveError::Read { offset: 0, source }))?;
        let mut reader = Reader::new(decoder, Names::Literal, Limits::default());
        while let Some(member) = reader.next_member().map_err(bad)? {
            let path = String::from_utf8_lossy(&member.path).into_owned();
            match member.kind {
                Kind::File { .. } => {
                    let file = archive.spool(&mut reader.data())?;
                    archive.files.insert(path, file);
                }
                Kind::Symlink(target) => {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let target = joined(folder, &String::from_utf8_lossy(&target));
                    archive.links.insert(path, target);
                }
                Kind::HardLink(target) => {
                    archive.links.insert(path, String::from_utf8_lossy(&target).into_owned());
                }
                _ => {}
            }
        }
        Ok(archive)
    }

    fn spool(&mut self, content: &mut impl Read) -> Result<Spooled, Error> {
        let path = self.folder.path().join(self.files.len().to_string());
        let io = |action, e| Error::io(action, &path, e);
        let mut file = File::create_new(&path).map_err(|e| io("create", e))?;
        let (mut hasher, mut size) = (Hasher::new(), 0);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let source = ArchiveError::Read { offset: size, source };
                    return Err(Error::BadArchive { name: self.name.clone(), source });
                }
            };
            hasher.update(&buffer[..n]);
            size += n as u64;
            file.write_all(&buffer[..n]).map_err(|e| io("write", e))?;
        }
        Ok(Spooled { path, digest: hasher.finish(), size })
    }

    /// The file under a name, behind links.
    fn find(&self, name: &str) -> Option<&Spooled> {
        let mut name = joined("", name);
        // A chain longer than this is a circle.
        for _ in 0..8 {
            match (self.files.get(&name), self.links.get(&name)) {
                (Some(file), _) => return Some(file),
                (None, Some(target)) => name.clone_from(target),
                (None, None) => return None,
            }
        }
        None
    }
}

/// `name` as seen from `folder`, without `.` and `..`; what leads out of the archive stays in it.
fn joined(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Files for Archive {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn small(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(Spooled { path, size, .. }) = self.find(name) else { return Ok(None) };
        if *size > DOCUMENT_LIMIT {
            let reason = format!("it has {size} bytes, more than {DOCUMENT_LIMIT}");
            return Err(Error::BadDocument { name: self.name.clone(), file: name.to_owned(), reason });
        }
        crate::rootfs::read_regular(path).map(Some).map_err(|e| Error::io("read", path, e))
    }

    fn keep(
        &self,
        store: &Store,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<Option<(Digest, u64)>, Error> {
        let Some(Spooled { path, digest, size }) = self.find(name) else { return Ok(None) };
        if expected.is_some_and(|expected| expected != *digest) {
            return Err(Error::Damaged { name: self.name.clone(), file: name.to_owned(), actual: *digest });
        }
        // A second name, so that the file is still there for another image that has it, too.
        let own = path.with_extension("blob");
        let linked = fs::hard_link(path, &own).or_else(|_| fs::copy(path, &own).map(drop));
        linked.map_err(|e| Error::io("write", &own, e))?;
        store.adopt_blob(&own, *digest)?;
        Ok(Some((*digest, *size)))
    }

    fn open(&self, name: &str) -> Result<Option<File>, Error> {
        let Some(Spooled { path, .. }) = self.find(name) else { return Ok(None) };
        crate::rootfs::open_regular(path).map(Some).map_err(|e| Error::io("open", path, e))
    }
}
