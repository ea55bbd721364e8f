//! Reads the fields of one option: which there are, and what each comes to.

use std::path::PathBuf;
use std::time::Duration;

use super::table::{self, TYPES, Use};
use super::{Direction, GhaAt, HeaderFrom, HttpAt, Location, ReapiAt, S3At, S3Keys, Secret};
use crate::grpc::Address as Endpoint;
use crate::http::{Address, without_user_info};
use crate::oci::Reference;
use crate::shared_cache::merge::Bounds;
use crate::shared_cache::mounts;
use crate::text::duration::parse_age;
use crate::text::terminal::harmless;
use crate::text::{boolean, closest, csv, size};

/// The cache of a name that nobody chose.
const NAME: &str = "rbuild";

/// The fields of one option that count, each of which is known.
pub(super) struct Keys {
    direction: Direction,
    pub(super) kind: String,
    fields: Vec<(String, String)>,
}

impl Keys {
    pub(super) fn read(text: &str, direction: Direction) -> Result<(Self, Vec<String>), String> {
        let fields = csv::fields(text).map_err(|fault| fault.to_string())?;
        if let [reference] = fields.as_slice()
            && !reference.contains('=')
        {
            let fields = vec![("ref".to_owned(), reference.clone())];
            return Ok((Self { direction, kind: "registry".to_owned(), fields }, Vec::new()));
        }
        let mut keys = Self { direction, kind: String::new(), fields: Vec::new() };
        for (number, field) in (1..).zip(&fields) {
            // What has no key may be a part of a secret that has a comma.
            let (key, value) =
                field.split_once('=').ok_or_else(|| format!("field {number} is no `KEY=VALUE`"))?;
            keys.fields.push((key.trim().to_lowercase(), value.to_owned()));
        }
        keys.kind = keys.take("type").ok_or("`type=` is missing, such as `type=registry,ref=…`")?;
        known_type(&keys.kind)?;
        let notes = keys.sort_out()?;
        Ok((keys, notes))
    }

    /// Leaves those that count, and gives notes about the others.
    fn sort_out(&mut self) -> Result<Vec<String>, String> {
        let (mut notes, mut fields) = (Vec::new(), Vec::new());
        for (key, value) in std::mem::take(&mut self.fields) {
            match table::of(&self.kind, &key) {
                Ok(Use::Both) => fields.push((key, value)),
                Ok(Use::To) if self.direction == Direction::To => fields.push((key, value)),
                Ok(Use::To) => notes.push(format!("`{key}` says nothing in `--cache-from`")),
                Ok(Use::Instead(other, word)) if other == self.direction => {
                    return Err(format!("`{key}` belongs to the other option; here it is `{word}`"));
                }
                Ok(Use::Instead(..)) => fields.push((key, value)),
                Ok(Use::Nothing(why)) => notes.push(format!("`{key}` means nothing here: {why}")),
                Err(known) => {
                    let near = closest(&key, known).map(|near| format!("; `{near}`?")).unwrap_or_default();
                    return Err(format!("`{key}` is unknown for `type={}`{near}", self.kind));
                }
            }
        }
        self.fields = fields;
        notes.dedup();
        Ok(notes)
    }

