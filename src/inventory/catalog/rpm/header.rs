//! The header of a package as rpm's databases keep it: a list of tags, and the data that they point into.

use super::super::join;
use crate::inventory::package::{Kind, Package};

/// rpm's own bounds (`hdrchkTags`, `hdrchkData`).
const TAGS: u32 = 0xffff;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const SOURCERPM: u32 = 1044;
const DIRINDEXES: u32 = 1116;
const BASENAMES: u32 = 1117;
const DIRNAMES: u32 = 1118;

struct Header<'b> {
    tags: &'b [u8],
    data: &'b [u8],
}

/// The package that a header is of; none for the public keys that rpm keeps among them.
pub(super) fn package(blob: &[u8], root: &str) -> Result<Option<Package>, String> {
    let damaged = || "a package's header is damaged".to_owned();
    let header = Header::open(blob).ok_or_else(damaged)?;
    let text = |tag| header.strings(tag).next().unwrap_or_default();
    let (name, version, release) = (text(NAME), text(VERSION), text(RELEASE));
    if name.is_empty() || name == "gpg-pubkey" {
        return Ok(None);
    }
    let epoch = header.numbers(EPOCH).next();
    let bare = format!("{version}-{release}");
    let full = epoch.map_or_else(|| bare.clone(), |epoch| format!("{epoch}:{bare}"));
    let mut package = Package::new(Kind::Rpm, name, full);
    package.purl_version = Some(bare);
    package.qualify("arch", &text(ARCH));
    package.qualify("epoch", &epoch.map(|epoch| epoch.to_string()).unwrap_or_default());
    package.qualify("upstream", &text(SOURCERPM));
    package.supplier = text(VENDOR);
    package.licences.extend(Some(text(LICENSE)).filter(|licence| !licence.is_empty()));
    let dirs: Vec<String> = header.strings(DIRNAMES).collect();
    for (base, dir) in header.strings(BASENAMES).zip(header.numbers(DIRINDEXES)) {
        let dir = dirs.get(dir as usize).ok_or_else(damaged)?;
        package.own(&join(root, &format!("{}/{base}", dir.trim_start_matches('/'))));
    }
    Ok(Some(package))
}

impl<'b> Header<'b> {
    fn open(blob: &'b [u8]) -> Option<Self> {
        let (count, rest) = blob.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let count = u32::from_be_bytes(*count);
        if count > TAGS {
            return None;
        }
        let (tags, rest) = rest.split_at_checked(count as usize * 16)?;
        Some(Self { tags, data: rest.get(..u32::from_be_bytes(*len) as usize)? })
    }

    /// Type, count and data of a tag.
    fn find(&self, tag: u32) -> Option<(u32, usize, &'b [u8])> {
        let number = |entry: &[u8], at: usize| {
            let bytes = entry.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_be_bytes)
        };
        let entry = self.tags.chunks_exact(16).find(|entry| number(entry, 0) == tag)?;
        let data = self.data.get(number(entry, 8) as usize..)?;
        Some((number(entry, 4), number(entry, 12) as usize, data))
    }

    /// The strings of a tag of a type that is strings.
    fn strings(&self, tag: u32) -> impl Iterator<Item = String> {
        let (count, data) = match self.find(tag) {
            // STRING, STRING_ARRAY, I18NSTRING
            Some((6, _, data)) => (1, data),
            Some((8 | 9, count, data)) => (count, data),
            _ => (0, &[][..]),
        };
        data.split(|byte| *byte == 0).take(count).map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// The numbers of a tag of type INT32.
    fn numbers(&self, tag: u32) -> impl Iterator<Item = u32> {
        let (count, data) = match self.find(tag) {
            Some((4, count, data)) => (count, data),
            _ => (0, &[][..]),
        };
        data.chunks_exact(4).take(count).map(|four| u32::from_be_bytes(four.try_into().unwrap_or_default()))
    }
}
