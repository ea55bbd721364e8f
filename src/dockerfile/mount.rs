//! The values of `--mount` and `--device`.
//!
//! Variables are expanded per field and before [`Mount::parse`]: see [`fields`].

use super::excerpt;
use crate::text::{boolean, closest, csv, size};

/// What kind of mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountType {
    /// Files of the context, a stage or an image.
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// An empty file system in memory.
    Tmpfs,
    /// A secret as a file or variable.
    Secret,
    /// An agent's socket.
    Ssh,
}

impl MountType {
    const ALL: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    /// As written after `type=`.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All steps at once.
    Shared,
    /// Each his own.
    Private,
    /// One after another.
    Locked,
}

impl Sharing {
    const ALL: [(&'static str, Self); 3] =
        [("shared", Self::Shared), ("private", Self::Private), ("locked", Self::Locked)];
}

/// A `--mount`, after expansion. Empty texts of flags count as not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `type=`, `bind` by default.
    pub kind: MountType,
    /// `from=`
    pub from: Option<String>,
    /// `source=`, `src=`
    pub source: Option<String>,
    /// `target=`, `dst=`, `destination=`
    pub target: Option<String>,
    /// `ro`, `rw` and their long forms; by default cache and tmpfs mounts can be written.
    pub read_only: bool,
    /// `size=` of a tmpfs in bytes; 0 when not given.
    pub size_bytes: i64,
    /// `id=`
    pub id: Option<String>,
    /// `sharing=` of a cache; the default is `shared`.
    pub sharing: Option<Sharing>,
    /// `required` of a secret or agent.
    pub required: bool,
    /// `env=` of a secret. An empty one asks for the default name, which is the id.
    pub env: Option<String>,
    /// `mode=`, octal
    pub mode: Option<u32>,
    /// `uid=`
    pub uid: Option<u32>,
    /// `gid=`
    pub gid: Option<u32>,
}

/// What is wrong with a mount or device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("failed to parse csv {what}: {fault}")]
    Csv { what: &'static str, fault: csv::Fault },
    #[error("invalid field `{0}` must be a key=value pair")]
    NoValue(String),
    #[error("unexpected key `{key}` in `{field}`")]
    UnknownKey { key: String, field: String, near: Option<&'static str> },
    #[error("unexpected key `{key}` for mount type `{kind}`")]
    KeyOfOtherType { key: String, kind: &'static str },
    #[error("unsupported mount type `{value}`")]
    UnknownType { value: String, near: Option<&'static str> },
    #[error("unsupported sharing value `{value}`")]
    UnknownSharing { value: String, near: Option<&'static str> },
    #[error("invalid value for {key}: `{value}`")]
    BadValue { key: String, value: String },
    #[error("`from` doesn't support variable expansion, define alias stage instead")]
    VariableInFrom,
    #[error("{key} not allowed for `{kind}` type mounts")]
    NotAllowed { key: &'static str, kind: &'static str },
    #[error("secret mount should not have a from")]
    SecretFrom,
    #[error("secret mount should not define sharing")]
    SecretSharing,
    #[error("invalid secret mount. one of source, target required")]
    SecretWithoutName,
    #[error("both source and id can't be set")]
    SecretWithTwoNames,
    #[error("invalid cache sharing set for {0} mount")]
    SharingOfOtherType(&'static str),
    #[error("device name already set to `{0}`")]
    SecondDeviceName(String),
}

impl Error {
    /// What is to be done instead, for words that other builders know.
    pub fn help(&self) -> Option<String> {
        let key = match self {
            Error::NoValue(key) | Error::UnknownKey { key, .. } => key.to_ascii_lowercase(),
            _ => return self.suggestion().map(|near| format!("did you mean `{near}`?")),
        };
        let text = match key.as_str() {
            "z" | "relabel" => "leave it out: rbuild sets no SELinux labels, and needs none for its mounts",
            "u" | "chown" => {
                "leave it out: `uid=`, `gid=` and `mode=` say who owns a cache mount or a secret"
            }
            "tmpcopyup" | "notmpcopyup" => {
                "leave it out: a tmpfs is empty; RUN can copy what it needs into it"
            }
            "bind-propagation" | "rshared" | "rslave" | "rprivate" | "shared" | "slave" | "private" => {
                "leave it out: mounts of a RUN are its own, and nothing is passed on to others"
            }
            "tmpfs-size" => "write `size=`",
            "consistency" | "cached" | "delegated" | "consistent" => {
                "leave it out: it has no effect on Linux"
            }
            _ => return self.suggestion().map(|near| format!("did you mean `{near}`?")),
        };
        Some(text.to_owned())
    }

    /// What the user may have meant.
    pub fn suggestion(&self) -> Option<&'static str> {
        match self {
            Error::UnknownKey { near, .. }
            | Error::UnknownType { near, .. }
            | Error::UnknownSharing { near, .. } => *near,
            _ => None,
        }
    }
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// The comma-separated fields of a `--mount`, quotes of the CSV form removed. Each field's value, right
/// of its `=`, is expanded on its own, then all go to [`Mount::parse`].
pub fn fields(value: &str) -> Result<Vec<String>, Error> {
    csv::fields(value).map_err(|fault| Error::Csv { what: "mounts", fault })
}

/// The last `from=` of a mount as written: the stage, context or image that it needs. It may hold no
/// variables, which is the one thing about a mount that is known before expansion.
pub fn from(value: &str) -> Result<Option<String>, Error> {
    let mut from = None;
    for field in fields(value)? {
        match field.split_once('=') {
            Some((key, value)) if key.eq_ignore_ascii_case("from") => {
                if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                    return Err(Error::VariableInFrom);
                }
                from = Some(value.to_owned()).filter(|value| !value.is_empty());
            }
            _ => {}
        }
    }
    Ok(from)
}

impl Mount {
    /// Reads a mount from its fields, whose values are expanded.
    pub fn parse<T: AsRef<str>>(fields: &[T]) -> Result<Self, Error> {
        let mut draft = Draft::default();
        for field in fields {
            draft.field(field.as_ref())?;
        }
        draft.finish()
    }
}

/// A mount while its fields are read. Order counts: `required` and `size` must follow `type`.
struct Draft {
    mount: Mount,
    read_only: Option<bool>,
}

impl Default for Draft {
    fn default() -> Self {
        let mount = Mount {
            kind: MountType::Bind,
            from: None,
            source: None,
            target: None,
            read_only: true,
            size_bytes: 0,
            id: None,
            sharing: None,
            required: false,
            env: None,
            mode: None,
            uid: None,
            gid: None,
        };
        Self { mount, read_only: None }
    }
}

impl Draft {
    fn field(&mut self, field: &str) -> Result<(), Error> {
        match field.split_once('=') {
            Some((key, value)) => self.pair(&key.to_lowercase(), value, field),
            None => self.word(&field.to_lowercase(), field),
        }
    }

    fn word(&mut self, key: &str, field: &str) -> Result<(), Error> {
        match key {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => self.required(true)?,
            _ => return Err(Error::NoValue(excerpt(field))),
        }
        Ok(())
    }

    fn pair(&mut self, key: &str, value: &str, field: &str) -> Result<(), Error> {
        let mount = &mut self.mount;
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "type" => mount.kind = kind(value)?,
            "from" => mount.from = text(),
            "source" | "src" => mount.source = text(),
            "target" | "dst" | "destination" => mount.target = text(),
            "readonly" | "ro" => self.read_only = Some(flag(key, value)?),
            "readwrite" | "rw" => self.read_only = Some(!flag(key, value)?),
            // The type is looked at before the value.
            "required" => {
                self.required(false)?;
                self.mount.required = flag(key, value)?;
            }
            "size" if mount.kind != MountType::Tmpfs => return Err(self.other_type(key)),
            "size" => mount.size_bytes = size(value).ok_or_else(|| bad(key, value))?,
            "id" => mount.id = text(),
            "sharing" => mount.sharing = Some(sharing(value)?),
            "mode" => mount.mode = Some(number(key, value, 8)?),
            "uid" => mount.uid = Some(number(key, value, 10)?),
            "gid" => mount.gid = Some(number(key, value, 10)?),
            "env" => mount.env = Some(value.to_owned()),
            _ => {
                let near = closest(key, KEYS);
                return Err(Error::UnknownKey { key: excerpt(key), field: excerpt(field), near });
            }
        }
        Ok(())
    }

    fn required(&mut self, required: bool) -> Result<(), Error> {
        match self.mount.kind {
            MountType::Secret | MountType::Ssh => self.mount.required = required,
            MountType::Bind | MountType::Cache | MountType::Tmpfs => return Err(self.other_type("required")),
        }
        Ok(())
    }

    fn other_type(&self, key: &str) -> Error {
        Error::KeyOfOtherType { key: key.to_owned(), kind: self.mount.kind.name() }
    }

    /// The rules that hold between fields.
    fn finish(self) -> Result<Mount, Error> {
        let mut mount = self.mount;
        let kind = mount.kind;
        if matches!(kind, MountType::Bind | MountType::Tmpfs) {
            for (key, value) in [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)] {
                if value.is_some() {
                    return Err(Error::NotAllowed { key, kind: kind.name() });
                }
            }
        }
        mount.read_only = self.read_only.unwrap_or(!matches!(kind, MountType::Cache | MountType::Tmpfs));
        match kind {
            MountType::Secret if mount.from.is_some() => Err(Error::SecretFrom),
            MountType::Secret if mount.sharing.is_some() => Err(Error::SecretSharing),
            MountType::Secret if mount.source.is_none() && mount.target.is_none() && mount.id.is_none() => {
                Err(Error::SecretWithoutName)
            }
            MountType::Secret if mount.source.is_some() && mount.id.is_some() => {
                Err(Error::SecretWithTwoNames)
            }
            MountType::Cache => Ok(mount),
            other if mount.sharing.is_some() => Err(Error::SharingOfOtherType(other.name())),
            _ => Ok(mount),
        }
    }
}

fn kind(value: &str) -> Result<MountType, Error> {
    let lower = value.to_lowercase();
    let found = MountType::ALL.iter().find(|(name, _)| *name == lower).map(|(_, kind)| *kind);
    found.ok_or_else(|| {
        let near = closest(value, MountType::ALL.iter().map(|(name, _)| *name));
        Error::UnknownType { value: excerpt(value), near }
    })
}

fn sharing(value: &str) -> Result<Sharing, Error> {
    let lower = value.to_lowercase();
    let found = Sharing::ALL.iter().find(|(name, _)| *name == lower).map(|(_, sharing)| *sharing);
    found.ok_or_else(|| {
        let near = closest(value, Sharing::ALL.iter().map(|(name, _)| *name));
        Error::UnknownSharing { value: excerpt(value), near }
    })
}

fn bad(key: &str, value: &str) -> Error {
    Error::BadValue { key: key.to_owned(), value: excerpt(value) }
}

fn flag(key: &str, value: &str) -> Result<bool, Error> {
    boolean(value).ok_or_else(|| bad(key, value))
}

/// Digits only: Go refuses a sign here, Rust would not.
fn number(key: &str, value: &str, radix: u32) -> Result<u32, Error> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(value, radix).ok().filter(|_| digits).ok_or_else(|| bad(key, value))
}

/// Bytes; a number in the Dockerfile's terms is signed.
fn size(text: &str) -> Option<i64> {
    size::parse(text).and_then(|bytes| i64::try_from(bytes).ok())
}

/// A `--device`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// The device's name in CDI's form.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

impl Device {
    /// Reads `name=…,required` or the name alone.
    pub fn parse(value: &str) -> Result<Self, Error> {
        let mut device = Device::default();
        for field in csv::fields(value).map_err(|fault| Error::Csv { what: "devices", fault })? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(value)),
                None => (field.to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("required", None) => device.required = true,
                ("required", Some(value)) => device.required = flag(&key, value)?,
                ("name", Some(_)) if !device.name.is_empty() => {
                    return Err(Error::SecondDeviceName(device.name));
                }
                ("name", Some(value)) => device.name = value.to_owned(),
                _ if device.name.is_empty() => device.name = field.clone(),
                (_, None) => return Err(Error::NoValue(excerpt(&field))),
                (_, Some(_)) => {
                    let near = closest(&key, ["name", "required"]);
                    return Err(Error::UnknownKey { key: excerpt(&key), field: excerpt(&field), near });
                }
            }
        }
        Ok(device)
    }
}

#[cfg(test)]
mod tests;
