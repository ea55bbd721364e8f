//! Where packs and blobs are kept. Whoever calls verifies what comes.

mod actions;
mod board;
mod gha;
mod image;
mod local;
mod registry;
mod s3;
mod web;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use actions::{Actions, Bazel, Reapi};
pub(crate) use board::Board;
pub use gha::Gha;
pub use local::Folder;
pub use registry::Registry;
pub use s3::S3;

use super::sealed::{Sealed, Trust};
use super::spec::{Location, ReapiAt};
use crate::http::{Environment, Settings};
use crate::oci::{Descriptor, Digest};
use crate::reapi;
use crate::registry::Client;
use crate::report::Events;
use crate::store::{self, Store};

/// Why a backend could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry could not.
    #[error(transparent)]
    Registry(#[from] crate::registry::Error),
    /// The store of this machine could not.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file could not be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not have a blob.
    #[error("it does not have {0}")]
    NoBlob(Digest),
    /// What it gave is not what its name says.
    #[error("it gives {actual} for {expected}")]
    OtherBytes {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// What it has under the head's name is no pack of rbuild's.
    #[error("{0}")]
    NoPack(String),
    /// Anything else that a server said, in words and without credentials.
    #[error("{0}")]
    Server(String),
}

impl From<reapi::Error> for Error {
    fn from(error: reapi::Error) -> Self {
        match error {
            reapi::Error::NoBlob(digest) => Self::NoBlob(digest),
            reapi::Error::OtherBytes { expected, actual } => Self::OtherBytes { expected, actual },
            error => Self::Server(error.to_string()),
        }
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// The pack that readers fetch.
#[derive(Debug, Clone)]
pub struct Head {
    /// As [`Sealed::to_bytes`](super::Sealed::to_bytes) gave it.
    pub pack: Vec<u8>,
    /// What tells this state of the head from others, where the backend can compare and swap: an ETag.
    pub version: Option<String>,
    /// It is an image that carries records. Nothing else is kept in its place.
    pub is_image: bool,
}

impl Head {
    /// That of a cache.
    pub fn of_cache(pack: Vec<u8>, version: Option<String>) -> Self {
        Self { pack, version, is_image: false }
    }

    /// Refuses to write to an image.
    ///
    /// # Errors
    /// [`Error::NoPack`] when it is one.
    pub fn refuse_image(&self) -> Result<(), Error> {
        match self.is_image {
            true => Err(Error::NoPack(format!("{IS_IMAGE}; `--cache-to type=inline` writes into it"))),
            false => Ok(()),
        }
    }
}

/// Said of what is not one of rbuild's caches, and is not touched.
const IS_IMAGE: &str = "it is an image and no cache";

/// What became of a head that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there.
    Done,
    /// Somebody else was faster, and the backend can tell.
    Lost,
}

/// What became of a blob that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was there.
    Known,
    /// So many bytes were sent.
    Bytes(u64),
}

/// Where the bytes of a blob are that is sent.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// Here.
    Bytes(&'a [u8]),
    /// In the store, under the blob's digest.
    Stored(&'a Store),
}

/// The name of a pack that one writer left: letters, digits and `-`, of which the first tell the time, so that they sort by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackId(pub String);

/// A place that keeps packs and blobs. Several threads call it at the same time.
pub trait Backend: fmt::Debug + Send + Sync {
    /// What it is called in messages: a reference, a folder, a URL. Without credentials.
    fn name(&self) -> String;

    /// A build waits so long for the head, and then goes on without it.
    fn patience(&self) -> Duration {
        web::PATIENCE
    }

    /// What it is called in signatures: the same on every machine.
    fn place(&self) -> String {
        self.name()
    }

    /// The head; `None` when nothing was ever written.
    ///
    /// # Errors
    /// [`Error::NoPack`] when something else is there.
    fn head(&self) -> Result<Option<Head>, Error>;

    /// Whether a head is written only if it is still what was read, for certain. Then no pack needs to lie beside it, and whoever
    /// loses tries again until its own is there.
    fn is_atomic(&self) -> bool {
        false
    }

    /// Writes the head, which names `blobs`. `previous` is what it was made of.
    fn put_head(&self, pack: &[u8], blobs: &[Descriptor], previous: Option<&Head>) -> Result<Put, Error>;

    /// Leaves a pack beside the head. This, and all about such packs, is for places whose writers can lose what a head had; without
    /// any of it, nothing lies beside the head.
    fn put_pack(&self, _: &PackId, _: &[u8], _: &[Descriptor]) -> Result<(), Error> {
        Ok(())
    }

    /// The packs beside the head, in the order of their names.
    fn packs(&self) -> Result<Vec<PackId>, Error> {
        Ok(Vec::new())
    }

    /// One of them; `None` when it is gone.
    fn pack(&self, _: &PackId) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    /// Removes one of them. One that cannot be removed stays, and is no error.
    fn remove_pack(&self, _: &PackId) -> Result<(), Error> {
        Ok(())
    }

    /// Removes the head and all that only the cache has, as far as the backend can.
    fn remove(&self) -> Result<(), Error>;

    /// Removes blobs that nothing names any more, where that is nobody else's work. Gives the bytes that went.
    fn sweep(&self) -> Result<u64, Error> {
        Ok(0)
    }

    /// Hears which blobs will be sent, so that it can ask for all of them at once which it has.
    fn expect(&self, _: &[Descriptor]) {}

    /// A small blob, such as an index, of `blob.size` bytes at most.
    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error>;

    /// Brings blobs into the store, several at a time, each verified while it arrives.
    fn fetch(&self, store: &Store, blobs: &[Descriptor], events: &Events) -> Result<(), Error>;

    /// Keeps a blob.
    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error>;
}

/// Checks bytes against the digest under which they were asked for.
pub(crate) fn verified(blob: &Descriptor, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    match Digest::of(&bytes) {
        actual if actual == blob.digest => Ok(bytes),
        actual => Err(Error::OtherBytes { expected: blob.digest, actual }),
    }
}

/// Blobs of a head that were used on another day than `previous` knew: for places that drop what nobody used.
fn used_again(pack: &[u8], previous: Option<&Head>) -> Vec<Digest> {
    let read = |bytes: &[u8]| Sealed::parse(bytes).map(|packs| packs.believed(&Trust::Anybody, "").0);
    match previous.map(|head| (read(&head.pack), read(pack))) {
        Some((Ok(before), Ok(after))) => after.used_since(&before),
        _ => Vec::new(),
    }
}

/// A client of the engine at a place. It is asked with as little patience as a cache.
pub(crate) fn client(at: &ReapiAt) -> Result<reapi::Client, String> {
    actions::client(at, web::settings(Environment::from_process()))
}

/// The backend at a location; nothing is contacted yet. Registries are asked through `client`.
pub fn at(location: &Location, client: &Client) -> Arc<dyn Backend> {
    match location {
        Location::Local(path, tag) => Arc::new(Folder::new(path.clone(), tag.clone())),
        Location::Registry(reference) => Arc::new(Registry::new(client.clone(), reference.clone())),
        Location::Http(at) => {
            let settings = web::settings(Environment::from_process());
            let stall_timeout = at.timeout.unwrap_or(settings.stall_timeout);
            Arc::new(Actions::new(Bazel::new(at.clone(), Settings { stall_timeout, ..settings })))
        }
        Location::Reapi(at) => {
            Arc::new(Actions::new(Reapi::new((**at).clone(), Environment::from_process())))
        }
        Location::Gha(at) => Arc::new(Gha::new(at.clone(), Environment::from_process())),
        Location::S3(at) => Arc::new(S3::new((**at).clone(), Environment::from_process())),
    }
}
