//! Asks a registry as whoever may ask, and turns refusals into errors.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::MutexGuard;

use serde::Deserialize;

use super::error::{CredentialState, Error};
use super::{Access, Client, Target, is_loopback_registry, origin_of_registry};
use crate::config::Place;
use crate::http::{
    self, Failure, Method, Origin, Problem, Request, Response, Schedule, Trusted, origin_of, split_port,
};
use crate::oci::Digest;
use crate::sync::lock;

/// The registry's words about an error are read up to here.
const DETAIL_LIMIT: u64 = 64 << 10;

/// What was asked for, to know what 404 means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Manifest,
    Blob(Digest),
    Upload,
}

impl Target<'_> {
    /// What connections to the registry itself need.
    pub(super) fn trusted(&self) -> Trusted {
        let Place { insecure, ca, client, .. } = self.place;
        Trusted { insecure: *insecure, ca: ca.clone(), client: client.clone() }
    }
}

impl Client {
    /// Makes a request whose `url` may be a path of the target's registry. Answers a challenge once; gives
    /// whatever the registry says then.
    ///
    /// `extra` is a scope beside the target's own.
    pub(super) fn call(
        &self,
        target: &Target<'_>,
        extra: Option<&str>,
        request: &Request<'_>,
    ) -> Result<Response, Error> {
        let mut challenged = false;
        loop {
            let registry = self.origin(target);
            let request = self
                .addressed(request, &registry, target, extra)
                .map_err(|f| unreachable(target.image(), f))?;
            let mut response = match http::exchange(&self.inner.connections, &request) {
                Ok(response) if response.status == 400 && self.turns_out_other(target, &registry) => {
                    continue;
                }
                Ok(response) => response,
                Err(failure) if may_be_other(&failure, target) && self.turns_out_other(target, &registry) => {
                    continue;
                }
                Err(failure) => return Err(unreachable(target.image(), failure)),
            };
            if response.status != 401 || response.origin != registry || challenged {
                return Ok(response);
            }
            challenged = true;
            let detail = detail(&mut response);
            let inner = &self.inner;
            let answered = inner.auth.answer(&response, target, extra, &inner.connections);
            answered.map_err(|refusal| {
                let said = if refusal.detail.is_empty() { detail.message } else { refusal.detail };
                unauthorized(target, said, refusal.credentials)
            })?;
        }
    }

