//! What backends have in common that speak plain HTTP: answers as errors, blobs that come and go.
//!
//! What is asked for and how it is signed is theirs. A cache is worth little patience: what does not answer is given up soon, and a
//! build goes on without it.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::sync::Mutex;
use std::time::Duration;

use super::{Content, Error};
use crate::http::{
    Connections, Environment, Method, Payload, Request, Response, Schedule, Settings, begins_at, cause_of,
    exchange,
};
use crate::oci::{Descriptor, Digest};
use crate::store::{self, BlobWriter, Store};
use crate::sync::{into_inner, lock};

/// Requests that are made at the same time.
pub(super) const AT_ONCE: usize = 4;
/// A connection that brought so much before it broke does not count as a failed attempt.
const GOOD_PIECE: u64 = 4 << 20;
/// Of what a server says to an error so much is read.
const SAID: u64 = 4 << 10;

/// For so long a server may say nothing, unless an option says otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How a cache is asked: with less patience than a registry.
pub(super) fn settings(environment: Environment) -> Settings {
    Settings {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: PATIENCE,
        longest_wait: Duration::from_secs(5),
        attempts: 3,
        ..Settings::with_environment(environment)
    }
}

/// Adds to a request what its server wants, such as a signature; it is called for each.
pub(super) trait Prepare: fmt::Debug + Send + Sync {
    fn prepare(&self, request: &mut Request<'_>) -> Result<(), Error>;
}

/// A server.
pub(super) struct Web<P> {
    connections: Connections,
    pub(super) prepare: P,
}

/// A body, and what tells it from others.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) etag: Option<String>,
}

impl<P: Prepare> Web<P> {
    pub(super) fn new(settings: Settings, prepare: P) -> Self {
        Self { connections: Connections::new(settings), prepare }
    }

    /// For so long the server may say nothing.
    pub(super) fn patience(&self) -> Duration {
        self.connections.settings().stall_timeout
    }

    /// Makes a request; an answer of whatever status is one.
    pub(super) fn ask(&self, mut request: Request<'_>) -> Result<Response, Error> {
        self.prepare.prepare(&mut request)?;
        exchange(&self.connections, &request).map_err(|failure| {
            let (host, cause) = (failure.origin.authority(), failure.cause);
            Error::Server(format!("`{host}` cannot be asked: {cause}"))
        })
    }

    /// Makes a request that must succeed.
    pub(super) fn must(&self, request: Request<'_>) -> Result<Response, Error> {
        let mut response = self.ask(request)?;
        match response.status.is_success() {
            true => Ok(response),
            false => Err(refused(&mut response)),
        }
    }

    /// What is at `url`, of `limit` bytes at most.
    pub(super) fn get(&self, url: &str, limit: u64) -> Result<Option<Body>, Error> {
        let mut schedule = Schedule::new(self.connections.settings());
        loop {
            let mut response = self.ask(Request::new(Method::GET, url.to_owned()))?;
            match response.status.as_u16() {
                404 | 410 => return Ok(None),
                _ if response.status.is_success() => {}
                _ => return Err(refused(&mut response)),
            }
            let etag = response.header("etag").map(str::to_owned);
            let mut bytes = Vec::new();
            match response.reader(limit + 1).read_to_end(&mut bytes) {
                Ok(_) if bytes.len() as u64 > limit => {
                    return Err(Error::NoPack(format!("it is larger than {} MiB", limit >> 20)));
                }
                Ok(_) => return Ok(Some(Body { bytes, etag })),
                Err(error) => match schedule.next(None) {
                    Some(wait) => std::thread::sleep(wait),
                    None => return Err(Error::Server(format!("the answer broke off: {}", cause_of(error)))),
                },
            }
        }
    }

    /// `size` bytes of what is at `url`, from byte `from` on.
    pub(super) fn get_part(&self, url: &str, from: u64, size: u64) -> Result<Option<Vec<u8>>, Error> {
        let mut schedule = Schedule::new(self.connections.settings());
        loop {
            let last = (from + size).saturating_sub(1);
            let range = format!("bytes={from}-{last}");
            let mut response = self.ask(Request::new(Method::GET, url.to_owned()).header("range", range))?;
            let skip = match response.status.as_u16() {
                206 if begins_at(&response, from) => 0,
                // It knows no ranges.
                200 => from,
                404 | 410 => return Ok(None),
                206 | 416 => {
                    return Err(Error::Server("the server does not give the part asked for".to_owned()));
                }
                _ => return Err(refused(&mut response)),
            };
            let mut reader = response.reader(skip + size);
            let mut bytes = Vec::new();
            let skipped = std::io::copy(&mut reader.by_ref().take(skip), &mut std::io::sink());
            let cause = match skipped.and_then(|_| reader.read_to_end(&mut bytes)) {
                Ok(_) if bytes.len() as u64 == size => return Ok(Some(bytes)),
                Ok(_) => "it is too short".to_owned(),
                Err(error) => cause_of(error),
            };
            match schedule.next(None) {
                Some(wait) => std::thread::sleep(wait),
                None => return Err(Error::Server(format!("the answer broke off: {cause}"))),
            }
        }
    }

    /// A small blob.
    pub(super) fn read(&self, url: &str, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let body = self.get(url, blob.size)?.ok_or(Error::NoBlob(blob.digest))?;
        super::verified(blob, body.bytes)
    }

    /// How long what is at `url` is.
    pub(super) fn size_of(&self, url: &str) -> Result<Option<u64>, Error> {
        let mut response = self.ask(Request::new(Method::HEAD, url.to_owned()))?;
        match response.status.as_u16() {
            404 | 410 => Ok(None),
            // Chunked answers do not say it: then it is sent again.
            200 => Ok(Some(response.content_length().unwrap_or(u64::MAX))),
            _ => Err(refused(&mut response)),
        }
    }

