//! Names of images, and `index.json` as other tools see them.
//!
//! The truth is one file for each name, which is all that is opened to look one up. `index.json` is made of them under a
//! lock, one line for each. As long as nothing else has changed since it was written, a change of a name is a change of
//! its line (`store/index.rs`).
//!
//! An image that was pushed may have layers that are not here: it is in the registry whole, under its name. Such a name is
//! *remote*, and `index.json`, which others read, does not list it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Folder, Store, files, index, lock};
use crate::oci::{Descriptor, Digest, Reference};

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
    /// Whether layers may be missing, which the registry has under that name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    remote: bool,
}

impl Store {
    /// Lets `reference` (with the tag `latest` unless it has tag or digest) name `descriptor`, and rewrites
    /// `index.json`. Atomic; naming the same thing twice is no error. Whether the blob is there is not asked.
    pub fn set_tag(&self, reference: &Reference, descriptor: &Descriptor) -> Result<(), Error> {
        self.set_tags([(reference, descriptor)])
    }

    /// Lets names stand for an image whose layers need not be here, as the registry has the whole image under these names.
    pub fn set_remote_tags(&self, references: &[Reference], descriptor: &Descriptor) -> Result<(), Error> {
        self.change_tags(references.iter().map(|reference| (reference, descriptor)), true)
    }

    /// Whether layers of what `reference` names may be missing here, and are in the registry.
    pub fn is_remote_tag(&self, reference: &Reference) -> Result<bool, Error> {
        let record = read_record(&self.tag_path(&full_name(reference)))?;
        Ok(record.is_some_and(|record| record.remote))
    }

    /// The names of `target` under which a registry has layers that may be missing here, in the order of their bytes.
    pub fn remote_names_of(&self, target: &Digest) -> Result<Vec<Reference>, Error> {
        let records = all_records(&self.private(Folder::Tags))?;
        let is_meant = |record: &TagRecord| record.remote && record.descriptor.digest == *target;
        let mut names: Vec<String> = records.into_iter().filter(is_meant).map(|record| record.name).collect();
        names.sort();
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Sets many names as [`Store::set_tag`] does; the last counts where a name is there twice. `index.json` is written once.
    pub fn set_tags<'t>(
        &self,
        tags: impl IntoIterator<Item = (&'t Reference, &'t Descriptor)>,
    ) -> Result<(), Error> {
        self.change_tags(tags, false)
    }

