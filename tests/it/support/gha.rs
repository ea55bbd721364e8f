//! The cache service of workflows, as tests need it: the service's methods, and the store where its signed URLs lead. What the real
//! client (`@actions/cache`) does with it is a test of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::http::{Received, Reply, Server};

/// A service on a free port of 127.0.0.1, which goes with the value.
pub struct Gha {
    server: Server,
    state: Arc<Mutex<State>>,
}

/// What the service has, and how it is to behave.
#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    blocks: BTreeMap<String, Vec<u8>>,
    /// After so many downloads all URLs that lead to one have ended.
    ends_after: Option<usize>,
    signatures: BTreeSet<String>,
    signed: usize,
    /// So many requests are refused for now, with this `Retry-After`.
    throttled: (usize, String),
}

struct Entry {
    scope: String,
    key: String,
    version: String,
    bytes: Option<Vec<u8>>,
    is_finished: bool,
}

/// The token of a workflow: scopes, and whether they may be written.
pub fn token(scopes: &[(&str, bool)]) -> String {
    let scope =
        |(scope, writes): &(&str, bool)| json!({ "Scope": scope, "Permission": if *writes { 3 } else { 1 } });
    let ac = Value::Array(scopes.iter().map(scope).collect()).to_string();
    let claims = json!({ "ac": ac, "nbf": 0, "exp": 4_102_444_800_u64 }).to_string();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"none"}"#), part(&claims), part("hidden"))
}

impl Gha {
    pub fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let its = Arc::clone(&state);
        Self { server: Server::start(move |request| its.lock().unwrap().answer(request)), state }
    }

    /// `localhost:PORT`
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// What stands in ACTIONS_RESULTS_URL.
    pub fn url(&self) -> String {
        format!("http://{}/", self.host())
    }

    /// Methods that were called and blobs that were asked for: `CreateCacheEntry`, `GET blob`.
    pub fn calls(&self) -> Vec<String> {
        self.server.received().iter().map(call).collect()
    }

    pub fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|known| *known == call).count()
    }

    pub fn received(&self) -> Vec<Received> {
        self.server.received()
    }

    /// The keys of all entries that can be read, in the order of their making.
    pub fn keys(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.entries.iter().filter(|entry| entry.is_finished).map(|entry| entry.key.clone()).collect()
    }

    /// A writer that reserves what `key` makes of the keys that are there, and dies.
    pub fn reserve(&self, key: impl Fn(&str) -> Option<String>) {
        let mut state = self.state.lock().unwrap();
        let make = |entry: &Entry| {
            let (scope, version) = (entry.scope.clone(), entry.version.clone());
            key(&entry.key).map(|key| Entry { scope, key, version, bytes: None, is_finished: false })
        };
        let fresh: Vec<Entry> = state.entries.iter().filter_map(make).collect();
        assert!(!fresh.is_empty());
        state.entries.extend(fresh);
    }

    /// Changes what stands in the entries whose keys begin so.
    pub fn change(&self, prefix: &str, change: impl Fn(&[u8]) -> Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        for entry in state.entries.iter_mut().filter(|entry| entry.key.starts_with(prefix)) {
            entry.bytes = Some(change(entry.bytes.as_deref().unwrap()));
        }
    }

    /// All entries go whose keys begin so.
    pub fn evict(&self, prefix: &str) {
        self.state.lock().unwrap().entries.retain(|entry| !entry.key.starts_with(prefix));
    }

    /// After so many downloads all URLs have ended that were signed before.
    pub fn end_urls_after(&self, downloads: usize) {
        self.state.lock().unwrap().ends_after = Some(downloads);
    }

    /// So many requests are answered by 429.
    pub fn throttle(&self, requests: usize, retry_after: &str) {
        self.state.lock().unwrap().throttled = (requests, retry_after.to_owned());
    }
}

fn call(request: &Received) -> String {
    let path = request.path.split('?').next().unwrap();
    match path.rsplit_once("CacheService/") {
        Some((_, method)) => method.to_owned(),
        None => format!("{} {}", request.method, path.split('/').nth(1).unwrap_or_default()),
    }
}

