//! A snapshot of a mount: which packs of the one before it stay, and which are made.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::{Content, Entry, Kind, Manifest, PACK_LIMIT};
use super::note::{self, Note, note_path};
use super::scan::{Found, in_parallel, read_unknown, scan};
use super::{Error, PackRef};
use crate::layer::unpack::Owners;
use crate::oci::Digest;
use crate::rootfs::Root;

/// A larger file has packs of its own.
const SPLIT: u64 = PACK_LIMIT / 2;
/// Of packs that hold less only [`SMALL_PACKS`] stay.
const SMALL: u64 = 4 << 20;
const SMALL_PACKS: usize = 8;
/// What has changed less than this, and less than a hundredth of the mount, is not worth a snapshot.
const WORTH: u64 = 1 << 20;
/// What an entry counts for beside its bytes.
const ENTRY: u64 = 64;
const LEVEL: i32 = 3;

/// What is to be saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Save {
    /// The mount, which nobody changes meanwhile.
    pub mount: PathBuf,
    /// How its owners are kept.
    pub owners: Owners,
    /// The snapshot that there is.
    pub parent: Parent,
    /// Where new blobs go, each under the digits of its digest. An empty folder.
    pub out: PathBuf,
    /// So many bytes its files may have.
    pub limit: u64,
}

/// The snapshot that there is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Parent {
    /// There is none.
    None,
    /// The one that the note is about.
    Noted,
    /// Its manifest is in this file.
    File(PathBuf),
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Outcome {
    /// There is nothing in it.
    Empty,
    /// The snapshot that there is is good enough.
    Unchanged,
    /// A new one.
    Snapshot {
        /// The manifest's digest and its size; a new blob.
        manifest: (Digest, u64),
        /// The packs that it needs.
        packs: Vec<PackRef>,
        /// Those of them that are new.
        fresh: Vec<PackRef>,
        /// The bytes of its files.
        bytes: u64,
        /// How many files.
        files: u64,
    },
}

/// Looks at a mount, and makes the blobs of a snapshot if it changed enough.
///
/// # Errors
/// [`Error::TooLarge`], and for files that cannot be read. Nothing of the mount is changed.
pub fn save(job: &Save) -> Result<Outcome, Error> {
    let started = note::now();
    let root = Root::open(&job.mount).map_err(Error::file("open", b"."))?;
    let note = Note::read(&note_path(&job.mount));
    let mut found = scan(&root, job.owners, &note)?;
    if found.len() == 1 {
        return Ok(Outcome::Empty);
    }
    let bytes = found.iter().fold(0_u64, |sum, found| sum.saturating_add(found.entry.size()));
    if bytes > job.limit {
        return Err(Error::TooLarge { bytes, limit: job.limit });
    }
    read_unknown(&root, &mut found)?;
    let parent = match &job.parent {
        Parent::None => None,
        Parent::Noted => note.manifest.map(|(_, manifest)| manifest),
        Parent::File(path) => {
            let bytes = crate::rootfs::read_regular(path).map_err(Error::file("read", b"its manifest"))?;
            // One that cannot be read is replaced.
            Manifest::parse(&bytes).ok()
        }
    };
    if let Some(parent) = &parent
        && !is_worth_it(parent, &found, bytes)
    {
        return Ok(Outcome::Unchanged);
    }
    let (manifest, fresh) = Packing::after(parent.as_ref()).pack(&root, &job.out, &mut found)?;
    let written = manifest.to_bytes();
    let digest = Digest::of(&written);
    fs::write(job.out.join(digest.hex()), &written).map_err(Error::file("write", b"a manifest"))?;
    let seen: Vec<_> = found.iter().map(|found| found.seen).collect();
    // Without a note everything is read the next time.
    let _ = note::Note::write(&note_path(&job.mount), (&digest, &manifest), &seen, started);
    Ok(Outcome::Snapshot {
        manifest: (digest, written.len() as u64),
        files: manifest.files(),
        packs: manifest.packs,
        fresh,
        bytes,
    })
}

