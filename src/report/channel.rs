//! How events come from those who build to those who show and record.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Event;
use crate::sync::{lock, wait_while};

/// As many bytes of commands' output may wait to be shown. Whoever writes more waits: a loud command and a slow terminal
/// must not meet in memory.
const WAITING_BYTES: usize = 4 << 20;
/// What a line takes beside its text.
const LINE_BYTES: usize = 128;

/// The one channel through which a build tells what happens. Cheap to clone; sending never fails. Only a line of
/// output may have to wait until there is room for it.
#[derive(Debug, Clone, Default)]
pub struct Events {
    sender: Option<Sender<(Instant, Event)>>,
    room: Option<Arc<Room>>,
    listener: Option<Arc<dyn Listener>>,
}

/// Hears every event in the moment in which it is told, in the thread that tells it, which waits meanwhile.
pub trait Listener: std::fmt::Debug + Send + Sync {
    /// Takes note of an event that happens now.
    fn hear(&self, event: &Event);
}

/// The other end of [`Events`].
#[derive(Debug)]
pub struct EventReader {
    receiver: Receiver<(Instant, Event)>,
    room: Arc<Room>,
}

/// How much output is on its way.
#[derive(Debug, Default)]
struct Room {
    /// `None` when nobody reads any more.
    used: Mutex<Option<usize>>,
    freed: Condvar,
    later: Mutex<Option<Later>>,
}

/// What the reader is to do besides; what that gives is told as if it came over the channel.
type Act = Box<dyn FnOnce() -> Option<Event> + Send>;

/// From when on it is to do that.
struct Later(Instant, Act);

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Later({:?})", self.0)
    }
}

impl Room {
    /// Waits until there is room for a line. One larger than all of it goes alone.
    fn enter(&self, bytes: usize) {
        let used = lock(&self.used);
        let is_full =
            |used: &mut Option<usize>| used.is_some_and(|used| used > 0 && used + bytes > WAITING_BYTES);
        let mut used = wait_while(&self.freed, used, is_full);
        *used = used.map(|used| used + bytes);
    }

    fn change(&self, change: impl FnOnce(&mut Option<usize>)) {
        change(&mut lock(&self.used));
        self.freed.notify_all();
    }

    /// How long it is until something is due.
    fn due_in(&self) -> Option<Duration> {
        lock(&self.later).as_ref().map(|Later(from, _)| from.saturating_duration_since(Instant::now()))
    }

    /// Does what is due.
    fn look(&self) -> Option<Event> {
        let Later(_, act) = lock(&self.later).take_if(|Later(from, _)| *from <= Instant::now())?;
        act()
    }
}

impl EventReader {
    /// The next event, if one comes within `patience`.
    ///
    /// # Errors
    /// None came, or none will.
    pub fn next_within(&self, patience: Duration) -> Result<(Instant, Event), RecvTimeoutError> {
        /// What is to be done later may be said while nothing comes; so often that is looked for.
        const GLANCE: Duration = Duration::from_millis(50);
        let began = Instant::now();
        let (time, event) = loop {
            if let Some(event) = self.room.look() {
                return Ok((Instant::now(), event));
            }
            let left = patience.saturating_sub(began.elapsed());
            let wait = left.min(self.room.due_in().unwrap_or(GLANCE)).min(GLANCE);
            match self.receiver.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) if wait < left => {}
                outcome => break outcome?,
            }
        };
        if let Event::Log { line, .. } = &event {
            self.room.change(|used| *used = used.map(|used| used.saturating_sub(line.len() + LINE_BYTES)));
        }
        Ok((time, event))
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.room.change(|used| *used = None);
    }
}

/// A channel, and who reads it.
pub fn channel() -> (Events, EventReader) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let room = Arc::new(Room { used: Mutex::new(Some(0)), ..Room::default() });
    let events = Events { sender: Some(sender), room: Some(Arc::clone(&room)), listener: None };
    (events, EventReader { receiver, room })
}

impl Events {
    /// Sends into `sender`, each event with the time it happened; nothing ever waits.
    pub fn new(sender: Sender<(Instant, Event)>) -> Self {
        Self { sender: Some(sender), room: None, listener: None }
    }

    /// Drops every event.
    pub fn silent() -> Self {
        Self::default()
    }

    /// The same channel; what is told on it from now on, `listener` hears as well.
    #[must_use]
    pub fn heard_by(&self, listener: Arc<dyn Listener>) -> Self {
        Self { listener: Some(listener), ..self.clone() }
    }

    /// Has the reader do something after so long, as soon as it waits for an event: it looks up from that for this. A second one takes the place of the first. One that goes away before does it not.
    ///
    /// # Errors
    /// Nobody is known to read; gives back what was to be done.
    pub fn later(&self, after: Duration, act: Act) -> Result<(), Act> {
        match &self.room {
            Some(room) => {
                *lock(&room.later) = Some(Later(Instant::now() + after, act));
                Ok(())
            }
            None => Err(act),
        }
    }

    /// Tells what happened. A reader that has gone away is no error.
    pub fn send(&self, event: Event) {
        if let Some(listener) = &self.listener {
            listener.hear(&event);
        }
        if let Some(sender) = &self.sender {
            if let (Some(room), Event::Log { line, .. }) = (&self.room, &event) {
                room.enter(line.len() + LINE_BYTES);
            }
            let _ = sender.send((Instant::now(), event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StepNumber, Stream};
    use super::*;

    fn line(bytes: usize) -> Event {
        Event::Log { step: StepNumber(0), stream: Stream::Stdout, line: "x".repeat(bytes) }
    }

    #[test]
    fn output_waits_for_its_reader() {
        const LINES: usize = 200;
        let (events, reader) = channel();
        let patience = Duration::from_secs(60);
        std::thread::scope(|scope| {
            scope.spawn(move || (0..LINES).for_each(|_| events.send(line(100 << 10))));
            for _ in 0..LINES {
                assert!(reader.next_within(patience).is_ok());
                let used = *lock(&reader.room.used);
                assert!(used.is_some_and(|used| used <= WAITING_BYTES), "{used:?}");
            }
            assert!(reader.next_within(patience).is_err());
        });
    }

    #[test]
    fn who_reads_does_what_is_due() {
        let (events, reader) = channel();
        let done = Arc::new(Mutex::new(0));
        let act = |by: usize| -> Act {
            let done = Arc::clone(&done);
            Box::new(move || {
                *lock(&done) += by;
                Some(Event::Note(by.to_string()))
            })
        };
        assert!(events.later(Duration::from_secs(3600), act(1)).is_ok());
        assert!(reader.next_within(Duration::ZERO).is_err() && *lock(&done) == 0);
        assert!(events.later(Duration::ZERO, act(2)).is_ok());
        assert!(matches!(reader.next_within(Duration::ZERO), Ok((_, Event::Note(by))) if by == "2"));
        assert!(reader.next_within(Duration::ZERO).is_err() && *lock(&done) == 2);
        assert!(Events::silent().later(Duration::ZERO, act(4)).is_err());
        // Who waits for an event that does not come does it all the same.
        let told = std::thread::scope(|scope| {
            let waits = scope.spawn(move || reader.next_within(Duration::from_secs(3600)));
            assert!(events.later(Duration::from_millis(10), act(5)).is_ok());
            waits.join()
        });
        assert!(matches!(told, Ok(Ok((_, Event::Note(by)))) if by == "5"));
    }

    #[test]
    fn nobody_waits_for_a_reader_that_has_gone() {
        let (events, reader) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || (0..200).for_each(|_| events.send(line(100 << 10))));
            drop(reader);
        });
    }
}
