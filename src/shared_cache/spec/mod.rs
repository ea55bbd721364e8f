//! What `--cache-from` and `--cache-to` say, in buildx's words.
//!
//! Only reads: what the environment adds, such as the keys to a bucket, is found by the backends.

mod table;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::merge::Bounds;
use super::mounts;
use crate::http::{Address, without_user_info};
use crate::oci::Reference;
use crate::text::duration::parse_age;
use crate::text::terminal::harmless;
use crate::text::{boolean, closest, csv, size};
use table::{TYPES, Use};

/// The cache of a name that nobody chose.
const NAME: &str = "rbuild";

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Under a tag in a registry.
    Registry(Reference),
    /// In a folder, under a tag of it.
    Local(PathBuf, String),
    /// On a server that speaks Bazel's simple protocol.
    Http(HttpAt),
    /// In a bucket.
    S3(Box<S3At>),
    /// With the cache service of GitHub's workflows.
    Gha(GhaAt),
}

/// A server with `/ac` and `/cas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAt {
    /// What stands before `/ac`, without user info.
    pub url: String,
    /// The value of `Authorization`.
    pub authorization: Option<Secret>,
    /// Which cache of the server.
    pub name: String,
}

/// A bucket. What is `None` the environment says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3At {
    /// Its name.
    pub bucket: Option<String>,
    /// Where it is.
    pub region: Option<String>,
    /// Before the names of all objects.
    pub prefix: String,
    /// And of blobs; ends in `/`.
    pub blobs_prefix: String,
    /// And of heads and packs; ends in `/`.
    pub manifests_prefix: String,
    /// Which cache of the bucket.
    pub name: String,
    /// Another service than Amazon's.
    pub endpoint_url: Option<String>,
    /// The bucket is in the path, not in the host.
    pub use_path_style: bool,
    /// The key's name and the key.
    pub keys: Option<S3Keys>,
    /// Blobs that are used are made young again, for rules of the bucket that remove old ones.
    pub touch: bool,
}

/// The cache service of a workflow. What is `None` the environment says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GhaAt {
    /// Which cache of the repository.
    pub scope: String,
    /// Where the service is, in its second version.
    pub url: Option<String>,
    /// What the workflow shows.
    pub token: Option<Secret>,
    /// The longest wait that is obeyed when the service asks for one.
    pub timeout: Option<Duration>,
    /// The repository, as signatures name it.
    pub repository: Option<String>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Keys {
    /// The name of the key.
    pub id: Secret,
    /// The key.
    pub secret: Secret,
    /// What proves that the key is lent.
    pub session: Option<Secret>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// `--cache-from`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFrom {
    /// Where.
    pub location: Location,
    /// Files of the keys whose signatures are believed; none when everybody is.
    pub verify: Vec<PathBuf>,
    /// What the files of one cache mount may have, in bytes.
    pub mount_limit: u64,
}

/// `--cache-to`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    /// Where; `None` for the image itself, which then carries records of its own layers.
    pub location: Option<Location>,
    /// Which records.
    pub mode: Mode,
    /// An export that fails is a warning.
    pub ignore_error: bool,
    /// How much the cache may come to.
    pub bounds: Bounds,
    /// The file of the key that signs.
    pub sign: Option<PathBuf>,
    /// What steps that had secrets or ssh left is left out.
    pub skip_secrets: bool,
    /// What the files of one cache mount may have, in bytes.
    pub mount_limit: u64,
}

/// Which records are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Those of the layers of the result.
    Min,
    /// Those of all steps.
    #[default]
    Max,
}

/// The caches that one option names, and notes about keys that mean nothing here.
pub type Parsed<T> = Result<(Vec<T>, Vec<String>), String>;

/// Which of the two options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    From,
    To,
}

impl CacheFrom {
    /// Reads `type=registry,ref=…`; a reference alone is a registry's. Several names of a bucket are several caches.
    ///
    /// # Errors
    /// In words, for the user, without credentials.
    pub fn parse(text: &str) -> Parsed<Self> {
        let (mut keys, notes) = Keys::read(text, Direction::From)?;
        let locations = keys.locations()?;
        let mount_limit = keys.mount_limit()?;
        let verify = keys.files("verify")?;
        let from = |location| Self { location, mount_limit, verify: verify.clone() };
        Ok((locations.into_iter().map(from).collect(), notes))
    }
}

