//! A bucket of S3, or of a service that speaks as S3 does.
//!
//! ```text
//! PREFIX BLOBS sha256/HEX               layers, indexes
//! PREFIX MANIFESTS rbuild/NAME          the head
//! PREFIX MANIFESTS rbuild/NAME.packs/   what writers left beside it
//! ```
//!
//! Requests are signed here: a library would bring more than the little that is needed. The head is written on condition that it
//! is what was read; services exist that only seem to keep that, so packs lie beside it as everywhere.

mod keys;
mod sign;

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::web::{Prepare, Web, at_once, element, elements, refused, settings};
use super::{Backend, Content, Error, Head, PackId, Put, Sent, used_again};
use crate::clock;
use crate::http::{Environment, Method, Payload, Request, Settings, is_loopback_host, origin_of};
use crate::oci::{Descriptor, Digest};
use crate::report::Events;
use crate::shared_cache::pack::COMPRESSED_LIMIT;
use crate::shared_cache::spec::S3At;
use crate::store::Store;
use keys::Chain;
use sign::{Scope, UNSIGNED, encoded, sign};

/// Blobs that are larger are sent in parts of this size.
const PART: u64 = 64 << 20;
/// A list of packs is shorter.
const LIST_LIMIT: u64 = 4 << 20;

/// A bucket.
#[derive(Debug)]
pub struct S3 {
    at: S3At,
    /// What stands before the names of objects in URLs; or why there is none.
    base: Result<String, String>,
    web: Web<Signer>,
    /// The service knows no conditions.
    is_unconditional: AtomicBool,
    part: u64,
}

/// Signs every request.
#[derive(Debug)]
struct Signer {
    chain: Chain,
    scope: Scope,
}

impl Prepare for Signer {
    fn prepare(&self, request: &mut Request<'_>) -> Result<(), Error> {
        let given = request.headers.iter().position(|(name, _)| *name == sign::CONTENT);
        let payload = match (given, &request.payload) {
            (Some(at), _) => request.headers.remove(at).1,
            (None, Payload::None) => Digest::of(b"").hex(),
            (None, Payload::Bytes(bytes)) => Digest::of(bytes).hex(),
            (None, Payload::File { .. }) => UNSIGNED.to_owned(),
        };
        sign(request, &self.scope, &self.chain.keys()?, &payload, clock::now());
        Ok(())
    }
}

