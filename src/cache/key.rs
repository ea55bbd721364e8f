//! Keys, and the readable text that each is the hash of.
//!
//! Names of fields say what they are: `file:<path>`, `arg:<NAME>`, `env:<NAME>`, `mount:<target>`, `parent`, `command`,
//! `user`, `cwd`, …; [`super::Cache::explain`] turns them into words. Which there are is the affair of those above.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, Write};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

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

/// What a key is the hash of. A [`Preimage`] has it at hand; of very many files it is put together whenever it is wanted,
/// rather than kept.
pub trait Reasons {
    /// Gives all fields in their order to `take`, some at a time.
    fn give(&self, take: &mut dyn FnMut(&Fields));

    /// The key.
    fn key(&self) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"rbuild cache key 1\0");
        self.give(&mut |fields| {
            hasher.update(&fields.bytes);
        });
        Key(*hasher.finalize().as_bytes())
    }

    /// All fields at once.
    fn to_preimage(&self) -> Preimage {
        let mut preimage = Preimage::default();
        self.give(&mut |fields| preimage.append(fields));
        preimage
    }
}

/// Everything that counts for a step, in a fixed order, readable. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preimage {
    fields: Fields,
}

/// Some fields of a [`Preimage`], in one buffer: a COPY has one for each file, and 50,000 of them shall cost
/// neither 100,000 allocations nor a second form for hashing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// As they feed the key: every name and value with its length first, so that no two lists feed the same bytes.
    bytes: Vec<u8>,
}

/// One thing that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'p> {
    /// What it is.
    pub name: &'p str,
    /// Its value.
    pub value: &'p str,
}

impl Fields {
    /// No fields yet, and room for so many bytes of names and values.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Adds a field.
    pub fn push(&mut self, name: &str, value: &str) {
        for text in [name, value] {
            self.bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }

    /// Takes all fields away, and keeps the room for others.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds all fields of `other` behind.
    pub fn append(&mut self, other: &Fields) {
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let name = take_text(&mut rest)?;
            let value = take_text(&mut rest)?;
            Some(Field { name, value })
        })
    }
}

/// Takes one text with its length off the front.
fn take_text<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    let (len, after) = rest.split_first_chunk::<8>()?;
    let (text, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|field| (field.name, field.value))).finish()
    }
}

impl Preimage {
    /// The preimage of an operation, such as `copy/1`: the number increases when the same fields come to mean
    /// another result.
    pub fn new(operation: &str) -> Self {
        let mut preimage = Self::default();
        preimage.push("op", operation);
        preimage
    }

    /// Adds a field. The first one is the operation's tag and version; names may repeat.
    pub fn push(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) {
        self.fields.push(name.as_ref(), value.as_ref());
    }

    /// Adds fields that were put together elsewhere.
    pub fn append(&mut self, fields: &Fields) {
        self.fields.append(fields);
    }

    /// Its fields in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter()
    }

    /// The key.
    pub fn key(&self) -> Key {
        Reasons::key(self)
    }

    /// `None` for anything that is no preimage of this version.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Written {
            version: u32,
            fields: Fields,
        }
        let written: Written = serde_json::from_slice(bytes).ok()?;
        (written.version == 1).then_some(Self { fields: written.fields })
    }
}

impl Reasons for Preimage {
    fn give(&self, take: &mut dyn FnMut(&Fields)) {
        take(&self.fields);
    }
}

/// Writes a preimage as JSON with one field on each line, whether there are five or 50,000.
pub fn write_json(reasons: &dyn Reasons, file: &mut impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, file);
    out.write_all(b"{\"version\": 1, \"fields\": [")?;
    let (mut separator, mut result) = ("\n  ", Ok(()));
    reasons.give(&mut |fields| {
        for field in fields.iter() {
            if result.is_ok() {
                result = out.write_all(separator.as_bytes());
                separator = ",\n  ";
            }
            if result.is_ok() {
                result = serde_json::to_writer(&mut out, &(field.name, field.value)).map_err(io::Error::from);
            }
        }
    });
    result?;
    out.write_all(b"\n]}\n")?;
    out.flush()
}

/// From a list of pairs, one at a time: as strings of their own, 200,000 of them would take twice the room.
impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names and values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some((name, value)) = list.next_element::<(Cow<'de, str>, Cow<'de, str>)>()? {
            fields.push(&name, &value);
        }
        Ok(fields)
    }
}
