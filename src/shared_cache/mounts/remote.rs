//! Snapshots at a backend.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use super::manifest::PACK_LIMIT;
use super::{Error, Snapshot};
use crate::oci::{Descriptor, Digest, MediaType, Seconds};
use crate::shared_cache::backend::{self, Backend};
use crate::store::ScratchDir;
use crate::sync::lock;

/// Blobs that are read at the same time.
const AT_ONCE: usize = 4;
/// A manifest that is larger, as it travels, is not read.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// Why a snapshot was not brought.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    /// The backend could not.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// It is not what it should be.
    #[error(transparent)]
    Snapshot(#[from] Error),
}

/// Brings all blobs of a snapshot into a folder, each under the digits of its digest.
///
/// # Errors
/// The first.
pub fn bring(backend: &dyn Backend, snapshot: &Snapshot, limit: u64, into: &Path) -> Result<(), BringError> {
    check(snapshot, limit)?;
    let blobs: Vec<Descriptor> = snapshot.blobs().collect();
    let (next, first) = (Mutex::new(blobs.iter()), Mutex::new(None));
    let work = || {
        while lock(&first).is_none() {
            let blob = lock(&next).next();
            let Some(blob) = blob else { return };
            if let Err(error) = bring_one(backend, blob, into) {
                lock(&first).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(blobs.len()) {
            // Where no thread can be had, this one does it all.
            let _ = std::thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
    crate::sync::into_inner(first).map_or(Ok(()), Err)
}

/// Brings the manifest of a snapshot alone.
///
/// # Errors
/// When it is not there, or too large.
pub fn bring_manifest(backend: &dyn Backend, snapshot: &Snapshot, into: &Path) -> Result<(), BringError> {
    check(snapshot, u64::MAX)?;
    let blob = Descriptor::new(MediaType::OCTET_STREAM, snapshot.manifest, snapshot.size);
    bring_one(backend, &blob, into)
}

fn check(snapshot: &Snapshot, limit: u64) -> Result<(), Error> {
    if snapshot.bytes > limit {
        return Err(Error::TooLarge { bytes: snapshot.bytes, limit });
    }
    let is_large = |size: u64| size > PACK_LIMIT + (PACK_LIMIT >> 6);
    if snapshot.size > MANIFEST_LIMIT || snapshot.packs.iter().any(|pack| is_large(pack.size)) {
        return Err(Error::hostile("its blobs are too large"));
    }
    Ok(())
}

fn bring_one(backend: &dyn Backend, blob: &Descriptor, into: &Path) -> Result<(), BringError> {
    let bytes = backend.read(blob)?;
    let path = into.join(blob.digest.hex());
    let written = fs::write(&path, bytes);
    Ok(written.map_err(|error| backend::Error::io("write", &path, error))?)
}

/// Takes snapshots of the mounts of a build.
pub trait Snapshots {
    /// Those that are to be written.
    fn take(&self, place: &Place<'_>) -> Vec<Taken>;
}

/// Where snapshots go.
pub struct Place<'p> {
    /// The backend.
    pub backend: &'p dyn Backend,
    /// What it has.
    pub known: &'p BTreeMap<String, Snapshot>,
    /// How many bytes the files of one may have.
    pub limit: u64,
    /// Seconds since 1970.
    pub now: Seconds,
}

/// A snapshot that is to be written.
#[derive(Debug)]
pub struct Taken {
    /// What the mount is called, for each platform.
    pub names: Vec<String>,
    /// What is to be known of it.
    pub snapshot: Snapshot,
    /// The blobs that the backend does not have, and where they are, each under the digits of its digest; none for a snapshot that
    /// it has.
    pub fresh: Option<(Vec<Descriptor>, ScratchDir)>,
}

impl Taken {
    /// The bytes of one of its blobs.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, backend::Error> {
        let Some((_, folder)) = &self.fresh else { return Err(backend::Error::NoBlob(*digest)) };
        let path = folder.path().join(digest.hex());
        crate::rootfs::read_regular(&path).map_err(|error| backend::Error::io("read", &path, error))
    }
}
