//! Keys, and the readable text that each is the hash of.
//!
//! Names of fields say what they are: `file:<path>` (its value is a [`FileState`]), `arg:<NAME>`,
//! `env:<NAME>`, `mount:<target>`, `parent`, `base`, `command`, `user`, `cwd`, …; [`super::Cache::explain`]
//! turns them into words.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity of a step: the BLAKE3 hash of its [`Preimage`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its 64 hex digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// A key from its 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:.12})", self.hex())
    }
}

/// Everything that counts for a step, in a fixed order, readable. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preimage {
    /// The first one is the operation's tag and version; names may repeat.
    pub fields: Vec<Field>,
}

/// One thing that counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Field {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Preimage {
    /// The preimage of an operation, such as `copy/1`: the number increases when the same fields come to mean
    /// another result.
    pub fn new(operation: &str) -> Self {
        let mut preimage = Self::default();
        preimage.push("op", operation);
        preimage
    }

    /// Adds a field.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.fields.push(Field { name: name.into(), value: value.into() });
    }

    /// Adds `file:<path>`, bytes that are no UTF-8 escaped so that no two paths look alike.
    pub fn push_file(&mut self, path: &[u8], state: &FileState<'_>) {
        self.push(format!("file:{}", escape(path)), state.to_string());
    }

    /// The key: every name and value with its length first, so that no two lists feed the same bytes.
    pub fn key(&self) -> Key {
        let mut bytes = Vec::with_capacity(self.fields.len() * 128);
        bytes.extend_from_slice(b"rbuild cache key 1\0");
        for Field { name, value } in &self.fields {
            for text in [name, value] {
                bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        Key(*blake3::hash(&bytes).as_bytes())
    }

    /// JSON with one field on each line, whether there are five or 50,000.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut out = b"{\"version\": 1, \"fields\": [".to_vec();
        for (i, field) in self.fields.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"\n  " } else { b",\n  " });
            serde_json::to_writer(&mut out, &(&field.name, &field.value))
                .expect("strings serialise, and writing to memory does not fail");
        }
        out.extend_from_slice(b"\n]}\n");
        out
    }

    /// `None` for anything that is no preimage of this version.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Written {
            version: u32,
            fields: Vec<(String, String)>,
        }
        let written: Written = serde_json::from_slice(bytes).ok()?;
        (written.version == 1).then_some(())?;
        let fields = written.fields.into_iter().map(|(name, value)| Field { name, value }).collect();
        Some(Self { fields })
    }
}

/// The value of a `file:` field: `type mode uid:gid[ more]`, such as `file 0644 0:0 sha256:…`,
/// `symlink 0777 0:0 ../target`, `dir 0755 0:0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState<'a> {
    /// What it is.
    pub kind: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The digest of a file and of its extended attributes, the target of a link, the numbers of a device.
    pub content: Cow<'a, str>,
}

/// The type of a file in a [`FileState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Another name of a file.
    HardLink,
    /// Named pipe.
    Fifo,
    /// Character or block device.
    Device,
}

impl FileType {
    /// Its word in a value.
    pub fn word(self) -> &'static str {
        match self {
            FileType::File => "file",
            FileType::Directory => "dir",
            FileType::Symlink => "symlink",
            FileType::HardLink => "hardlink",
            FileType::Fifo => "fifo",
            FileType::Device => "device",
        }
    }
}

impl fmt::Display for FileState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04o} {}:{}", self.kind.word(), self.mode, self.uid, self.gid)?;
        if self.content.is_empty() { Ok(()) } else { write!(f, " {}", self.content) }
    }
}

/// UTF-8 stays as it is, but `\` is doubled and other bytes are `\xNN`.
fn escape(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}
