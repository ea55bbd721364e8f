//! Places that are not this machine's store: where results of builds are known, and where blobs come from.

use std::error::Error;
use std::fmt;
use std::io;

use super::{Key, Preimage, Record};
use crate::oci::{Descriptor, Layer};
use crate::store::{self, OtherStore, Store};

/// Why blobs could not be brought. Whoever made the source knows its type.
pub type FetchError = Box<dyn Error + Send + Sync>;

/// Where the blobs of layers are that are not here.
pub trait BlobSource: fmt::Debug + Send + Sync {
    /// What it is called in messages, such as a folder or a reference.
    fn name(&self) -> String;

    /// Brings the blobs of `layers` into `store`, each verified by its digest; those that are there already are left alone.
    /// When one cannot be had, others may have come.
    fn fetch(&self, store: &Store, layers: &[Layer]) -> Result<(), FetchError>;
}

/// When a place is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// After the build's own store.
    Usual,
    /// Before it: what the place has was made for this very build, and is to be gone on with.
    BeforeOwn,
}

/// Where results of builds are known, and their blobs are.
pub trait Place: BlobSource {
    /// When it is asked.
    fn precedence(&self) -> Precedence {
        Precedence::Usual
    }

    /// What a key produced. What cannot be read is as good as absent.
    fn find(&self, key: &Key) -> Option<Record>;

    /// Whether the blob can be expected there.
    fn promises(&self, blob: &Descriptor) -> bool;

    /// Why `preimage` has no result there, compared with what `slot` had last, in one clause; if that is known there.
    fn explain(&self, slot: &str, preimage: &Preimage) -> Option<String> {
        let _ = (slot, preimage);
        None
    }

    /// The index of a layer's entries, as [`Index::to_bytes`](crate::layer::index::Index::to_bytes) gives it, where it can be
    /// had without the layer. It is what the place says: nothing but the layer itself can prove it.
    fn index(&self, layer: &Layer) -> Option<Vec<u8>>;
}

impl BlobSource for OtherStore {
    fn name(&self) -> String {
        self.root().display().to_string()
    }

    fn fetch(&self, store: &Store, layers: &[Layer]) -> Result<(), FetchError> {
        for layer in layers {
            let Descriptor { digest, size, .. } = layer.descriptor;
            let file = self.open_blob(&digest)?;
            let mut blob = store.new_blob()?;
            io::copy(&mut io::Read::take(file, size + 1), &mut blob)
                .map_err(|source| store::Error::io("copy a layer to", blob.path(), source))?;
            blob.commit(Some(digest))?;
        }
        Ok(())
    }
}

impl Place for OtherStore {
    fn find(&self, key: &Key) -> Option<Record> {
        let bytes =
            self.record(&key.hex()).inspect_err(|error| tracing::debug!(%error, "a place cannot be read"));
        Record::parse(&bytes.ok()??).filter(|record| record.key == *key)
    }

    fn promises(&self, blob: &Descriptor) -> bool {
        self.has_blob(&blob.digest) == Some(blob.size)
    }

    fn index(&self, _: &Layer) -> Option<Vec<u8>> {
        None
    }
}
