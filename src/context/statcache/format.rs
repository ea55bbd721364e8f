//! The bytes of a stat cache: magic, checksum, counts; mounts; directories; records; a heap of paths and names.
//! Little-endian.
//!
//! It is read whole, not mapped: mapping needs `unsafe`, and reading the 5 MB of 50,000 files takes about as long as
//! the checksum over them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use crate::context::listing::Meta;
use crate::context::path;

pub(super) const MAGIC: &[u8; 8] = b"rbstat\0\x03";
const CHECKSUM_BYTES: usize = 32;
/// Magic, BLAKE3 of all that follows it, a hash of the boot, and the numbers of mounts, directories and records.
const HEADER_BYTES: usize = 8 + CHECKSUM_BYTES + 8 + 4 + 4 + 4;
/// A device, and the id of the mount that it was found by.
const MOUNT_BYTES: usize = 16;
const DIRECTORY_BYTES: usize = 64;
const RECORD_BYTES: usize = 88;
/// 500,000 records with names of 200 bytes stay well below this.
const SIZE_LIMIT_BYTES: u64 = 512 << 20;

/// What tells a file or directory from any other, and from what it was before it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Identity {
    pub(super) device: u64,
    inode: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
}

impl From<&Meta> for Identity {
    fn from(meta: &Meta) -> Self {
        let Meta { mode: _, links: _, size: _, device, inode, mtime, ctime } = *meta;
        Self { device, inode, mtime, ctime }
    }
}

/// What identified a file when it was digested, and the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) identity: Identity,
    size: u64,
    pub(super) digest: [u8; 32],
}

impl Record {
    pub(super) fn new(meta: &Meta, digest: [u8; 32]) -> Self {
        Self { identity: meta.into(), size: meta.size, digest }
    }

    /// Whether `meta` is of the same, unchanged file.
    pub(super) fn describes(&self, meta: &Meta) -> bool {
        *self == Self::new(meta, self.digest)
    }
}

/// A cache file in memory: either whole and verified, or empty.
#[derive(Debug, Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    mounts: usize,
    directories: usize,
    records: usize,
}

/// One directory of a [`Table`].
#[derive(Debug, Clone)]
pub(super) struct Directory {
    /// Its number.
    pub(super) number: usize,
    /// The records of its files, sorted by name.
    pub(super) records: Range<usize>,
    /// Of the directory when all its names were read; `None` if they were not.
    pub(super) identity: Option<Identity>,
    names: Range<usize>,
}

impl Table {
    /// Reads a cache file; anything wrong with it gives the empty table, and so does one of another boot.
    pub(super) fn read(file: &Path, boot: u64) -> Self {
        let small = std::fs::metadata(file).is_ok_and(|metadata| metadata.len() <= SIZE_LIMIT_BYTES);
        let bytes = if small { crate::rootfs::read_regular(file).unwrap_or_default() } else { Vec::new() };
        Self::verify(bytes, boot).unwrap_or_default()
    }

    /// A cache file of this boot from its bytes; `None` for anything that is none.
    pub(super) fn verify(bytes: Vec<u8>, boot: u64) -> Option<Self> {
        let body = bytes.strip_prefix(MAGIC)?;
        let (checksum, body) = body.split_at_checked(CHECKSUM_BYTES)?;
        if blake3::hash(body).as_bytes() != checksum {
            return None;
        }
        let count = |at| u32_at(body, at).map(|count| count as usize);
        let (is_of_this_boot, mounts) = (u64_at(body, 0)? == boot, count(8)?);
        let table = Self { directories: count(12)?, records: count(16)?, bytes, mounts };
        (is_of_this_boot && table.is_sound()).then_some(table)
    }

    /// Whether everything that it points at is in it, and names are names; so no file can make this program panic, or look
    /// elsewhere than in the context.
    fn is_sound(&self) -> bool {
        let mut seen = 0;
        let is_sound = |number| {
            let Directory { records, names, .. } = self.directory(number);
            let path = self.heap_range(self.directory_bytes(number), 0);
            // Each record is of one directory, and is named there.
            let follows = records.start == seen && seen <= records.end && records.end <= self.records;
            seen = records.end;
            follows
                && path.end <= self.bytes.len()
                && self.bytes.get(names.clone()).is_some_and(are_names)
                && records.into_iter().all(|number| self.is_named(number, &names))
        };
        self.heap_at() <= self.bytes.len() && (0..self.directories).all(is_sound) && seen == self.records
    }

    /// Whether the name of a record is one of `names`.
    fn is_named(&self, number: usize, names: &Range<usize>) -> bool {
        let Range { start, end } = self.heap_range(self.record_bytes(number), 0);
        names.start <= start
            && end < names.end
            && (start == names.start || self.bytes[start - 1] == 0)
            && self.bytes[end] == 0
    }

