//! How the commands of `rbuild history` write times, and what they say beside.

use std::io::Write as _;

use crate::text::terminal::harmless;

/// As buildx: `12.3s`, `2m  5s`.
pub(super) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds < 60 {
        true => format!("{:.1}s", milliseconds as f64 / 1000.0),
        false => format!("{}m {:2}s", seconds / 60, seconds % 60),
    }
}

/// Says something on standard error.
pub(super) fn note(text: &str) {
    let _ = std::io::stderr().write_all(format!("note: {}\n", harmless(text)).as_bytes());
}
