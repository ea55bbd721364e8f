//! Answers 401: basic, or a token from the server that the registry names (distribution's "Token
//! Authentication Specification").
//!
//! A login is sent to the registry that it is stored for and to the token server which that registry names
//! over a trusted connection, as docker does; redirects never carry it elsewhere.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine;
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::credentials::{self, Credential};
use super::error::CredentialState;
use super::variables::{self, VariableLogins};
use super::{Access, Target};
use crate::http::{
    self, Connections, Environment, Method, Origin, Payload, Request, Response, origin_of, percent_encoded,
};

use crate::sync::lock;

/// A token's answer larger than this is not one.
const ANSWER_LIMIT: u64 = 1 << 20;

/// The logins and tokens of a client.
pub(super) struct Authenticator {
    environment: Environment,
    variables: VariableLogins,
    granted: Mutex<BTreeMap<(String, String), Grant>>,
    logins: Mutex<BTreeMap<(String, String), Login>>,
    /// A login that counts in the place of all stored ones.
    given: Option<Credential>,
}

/// A header that works for one registry and scope.
struct Grant {
    header: String,
    expires: Option<Instant>,
}

/// What the files hold for a repository.
#[derive(Clone)]
struct Login {
    credential: Option<Credential>,
    problem: Option<String>,
}

/// Why there is no header to answer a challenge with.
pub(super) struct Refusal {
    pub(super) detail: String,
    pub(super) credentials: CredentialState,
}

impl Authenticator {
    pub(super) fn new(environment: Environment, variables: VariableLogins) -> Self {
        let (granted, logins) = (Mutex::default(), Mutex::default());
        Self { environment, variables, granted, logins, given: None }
    }

    /// One that knows a single login, and looks for no other.
    pub(super) fn with_login(environment: Environment, credential: Credential) -> Self {
        Self { given: Some(credential), ..Self::new(environment, VariableLogins::default()) }
    }

    /// The header that worked before for such a target.
    pub(super) fn header(&self, target: &Target<'_>, extra: Option<&str>) -> Option<String> {
        let mut granted = lock(&self.granted);
        let key = key(target, extra);
        if granted.get(&key)?.expires.is_some_and(|at| at <= Instant::now()) {
            granted.remove(&key);
        }
        granted.get(&key).map(|grant| grant.header.clone())
    }

    /// What is known of stored credentials, for the message about a refusal.
    pub(super) fn state(&self, target: &Target<'_>) -> CredentialState {
        let login = self.login(target);
        match (login.credential, login.problem) {
            (Some(_), _) => CredentialState::Refused,
            (None, Some(problem)) => CredentialState::Unreadable(problem),
            (None, None) => CredentialState::None,
        }
    }

    /// Whether there is a login for a target.
    pub(super) fn knows(&self, target: &Target<'_>) -> bool {
        self.login(target).credential.is_some()
    }

    /// Finds an answer to the challenge in `response`, to be had from [`Authenticator::header`] afterwards.
    pub(super) fn answer(
        &self,
        response: &Response,
        target: &Target<'_>,
        extra: Option<&str>,
        connections: &Connections,
    ) -> Result<(), Refusal> {
        let challenges: Vec<Challenge> =
            response.headers("www-authenticate").flat_map(challenge::parse).collect();
        let login = self.login(target);
        let refuse = |detail: String| Refusal { detail, credentials: self.state(target) };
        let find = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        let grant = match (find("bearer"), find("basic"), login.credential) {
            (Some(bearer), _, credential) => {
                let scopes = std::iter::once(scope(target)).chain(extra.map(str::to_owned));
                let scopes = scopes.filter(|scope| !scope.is_empty()).collect();
                let request = TokenRequest { bearer, scopes, credential: credential.as_ref(), target };
                request.send(&response.origin, connections).map_err(refuse)?
            }
            (None, Some(_), Some(Credential::Basic { user, password })) => {
                Grant { header: basic(&user, &password), expires: None }
            }
            _ => return Err(refuse(String::new())),
        };
        let mut granted = lock(&self.granted);
        granted.insert(key(target, extra), grant);
        Ok(())
    }

