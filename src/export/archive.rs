//! An OCI layout as one tar, which docker can load too.
//!
//! Equal images give equal bytes: entries by name, times 0, owner 0.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

use super::Error;
use super::destination::sink::OpenSink;
use super::naming::{self, Named};
use super::ustar::{END, header, padding};
use crate::oci::Digest;
use crate::store::Store;

/// Which of Docker's files go into the archive beside `manifest.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// None of them: an OCI layout and nothing else.
    Oci,
    /// `repositories`.
    Docker,
}

/// Writes an archive of `images`; blobs that several have are in it once.
pub(super) fn write(
    store: &Store,
    images: &[Named<'_>],
    dialect: Dialect,
    sink: &mut OpenSink,
) -> Result<(), Error> {
    directory(sink, "blobs/")?;
    directory(sink, "blobs/sha256/")?;
    let blobs: BTreeMap<&Digest, &u64> = images.iter().flat_map(|image| &image.contents.blobs).collect();
    for (digest, size) in blobs {
        blob(store, digest, *size, sink)?;
    }
    let entries = images.iter().flat_map(|image| image.entries.clone()).collect();
    small(sink, "index.json", &naming::index(entries, BTreeMap::new()))?;
    if let Some(bytes) = naming::docker_manifest(images) {
        small(sink, "manifest.json", &bytes)?;
    }
    small(sink, "oci-layout", naming::LAYOUT)?;
    if dialect == Dialect::Docker
        && let Some(bytes) = naming::docker_repositories(images)
    {
        small(sink, "repositories", &bytes)?;
    }
    put(sink, &END)
}

fn blob(store: &Store, digest: &Digest, size: u64, sink: &mut OpenSink) -> Result<(), Error> {
    let file = store.open_blob(digest)?;
    put(sink, &header(&format!("blobs/sha256/{}", digest.hex()), size, ::tar::EntryType::Regular))?;
    let copied = copy(file, size, sink.file()).map_err(|e| sink.error(e))?;
    if copied != size {
        return Err(crate::store::Error::WrongSize { digest: *digest, expected: size, actual: copied }.into());
    }
    pad(sink, size)
}

/// Both ends are files, and `io::copy` sees that through `Take`: the kernel copies.
fn copy(from: File, size: u64, to: &mut File) -> io::Result<u64> {
    io::copy(&mut from.take(size), to)
}

fn small(sink: &mut OpenSink, name: &str, bytes: &[u8]) -> Result<(), Error> {
    put(sink, &header(name, bytes.len() as u64, ::tar::EntryType::Regular))?;
    put(sink, bytes)?;
    pad(sink, bytes.len() as u64)
}

fn directory(sink: &mut OpenSink, name: &str) -> Result<(), Error> {
    put(sink, &header(name, 0, ::tar::EntryType::Directory))
}

fn pad(sink: &mut OpenSink, size: u64) -> Result<(), Error> {
    put(sink, padding(size))
}

fn put(sink: &mut OpenSink, bytes: &[u8]) -> Result<(), Error> {
    sink.file().write_all(bytes).map_err(|e| sink.error(e))
}
