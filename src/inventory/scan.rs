//! One layer: which of its files are read, and what they say.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use rayon::prelude::*;

use super::catalog::{Candidate, Cataloger, ELF, Tells, of_file, read_parts};
use super::memory::{FILES, Taken};
use crate::layer::contents::{ContentsError, OpenTar, Reader, Segmented, Wanted, stream};
use crate::layer::index::{Index, Kind, What};

/// What is known of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerInventory {
    /// What its files say, in the order of their paths.
    pub told: Vec<Told>,
    /// Files that look as if they said something, and could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its path from the root.
    pub path: String,
    /// What it says.
    pub tells: Vec<Tells>,
}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Its path from the root.
    pub path: String,
    /// Why.
    pub why: String,
}

/// Reading the same bytes for all names of one file.
struct Job<'i> {
    wanted: Wanted,
    /// Paths, and who reads the file there.
    names: Vec<(&'i str, Vec<&'static dyn Cataloger>)>,
    /// Larger than anybody reads: only its first bytes are looked at.
    is_too_large: bool,
    size: u64,
}

/// As many bytes as all [magics](Cataloger::magic) have at most.
const MAGIC: usize = 4;

/// Reads what tells of packages in a layer.
///
/// # Errors
/// When the blob is not what its index says.
pub fn scan(index: &Index, open: &OpenTar<'_>) -> Result<LayerInventory, ContentsError> {
    let jobs = jobs(index);
    let ranges: Vec<Wanted> = jobs.iter().map(|job| job.wanted).collect();
    let mut inventory = LayerInventory::default();
    let mut current: Option<(usize, State)> = None;
    stream(&ranges, open, |number, piece| {
        let job = &jobs[number];
        if current.as_ref().is_none_or(|(at, _)| *at != number) {
            current = Some((number, State::Gathering(Vec::new(), None)));
        }
        let Some((_, state)) = &mut current else { return Ok(()) };
        if let State::Gathering(bytes, room) = state {
            let was_short = bytes.len() < MAGIC;
            bytes.extend_from_slice(piece);
            let is_known = was_short && bytes.len() >= MAGIC;
            if is_known && !job.is_wanted(bytes) {
                *state = State::Passing;
                return Ok(());
            }
            if is_known {
                *room = Some(FILES.take(job.wanted.len));
                bytes.reserve_exact(usize::try_from(job.wanted.len).unwrap_or(0).saturating_sub(bytes.len()));
            }
            if bytes.len() as u64 == job.wanted.len {
                job.finish(bytes, &mut inventory);
                *state = State::Passing;
            }
        }
        Ok(())
    })?;
    Ok(inventory.sorted())
}

/// So many bytes of files are read by one thread; more of one file.
const PART: u64 = 8 << 20;

/// The same for a layer of which it is known where it can be cut: only what is looked at is read, by several threads.
///
/// # Errors
/// When the blob is not what its index and its segments say.
pub(super) fn scan_parts(index: &Index, layer: &Segmented) -> Result<LayerInventory, ContentsError> {
    let jobs = jobs(index);
    let read = |jobs: &[Job<'_>]| -> Result<LayerInventory, ContentsError> {
        let (mut reader, mut inventory) = (layer.reader(), LayerInventory::default());
        for job in jobs {
            let read = job.read(&mut reader, &mut inventory);
            read.map_err(|source| ContentsError::Layer { layer: 0, source })?;
        }
        Ok(inventory)
    };
    let parts: Vec<LayerInventory> = parts(&jobs).into_par_iter().map(read).collect::<Result<_, _>>()?;
    let mut inventory = LayerInventory::default();
    for LayerInventory { told, unread } in parts {
        inventory.told.extend(told);
        inventory.unread.extend(unread);
    }
    Ok(inventory.sorted())
}

