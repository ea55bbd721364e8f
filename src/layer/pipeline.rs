//! Streams a blob through three threads: one decompresses, one hashes, the caller's parses.
//!
//! Chunks are shared, not copied: whoever lets go of one last returns its buffer to the decompressor, so
//! a layer of any size passes through a few buffers.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use super::archive::{Error, decompress};
use crate::busy;
use crate::oci::{DiffId, Digest, Hasher};

/// Large enough that handing over costs nothing, small enough that two stay in the processor's cache.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that may wait for the slower of the two readers.
const CHUNKS_AHEAD: usize = 8;

type Chunk = Arc<Vec<u8>>;

/// Decompresses `blob` and lets `parse` read it, which must read to the end. Returns what `parse` made, the
/// digest of the uncompressed bytes, and their number.
pub(super) fn run<T>(
    blob: impl Read + Send,
    parse: impl FnOnce(Stream) -> Result<T, Error>,
) -> Result<(T, DiffId, u64), Error> {
    run_with(blob, parse)
}

/// [`run`] for parsers that have errors of their own.
pub(super) fn run_with<T, E>(
    blob: impl Read + Send,
    parse: impl FnOnce(Stream) -> Result<T, E>,
) -> Result<(T, DiffId, u64), E> {
    thread::scope(|scope| {
        let (to_parser, from_decoder) = sync_channel(CHUNKS_AHEAD);
        let (to_hasher, hasher_input) = sync_channel(CHUNKS_AHEAD);
        let (free, recycled) = channel();
        let (hasher_free, no_thread) = (free.clone(), to_parser.clone());
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let hasher = named("hash").spawn_scoped(scope, move || hash(&hasher_input, &hasher_free));
        let decoder = hasher.and_then(|hasher| {
            let work = move || decode(blob, &to_parser, &to_hasher, &recycled);
            named("decode").spawn_scoped(scope, work).map(|_| hasher)
        });
        // Whoever parses hears of threads that cannot be had as of a blob that cannot be read.
        let hasher = decoder.map_err(|error| drop(no_thread.send(Err(error))));
        drop(no_thread);
        let parsed = parse(Stream { chunks: from_decoder, chunk: None, start: 0, free })?;
        let join = |hasher: ScopedJoinHandle<'_, (DiffId, u64)>| {
            hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let (diff_id, len) = hasher.map_or_else(|()| (DiffId(Digest::of(b"")), 0), join);
        Ok((parsed, diff_id, len))
    })
}

/// Ends when the stream does, or when the parser has gone.
fn decode(
    blob: impl Read,
    to_parser: &SyncSender<io::Result<Chunk>>,
    to_hasher: &SyncSender<Chunk>,
    recycled: &Receiver<Vec<u8>>,
) {
    let mut decoder = match decompress(blob) {
        Ok(decoder) => decoder,
        Err(error) => return drop(to_parser.send(Err(error))),
    };
    loop {
        let mut buffer = recycled.try_recv().unwrap_or_else(|_| vec![0; CHUNK_BYTES]);
        buffer.resize(CHUNK_BYTES, 0);
        // The blob may come over a network meanwhile.
        let (filled, outcome) = busy::with_size("read and decompress", || {
            let (filled, outcome) = fill(&mut decoder, &mut buffer);
            (filled, (filled, outcome))
        });
        buffer.truncate(filled);
        let chunk = Arc::new(buffer);
        if filled > 0 && (to_hasher.send(chunk.clone()).is_err() || to_parser.send(Ok(chunk)).is_err()) {
            return;
        }
        match outcome {
            Ok(()) if filled == CHUNK_BYTES => {}
            Ok(()) => return,
            Err(error) => return drop(to_parser.send(Err(error))),
        }
    }
}

/// Reads until `buffer` is full or the stream ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

fn hash(chunks: &Receiver<Chunk>, free: &Sender<Vec<u8>>) -> (DiffId, u64) {
    let mut hasher = Hasher::new();
    let mut len = 0;
    for chunk in chunks {
        hasher.update(&chunk);
        len += chunk.len() as u64;
        recycle(chunk, free);
    }
    (DiffId(hasher.finish()), len)
}

fn recycle(chunk: Chunk, free: &Sender<Vec<u8>>) {
    if let Some(buffer) = Arc::into_inner(chunk) {
        // The decoder has gone when the stream has ended; then nobody needs the buffer.
        let _ = free.send(buffer);
    }
}

/// The uncompressed stream, on the parser's thread.
pub(super) struct Stream {
    chunks: Receiver<io::Result<Chunk>>,
    chunk: Option<Chunk>,
    start: usize,
    free: Sender<Vec<u8>>,
}

impl Stream {
    /// The bytes at hand, at least one unless the stream has ended.
    fn available(&mut self) -> io::Result<&[u8]> {
        let is_used_up = self.chunk.as_ref().is_none_or(|chunk| self.start >= chunk.len());
        if is_used_up {
            self.start = 0;
            if let Some(chunk) = self.chunk.take() {
                recycle(chunk, &self.free);
            }
            // The channel closes at the end of the stream.
            self.chunk = self.chunks.recv().ok().transpose()?;
        }
        Ok(self.chunk.as_ref().map_or(&[], |chunk| &chunk[self.start..]))
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.available()?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.start += count;
        Ok(count)
    }
}

impl BufRead for Stream {
    /// A whole chunk, or what is left of one.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.available()
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}
