//! Records that travel: the value, and its bytes.
//!
//! A pack is JSON compressed with zstd, and a checksum. What it says of a step is its record, without what is true of one machine, and *clues*: for each field of the preimage its name and 16 bits of a hash of its value. A miss on a new
//! machine can so be explained, while build arguments and names of files cannot be read from the cache; to confirm a guess of one
//! argument takes more than 16 bits (the key itself confirms a guess of all fields together, as it must).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mounts::Snapshot;
use crate::cache::{Field, Key, Preimage, Record, Told};
use crate::oci::{ChainId, Descriptor, DiffId, Digest, Layer, MediaType, Seconds};

/// Increased when the meaning of a field changes; packs of other versions are not read.
const VERSION: u32 = 1;
/// A pack that is larger is not read: some 100,000 records.
pub const LIMIT: u64 = 64 << 20;
/// As bytes that travel.
pub const COMPRESSED_LIMIT: u64 = 16 << 20;
/// Fields of a preimage that have a clue of their own; of more, such as the files of a COPY, all have one together.
const CLUES: usize = 64;
/// zstd's level: packs are small, and written once.
const LEVEL: i32 = 9;

/// The records of one build, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pack {
    /// By their keys.
    pub entries: BTreeMap<Key, Entry>,
    /// The indexes of layers, those of bases too, as blobs: what [`Index::to_bytes`](crate::layer::index::Index::to_bytes)
    /// gives, compressed with zstd.
    pub indexes: BTreeMap<DiffId, Kept>,
    /// Packs that writers left beside the head and that are merged here.
    pub folded: BTreeSet<String>,
    /// References of images that were pushed with layers of these records, whose repositories have them, and the days on
    /// which that was, in seconds since 1970.
    pub images: BTreeMap<String, Seconds>,
    /// Cache mounts, by [what they are called](super::mounts::name).
    pub mounts: BTreeMap<String, Snapshot>,
}

/// What is known of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the step produced.
    pub record: Record,
    /// Which step it is, on every machine: a hash of its place in the Dockerfile.
    pub slot: String,
    /// Of the fields of its preimage, in their order.
    pub clues: Vec<Clue>,
    /// How often it was made anew with `--no-cache`: of two records of one key the higher stands.
    pub generation: u32,
    /// When it was written, in seconds since 1970.
    pub written: Seconds,
    /// The day on which it was used last, in seconds since 1970.
    pub used: Seconds,
    /// Who wrote it: what the pipeline is called, as far as it says.
    pub writer: String,
    /// Whether the step had secrets or an ssh agent.
    pub had_secrets: bool,
}

/// A blob that is no layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its SHA-256.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The day on which it was used last, in seconds since 1970.
    pub used: Seconds,
}

/// A field of a preimage, as far as others may know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clue(pub String, pub u16);

/// As written.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    images: BTreeMap<String, Seconds>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    indexes: BTreeMap<DiffId, Kept>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    folded: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    mounts: BTreeMap<String, Snapshot>,
    records: Vec<WrittenEntry>,
}

#[derive(Serialize, Deserialize)]
struct WrittenEntry {
    key: String,
    layer: Layer,
    chain: ChainId,
    time: Seconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<Told>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    slot: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    clues: Vec<Clue>,
    #[serde(default, skip_serializing_if = "is_zero")]
    generation: u32,
    written: Seconds,
    used: Seconds,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    writer: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    secrets: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Pack {
    /// Its bytes; the same for the same pack.
    pub fn to_bytes(&self) -> Vec<u8> {
        with_checksum(zstd::bulk::compress(&self.to_json(), LEVEL).expect("memory is written to"))
    }

    /// Whether [`Pack::parse`] reads what [`Pack::to_bytes`] gives.
    pub fn fits(&self) -> bool {
        // What most packs come to is far below.
        let is_small = self.entries.len() + self.indexes.len() < 10_000;
        is_small || self.to_json().len() as u64 <= LIMIT && self.to_bytes().len() as u64 <= COMPRESSED_LIMIT
    }

    fn to_json(&self) -> Vec<u8> {
        let records = self.entries.values().map(Entry::written_as).collect();
        let written = Written {
            version: VERSION,
            images: self.images.clone(),
            indexes: self.indexes.clone(),
            folded: self.folded.clone(),
            mounts: self.mounts.clone(),
            records,
        };
        serde_json::to_vec(&written).expect("these types have string keys and no failing serialisers")
    }

    /// What [`Pack::to_bytes`] gave. Records whose key is none are left out.
    ///
    /// # Errors
    /// In words, for bytes that are no pack of this version, and for those of more than [`LIMIT`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        Self::parse_within(bytes, &mut LIMIT.clone())
    }

