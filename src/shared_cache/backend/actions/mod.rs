//! Servers that keep results of actions and blobs, as build engines have them: Bazel's simple protocol, and the Remote Execution API.
//!
//! A *result* has the pack as what an action said, in place of an error message which pack it is, and the blobs that the pack names as
//! the action's output files. Servers that look at what they are given take it, answer it only while they have all that it names, and keep
//! that as long as it is asked for. Others, such as nginx with WebDAV, store bytes and check nothing.
//!
//! Nothing can be listed there, so packs lie in a ring of slots that all writers know. A writer takes a free slot, or one whose pack
//! is among the oldest, and looks later whether it still has it. A record is lost when its writer lost the head, and others took
//! its slot before anybody merged it: that takes more than a ring of writers in the time of one export.

mod http;
mod reapi;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

pub use http::Bazel;
pub use reapi::Reapi;
pub(super) use reapi::client;

use super::web::at_once;
use super::{Backend, Content, Error, Head, PackId, Put, Sent};
use crate::oci::{Descriptor, Digest};
use crate::report::Events;
use crate::shared_cache::Pack;
use crate::shared_cache::pack::COMPRESSED_LIMIT;
use crate::store::Store;
use crate::sync::lock;

/// Packs beside the head.
const SLOTS: u32 = 16;
/// Of the slots that are taken a writer takes one of so many: the oldest.
const OLDEST: usize = 4;
/// For what a result says beside the pack.
const LIMIT: u64 = 2 * COMPRESSED_LIMIT;

/// A server with results under keys, and blobs.
pub trait Server: fmt::Debug + Send + Sync {
    /// What it is called in messages.
    fn name(&self) -> String;

    /// Which cache of the server: what tells its keys from others'.
    fn cache(&self) -> &str;

    /// For so long it may say nothing.
    fn patience(&self) -> Duration;

    /// The result under a key, which is made of words. [`Error::NoPack`] when it is none.
    fn result(&self, key: &[&str]) -> Result<Option<Packed>, Error>;

    /// Writes the result under a key. All blobs that it names are there.
    fn put_result(&self, key: &[&str], result: &Packed) -> Result<(), Error>;

    /// As [`Backend::expect`].
    fn expect(&self, _: &[Descriptor]) {}

    /// As [`Backend::read`].
    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error>;

    /// As [`Backend::fetch`].
    fn fetch(&self, store: &Store, blobs: &[Descriptor]) -> Result<(), Error>;

    /// As [`Backend::send`].
    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error>;
}

/// A pack as a result has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    pack: Vec<u8>,
    /// Which pack it is: an id, or a word.
    name: Vec<u8>,
    /// What it names. Of no interest to who reads, and empty then.
    blobs: Vec<(Digest, u64)>,
}

impl Packed {
    /// Bytes that are no pack.
    pub(super) fn plain(bytes: Vec<u8>) -> Self {
        Self { pack: bytes, name: Vec::new(), blobs: Vec::new() }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.pack
    }

    fn of(pack: &[u8], blobs: &[Descriptor], name: &str) -> Self {
        let blobs = blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        Self { pack: pack.to_vec(), name: name.as_bytes().to_vec(), blobs }
    }

    /// The pack that a slot holds, if its name is one.
    fn id(&self) -> Option<PackId> {
        let name = std::str::from_utf8(&self.name).ok()?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (name.len() > 10 && name.len() < 64 && name.chars().all(is_part)).then(|| PackId(name.to_owned()))
    }
}

/// Where a blob is listed among output files.
fn path_of(digest: &Digest) -> String {
    format!("blobs/{}", digest.hex())
}

/// A cache on such a server.
#[derive(Debug)]
pub struct Actions<S> {
    server: S,
    /// What the slots held when they were looked at last.
    packs: Mutex<BTreeMap<PackId, Vec<u8>>>,
    own: Mutex<Option<Own>>,
}

/// The pack that this build left, and where.
#[derive(Debug)]
struct Own {
    id: PackId,
    slot: u32,
    result: Packed,
}

/// The pack in a slot.
type Slot = Option<(PackId, Vec<u8>)>;

impl<S: Server> Actions<S> {
    /// Contacts nothing yet.
    pub(super) fn new(server: S) -> Self {
        Self { server, packs: Mutex::default(), own: Mutex::default() }
    }

    fn put_slot(&self, slot: u32, result: &Packed) -> Result<(), Error> {
        self.server.put_result(&["rbuild-pack/1", self.server.cache(), &slot.to_string()], result)
    }

