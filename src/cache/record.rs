//! What a key produced.
//!
//! As a file it is JSON and, on a line of its own, the BLAKE3 of that: a bit that flips in a diff id or a time gives a record that
//! reads as well as the one that was written, and a wrong image.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Key, Told};
use crate::oci::{ChainId, Layer, Seconds};
use crate::report::FileCounts;

/// Increased when the meaning of a field changes; records of other versions are misses.
const VERSION: u32 = 2;
/// Hex digits of the checksum.
const CHECKSUM_LEN: usize = 64;

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Of the step.
    pub key: Key,
    /// What it produced.
    pub layer: Layer,
    /// The stack with that layer on top.
    pub chain: ChainId,
    /// The step's time, which children inherit.
    pub time: Seconds,
    /// How long the step took when it ran, if that was noted.
    pub took: Option<Duration>,
    /// The indexes that it was made with and that nothing had proven when it was: another place told them.
    pub told: Vec<Told>,
    /// How many files the layer changes, if that was counted.
    pub files: Option<FileCounts>,
    /// The boot in which it was written or last verified; filled in when it is published.
    pub boot_id: String,
}

/// As written.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    key: String,
    layer: Layer,
    chain: ChainId,
    time: Seconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<Told>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<FileCounts>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    boot_id: String,
}

impl Record {
    /// A record to be published.
    pub fn new(key: Key, layer: Layer, chain: ChainId, time: Seconds) -> Self {
        Self { key, layer, chain, time, took: None, told: Vec::new(), files: None, boot_id: String::new() }
    }

    /// As it is handed to other machines: without what is true of this one only.
    pub fn portable(&self) -> Vec<u8> {
        Self { boot_id: String::new(), ..self.clone() }.to_bytes()
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written {
            version: VERSION,
            key: self.key.hex(),
            layer: self.layer.clone(),
            chain: self.chain,
            time: self.time,
            took_ms: self.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            told: self.told.clone(),
            files: self.files,
            boot_id: self.boot_id.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&written)
            .expect("these types have string keys and no failing serialisers");
        bytes.push(b'\n');
        let checksum = blake3::hash(&bytes).to_hex();
        bytes.extend_from_slice(checksum.as_bytes());
        bytes.push(b'\n');
        bytes
    }

    /// What [`Record::to_bytes`] or [`Record::portable`] gave. `None` for anything that is no record of this version, and for
    /// one that is damaged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (json, checksum) = bytes.strip_suffix(b"\n")?.split_last_chunk::<CHECKSUM_LEN>()?;
        (blake3::hash(json).to_hex().as_bytes() == checksum).then_some(())?;
        let written: Written = serde_json::from_slice(json).ok()?;
        let Written { version, key, layer, chain, time, took_ms, told, files, boot_id } = written;
        (version == VERSION).then_some(())?;
        let took = took_ms.map(Duration::from_millis);
        Some(Self { key: Key::from_hex(&key)?, layer, chain, time, took, told, files, boot_id })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oci::{Descriptor, DiffId, Digest, MediaType};

    #[test]
    fn a_portable_record_knows_no_machine() {
        let digest = Digest::of(b"layer");
        let layer =
            Layer { descriptor: Descriptor::new(MediaType::LAYER_GZIP, digest, 5), diff_id: DiffId(digest) };
        let key = Key::from_hex(&"ab".repeat(32)).unwrap();
        let record = Record::new(key, layer.clone(), ChainId::of(&[layer.diff_id]), 7);
        let here = Record { boot_id: "b-o-o-t".to_owned(), took: Some(Duration::from_millis(3)), ..record };
        let portable = here.portable();
        assert!(!String::from_utf8_lossy(&portable).contains("boot"));
        assert_eq!(Record::parse(&portable).unwrap(), Record { boot_id: String::new(), ..here.clone() });
        assert_eq!(Record::parse(&here.to_bytes()).unwrap(), here);
    }
}
