//! What `--cache-from` and `--cache-to` say, in buildx's words.
//!
//! Only reads: what the environment adds, such as the keys to a bucket, is found by the backends.

mod keys;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::merge::Bounds;
use crate::http::without_user_info;
use crate::oci::Reference;
use crate::text::csv;
use keys::Keys;

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Under a tag in a registry.
    Registry(Reference),
    /// In a folder, under a tag of it.
    Local(PathBuf, String),
    /// On a server that speaks Bazel's simple protocol.
    Http(HttpAt),
    /// On a server of the Remote Execution API.
    Reapi(Box<ReapiAt>),
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
    /// For so long the server may say nothing.
    pub timeout: Option<Duration>,
}

/// A server of the Remote Execution API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReapiAt {
    /// `grpc://HOST:PORT` or `grpcs://HOST[:PORT]`.
    pub endpoint: String,
    /// Which instance of the server; usually it has one, without a name.
    pub instance: String,
    /// Which cache of the instance.
    pub name: String,
    /// A file of certificates that are trusted beside those of the machine.
    pub ca: Option<PathBuf>,
    /// Files of the certificate that is shown, and of its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// What each call says, such as a token.
    pub headers: Vec<(String, HeaderFrom)>,
    /// For so long the server may say nothing.
    pub timeout: Option<Duration>,
}

/// Where the value of a header is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderFrom {
    /// In the option.
    Value(Secret),
    /// In a variable of the environment.
    Variable(String),
    /// In a file, without the line break at its end.
    File(PathBuf),
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
    /// For so long the service may say nothing.
    pub timeout: Option<Duration>,
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

/// Reads an engine, `reapi://HOST:PORT[,KEY=VALUE…]` or `reapis://HOST[:PORT]…`: where it is with the keys of `type=reapi`, and what other keys
/// there are, of which `others` says whether they may be.
///
/// # Errors
/// In words, for the user, without credentials.
pub fn engine(text: &str, others: impl Fn(&str) -> bool) -> Result<(ReapiAt, Vec<(String, String)>), String> {
    Keys::engine(text, others)
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

#[cfg(test)]
mod tests;
