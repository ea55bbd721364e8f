//! A server of Bazel's simple protocol: `GET` and `PUT` of `/cas/SHA256` and `/ac/KEY`.
//!
//! ```text
//! /cas/HEX                                        layers, indexes
//! /ac/SHA256("rbuild-head/1" NAME)                the head
//! /ac/SHA256("rbuild-pack/1" NAME SLOT)           what writers left beside it, in one of so many slots
//! ```
//!
//! What stands under `/ac` is an `ActionResult` (remote execution API v2) as protobuf.

use std::time::Duration;

use super::{LIMIT, Packed, Server, path_of};
use crate::http::{Method, Payload, Request, Settings};
use crate::oci::{Descriptor, Digest};
use crate::reapi::{ActionResult, Blob, Output, OutputFile};
use crate::shared_cache::backend::web::Prepare;
use crate::shared_cache::backend::web::Web;
use crate::shared_cache::backend::{Content, Error, Sent};
use crate::shared_cache::spec::{HttpAt, Secret};
use crate::store::Store;

/// A server with `/ac` and `/cas`.
#[derive(Debug)]
pub struct Bazel {
    at: HttpAt,
    web: Web<Login>,
}

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
    pub(in crate::shared_cache::backend) fn new(at: HttpAt, settings: Settings) -> Self {
        let web = Web::new(settings, Login(at.authorization.clone()));
        Self { at, web }
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/cas/{}", self.at.url, digest.hex())
    }

    /// Where a result is, by the words that tell it from others.
    fn result_url(&self, key: &[&str]) -> String {
        let key = Digest::of(key.join("\0").as_bytes());
        format!("{}/ac/{}", self.at.url, key.hex())
    }
}

impl Server for Bazel {
    fn name(&self) -> String {
        format!("{}#{}", self.at.url, self.at.name)
    }

    fn cache(&self) -> &str {
        &self.at.name
    }

    fn patience(&self) -> Duration {
        self.web.patience()
    }

    fn result(&self, key: &[&str]) -> Result<Option<Packed>, Error> {
        let Some(body) = self.web.get(&self.result_url(key), LIMIT)? else { return Ok(None) };
        let raw = |output: Output| match output {
            Output::Raw(bytes) => bytes,
            Output::Blob(_) => Vec::new(),
        };
        let result = ActionResult::parse(&body.bytes).unwrap_or_default();
        let packed = Packed { pack: raw(result.stdout), name: raw(result.stderr), blobs: Vec::new() };
        match packed.pack.is_empty() {
            true => Err(Error::NoPack("it is no result that rbuild wrote".to_owned())),
            false => Ok(Some(packed)),
        }
    }

    fn put_result(&self, key: &[&str], result: &Packed) -> Result<(), Error> {
        let file = |(digest, size): &(Digest, u64)| OutputFile {
            path: path_of(digest),
            blob: Blob { digest: *digest, size: *size },
        };
        let result = ActionResult {
            files: result.blobs.iter().map(file).collect(),
            stdout: Output::Raw(result.pack.clone()),
            stderr: Output::Raw(result.name.clone()),
            ..ActionResult::default()
        };
        let bytes = result.to_bytes();
        let request = Request::new(Method::PUT, self.result_url(key));
        let request = request.header("content-type", "application/octet-stream");
        self.web.must(request.payload(Payload::Bytes(&bytes))).map(drop)
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        self.web.read(&self.blob_url(&blob.digest), blob)
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor]) -> Result<(), Error> {
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
