//! Fills, compresses, hashes and writes the segments of a layer.
//!
//! Workers fill and compress; the calling thread brings the segments into order, hashes the blob's
//! bytes and writes them; one more thread hashes the tar, which is one serial stream and would
//! otherwise be the longest wait. Buffers go round from the workers through both and back: their
//! number is what bounds memory and what slows the workers down when the sink is slow.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::fill::fill;
use super::layout::Layout;
use super::memory::{self, Segments, Start, Written};
use super::pieces::{Piece, Pieces};
use super::watch::Borders;
use super::{Memory, WriteError, stargz};
use crate::layer::compress::Compression;
use crate::layer::entry::{Content, Entry, EntryKind};
use crate::layer::member::{Sum, SumState};
use crate::oci::{Digest, Hasher, HasherState};
use crate::tripwire::{Hit, Scanner};

/// More workers than this only wait for the thread that hashes the tar (1.8 GB/s against 0.2-0.4 for each).
const MAX_WORKERS: usize = 12;

/// Layers of fewer segments than this are compressed as a whole.
const MIN_REMEMBERED: usize = 8;

/// What was written.
pub(super) struct Identity {
    /// Digest of the tar.
    pub(super) raw: Digest,
    /// Digest of the blob.
    pub(super) packed: Digest,
    /// Size of the blob in bytes.
    pub(super) packed_size: u64,
    /// What a later layer can use again.
    pub(super) segments: Segments,
    /// What follows the tar in an eStargz layer.
    pub(super) table: Option<stargz::End>,
    /// What a scanner hit upon, at places of the tar.
    pub(super) hits: Vec<Hit>,
}

/// What all threads share.
struct Job<'a> {
    entries: &'a [Entry],
    layout: &'a Layout,
    compression: Compression,
    memory: Memory<'a>,
    scanner: Option<&'a Scanner>,
    /// What is known of the segments without their bytes; empty where nothing is remembered.
    ids: Vec<Option<[u8; 32]>>,
}

/// The two forms of a segment. The vectors are kept from one segment to the next.
#[derive(Default)]
struct Buffers {
    raw: Vec<u8>,
    packed: Vec<u8>,
    packed_len: usize,
    sum: Sum,
    /// Where segments are remembered: what this one is known by, and the BLAKE3 of its compressed form.
    id: Option<([u8; 32], [u8; 32])>,
    /// In an eStargz layer: the gzip members.
    members: Vec<stargz::Member>,
    /// Of a file with a digest that is in other segments, too.
    piece: Option<Piece>,
    /// What the scanner hit upon in it.
    hits: Vec<Hit>,
}

