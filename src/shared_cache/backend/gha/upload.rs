//! Brings the bytes of entries to where signed URLs lead: in one request, or in blocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Gha;
use crate::clock;
use crate::http::{Method, Payload, Request};
use crate::oci::Descriptor;
use crate::shared_cache::Error;
use crate::shared_cache::backend::web::at_once;
use crate::store::Store;

/// Entries that are larger are sent in blocks of this size.
const BLOCK: u64 = 64 << 20;

/// What is sent.
#[derive(Clone, Copy)]
pub(super) enum Bytes<'a> {
    Here(&'a [u8]),
    Stored(&'a Store, &'a Descriptor),
}

impl Bytes<'_> {
    pub(super) fn size(self) -> u64 {
        match self {
            Bytes::Here(bytes) => bytes.len() as u64,
            Bytes::Stored(_, blob) => blob.size,
        }
    }
}

impl Gha {
    /// Keeps bytes under `key`, or one that begins with it. Gives the key that it became; `None` when they were there.
    pub(super) fn keep(&self, key: &str, bytes: Bytes<'_>) -> Result<Option<String>, Error> {
        if let Some(url) = self.service.reserve(key)? {
            match self.upload(&url, bytes) {
                Ok(()) => return self.service.finish(key, bytes.size()).map(|()| Some(key.to_owned())),
                Err(error) => tracing::debug!(%error, "an entry is begun again"),
            }
        } else if self.service.newest(key)?.is_some() {
            return Ok(None);
        }
        // Its bytes did not come as yet, and may never: no key is free again.
        let other = format!("{key}-{:x}-{}", clock::now(), std::process::id());
        let taken = || Error::Server("the service does not take an entry".to_owned());
        let url = self.service.reserve(&other)?.ok_or_else(taken)?;
        self.upload(&url, bytes)?;
        self.service.finish(&other, bytes.size())?;
        Ok(Some(other))
    }

    pub(super) fn upload(&self, url: &str, bytes: Bytes<'_>) -> Result<(), Error> {
        if bytes.size() <= BLOCK {
            let put = Request::new(Method::PUT, url.to_owned()).header("x-ms-blob-type", "BlockBlob");
            return self.put(put, bytes, (0, bytes.size()));
        }
        let separator = if url.contains('?') { '&' } else { '?' };
        let blocks: Vec<(String, u64)> = (0_u32..)
            .zip((0..bytes.size()).step_by(BLOCK as usize))
            // All identifiers of one blob have the same length.
            .map(|(number, from)| (STANDARD.encode(format!("{number:08}")), from))
            .collect();
        let send = |(id, from): &(String, u64)| {
            let url = format!("{url}{separator}comp=block&blockid={}", id.replace('=', "%3D"));
            self.put(Request::new(Method::PUT, url), bytes, (*from, (from + BLOCK).min(bytes.size())))
        };
        at_once(&blocks, send).into_iter().collect::<Result<(), Error>>()?;
        let listed: String = blocks.iter().map(|(id, _)| format!("<Latest>{id}</Latest>")).collect();
        let list = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{listed}</BlockList>");
        let request = Request::new(Method::PUT, format!("{url}{separator}comp=blocklist"));
        self.blobs.must(
            request.header("content-type", "application/xml").payload(Payload::Bytes(list.as_bytes())),
        )?;
        Ok(())
    }

    fn put(&self, request: Request<'_>, bytes: Bytes<'_>, (from, to): (u64, u64)) -> Result<(), Error> {
        match bytes {
            Bytes::Here(bytes) => {
                let piece = &bytes[from as usize..to as usize];
                self.blobs.must(request.payload(Payload::Bytes(piece))).map(drop)
            }
            Bytes::Stored(store, blob) => {
                let path = store.blob_path(&blob.digest);
                let payload = Payload::File { path: &path, from, to, sent: &|_| true };
                self.blobs.must(request.payload(payload)).map(drop)
            }
        }
    }
}
