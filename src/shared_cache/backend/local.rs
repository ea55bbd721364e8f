//! A folder of this machine.
//!
//! ```text
//! blobs/sha256/HEX          layers, indexes
//! rbuild-cache/TAG          the head
//! rbuild-cache/TAG.packs/   what writers left beside it
//! rbuild-cache/TAG.lock     held while the head is written
//! ```
//!
//! Of what BuildKit writes into such a folder nothing is touched.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Backend, Content, Error, Head, PackId, Put, Sent, verified};
use crate::oci::{Descriptor, Digest};
use crate::report::Events;
use crate::shared_cache::Sealed;
use crate::shared_cache::pack::COMPRESSED_LIMIT;
use crate::store::Store;

/// Blobs that are younger stay, whether something names them or not.
const JUST_SENT: Duration = Duration::from_secs(3600);

/// A folder of this machine, such as one that a pipeline keeps.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    tag: String,
}

impl Folder {
    /// The cache named `tag` in the folder `root`, which is made when something is written.
    pub fn new(root: PathBuf, tag: String) -> Self {
        Self { root, tag }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    fn head_path(&self) -> PathBuf {
        self.root.join("rbuild-cache").join(&self.tag)
    }

    fn packs_folder(&self) -> PathBuf {
        self.root.join("rbuild-cache").join(format!("{}.packs", self.tag))
    }

    /// Writes a file whole, by renaming it into place.
    fn write(&self, path: &Path, content: &mut dyn Read) -> Result<u64, Error> {
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(|e| Error::io("make the folder", parent, e))?;
        let fresh = parent.join(format!(".{}", crate::store::unique()));
        let written = File::create_new(&fresh).and_then(|mut file| io::copy(content, &mut file));
        let renamed = written.and_then(|size| fs::rename(&fresh, path).map(|()| size));
        renamed.map_err(|e| {
            let _ = fs::remove_file(&fresh);
            Error::io("write", path, e)
        })
    }

    /// The files of all blobs that a head or a pack in this folder names, under whatever tag.
    fn named(&self) -> Result<BTreeSet<String>, Error> {
        let (mut folders, mut named) = (vec![self.root.join("rbuild-cache")], BTreeSet::new());
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.map_err(|e| Error::io("read", &folder, e))?.path();
                let is_unfinished =
                    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if is_unfinished {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(bytes) = self.read_file(&path, COMPRESSED_LIMIT)?
                    && !bytes.is_empty()
                {
                    // What cannot be read may be a newer version's.
                    let packs = Sealed::parse(&bytes)?;
                    named.extend(packs.blobs().iter().map(|blob| blob.digest.hex()));
                }
            }
        }
        Ok(named)
    }

    fn read_file(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let file = match crate::rootfs::open_regular(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path, e)),
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
        Ok(Some(bytes))
    }
}

impl Backend for Folder {
    fn name(&self) -> String {
        match self.tag.as_str() {
            "latest" => self.root.display().to_string(),
            tag => format!("{}:{tag}", self.root.display()),
        }
    }

    /// Folders lie elsewhere on each machine.
    fn place(&self) -> String {
        format!("local:{}", self.tag)
    }

    fn head(&self) -> Result<Option<Head>, Error> {
        if let Some(pack) = self.read_file(&self.head_path(), COMPRESSED_LIMIT)? {
            return Ok(Some(Head::of_cache(pack, None)));
        }
        match self.root.join("index.json").exists() {
            true => Err(Error::NoPack(
                "it is a cache of BuildKit's, or an image; rbuild keeps its own beside it".to_owned(),
            )),
            false => Ok(None),
        }
    }

    fn put_head(&self, pack: &[u8], _: &[Descriptor], previous: Option<&Head>) -> Result<Put, Error> {
        let folder = self.root.join("rbuild-cache");
        fs::create_dir_all(&folder).map_err(|e| Error::io("make the folder", &folder, e))?;
        let path = folder.join(format!("{}.lock", self.tag));
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock =
            lock.and_then(|file| file.lock().map(|()| file)).map_err(|e| Error::io("lock", &path, e))?;
        let now = self.read_file(&self.head_path(), COMPRESSED_LIMIT)?;
        if now.as_deref() != previous.map(|head| &*head.pack) {
            return Ok(Put::Lost);
        }
        self.write(&self.head_path(), &mut &*pack)?;
        drop(lock);
        Ok(Put::Done)
    }

    fn put_pack(&self, id: &PackId, pack: &[u8], _: &[Descriptor]) -> Result<(), Error> {
        self.write(&self.packs_folder().join(&id.0), &mut &*pack).map(drop)
    }

    fn packs(&self) -> Result<Vec<PackId>, Error> {
        let folder = self.packs_folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("read", &folder, e)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(|e| Error::io("read", &folder, e))?.file_name();
            ids.extend(
                name.to_str().filter(|name| !name.starts_with('.')).map(|name| PackId(name.to_owned())),
            );
        }
        ids.sort();
        Ok(ids)
    }

    fn pack(&self, id: &PackId) -> Result<Option<Vec<u8>>, Error> {
        self.read_file(&self.packs_folder().join(&id.0), COMPRESSED_LIMIT)
    }

    fn remove_pack(&self, id: &PackId) -> Result<(), Error> {
        let _ = fs::remove_file(self.packs_folder().join(&id.0));
        Ok(())
    }

    fn remove(&self) -> Result<(), Error> {
        let _ = fs::remove_dir_all(self.packs_folder());
        match fs::remove_file(self.head_path()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &self.head_path(), e)),
            _ => Ok(()),
        }
    }

    /// Of what others than rbuild name nothing is known, so beside that no blob goes.
    fn sweep(&self) -> Result<u64, Error> {
        if self.root.join("index.json").exists() {
            return Ok(0);
        }
        let named = self.named()?;
        let folder = self.root.join("blobs/sha256");
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(0) };
        let mut freed = 0;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read", &folder, e))?;
            let Ok(meta) = entry.metadata() else { continue };
            // What a writer has just sent will be named soon.
            let age = meta.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            if named.contains(&*entry.file_name().to_string_lossy()) || age < JUST_SENT {
                continue;
            }
            if fs::remove_file(entry.path()).is_ok() {
                freed += meta.len();
            }
        }
        Ok(freed)
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let bytes = self.read_file(&self.blob_path(&blob.digest), blob.size)?;
        verified(blob, bytes.ok_or(Error::NoBlob(blob.digest))?)
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor], _: &Events) -> Result<(), Error> {
        for blob in blobs {
            let path = self.blob_path(&blob.digest);
            let file = crate::rootfs::open_regular(&path).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Error::NoBlob(blob.digest),
                _ => Error::io("read", &path, e),
            })?;
            let mut into = store.new_blob()?;
            io::copy(&mut file.take(blob.size.saturating_add(1)), &mut into)
                .and_then(|_| into.flush())
                .map_err(|e| Error::io("write", into.path(), e))?;
            into.commit(Some(blob.digest))?;
        }
        Ok(())
    }

    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error> {
        let path = self.blob_path(&blob.digest);
        if fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == blob.size) {
            return Ok(Sent::Known);
        }
        let sent = match content {
            Content::Bytes(mut bytes) => self.write(&path, &mut bytes)?,
            Content::Stored(store) => self.write(&path, &mut store.open_blob(&blob.digest)?)?,
        };
        Ok(Sent::Bytes(sent))
    }
}
