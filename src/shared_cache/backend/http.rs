//! A server of Bazel's simple protocol: `GET` and `PUT` of `/cas/SHA256` and `/ac/KEY`.
//!
//! ```text
//! /cas/HEX                                        layers, indexes
//! /ac/SHA256("rbuild-head/1" NAME)                the head
//! /ac/SHA256("rbuild-pack/1" NAME SLOT)           what writers left beside it, in one of so many slots
//! ```
//!
//! What stands under `/ac` is an `ActionResult` (remote execution API v2) as protobuf: the pack is its standard output, and its output
//! files are the blobs that the pack names. Servers that look at what they are given take it, answer it only while they have all
//! that it names, and keep that as long as it is asked for. Others, such as nginx with WebDAV, store bytes and check nothing.
//!
//! Nothing can be listed there, so packs lie in a ring of slots that all writers know. A writer takes a free slot, or one whose pack
//! is among the oldest, and looks later whether it still has it. A record is lost when its writer lost the head, and others took
//! its slot before anybody merged it: that takes more than a ring of writers in the time of one export.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::web::{Prepare, Web, at_once};
use super::{Backend, Content, Error, Head, PackId, Put, Sent};
use crate::http::{Method, Payload, Request, Settings};
use crate::oci::{Descriptor, Digest};
use crate::report::Events;
use crate::shared_cache::Pack;
use crate::shared_cache::pack::COMPRESSED_LIMIT;
use crate::shared_cache::spec::{HttpAt, Secret};
use crate::store::Store;
use crate::sync::lock;

/// Packs beside the head.
const SLOTS: u32 = 16;
/// Of the slots that are taken a writer takes one of so many: the oldest.
const OLDEST: usize = 4;
/// For what a result says beside the pack.
const LIMIT: u64 = 2 * COMPRESSED_LIMIT;

/// A server with `/ac` and `/cas`.
#[derive(Debug)]
pub struct Bazel {
    at: HttpAt,
    web: Web<Login>,
    /// What the slots held when they were looked at last.
    packs: Mutex<BTreeMap<PackId, Vec<u8>>>,
    own: Mutex<Option<Own>>,
}

/// The pack that this build left, and where.
#[derive(Debug)]
struct Own {
    id: PackId,
    slot: u32,
    result: ActionResult,
}

/// The pack in a slot.
type Slot = Option<(PackId, Vec<u8>)>;

/// The credentials that each request carries.
#[derive(Debug)]
struct Login(Option<Secret>);

impl Prepare for Login {
    fn prepare(&self, request: &mut Request<'_>) -> Result<(), Error> {
        request.authorization = self.0.as_ref().map(|Secret(value)| value.clone());
        Ok(())
    }
}

impl Bazel {
    /// Contacts nothing yet.
    pub(super) fn new(at: HttpAt, settings: Settings) -> Self {
        let web = Web::new(settings, Login(at.authorization.clone()));
        Self { at, web, packs: Mutex::default(), own: Mutex::default() }
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/cas/{}", self.at.url, digest.hex())
    }

    /// Where a result is, by the words that tell it from others.
    fn result_url(&self, words: &[&str]) -> String {
        let key = Digest::of(words.join("\0").as_bytes());
        format!("{}/ac/{}", self.at.url, key.hex())
    }

    fn head_url(&self) -> String {
        self.result_url(&["rbuild-head/1", &self.at.name])
    }

    fn slot_url(&self, slot: u32) -> String {
        self.result_url(&["rbuild-pack/1", &self.at.name, &slot.to_string()])
    }

    fn get_result(&self, url: &str) -> Result<Option<ActionResult>, Error> {
        let Some(body) = self.web.get(url, LIMIT)? else { return Ok(None) };
        let result = ActionResult::parse(&body.bytes);
        result.map(Some).ok_or_else(|| Error::NoPack("it is no result that rbuild wrote".to_owned()))
    }

    fn put_result(&self, url: String, result: &ActionResult) -> Result<(), Error> {
        let bytes = result.to_bytes();
        let request = Request::new(Method::PUT, url).header("content-type", "application/octet-stream");
        self.web.must(request.payload(Payload::Bytes(&bytes))).map(drop)
    }