impl S3 {
    /// Contacts nothing yet; what the option does not say the environment does.
    pub(super) fn new(at: S3At, environment: Environment) -> Self {
        let text = |names: &[&str]| environment.text(names).map(str::to_owned);
        let mut at = at;
        at.bucket = at.bucket.or_else(|| text(&["AWS_BUCKET"]));
        at.endpoint_url = at.endpoint_url.or_else(|| text(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
        at.region = at.region.or_else(|| keys::region(&environment));
        let base = base(&at);
        let region = at.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        let chain = Chain::new(at.keys.clone(), environment.clone(), region.clone());
        let settings = settings(environment);
        let stall_timeout = at.timeout.unwrap_or(settings.stall_timeout);
        let settings = Settings { stall_timeout, ..settings };
        let web = Web::new(settings, Signer { chain, scope: Scope { region, service: "s3" } });
        Self { at, base, web, is_unconditional: AtomicBool::new(false), part: PART }
    }

    fn url(&self, key: &str) -> Result<String, Error> {
        let base = self.base.as_ref().map_err(|why| Error::Server(why.clone()))?;
        Ok(format!("{base}/{}", encoded(key, true)))
    }

    fn blob_key(&self, digest: &Digest) -> String {
        format!("{}{}sha256/{}", self.at.prefix, self.at.blobs_prefix, digest.hex())
    }

    fn head_key(&self) -> String {
        format!("{}{}rbuild/{}", self.at.prefix, self.at.manifests_prefix, self.at.name)
    }

    fn pack_key(&self, id: &str) -> String {
        format!("{}.packs/{id}", self.head_key())
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), Error> {
        let request = Request::new(Method::PUT, self.url(key)?).payload(Payload::Bytes(bytes));
        self.web.must(request).map(drop)
    }

    /// Writes the head if it is still what was read, as far as the service looks.
    fn put_if(&self, key: &str, bytes: &[u8], previous: Option<&Head>) -> Result<Put, Error> {
        let mut request = Request::new(Method::PUT, self.url(key)?).payload(Payload::Bytes(bytes));
        match previous.map(|head| head.version.clone()) {
            None => request = request.header("if-none-match", "*"),
            Some(Some(version)) => request = request.header("if-match", version),
            Some(None) => {}
        }
        let mut response = self.web.ask(request)?;
        match response.status.as_u16() {
            200..=299 => Ok(Put::Done),
            404 | 409 | 412 => Ok(Put::Lost),
            // Services that do not know the headers.
            400 | 501 => {
                self.put(key, bytes)?;
                self.is_unconditional.store(true, Ordering::Relaxed);
                Ok(Put::Done)
            }
            _ => Err(refused(&mut response)),
        }
    }

    fn remove_object(&self, key: &str) -> Result<(), Error> {
        let mut response = self.web.ask(Request::new(Method::DELETE, self.url(key)?))?;
        match response.status.as_u16() {
            200..=299 | 404 => Ok(()),
            _ => Err(refused(&mut response)),
        }
    }

    /// Sends a blob in parts, several at a time.
    fn send_in_parts(&self, blob: &Descriptor, store: &Store) -> Result<(), Error> {
        let url = self.url(&self.blob_key(&blob.digest))?;
        let begin = Request::new(Method::POST, format!("{url}?uploads=")).payload(Payload::Bytes(&[]));
        let begun = self.text(begin)?;
        let id = element(&begun, "UploadId")
            .ok_or_else(|| Error::Server("the service does not take uploads in parts".to_owned()))?;
        let upload = format!("uploadId={}", encoded(&id, false));
        let sent = self.send_parts(blob, store, &url, &upload);
        if sent.is_err() {
            let _ = self.web.ask(Request::new(Method::DELETE, format!("{url}?{upload}")));
        }
        sent
    }

    fn send_parts(&self, blob: &Descriptor, store: &Store, url: &str, upload: &str) -> Result<(), Error> {
        let path = store.blob_path(&blob.digest);
        let parts: Vec<(u64, u64)> = (1..).zip((0..blob.size).step_by(self.part as usize)).collect();
        let send = |(number, from): &(u64, u64)| {
            let to = (from + self.part).min(blob.size);
            let payload = Payload::File { path: &path, from: *from, to, sent: &|_| true };
            let url = format!("{url}?partNumber={number}&{upload}");
            let response = self.web.must(Request::new(Method::PUT, url).payload(payload))?;
            let tag = response.header("etag").map(str::to_owned);
            tag.ok_or_else(|| Error::Server("the service does not name what it was sent".to_owned()))
        };
        let tags: Vec<String> = at_once(&parts, send).into_iter().collect::<Result<_, Error>>()?;
        let listed: String = (1..)
            .zip(&tags)
            .map(|(number, tag): (u64, &String)| {
                let tag = tag.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
            })
            .collect();
        let body = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
        let complete = Request::new(Method::POST, format!("{url}?{upload}"));
        let said = self.text(complete.payload(Payload::Bytes(body.as_bytes())))?;
        // An error can come after the status.
        match element(&said, "Code") {
            None => Ok(()),
            Some(code) => Err(Error::Server(format!("the upload in parts failed ({code})"))),
        }
    }

    /// The body of an answer that must be a good one.
    fn text(&self, request: Request<'_>) -> Result<String, Error> {
        let mut response = self.web.must(request)?;
        let mut text = String::new();
        let read = response.reader(LIST_LIMIT).read_to_string(&mut text);
        read.map_err(|e| Error::Server(format!("the answer broke off: {}", crate::http::cause_of(e))))?;
        Ok(text)
    }

    /// Makes blobs young that were used on another day than the head knew, so that rules of the bucket that remove what is old
    /// leave them. What goes wrong is met when they are gone.
    fn touch(&self, pack: &[u8], previous: Option<&Head>) {
        if !self.at.touch {
            return;
        }
        let used = used_again(pack, previous);
        at_once(&used, |digest| self.copy_to_itself(&self.blob_key(digest)).ok());
    }

    fn copy_to_itself(&self, key: &str) -> Result<(), Error> {
        let source = format!("{}/{}", self.at.bucket.as_deref().unwrap_or_default(), encoded(key, true));
        let request = Request::new(Method::PUT, self.url(key)?)
            .header("x-amz-copy-source", source)
            .header("x-amz-metadata-directive", "REPLACE")
            .payload(Payload::Bytes(&[]));
        self.web.must(request).map(drop)
    }
}

/// What stands before the names of objects: the bucket in the host, or in the path.
fn base(at: &S3At) -> Result<String, String> {
    let bucket = at.bucket.as_deref().ok_or("`bucket=` is missing, and AWS_BUCKET is not set")?;
    if bucket.is_empty() || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return Err(format!("`bucket={bucket}` is no name of a bucket"));
    }
    let endpoint = match (&at.endpoint_url, &at.region) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(region)) => {
            let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            format!("https://s3.{region}.{end}")
        }
        (None, None) => return Err("`region=` is missing, and AWS_REGION is not set".to_owned()),
    };
    let origin = origin_of(&endpoint).map_err(|_| "`endpoint_url=` is no URL".to_owned())?;
    // Names below an address there are none, and certificates are for one name below the service's.
    let is_in_path = at.use_path_style
        || is_loopback_host(&origin.host)
        || origin.ip().is_some()
        || (origin.secure && bucket.contains('.'));
    match (is_in_path, endpoint.split_once("://")) {
        (false, Some((scheme, host))) => Ok(format!("{scheme}://{bucket}.{host}")),
        _ => Ok(format!("{endpoint}/{bucket}")),
    }
}

impl Backend for S3 {
    fn name(&self) -> String {
        format!("s3://{}/{}", self.at.bucket.as_deref().unwrap_or_default(), self.head_key())
    }

    fn patience(&self) -> Duration {
        self.web.patience()
    }