    fn change_tags<'t>(
        &self,
        tags: impl IntoIterator<Item = (&'t Reference, &'t Descriptor)>,
        remote: bool,
    ) -> Result<(), Error> {
        let mut tags: BTreeMap<String, &Descriptor> =
            tags.into_iter().map(|(reference, descriptor)| (full_name(reference), descriptor)).collect();
        if tags.is_empty() {
            return Ok(());
        }
        let _lock = lock::exclusive(&self.index_lock())?;
        let is_known = |name: &str, descriptor: &Descriptor| {
            let known = read_record(&self.tag_path(name)).ok().flatten();
            known.is_some_and(|known| known.descriptor == *descriptor && known.remote == remote)
        };
        tags.retain(|name, descriptor| !is_known(name, descriptor));
        self.change_index(|| {
            let mut changes = Vec::new();
            for (name, descriptor) in tags {
                let path = self.tag_path(&name);
                let record =
                    TagRecord { version: 1, name: name.clone(), descriptor: descriptor.clone(), remote };
                files::replace(&self.next_path()?, &path, &json(&record), 0o600)?;
                changes.push((name, (!remote).then(|| descriptor.clone())));
            }
            Ok(changes)
        })
    }

    /// What `reference` names here.
    pub fn tag(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let record = read(&self.tag_path(&full_name(reference)))?;
        Ok(record.map(|(_, descriptor)| descriptor))
    }

    /// All names in the order of their bytes, and what they name.
    pub fn tags(&self) -> Result<Tags, Error> {
        all(&self.private(Folder::Tags))
    }

    /// Like [`Store::tags`], but files that do not parse are given beside the names, with what is wrong with them.
    pub fn tags_and_damage(&self) -> Result<(Tags, Vec<(PathBuf, String)>), Error> {
        let (mut tags, mut damaged) = (Vec::new(), Vec::new());
        for (path, _) in files::list(&self.folder(Folder::Tags))? {
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
        // What is damaged is not listed.
        let mut records = Vec::new();
        for (path, _) in files::list(&self.folder(Folder::Tags))? {
            match read_record(&path) {
                Ok(record) => records.extend(record),
                Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let expected = index_of(records);
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
        let name = full_name(reference);
        let path = self.tag_path(&name);
        let _lock = lock::exclusive(&self.index_lock())?;
        let mut was_there = false;
        self.change_index(|| match fs::remove_file(&path) {
            Ok(()) => {
                was_there = true;
                Ok(vec![(name, None)])
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::io("remove", &path, e)),
        })?;
        Ok(was_there)
    }

    /// Names may be longer than a file's name can be, so the file is called by the name's digest.
    fn tag_path(&self, name: &str) -> PathBuf {
        self.named_file(Folder::Tags, name)
    }

    fn named_file(&self, folder: Folder, name: &str) -> PathBuf {
        self.private(folder).join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    /// Remembers that `reference` stood for `target`, a manifest or an index in the store, when a registry was asked. Saying
    /// so again costs one look and notes the time.
    pub fn set_fetched(&self, reference: &Reference, target: &Descriptor) -> Result<(), Error> {
        let name = full_name(reference);
        let path = self.named_file(Folder::Fetched, &name);
        if read(&path).ok().flatten().is_some_and(|(_, known)| known == *target) {
            files::touch(&path);
            return Ok(());
        }
        let record = TagRecord { version: 1, name, descriptor: target.clone(), remote: false };
        files::replace(&self.next_path()?, &path, &json(&record), 0o600)
    }

    /// What `reference` stood for when a registry was asked last. Notes the time, as that of its last use.
    pub fn last_fetched(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let path = self.named_file(Folder::Fetched, &full_name(reference));
        let record = read(&path)?;
        if record.is_some() {
            files::touch(&path);
        }
        Ok(record.map(|(_, descriptor)| descriptor))
    }

    /// All names that registries were asked for. Files that do not parse are left out.
    pub fn fetched(&self) -> Result<Vec<Fetched>, Error> {
        let folder = self.folder(Folder::Fetched);
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
        files::remove(&self.named_file(Folder::Fetched, &full_name(reference)))
    }

    /// Held while a name and `index.json` are changed, so that whoever holds it sees both before or after that.
    fn index_lock(&self) -> PathBuf {
        self.inner.own.join("index.lock")
    }

    /// Changes names and then `index.json`; the caller holds the lock. `change` gives the full names that changed, with what
    /// they name now. Where nothing did, and `index.json` is as it was left, nothing is written.
    fn change_index(&self, change: impl FnOnce() -> Result<Changes, Error>) -> Result<(), Error> {
        let was_current = State::of(self).is_some_and(|now| State::written(self) == Some(now));
        let changes = change()?;
        match (was_current, changes.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => match self.spliced(changes)? {
                Some(index) => self.write_index(&index),
                None => self.project(),
            },
            (false, _) => self.project(),
        }
    }

    /// `index.json` with some of its lines changed; `None` when it does not look as rbuild writes it.
    fn spliced(&self, changes: Changes) -> Result<Option<Vec<u8>>, Error> {
        let Some(text) = files::read_small(&self.root().join("index.json"))? else { return Ok(None) };
        Ok(index::splice(&text, changes))
    }

    /// Writes `index.json` of all names; the caller holds the lock.
    fn project(&self) -> Result<(), Error> {
        self.write_index(&index(&self.private(Folder::Tags))?)
    }

    fn write_index(&self, index: &[u8]) -> Result<(), Error> {
        files::replace(&self.next_path()?, &self.root().join("index.json"), index, 0o644)?;
        match State::of(self) {
            Some(state) => files::replace(&self.next_path()?, &State::path(self), &json(&state), 0o600),
            None => Ok(()),
        }
    }
}

/// Full names, and what they name now; `None` of one that is gone.
type Changes = Vec<(String, Option<Descriptor>)>;

/// By what `index.json` and the folder of names are known again: device and inode aside, all that changes with them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// Inode, size, and the nanoseconds of the last change of content and of status of `index.json`.
    index: [i128; 4],
    /// Inode, a zero, and the times of the folder of names, whose size says nothing.
    names: [i128; 4],
}

impl State {
    fn of(store: &Store) -> Option<Self> {
        let look = |path: &Path| {
            let meta = fs::symlink_metadata(path).ok()?;
            let nanoseconds =
                |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
            let size = if meta.is_dir() { 0 } else { i128::from(meta.len()) };
            let changed = nanoseconds(meta.mtime(), meta.mtime_nsec());
            Some([i128::from(meta.ino()), size, changed, nanoseconds(meta.ctime(), meta.ctime_nsec())])
        };
        Some(Self {
            index: look(&store.root().join("index.json"))?,
            names: look(&store.private(Folder::Tags))?,
        })
    }

    /// As it was when `index.json` was written last.
    fn written(store: &Store) -> Option<Self> {
        serde_json::from_slice(&files::read_small(&Self::path(store)).ok()??).ok()
    }

    fn path(store: &Store) -> PathBuf {
        store.inner.own.join("index.state")
    }
}

/// The content of `index.json` for the names in `folder`.
pub(super) fn index(folder: &Path) -> Result<Vec<u8>, Error> {
    Ok(index_of(all_records(folder)?))
}

fn index_of(mut records: Vec<TagRecord>) -> Vec<u8> {
    records.retain(|record| !record.remote);
    records.sort_by(|a, b| a.name.cmp(&b.name));
    index::of_lines(records.iter().map(|record| index::line(&record.name, &record.descriptor)))
}

fn all(folder: &Path) -> Result<Tags, Error> {
    let mut tags = Vec::new();
    for path in paths(folder)? {
        // `None`: another process has removed it since.
        tags.extend(read(&path)?);
    }
    tags.sort_by_cached_key(|(reference, _)| reference.full());
    Ok(tags)
}

fn all_records(folder: &Path) -> Result<Vec<TagRecord>, Error> {
    let mut records = Vec::new();
    for path in paths(folder)? {
        records.extend(read_record(&path)?);
    }
    Ok(records)
}

fn paths(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
    entries.map(|entry| Ok(entry.map_err(|e| Error::io("read", folder, e))?.path())).collect()
}

fn full_name(reference: &Reference) -> String {
    reference.clone().with_default_tag().full()
}

fn read(path: &Path) -> Result<Option<(Reference, Descriptor)>, Error> {
    let Some(record) = read_record(path)? else { return Ok(None) };
    let reference =
        record.name.parse().map_err(|e: crate::oci::ReferenceError| corrupt(path, e.to_string()))?;
    Ok(Some((reference, record.descriptor)))
}

fn read_record(path: &Path) -> Result<Option<TagRecord>, Error> {
    let Some(bytes) = files::read_written(path)? else { return Ok(None) };
    let record: TagRecord = serde_json::from_slice(&bytes).map_err(|e| corrupt(path, e.to_string()))?;
    match record.version {
        1 => Ok(Some(record)),
        other => Err(corrupt(path, format!("its version is {other}, not 1"))),
    }
}

fn corrupt(path: &Path, reason: String) -> Error {
    Error::Corrupt { path: path.to_owned(), reason }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec_pretty(value).expect("these types have string keys and no failing serialisers");
    bytes.push(b'\n');
    bytes
}