    /// How many files it knows.
    pub(super) fn len(&self) -> usize {
        self.records
    }

    /// Each device, and the mount that it was found by.
    pub(super) fn mounts(&self) -> impl Iterator<Item = (u64, u64)> {
        let of = |at| (u64_at(&self.bytes, at).unwrap_or(0), u64_at(&self.bytes, at + 8).unwrap_or(0));
        (0..self.mounts).map(move |number| of(HEADER_BYTES + number * MOUNT_BYTES))
    }

    /// The mount that `device` was found by.
    pub(super) fn mount(&self, device: u64) -> Option<u64> {
        self.mounts().find(|(of, _)| *of == device).map(|(_, mount)| mount)
    }

    pub(super) fn directories(&self) -> impl Iterator<Item = Directory> {
        (0..self.directories).map(|number| self.directory(number))
    }

    /// The directory with this number, which must be there.
    fn directory(&self, number: usize) -> Directory {
        let bytes = self.directory_bytes(number);
        let first = u32_at(bytes, 16).unwrap_or(0) as usize;
        let count = u32_at(bytes, 20).unwrap_or(0) as usize;
        let identity = identity_at(bytes, 24);
        Directory {
            number,
            records: first..first.saturating_add(count),
            identity: (identity != Identity::default()).then_some(identity),
            names: self.heap_range(bytes, 8),
        }
    }

    /// The directory at `at`.
    pub(super) fn find(&self, at: &[u8]) -> Option<Directory> {
        let number = search(0..self.directories, |number| path::compare(self.path(number), at))?;
        Some(self.directory(number))
    }

    /// The path of the directory with this number.
    pub(super) fn path(&self, number: usize) -> &[u8] {
        &self.bytes[self.heap_range(self.directory_bytes(number), 0)]
    }

    /// The names in a directory: all of them if it has an identity, else those of its records. Sorted, a zero byte
    /// behind each.
    pub(super) fn names(&self, directory: &Directory) -> &[u8] {
        &self.bytes[directory.names.clone()]
    }

    /// The number of the record of `name` among `records`, those of one directory.
    pub(super) fn find_record(&self, records: Range<usize>, name: &[u8]) -> Option<usize> {
        search(records, |number| self.name(number).cmp(name))
    }

    /// The name of the file with this number.
    pub(super) fn name(&self, number: usize) -> &[u8] {
        &self.bytes[self.heap_range(self.record_bytes(number), 0)]
    }

    /// The record with this number, which must be there.
    pub(super) fn record(&self, number: usize) -> Record {
        let bytes = self.record_bytes(number);
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[56..88]);
        Record { identity: identity_at(bytes, 8), size: u64_at(bytes, 48).unwrap_or(0), digest }
    }

    fn directory_bytes(&self, number: usize) -> &[u8] {
        let start = self.directories_at() + number * DIRECTORY_BYTES;
        &self.bytes[start..start + DIRECTORY_BYTES]
    }

    fn record_bytes(&self, number: usize) -> &[u8] {
        let start = self.directories_at() + self.directories * DIRECTORY_BYTES + number * RECORD_BYTES;
        &self.bytes[start..start + RECORD_BYTES]
    }

    fn directories_at(&self) -> usize {
        HEADER_BYTES + self.mounts * MOUNT_BYTES
    }

    fn heap_at(&self) -> usize {
        self.directories_at() + self.directories * DIRECTORY_BYTES + self.records * RECORD_BYTES
    }

    /// What two numbers at `at` say of the heap: start and length.
    fn heap_range(&self, bytes: &[u8], at: usize) -> Range<usize> {
        let (start, len) = (u32_at(bytes, at).unwrap_or(0), u32_at(bytes, at + 4).unwrap_or(0));
        let start = self.heap_at() + start as usize;
        start..start + len as usize
    }
}

/// Whether these are names as [`Table::names`] has them, none of which leads out of its directory.
fn are_names(names: &[u8]) -> bool {
    // Looking at every name would double the time of reading the table; few begin with a dot.
    let begins_with_dot = |pair: &[u8]| (pair[0] == 0) & (pair[1] == b'.');
    let has_dot = names.first() == Some(&b'.')
        || names.windows(2).fold(false, |found, pair| found | begins_with_dot(pair));
    let is_name = |name: &[u8]| !matches!(name, b"." | b"..");
    matches!(names.last(), None | Some(0))
        && !names.contains(&b'/')
        && (!has_dot || names.split(|byte| *byte == 0).all(is_name))
}

