//! One blob on its way out: looked for, mounted, or sent in chunks and taken up again where it broke.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::answer::Asked;
use super::error::Error;
use super::push::Sending;
use super::{Client, Target};
use crate::http::{
    Method, Payload, Problem, Request, Response, Schedule, is_transient, percent_encoded, retry_after,
};
use crate::oci::Descriptor;
use crate::sync::lock;

/// Bytes are reported at most so often for each blob.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// One blob and where it goes.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) sending: &'a Sending<'a>,
    pub(super) target: Target<'a>,
    pub(super) blob: &'a Descriptor,
}

/// How a blob came to where it was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The registry had it.
    Known,
    /// Its bytes were sent.
    Sent,
}

/// Why an attempt to upload did not get to its end, though another one may.
enum Trouble {
    /// The connection broke.
    Broken { done: u64, cause: String },
    /// The registry said so.
    Refused(Box<Response>),
}

/// An attempt's outcome; the error is one that no further attempt mends.
type Attempt<T> = Result<Result<T, Trouble>, Error>;

impl Upload<'_> {
    /// Brings the blob there.
    pub(super) fn run(&self) -> Result<Way, Error> {
        let mut schedule = Schedule::new(&self.client.inner.settings.http);
        let mut in_chunks = self.blob.size > self.client.inner.settings.chunk_bytes;
        // To mount what is there already costs no more than to ask whether it is.
        let mounted = match self.client.other_home(&self.target, &self.blob.digest) {
            Some(from) if !self.client.has(&self.target, &self.blob.digest) => self.mount(&from)?,
            _ => None,
        };
        let mut begun = match mounted {
            Some(response) if response.status != 202 => response,
            _ if self.is_there()? => return Ok(Way::Known),
            Some(begun) => begun,
            None => self.begin()?,
        };
        loop {
            let trouble = match self.attempt(begun, in_chunks)? {
                Ok(way) => return Ok(way),
                Err(trouble) => trouble,
            };
            // Some registries take blobs in one piece only.
            let was_in_chunks = in_chunks;
            if let Trouble::Refused(response) = &trouble {
                in_chunks = in_chunks && is_transient(response.status.as_u16());
            }
            let wait = match trouble.may_pass() || was_in_chunks {
                true => schedule.next(trouble.asks_to_wait()),
                false => None,
            };
            std::thread::sleep(wait.ok_or_else(|| self.give_up(trouble))?);
            // The last answer may have been lost, and not what it answered.
            if self.is_there()? {
                return Ok(Way::Sent);
            }
            begun = self.begin()?;
        }
    }

    fn is_there(&self) -> Result<bool, Error> {
        if self.sending.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        if self.client.has(&self.target, &self.blob.digest) {
            return Ok(true);
        }
        let path = self.target.path(&format!("blobs/{}", self.blob.digest));
        Ok(self.client.call(&self.target, None, &Request::new(Method::HEAD, path))?.status == 200)
    }

    /// Asks to have the blob from another repository; a registry that cannot begins an upload instead. `None` when it does
    /// neither.
    fn mount(&self, from: &str) -> Result<Option<Response>, Error> {
        if self.sending.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        let query = format!("blobs/uploads/?mount={}&from={}", self.blob.digest, percent_encoded(from));
        let request = Request::new(Method::POST, self.target.path(&query)).payload(Payload::Bytes(&[]));
        let scope = format!("repository:{from}:pull");
        match self.client.call(&self.target, Some(&scope), &request) {
            Ok(response) if matches!(response.status.as_u16(), 201 | 202) => Ok(Some(response)),
            // Who may not read there may still write here.
            _ => Ok(None),
        }
    }

    fn begin(&self) -> Result<Response, Error> {
        let request =
            Request::new(Method::POST, self.target.path("blobs/uploads/")).payload(Payload::Bytes(&[]));
        self.client.call(&self.target, None, &request)
    }

    /// Sends what `begun` wants to have.
    fn attempt(&self, begun: Response, in_chunks: bool) -> Attempt<Way> {
        match begun.status.as_u16() {
            // It was mounted.
            200 | 201 | 204 => return Ok(Ok(Way::Known)),
            202 => {}
            _ => return Err(self.client.refusal(&self.target, Asked::Upload, begun)),
        }
        if self.sending.store.has_blob(&self.blob.digest).is_none() {
            let supplied = (self.sending.supply)(self.blob);
            supplied.map_err(|cause| Error::NotSupplied { digest: self.blob.digest, cause })?;
        }
        let place = self.place(&begun)?;
        let sent = match in_chunks {
            true => self.send_chunks(place)?,
            false => self.put(&place, 0)?,
        };
        Ok(sent.map(|()| Way::Sent))
    }

    /// Sends the rest of the blob and has it become one (distribution-spec, "POST then PUT").
    fn put(&self, place: &str, from: u64) -> Attempt<()> {
        let separator = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{separator}digest={}", percent_encoded(&self.blob.digest.to_string()));
        let request = Request::new(Method::PUT, url).header("content-type", "application/octet-stream");
        let answer = self.send(request, from, self.blob.size)?;
        Ok(answer.and_then(|response| match response.status.as_u16() {
            200 | 201 | 204 => Ok(()),
            _ => Err(Trouble::Refused(Box::new(response))),
        }))
    }

    /// Sends everything in chunks (distribution-spec, "Pushing a blob in chunks"), and has it become a blob.
    fn send_chunks(&self, place: String) -> Attempt<()> {
        let settings = &self.client.inner.settings;
        let (mut place, mut at) = (place, 0);
        let mut schedule = Schedule::new(&settings.http);
        loop {
            let end = (at + settings.chunk_bytes).min(self.blob.size);
            let sent = match at < self.blob.size {
                true => self.patch(&place, at, end)?.map(Some),
                false => self.put(&place, at)?.map(|()| None),
            };
            let trouble = match sent {
                Ok(Some(response)) => {
                    place = self.place(&response)?;
                    at = received(&response).filter(|next| (at + 1..end).contains(next)).unwrap_or(end);
                    schedule = Schedule::new(&settings.http);
                    continue;
                }
                Ok(None) => return Ok(Ok(())),
                Err(trouble) => trouble,
            };
            let Some(wait) = schedule.next(trouble.asks_to_wait()) else { return Ok(Err(trouble)) };
            std::thread::sleep(wait);
            match self.state(&place, at, end)? {
                Some((next_place, next)) => (place, at) = (next_place, next),
                None => return Ok(Err(trouble)),
            }
        }
    }

    fn patch(&self, place: &str, at: u64, end: u64) -> Attempt<Response> {
        let request = Request::new(Method::PATCH, place.to_owned())
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{at}-{}", end - 1));
        let answer = self.send(request, at, end)?;
        Ok(answer.and_then(|response| match response.status.as_u16() {
            200..=204 => Ok(response),
            _ => Err(Trouble::Refused(Box::new(response))),
        }))
    }

    /// Asks how much of an upload has arrived. `None` when the registry does not know it any more, or says what cannot be.
    fn state(&self, place: &str, at: u64, end: u64) -> Result<Option<(String, u64)>, Error> {
        let response =
            match self.client.call(&self.target, None, &Request::new(Method::GET, place.to_owned())) {
                Ok(response) if matches!(response.status.as_u16(), 200 | 202 | 204) => response,
                Ok(_) | Err(Error::Unreachable { problem: Problem::Broken, .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
        let next = received(&response).unwrap_or(0);
        let place = response.location().map_or_else(|| Ok(place.to_owned()), |_| self.place(&response))?;
        Ok((at..=end).contains(&next).then_some((place, next)))
    }

    /// Sends bytes of the blob, once.
    fn send(&self, request: Request<'_>, from: u64, to: u64) -> Attempt<Response> {
        if !matches!(self.sending.store.has_blob(&self.blob.digest), Some(size) if size == self.blob.size) {
            return Err(Error::Store(crate::store::Error::NotFound { digest: self.blob.digest }));
        }
        let path = self.sending.store.blob_path(&self.blob.digest);
        let reported = Mutex::new(Instant::now());
        let sent = |at: u64| {
            let mut reported = lock(&reported);
            if reported.elapsed() >= REPORT_EVERY && at < self.blob.size {
                *reported = Instant::now();
                self.sending.progress.bytes(&self.blob.digest, at, self.blob.size);
            }
            !self.sending.stop.load(Ordering::Relaxed)
        };
        let payload = Payload::File { path: &path, from, to, sent: &sent };
        let request = Request { is_repeatable: false, ..request.payload(payload) };
        match self.client.call(&self.target, None, &request) {
            Ok(response) => Ok(Ok(response)),
            Err(_) if self.sending.stop.load(Ordering::Relaxed) => Err(Error::Stopped),
            Err(Error::Unreachable { problem: Problem::Broken, cause, .. }) => {
                Ok(Err(Trouble::Broken { done: from, cause }))
            }
            Err(error) => Err(error),
        }
    }

    /// Where the registry wants to have the bytes. One behind a proxy that speaks TLS for it may not know that.
    fn place(&self, response: &Response) -> Result<String, Error> {
        let Some(place) = response.location() else {
            let reason = "it began an upload without saying where".to_owned();
            return Err(Error::Malformed { image: self.target.image(), reason });
        };
        match place.strip_prefix("http://") {
            None => Ok(place),
            Some(_) if !response.origin.secure => Ok(place),
            Some(rest) if rest.split('/').next() == Some(response.origin.authority().as_str()) => {
                Ok(format!("https://{rest}"))
            }
            Some(_) => {
                let reason = "it wants the upload to go on without https".to_owned();
                Err(Error::Malformed { image: self.target.image(), reason })
            }
        }
    }

    fn give_up(&self, trouble: Trouble) -> Error {
        let (digest, total) = (self.blob.digest, self.blob.size);
        match trouble {
            Trouble::Refused(response) => self.client.refusal(&self.target, Asked::Upload, *response),
            Trouble::Broken { done, cause } => {
                Error::UploadBroken { image: self.target.image(), digest, done, total, cause }
            }
        }
    }
}

impl Trouble {
    fn asks_to_wait(&self) -> Option<Duration> {
        match self {
            Trouble::Refused(response) => retry_after(response),
            Trouble::Broken { .. } => None,
        }
    }

    /// Whether to try again at all: a registry that does not know the upload any more, that saw other bytes, or that is
    /// busy, may take it when it is begun anew.
    fn may_pass(&self) -> bool {
        match self {
            Trouble::Refused(response) => {
                let status = response.status.as_u16();
                is_transient(status) || matches!(status, 400 | 404 | 416)
            }
            Trouble::Broken { .. } => true,
        }
    }
}

/// How many bytes of an upload are there, by the `Range` header `0-<last>`. No byte at all is `0-0` with docker's
/// registry, and so is one byte, which no chunk here has.
fn received(response: &Response) -> Option<u64> {
    let range = response.header("range")?;
    let last: u64 = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
