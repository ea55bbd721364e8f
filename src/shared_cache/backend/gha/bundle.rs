//! Small blobs of one build in one entry, and the bytes of a head that say where each of them is.
//!
//! ```text
//! rbuild-gha 1
//! {"bundles":{"KEY":[["sha256:…",OFFSET,SIZE],…]}}
//! the packs
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::oci::{Descriptor, Digest};
use crate::shared_cache::backend::Error;

const FIRST_LINE: &[u8] = b"rbuild-gha 1\n";

/// Blobs of up to so many bytes travel together.
pub(super) const SMALL: u64 = 2 << 20;

/// Where a blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// In which entry.
    pub(super) key: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Blobs and where they are.
pub(super) type Parts = BTreeMap<Digest, Part>;

/// Blobs that become one entry.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    pub(super) bytes: Vec<u8>,
    pub(super) blobs: Vec<(Digest, u64, u64)>,
}

impl Bundle {
    /// Adds a blob; whether it was not there.
    pub(super) fn add(&mut self, digest: Digest, bytes: &[u8]) -> bool {
        if self.blobs.iter().any(|(known, ..)| *known == digest) {
            return false;
        }
        self.blobs.push((digest, self.bytes.len() as u64, bytes.len() as u64));
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// Its blobs, in the entry of that key.
    pub(super) fn parts(&self, key: &str) -> Parts {
        let part = |(digest, offset, size): &(Digest, u64, u64)| {
            (*digest, Part { key: key.to_owned(), offset: *offset, size: *size })
        };
        self.blobs.iter().map(part).collect()
    }
}

#[derive(Serialize, Deserialize, Default)]
struct Line {
    bundles: BTreeMap<String, Vec<(Digest, u64, u64)>>,
}

/// A head: packs, and where those of `blobs` are that are parts.
pub(super) fn to_bytes(pack: &[u8], parts: &Parts, blobs: &[Descriptor]) -> Vec<u8> {
    let named: BTreeSet<Digest> = blobs.iter().map(|blob| blob.digest).collect();
    let mut line = Line::default();
    for (digest, part) in parts.iter().filter(|(digest, _)| named.contains(digest)) {
        line.bundles.entry(part.key.clone()).or_default().push((*digest, part.offset, part.size));
    }
    let mut bytes = FIRST_LINE.to_vec();
    bytes.extend(serde_json::to_vec(&line).expect("texts and numbers"));
    bytes.push(b'\n');
    bytes.extend_from_slice(pack);
    bytes
}

/// What [`to_bytes`] was given.
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<u8>, Parts), Error> {
    let no_pack = || Error::NoPack("it is no head that rbuild wrote".to_owned());
    let rest = bytes.strip_prefix(FIRST_LINE).ok_or_else(no_pack)?;
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(no_pack)?;
    let line: Line = serde_json::from_slice(&rest[..end]).map_err(|_| no_pack())?;
    let mut parts = Parts::new();
    for (key, blobs) in line.bundles {
        let part = |(digest, offset, size)| (digest, Part { key: key.clone(), offset, size });
        // A part is read at once, into memory.
        let is_part =
            |(_, offset, size): &(Digest, u64, u64)| *size <= SMALL && offset.checked_add(*size).is_some();
        parts.extend(blobs.into_iter().filter(is_part).map(part));
    }
    Ok((rest[end + 1..].to_vec(), parts))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::oci::MediaType;

    #[test]
    fn heads_say_where_blobs_are() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let mut bundle = Bundle::default();
        assert!(bundle.add(one, b"one") && bundle.add(two, b"zwei") && !bundle.add(one, b"one"));
        let parts = bundle.parts("k");
        assert_eq!(parts[&two], Part { key: "k".to_owned(), offset: 3, size: 4 });
        let named = [Descriptor::new(MediaType::OCTET_STREAM, two, 4)];
        let bytes = to_bytes(b"pack\nmore", &parts, &named);
        let (pack, read) = parse(&bytes).unwrap();
        assert_eq!((&*pack, read.len(), &read[&two]), (&b"pack\nmore"[..], 1, &parts[&two]));
        let (_, read) = parse(&to_bytes(
            b"",
            &[(one, Part { key: "k".to_owned(), offset: 0, size: SMALL + 1 })].into(),
            &[Descriptor::new(MediaType::OCTET_STREAM, one, SMALL + 1)],
        ))
        .unwrap();
        assert!(read.is_empty(), "{read:?}");
        for wrong in [&b""[..], b"rbuild-gha 1\n", b"rbuild-gha 1\nx\npack", b"rbuild-gha 2\n{}\n"] {
            assert!(matches!(parse(wrong), Err(Error::NoPack(_))), "{wrong:?}");
        }
    }
}