impl State {
    fn answer(&mut self, request: &Received) -> Reply {
        match request.path.split_once("/twirp/github.actions.results.api.v1.CacheService/") {
            Some(("", method)) if request.method == "POST" => self.method(method, request),
            _ => match request.path.strip_prefix("/blob/") {
                Some(rest) => self.blob(rest, request),
                None => Reply::new(404, "{}"),
            },
        }
    }

    fn method(&mut self, method: &str, request: &Received) -> Reply {
        if self.throttled.0 > 0 {
            self.throttled.0 -= 1;
            return twirp(429, "resource_exhausted").header("retry-after", &*self.throttled.1);
        }
        let Some(scopes) = request.header("authorization").and_then(scopes) else {
            return twirp(401, "unauthenticated");
        };
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else { return twirp(400, "malformed") };
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (key, version) = (text("key"), text("version"));
        if key.is_empty() || key.len() > 512 || key.contains(',') || version.len() != 64 {
            return twirp(400, "invalid_argument");
        }
        let own = scopes.iter().find(|(_, writes)| *writes).map(|(scope, _)| scope.clone());
        match (method, own) {
            ("GetCacheEntryDownloadURL", _) => {
                let prefixes = body["restore_keys"].as_array().into_iter().flatten();
                let prefixes: Vec<&str> =
                    [&*key].into_iter().chain(prefixes.filter_map(Value::as_str)).collect();
                match scopes.iter().find_map(|(scope, _)| self.find(scope, &key, &prefixes, &version)) {
                    None => json_reply(&json!({ "ok": false })),
                    Some(number) => {
                        let url = self.sign(request, number, "r");
                        let key = &self.entries[number].key;
                        json_reply(&json!({ "ok": true, "signed_download_url": url, "matched_key": key }))
                    }
                }
            }
            (_, None) => twirp(403, "permission_denied"),
            ("CreateCacheEntry", Some(scope)) => {
                let is_it = |e: &Entry| (&e.scope, &e.key, &e.version) == (&scope, &key, &version);
                if self.entries.iter().any(is_it) {
                    return twirp(409, "already_exists");
                }
                self.entries.push(Entry { scope, key, version, bytes: None, is_finished: false });
                let url = self.sign(request, self.entries.len() - 1, "w");
                json_reply(&json!({ "ok": true, "signed_upload_url": url }))
            }
            ("FinalizeCacheEntryUpload", Some(scope)) => {
                let size = text("size_bytes").parse::<usize>().ok();
                let is_it = |e: &&mut Entry| (&e.scope, &e.key, &e.version) == (&scope, &key, &version);
                match self.entries.iter_mut().find(is_it) {
                    Some(entry) if entry.bytes.as_ref().map(Vec::len) == size && size.is_some() => {
                        entry.is_finished = true;
                        json_reply(&json!({ "ok": true, "entry_id": "7" }))
                    }
                    _ => json_reply(&json!({ "ok": false, "message": "what was uploaded has another size" })),
                }
            }
            _ => twirp(404, "bad_route"),
        }
    }

    /// The entry of that key, else the newest of the first prefix that has any.
    fn find(&self, scope: &str, key: &str, prefixes: &[&str], version: &str) -> Option<usize> {
        let is_open = |e: &Entry| e.is_finished && e.scope == scope && e.version == version;
        let exact = self.entries.iter().position(|e| is_open(e) && e.key == key);
        let newest =
            |prefix: &&str| self.entries.iter().rposition(|e| is_open(e) && e.key.starts_with(*prefix));
        exact.or_else(|| prefixes.iter().find_map(newest))
    }

    fn sign(&mut self, request: &Received, number: usize, what: &str) -> String {
        // Long enough that what is changed in the middle of an answer is changed here.
        let signature = format!("{what}{:0>120}", self.signed);
        self.signed += 1;
        self.signatures.insert(format!("{number}{signature}"));
        let host = request.header("host").unwrap();
        format!("http://{host}/blob/{number}?sp={what}&sig={signature}")
    }

