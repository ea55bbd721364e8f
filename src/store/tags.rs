//! Names of images, and `index.json` as other tools see them.
//!
//! The truth is one file for each name; `index.json` is written anew from all of them, under a lock.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Store, files, lock};
use crate::oci::{Descriptor, Digest, Index, MediaType, Reference};

/// What other tools call the image by (image-spec, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's word for the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Names and what they name.
pub type Tags = Vec<(Reference, Descriptor)>;

/// What a name stood for when a registry was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The name.
    pub reference: Reference,
    /// A manifest or an index.
    pub target: Descriptor,
    /// Seconds since 1970 at which a build last asked.
    pub last_used: i64,
}

#[derive(Serialize, Deserialize)]
struct TagRecord {
    version: u32,
    name: String,
    descriptor: Descriptor,
}

impl Store {
    /// Lets `reference` (with the tag `latest` unless it has tag or digest) name `descriptor`, and rewrites
    /// `index.json`. Atomic; naming the same thing twice is no error. Whether the blob is there is not asked.
    pub fn set_tag(&self, reference: &Reference, descriptor: &Descriptor) -> Result<(), Error> {
        self.set_tags([(reference, descriptor)])
    }

    /// The same for many, of which the last counts where a name is there twice; `index.json` is written once.
    pub fn set_tags<'t>(
        &self,
        tags: impl IntoIterator<Item = (&'t Reference, &'t Descriptor)>,
    ) -> Result<(), Error> {
        let tags: BTreeMap<String, &Descriptor> =
            tags.into_iter().map(|(reference, descriptor)| (full_name(reference), descriptor)).collect();
        if tags.is_empty() {
            return Ok(());
        }
        let _lock = lock::exclusive(&self.index_lock())?;
        for (name, descriptor) in tags {
            let path = self.tag_path(&name);
            let record = TagRecord { version: 1, name, descriptor: descriptor.clone() };
            files::replace(&self.next_path()?, &path, &json(&record), 0o600)?;
        }
        self.project()
    }

    /// What `reference` names here.
    pub fn tag(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let record = read(&self.tag_path(&full_name(reference)))?;
        Ok(record.map(|(_, descriptor)| descriptor))
    }

    /// All names in the order of their bytes, and what they name.
    pub fn tags(&self) -> Result<Tags, Error> {
        all(&self.private("tags"))
    }

    /// Like [`Store::tags`], but files that do not parse are given beside the names, with what is wrong with them.
    pub fn tags_and_damage(&self) -> Result<(Tags, Vec<(PathBuf, String)>), Error> {
        let (mut tags, mut damaged) = (Vec::new(), Vec::new());
        for (path, _) in files::list(&self.folder("tags"))? {
            match read(&path) {
                Ok(tag) => tags.extend(tag),
                Err(Error::Corrupt { reason, .. }) => damaged.push((path, reason)),
                Err(error) => return Err(error),
            }
        }
        tags.sort_by_cached_key(|(reference, _)| reference.full());
        Ok((tags, damaged))
    }

    /// Whether `index.json` lists the names that there are.
    pub fn index_is_current(&self) -> Result<bool, Error> {
        let _lock = lock::shared(&self.index_lock())?;
        let written = files::read_small(&self.root().join("index.json"))?;
        let expected = index_of(&self.tags_and_damage()?.0);
        Ok(written.as_deref() == Some(expected.as_slice()))
    }

    /// Writes `index.json` anew.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a name's file does not parse.
    pub fn rewrite_index(&self) -> Result<(), Error> {
        let _lock = lock::exclusive(&self.index_lock())?;
        self.project()
    }

    /// Forgets a name; whether there was one. The blobs stay.
    pub fn remove_tag(&self, reference: &Reference) -> Result<bool, Error> {
        let path = self.tag_path(&full_name(reference));
        let _lock = lock::exclusive(&self.index_lock())?;
        match fs::remove_file(&path) {
            Ok(()) => self.project().map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("remove", &path, e)),
        }
    }

    /// Names may be longer than a file's name can be, so the file is called by the name's digest.
    fn tag_path(&self, name: &str) -> PathBuf {
        self.named_file("tags", name)
    }

    fn named_file(&self, folder: &str, name: &str) -> PathBuf {
        self.private(folder).join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    /// Remembers that `reference` stood for `target`, a manifest or an index in the store, when a registry was asked. Saying
    /// so again costs one look and notes the time.
    pub fn set_fetched(&self, reference: &Reference, target: &Descriptor) -> Result<(), Error> {
        let name = full_name(reference);
        let path = self.named_file("fetched", &name);
        if read(&path).ok().flatten().is_some_and(|(_, known)| known == *target) {
            files::touch(&path);
            return Ok(());
        }
        let record = TagRecord { version: 1, name, descriptor: target.clone() };
        files::replace(&self.next_path()?, &path, &json(&record), 0o600)
    }

    /// What `reference` stood for when a registry was asked last. Notes the time, as that of its last use.
    pub fn last_fetched(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let path = self.named_file("fetched", &full_name(reference));
        let record = read(&path)?;
        if record.is_some() {
            files::touch(&path);
        }
        Ok(record.map(|(_, descriptor)| descriptor))
    }

    /// All names that registries were asked for. Files that do not parse are left out.
    pub fn fetched(&self) -> Result<Vec<Fetched>, Error> {
        let folder = self.folder("fetched");
        let mut all = Vec::new();
        for (path, meta) in files::list(&folder)? {
            if let Ok(Some((reference, target))) = read(&path) {
                all.push(Fetched { reference, target, last_used: meta.mtime() });
            }
        }
        all.sort_by_cached_key(|fetched| fetched.reference.full());
        Ok(all)
    }

    /// Forgets what a registry said; one that is not remembered is no error.
    pub fn forget_fetched(&self, reference: &Reference) -> Result<(), Error> {
        files::remove(&self.named_file("fetched", &full_name(reference)))
    }

    /// Held while a name and `index.json` are changed, so that whoever holds it sees both before or after that.
    fn index_lock(&self) -> PathBuf {
        self.inner.own.join("index.lock")
    }

    /// Writes `index.json`; the caller holds the lock.
    fn project(&self) -> Result<(), Error> {
        let index = index(&self.private("tags"))?;
        files::replace(&self.next_path()?, &self.root().join("index.json"), &index, 0o644)
    }
}