    /// As [`Pack::parse`], for several that share a limit: what this one comes to is taken off it.
    pub(super) fn parse_within(bytes: &[u8], limit: &mut u64) -> Result<Self, String> {
        let no_pack = |error: &dyn std::fmt::Display| format!("it is no pack of records: {error}");
        let bytes = without_checksum(bytes).ok_or("it is no pack of records, or was damaged on the way")?;
        let mut json = Vec::new();
        let reader = zstd::stream::read::Decoder::new(bytes).map_err(|e| no_pack(&e))?;
        reader.take(*limit + 1).read_to_end(&mut json).map_err(|e| no_pack(&e))?;
        *limit = limit
            .checked_sub(json.len() as u64)
            .ok_or_else(|| format!("its records are larger than {} MiB", LIMIT >> 20))?;
        Self::parse_json(&json)
    }

    /// As [`Pack::parse`], of what is compressed there.
    ///
    /// # Errors
    /// In words, for bytes that are no pack of this version.
    pub fn parse_json(json: &[u8]) -> Result<Self, String> {
        let no_pack = |error: &dyn std::fmt::Display| format!("it is no pack of records: {error}");
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(json).map_err(|e| no_pack(&e))?;
        if version != VERSION {
            return Err(format!(
                "it was written by another version of rbuild (format {version}, not {VERSION})"
            ));
        }
        let Written { images, indexes, folded, mounts, records, .. } =
            serde_json::from_slice(json).map_err(|e| no_pack(&e))?;
        let entries = records.into_iter().filter_map(Entry::read).map(|entry| (entry.record.key, entry));
        Ok(Self { entries: entries.collect(), indexes, folded, images, mounts })
    }

    /// Blobs of what was used on a later day than `before` knew, each once.
    pub(super) fn used_since(&self, before: &Self) -> Vec<Digest> {
        let is_later = |known: Option<Seconds>, used: Seconds| known.is_some_and(|known| known < used);
        let layers = self
            .entries
            .iter()
            .filter(|(key, entry)| is_later(before.entries.get(*key).map(|known| known.used), entry.used));
        let indexes = self.indexes.iter().filter(|(layer, index)| {
            is_later(before.indexes.get(*layer).map(|known| known.used), index.used)
        });
        let mounts = self
            .mounts
            .iter()
            .filter(|(name, mount)| is_later(before.mounts.get(*name).map(|known| known.used), mount.used));
        let mut used: BTreeSet<Digest> =
            layers.map(|(_, entry)| entry.record.layer.descriptor.digest).collect();
        used.extend(indexes.map(|(_, index)| index.digest));
        used.extend(mounts.flat_map(|(_, mount)| mount.blobs()).map(|blob| blob.digest));
        used.into_iter().collect()
    }

    /// All blobs that it names, each once.
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut seen = BTreeSet::new();
        let layers = self.entries.values().map(|entry| entry.record.layer.descriptor.clone());
        let mounts = self.mounts.values().flat_map(Snapshot::blobs);
        let all = layers.chain(self.indexes.values().map(Kept::descriptor)).chain(mounts);
        all.filter(|blob| seen.insert(blob.digest)).collect()
    }
}

impl Entry {
    fn written_as(&self) -> WrittenEntry {
        // What a layer changes is seen in its index.
        let Record { key, layer, chain, time, took, told, files: _, boot_id: _ } = &self.record;
        WrittenEntry {
            key: key.hex(),
            layer: layer.clone(),
            chain: *chain,
            time: *time,
            took_ms: took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            told: told.clone(),
            slot: self.slot.clone(),
            clues: self.clues.clone(),
            generation: self.generation,
            written: self.written,
            used: self.used,
            writer: self.writer.clone(),
            secrets: self.had_secrets,
        }
    }

    fn read(written: WrittenEntry) -> Option<Self> {
        let took = written.took_ms.map(Duration::from_millis);
        let key = Key::from_hex(&written.key)?;
        let new = Record::new(key, written.layer, written.chain, written.time);
        let record = Record { took, told: written.told, ..new };
        Some(Self {
            record,
            slot: written.slot,
            clues: written.clues,
            generation: written.generation,
            written: written.written,
            used: written.used,
            writer: written.writer,
            had_secrets: written.secrets,
        })
    }
}

