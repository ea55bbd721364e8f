//! How much of files is in memory at once, of all threads together: a layer's files say how large they are, and layers are read side by side.

use std::sync::{Condvar, Mutex, PoisonError};

use super::catalog::FILE_LIMIT;
use crate::sync::lock;

/// Room for bytes. Whoever has some waits for nobody else's, so that each comes to its end.
#[derive(Debug)]
pub(super) struct Room {
    all: u64,
    taken: Mutex<u64>,
    freed: Condvar,
}

/// Of all layers that are looked into at once: the largest file that is read fits, and those of usual images side by side.
pub(super) static FILES: Room = Room::new(FILE_LIMIT + (128 << 20));

impl Room {
    const fn new(all: u64) -> Self {
        Self { all, taken: Mutex::new(0), freed: Condvar::new() }
    }

    /// Waits until there is room for so many bytes, and holds it. More than there is gets all of it.
    pub(super) fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.all);
        let taken = lock(&self.taken);
        let is_full = |taken: &mut u64| *taken + bytes > self.all;
        let mut taken = self.freed.wait_while(taken, is_full).unwrap_or_else(PoisonError::into_inner);
        *taken += bytes;
        Taken { room: self, bytes }
    }
}

/// Room that is free again when this goes.
#[derive(Debug)]
pub(super) struct Taken<'r> {
    room: &'r Room,
    bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *lock(&self.room.taken) -= self.bytes;
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn all_threads_together_hold_no_more() {
        let room = Room::new(100);
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (room, held, most) = (&room, &held, &most);
                scope.spawn(move || {
                    for turn in 0..200 {
                        // One in a while wants more than there is.
                        let bytes = if turn % 50 == thread { 1000 } else { 40 };
                        let taken = room.take(bytes);
                        most.fetch_max(
                            held.fetch_add(taken.bytes, Ordering::SeqCst) + taken.bytes,
                            Ordering::SeqCst,
                        );
                        std::thread::yield_now();
                        held.fetch_sub(taken.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!((held.into_inner(), most.into_inner()), (0, 100));
        assert_eq!(*lock(&room.taken), 0);
        // Two go side by side.
        let (one, two) = (room.take(40), room.take(40));
        assert_eq!(one.bytes + two.bytes, *lock(&room.taken));
    }
}