    /// The stored login; asked for once, since a helper may be slow or want a password.
    fn login(&self, target: &Target<'_>) -> Login {
        if let Some(given) = &self.given {
            return Login { credential: Some(given.clone()), problem: None };
        }
        let (registry, repository) = (&target.place.registry, &target.place.repository);
        let key = (registry.clone(), repository.clone());
        let mut logins = lock(&self.logins);
        let find = || {
            let found = credentials::find(&self.environment, registry, repository);
            let elsewhere = || variables::find(&self.environment, self.variables, registry);
            Login { credential: found.credential.or_else(elsewhere), problem: found.problem }
        };
        logins.entry(key).or_insert_with(find).clone()
    }
}

fn key(target: &Target<'_>, extra: Option<&str>) -> (String, String) {
    let mut scope = scope(target);
    if let Some(extra) = extra {
        scope.push(' ');
        scope.push_str(extra);
    }
    (target.registry().to_owned(), scope)
}

fn scope(target: &Target<'_>) -> String {
    let actions = match target.access {
        Access::Pull => "pull",
        Access::Push => "pull,push",
        Access::Login => return String::new(),
    };
    format!("repository:{}:{actions}", target.place.repository)
}

fn basic(user: &str, password: &str) -> String {
    let text = format!("{user}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

/// A request for a token.
struct TokenRequest<'a> {
    bearer: &'a Challenge,
    /// `repository:<name>:<actions>`, each.
    scopes: Vec<String>,
    credential: Option<&'a Credential>,
    target: &'a Target<'a>,
}

impl TokenRequest<'_> {
    /// Asks the token server. The error says why there is none, in the server's words.
    fn send(&self, registry: &Origin, connections: &Connections) -> Result<Grant, String> {
        let realm = self.bearer.parameter("realm").unwrap_or("");
        let origin = origin_of(realm).map_err(|_| "the token server has no valid address".to_owned())?;
        // A login must not cross the network in the clear.
        let on_this_machine = origin.is_loopback() && registry.is_loopback();
        let is_host_of_registry = origin.host == registry.host;
        let may_be_plain = on_this_machine || (is_host_of_registry && !registry.secure);
        if !origin.secure && !may_be_plain {
            return Err(format!("the token server `{}` does not use https", origin.host));
        }
        let form;
        let request = match self.credential {
            Some(Credential::Identity(token)) => {
                let mut fields = self.fields();
                fields.push(("grant_type", "refresh_token"));
                fields.push(("client_id", "rbuild"));
                fields.push(("refresh_token", token));
                form = encode(&fields);
                Request::new(Method::POST, realm.to_owned())
                    .header("content-type", "application/x-www-form-urlencoded")
                    .payload(Payload::Bytes(form.as_bytes()))
            }
            Some(Credential::Basic { user, password }) => {
                let mut request = Request::new(Method::GET, self.url(realm));
                request.authorization = Some(basic(user, password));
                request
            }
            None => Request::new(Method::GET, self.url(realm)),
        };
        let mut request = request;
        if is_host_of_registry {
            request.trust = Some(self.target.trusted());
        }
        let answer = http::exchange(connections, &request)
            .map_err(|f| format!("the token server `{}` cannot be reached: {}", f.origin.host, f.cause))?;
        read_token(answer)
    }

    fn url(&self, realm: &str) -> String {
        let separator = if realm.contains('?') { '&' } else { '?' };
        format!("{realm}{separator}{}", encode(&self.fields()))
    }

    fn fields(&self) -> Vec<(&'static str, &str)> {
        let service = self.bearer.parameter("service").map(|service| ("service", service));
        let scopes = self.scopes.iter().map(|scope| ("scope", scope.as_str()));
        service.into_iter().chain(scopes).collect()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn read_token(mut answer: Response) -> Result<Grant, String> {
    let host = answer.origin.host.clone();
    if answer.status != 200 {
        return Err(format!("the token server `{host}` answered {}", answer.status.as_u16()));
    }
    let mut bytes = Vec::new();
    let malformed = || format!("the token server `{host}` gave a malformed answer");
    answer.reader(ANSWER_LIMIT).read_to_end(&mut bytes).map_err(|_| malformed())?;
    let token: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
    let text = token.token.or(token.access_token).filter(|t| !t.is_empty()).ok_or_else(malformed)?;
    // 60 seconds is the specification's default. A little earlier, so that it does not expire on the way.
    let life = token.expires_in.unwrap_or(60).clamp(1, 86400);
    let expires = Instant::now() + Duration::from_secs(life - life / 6);
    Ok(Grant { header: format!("Bearer {text}"), expires: Some(expires) })
}

fn encode(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
    pairs.join("&")
}
