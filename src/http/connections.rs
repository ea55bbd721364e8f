//! One HTTP exchange: the right connection, redirects followed without credentials.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use ureq::http::Method;
use ureq::{Agent, SendBody};

use super::Settings;
use super::environment::Environment;
use super::failure::{Failure, Problem, classify};
use super::origin::{Origin, origin_of};
use super::piece::Piece;
use super::proxy::proxy_for;
use super::request::{Payload, Request, Response, head};
use super::trust::{Trust, Trusted, host_folders};
use crate::sync::lock;

/// The connections of a client, kept open between requests.
pub(crate) struct Connections {
    settings: Settings,
    trust: Trust,
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

impl Connections {
    /// None yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, trust: Trust::default(), agents: Mutex::default() }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn environment(&self) -> &Environment {
        &self.settings.environment
    }

    /// Makes one request and follows redirects of those that only read.
    pub(crate) fn exchange(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let mut request = request.clone();
        for _ in 0..=self.settings.redirects.most {
            let response = self.send(&request)?;
            let reads = matches!(request.method, Method::GET | Method::HEAD);
            let moved = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(target) = response.location().filter(|_| reads && moved) else {
                return Ok(response);
            };
            self.settings.hops.check(&response.origin, &target)?;
            request = self.settings.redirects.follow(request, &response.origin, target)?;
        }
        let origin = origin_of(&request.url)?;
        Err(Failure { origin, problem: Problem::Protocol, cause: "too many redirects".to_owned() })
    }

    fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let origin = origin_of(&request.url)?;
        let failure = |error: &ureq::Error| classify(error, &origin, proxy_for(self.environment(), &origin));
        let agent = self.agent(&origin, request.trust.as_ref().unwrap_or(&self.settings.trust))?;
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
            true => host_folders(&self.settings.certs_d, &origin.host, origin.port),
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
        folders: &[PathBuf],
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
            .max_idle_connections_per_host(settings.idle_per_host);
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
