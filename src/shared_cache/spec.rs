//! What `--cache-from` and `--cache-to` say, in buildx's words.

use std::path::PathBuf;
use std::time::Duration;

use super::merge::Bounds;
use super::mounts;
use crate::oci::Reference;
use crate::text::duration::parse_age;
use crate::text::{boolean, closest, csv, size};

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Under a tag in a registry.
    Registry(Reference),
    /// In a folder, under a tag of it.
    Local(PathBuf, String),
}

/// `--cache-from`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFrom {
    /// Where.
    pub location: Location,
    /// What the files of one cache mount may have, in bytes.
    pub mount_limit: u64,
}

/// `--cache-to`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    /// Where.
    pub location: Location,
    /// Which records.
    pub mode: Mode,
    /// An export that fails is a warning.
    pub ignore_error: bool,
    /// How much the cache may come to.
    pub bounds: Bounds,
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

/// A cache, and notes about keys that mean nothing here.
pub type Parsed<T> = Result<(T, Vec<String>), String>;

const TYPES: [&str; 2] = ["registry", "local"];

impl CacheFrom {
    /// Reads `type=registry,ref=…`; a reference alone is a registry's.
    ///
    /// # Errors
    /// In words, for the user.
    pub fn parse(text: &str) -> Parsed<Self> {
        let mut keys = Keys::read(text)?;
        let location = keys.location("src")?;
        let mount_limit = keys.mount_limit()?;
        keys.finish(&["mount-max-size"])?;
        Ok((Self { location, mount_limit }, Vec::new()))
    }
}

impl CacheTo {
    /// Reads `type=registry,ref=…,mode=max`; a reference alone is a registry's.
    ///
    /// # Errors
    /// In words, for the user.
    pub fn parse(text: &str) -> Parsed<Self> {
        let mut keys = Keys::read(text)?;
        let location = keys.location("dest")?;
        let mode = match keys.take("mode").as_deref() {
            None | Some("max") => Mode::Max,
            Some("min") => Mode::Min,
            Some(other) => return Err(format!("`mode={other}`: it is `min` or `max`")),
        };
        let ignore_error = match keys.take("ignore-error") {
            None => true,
            Some(word) => {
                boolean(&word).ok_or_else(|| format!("`ignore-error={word}`: it is `true` or `false`"))?
            }
        };
        let age = |word: String| {
            let seconds = parse_age(&word).and_then(|seconds| u64::try_from(seconds).ok());
            seconds
                .map(Duration::from_secs)
                .ok_or_else(|| format!("`max-age={word}` is no time such as `14d`"))
        };
        let bounds = Bounds {
            size: keys.size("max-size")?,
            mounts: keys.size("mounts-max-size")?,
            age: keys.take("max-age").map(age).transpose()?,
        };
        let mount_limit = keys.mount_limit()?;
        keys.finish(&["mode", "ignore-error", "max-size", "max-age", "mounts-max-size", "mount-max-size"])?;
        Ok((Self { location, mode, ignore_error, bounds, mount_limit }, Vec::new()))
    }
}

/// The fields of one option.
struct Keys {
    kind: String,
    fields: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Keys {
    fn read(text: &str) -> Result<Self, String> {
        let fields = csv::fields(text).map_err(|fault| fault.to_string())?;
        if let [reference] = fields.as_slice()
            && !reference.contains('=')
        {
            let fields = vec![("ref".to_owned(), reference.clone())];
            return Ok(Self { kind: "registry".to_owned(), fields, known: Vec::new() });
        }
        let mut pairs = Vec::new();
        for field in fields {
            let (key, value) = field.split_once('=').ok_or_else(|| format!("`{field}` is no `KEY=VALUE`"))?;
            pairs.push((key.trim().to_lowercase(), value.to_owned()));
        }
        let mut keys = Self { kind: String::new(), fields: pairs, known: Vec::new() };
        keys.kind = keys.take("type").ok_or("`type=` is missing, such as `type=registry,ref=…`")?;
        Ok(keys)
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let mut found = None;
        self.fields.retain(|(name, value)| match name == key {
            true => {
                found = Some(value.clone());
                false
            }
            false => true,
        });
        found
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

    fn location(&mut self, folder: &'static str) -> Result<Location, String> {
        match self.kind.as_str() {
            "registry" => {
                self.known.push("ref");
                let name = self.take("ref").ok_or("`ref=` is missing")?;
                let reference: Reference = name.parse().map_err(|e| format!("`ref={name}`: {e}"))?;
                Ok(Location::Registry(reference.with_default_tag()))
            }
            "local" => {
                self.known.extend([folder, "tag"]);
                let path = self.take(folder).ok_or_else(|| format!("`{folder}=` is missing"))?;
                Ok(Location::Local(path.into(), self.take("tag").unwrap_or_else(|| "latest".to_owned())))
            }
            other => Err(match closest(other, TYPES) {
                Some(near) => format!("`type={other}` is unknown; `{near}`?"),
                None => format!("`type={other}` is unknown; there are {}", TYPES.join(", ")),
            }),
        }
    }

    fn finish(self, more: &[&'static str]) -> Result<(), String> {
        let Some((key, _)) = self.fields.first() else { return Ok(()) };
        let known = self.known.iter().chain(more).copied();
        Err(match closest(key, known) {
            Some(near) => format!("`{key}` is unknown for `type={}`; `{near}`?", self.kind),
            None => format!("`{key}` is unknown for `type={}`", self.kind),
        })
    }
}