    /// What the store does with a signed URL.
    fn blob(&mut self, rest: &str, request: &Received) -> Reply {
        let (number, query) = rest.split_once('?').unwrap_or((rest, ""));
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let get = |name: &str| query.get(name).copied().unwrap_or_default();
        let is_read = request.method == "GET" || request.method == "HEAD";
        let is_right = get("sig").starts_with(if is_read { 'r' } else { 'w' });
        if let Some(downloads) = self.ends_after.filter(|_| is_read) {
            self.ends_after = downloads.checked_sub(1);
            if downloads == 0 {
                self.signatures.clear();
            }
        }
        if !is_right || !self.signatures.contains(&format!("{number}{}", get("sig"))) {
            return xml(403, "AuthenticationFailed");
        }
        // A signed URL and a token at once are refused.
        if request.header("authorization").is_some() {
            return xml(400, "InvalidAuthenticationInfo");
        }
        let entry = &mut self.entries[number.parse::<usize>().unwrap()];
        match (&*request.method, get("comp")) {
            ("PUT", "") if request.header("x-ms-blob-type") == Some("BlockBlob") => {
                entry.bytes = Some(request.body.clone());
                Reply::new(201, "")
            }
            ("PUT", "block") => {
                let id = get("blockid").replace("%3D", "=");
                assert!(STANDARD.decode(&id).is_ok_and(|id| id.len() <= 64), "{id}");
                self.blocks.insert(format!("{number} {id}"), request.body.clone());
                Reply::new(201, "")
            }
            ("PUT", "blocklist") => {
                let list = String::from_utf8(request.body.clone()).unwrap();
                let ids = list.split("<Latest>").skip(1).map(|rest| rest.split('<').next().unwrap());
                let blocks = ids.map(|id| self.blocks.get(&format!("{number} {id}")).cloned());
                match blocks.collect::<Option<Vec<Vec<u8>>>>() {
                    Some(blocks) => {
                        entry.bytes = Some(blocks.concat());
                        Reply::new(201, "")
                    }
                    None => xml(400, "InvalidBlockList"),
                }
            }
            ("GET" | "HEAD", _) => {
                ranged(entry.bytes.as_deref().unwrap_or_default(), request.header("range"))
            }
            _ => xml(400, "MissingRequiredHeader"),
        }
    }
}

fn ranged(bytes: &[u8], range: Option<&str>) -> Reply {
    let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return Reply::new(200, bytes);
    };
    let from: usize = from.parse().unwrap();
    let end = to.parse::<usize>().map_or(bytes.len(), |to| bytes.len().min(to + 1));
    match from < end {
        true => Reply::new(206, &bytes[from..end])
            .header("content-range", format!("bytes {from}-{}/{}", end - 1, bytes.len())),
        false => xml(416, "InvalidRange"),
    }
}

/// What a token opens.
fn scopes(authorization: &str) -> Option<Vec<(String, bool)>> {
    let claims = authorization.strip_prefix("Bearer ")?.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let ac: Value = serde_json::from_str(claims["ac"].as_str()?).ok()?;
    let scope =
        |scope: &Value| Some((scope["Scope"].as_str()?.to_owned(), scope["Permission"].as_u64()? & 2 != 0));
    ac.as_array()?.iter().map(scope).collect()
}

fn json_reply(body: &Value) -> Reply {
    Reply::new(200, body.to_string()).header("content-type", "application/json")
}

fn twirp(status: u16, code: &str) -> Reply {
    let body = json!({ "code": code, "msg": format!("the service says {code}") });
    Reply::new(status, body.to_string()).header("content-type", "application/json")
}

fn xml(status: u16, code: &str) -> Reply {
    Reply::new(status, format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>"))
}

/// Runs the real client: JavaScript that has `cache`, and `argv` in its place.
pub fn client(service: &Gha, token: &str, workspace: &Path, script: &str, arguments: &[&str]) -> Output {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/actions-cache");
    assert!(folder.join("node_modules/@actions/cache").exists(), "`tests/run` installs @actions/cache");
    let script = format!(
        "const cache = require('@actions/cache'); const argv = process.argv.slice(1);\
         (async () => {{ {script} }})().catch(error => {{ console.error(error); process.exit(1) }})"
    );
    let mut node = Command::new("node");
    node.current_dir(folder).args(["-e", &script, "--"]).args(arguments);
    node.env("ACTIONS_CACHE_SERVICE_V2", "true").env("ACTIONS_RESULTS_URL", service.url());
    node.env("ACTIONS_RUNTIME_TOKEN", token).env("RUNNER_TEMP", workspace).env("GITHUB_WORKSPACE", workspace);
    node.env_remove("GITHUB_SERVER_URL").output().expect("needs the package nodejs")
}
