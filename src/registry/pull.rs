//! Layers into the store: several at a time, verified as they pass, resumed where they broke.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::answer::Asked;
use super::error::Error;
use super::tap::Tap;
use super::{Client, Progress, Target};
use crate::config::Place;
use crate::http::{Method, Request, Response, Schedule, begins_at, cause_of};
use crate::oci::{Descriptor, Layer, Reference};
use crate::store::{self, BlobWriter, Store};
use crate::sync::{into_inner, lock, wait_while};

/// Bytes are reported at most so often for each blob.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// A connection that brought so much before it broke does not count as a failed attempt.
const GOOD_PIECE: u64 = 4 << 20;

impl Client {
    /// Fetches the blobs of `layers` that the store does not have, from the repository of `reference`.
    /// Each is verified while it streams and published whole; after an error those that are complete stay.
    ///
    /// # Errors
    /// The first one that occurs; transfers in progress are then given up.
    pub fn pull_layers(
        &self,
        store: &Store,
        reference: &Reference,
        layers: &[Layer],
        progress: &Progress,
    ) -> Result<(), Error> {
        self.pull_layers_tapped(store, reference, layers, (progress, &AtomicBool::new(false)), &|_| None)
    }

    /// Fetches as [`Client::pull_layers`] does; `tap` is asked, when a blob is about to be fetched, whether somebody wants to
    /// read along.
    pub fn pull_layers_tapped(
        &self,
        store: &Store,
        reference: &Reference,
        layers: &[Layer],
        (progress, stop): (&Progress, &AtomicBool),
        tap: &(dyn Fn(&Layer) -> Option<Tap> + Sync),
    ) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let mut wanted: Vec<&Layer> = Vec::new();
        for layer in layers {
            let blob = &layer.descriptor;
            if seen.insert(blob.digest) && store.intact_blob(&blob.digest)? != Some(blob.size) {
                wanted.push(layer);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        store.forget_old_partials();
        let places = self.places_of_blobs(reference)?;
        in_parallel(self.inner.settings.parallel_blobs, &wanted, stop, |layer| {
            let blob = &layer.descriptor;
            let fetch = Fetch { client: self, store, reference, blob, progress, stop };
            fetch.run(&places, tap(layer))
        })
    }
}

impl Client {
    /// Fetches blobs that the store does not have, whatever they hold.
    pub fn pull_blobs(
        &self,
        store: &Store,
        reference: &Reference,
        blobs: &[Descriptor],
        progress: &Progress,
    ) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let mut wanted: Vec<&Descriptor> = Vec::new();
        for blob in blobs {
            if seen.insert(blob.digest) && store.intact_blob(&blob.digest)? != Some(blob.size) {
                wanted.push(blob);
            }
        }
        let (stop, places) = (AtomicBool::new(false), self.places_of_blobs(reference)?);
        in_parallel(self.inner.settings.parallel_blobs, &wanted, &stop, |blob| {
            Fetch { client: self, store, reference, blob, progress, stop: &stop }.run(&places, None)
        })
    }
}

/// Does `work` for each item on at most `limit` threads; sets `stop` at the first error and returns it. When somebody
/// else set `stop`, not everything is done, which is [`Error::Stopped`].
pub(super) fn in_parallel<T: Sync>(
    limit: usize,
    items: &[T],
    stop: &AtomicBool,
    work: impl Fn(&T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(error) = work(item) {
                let mut failed = lock(&failed);
                // That others then stop is not what went wrong.
                if matches!(*failed, None | Some(Error::Stopped)) {
                    *failed = Some(error);
                }
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    match items.len().min(limit) {
        0 => {}
        // No thread for the common case of a small image.
        1 => worker(),
        threads => std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where no thread can be had, this one does it all.
                let _ = std::thread::Builder::new().name("pull".to_owned()).spawn_scoped(scope, worker);
            }
            worker();
        }),
    }
    match into_inner(failed) {
        Some(error) => Err(error),
        None if stop.load(Ordering::Relaxed) => Err(Error::Stopped),
        None => Ok(()),
    }
}

/// One blob on its way.
struct Fetch<'a> {
    client: &'a Client,
    store: &'a Store,
    reference: &'a Reference,
    blob: &'a Descriptor,
    progress: &'a Progress,
    stop: &'a AtomicBool,
}