/// Whether what changed is a mebibyte or a hundredth of the mount.
fn is_worth_it(parent: &Manifest, found: &[Found], total: u64) -> bool {
    let mut before: HashMap<&[u8], &Entry> =
        parent.entries.iter().map(|entry| (entry.path.as_slice(), entry)).collect();
    let mut changed = 0_u64;
    for found in found {
        match before.remove(found.entry.path.as_slice()) {
            Some(entry) if entry.holds_the_same(&found.entry) => {}
            _ => changed += found.entry.size() + ENTRY,
        }
    }
    changed += before.values().map(|entry| entry.size() + ENTRY).sum::<u64>();
    changed >= WORTH || changed > 0 && changed.saturating_mul(100) >= total
}

/// Where contents are.
struct Packing {
    places: HashMap<Content, Kind>,
    packs: Vec<PackRef>,
}

/// A pack that is to be made.
enum Fill {
    /// Of these files.
    Files(Vec<usize>),
    /// Of a piece of one file: where it begins, and how long it is.
    Piece(usize, u64, u64),
}

impl Packing {
    /// Goes on with the packs of the snapshot before, but for those that are mostly dead, and for small ones if there are many.
    fn after(parent: Option<&Manifest>) -> Self {
        let mut packing = Self { places: HashMap::new(), packs: Vec::new() };
        let Some(parent) = parent else { return packing };
        packing.packs.clone_from(&parent.packs);
        for entry in &parent.entries {
            if let Kind::Packed(content, ..) | Kind::Split(content, _) = &entry.kind {
                packing.places.entry(*content).or_insert_with(|| entry.kind.clone());
            }
        }
        packing
    }

    fn pack(
        mut self,
        root: &Root,
        out: &Path,
        found: &mut [Found],
    ) -> Result<(Manifest, Vec<PackRef>), Error> {
        self.forget_dead(found);
        let (fills, first) = (self.plan(found), self.packs.len());
        let made = in_parallel(fills.len(), |at| write(&read(root, &fills[at], found)?, out))?;
        self.packs.extend(&made);
        debug_assert_eq!(self.packs.len(), first + made.len());
        for found in found.iter_mut() {
            if let Kind::Packed(content, ..) | Kind::Split(content, _) = &found.entry.kind
                && let Some(place) = self.places.get(content)
            {
                found.entry.kind = place.clone();
            }
        }
        Ok((self.manifest(found), made))
    }

    /// Forgets packs of which less than half is needed, and small ones if they are many.
    fn forget_dead(&mut self, found: &[Found]) {
        let mut live = vec![0_u64; self.packs.len()];
        let mut counted: BTreeSet<[u8; 32]> = BTreeSet::new();
        for found in found {
            let (Kind::Packed(content, ..) | Kind::Split(content, _)) = &found.entry.kind else { continue };
            if !counted.insert(content.hash) {
                continue;
            }
            match self.places.get(content) {
                Some(Kind::Packed(content, pack, _)) => live[*pack as usize] += content.size,
                Some(Kind::Split(_, packs)) => {
                    packs.iter().for_each(|pack| live[*pack as usize] = self.packs[*pack as usize].raw);
                }
                _ => {}
            }
        }
        let is_small = |raw: u64| raw < SMALL;
        let many = self.packs.iter().filter(|pack| is_small(pack.raw)).count() > SMALL_PACKS;
        let is_kept = |pack: &u32| {
            let (pack, live) = (self.packs[*pack as usize], live[*pack as usize]);
            live.saturating_mul(2) >= pack.raw && !(many && is_small(pack.raw))
        };
        let kept: Vec<bool> = (0..self.packs.len()).map(|pack| is_kept(&(pack as u32))).collect();
        self.places.retain(|_, place| match place {
            Kind::Packed(_, pack, _) => kept[*pack as usize],
            Kind::Split(_, packs) => packs.iter().all(|pack| kept[*pack as usize]),
            Kind::Directory | Kind::Inline(_) | Kind::Symlink(_) | Kind::Link(_) => false,
        });
    }

