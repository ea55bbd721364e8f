//! One HTTP exchange: the right connection, redirects followed without credentials.

use std::collections::BTreeMap;
use std::io::{Read, Take};
use std::sync::Mutex;

use ureq::http::{self, Method, StatusCode, Uri};
use ureq::{Agent, Body, SendBody};

use super::Settings;
use super::endpoint::Origin;
use super::environment::Environment;
use super::error::Problem;
use super::piece::Piece;
use super::place::Trusted;
use super::proxy::proxy_for;
use super::tls::{Trust, host_folders};

use crate::sync::lock;

/// More redirects than this lead nowhere.
const MAX_REDIRECTS: u32 = 5;

/// A request that can be made again.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Absolute.
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    /// The Authorization header; goes to the origin of `url` and nowhere else.
    pub(super) authorization: Option<String>,
    pub(super) payload: Payload<'a>,
    /// Whether the same request may be made again when its answer did not come, or was "not now".
    pub(super) is_repeatable: bool,
    /// What the connection needs; `None` for what holds everywhere.
    pub(super) trust: Option<Trusted>,
}

/// What a request carries.
#[derive(Clone)]
pub(super) enum Payload<'a> {
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
    pub(super) fn new(method: Method, url: String) -> Self {
        let (headers, payload) = (Vec::new(), Payload::None);
        Self { method, url, headers, authorization: None, payload, is_repeatable: true, trust: None }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

/// An answer, of whatever status.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Body,
    /// Who answered in the end.
    pub(super) origin: Origin,
    /// Where that was, for resolving a `Location`.
    pub(super) url: String,
}

impl Response {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The absolute form of the `Location` header.
    pub(super) fn location(&self) -> Option<String> {
        join(&self.url, self.header("location")?)
    }

    /// The body's bytes, at most `limit` of them.
    pub(super) fn reader(&mut self, limit: u64) -> Take<ureq::BodyReader<'_>> {
        self.body.with_config().limit(u64::MAX).reader().take(limit)
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) origin: Origin,
    pub(super) problem: Problem,
    pub(super) cause: String,
}

impl Failure {
    /// Whether the same request may succeed a moment later. What prevents a connection in the first place is
    /// reported at once: it is nearly always a mistake, and waiting does not mend it.
    pub(super) fn is_transient(&self) -> bool {
        self.problem == Problem::Broken
    }
}

/// The connections of a client, kept open between requests.
pub(super) struct Transport {
    settings: Settings,
    trust: Trust,
    usual: Trusted,
    agents: Mutex<BTreeMap<AgentKey, Agent>>,
}

/// What connections must have in common to be kept together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct AgentKey {
    secure: bool,
    proxy: Option<String>,
    /// Hosts with certificates of their own share with nobody.
    host: Option<Origin>,
    trust: Trusted,
}

impl Transport {
    pub(super) fn new(settings: &Settings) -> Self {
        let usual = super::Client::usual_trust(&settings.registries);
        Self { settings: settings.clone(), trust: Trust::default(), usual, agents: Mutex::default() }
    }

    fn environment(&self) -> &Environment {
        &self.settings.environment
    }