/// The number in `range` that `compare` finds equal.
fn search(range: Range<usize>, compare: impl Fn(usize) -> std::cmp::Ordering) -> Option<usize> {
    let Range { start: mut low, end: mut high } = range;
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// Puts a cache file together, directory by directory in the order of their paths.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    mounts: BTreeMap<u64, u64>,
    directories: Vec<u8>,
    records: Vec<u8>,
    heap: Vec<u8>,
}

impl Encoder {
    /// Says of each device that records are of which mount it was found by.
    pub(super) fn found_by(self, mounts: BTreeMap<u64, u64>) -> Self {
        Self { mounts, ..self }
    }

    /// Adds a directory and the records of files in it, sorted by name. With an identity, `names` are all names in the
    /// directory, sorted, with a zero byte behind each. A record that is not among them shows that they are not all.
    pub(super) fn add<'n>(
        &mut self,
        path: &[u8],
        all: Option<(Identity, &[u8])>,
        records: impl Iterator<Item = (&'n [u8], Record)> + Clone,
    ) {
        let all = all.filter(|(_, names)| has_all(names, records.clone().map(|(name, _)| name)));
        let first = self.records.len() / RECORD_BYTES;
        let path = self.store(path);
        let names_at = self.heap.len();
        match all {
            Some((_, names)) => self.heap.extend_from_slice(names),
            None => records.clone().for_each(|(name, _)| self.heap.extend(name.iter().chain(&[0]))),
        }
        let names = (names_at as u32, (self.heap.len() - names_at) as u32);
        let mut at = names_at;
        for (name, record) in records {
            // Both are sorted, and every name is there.
            while !(self.heap[at..].starts_with(name) && self.heap[at + name.len()] == 0) {
                at += self.heap[at..].iter().take_while(|byte| **byte != 0).count() + 1;
            }
            push_numbers(&mut self.records, &[at as u32, name.len() as u32]);
            push_identity(&mut self.records, &record.identity);
            self.records.extend_from_slice(&record.size.to_le_bytes());
            self.records.extend_from_slice(&record.digest);
        }
        let count = self.records.len() / RECORD_BYTES - first;
        push_numbers(&mut self.directories, &[path.0, path.1, names.0, names.1, first as u32, count as u32]);
        push_identity(&mut self.directories, &all.map_or(Identity::default(), |(identity, _)| identity));
    }

    /// Writes the whole file.
    pub(super) fn write(self, file: &mut impl Write, boot: u64) -> io::Result<()> {
        let mut counts = boot.to_le_bytes().to_vec();
        let count = |bytes: &[u8], each: usize| (bytes.len() / each) as u32;
        push_numbers(
            &mut counts,
            &[
                self.mounts.len() as u32,
                count(&self.directories, DIRECTORY_BYTES),
                count(&self.records, RECORD_BYTES),
            ],
        );
        let mounts: Vec<u8> = self
            .mounts
            .iter()
            .flat_map(|(device, mount)| [*device, *mount])
            .flat_map(u64::to_le_bytes)
            .collect();
        let parts = [&counts, &mounts, &self.directories, &self.records, &self.heap];
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        file.write_all(MAGIC)?;
        file.write_all(hasher.finalize().as_bytes())?;
        parts.iter().try_for_each(|part| file.write_all(part))
    }

    fn store(&mut self, bytes: &[u8]) -> (u32, u32) {
        let start = self.heap.len() as u32;
        self.heap.extend_from_slice(bytes);
        (start, bytes.len() as u32)
    }
}

/// Whether all of `wanted` are among `names`; both are sorted.
fn has_all<'n>(names: &[u8], mut wanted: impl Iterator<Item = &'n [u8]>) -> bool {
    let mut names = names.split(|byte| *byte == 0);
    wanted.all(|wanted| names.any(|name| name == wanted))
}

fn push_numbers(bytes: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
}

/// 40 bytes.
fn push_identity(bytes: &mut Vec<u8>, identity: &Identity) {
    let Identity { device, inode, mtime, ctime } = *identity;
    let numbers = [device, inode, mtime.0 as u64, ctime.0 as u64];
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    push_numbers(bytes, &[mtime.1, ctime.1]);
}

fn identity_at(bytes: &[u8], at: usize) -> Identity {
    let u64_of = |place: usize| u64_at(bytes, at + place).unwrap_or(0);
    let u32_of = |place: usize| u32_at(bytes, at + place).unwrap_or(0);
    Identity {
        device: u64_of(0),
        inode: u64_of(8),
        mtime: (u64_of(16) as i64, u32_of(32)),
        ctime: (u64_of(24) as i64, u32_of(36)),
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