    /// What a slot holds; `None` when it is free, or nobody can read what it holds.
    fn slot(&self, slot: u32) -> Result<Slot, Error> {
        match self.get_result(&self.slot_url(slot)) {
            Ok(Some(result)) => Ok(result.pack_id().map(|id| (id, result.stdout))),
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
    fn leave(&self, id: &PackId, result: &ActionResult) -> Result<u32, Error> {
        let candidates = self.candidates(id)?;
        let is_as_before = |(held, slot): &&(Option<PackId>, u32)| {
            self.slot(*slot).is_ok_and(|now| now.map(|(id, _)| id) == *held)
        };
        let (_, slot) = candidates.iter().find(is_as_before).unwrap_or(&candidates[0]);
        self.put_result(self.slot_url(*slot), result)?;
        Ok(*slot)
    }
}

impl Backend for Bazel {
    fn name(&self) -> String {
        format!("{}#{}", self.at.url, self.at.name)
    }

    fn patience(&self) -> Duration {
        self.web.patience()
    }

    fn head(&self) -> Result<Option<Head>, Error> {
        let result = self.get_result(&self.head_url())?;
        Ok(result.map(|result| Head::of_cache(result.stdout, None)))
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
        self.put_result(self.head_url(), &ActionResult::of(pack, blobs, "head"))?;
        Ok(Put::Done)
    }

    fn put_pack(&self, id: &PackId, pack: &[u8], blobs: &[Descriptor]) -> Result<(), Error> {
        let result = ActionResult::of(pack, blobs, &id.0);
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
        let empty = ActionResult::of(&Pack::default().to_bytes(), &[], "");
        let urls = (0..SLOTS).map(|slot| self.slot_url(slot));
        urls.chain([self.head_url()]).try_for_each(|url| self.put_result(url, &empty))
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        self.web.read(&self.blob_url(&blob.digest), blob)
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor], _: &Events) -> Result<(), Error> {
        self.web.fetch(store, blobs, &|digest| self.blob_url(digest))
    }

    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error> {
        let url = self.blob_url(&blob.digest);
        if self.web.size_of(&url)? == Some(blob.size) {
            return Ok(Sent::Known);
        }
        self.web.put_blob(Request::new(Method::PUT, url), blob, content)?;
        Ok(Sent::Bytes(blob.size))
    }
}

/// As much of the message as is written here. Fields that are not known are passed over.
#[derive(Debug, Default, PartialEq, Eq)]
struct ActionResult {
    files: Vec<(Digest, u64)>,
    stdout: Vec<u8>,
    /// Which pack it is.
    stderr: Vec<u8>,
}

/// Numbers of fields.
mod field {
    pub(super) const OUTPUT_FILES: u64 = 2;
    pub(super) const STDOUT_RAW: u64 = 5;
    pub(super) const STDERR_RAW: u64 = 7;
    pub(super) const FILE_PATH: u64 = 1;
    pub(super) const FILE_DIGEST: u64 = 2;
    pub(super) const DIGEST_HASH: u64 = 1;
    pub(super) const DIGEST_SIZE: u64 = 2;
}

impl ActionResult {
    fn of(pack: &[u8], blobs: &[Descriptor], name: &str) -> Self {
        let files = blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        Self { files, stdout: pack.to_vec(), stderr: name.as_bytes().to_vec() }
    }

    /// The pack that a slot holds, if its name is one.
    fn pack_id(&self) -> Option<PackId> {
        let name = std::str::from_utf8(&self.stderr).ok()?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (name.len() > 10 && name.len() < 64 && name.chars().all(is_part)).then(|| PackId(name.to_owned()))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (digest, size) in &self.files {
            let (mut named, mut file) = (Vec::new(), Vec::new());
            put_bytes(&mut named, field::DIGEST_HASH, digest.hex().as_bytes());
            put_varint(&mut named, field::DIGEST_SIZE << 3);
            put_varint(&mut named, *size);
            put_bytes(&mut file, field::FILE_PATH, format!("blobs/{}", digest.hex()).as_bytes());
            put_bytes(&mut file, field::FILE_DIGEST, &named);
            put_bytes(&mut out, field::OUTPUT_FILES, &file);
        }
        put_bytes(&mut out, field::STDOUT_RAW, &self.stdout);
        put_bytes(&mut out, field::STDERR_RAW, &self.stderr);
        out
    }

    /// The pack and its name; files are of no interest to who reads.
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut result = Self::default();
        while !bytes.is_empty() {
            let tag = take_varint(&mut bytes)?;
            match tag & 7 {
                0 => drop(take_varint(&mut bytes)?),
                1 => drop(bytes.split_off(..8)?),
                2 => {
                    let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                    let content = bytes.split_off(..length)?;
                    match tag >> 3 {
                        field::STDOUT_RAW => result.stdout = content.to_vec(),
                        field::STDERR_RAW => result.stderr = content.to_vec(),
                        _ => {}
                    }
                }
                5 => drop(bytes.split_off(..4)?),
                _ => return None,
            }
        }
        (!result.stdout.is_empty()).then_some(result)
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn results_are_what_others_read() {
        let digest = Digest::of(b"");
        let result =
            ActionResult { files: vec![(digest, 300)], stdout: b"pack".to_vec(), stderr: b"1-a".to_vec() };
        let bytes = result.to_bytes();
        // As protoc writes it: `output_files { path: … digest { hash: … size_bytes: 300 } } stdout_raw: … stderr_raw: …`.
        let hex = digest.hex();
        let file =
            [&[10, 70][..], b"blobs/", hex.as_bytes(), &[18, 69, 10, 64], hex.as_bytes(), &[16, 172, 2]];
        let file = file.concat();
        let expected = [&[18, 143, 1][..], &file, &[42, 4], b"pack", &[58, 3], b"1-a"].concat();
        assert_eq!(bytes, expected);
        assert_eq!(ActionResult::parse(&bytes).unwrap(), ActionResult { files: Vec::new(), ..result });
        for end in 1..bytes.len() {
            // Truncated, it is none, or one that names no pack.
            assert!(
                ActionResult::parse(&bytes[..end]).and_then(|result| result.pack_id()).is_none(),
                "{end}"
            );
        }
        // Fields that are not known.
        let more = [&[32, 150, 1, 9, 1, 2, 3, 4, 5, 6, 7, 8, 61, 1, 2, 3, 4][..], &bytes].concat();
        assert_eq!(ActionResult::parse(&more).unwrap().stdout, b"pack");
        for bytes in [&b""[..], b"<html>", &[42, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], &[255; 20]]
        {
            assert!(ActionResult::parse(bytes).is_none());
        }
    }
}
