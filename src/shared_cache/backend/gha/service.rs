//! The cache service, in its second version: twirp with JSON, which hands out signed URLs of a blob store.
//!
//! An entry is reserved under its key, its bytes are put at the URL, and then it is finished; a key that was reserved is never free
//! again. What is looked up is the entry of that key, else the newest whose key begins with one of the prefixes, first in the
//! scope of the workflow's own branch, then in those that it may read besides.

use std::fmt;
use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Environment, Method, Payload, Request, Response, Settings, cause_of, retry_after};
use crate::oci::Digest;
use crate::shared_cache::backend::Error;
use crate::shared_cache::backend::web::{Prepare, Web, settings};
use crate::shared_cache::spec::{GhaAt, Secret};
use crate::sync::lock;
use crate::text::boolean;
use crate::text::terminal::harmless;

/// What stands between the service's address and the method.
const SERVICE: &str = "twirp/github.actions.results.api.v1.CacheService";
/// An answer is shorter.
const LIMIT: u64 = 64 << 10;
/// Of what the service says to an error so many characters are repeated.
const SAID: usize = 200;
/// The longest wait that the service may ask for, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a request is made that the service does not answer as yet.
const ATTEMPTS: u32 = 4;
/// In a scope's permission: it may be written.
const WRITE: u64 = 2;

/// Said when the token is one of those that only read.
const READ_ONLY: &str = "this workflow may only read the cache, as those of pull requests from forks";

/// The service, as one workflow sees it.
pub(super) struct Service {
    /// What stands before the methods; or why nothing can be asked.
    base: Result<String, String>,
    web: Web<Login>,
    scopes: Vec<Scope>,
    version: String,
    /// The service said that nothing may be written.
    is_read_only: AtomicBool,
    /// What it said when it was asked too often: it is left alone from then on.
    throttled: Mutex<Option<String>>,
}

/// A branch or pull request whose entries the token opens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Scope {
    /// Such as `refs/heads/main`.
    pub(super) scope: String,
    permission: u64,
}

/// An entry that was found.
pub(super) struct Found {
    pub(super) key: String,
    pub(super) url: String,
}