    /// Gives every content that has none a place in packs that are to be made.
    fn plan(&mut self, found: &[Found]) -> Vec<Fill> {
        let first = self.packs.len();
        let (mut fills, mut open, mut used) = (Vec::new(), Vec::new(), 0);
        let mut waiting = Vec::new();
        for (at, found) in found.iter().enumerate() {
            let (Kind::Packed(content, ..) | Kind::Split(content, _)) = &found.entry.kind else { continue };
            if self.places.contains_key(content) {
                continue;
            }
            if content.size <= SPLIT {
                // The number of its pack is known when all larger files have theirs.
                self.places.insert(*content, Kind::Packed(*content, 0, 0));
                waiting.push((at, *content));
                continue;
            }
            let mut packs = Vec::new();
            let mut offset = 0;
            while offset < content.size {
                let length = PACK_LIMIT.min(content.size - offset);
                packs.push((first + fills.len()) as u32);
                fills.push(Fill::Piece(at, offset, length));
                offset += length;
            }
            self.places.insert(*content, Kind::Split(*content, packs));
        }
        for (at, content) in waiting {
            if used + content.size > PACK_LIMIT {
                fills.push(Fill::Files(std::mem::take(&mut open)));
                used = 0;
            }
            let pack = (first + fills.len()) as u32;
            self.places.insert(content, Kind::Packed(content, pack, used));
            open.push(at);
            used += content.size;
        }
        if !open.is_empty() {
            fills.push(Fill::Files(open));
        }
        fills
    }

    /// The entries with those packs that they need.
    fn manifest(self, found: &[Found]) -> Manifest {
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let mut manifest = Manifest::default();
        for found in found {
            let mut entry = found.entry.clone();
            let mut renumber = |pack: &mut u32| {
                let next = manifest.packs.len() as u32;
                let number = *numbers.entry(*pack).or_insert(next);
                if number == next {
                    manifest.packs.push(self.packs[*pack as usize]);
                }
                *pack = number;
            };
            match &mut entry.kind {
                Kind::Packed(_, pack, _) => renumber(pack),
                Kind::Split(_, packs) => packs.iter_mut().for_each(renumber),
                Kind::Directory | Kind::Inline(_) | Kind::Symlink(_) | Kind::Link(_) => {}
            }
            manifest.entries.push(entry);
        }
        manifest
    }
}

/// The bytes of a pack that is to be made.
fn read(root: &Root, fill: &Fill, found: &[Found]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut append = |at: usize, offset: u64, length: u64| {
        let path = &found[at].entry.path;
        let before = bytes.len() as u64;
        let mut read = || -> io::Result<()> {
            let mut file = root.open_file(Path::new(OsStr::from_bytes(path)))?;
            if offset > 0 {
                file.seek(SeekFrom::Start(offset))?;
            }
            file.take(length).read_to_end(&mut bytes)?;
            match bytes.len() as u64 - before == length {
                true => Ok(()),
                false => Err(io::Error::other("it changed meanwhile")),
            }
        };
        read().map_err(Error::file("read", path))
    };
    match fill {
        Fill::Files(files) => files.iter().try_for_each(|at| append(*at, 0, found[*at].entry.size()))?,
        Fill::Piece(at, offset, length) => append(*at, *offset, *length)?,
    }
    Ok(bytes)
}

/// Writes a pack.
fn write(bytes: &[u8], out: &Path) -> Result<PackRef, Error> {
    let fault = |source| Error::File { action: "write", path: "a pack".to_owned(), source };
    let compressed = zstd::bulk::compress(bytes, LEVEL).map_err(fault)?;
    let digest = Digest::of(&compressed);
    fs::write(out.join(digest.hex()), &compressed).map_err(fault)?;
    Ok(PackRef { digest, size: compressed.len() as u64, raw: bytes.len() as u64 })
}