impl CacheTo {
    /// Reads `type=registry,ref=…,mode=max`; a reference alone is a registry's. Several names of a bucket are several caches.
    ///
    /// # Errors
    /// In words, for the user, without credentials.
    pub fn parse(text: &str) -> Parsed<Self> {
        let (mut keys, notes) = Keys::read(text, Direction::To)?;
        let is_inline = keys.kind == "inline";
        let locations = match is_inline {
            true => vec![None],
            false => keys.locations()?.into_iter().map(Some).collect(),
        };
        let mode = match keys.take("mode").as_deref() {
            Some("min") => Mode::Min,
            None | Some("max") => Mode::Max,
            Some(other) => return Err(format!("`mode={other}`: it is `min` or `max`")),
        };
        let ignore_error = keys.boolean("ignore-error", true)?;
        let bounds = keys.bounds()?;
        let mount_limit = keys.mount_limit()?;
        let sign = keys.files("sign")?;
        if sign.len() > 1 {
            return Err("`sign=`: one key signs".to_owned());
        }
        if is_inline && !sign.is_empty() {
            return Err(
                "`sign=`: what an image carries is not signed; `verify=` believes none of it".to_owned()
            );
        }
        let skip_secrets = match keys.take("secrets").as_deref() {
            None | Some("keep") => false,
            Some("skip") => true,
            Some(other) => return Err(format!("`secrets={other}`: it is `keep` or `skip`")),
        };
        let to = |location| Self {
            location,
            mode,
            ignore_error,
            bounds,
            sign: sign.first().cloned(),
            skip_secrets,
            mount_limit,
        };
        Ok((locations.into_iter().map(to).collect(), notes))
    }
}

/// The option as it may be shown: without values that are nobody's business.
pub fn shown(text: &str) -> String {
    let shown = |field: &str| match field.split_once('=') {
        Some((key, _)) if table::is_secret(&key.trim().to_lowercase()) => format!("{key}=…"),
        Some((key, value)) => format!("{key}={}", without_user_info(value)),
        None => without_user_info(field),
    };
    let fields = csv::fields(text).unwrap_or_else(|_| text.split(',').map(str::to_owned).collect());
    fields.iter().map(|field| shown(field)).collect::<Vec<String>>().join(",")
}

/// The fields of one option that count, each of which is known.
struct Keys {
    direction: Direction,
    kind: String,
    fields: Vec<(String, String)>,
}

impl Keys {
    fn read(text: &str, direction: Direction) -> Result<(Self, Vec<String>), String> {
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
    fn take(&mut self, key: &str) -> Option<String> {
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

    fn need(&mut self, key: &str) -> Result<String, String> {
        self.take(key).filter(|value| !value.is_empty()).ok_or_else(|| format!("`{key}=` is missing"))
    }

    /// A text that is not empty.
    fn text(&mut self, key: &str) -> Option<String> {
        self.take(key).filter(|value| !value.is_empty())
    }

    /// Files with `;` between them. One that is named and empty is a mistake, and must not mean that nobody was asked for.
    fn files(&mut self, key: &str) -> Result<Vec<PathBuf>, String> {
        let Some(text) = self.take(key) else { return Ok(Vec::new()) };
        let files = text.split(';').filter(|path| !path.is_empty()).map(PathBuf::from);
        let files: Vec<PathBuf> = files.collect();
        if files.is_empty() { Err(format!("`{key}=` names no file")) } else { Ok(files) }
    }

    fn secret(&mut self, key: &str) -> Option<Secret> {
        self.text(key).map(Secret)
    }

    fn boolean(&mut self, key: &str, usual: bool) -> Result<bool, String> {
        match self.take(key) {
            None => Ok(usual),
            Some(word) => boolean(&word).ok_or_else(|| format!("`{key}={word}`: it is `true` or `false`")),
        }
    }

    fn bounds(&mut self) -> Result<Bounds, String> {
        let (size, mounts) = (self.size("max-size")?, self.size("mounts-max-size")?);
        Ok(Bounds { size, mounts, age: self.age("max-age")? })
    }

    fn size(&mut self, key: &str) -> Result<Option<u64>, String> {
        let size = |word: String| {
            size::parse(&word).ok_or_else(|| format!("`{key}={word}` is no size such as `10g`"))
        };
        self.take(key).map(size).transpose()
    }

    fn mount_limit(&mut self) -> Result<u64, String> {
        Ok(self.size("mount-max-size")?.unwrap_or(mounts::MOUNT_LIMIT))
    }

    fn age(&mut self, key: &str) -> Result<Option<Duration>, String> {
        let Some(word) = self.take(key) else { return Ok(None) };
        let seconds = parse_age(&word).and_then(|seconds| u64::try_from(seconds).ok());
        let age = seconds.map(Duration::from_secs);
        age.map(Some).ok_or_else(|| format!("`{key}={word}` is no time such as `14d`"))
    }

    fn locations(&mut self) -> Result<Vec<Location>, String> {
        let one = match self.kind.as_str() {
            "registry" => {
                let name = self.need("ref")?;
                let reference: Reference = name.parse().map_err(|e| format!("`ref={name}`: {e}"))?;
                Location::Registry(reference.with_default_tag())
            }
            "local" => self.folder()?,
            "http" => Location::Http(self.http()?),
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
        Ok(HttpAt { url, authorization, name: self.text("name").unwrap_or_else(|| NAME.to_owned()) })
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
            timeout: self.age("timeout")?,
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

#[cfg(test)]
mod tests;