#[derive(Deserialize)]
struct Created {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedUploadUrl")]
    signed_upload_url: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Finished {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Located {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedDownloadUrl")]
    signed_download_url: String,
    #[serde(default, alias = "matchedKey")]
    matched_key: String,
}

/// The token that each request carries.
struct Login(Option<Secret>);

impl Prepare for Login {
    fn prepare(&self, request: &mut Request<'_>) -> Result<(), Error> {
        request.authorization = self.0.as_ref().map(|Secret(token)| format!("Bearer {token}"));
        Ok(())
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Service {
    /// Contacts nothing yet; what the option does not say the environment does.
    pub(super) fn new(at: &GhaAt, environment: Environment) -> Self {
        let token = at.token.clone().or_else(|| {
            environment.text(&["ACTIONS_RUNTIME_TOKEN"]).map(|token| Secret(token.trim().to_owned()))
        });
        let base = base(at, token.as_ref(), &environment);
        let scopes = token.as_ref().map(|Secret(token)| scopes(token)).unwrap_or_default();
        let patient = Settings {
            longest_wait: at.timeout.unwrap_or(PATIENCE),
            attempts: ATTEMPTS,
            ..settings(environment)
        };
        Self {
            base,
            web: Web::new(patient, Login(token)),
            scopes,
            version: Digest::of(b"rbuild cache 1").hex(),
            is_read_only: AtomicBool::new(false),
            throttled: Mutex::default(),
        }
    }

    /// The branches whose entries can be read, that of this workflow first. At least one, though nothing may be known of it.
    pub(super) fn refs(&self) -> Vec<String> {
        let own = self.scopes.iter().position(|scope| scope.permission & WRITE != 0).unwrap_or(0);
        let mut refs: Vec<String> = self.scopes.iter().map(|scope| scope.scope.clone()).collect();
        match refs.is_empty() {
            true => refs.push(String::new()),
            false => refs[..=own].rotate_right(1),
        }
        refs
    }

    /// Whether something can be written.
    pub(super) fn may_write(&self) -> Result<(), Error> {
        // A token that says nothing of it is shown to the service.
        let none_writes = self.scopes.iter().all(|scope| scope.permission & WRITE == 0);
        let is_read_only = !self.scopes.is_empty() && none_writes;
        match is_read_only || self.is_read_only.load(Ordering::Relaxed) {
            true => Err(Error::Server(READ_ONLY.to_owned())),
            false => Ok(()),
        }
    }

    /// Reserves a key, and gives the URL to which the bytes go; `None` when somebody else had it before.
    pub(super) fn reserve(&self, key: &str) -> Result<Option<String>, Error> {
        self.may_write()?;
        let mut response = self.ask("CreateCacheEntry", &json!({ "key": key, "version": self.version }))?;
        match response.status.as_u16() {
            200..=299 => {}
            409 => return Ok(None),
            403 => {
                self.is_read_only.store(true, Ordering::Relaxed);
                return Err(Error::Server(READ_ONLY.to_owned()));
            }
            _ => return Err(self.refused(&mut response)),
        }
        let Created { ok, signed_upload_url: url, message } = parsed(&mut response)?;
        match ok && !url.is_empty() {
            true => Ok(Some(url)),
            false if message.is_empty() || message.to_lowercase().contains("already exists") => Ok(None),
            false => Err(Error::Server(format!("the service refuses: {}", short(&message)))),
        }
    }

    /// Says that all bytes of an entry are there.
    pub(super) fn finish(&self, key: &str, size: u64) -> Result<(), Error> {
        // As protobuf's JSON writes numbers of 64 bits.
        let body = json!({ "key": key, "size_bytes": size.to_string(), "version": self.version });
        let mut response = self.ask("FinalizeCacheEntryUpload", &body)?;
        if !response.status.is_success() {
            return Err(self.refused(&mut response));
        }
        let Finished { ok, message } = parsed(&mut response)?;
        match ok {
            true => Ok(()),
            false => Err(Error::Server(format!("the service does not keep an entry: {}", short(&message)))),
        }
    }

    /// The newest entry whose key begins with `prefix`.
    pub(super) fn newest(&self, prefix: &str) -> Result<Option<Found>, Error> {
        let body = json!({ "key": prefix, "restore_keys": [prefix], "version": self.version });
        let mut response = self.ask("GetCacheEntryDownloadURL", &body)?;
        match response.status.as_u16() {
            200..=299 => {}
            404 => return Ok(None),
            _ => return Err(self.refused(&mut response)),
        }
        let Located { ok, signed_download_url: url, matched_key: key } = parsed(&mut response)?;
        // Services may compare keys without regard to case.
        let is_it = key.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
        Ok((ok && !url.is_empty() && is_it).then_some(Found { key, url }))
    }

    fn ask(&self, method: &str, body: &Value) -> Result<Response, Error> {
        let base = self.base.as_ref().map_err(|why| Error::Server(why.clone()))?;
        if let Some(said) = &*lock(&self.throttled) {
            return Err(Error::Server(said.clone()));
        }
        let body = body.to_string();
        let request = Request::new(Method::POST, format!("{base}/{SERVICE}/{method}"))
            .header("content-type", "application/json")
            .payload(Payload::Bytes(body.as_bytes()));
        let response = self.web.ask(request)?;
        if response.status == 429 {
            let wait = retry_after(&response).map(|wait| format!(" for {} s", wait.as_secs()));
            let host = response.origin.authority();
            let said =
                format!("`{host}` is asked too often and wants to be left alone{}", wait.unwrap_or_default());
            *lock(&self.throttled) = Some(said.clone());
            return Err(Error::Server(said));
        }
        Ok(response)
    }

    /// What an answer means that is none of those hoped for.
    fn refused(&self, response: &mut Response) -> Error {
        #[derive(Deserialize)]
        struct Twirp {
            #[serde(default)]
            code: String,
            #[serde(default)]
            msg: String,
        }
        let status = response.status.as_u16();
        let host = response.origin.authority();
        let mut text = String::new();
        let _ = response.reader(LIMIT).read_to_string(&mut text);
        let said = match serde_json::from_str(&text) {
            Ok(Twirp { code, msg }) => format!(" ({}: {})", short(&code), short(&msg)),
            Err(_) => String::new(),
        };
        let meaning = match status {
            401 => ": the token has ended, or is another's",
            _ => "",
        };
        Error::Server(format!("`{host}` answers {status}{said}{meaning}"))
    }
}

/// Where the service is asked; or what is missing.
fn base(at: &GhaAt, token: Option<&Secret>, environment: &Environment) -> Result<String, String> {
    let recipe = "docs/ci.md tells how a step of a workflow gets it";
    let is_first = environment.text(&["ACTIONS_CACHE_SERVICE_V2"]).and_then(boolean) == Some(false);
    let named = environment.text(&["ACTIONS_RESULTS_URL"]).filter(|_| !is_first);
    let url = match (at.url.as_deref().or(named), environment.text(&["ACTIONS_CACHE_URL"])) {
        (Some(url), _) => url,
        (None, None) if !is_first => {
            return Err(format!("`url_v2=` is missing, and ACTIONS_RESULTS_URL is not set; {recipe}"));
        }
        (None, _) => {
            return Err("there is only the first version of the cache service, which GitHub has ended and \
                        GitHub Enterprise Server still has; rbuild speaks the second"
                .to_owned());
        }
    };
    if token.is_none() {
        return Err(format!("`token=` is missing, and ACTIONS_RUNTIME_TOKEN is not set; {recipe}"));
    }
    match crate::http::origin_of(url) {
        Ok(_) => Ok(url.trim_end_matches('/').to_owned()),
        Err(_) => Err("ACTIONS_RESULTS_URL is no URL".to_owned()),
    }
}

/// What a token says of itself. It is not verified: that is the service's affair.
fn scopes(token: &str) -> Vec<Scope> {
    #[derive(Deserialize)]
    struct Claims {
        ac: String,
    }
    let claims =
        token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
    let claims: Option<Claims> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    claims.and_then(|Claims { ac }| serde_json::from_str(&ac).ok()).unwrap_or_default()
}

fn parsed<T: serde::de::DeserializeOwned>(response: &mut Response) -> Result<T, Error> {
    let host = response.origin.authority();
    let mut bytes = Vec::new();
    let read = response.reader(LIMIT).read_to_end(&mut bytes);
    read.map_err(|e| Error::Server(format!("the answer of `{host}` broke off: {}", cause_of(e))))?;
    serde_json::from_slice(&bytes)
        .map_err(|_| Error::Server(format!("`{host}` does not answer as the cache service does")))
}

fn short(text: &str) -> String {
    harmless(text).chars().take(SAID).collect()
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("base", &self.base)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A token with these scopes.
    fn token(ac: &str) -> Secret {
        let claims = json!({ "ac": ac, "exp": 4_102_444_800_u64 });
        Secret(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string())))
    }

    fn service(token: Option<Secret>) -> Service {
        let environment = Environment::empty().with("ACTIONS_RESULTS_URL", "http://localhost:1/");
        Service::new(&GhaAt { token, ..GhaAt::default() }, environment)
    }

    #[test]
    fn a_token_says_what_it_opens() {
        let main = r#"[{"Scope":"refs/heads/main","Permission":3}]"#;
        assert_eq!(service(Some(token(main))).refs(), ["refs/heads/main"]);
        let branch =
            r#"[{"Scope":"refs/heads/main","Permission":1},{"Scope":"refs/pull/1/merge","Permission":3}]"#;
        let branch = service(Some(token(branch)));
        assert_eq!(branch.refs(), ["refs/pull/1/merge", "refs/heads/main"]);
        assert!(branch.may_write().is_ok());
        let reader = service(Some(token(r#"[{"Scope":"refs/heads/main","Permission":1}]"#)));
        assert_eq!(reader.may_write().unwrap_err().to_string(), READ_ONLY);
        // Of others nothing is known before they are shown.
        for other in [token("none"), Secret("word".to_owned()), Secret("a.%.b".to_owned())] {
            let other = service(Some(other));
            assert_eq!(other.refs(), [""]);
            assert!(other.may_write().is_ok());
            assert!(!format!("{other:?}").contains("word"));
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let said = |at: GhaAt, environment: Environment| Service::new(&at, environment).base.unwrap_err();
        let nowhere = || Environment::empty();
        assert!(
            said(GhaAt::default(), nowhere()).starts_with("`url_v2=` is missing, and ACTIONS_RESULTS_URL")
        );
        let first = nowhere().with("ACTIONS_CACHE_URL", "http://localhost:1/");
        assert!(said(GhaAt::default(), first).contains("only the first version"));
        let off = nowhere()
            .with("ACTIONS_RESULTS_URL", "http://localhost:1/")
            .with("ACTIONS_CACHE_SERVICE_V2", "false");
        assert!(said(GhaAt::default(), off).contains("only the first version"));
        let results = nowhere().with("ACTIONS_RESULTS_URL", "http://localhost:1/");
        assert!(
            said(GhaAt::default(), results).starts_with("`token=` is missing, and ACTIONS_RUNTIME_TOKEN")
        );
    }
}
