//! What commands without a display say beside their result.

use std::io::Write as _;
use std::sync::Arc;

use crate::report::{Event, Events, Listener};
use crate::text::terminal::harmless;

/// Says something on standard error.
pub(crate) fn note(text: &str) {
    // Nobody may be reading any more.
    let _ = std::io::stderr().write_all(format!("note: {}\n", harmless(text)).as_bytes());
}

/// Says notes at once; what else is told nobody hears.
pub(crate) fn aloud() -> Events {
    Events::silent().heard_by(Arc::new(Aloud))
}

#[derive(Debug)]
struct Aloud;

impl Listener for Aloud {
    fn hear(&self, event: &Event) {
        if let Event::Note(text) = event {
            note(text);
        }
    }
}
