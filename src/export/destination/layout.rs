//! An OCI layout as a directory; one that exists gets the image added.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::sink::beside;
use crate::export::contents::Contents;
use crate::export::{Error, naming};
use crate::oci::{Descriptor, Digest, Index};
use crate::store::{Store, has_seal, seal};

/// Adds the blobs of `contents` to the layout `dest`, then `entries` to its `index.json`. An entry of
/// the same name is replaced; the index changes last and at once.
pub(in crate::export) fn write(
    store: &Store,
    contents: &Contents,
    entries: Vec<Descriptor>,
    dest: &Path,
) -> Result<(), Error> {
    // Such an index is a projection of other files, and would be overwritten.
    if dest.join("rbuild/version").exists() {
        return Err(Error::IsAStore { path: dest.to_owned() });
    }
    let blobs = dest.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|e| Error::io("create", &blobs, e))?;
    for (digest, size) in &contents.blobs {
        place_blob(store, digest, *size, &blobs)?;
    }
    // Two exports into one layout must not lose each other's entry.
    let directory = File::open(dest).map_err(|e| Error::io("open", dest, e))?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive)
        .map_err(|e| Error::io("lock", dest, e.into()))?;
    let known = read_index(&dest.join("index.json"))?;
    let entries =
        entries.into_iter().map(|entry| with_known(&known, entry, &blobs)).collect::<Result<_, _>>()?;
    let index = merged(known, entries);
    replace(&dest.join("oci-layout"), naming::LAYOUT)?;
    replace(&dest.join("index.json"), &naming::index(index.manifests, index.annotations))
}

fn place_blob(store: &Store, digest: &Digest, size: u64, blobs: &Path) -> Result<(), Error> {
    let target = blobs.join(digest.hex());
    // The seal tells that nobody wrote to the file since an export put it there.
    if fs::metadata(&target).is_ok_and(|meta| meta.is_file() && meta.len() == size && has_seal(&meta)) {
        return Ok(());
    }
    // In the layout's top folder, where a leftover is no blob with a wrong name.
    let temporary = beside(blobs.parent().expect("it is blobs/sha256"))?;
    let placed =
        share_or_copy(&store.blob_path(digest), &temporary).and_then(|()| fs::rename(&temporary, &target));
    placed.map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", &target, e)
    })
}

/// A second name for the file where that is possible, as `git clone` does with its objects: gigabytes then cost
/// nothing. Should somebody write to it, the store sees that by the file's times (see [`Store::intact_blob`]), and
/// makes the blob anew. Blobs of another user are copied, because what is exported belongs to whoever exports.
fn share_or_copy(blob: &Path, to: &Path) -> io::Result<()> {
    let is_own = fs::metadata(blob)?.uid() == rustix::process::geteuid().as_raw();
    if is_own && fs::hard_link(blob, to).is_ok() {
        return Ok(());
    }
    fs::copy(blob, to)?;
    seal(&File::options().write(true).open(to)?)
}

fn read_index(path: &Path) -> Result<Index, Error> {
    let empty =
        Index { schema_version: 2, media_type: None, manifests: Vec::new(), annotations: BTreeMap::new() };
    match fs::read(path) {
        Ok(bytes) if bytes.is_empty() => Ok(empty),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| Error::BadIndex { path: path.to_owned(), reason: e.to_string() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(empty),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// An index of referrers that stays has what it had, and what is new.
fn with_known(known: &Index, entry: Descriptor, blobs: &Path) -> Result<Descriptor, Error> {
    let is_same = |old: &&Descriptor| {
        naming::is_of_referrers(old)
            && old.annotations.get(naming::REF_NAME) == entry.annotations.get(naming::REF_NAME)
            && old.digest != entry.digest
    };
    let Some(old) = known.manifests.iter().find(is_same).filter(|_| naming::is_of_referrers(&entry)) else {
        return Ok(entry);
    };
    let (old, new) =
        (read_index(&blobs.join(old.digest.hex()))?, read_index(&blobs.join(entry.digest.hex()))?);
    let more =
        new.manifests.into_iter().filter(|new| old.manifests.iter().all(|old| old.digest != new.digest));
    let manifests: Vec<Descriptor> = more.chain(old.manifests.clone()).collect();
    let bytes = naming::index(manifests, BTreeMap::new());
    let digest = Digest::of(&bytes);
    replace(&blobs.join(digest.hex()), &bytes)?;
    Ok(Descriptor { digest, size: bytes.len() as u64, ..entry })
}

/// Without a name, an image is in the index once; with a name, the name is.
fn merged(mut index: Index, entries: Vec<Descriptor>) -> Index {
    let name = |d: &Descriptor| {
        let annotation = |key: &str| d.annotations.get(key).cloned();
        (annotation(naming::REF_NAME), annotation(naming::CONTAINERD_NAME))
    };
    for entry in entries {
        let new = name(&entry);
        index.manifests.retain(|old| name(old) != new || (new == (None, None) && old.digest != entry.digest));
        index.manifests.push(entry);
    }
    index
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = beside(path)?;
    fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path)).map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, e)
    })
}