impl Kept {
    /// Of these bytes, used on `day`.
    pub fn of(bytes: &[u8], day: Seconds) -> Self {
        Self { digest: Digest::of(bytes), size: bytes.len() as u64, used: day }
    }

    /// As others name blobs.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(MediaType::OCTET_STREAM, self.digest, self.size)
    }
}

/// What others may know of a preimage. The key, which is in the record, salts the hashes, so that the same value looks
/// different in each step.
pub fn clues(key: &Key, preimage: &Preimage) -> Vec<Clue> {
    let fields: Vec<Field<'_>> = preimage.fields().collect();
    let (single, many) = fields.split_at(fields.len().min(CLUES));
    let mut clues: Vec<Clue> = single
        .iter()
        .map(|field| Clue(shown_name(field.name).to_owned(), hashed(key, [*field].into_iter())))
        .collect();
    if !many.is_empty() {
        clues.push(Clue("files".to_owned(), hashed(key, many.iter().copied())));
    }
    clues
}

/// Whether the step of a preimage had secrets or an ssh agent.
pub(super) fn had_secrets(preimage: &Preimage) -> bool {
    let is_secret = |value: &str| value.starts_with("secret") || value.starts_with("ssh");
    preimage.fields().any(|field| field.name.starts_with("mount:") && is_secret(field.value))
}

/// The names of clues that differ, each once: whether it was there before, and is now. Both are salted with the same key.
pub fn changed<'c>(before: &'c [Clue], now: &'c [Clue]) -> Vec<(&'c str, bool, bool)> {
    let by_name = |clues: &'c [Clue]| {
        let mut map: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
        clues.iter().for_each(|Clue(name, hash)| map.entry(name).or_default().push(*hash));
        map
    };
    let (before, now) = (by_name(before), by_name(now));
    let names: BTreeSet<&str> = before.keys().chain(now.keys()).copied().collect();
    let differs = |name: &&str| before.get(name) != now.get(name);
    let differing = names.into_iter().filter(differs);
    differing.map(|name| (name, before.contains_key(name), now.contains_key(name))).collect()
}

/// Names of fields say which argument or mount it is; those of files stay here.
fn shown_name(name: &str) -> &str {
    match name.split_once(':') {
        Some(("file", _)) => "file",
        _ => name,
    }
}

fn hashed<'f>(key: &Key, fields: impl Iterator<Item = Field<'f>>) -> u16 {
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    for Field { name, value } in fields {
        for text in [name, value] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    let [a, b, ..] = *hasher.finalize().as_bytes();
    u16::from_le_bytes([a, b])
}

/// Behind the bytes their BLAKE3: nothing else vouches for a head, which has no name by digest, and a digit that flips in a record
/// gives another image.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(sum.as_bytes());
    bytes
}

/// The bytes before a checksum that is right.
pub(super) fn without_checksum(bytes: &[u8]) -> Option<&[u8]> {
    let (bytes, sum) = bytes.split_last_chunk()?;
    (blake3::hash(bytes).as_bytes() == sum).then_some(bytes)
}