/// Neighbours, about as much in each part.
fn parts<'j, 'i>(mut jobs: &'j [Job<'i>]) -> Vec<&'j [Job<'i>]> {
    let mut parts = Vec::new();
    while !jobs.is_empty() {
        let mut bytes = 0_u64;
        let is_full = |job: &Job<'_>| {
            bytes = bytes.saturating_add(job.wanted.len);
            bytes >= PART
        };
        let count = jobs.iter().position(is_full).map_or(jobs.len(), |last| last + 1);
        let (part, rest) = jobs.split_at(count);
        parts.push(part);
        jobs = rest;
    }
    parts
}

impl LayerInventory {
    fn sorted(mut self) -> Self {
        self.told.sort_by(|a, b| a.path.cmp(&b.path));
        self.unread.sort_by(|a, b| a.path.cmp(&b.path));
        self
    }
}

enum State {
    Gathering(Vec<u8>, Option<Taken<'static>>),
    /// It is read, or nobody wants it.
    Passing,
}

/// The files that somebody may want, by where they are in the layer.
fn jobs(index: &Index) -> Vec<Job<'_>> {
    let mut jobs: BTreeMap<u64, Job<'_>> = BTreeMap::new();
    for record in index.iter() {
        let What::Node(node) = record.what else { continue };
        let Kind::File { size, offset } = node.kind else { continue };
        // Whoever looks for packages looks at paths that are text.
        let (true, Ok(path)) = (size > 0, std::str::from_utf8(record.path)) else { continue };
        let readers: Vec<_> = of_file(Candidate { path, size, mode: node.mode }).collect();
        if readers.is_empty() {
            continue;
        }
        let limit = readers.iter().map(|reader| reader.limit()).max().unwrap_or(0);
        let is_too_large = size > limit;
        let len = if is_too_large { MAGIC as u64 } else { size };
        let job = jobs.entry(offset).or_insert_with(|| Job {
            wanted: Wanted { layer: 0, offset, len },
            names: Vec::new(),
            is_too_large,
            size,
        });
        job.names.push((path, readers));
    }
    jobs.into_values().collect()
}

impl Job<'_> {
    /// Reads what is looked at of the file, and takes down what that says.
    fn read(&self, reader: &mut Reader<'_>, inventory: &mut LayerInventory) -> io::Result<()> {
        let len = usize::try_from(self.wanted.len).map_err(io::Error::other)?;
        let mut begin = vec![0; len.min(MAGIC)];
        reader.read(self.wanted.offset, &mut begin)?;
        if begin.len() == MAGIC && !self.is_wanted(&begin) {
            return Ok(());
        }
        let _room = FILES.take(self.wanted.len);
        let mut bytes = vec![0; len];
        let mut readers =
            self.names.iter().flat_map(|(_, readers)| readers).filter(|one| fits(**one, &begin));
        let is_program = readers.all(|reader| reader.magic() == Some(ELF)) && !self.is_too_large;
        match is_program {
            true => read_parts(&mut bytes, |range, part| {
                reader.read(self.wanted.offset + range.start as u64, part)
            })?,
            false => reader.read(self.wanted.offset, &mut bytes)?,
        }
        self.finish(&bytes, inventory);
        Ok(())
    }

    fn is_wanted(&self, begin: &[u8]) -> bool {
        self.names.iter().flat_map(|(_, readers)| readers).any(|reader| fits(*reader, begin))
    }

    fn finish(&self, bytes: &[u8], inventory: &mut LayerInventory) {
        for (path, readers) in &self.names {
            let mut tells = Vec::new();
            for reader in readers.iter().filter(|reader| fits(**reader, bytes)) {
                let said = match self.is_too_large || self.size > reader.limit() {
                    true => Err(format!("it has {} bytes, more than {}", self.size, reader.limit())),
                    false => reader.read(path, bytes),
                };
                match said {
                    Ok(said) => tells.extend(said),
                    Err(why) => inventory.unread.push(Unread { path: (*path).to_owned(), why }),
                }
            }
            if !tells.is_empty() {
                inventory.told.push(Told { path: (*path).to_owned(), tells });
            }
        }
    }
}

fn fits(reader: &dyn Cataloger, begin: &[u8]) -> bool {
    reader.magic().is_none_or(|magic| begin.starts_with(magic))
}