/// The content of `index.json` for the names in `folder`.
pub(super) fn index(folder: &Path) -> Result<Vec<u8>, Error> {
    Ok(index_of(&all(folder)?))
}

fn index_of(tags: &[(Reference, Descriptor)]) -> Vec<u8> {
    json(&Index {
        schema_version: 2,
        media_type: Some(MediaType::INDEX),
        manifests: tags.iter().cloned().map(annotated).collect(),
        annotations: BTreeMap::new(),
    })
}

fn all(folder: &Path) -> Result<Tags, Error> {
    let mut tags = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))? {
        let entry = entry.map_err(|e| Error::io("read", folder, e))?;
        // `None`: another process has removed it since.
        if let Some(tag) = read(&entry.path())? {
            tags.push(tag);
        }
    }
    tags.sort_by_cached_key(|(reference, _)| reference.full());
    Ok(tags)
}

fn annotated((reference, mut descriptor): (Reference, Descriptor)) -> Descriptor {
    descriptor.annotations.insert(REF_NAME.to_owned(), reference.full());
    descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), reference.full());
    descriptor
}

fn full_name(reference: &Reference) -> String {
    reference.clone().with_default_tag().full()
}

fn read(path: &Path) -> Result<Option<(Reference, Descriptor)>, Error> {
    let Some(bytes) = files::read_written(path)? else { return Ok(None) };
    let corrupt = |reason: String| Error::Corrupt { path: path.to_owned(), reason };
    let record: TagRecord = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
    if record.version != 1 {
        return Err(corrupt(format!("its version is {}, not 1", record.version)));
    }
    let reference = record.name.parse().map_err(|e: crate::oci::ReferenceError| corrupt(e.to_string()))?;
    Ok(Some((reference, record.descriptor)))
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec_pretty(value).expect("these types have string keys and no failing serialisers");
    bytes.push(b'\n');
    bytes
}