    /// Makes one request and follows redirects of those that only read.
    pub(super) fn exchange(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let mut request = request.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&request)?;
            let reads = matches!(request.method, Method::GET | Method::HEAD);
            let moved = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(target) = response.location().filter(|_| reads && moved) else {
                return Ok(response);
            };
            request = redirected(request, &response.origin, target)?;
        }
        let origin = origin_of(&request.url)?;
        Err(Failure { origin, problem: Problem::Protocol, cause: "too many redirects".to_owned() })
    }

    fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let origin = origin_of(&request.url)?;
        let failure = |error: &ureq::Error| classify(error, &origin, proxy_for(self.environment(), &origin));
        let agent = self.agent(&origin, request.trust.as_ref().unwrap_or(&self.usual))?;
        let response = match &request.payload {
            Payload::None => agent.run(head(request, ())),
            Payload::Bytes(bytes) => agent.run(head(request, *bytes)),
            Payload::File { path, from, to, sent } => match Piece::open(path, *from, *to, *sent) {
                Ok(mut piece) => {
                    let request = request.clone().header("content-length", (to - from).to_string());
                    agent.run(head(&request, SendBody::from_reader(&mut piece)))
                }
                Err(e) => Err(ureq::Error::Io(e)),
            },
        };
        let (parts, body) = response.map_err(|e| failure(&e))?.into_parts();
        let url = request.url.clone();
        Ok(Response { status: parts.status, headers: parts.headers, body, origin, url })
    }

    /// The agent for an origin. Only one that is asked for https reads certificates.
    fn agent(&self, origin: &Origin, trust: &Trusted) -> Result<Agent, Failure> {
        let proxy = proxy_for(self.environment(), origin);
        let folders = match origin.secure {
            true => host_folders(self.environment(), &origin.host, origin.port),
            false => Vec::new(),
        };
        let host = (!folders.is_empty()).then(|| origin.clone());
        let trust = if origin.secure { trust.clone() } else { Trusted::default() };
        let key = AgentKey { secure: origin.secure, proxy: proxy.map(str::to_owned), host, trust };
        let mut agents = lock(&self.agents);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(origin, proxy, &folders, &key.trust)?;
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn new_agent(
        &self,
        origin: &Origin,
        proxy: Option<&str>,
        folders: &[std::path::PathBuf],
        trust: &Trusted,
    ) -> Result<Agent, Failure> {
        let proxy = proxy.map(|url| usable_proxy(url, origin)).transpose()?;
        let settings = &self.settings;
        let mut builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(concat!("rbuild/", env!("CARGO_PKG_VERSION")))
            // Digests are of the bytes as stored: nothing on the way shall compress them once more.
            .accept_encoding("identity")
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_per_read(Some(settings.stall_timeout))
            .timeout_per_write(Some(settings.stall_timeout))
            .max_idle_connections_per_host(settings.parallel_blobs);
        if origin.secure {
            // Costs a thread for each name that is looked up, which those of this machine are not worth.
            builder = builder.timeout_resolve(Some(settings.connect_timeout));
            builder = builder.tls_config(self.trust.config(self.environment(), folders, trust));
        }
        Ok(Agent::new_with_config(builder.build()))
    }
}

/// The proxy as `ureq` wants it. Errors do not repeat the URL, which may hold a password.
fn usable_proxy(url: &str, origin: &Origin) -> Result<ureq::Proxy, Failure> {
    let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme);
    let cause = match (scheme, ureq::Proxy::new(url)) {
        ("http" | "https", Ok(proxy)) => return Ok(proxy),
        ("http" | "https", Err(_)) => "the proxy that the environment names is no valid URL".to_owned(),
        (other, _) => {
            format!("the environment names a proxy of kind `{other}`; only http and https are supported")
        }
    };
    Err(Failure { origin: origin.clone(), problem: Problem::Proxy, cause })
}

fn head<B>(request: &Request<'_>, body: B) -> http::Request<B> {
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

/// The request to make after a redirect. Credentials stay with the origin that they were for, and what
/// began encrypted stays so.
fn redirected<'a>(request: Request<'a>, from: &Origin, target: String) -> Result<Request<'a>, Failure> {
    let to = origin_of(&target).map_err(|f| Failure { origin: from.clone(), ..f })?;
    if from.secure && !to.secure {
        let cause = format!("it redirects from https to http, on `{}`", to.host);
        return Err(Failure { origin: from.clone(), problem: Problem::Protocol, cause });
    }
    let authorization = request.authorization.filter(|_| to == *from);
    let trust = request.trust.filter(|_| to.host == from.host);
    Ok(Request { url: target, authorization, trust, ..request })
}

pub(super) fn origin_of(url: &str) -> Result<Origin, Failure> {
    let parsed: Option<Origin> = url.parse::<Uri>().ok().as_ref().and_then(Origin::of_url);
    parsed.ok_or_else(|| Failure {
        origin: Origin { secure: true, host: String::new(), port: 443 },
        problem: Problem::Protocol,
        cause: "it names a place that is no http or https URL".to_owned(),
    })
}