    fn head(&self) -> Result<Option<Head>, Error> {
        let body = self.web.get(&self.url(&self.head_key())?, COMPRESSED_LIMIT)?;
        Ok(body.map(|body| Head::of_cache(body.bytes, body.etag)))
    }

    fn put_head(&self, pack: &[u8], _: &[Descriptor], previous: Option<&Head>) -> Result<Put, Error> {
        let key = self.head_key();
        let put = match self.is_unconditional.load(Ordering::Relaxed) {
            true => self.put(&key, pack).map(|()| Put::Done),
            false => self.put_if(&key, pack, previous),
        }?;
        if put == Put::Done {
            self.touch(pack, previous);
        }
        Ok(put)
    }

    fn put_pack(&self, id: &PackId, pack: &[u8], _: &[Descriptor]) -> Result<(), Error> {
        self.put(&self.pack_key(&id.0), pack)
    }

    fn packs(&self) -> Result<Vec<PackId>, Error> {
        let base = self.base.as_ref().map_err(|why| Error::Server(why.clone()))?;
        let prefix = self.pack_key("");
        let (mut ids, mut next) = (Vec::new(), String::new());
        loop {
            let query = format!("{next}list-type=2&prefix={}", encoded(&prefix, false));
            let xml = self.text(Request::new(Method::GET, format!("{base}/?{query}")))?;
            let names = elements(&xml, "Key").filter_map(|key| key.strip_prefix(&prefix).map(str::to_owned));
            let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
            ids.extend(names.filter(|name| name.chars().all(is_id)).map(PackId));
            match element(&xml, "NextContinuationToken") {
                Some(token) => next = format!("continuation-token={}&", encoded(&token, false)),
                None => break,
            }
        }
        ids.sort();
        Ok(ids)
    }

    fn pack(&self, id: &PackId) -> Result<Option<Vec<u8>>, Error> {
        let body = self.web.get(&self.url(&self.pack_key(&id.0))?, COMPRESSED_LIMIT)?;
        Ok(body.map(|body| body.bytes))
    }

    fn remove_pack(&self, id: &PackId) -> Result<(), Error> {
        let removed = self.remove_object(&self.pack_key(&id.0));
        drop(removed.inspect_err(|error| tracing::debug!(%error, "a pack stays")));
        Ok(())
    }

    /// Blobs stay: other caches of the bucket may have them, too.
    fn remove(&self) -> Result<(), Error> {
        let keys: Vec<String> = self.packs()?.iter().map(|id| self.pack_key(&id.0)).collect();
        let removed = at_once(&keys, |key| self.remove_object(key));
        removed.into_iter().collect::<Result<(), Error>>()?;
        self.remove_object(&self.head_key())
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        self.web.read(&self.url(&self.blob_key(&blob.digest))?, blob)
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor], _: &Events) -> Result<(), Error> {
        let base = self.base.as_ref().map_err(|why| Error::Server(why.clone()))?;
        let url = |digest: &Digest| format!("{base}/{}", encoded(&self.blob_key(digest), true));
        self.web.fetch(store, blobs, &url)
    }

    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error> {
        let url = self.url(&self.blob_key(&blob.digest))?;
        if self.web.size_of(&url)? == Some(blob.size) {
            return Ok(Sent::Known);
        }
        match content {
            Content::Stored(store) if blob.size > self.part => self.send_in_parts(blob, store)?,
            _ => {
                // The service compares the bytes with the digest.
                let request = Request::new(Method::PUT, url).header(sign::CONTENT, blob.digest.hex());
                self.web.put_blob(request, blob, content)?;
            }
        }
        Ok(Sent::Bytes(blob.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_the_host_or_in_the_path() {
        let at = |bucket: &str, region: &str, endpoint: &str, use_path_style| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            base(&S3At {
                bucket: some(bucket),
                region: some(region),
                endpoint_url: some(endpoint),
                use_path_style,
                ..S3At::default()
            })
        };
        for (found, expected) in [
            (at("b", "eu-1", "", false), Ok("https://b.s3.eu-1.amazonaws.com")),
            (at("b", "cn-north-1", "", false), Ok("https://b.s3.cn-north-1.amazonaws.com.cn")),
            (at("b", "eu-1", "", true), Ok("https://s3.eu-1.amazonaws.com/b")),
            (at("a.b", "eu-1", "", false), Ok("https://s3.eu-1.amazonaws.com/a.b")),
            (at("b", "", "https://s3.example/", false), Ok("https://b.s3.example")),
            (at("b", "", "https://s3.example", true), Ok("https://s3.example/b")),
            (at("b", "", "http://localhost:9000", false), Ok("http://localhost:9000/b")),
            (at("b", "", "http://10.0.0.1:9000", false), Ok("http://10.0.0.1:9000/b")),
            (at("b", "", "", false), Err("`region=` is missing, and AWS_REGION is not set")),
            (at("", "eu-1", "", false), Err("`bucket=` is missing, and AWS_BUCKET is not set")),
            (at("a/b", "eu-1", "", false), Err("`bucket=a/b` is no name of a bucket")),
        ] {
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
        }
    }
}