    /// The whole answer to a request for something small, of a kind and at most so many bytes; asked for again when the
    /// connection breaks.
    pub(super) fn document(
        &self,
        target: &Target<'_>,
        request: &Request<'_>,
        asked: Asked,
        kind: (&'static str, u64),
    ) -> Result<(Response, Vec<u8>), Error> {
        let mut schedule = Schedule::new(&self.inner.settings.http);
        loop {
            let mut response = self.call(target, None, request)?;
            if response.status != 200 {
                return Err(self.refusal(target, asked, response));
            }
            match read_bounded(&target.image(), kind, &mut response) {
                Ok(bytes) => return Ok((response, bytes)),
                Err(error @ Error::Unreachable { .. }) => {
                    std::thread::sleep(schedule.next(None).ok_or(error)?);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The request with its full address, and with the header that worked before if it goes to the registry.
    fn addressed<'r>(
        &self,
        request: &Request<'r>,
        registry: &Origin,
        target: &Target<'_>,
        extra: Option<&str>,
    ) -> Result<Request<'r>, Failure> {
        let mut request = request.clone();
        if request.url.starts_with('/') {
            request.url = registry.url(&request.url);
        }
        if origin_of(&request.url)? == *registry {
            request.authorization = self.inner.auth.header(target, extra);
            request.trust = Some(target.trusted());
        }
        Ok(request)
    }

    fn origin(&self, target: &Target<'_>) -> Origin {
        let name = target.registry();
        let known = self.turned_out().get(name).copied();
        let must_be_secure = self.inner.settings.registries.tls_verify() == Some(true);
        let expected = || must_be_secure || !(target.place.http || is_loopback_registry(name));
        origin_of_registry(name, !known.unwrap_or_else(expected))
    }

    fn turned_out(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        lock(&self.inner.turned_out_secure)
    }

    /// Whether a registry on this machine, asked over http, answers https instead, or one that need not be secure,
    /// asked over https, answers http; it is remembered.
    fn turns_out_other(&self, target: &Target<'_>, asked: &Origin) -> bool {
        let name = target.registry();
        let may_differ = match asked.secure {
            true => target.place.insecure,
            false => asked.is_loopback() && !target.place.http,
        };
        if !may_differ || self.turned_out().contains_key(name) {
            return false;
        }
        let mut probe = Request::new(Method::GET, origin_of_registry(name, asked.secure).url("/v2/"));
        probe.trust = Some(target.trusted());
        let is_other = match self.inner.connections.exchange(&probe) {
            Ok(_) => true,
            // That it is not trusted shows that it is TLS; the next request tells the user.
            Err(failure) => !asked.secure && failure.problem == Problem::Certificate,
        };
        if is_other {
            self.turned_out().insert(name.to_owned(), !asked.secure);
        }
        is_other
    }

    /// The error for an answer that is not what was hoped for.
    pub(super) fn refusal(&self, target: &Target<'_>, asked: Asked, mut response: Response) -> Error {
        let said = detail(&mut response);
        let reference = target.reference;
        let (registry, repository) = (target.registry().to_owned(), target.place.repository.clone());
        let image = target.image();
        let ours = response.origin == self.origin(target);
        match (response.status.as_u16(), asked) {
            (401 | 403, _) if ours => unauthorized(target, said.message, self.inner.auth.state(target)),
            (404, _) if said.code == "NAME_UNKNOWN" => {
                Error::UnknownRepository { image, registry, repository }
            }
            (404, Asked::Manifest) => {
                Error::UnknownManifest { image, registry, repository, wanted: reference.wanted() }
            }
            (404, Asked::Blob(digest)) => Error::UnknownBlob { image, digest },
            (status, _) => Error::Status {
                image,
                registry: if ours { registry } else { response.origin.host.clone() },
                request: request_name(&response),
                status,
                detail: said.message,
                retry_after_seconds: http::retry_after(&response).map(|wait| wait.as_secs()),
            },
        }
    }
}

/// The path only: the query of a redirect's target is often a signature.
fn request_name(response: &Response) -> String {
    let path = response.url.splitn(4, '/').nth(3).unwrap_or("");
    format!("/{}", path.split('?').next().unwrap_or(""))
}

/// Whether a failure can mean that https is spoken there and not http, or the other way round.
fn may_be_other(failure: &Failure, target: &Target<'_>) -> bool {
    match failure.problem {
        Problem::Protocol | Problem::Broken => true,
        Problem::Refused => split_port(target.registry()).1.is_none(),
        _ => false,
    }
}

fn unauthorized(target: &Target<'_>, detail: String, credentials: CredentialState) -> Error {
    Error::Unauthorized {
        image: target.image(),
        registry: target.registry().to_owned(),
        action: match target.access {
            Access::Pull => "pulling",
            Access::Push => "pushing",
            Access::Login => "logging in for",
        },
        detail,
        credentials,
    }
}

fn unreachable(image: String, failure: Failure) -> Error {
    let Failure { origin, problem, cause } = failure;
    Error::Unreachable { image, host: origin.host, port: origin.port, secure: origin.secure, problem, cause }
}

/// The first error of an answer's body (distribution-spec, "Error Codes").
#[derive(Default)]
struct Detail {
    code: String,
    message: String,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorItem>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

fn detail(response: &mut Response) -> Detail {
    let mut bytes = Vec::new();
    if response.reader(DETAIL_LIMIT).read_to_end(&mut bytes).is_err() {
        return Detail::default();
    }
    let body: Option<ErrorBody> = serde_json::from_slice(&bytes).ok();
    let Some(first) = body.and_then(|b| b.errors.into_iter().next()) else { return Detail::default() };
    Detail { code: first.code, message: printable(&first.message) }
}

/// A stranger's text, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Reads a body of at most `limit` bytes.
pub(super) fn read_bounded(
    image: &str,
    (what, limit): (&'static str, u64),
    response: &mut Response,
) -> Result<Vec<u8>, Error> {
    let too_large = |size: String| Error::TooLarge { image: image.to_owned(), what, size, limit };
    if let Some(size) = response.content_length().filter(|size| *size > limit) {
        return Err(too_large(format!("{size} bytes")));
    }
    let mut bytes = Vec::new();
    let read = response.reader(limit + 1).read_to_end(&mut bytes);
    read.map_err(|e| {
        let cause = format!("while the {what} was read: {}", http::cause_of(e));
        unreachable(
            image.to_owned(),
            Failure { origin: response.origin.clone(), problem: Problem::Broken, cause },
        )
    })?;
    if bytes.len() as u64 > limit { Err(too_large("more".to_owned())) } else { Ok(bytes) }
}