    /// The last value of a key.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let mut found = None;
        self.fields.retain_mut(|(name, value)| match name == key {
            true => {
                found = Some(std::mem::take(value));
                false
            }
            false => true,
        });
        found
    }

    /// All values of some keys, in order.
    fn take_all(&mut self, keys: &[&str]) -> Vec<(String, String)> {
        self.fields.extract_if(.., |(name, _)| keys.contains(&name.as_str())).collect()
    }

    fn need(&mut self, key: &str) -> Result<String, String> {
        self.take(key).filter(|value| !value.is_empty()).ok_or_else(|| format!("`{key}=` is missing"))
    }

    /// A text that is not empty.
    fn text(&mut self, key: &str) -> Option<String> {
        self.take(key).filter(|value| !value.is_empty())
    }

    /// Files with `;` between them. One that is named and empty is a mistake, and must not mean that nobody was asked for.
    pub(super) fn files(&mut self, key: &str) -> Result<Vec<PathBuf>, String> {
        let Some(text) = self.take(key) else { return Ok(Vec::new()) };
        let files = text.split(';').filter(|path| !path.is_empty()).map(PathBuf::from);
        let files: Vec<PathBuf> = files.collect();
        if files.is_empty() { Err(format!("`{key}=` names no file")) } else { Ok(files) }
    }

    fn secret(&mut self, key: &str) -> Option<Secret> {
        self.text(key).map(Secret)
    }

    pub(super) fn boolean(&mut self, key: &str, usual: bool) -> Result<bool, String> {
        match self.take(key) {
            None => Ok(usual),
            Some(word) => boolean(&word).ok_or_else(|| format!("`{key}={word}`: it is `true` or `false`")),
        }
    }

    pub(super) fn bounds(&mut self) -> Result<Bounds, String> {
        let (size, mounts) = (self.size("max-size")?, self.size("mounts-max-size")?);
        Ok(Bounds { size, mounts, age: self.age("max-age")? })
    }

    fn size(&mut self, key: &str) -> Result<Option<u64>, String> {
        let size = |word: String| {
            size::parse(&word).ok_or_else(|| format!("`{key}={word}` is no size such as `10g`"))
        };
        self.take(key).map(size).transpose()
    }

    pub(super) fn mount_limit(&mut self) -> Result<u64, String> {
        Ok(self.size("mount-max-size")?.unwrap_or(mounts::MOUNT_LIMIT))
    }

    /// For so long a server may say nothing.
    fn timeout(&mut self) -> Result<Option<Duration>, String> {
        match self.age("timeout")? {
            Some(Duration::ZERO) => {
                Err("`timeout=` is no time such as `30s`: nothing is answered in no time".to_owned())
            }
            timeout => Ok(timeout),
        }
    }

    fn age(&mut self, key: &str) -> Result<Option<Duration>, String> {
        let Some(word) = self.take(key) else { return Ok(None) };
        let seconds = parse_age(&word).and_then(|seconds| u64::try_from(seconds).ok());
        let age = seconds.map(Duration::from_secs);
        age.map(Some).ok_or_else(|| format!("`{key}={word}` is no time such as `14d`"))
    }

    pub(super) fn locations(&mut self) -> Result<Vec<Location>, String> {
        let one = match self.kind.as_str() {
            "registry" => {
                let name = self.need("ref")?;
                let reference: Reference = name.parse().map_err(|e| format!("`ref={name}`: {e}"))?;
                Location::Registry(reference.with_default_tag())
            }
            "local" => self.folder()?,
            "http" => Location::Http(self.http()?),
            "reapi" => Location::Reapi(Box::new(self.reapi()?)),
            "s3" => return self.buckets(),
            "gha" => Location::Gha(self.workflow()?),
            // An image.
            _ => {
                let how = "the image is named, as in `type=registry,ref=NAME`";
                return Err(format!("`type={}` is for `--cache-to`; in `--cache-from` {how}", self.kind));
            }
        };
        Ok(vec![one])
    }

    fn folder(&mut self) -> Result<Location, String> {
        let key = if self.direction == Direction::From { "src" } else { "dest" };
        let path = self.need(key)?;
        let tag = self.text("tag").unwrap_or_else(|| "latest".to_owned());
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        match tag.chars().all(is_part) && !tag.starts_with('.') && tag.len() <= 128 {
            true => Ok(Location::Local(path.into(), tag)),
            false => Err(format!("`tag={tag}`: a tag has letters, digits, `_`, `.` and `-`")),
        }
    }

    fn http(&mut self) -> Result<HttpAt, String> {
        let given = self.need("url")?;
        let url = web_address("url", &without_user_info(&given))?;
        let address = Address::new(&given);
        let bearer = self.secret("token").map(|Secret(token)| Secret(format!("Bearer {token}")));
        let authorization = bearer.or(address.authorization.map(Secret));
        let (name, timeout) = (self.text("name").unwrap_or_else(|| NAME.to_owned()), self.timeout()?);
        Ok(HttpAt { url, authorization, name, timeout })
    }

    /// Reads `reapi://HOST:PORT,…`.
    pub(super) fn engine(
        text: &str,
        others: impl Fn(&str) -> bool,
    ) -> Result<(ReapiAt, Vec<(String, String)>), String> {
        let fields = csv::fields(text).map_err(|fault| fault.to_string())?;
        let (place, fields) = fields.split_first().ok_or("it is empty")?;
        let endpoint = match place.split_once("://") {
            Some(("reapi", rest)) => format!("grpc://{rest}"),
            Some(("reapis", rest)) => format!("grpcs://{rest}"),
            _ => {
                return Err(
                    "it begins with `reapi://HOST:PORT` or, over TLS, `reapis://HOST[:PORT]`".to_owned()
                );
            }
        };
        if Endpoint::parse(&endpoint).is_none() {
            return Err("it begins with `reapi://HOST:PORT` or, over TLS, `reapis://HOST[:PORT]`".to_owned());
        }
        let known = vec![("endpoint".to_owned(), endpoint)];
        let mut keys = Self { direction: Direction::From, kind: "reapi".to_owned(), fields: known };
        let mut rest = Vec::new();
        for (number, field) in (2..).zip(fields) {
            let (key, value) =
                field.split_once('=').ok_or_else(|| format!("field {number} is no `KEY=VALUE`"))?;
            let key = key.trim();
            match key {
                "instance" | "ca" | "cert" | "key" | "token" | "header" | "header-env" | "header-file" => {
                    keys.fields.push((key.to_owned(), value.to_owned()));
                }
                key if others(key) => rest.push((key.to_owned(), value.to_owned())),
                key => return Err(format!("`{}` is unknown", harmless(key))),
            }
        }
        // The same by another name.
        let at = keys.reapi().map_err(|why| why.replace("`grpcs://`", "`reapis://`"))?;
        Ok((at, rest))
    }

    fn reapi(&mut self) -> Result<ReapiAt, String> {
        let given = self.need("endpoint")?;
        // The error does not repeat it: it may have a password in it.
        let endpoint = Endpoint::parse(&given).ok_or(
            "`endpoint=` is no address such as `grpcs://cache.example:443` or `grpc://cache.example:8980`",
        )?;
        let path = |text: Option<String>| text.map(PathBuf::from);
        let (cert, key) = (path(self.text("cert")), path(self.text("key")));
        let client = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err("`key=` is missing, the file of the certificate's key".to_owned()),
            (None, Some(_)) => return Err("`cert=` is missing, the file of the key's certificate".to_owned()),
        };
        let timeout = self.timeout()?;
        let at = ReapiAt {
            instance: self.text("instance").unwrap_or_default(),
            name: self.text("name").unwrap_or_else(|| NAME.to_owned()),
            ca: path(self.text("ca")),
            client,
            headers: self.headers()?,
            timeout,
            endpoint: endpoint.to_string(),
        };
        if !endpoint.is_secure() && (at.ca.is_some() || at.client.is_some()) {
            return Err("`ca=` and `cert=` are for `grpcs://`".to_owned());
        }
        if !endpoint.is_secure() && !at.headers.is_empty() && !endpoint.is_loopback() {
            return Err("tokens do not travel in plain text: write the endpoint with `grpcs://`".to_owned());
        }
        Ok(at)
    }

    /// `header=NAME=VALUE`, `header-env=NAME=VARIABLE` and `header-file=NAME=PATH`, each as often as wanted; `token=` is one of them.
    fn headers(&mut self) -> Result<Vec<(String, HeaderFrom)>, String> {
        let mut headers = Vec::new();
        if let Some(Secret(token)) = self.secret("token") {
            let value = Secret(format!("Bearer {token}"));
            headers.push(("authorization".to_owned(), HeaderFrom::Value(value)));
        }
        for (key, value) in self.take_all(&["header", "header-env", "header-file"]) {
            // What has no name may be the secret itself, and is not repeated.
            let (name, value) = value.split_once('=').unwrap_or(("", ""));
            let name = name.trim().to_lowercase();
            let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
            if name.is_empty() || !name.bytes().all(is_part) {
                return Err(format!("`{key}=`: it is written `{key}=NAME=…`"));
            }
            if value.is_empty() {
                return Err(format!("`{key}={name}=` has nothing behind it"));
            }
            if name.ends_with("-bin") || name == "te" || name.starts_with("grpc-") {
                return Err(format!("`{key}={name}`: this header is gRPC's own"));
            }
            let from = match key.as_str() {
                "header" => HeaderFrom::Value(Secret(value.to_owned())),
                "header-env" => HeaderFrom::Variable(value.to_owned()),
                _ => HeaderFrom::File(value.into()),
            };
            headers.push((name, from));
        }
        Ok(headers)
    }

    fn workflow(&mut self) -> Result<GhaAt, String> {
        match self.take("version").as_deref() {
            None | Some("" | "2") => {}
            Some("1") => {
                return Err(
                    "`version=1`: GitHub has ended the first version of its cache service; leave it out"
                        .to_owned(),
                );
            }
            Some(other) => return Err(format!("`version={other}`: it is `2`")),
        }
        let scope = self.text("scope").unwrap_or_else(|| NAME.to_owned());
        // Keys have no comma, and `#` ends the scope in them.
        if scope.len() > 200 || scope.contains([',', '#']) || scope.contains(char::is_control) {
            return Err(format!("`scope={}`: it has up to 200 bytes without `,` and `#`", harmless(&scope)));
        }
        Ok(GhaAt {
            scope,
            url: self.text("url_v2").map(|url| web_address("url_v2", &url)).transpose()?,
            token: self.secret("token"),
            timeout: self.timeout()?,
            repository: self.text("repository"),
        })
    }

    fn buckets(&mut self) -> Result<Vec<Location>, String> {
        let folder = |prefix: Option<String>, usual: &str| match prefix {
            Some(prefix) if prefix.is_empty() || prefix.ends_with('/') => prefix,
            Some(prefix) => format!("{prefix}/"),
            None => usual.to_owned(),
        };
        let (id, secret) = (self.secret("access_key_id"), self.secret("secret_access_key"));
        let session = self.secret("session_token");
        let keys = match (id, secret) {
            (Some(id), Some(secret)) => Some(S3Keys { id, secret, session }),
            (None, None) => None,
            (Some(_), None) => return Err("`secret_access_key=` is missing".to_owned()),
            (None, Some(_)) => return Err("`access_key_id=` is missing".to_owned()),
        };
        let names = self.text("name").unwrap_or_else(|| NAME.to_owned());
        let endpoint = self.text("endpoint_url");
        let at = S3At {
            bucket: self.text("bucket"),
            region: self.text("region"),
            prefix: self.text("prefix").unwrap_or_default(),
            blobs_prefix: folder(self.take("blobs_prefix"), "blobs/"),
            manifests_prefix: folder(self.take("manifests_prefix"), "manifests/"),
            name: String::new(),
            endpoint_url: endpoint.map(|url| web_address("endpoint_url", &url)).transpose()?,
            use_path_style: self.boolean("use_path_style", false)?,
            keys,
            touch: self.age("touch_refresh")? != Some(Duration::ZERO),
            timeout: self.timeout()?,
        };
        let names = names.split(';').filter(|name| !name.is_empty());
        Ok(names.map(|name| Location::S3(Box::new(S3At { name: name.to_owned(), ..at.clone() }))).collect())
    }
}

fn known_type(kind: &str) -> Result<(), String> {
    let names = || TYPES.iter().map(|(name, _)| *name);
    match kind {
        _ if names().any(|name| name == kind) => Ok(()),
        "azblob" => {
            Err("`type=azblob` is not supported; Azure's container registry keeps a cache of `type=registry`"
                .to_owned())
        }
        _ => Err(match closest(kind, names()) {
            Some(near) => format!("`type={kind}` is unknown; `{near}`?"),
            None => {
                format!("`type={kind}` is unknown; there are {}", names().collect::<Vec<&str>>().join(", "))
            }
        }),
    }
}

/// A URL that can be asked, without `/` at its end. The error does not repeat it: it may have a password in it.
fn web_address(key: &str, url: &str) -> Result<String, String> {
    let is_one = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_plain =
        |rest: &&str| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', '@', ' ']);
    match is_one.filter(is_plain) {
        Some(_) => Ok(url.trim_end_matches('/').to_owned()),
        None => Err(format!("`{key}=` is no URL such as `https://cache.example/path`")),
    }
}
