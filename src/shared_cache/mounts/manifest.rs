//! What is in a mount: the value, and its bytes.
//!
//! ```text
//! "rbuild mount 1\n"
//! number of packs     each: SHA-256, size, bytes in it
//! number of entries   each: path, kind, mode, uid, gid, seconds, nanoseconds, attributes, and by kind:
//!                     d  -
//!                     i  the bytes
//!                     p  size, BLAKE3, the pack's place in the list, offset in it
//!                     s  size, BLAKE3, number of packs, their places; each holds the next piece and nothing else
//!                     l  where it leads
//!                     h  the path of the file that it is another name of
//! ```
//!
//! Numbers are LEB128, those with a sign zigzag; texts have their length before them. Entries are sorted by path, so every
//! directory comes before what is in it; the first is the mount itself, whose path is empty. All of it is compressed with zstd.

use std::collections::HashMap;
use std::io::Read as _;

use super::{Error, PackRef};
use crate::oci::Digest;
use crate::rootfs::{OWNER_ATTRIBUTE, RecordedOwner};

const MAGIC: &[u8] = b"rbuild mount 1\n";
/// Of a manifest, decompressed.
const LIMIT: u64 = 512 << 20;
/// Of the bytes in one pack.
pub(super) const PACK_LIMIT: u64 = 16 << 20;
/// Files of so many bytes stand in the manifest.
pub(super) const INLINE: u64 = 256;
const PATH_LIMIT: usize = 4095;
const NAME_LIMIT: usize = 255;
const XATTR_LIMIT: usize = 64 << 10;
const XATTRS: u64 = 64;
/// More than any tool's cache has.
const ENTRIES: usize = 4_000_000;
const LEVEL: i32 = 3;

/// What is in a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The packs that its files are in.
    pub packs: Vec<PackRef>,
    /// Sorted by path.
    pub entries: Vec<Entry>,
}

/// A file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below the mount; empty for the mount itself.
    pub path: Vec<u8>,
    /// The lowest twelve bits.
    pub mode: u32,
    /// The user, as a step sees it.
    pub uid: u32,
    /// The group, as a step sees it.
    pub gid: u32,
    /// Of its last change, in seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Attributes that begin with `user.`, without the one that records owners.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A small file.
    Inline(Vec<u8>),
    /// A file in a pack.
    Packed(Content, u32, u64),
    /// A file in packs of its own.
    Split(Content, Vec<u32>),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// Another name of a file.
    Link(Vec<u8>),
}

/// The bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Content {
    /// How many.
    pub size: u64,
    /// Their BLAKE3.
    pub hash: [u8; 32],
}

