//! What threads were busy with, for traces: noted only if somebody asked for it, else one look at a flag.
//!
//! Each thread has a list of its own, so that none waits for another. What a thread does again after a moment is one entry: files and
//! pieces of streams come by the thousand.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::clock;
use crate::sync::lock;

/// Work of one kind that follows so soon is one entry with the work before.
const MOMENT: Duration = Duration::from_micros(500);
/// So many entries are kept of each thread.
const MOST: usize = 20_000;

/// Work of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// With what.
    pub what: &'static str,
    /// When it began, in microseconds since 1970.
    pub from_us: u64,
    /// When it ended.
    pub to_us: u64,
    /// How many pieces it was: calls, files, segments.
    pub pieces: usize,
    /// Of how many bytes all together.
    pub bytes: u64,
}

/// A thread, and what it was busy with, in the order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// What the program calls it.
    pub name: String,
    /// One after the other.
    pub work: Vec<Busy>,
    /// How much came after that and was not kept.
    pub more: usize,
}

struct Entry {
    what: &'static str,
    from: Instant,
    to: Instant,
    pieces: usize,
    bytes: u64,
}

struct Own {
    name: String,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    entries: Vec<Entry>,
    more: usize,
}

static IS_ON: AtomicBool = AtomicBool::new(false);
static ALL: Mutex<Vec<Arc<Own>>> = Mutex::new(Vec::new());
/// A moment by both clocks.
static BEGAN: OnceLock<(Instant, u64)> = OnceLock::new();

thread_local! {
    static OWN: OnceCell<Arc<Own>> = const { OnceCell::new() };
}

/// From now on it is noted.
pub fn note() {
    BEGAN.get_or_init(|| (Instant::now(), clock::now_ms()));
    IS_ON.store(true, Ordering::Relaxed);
}

/// Does some work on so many bytes, which is noted if somebody wants that.
#[inline]
pub fn with<T>(what: &'static str, bytes: usize, work: impl FnOnce() -> T) -> T {
    if !IS_ON.load(Ordering::Relaxed) {
        return work();
    }
    with_size(what, || (bytes, work()))
}

/// The same where the number of bytes is known afterwards; work on none is not noted.
#[inline]
pub fn with_size<T>(what: &'static str, work: impl FnOnce() -> (usize, T)) -> T {
    if !IS_ON.load(Ordering::Relaxed) {
        return work().1;
    }
    let from = Instant::now();
    let (bytes, done) = work();
    if bytes > 0 {
        add(Entry { what, from, to: Instant::now(), pieces: 1, bytes: bytes as u64 });
    }
    done
}

fn add(entry: Entry) {
    OWN.with(|own| {
        let own = own.get_or_init(|| {
            let mut all = lock(&ALL);
            let name = std::thread::current()
                .name()
                .map_or_else(|| format!("worker {}", all.len() + 1), str::to_owned);
            let own = Arc::new(Own { name, work: Mutex::default() });
            all.push(Arc::clone(&own));
            own
        });
        lock(&own.work).add(entry);
    });
}

impl Work {
    fn add(&mut self, entry: Entry) {
        let has_room = self.entries.len() < MOST;
        match self.entries.last_mut() {
            Some(last)
                if last.what == entry.what && entry.from.saturating_duration_since(last.to) < MOMENT =>
            {
                last.to = entry.to;
                last.pieces += 1;
                last.bytes += entry.bytes;
            }
            Some(_) | None if has_room => self.entries.push(entry),
            Some(_) | None => self.more += 1,
        }
    }
}

/// What was noted until now, by threads; those that were busy with nothing are left out.
pub fn noted() -> Vec<Thread> {
    let Some((began, began_ms)) = BEGAN.get() else { return Vec::new() };
    let time = |at: Instant| {
        let since = at.saturating_duration_since(*began).as_micros();
        began_ms.saturating_mul(1000).saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    };
    let busy = |entry: &Entry| Busy {
        what: entry.what,
        from_us: time(entry.from),
        to_us: time(entry.to),
        pieces: entry.pieces,
        bytes: entry.bytes,
    };
    let all = lock(&ALL);
    let threads = all.iter().map(|own| {
        let work = lock(&own.work);
        Thread { name: own.name.clone(), work: work.entries.iter().map(busy).collect(), more: work.more }
    });
    threads.filter(|thread| !thread.work.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted() {
        let mut work = Work::default();
        let now = Instant::now();
        for at in 0..MOST + 3 {
            let what = if at % 2 == 0 { "hash" } else { "compress" };
            work.add(Entry { what, from: now, to: now, pieces: 1, bytes: 1 });
        }
        // One of them goes on with the last that was kept.
        assert_eq!((work.entries.len(), work.more), (MOST, 2));
    }

    #[test]
    fn work_is_noted_by_thread_once_somebody_asks() {
        let work = || {
            std::thread::Builder::new().name("busy-test".to_owned()).spawn(|| {
                for _ in 0..3 {
                    with("hash", 10, || ());
                }
                with("compress", 7, || 3)
            })
        };
        let run = || work().map(|thread| thread.join().unwrap_or(0)).unwrap_or(0);
        assert_eq!(run(), 3);
        note();
        assert_eq!(run(), 3);
        let noted: Vec<Thread> = noted().into_iter().filter(|thread| thread.name == "busy-test").collect();
        assert_eq!(noted.len(), 1);
        let last = noted[0].work.last().map(|busy| (busy.what, busy.pieces, busy.bytes));
        assert_eq!(last, Some(("compress", 1, 7)));
        let hashed = noted[0].work.iter().filter(|busy| busy.what == "hash");
        assert_eq!(hashed.map(|busy| busy.pieces).sum::<usize>(), 3);
        assert!(noted[0].work.iter().all(|busy| busy.from_us <= busy.to_us));
    }
}
