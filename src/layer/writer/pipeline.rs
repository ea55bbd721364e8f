//! Fills, compresses, hashes and writes the segments of a layer.
//!
//! Workers fill and compress; the calling thread brings the segments into order, hashes the blob's
//! bytes and writes them; one more thread hashes the tar, which is one serial stream and would
//! otherwise be the longest wait. Buffers go round from the workers through both and back: their
//! number is what bounds memory and what slows the workers down when the sink is slow.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::fill::fill;
use super::layout::{Layout, Segment};
use super::memory::{self, Segments, Written};
use super::{Memory, WriteError};
use crate::layer::compress::Compression;
use crate::layer::entry::Entry;
use crate::oci::{Digest, Hasher};

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
}

/// What all threads share.
struct Job<'a> {
    entries: &'a [Entry],
    layout: &'a Layout,
    compression: Compression,
    memory: Memory<'a>,
}

/// The two forms of a segment. The vectors are kept from one segment to the next.
#[derive(Default)]
struct Buffers {
    raw: Vec<u8>,
    packed: Vec<u8>,
    packed_len: usize,
    /// Of the segment, where segments are remembered.
    id: Option<[u8; 32]>,
}

impl Job<'_> {
    fn make(&self, segment: Segment, buffers: &mut Buffers) -> Result<(), WriteError> {
        fill(self.entries, self.layout, segment, &mut buffers.raw)?;
        buffers.id = None;
        if let (Memory::On { earlier }, true) = (self.memory, self.is_worth_remembering()) {
            let id = memory::identify(self.compression, &buffers.raw);
            buffers.id = Some(id);
            if let Some(len) = earlier.and_then(|earlier| earlier.fetch(&id, &mut buffers.packed)) {
                buffers.packed_len = len;
                return Ok(());
            }
        }
        buffers.packed_len = self.compression.pack(&buffers.raw, &mut buffers.packed)?;
        Ok(())
    }

    /// A layer of a few segments is compressed as soon as looked up; and what is not compressed costs nothing.
    fn is_worth_remembering(&self) -> bool {
        self.layout.segments.len() >= MIN_REMEMBERED && self.compression != Compression::None
    }

    /// The bytes for the blob.
    fn output<'b>(&self, buffers: &'b Buffers) -> &'b [u8] {
        match self.compression {
            Compression::None => &buffers.raw,
            Compression::Gzip { .. } | Compression::Zstd { .. } => &buffers.packed[..buffers.packed_len],
        }
    }
}

/// Writes all segments to `sink`.
pub(super) fn run(
    entries: &[Entry],
    layout: &Layout,
    compression: Compression,
    memory: Memory<'_>,
    sink: &mut impl Write,
) -> Result<Identity, WriteError> {
    let job = Job { entries, layout, compression, memory };
    match layout.segments[..] {
        // Most layers of most builds are small: threads would take longer than the work.
        [segment] => run_single(&job, segment, sink),
        _ => run_parallel(&job, sink),
    }
}

fn run_single(job: &Job<'_>, segment: Segment, sink: &mut impl Write) -> Result<Identity, WriteError> {
    let mut buffers = Buffers::default();
    job.make(segment, &mut buffers)?;
    let mut output = Output::new(job, sink);
    output.write(&buffers)?;
    Ok(output.finish(|| Digest::of(&buffers.raw)))
}

fn run_parallel(job: &Job<'_>, sink: &mut impl Write) -> Result<Identity, WriteError> {
    let workers = rayon::current_num_threads().clamp(1, MAX_WORKERS).min(job.layout.segments.len());
    let (give_back, free) = mpsc::channel();
    for _ in 0..2 * workers + 2 {
        // Cannot fail: `free` is alive. It would only leave fewer buffers.
        let _ = give_back.send(Buffers::default());
    }
    let claims = Mutex::new(Claims { free, segments: job.layout.segments.iter().copied().enumerate() });
    let (done, results) = mpsc::channel();
    let (to_hash, hash_in) = mpsc::channel();
    thread::scope(|scope| {
        let hasher = scope.spawn(move || hash_raw(&hash_in, &give_back));
        for _ in 0..workers {
            let (done, claims) = (done.clone(), &claims);
            scope.spawn(move || work(job, claims, &done));
        }
        drop(done);
        let mut output = Output::new(job, sink);
        let written = sequence(&results, &to_hash, &mut output);
        // Ends the hashing thread, which ends the way back of buffers, which ends workers that an error
        // left at work.
        drop(to_hash);
        written?;
        Ok(output.finish(|| hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
    })
}

/// What workers take turns at: a buffer and the next segment, always both, so that the earliest
/// segment under way never waits for a buffer that a later one holds.
struct Claims<I> {
    free: Receiver<Buffers>,
    segments: I,
}

type Done = (usize, Result<Buffers, WriteError>);

fn work<I>(job: &Job<'_>, claims: &Mutex<Claims<I>>, done: &Sender<Done>)
where
    I: Iterator<Item = (usize, Segment)>,
{
    loop {
        let (mut buffers, index, segment) = {
            let Ok(mut claims) = claims.lock() else { return };
            let Ok(buffers) = claims.free.recv() else { return };
            let Some((index, segment)) = claims.segments.next() else { return };
            (buffers, index, segment)
        };
        let result = job.make(segment, &mut buffers).map(|()| buffers);
        let failed = result.is_err();
        if done.send((index, result)).is_err() || failed {
            return;
        }
    }
}

/// Writes segments in their order, and passes them on to be hashed. Of several errors the first in the
/// order of the layer is reported, as with one thread.
fn sequence<S: Write>(
    results: &Receiver<Done>,
    to_hash: &Sender<Buffers>,
    output: &mut Output<'_, S>,
) -> Result<(), WriteError> {
    let mut early = BTreeMap::new();
    let mut next = 0;
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

fn hash_raw(buffers: &Receiver<Buffers>, give_back: &Sender<Buffers>) -> Digest {
    let mut hasher = Hasher::new();
    for buffers in buffers {
        hasher.update(&buffers.raw);
        // Nobody wants it when all segments are claimed.
        let _ = give_back.send(buffers);
    }
    hasher.finish()
}

/// The sink, and the blob's digest so far.
struct Output<'a, S> {
    job: &'a Job<'a>,
    sink: &'a mut S,
    /// None where the blob is the tar, which is hashed already.
    hasher: Option<Hasher>,
    size: u64,
    segments: Segments,
}

impl<'a, S: Write> Output<'a, S> {
    fn new(job: &'a Job<'a>, sink: &'a mut S) -> Self {
        let hasher = (job.compression != Compression::None).then(Hasher::new);
        Self { job, sink, hasher, size: 0, segments: Segments::default() }
    }

    fn write(&mut self, buffers: &Buffers) -> Result<(), WriteError> {
        let bytes = self.job.output(buffers);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.size += bytes.len() as u64;
        if let Some(id) = buffers.id {
            self.segments.push(Written { id, packed_bytes: bytes.len() as u64 });
        }
        self.sink.write_all(bytes).map_err(WriteError::Sink)
    }

    fn finish(self, raw: impl FnOnce() -> Digest) -> Identity {
        let raw = raw();
        let packed = self.hasher.map_or(raw, Hasher::finish);
        Identity { raw, packed, packed_size: self.size, segments: self.segments }
    }
}