    fn put_as_head(&self, result: &Packed) -> Result<(), Error> {
        self.server.put_result(&["rbuild-head/1", self.server.cache()], result)
    }

    /// What a slot holds; `None` when it is free, or nobody can read what it holds.
    fn slot(&self, slot: u32) -> Result<Slot, Error> {
        match self.server.result(&["rbuild-pack/1", self.server.cache(), &slot.to_string()]) {
            Ok(Some(result)) => Ok(result.id().map(|id| (id, result.pack))),
            Ok(None) | Err(Error::NoPack(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn slots(&self) -> Result<Vec<Slot>, Error> {
        at_once(&Vec::from_iter(0..SLOTS), |slot| self.slot(*slot)).into_iter().collect()
    }

    /// Slots that a new pack may take, and what they hold: those that are free, else the oldest; the best first.
    fn candidates(&self, id: &PackId) -> Result<Vec<(Option<PackId>, u32)>, Error> {
        let held = self.slots()?.into_iter().map(|slot| slot.map(|(id, _)| id));
        let mut order: Vec<(Option<PackId>, u32)> = held.zip(0..).collect();
        order.sort();
        let free = order.iter().filter(|(id, _)| id.is_none()).count();
        order.truncate(if free > 0 { free } else { OLDEST });
        // Others who write now shall not choose the same.
        let [chance, ..] = *Digest::of(id.0.as_bytes()).as_bytes();
        let first = usize::from(chance) % order.len();
        order.rotate_left(first);
        Ok(order)
    }

    /// Lays a pack into a slot that nobody else took meanwhile.
    fn leave(&self, id: &PackId, result: &Packed) -> Result<u32, Error> {
        let candidates = self.candidates(id)?;
        let is_as_before = |(held, slot): &&(Option<PackId>, u32)| {
            self.slot(*slot).is_ok_and(|now| now.map(|(id, _)| id) == *held)
        };
        let (_, slot) = candidates.iter().find(is_as_before).unwrap_or(&candidates[0]);
        self.put_slot(*slot, result)?;
        Ok(*slot)
    }
}

impl<S: Server> Backend for Actions<S> {
    fn name(&self) -> String {
        self.server.name()
    }

    fn patience(&self) -> Duration {
        self.server.patience()
    }

    fn head(&self) -> Result<Option<Head>, Error> {
        let result = self.server.result(&["rbuild-head/1", self.server.cache()])?;
        Ok(result.map(|result| Head::of_cache(result.pack, None)))
    }

    fn put_head(&self, pack: &[u8], blobs: &[Descriptor], _: Option<&Head>) -> Result<Put, Error> {
        // Whoever chose the same slot at the same time has put its pack there by now.
        let mut own = lock(&self.own);
        if let Some(Own { id, slot, result }) = &mut *own
            && self.slot(*slot)?.is_none_or(|(there, _)| there != *id)
        {
            *slot = self.leave(id, result)?;
        }
        drop(own);
        self.put_as_head(&Packed::of(pack, blobs, "head"))?;
        Ok(Put::Done)
    }

    fn put_pack(&self, id: &PackId, pack: &[u8], blobs: &[Descriptor]) -> Result<(), Error> {
        let result = Packed::of(pack, blobs, &id.0);
        let slot = self.leave(id, &result)?;
        *lock(&self.own) = Some(Own { id: id.clone(), slot, result });
        Ok(())
    }

    fn packs(&self) -> Result<Vec<PackId>, Error> {
        let packs: BTreeMap<PackId, Vec<u8>> = self.slots()?.into_iter().flatten().collect();
        let ids = packs.keys().cloned().collect();
        *lock(&self.packs) = packs;
        Ok(ids)
    }

    fn pack(&self, id: &PackId) -> Result<Option<Vec<u8>>, Error> {
        Ok(lock(&self.packs).get(id).cloned())
    }

    fn remove_pack(&self, _: &PackId) -> Result<(), Error> {
        // Its slot is taken by the next.
        Ok(())
    }

    fn remove(&self) -> Result<(), Error> {
        // Hardly a server lets clients delete; what is empty is as good.
        let empty = Packed::of(&Pack::default().to_bytes(), &[], "");
        (0..SLOTS).try_for_each(|slot| self.put_slot(slot, &empty))?;
        self.put_as_head(&empty)
    }

    fn expect(&self, blobs: &[Descriptor]) {
        self.server.expect(blobs);
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        self.server.read(blob)
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor], _: &Events) -> Result<(), Error> {
        self.server.fetch(store, blobs)
    }

    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error> {
        self.server.send(blob, content)
    }
}