impl Job<'_> {
    fn make(&self, index: usize, buffers: &mut Buffers) -> Result<(), WriteError> {
        self.make_forms(index, buffers)?;
        if let Some(scanner) = self.scanner {
            buffers.hits.clear();
            scanner.scan(&buffers.raw, self.layout.segments[index].start, &mut buffers.hits);
        }
        buffers.sum = self.compression.sum(&buffers.raw);
        Ok(())
    }

    fn make_forms(&self, index: usize, buffers: &mut Buffers) -> Result<(), WriteError> {
        let segment = self.layout.segments[index];
        if let Compression::Estargz { level } = self.compression {
            buffers.piece = fill(self.entries, self.layout, segment, &mut buffers.raw)?;
            let Buffers { raw, packed, packed_len, members, .. } = buffers;
            *packed_len = stargz::pack(level, (self.entries, self.layout, segment), raw, packed, members)?;
            return Ok(());
        }
        let id = self.ids.get(index);
        if let Some(Some(id)) = id
            && self.take_both(id, segment.end - segment.start, buffers)
        {
            return Ok(());
        }
        buffers.piece = fill(self.entries, self.layout, segment, &mut buffers.raw)?;
        let id = id.map(|id| id.unwrap_or_else(|| memory::of_bytes(self.compression, &buffers.raw)));
        if let Some(id) = &id
            && self.take_packed(id, buffers)
        {
            return Ok(());
        }
        buffers.packed_len = self.compression.pack(&buffers.raw, &mut buffers.packed)?;
        let packed = &buffers.packed[..buffers.packed_len];
        buffers.id = id.map(|id| (id, *blake3::hash(packed).as_bytes()));
        Ok(())
    }

    /// Takes both forms of a segment of `len` bytes from the earlier layer, if it is there: to decompress it takes half
    /// the time of reading a hundred files.
    fn take_both(&self, id: &[u8; 32], len: u64, buffers: &mut Buffers) -> bool {
        // What is taken so has no pieces: only their bytes tell what they are.
        buffers.piece = None;
        self.take_packed(id, buffers) && {
            buffers.raw.resize(len as usize, 0);
            self.compression.unpack(&mut buffers.packed, buffers.packed_len, &mut buffers.raw)
        }
    }

    /// Takes the compressed form of a segment from the earlier layer, if it is there.
    fn take_packed(&self, id: &[u8; 32], buffers: &mut Buffers) -> bool {
        let Memory::On { earlier: Some(earlier) } = self.memory else { return false };
        let Some(fetched) = earlier.fetch(id, &mut buffers.packed) else { return false };
        buffers.packed_len = fetched.len;
        buffers.id = Some((*id, fetched.hash));
        true
    }

    /// What the layer begins with.
    fn start(&self) -> Start<'_> {
        let head = self.compression.head();
        let must_see_all = self.scanner.is_some_and(Scanner::has_values);
        match self.memory {
            Memory::On { earlier: Some(earlier) } if !must_see_all => earlier.start(head, &self.ids),
            Memory::On { .. } | Memory::Off => Start::new(head),
        }
    }

    /// The bytes for the blob.
    fn output<'b>(&self, buffers: &'b Buffers) -> &'b [u8] {
        match self.compression {
            Compression::None => &buffers.raw,
            Compression::Gzip { .. } | Compression::Zstd { .. } | Compression::Estargz { .. } => {
                &buffers.packed[..buffers.packed_len]
            }
        }
    }
}