    /// Sends a blob in one piece.
    pub(super) fn put_blob(
        &self,
        request: Request<'_>,
        blob: &Descriptor,
        content: Content<'_>,
    ) -> Result<(), Error> {
        match content {
            Content::Bytes(bytes) => self.must(request.payload(Payload::Bytes(bytes))).map(drop),
            Content::Stored(store) => {
                let path = store.blob_path(&blob.digest);
                let payload = Payload::File { path: &path, from: 0, to: blob.size, sent: &|_| true };
                self.must(request.payload(payload)).map(drop)
            }
        }
    }

    /// Brings blobs into the store, several at a time, whatever becomes of the others. The error is the first.
    pub(super) fn fetch(
        &self,
        store: &Store,
        blobs: &[Descriptor],
        url: &(dyn Fn(&Digest) -> String + Sync),
    ) -> Result<(), Error> {
        let fetched = at_once(blobs, |blob| self.fetch_one(store, blob, &url(&blob.digest)));
        fetched.into_iter().collect()
    }

    /// Brings one blob into the store.
    pub(super) fn fetch_one(&self, store: &Store, blob: &Descriptor, url: &str) -> Result<(), Error> {
        if store.intact_blob(&blob.digest)? == Some(blob.size) {
            return Ok(());
        }
        let mut writer = store.new_blob()?;
        let mut schedule = Schedule::new(self.connections.settings());
        loop {
            let before = writer.written();
            let Some(cause) = self.receive(blob, url, &mut writer)? else { break };
            if writer.written().saturating_sub(before) >= GOOD_PIECE {
                schedule = Schedule::new(self.connections.settings());
            }
            let wait = schedule.next(None);
            std::thread::sleep(wait.ok_or_else(|| Error::Server(format!("a layer broke off: {cause}")))?);
        }
        writer.commit(Some(blob.digest)).map(drop).map_err(|error| match error {
            store::Error::WrongDigest { expected, actual } => Error::OtherBytes { expected, actual },
            error => error.into(),
        })
    }

    /// Asks for what is missing. What broke it, if it did.
    fn receive(
        &self,
        blob: &Descriptor,
        url: &str,
        writer: &mut BlobWriter,
    ) -> Result<Option<String>, Error> {
        let mut request = Request::new(Method::GET, url.to_owned());
        if writer.written() > 0 {
            request = request.header("range", format!("bytes={}-", writer.written()));
        }
        let mut response = self.ask(request)?;
        match response.status.as_u16() {
            206 if begins_at(&response, writer.written()) => {}
            // It knows no ranges, or nothing was there.
            200 => writer.restart()?,
            206 | 416 => {
                writer.restart()?;
                return Ok(Some("the server does not resume as asked".to_owned()));
            }
            404 | 410 => return Err(Error::NoBlob(blob.digest)),
            _ => return Err(refused(&mut response)),
        }
        let mut buffer = vec![0; 128 << 10];
        // One byte more than there should be is enough to know.
        let mut reader = response.reader(blob.size - writer.written() + 1);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) if writer.written() < blob.size => return Ok(Some("it is too short".to_owned())),
                Ok(0) => return Ok(None),
                Ok(n) => {
                    let write = writer.write_all(&buffer[..n]);
                    write.map_err(|e| Error::io("write", writer.path(), e))?;
                    if writer.written() > blob.size {
                        return Err(Error::Server(format!("{} is longer than it should be", blob.digest)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Ok(Some(cause_of(error))),
            }
        }
    }
}

/// Does `work` for each, several at a time, and gives the results in order.
pub(super) fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(items.iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let worker = || {
        loop {
            let item = lock(&next).next();
            let Some((number, item)) = item else { return };
            let result = work(item);
            lock(&done).push((number, result));
        }
    };
    match items.len() {
        0 | 1 => worker(),
        several => std::thread::scope(|scope| {
            for _ in 1..several.min(AT_ONCE) {
                // Where no thread can be had, this one does it all.
                let _ = std::thread::Builder::new().name("cache".to_owned()).spawn_scoped(scope, worker);
            }
            worker();
        }),
    }
    let mut done = into_inner(done);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What an answer means that is none of those hoped for.
pub(super) fn refused(response: &mut Response) -> Error {
    let status = response.status.as_u16();
    let mut said = Vec::new();
    let _ = response.reader(SAID).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    let code = element(&said, "Code").map(|code| format!(" ({})", crate::text::terminal::harmless(&code)));
    let host = response.origin.authority();
    let meaning = match status {
        401 => ": it wants credentials, or others",
        403 => ": these credentials may not do that",
        413 | 507 => ": there is no room",
        _ => "",
    };
    Error::Server(format!("`{host}` answers {status}{}{meaning}", code.unwrap_or_default()))
}

/// The content of the first element of a name in XML that a service wrote.
pub(super) fn element(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).next()
}

/// The contents of all elements of a name, which are not inside of each other.
pub(super) fn elements<'x>(xml: &'x str, name: &str) -> impl Iterator<Item = String> + 'x {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let begin = rest.find(&open)? + open.len();
        let end = begin + rest[begin..].find(&close)?;
        let content = &rest[begin..end];
        rest = &rest[end + close.len()..];
        let plain = content.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        Some(plain.replace("&apos;", "'").replace("&amp;", "&"))
    })
}

impl<P: fmt::Debug> fmt::Debug for Web<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("prepare", &self.prepare).finish_non_exhaustive()
    }
}