impl Entry {
    /// The bytes of the file, if it is one.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::Inline(bytes) => bytes.len() as u64,
            Kind::Packed(content, ..) | Kind::Split(content, _) => content.size,
            Kind::Directory | Kind::Symlink(_) | Kind::Link(_) => 0,
        }
    }

    /// Whether it is a regular file under its first name.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::Inline(_) | Kind::Packed(..) | Kind::Split(..))
    }

    /// The path of what it is in, and its name.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        split(&self.path)
    }

    /// Whether it holds the same, wherever that is kept.
    pub(super) fn holds_the_same(&self, other: &Self) -> bool {
        use Kind::{Packed, Split};
        match (&self.kind, &other.kind) {
            (Packed(one, ..) | Split(one, _), Packed(other, ..) | Split(other, _)) => one == other,
            (one, other) => one == other,
        }
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

impl Manifest {
    /// The bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.size()))
    }

    /// How many files it has.
    pub fn files(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.is_file()).count() as u64
    }

    /// As it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        zstd::bulk::compress(&self.encoded(), LEVEL).expect("memory is written to")
    }

    /// What [`Manifest::to_bytes`] gave.
    ///
    /// # Errors
    /// [`Error::Hostile`] for what would lead out of a mount, is not sorted, contradicts itself, or is too large.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let fault = |error: std::io::Error| Error::hostile(format!("its manifest is not zstd: {error}"));
        let mut encoded = Vec::new();
        let reader = zstd::stream::read::Decoder::new(bytes).map_err(fault)?;
        reader.take(LIMIT + 1).read_to_end(&mut encoded).map_err(fault)?;
        if encoded.len() as u64 > LIMIT {
            return Err(Error::hostile("its manifest is too large"));
        }
        Self::decode(&encoded)
    }

    /// What is compressed in [`Manifest::to_bytes`].
    pub fn encoded(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.number(self.packs.len() as u64);
        for pack in &self.packs {
            out.0.extend_from_slice(pack.digest.as_bytes());
            out.number(pack.size);
            out.number(pack.raw);
        }
        out.number(self.entries.len() as u64);
        self.entries.iter().for_each(|entry| out.entry(entry));
        out.0
    }

    /// As [`Manifest::parse`], of what is compressed there.
    ///
    /// # Errors
    /// As there.
    pub fn decode(encoded: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader(encoded);
        let manifest = reader.manifest().ok_or_else(|| Error::hostile("its manifest is damaged"))?;
        manifest.check().map_err(Error::Hostile)?;
        Ok(manifest)
    }

    /// What no honest writer says.
    fn check(&self) -> Result<(), String> {
        for pack in &self.packs {
            // What cannot be compressed becomes a little larger.
            if pack.raw > PACK_LIMIT || pack.size > PACK_LIMIT + (PACK_LIMIT >> 6) {
                return Err(format!("the pack {} is too large", pack.digest));
            }
        }
        let Some((top, entries)) = self.entries.split_first() else { return Err("it is empty".to_owned()) };
        if !top.path.is_empty() || top.kind != Kind::Directory {
            return Err("it does not begin with the mount itself".to_owned());
        }
        // What each path is, as far as others can name it.
        let mut known: HashMap<&[u8], bool> = HashMap::from([(&b""[..], true)]);
        let mut before: &[u8] = b"";
        let mut total = 0_u64;
        for entry in entries {
            let shown = || String::from_utf8_lossy(&entry.path).into_owned();
            if entry.path.as_slice() <= before {
                return Err(format!("`{}` is not in its place", shown()));
            }
            before = &entry.path;
            let (parent, name) = entry.split();
            let is_name = !name.is_empty()
                && entry.path[0] != b'/'
                && name != b"."
                && name != b".."
                && !name.contains(&0);
            if !is_name || name.len() > NAME_LIMIT || entry.path.len() > PATH_LIMIT {
                return Err(format!("`{}` is no path in a mount", shown()));
            }
            if known.get(parent) != Some(&true) {
                return Err(format!("`{}` is in no directory", shown()));
            }
            let is_sound = match &entry.kind {
                Kind::Directory => true,
                Kind::Inline(bytes) => bytes.len() as u64 <= PACK_LIMIT,
                Kind::Packed(content, pack, offset) => self
                    .packs
                    .get(*pack as usize)
                    .is_some_and(|pack| offset.checked_add(content.size).is_some_and(|end| end <= pack.raw)),
                Kind::Split(content, packs) => {
                    let sizes = packs.iter().map(|pack| self.packs.get(*pack as usize).map(|pack| pack.raw));
                    let sum = sizes.sum::<Option<u64>>();
                    sum == Some(content.size)
                }
                Kind::Symlink(target) => {
                    !target.is_empty() && target.len() <= PATH_LIMIT && !target.contains(&0)
                }
                Kind::Link(target) => known.get(target.as_slice()) == Some(&false),
            };
            if !is_sound {
                return Err(format!("`{}` contradicts itself", shown()));
            }
            if !entry.xattrs.iter().all(|(name, value)| is_attribute(name, value)) {
                return Err(format!("`{}` has an attribute that no mount keeps", shown()));
            }
            match entry.kind {
                Kind::Directory => drop(known.insert(&entry.path, true)),
                Kind::Inline(_) | Kind::Packed(..) | Kind::Split(..) => {
                    known.insert(&entry.path, false);
                    total = total.checked_add(entry.size()).ok_or("its files are too large")?;
                }
                Kind::Symlink(_) | Kind::Link(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether an attribute is one that mounts keep.
pub(super) fn is_attribute(name: &[u8], value: &[u8]) -> bool {
    let is_ours = name == OWNER_ATTRIBUTE.as_bytes();
    let is_plain = name.starts_with(b"user.") && name.len() <= NAME_LIMIT && !name.contains(&0);
    is_plain && !is_ours && value.len() <= XATTR_LIMIT
}

/// Who a step sees as the owner of a file whose owner is written down; `None` for a file that stands for a device.
pub(super) fn recorded(value: Option<&[u8]>) -> Option<(u32, u32)> {
    let owner = value.and_then(RecordedOwner::from_bytes).unwrap_or_default();
    owner.device.is_none().then_some((owner.uid, owner.gid))
}

pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    pub(super) fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    fn content(&mut self, content: &Content) {
        self.number(content.size);
        self.0.extend_from_slice(&content.hash);
    }

    fn entry(&mut self, entry: &Entry) {
        self.text(&entry.path);
        self.0.push(match entry.kind {
            Kind::Directory => b'd',
            Kind::Inline(_) => b'i',
            Kind::Packed(..) => b'p',
            Kind::Split(..) => b's',
            Kind::Symlink(_) => b'l',
            Kind::Link(_) => b'h',
        });
        for number in [entry.mode, entry.uid, entry.gid] {
            self.number(number.into());
        }
        self.signed(entry.mtime.0);
        self.number(entry.mtime.1.into());
        self.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            self.text(name);
            self.text(value);
        }
        match &entry.kind {
            Kind::Directory => {}
            Kind::Inline(bytes) | Kind::Symlink(bytes) | Kind::Link(bytes) => self.text(bytes),
            Kind::Packed(content, pack, offset) => {
                self.content(content);
                self.number((*pack).into());
                self.number(*offset);
            }
            Kind::Split(content, packs) => {
                self.content(content);
                self.number(packs.len() as u64);
                packs.iter().for_each(|pack| self.number((*pack).into()));
            }
        }
    }
}

/// Reads what a [`Writer`] wrote; `None` where it ends too early or a number is too large.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    pub(super) fn bytes(&mut self, length: u64) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'b [u8]> {
        let length = self.number()?;
        self.bytes(length)
    }

    /// How many of something follow, of which each takes a byte at least.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    fn content(&mut self) -> Option<Content> {
        Some(Content { size: self.number()?, hash: self.bytes(32)?.try_into().ok()? })
    }

    fn manifest(&mut self) -> Option<Manifest> {
        self.0 = self.0.strip_prefix(MAGIC)?;
        let mut manifest = Manifest::default();
        for _ in 0..self.count()? {
            let digest = Digest::from_bytes(self.bytes(32)?.try_into().ok()?);
            manifest.packs.push(PackRef { digest, size: self.number()?, raw: self.number()? });
        }
        for _ in 0..self.count().filter(|count| *count <= ENTRIES)? {
            manifest.entries.push(self.entry()?);
        }
        self.0.is_empty().then_some(manifest)
    }

    fn entry(&mut self) -> Option<Entry> {
        let path = self.text()?.to_vec();
        let kind = self.bytes(1)?;
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let mtime = (self.signed()?, self.small()?);
        let count = self.number().filter(|count| *count <= XATTRS)?;
        let mut xattrs = Vec::new();
        for _ in 0..count {
            xattrs.push((self.text()?.to_vec(), self.text()?.to_vec()));
        }
        let kind = match kind {
            b"d" => Kind::Directory,
            b"i" => Kind::Inline(self.text()?.to_vec()),
            b"p" => Kind::Packed(self.content()?, self.small()?, self.number()?),
            b"s" => {
                let content = self.content()?;
                let count = self.count()?;
                Kind::Split(content, (0..count).map(|_| self.small()).collect::<Option<_>>()?)
            }
            b"l" => Kind::Symlink(self.text()?.to_vec()),
            b"h" => Kind::Link(self.text()?.to_vec()),
            _ => return None,
        };
        let is_sound = mode <= 0o7777 && mtime.1 < 1_000_000_000;
        is_sound.then_some(Entry { path, mode, uid, gid, mtime, xattrs, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        let path = path.as_bytes().to_vec();
        Entry { path, mode: 0o755, uid: 0, gid: 7, mtime: (-3, 999_999_999), xattrs: Vec::new(), kind }
    }

    fn manifest(entries: Vec<Entry>) -> Manifest {
        let pack = PackRef { digest: Digest::of(b"pack"), size: 9, raw: 1000 };
        let top = entry("", Kind::Directory);
        Manifest { packs: vec![pack], entries: std::iter::once(top).chain(entries).collect() }
    }

    fn content(size: u64) -> Content {
        Content { size, hash: [7; 32] }
    }

    #[test]
    fn is_read_as_it_was_written() {
        let mut with_attribute = entry("d/f", Kind::Packed(content(300), 0, 700));
        with_attribute.xattrs.push((b"user.x".to_vec(), b"\0y".to_vec()));
        let written = manifest(vec![
            entry("d", Kind::Directory),
            with_attribute,
            entry("d/g", Kind::Link(b"d/f".to_vec())),
            entry("d/h", Kind::Symlink(b"../../x".to_vec())),
            entry("d/i", Kind::Inline(b"bytes".to_vec())),
            entry("e", Kind::Split(content(1000), vec![0])),
        ]);
        assert_eq!(Manifest::parse(&written.to_bytes()).unwrap(), written);
        assert_eq!((written.files(), written.bytes()), (3, 1305));
        let encoded = written.encoded();
        for length in 0..encoded.len() {
            assert!(Manifest::decode(&encoded[..length]).is_err());
        }
    }

    #[test]
    fn what_leads_out_or_contradicts_itself_is_refused() {
        let file = || Kind::Inline(Vec::new());
        let hostile: Vec<Vec<Entry>> = vec![
            vec![entry("../x", file())],
            vec![entry("..", file())],
            vec![entry(".", Kind::Directory)],
            vec![entry("/etc", Kind::Directory)],
            vec![entry("a//b", file())],
            vec![entry("a", Kind::Directory), entry("a/..", file())],
            vec![entry("a", Kind::Directory), entry("a/", file())],
            vec![entry("a\0", file())],
            vec![entry("b", file()), entry("a", file())],
            vec![entry("a", file()), entry("a", file())],
            vec![entry("a", Kind::Symlink(b"/etc".to_vec())), entry("a/b", file())],
            vec![entry("a", file()), entry("a/b", file())],
            vec![entry("a/b", file())],
            vec![entry("a", Kind::Link(b"/etc/passwd".to_vec()))],
            vec![entry("a", Kind::Symlink(b"/etc/passwd".to_vec())), entry("b", Kind::Link(b"a".to_vec()))],
            vec![entry("a", Kind::Directory), entry("b", Kind::Link(b"a".to_vec()))],
            vec![entry("a", Kind::Symlink(Vec::new()))],
            vec![entry("a", Kind::Packed(content(400), 0, 700))],
            vec![entry("a", Kind::Packed(content(u64::MAX), 0, 700))],
            vec![entry("a", Kind::Packed(content(1), 1, 0))],
            vec![entry("a", Kind::Split(content(999), vec![0]))],
            vec![entry(&"n".repeat(256), file())],
            vec![Entry { xattrs: vec![(b"trusted.x".to_vec(), Vec::new())], ..entry("a", file()) }],
            vec![Entry {
                xattrs: vec![(OWNER_ATTRIBUTE.into(), b"0:0:c:1:5".to_vec())],
                ..entry("a", file())
            }],
            vec![Entry { mode: 0o20644, ..entry("a", file()) }],
        ];
        for (at, entries) in hostile.into_iter().enumerate() {
            assert!(Manifest::parse(&manifest(entries).to_bytes()).is_err(), "{at}");
        }
        let mut large = manifest(Vec::new());
        large.packs[0].raw = PACK_LIMIT + 1;
        assert!(Manifest::parse(&large.to_bytes()).is_err());
        assert!(Manifest::parse(&Manifest::default().to_bytes()).is_err());
    }
}