/// A step's slot on every machine: its place in the Dockerfile, hashed.
pub fn slot(name: &str) -> String {
    blake3::hash(format!("rbuild slot 1\n{name}").as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::shared_cache::{Bounds, bound, merge};

    /// A step whose layer has so many bytes and took so long, written then.
    fn entry(number: u8, size: u64, took_ms: u64, written: Seconds) -> Entry {
        let digest = Digest::of(&[number]);
        let layer = Layer {
            descriptor: Descriptor::new(MediaType::LAYER_GZIP, digest, size),
            diff_id: DiffId(digest),
        };
        let key = Key::from_hex(&format!("{number:064x}")).unwrap();
        let record = Record::new(key, layer.clone(), ChainId::of(&[layer.diff_id]), 7);
        Entry {
            record: Record { took: Some(Duration::from_millis(took_ms)), ..record },
            slot: "0123456789abcdef".to_owned(),
            clues: vec![Clue("command".to_owned(), 17)],
            generation: 0,
            written,
            used: written,
            writer: String::new(),
            had_secrets: false,
        }
    }

    fn pack(entries: impl IntoIterator<Item = Entry>) -> Pack {
        let entries = entries.into_iter().map(|entry| (entry.record.key, entry)).collect();
        Pack { entries, ..Pack::default() }
    }

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let pack = pack([entry(1, 10, 5, 3), entry(2, 20, 6, 4)]);
        let bytes = pack.to_bytes();
        assert_eq!(Pack::parse(&bytes), Ok(pack));
        assert!(Pack::parse(&bytes[..bytes.len() / 2]).is_err());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(Pack::parse(&damaged).is_err(), "byte {at}");
        }
        let other = with_checksum(zstd::bulk::compress(br#"{"version":2,"records":0}"#, 1).unwrap());
        assert!(Pack::parse(&other).unwrap_err().contains("another version"));
        let blanks = vec![b' '; usize::try_from(LIMIT).unwrap() + 1];
        let bomb = with_checksum(zstd::bulk::compress(&blanks, 1).unwrap());
        assert!(Pack::parse(&bomb).unwrap_err().contains("64 MiB"));
    }

    #[test]
    fn the_older_of_two_records_stands_unless_one_was_made_anew() {
        let (old, young) = (entry(1, 10, 5, 3), Entry { written: 9, used: 9, ..entry(1, 11, 5, 3) });
        let merged = merge(pack([young.clone()]), pack([old.clone()]));
        assert_eq!(merged, merge(pack([old.clone()]), pack([young.clone()])));
        let stands = &merged.entries[&old.record.key];
        assert_eq!((stands.written, stands.used, &stands.record), (3, 9, &old.record));
        let anew = Entry { generation: 1, ..young };
        let merged = merge(pack([old]), pack([anew.clone()]));
        assert_eq!(merged.entries[&anew.record.key], anew);
    }

    #[test]
    fn the_newer_of_two_snapshots_stands() {
        let snapshot = |written, used, manifest: &[u8]| Snapshot {
            manifest: Digest::of(manifest),
            size: 100,
            packs: Vec::new(),
            bytes: 7,
            files: 1,
            written,
            used,
            writer: String::new(),
            secrets: false,
        };
        let pack =
            |snapshot| Pack { mounts: BTreeMap::from([("m".to_owned(), snapshot)]), ..Pack::default() };
        let (old, young) = (snapshot(3, 9, b"old"), snapshot(4, 8, b"young"));
        let merged = merge(pack(old.clone()), pack(young.clone()));
        assert_eq!(merged, merge(pack(young.clone()), pack(old)));
        assert_eq!(merged.mounts["m"], Snapshot { used: 9, ..young });
        assert_eq!(Pack::parse(&merged.to_bytes()), Ok(merged.clone()));
        // What was used longest ago goes first.
        let mut bounded = merged;
        bounded.mounts.insert("a".to_owned(), snapshot(1, 1, b"n"));
        bound(&mut bounded, Bounds { mounts: Some(150), ..Bounds::default() }, 9);
        assert_eq!(bounded.mounts.into_keys().collect::<Vec<_>>(), ["m"]);
    }

    #[test]
    fn what_saves_least_goes_first() {
        let mut full = pack([entry(1, 100, 60_000, 3), entry(2, 100, 10, 3), entry(3, 10, 5000, 3)]);
        assert_eq!(bound(&mut full, Bounds { size: Some(120), ..Bounds::default() }, 3), 1);
        assert!(!full.entries.contains_key(&entry(2, 0, 0, 0).record.key));
        let day = 24 * 3600;
        let mut old = pack([entry(1, 1, 1, 0), entry(2, 1, 1, 30 * day)]);
        let month = Bounds { age: Some(Duration::from_secs(7 * 24 * 3600)), ..Bounds::default() };
        assert_eq!(bound(&mut old, month, 31 * day), 1);
    }

    #[test]
    fn clues_tell_names_and_not_values() {
        let mut preimage = Preimage::new("run/1");
        preimage.push("arg:TOKEN", "hunter2");
        (0..100).for_each(|file| preimage.push(format!("file:secret-{file}"), "content"));
        let text = format!("{:?}", clues(&preimage.key(), &preimage));
        assert!(text.contains("arg:TOKEN") && text.contains("\"file\"") && text.contains("files"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("secret-"), "{text}");
        assert!(clues(&preimage.key(), &preimage).len() <= CLUES + 1);
    }
}