/// Writes all segments to `sink`.
pub(super) fn run(
    entries: &[Entry],
    layout: &Layout,
    compression: Compression,
    (memory, scanner): (Memory<'_>, Option<&Scanner>),
    sink: &mut impl Write,
) -> Result<Identity, WriteError> {
    // A layer of a few segments is compressed as soon as looked up; and what is not compressed costs nothing. eStargz
    // would have to remember the members of each segment, too.
    let is_worth_remembering = matches!(memory, Memory::On { .. })
        && layout.segments.len() >= MIN_REMEMBERED
        && matches!(compression, Compression::Gzip { .. } | Compression::Zstd { .. });
    let ids = match is_worth_remembering {
        true => memory::of_sources(compression, entries, layout),
        false => Vec::new(),
    };
    let job = Job { entries, layout, compression, memory, scanner, ids };
    match layout.segments.len() {
        // Most layers of most builds are small: threads would take longer than the work.
        1 => run_single(&job, sink),
        _ => run_parallel(&job, sink),
    }
}

fn run_single(job: &Job<'_>, sink: &mut impl Write) -> Result<Identity, WriteError> {
    let mut buffers = Buffers::default();
    job.make(0, &mut buffers)?;
    let mut output = Output::new(job, sink, &Start::new(job.compression.head()))?;
    output.write(&buffers)?;
    let mut hashed = Hashed::default();
    hashed.update(&mut buffers);
    output.finish(hashed)
}

fn run_parallel(job: &Job<'_>, sink: &mut impl Write) -> Result<Identity, WriteError> {
    let start = job.start();
    let first = start.segments.len();
    let workers = rayon::current_num_threads().clamp(1, MAX_WORKERS).min(job.layout.segments.len());
    let (give_back, free) = mpsc::channel();
    for _ in 0..2 * workers + 2 {
        // Cannot fail: `free` is alive. It would only leave fewer buffers.
        let _ = give_back.send(Buffers::default());
    }
    let claims = Mutex::new(Claims { free, segments: first..job.layout.segments.len() });
    let (done, results) = mpsc::channel();
    let (to_hash, hash_in) = mpsc::channel();
    thread::scope(|scope| {
        let (raw, sum) = (start.raw.clone(), start.sum.clone());
        let borders = job.scanner.map(|scanner| Borders::new(scanner, job.layout.segments[first].start));
        let hashed = Hashed { raw, sum, borders, ..Hashed::default() };
        let hasher = scope.spawn(move || hash_raw(hashed, &hash_in, &give_back));
        for _ in 0..workers {
            let (done, claims) = (done.clone(), &claims);
            scope.spawn(move || work(job, claims, &done));
        }
        drop(done);
        let written = Output::new(job, sink, &start)
            .and_then(|mut output| sequence(first, &results, &to_hash, &mut output).map(|()| output));
        // Ends the hashing thread, which ends the way back of buffers, which ends workers that an error
        // left at work.
        drop(to_hash);
        let output = written?;
        output.finish(hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// What workers take turns at: a buffer and the next segment, always both, so that the earliest
/// segment under way never waits for a buffer that a later one holds.
struct Claims {
    free: Receiver<Buffers>,
    /// Numbers of the segments that nobody has taken yet.
    segments: Range<usize>,
}

type Done = (usize, Result<Buffers, WriteError>);

fn work(job: &Job<'_>, claims: &Mutex<Claims>, done: &Sender<Done>) {
    loop {
        let (mut buffers, index) = {
            let Ok(mut claims) = claims.lock() else { return };
            let Ok(buffers) = claims.free.recv() else { return };
            let Some(index) = claims.segments.next() else { return };
            (buffers, index)
        };
        let result = job.make(index, &mut buffers).map(|()| buffers);
        let failed = result.is_err();
        if done.send((index, result)).is_err() || failed {
            return;
        }
    }
}

/// Writes segments in their order, and passes them on to be hashed. Of several errors the first in the
/// order of the layer is reported, as with one thread.
fn sequence<S: Write>(
    first: usize,
    results: &Receiver<Done>,
    to_hash: &Sender<Buffers>,
    output: &mut Output<'_, S>,
) -> Result<(), WriteError> {
    let mut early = BTreeMap::new();
    let mut next = first;
    for (index, result) in results {
        early.insert(index, result);
        while let Some(result) = early.remove(&next) {
            let buffers = result?;
            output.write(&buffers)?;
            // Fails only when the hashing thread panicked, which joining it reports.
            let _ = to_hash.send(buffers);
            next += 1;
        }
    }
    Ok(())
}

/// What hashing the tar gave.
#[derive(Default)]
struct Hashed<'s> {
    raw: Hasher,
    sum: Sum,
    /// The states of both after each remembered segment.
    states: Vec<(HasherState, SumState)>,
    /// In an eStargz layer: of the files that are in several segments.
    files: stargz::FileDigests,
    /// Where values may lie that no segment has whole; nothing where there is one segment.
    borders: Option<Borders<'s>>,
    hits: Vec<Hit>,
}

impl Hashed<'_> {
    fn update(&mut self, buffers: &mut Buffers) {
        self.raw.update(&buffers.raw);
        self.sum.append(&buffers.sum);
        if buffers.id.is_some() {
            self.states.push((self.raw.state(), self.sum.state()));
        }
        self.files.update(&buffers.raw, &buffers.members);
        self.hits.append(&mut buffers.hits);
        if let Some(borders) = &mut self.borders {
            borders.push(&buffers.raw, &mut self.hits);
        }
    }
}

fn hash_raw<'s>(
    mut hashed: Hashed<'s>,
    buffers: &Receiver<Buffers>,
    give_back: &Sender<Buffers>,
) -> Hashed<'s> {
    for mut buffers in buffers {
        hashed.update(&mut buffers);
        // Nobody wants it when all segments are claimed.
        let _ = give_back.send(buffers);
    }
    hashed
}

/// The sink, and the blob's digest so far.
struct Output<'a, S> {
    job: &'a Job<'a>,
    sink: &'a mut S,
    /// None where the blob is the tar, which is hashed already.
    hasher: Option<Hasher>,
    size: u64,
    /// The segments so far that are remembered: those of the start, then with what is known before the tar is
    /// hashed.
    start: Vec<Written>,
    segments: Vec<Placed>,
    /// In an eStargz layer: where its files are.
    chunks: stargz::Chunks,
    pieces: Pieces,
}