/// RFC 3986's reference resolution, as far as Location headers need it.
fn join(base: &str, location: &str) -> Option<String> {
    if location.contains("://") {
        return Some(location.to_owned());
    }
    let base: Uri = base.parse().ok()?;
    let origin = Origin::of_url(&base)?;
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{}://{rest}", base.scheme_str()?));
    }
    if location.starts_with('/') {
        return Some(origin.url(location));
    }
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(origin.url(&format!("{folder}/{location}")))
}

fn classify(error: &ureq::Error, origin: &Origin, proxy: Option<&str>) -> Failure {
    use std::io::ErrorKind;
    let (problem, mut cause) = match error {
        ureq::Error::HostNotFound => (Problem::NoSuchHost, "the name has no address".to_owned()),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            (Problem::Timeout, "no answer in time".to_owned())
        }
        ureq::Error::Timeout(_) => (Problem::Broken, "the connection stalled".to_owned()),
        ureq::Error::Io(e) if is_certificate(&e.to_string()) => (Problem::Certificate, e.to_string()),
        ureq::Error::Io(e) => match e.kind() {
            ErrorKind::ConnectionRefused => (Problem::Refused, "connection refused".to_owned()),
            ErrorKind::TimedOut => (Problem::Timeout, "no answer in time".to_owned()),
            ErrorKind::InvalidData => (Problem::Protocol, e.to_string()),
            ErrorKind::UnexpectedEof => (Problem::Broken, "the connection was closed".to_owned()),
            _ if e.to_string().contains("lookup") => (Problem::NoSuchHost, e.to_string()),
            _ => (Problem::Broken, e.to_string()),
        },
        ureq::Error::ConnectProxyFailed(text) => (Problem::Proxy, format!("the proxy refused: {text}")),
        ureq::Error::InvalidProxyUrl => (Problem::Proxy, "the proxy's URL is not valid".to_owned()),
        other if is_certificate(&other.to_string()) => (Problem::Certificate, other.to_string()),
        other => (Problem::Protocol, other.to_string()),
    };
    if let Some(proxy) = proxy.and_then(|url| url.parse::<Uri>().ok()) {
        // The host only: the user info of the URL is a secret.
        cause = format!("{cause} (through the proxy `{}`)", proxy.host().unwrap_or(""));
    }
    Failure { origin: origin.clone(), problem, cause }
}

fn is_certificate(text: &str) -> bool {
    text.contains("certificate") || text.contains("UnknownIssuer")
}

/// What broke a body that was being read.
pub(super) fn cause_of(error: std::io::Error) -> String {
    match ureq::Error::from(error) {
        ureq::Error::Timeout(_) => "the connection stalled".to_owned(),
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the connection was closed".to_owned()
        }
        ureq::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn resolves_locations() {
        for (location, expected) in [
            ("/v2/x?a=b", "http://localhost:5000/v2/x?a=b"),
            ("https://cdn.example/x", "https://cdn.example/x"),
            ("//cdn.example/x", "http://cdn.example/x"),
            ("y", "http://localhost:5000/v2/a/y"),
        ] {
            assert_eq!(join("http://localhost:5000/v2/a/b?q", location).unwrap(), expected);
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let request = |url: &str| {
            let mut request = Request::new(Method::GET, url.to_owned());
            request.authorization = Some("Basic c2VjcmV0".to_owned());
            request
        };
        let from = origin_of("https://a.example/v2/").unwrap();
        for (target, kept) in [
            ("https://a.example/other", true),
            ("https://a.example:8443/", false),
            ("https://b.example/", false),
            ("https://b.a.example/", false),
        ] {
            let next = redirected(request("https://a.example/v2/"), &from, target.to_owned()).unwrap();
            assert_eq!(next.authorization.is_some(), kept, "{target}");
        }
        assert!(redirected(request("https://a.example/v2/"), &from, "http://a.example/".to_owned()).is_err());
    }
}
