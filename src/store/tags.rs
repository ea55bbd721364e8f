//! Names of images, and `index.json` as other tools see them.
//!
//! The truth is one file for each name; `index.json` is written anew from all of them, under a lock.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Store, files, lock};
use crate::oci::{Descriptor, Digest, Index, MediaType, Reference};

/// What other tools call the image by (image-spec, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's word for the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

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
        let name = full_name(reference);
        let record = TagRecord { version: 1, name: name.clone(), descriptor: descriptor.clone() };
        files::replace(&self.next_path()?, &self.tag_path(&name), &json(&record), 0o600)?;
        self.project()
    }

    /// What `reference` names here.
    pub fn tag(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let record = read(&self.tag_path(&full_name(reference)))?;
        Ok(record.map(|(_, descriptor)| descriptor))
    }

    /// All names in the order of their bytes, and what they name.
    pub fn tags(&self) -> Result<Vec<(Reference, Descriptor)>, Error> {
        all(&self.private("tags"))
    }

    /// Forgets a name; whether there was one. The blobs stay.
    pub fn remove_tag(&self, reference: &Reference) -> Result<bool, Error> {
        let path = self.tag_path(&full_name(reference));
        match fs::remove_file(&path) {
            Ok(()) => self.project().map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("remove", &path, e)),
        }
    }

    /// Names may be longer than a file's name can be, so the file is called by the name's digest.
    fn tag_path(&self, name: &str) -> PathBuf {
        self.private("tags").join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    /// Whoever takes the lock last sees every name that was set before, so the last index is complete.
    fn project(&self) -> Result<(), Error> {
        let _lock = lock::exclusive(&self.inner.own.join("index.lock"))?;
        let index = index(&self.private("tags"))?;
        files::replace(&self.next_path()?, &self.root().join("index.json"), &index, 0o644)
    }
}

/// The content of `index.json` for the names in `folder`.
pub(super) fn index(folder: &Path) -> Result<Vec<u8>, Error> {
    Ok(json(&Index {
        schema_version: 2,
        media_type: Some(MediaType::INDEX),
        manifests: all(folder)?.into_iter().map(annotated).collect(),
        annotations: BTreeMap::new(),
    }))
}

fn all(folder: &Path) -> Result<Vec<(Reference, Descriptor)>, Error> {
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