/// A segment in the blob: see [`Written`].
struct Placed {
    id: [u8; 32],
    packed_at: u64,
    packed_bytes: u64,
    packed: [u8; 32],
}

impl<'a, S: Write> Output<'a, S> {
    /// Writes the start.
    fn new(job: &'a Job<'a>, sink: &'a mut S, start: &Start<'_>) -> Result<Self, WriteError> {
        start.copy_to(sink).map_err(WriteError::Sink)?;
        let hasher = (job.compression != Compression::None).then(|| start.packed.clone());
        let (size, start) = (start.size, start.segments.to_vec());
        let chunks = stargz::Chunks::default();
        let (segments, pieces) = (Vec::new(), Pieces::default());
        Ok(Self { job, sink, hasher, size, start, segments, chunks, pieces })
    }

    fn write(&mut self, buffers: &Buffers) -> Result<(), WriteError> {
        let bytes = self.job.output(buffers);
        if let Some((id, packed)) = buffers.id {
            let (packed_at, packed_bytes) = (self.size, bytes.len() as u64);
            self.segments.push(Placed { id, packed_at, packed_bytes, packed });
        }
        self.chunks.push(&buffers.members, self.size);
        self.put(bytes)?;
        buffers.piece.as_ref().map_or(Ok(()), |piece| self.compare(piece))
    }

    /// With the last piece of a file: compares it with the digest that its step's key holds.
    fn compare(&mut self, piece: &Piece) -> Result<(), WriteError> {
        let EntryKind::File(content @ Content::Disk(file)) = &self.job.entries[piece.entry].kind else {
            return Ok(());
        };
        match self.pieces.push(piece, content.len()) {
            Some(digest) if Some(digest) != file.digest() => {
                Err(WriteError::Unlike { source_path: file.file().path })
            }
            _ => Ok(()),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.size += bytes.len() as u64;
        self.sink.write_all(bytes).map_err(WriteError::Sink)
    }

    fn finish(mut self, mut hashed: Hashed<'_>) -> Result<Identity, WriteError> {
        let table = self.finish_stargz(&mut hashed)?;
        self.put(&self.job.compression.tail(&hashed.sum))?;
        let raw = hashed.raw.finish();
        let packed = self.hasher.map_or(raw, Hasher::finish);
        let mut segments = Segments::from(self.start);
        for (placed, (raw, sum)) in self.segments.into_iter().zip(hashed.states) {
            let Placed { id, packed_at, packed_bytes, packed } = placed;
            segments.push(Written { id, packed_at, packed_bytes, packed, raw, sum });
        }
        Ok(Identity { raw, packed, packed_size: self.size, segments, table, hits: hashed.hits })
    }

    /// Writes what follows the tar in an eStargz layer.
    fn finish_stargz(&mut self, hashed: &mut Hashed<'_>) -> Result<Option<stargz::End>, WriteError> {
        let Compression::Estargz { level } = self.job.compression else { return Ok(None) };
        let (chunks, files) = (std::mem::take(&mut self.chunks), std::mem::take(&mut hashed.files).finish());
        let table = stargz::Table { entries: self.job.entries, chunks: &chunks, files: &files };
        let at = self.size;
        stargz::write(&table, level, at, &mut hashed.raw, &mut |bytes| self.put(bytes)).map(Some)
    }
}