/// Where the bytes of a blob go.
struct Sink {
    writer: BlobWriter,
    tap: Option<Tap>,
    /// Whether all bytes came over one connection: then nothing but the sender can be to blame for wrong ones.
    is_of_one_piece: bool,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(bytes)?;
        self.tap = self.tap.take().filter(|tap| tap.send(bytes));
        Ok(())
    }

    fn done(&self) -> u64 {
        self.writer.written()
    }

    /// What is there is of no use.
    fn restart(&mut self) -> Result<(), Error> {
        self.writer.restart()?;
        (self.tap, self.is_of_one_piece) = (None, true);
        Ok(())
    }
}

/// How one connection for a blob ended.
enum Piece {
    Complete,
    /// It broke; the rest can be asked for.
    Broken(String),
}

impl Fetch<'_> {
    /// Fetches the blob, unless another thread or process just did.
    fn run(&self, places: &[Place], tap: Option<Tap>) -> Result<(), Error> {
        let _turn = self.client.inner.fetching.enter(self.blob.digest);
        if self.is_there()? {
            return Ok(());
        }
        let mut sink = self.sink(tap)?;
        // Another process may have fetched it while this one waited for its turn.
        if sink.done() == 0 && self.is_there()? {
            return Ok(());
        }
        if sink.done() > self.blob.size {
            sink.restart()?;
        }
        let mut left = Some(sink);
        self.client.at_each_place(self.reference, places, |target| {
            let sink = left.take().map_or_else(|| self.sink(None), Ok)?;
            let outcome;
            (outcome, left) = self.fetch(&target, sink);
            outcome
        })
    }

    fn is_there(&self) -> Result<bool, Error> {
        Ok(self.store.intact_blob(&self.blob.digest)? == Some(self.blob.size))
    }

    /// Opens what an earlier attempt left.
    fn sink(&self, tap: Option<Tap>) -> Result<Sink, Error> {
        let mut tap = tap;
        let mut known = |bytes: &[u8]| tap = tap.take().filter(|tap| tap.send(bytes));
        let writer = self.store.resume_blob(&self.blob.digest, &mut known)?;
        Ok(Sink { is_of_one_piece: writer.written() == 0, writer, tap })
    }

    /// Fetches what is missing from one place and publishes the blob. A failure leaves what arrived, if that is of use
    /// to another place.
    fn fetch(&self, target: &Target<'_>, mut sink: Sink) -> (Result<(), Error>, Option<Sink>) {
        loop {
            match self.receive(target, &mut sink) {
                Ok(()) => {}
                // On a full disk the room is worth more than what it holds.
                Err(error @ Error::Store(_)) => {
                    sink.writer.forget();
                    return (Err(error), None);
                }
                Err(error) => return (Err(error), Some(sink)),
            }
            let is_of_one_piece = sink.is_of_one_piece;
            match self.commit(target, sink.writer) {
                // A piece of another attempt may be to blame: once more, from the start.
                Err(Error::DigestMismatch { .. }) if !is_of_one_piece => match self.sink(None) {
                    Ok(fresh) => sink = fresh,
                    Err(error) => return (Err(error), None),
                },
                outcome => return (outcome, None),
            }
        }
    }

    fn commit(&self, target: &Target<'_>, writer: BlobWriter) -> Result<(), Error> {
        let done = writer.written();
        match writer.commit(Some(self.blob.digest)) {
            Ok(_) => {
                self.progress.bytes(&self.blob.digest, done, self.blob.size);
                Ok(())
            }
            Err(store::Error::WrongDigest { expected, actual }) => {
                Err(Error::DigestMismatch { image: target.image(), expected, actual })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks one place until everything is there.
    fn receive(&self, target: &Target<'_>, sink: &mut Sink) -> Result<(), Error> {
        let settings = &self.client.inner.settings.http;
        let mut schedule = Schedule::new(settings);
        while sink.done() < self.blob.size || self.blob.size == 0 {
            let before = sink.done();
            let cause = match self.piece(target, sink)? {
                Piece::Complete => break,
                Piece::Broken(cause) => cause,
            };
            sink.is_of_one_piece = sink.is_of_one_piece && sink.done() == 0;
            if sink.done().saturating_sub(before) >= GOOD_PIECE {
                schedule = Schedule::new(settings);
            }
            let wait = schedule.next(None).ok_or_else(|| self.interrupted(target, sink.done(), cause))?;
            std::thread::sleep(wait);
        }
        Ok(())
    }

    /// Asks for what is missing and writes what comes.
    fn piece(&self, target: &Target<'_>, sink: &mut Sink) -> Result<Piece, Error> {
        let done = sink.done();
        let path = target.path(&format!("blobs/{}", self.blob.digest));
        let mut request = Request::new(Method::GET, path);
        if done > 0 {
            request = request.header("range", format!("bytes={done}-"));
        }
        let mut response = self.client.call(target, None, &request)?;
        match response.status.as_u16() {
            206 if done > 0 && begins_at(&response, done) => {}
            200 => {
                // No ranges there: pass over what we have. Should it differ, the digest will tell.
                if let Err(broken) = self.skip(&mut response, done) {
                    return Ok(broken);
                }
            }
            206 | 416 => {
                sink.restart()?;
                return Ok(Piece::Broken("the registry does not resume as asked".to_owned()));
            }
            _ => return Err(self.client.refusal(target, Asked::Blob(self.blob.digest), response)),
        }
        self.copy(target, &mut response, sink)
    }

    fn skip(&self, response: &mut Response, done: u64) -> Result<(), Piece> {
        match std::io::copy(&mut response.reader(done), &mut std::io::sink()) {
            Ok(skipped) if skipped == done => Ok(()),
            Ok(_) => Err(Piece::Broken("the connection was closed".to_owned())),
            Err(error) => Err(Piece::Broken(cause_of(error))),
        }
    }

    fn copy(&self, target: &Target<'_>, response: &mut Response, sink: &mut Sink) -> Result<Piece, Error> {
        let size = self.blob.size;
        // One byte more than announced is enough to know that it lies about its size.
        let mut reader = response.reader(size - sink.done() + 1);
        let mut buffer = vec![0; 128 << 10];
        let mut reported = Instant::now();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            let n = match reader.read(&mut buffer) {
                Ok(0) if sink.done() == size => break,
                Ok(0) => return Ok(Piece::Broken("the connection was closed".to_owned())),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Piece::Broken(cause_of(e))),
            };
            if sink.done() + n as u64 > size {
                sink.restart()?;
                return Err(self.too_long(target));
            }
            sink.write(&buffer[..n]).map_err(|e| self.not_written(e, &sink.writer))?;
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                self.progress.bytes(&self.blob.digest, sink.done(), size);
            }
        }
        Ok(Piece::Complete)
    }

    fn too_long(&self, target: &Target<'_>) -> Error {
        let Descriptor { digest, size, .. } = self.blob;
        let reason = format!("blob {digest} is longer than the {size} bytes that the manifest says");
        Error::Malformed { image: target.image(), reason }
    }

    fn interrupted(&self, target: &Target<'_>, done: u64, cause: String) -> Error {
        let Descriptor { digest, size, .. } = *self.blob;
        Error::Interrupted { image: target.image(), digest, done, total: size, cause }
    }

    fn not_written(&self, error: std::io::Error, writer: &BlobWriter) -> Error {
        Error::Store(store::Error::io("write", writer.path(), error))
    }
}

/// What is being moved, so that two threads do not move one blob twice at once.
/// Two processes wait for each other at the file that they write.
pub(super) struct Moving<K> {
    blobs: Mutex<BTreeSet<K>>,
    changed: Condvar,
}

/// The right to move one blob, until dropped.
pub(super) struct Turn<'a, K: Ord> {
    moving: &'a Moving<K>,
    blob: K,
}

impl<K> Default for Moving<K> {
    fn default() -> Self {
        Self { blobs: Mutex::default(), changed: Condvar::new() }
    }
}

impl<K: Ord + Clone> Moving<K> {
    pub(super) fn enter(&self, blob: K) -> Turn<'_, K> {
        let blobs = lock(&self.blobs);
        let mut blobs = wait_while(&self.changed, blobs, |blobs| blobs.contains(&blob));
        blobs.insert(blob.clone());
        Turn { moving: self, blob }
    }
}

impl<K: Ord> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        lock(&self.moving.blobs).remove(&self.blob);
        self.moving.changed.notify_all();
    }
}
