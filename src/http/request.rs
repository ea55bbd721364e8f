//! What is asked, and what comes back.

use std::io::{Read, Take};

use ureq::Body;
use ureq::http::{self, Method, StatusCode};

use super::origin::Origin;
use super::redirect::join;
use super::trust::Trusted;

/// A request that can be made again.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Absolute, with scheme and host.
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The Authorization header; goes to the origin of `url` and nowhere else.
    pub(crate) authorization: Option<String>,
    pub(crate) payload: Payload<'a>,
    /// Whether the same request may be made again when its answer did not come, or was "not now".
    pub(crate) is_repeatable: bool,
    /// What the connection needs; `None` for what holds everywhere.
    pub(crate) trust: Option<Trusted>,
}

/// What a request carries.
#[derive(Clone)]
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A piece of a file. `sent` hears up to where it has been read, and whether to go on is what it gives.
    File {
        path: &'a std::path::Path,
        from: u64,
        to: u64,
        sent: &'a (dyn Fn(u64) -> bool + Sync),
    },
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, url: String) -> Self {
        let (headers, payload) = (Vec::new(), Payload::None);
        Self { method, url, headers, authorization: None, payload, is_repeatable: true, trust: None }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

/// An answer, of whatever status.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Body,
    /// Who answered in the end.
    pub(crate) origin: Origin,
    /// Where that was, for resolving a `Location`.
    pub(crate) url: String,
}

impl Response {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header that may be there more than once, as texts.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// The absolute form of the `Location` header.
    pub(crate) fn location(&self) -> Option<String> {
        join(&self.url, self.header("location")?)
    }

    /// How many bytes the body has, if the answer says so.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.body.content_length()
    }

    /// The body's bytes, at most `limit` of them.
    pub(crate) fn reader(&mut self, limit: u64) -> Take<impl Read + '_> {
        self.body.with_config().limit(u64::MAX).reader().take(limit)
    }
}

/// The request as `ureq` takes it.
pub(super) fn head<B>(request: &Request<'_>, body: B) -> http::Request<B> {
    let mut head = http::Request::new(body);
    *head.method_mut() = request.method.clone();
    *head.uri_mut() = request.url.parse().expect("origin_of() has parsed it");
    let authorization = request.authorization.iter().map(|value| ("authorization", value));
    for (name, value) in request.headers.iter().map(|(name, value)| (*name, value)).chain(authorization) {
        if let Ok(mut value) = http::HeaderValue::from_str(value) {
            value.set_sensitive(name == "authorization");
            head.headers_mut().insert(name, value);
        }
    }
    head
}
