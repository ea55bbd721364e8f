//! Which blobs a server has, and small ones: several in one message.

use std::collections::BTreeSet;

use super::client::{Client, Error, of_blob};
use super::messages::{Blob, Status};
use super::wire::{Malformed, Value, Writer, fields};
use crate::oci::Digest;

/// gRPC's own libraries take messages of 4 MiB.
const MESSAGE: u64 = 4 << 20;
/// What stands around each blob in a message: its digest, and the lengths of fields.
const AROUND: u64 = 256;
/// Names of blobs in one question: each has some 75 bytes.
const NAMES: usize = 20_000;

impl Client {
    /// Blobs that the server does not have, each once.
    ///
    /// # Errors
    /// Those of the calls.
    pub(crate) fn missing(&self, blobs: &[Blob]) -> Result<BTreeSet<Blob>, Error> {
        let mut missing = BTreeSet::new();
        for some in blobs.chunks(NAMES) {
            let request = Writer::new().bytes(1, &self.instance);
            let request = request.messages(2, some.iter().map(|blob| blob.message())).done();
            let method = "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs";
            let answer = self.channel.unary(method, &request, MESSAGE as usize)?;
            for field in fields(&answer) {
                if let (2, value) = self.read(field)? {
                    missing.insert(self.read(Blob::parse(value.bytes()))?);
                }
            }
        }
        // What nobody asked for is not to be sent.
        let asked: BTreeSet<Blob> = blobs.iter().copied().collect();
        missing.retain(|blob| asked.contains(blob));
        Ok(missing)
    }

    /// How many bytes of blobs go into one message, each with what stands around it.
    pub(super) fn batch_limit(&self) -> Result<u64, Error> {
        let said = self.capabilities()?.batch_limit;
        let most = MESSAGE - (64 << 10);
        Ok(if said == 0 { most } else { said.min(most) })
    }

    /// Whether a blob goes into a message with others.
    pub(crate) fn is_small(&self, size: u64) -> Result<bool, Error> {
        Ok(size.saturating_add(AROUND) <= self.batch_limit()?)
    }

    /// Sends small blobs, as many in one message as the server takes.
    ///
    /// # Errors
    /// The first.
    pub(crate) fn put_small(&self, blobs: &[(Blob, &[u8])]) -> Result<(), Error> {
        let limit = self.batch_limit()?;
        let mut rest = blobs;
        while !rest.is_empty() {
            let mut size = 0_u64;
            let fits = rest.iter().take_while(|(blob, _)| {
                size = size.saturating_add(blob.size).saturating_add(AROUND);
                size <= limit
            });
            let count = fits.count().max(1);
            let (now, later) = rest.split_at(count);
            self.put_batch(now)?;
            rest = later;
        }
        Ok(())
    }

    fn put_batch(&self, blobs: &[(Blob, &[u8])]) -> Result<(), Error> {
        let one = |(blob, bytes): &(Blob, &[u8])| Writer::new().message(1, blob.message()).bytes(2, bytes);
        let request = Writer::new().bytes(1, &self.instance).messages(2, blobs.iter().map(one)).done();
        let method = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs";
        let answer = self.channel.unary(method, &request, MESSAGE as usize)?;
        let mut taken = BTreeSet::new();
        for field in fields(&answer) {
            let (1, value) = self.read(field)? else { continue };
            let (blob, status) = self.answer(value, 2)?;
            of_blob(blob.digest, &status)?;
            taken.insert(blob.digest);
        }
        match blobs.iter().find(|(blob, _)| !taken.contains(&blob.digest)) {
            None => Ok(()),
            Some((blob, _)) => Err(Error::Unable(format!("the server said nothing of {}", blob.digest))),
        }
    }

    /// A small blob, verified.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::OtherBytes`], and those of the call.
    pub(crate) fn read_small(&self, blob: Blob) -> Result<Vec<u8>, Error> {
        let request = Writer::new().bytes(1, &self.instance).message(2, blob.message()).done();
        let method = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs";
        let answer = self.channel.unary(method, &request, MESSAGE.saturating_add(blob.size) as usize)?;
        for field in fields(&answer) {
            let (1, value) = self.read(field)? else { continue };
            let (named, status) = self.answer(value, 3)?;
            if named.digest != blob.digest {
                continue;
            }
            of_blob(blob.digest, &status)?;
            let mut data = &[][..];
            for field in fields(value.bytes()) {
                if let (2, value) = self.read(field)? {
                    data = value.bytes();
                }
            }
            return match Digest::of(data) {
                actual if actual == blob.digest => Ok(data.to_vec()),
                actual => Err(Error::OtherBytes { expected: blob.digest, actual }),
            };
        }
        Err(Error::NoBlob(blob.digest))
    }

    /// Which blob an answer is about, and what became of it, which is in the field of that number.
    fn answer(&self, value: Value<'_>, status_field: u64) -> Result<(Blob, Status), Error> {
        let (mut blob, mut status) = (Err(Malformed), Status::default());
        for field in fields(value.bytes()) {
            match self.read(field)? {
                (1, value) => blob = Blob::parse(value.bytes()),
                (number, value) if number == status_field => {
                    status = self.read(Status::parse(value.bytes()))?;
                }
                _ => {}
            }
        }
        Ok((self.read(blob)?, status))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::grpc::test_server::server;

    fn client(answer: Vec<u8>) -> Client {
        let channel = server(move |peer| {
            while let Some(asked) = peer.asked() {
                peer.answer(asked.stream, &answer);
            }
        });
        Client::new(channel, String::new())
    }

    #[test]
    fn a_server_gets_nothing_that_it_was_not_asked_about() {
        let (asked, other) = (Blob::of(b"asked"), Blob::of(b"other"));
        let answer = Writer::new().messages(2, [asked, other].into_iter().map(Blob::message)).done();
        assert_eq!(client(answer).missing(&[asked]).unwrap(), BTreeSet::from([asked]));
    }

    #[test]
    fn sizes_that_cannot_be_are_no_panic() {
        let huge = Blob { size: u64::MAX, ..Blob::of(b"") };
        // An answer without the blob, and capabilities with SHA-256 alone.
        assert!(matches!(client(Vec::new()).read_small(huge), Err(Error::NoBlob(_))));
        let cache = Writer::new().number(1, 1);
        let client = client(Writer::new().message(1, cache).done());
        assert!(!client.is_small(huge.size).unwrap());
    }
}
