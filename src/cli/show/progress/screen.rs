//! The lower part of a terminal, drawn again and again in one place.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::frame::Size;
use crate::text::terminal::columns;

const ERASE_LINE_REST: &str = "\u{1b}[K";
const ERASE_BELOW: &str = "\u{1b}[J";
/// Terminals that know these show everything between them at once; others ignore them.
const BEGIN_UPDATE: &str = "\u{1b}[?2026h";
const END_UPDATE: &str = "\u{1b}[?2026l";

/// What is on the screen. The cursor stands at the beginning of the line below it, so that what somebody types there
/// moves nothing.
#[derive(Default)]
pub(super) struct Screen {
    shown: Vec<String>,
    /// A line that is slow has time to show what it was given: nothing that only moves is drawn until then.
    rests_until: Option<Instant>,
}

/// A terminal that takes so long for a frame is slow;
const SLOW: Duration = Duration::from_millis(20);
/// it rests for so many times that,
const REST: u32 = 4;
/// or that of so long a frame: one that was stopped for minutes (Ctrl-S) is not slow now.
const SLOWEST: Duration = Duration::from_millis(250);

/// How long a terminal is left alone that took so long for a frame.
fn rest(took: Duration) -> Option<Duration> {
    (took >= SLOW).then(|| took.min(SLOWEST) * REST)
}

impl Screen {
    /// Replaces what is shown by `above`, which stays and scrolls up from then on, and `frame`.
    pub(super) fn draw(&mut self, above: &str, frame: Vec<String>) {
        if above.is_empty() && frame == self.shown {
            return;
        }
        let text = self.update(above, &frame, Size::now().columns + 1);
        self.shown = frame;
        let began = Instant::now();
        // A terminal that has gone away is no reason to stop a build.
        let _ = std::io::stderr().write_all(text.as_bytes());
        self.rests_until = rest(began.elapsed()).map(|rest| Instant::now() + rest);
    }

    /// Whether what only moves is better left as it is for now.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    fn update(&self, above: &str, frame: &[String], width: usize) -> String {
        // A terminal that was made narrower has wrapped what was shown.
        let rows: usize = self.shown.iter().map(|line| columns(line).div_ceil(width).max(1)).sum();
        let mut out = String::from(BEGIN_UPDATE);
        out.push('\r');
        if rows > 0 {
            out.push_str(&format!("\u{1b}[{rows}A"));
        }
        if !above.is_empty() || rows != self.shown.len() {
            out.push_str(ERASE_BELOW);
        }
        for line in above.lines() {
            out.push_str(line);
            out.push('\n');
        }
        let is_in_place = above.is_empty() && rows == self.shown.len();
        for (at, line) in frame.iter().enumerate() {
            // What is there already need not go over a slow line again.
            if !is_in_place || self.shown.get(at) != Some(line) {
                out.push_str(line);
                out.push_str(ERASE_LINE_REST);
            }
            out.push('\n');
        }
        out.push_str(ERASE_BELOW);
        out.push_str(END_UPDATE);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(lines: &[&str]) -> Screen {
        Screen { shown: lines.iter().map(|line| (*line).to_owned()).collect(), rests_until: None }
    }

    #[test]
    fn a_frame_replaces_the_one_before() {
        let screen = screen(&["a", "b"]);
        let text = screen.update("", &["c".to_owned()], 80);
        assert_eq!(text, "\u{1b}[?2026h\r\u{1b}[2Ac\u{1b}[K\n\u{1b}[J\u{1b}[?2026l");
        let text = screen.update("", &["a".to_owned(), "c".to_owned()], 80);
        assert_eq!(text, "\u{1b}[?2026h\r\u{1b}[2A\nc\u{1b}[K\n\u{1b}[J\u{1b}[?2026l");
    }

    #[test]
    fn a_slow_terminal_rests_but_never_for_long() {
        assert_eq!(rest(Duration::from_millis(19)), None);
        assert_eq!(rest(Duration::from_millis(30)), Some(Duration::from_millis(120)));
        assert_eq!(rest(Duration::from_secs(600)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_stays_goes_above() {
        let screen = screen(&["a"]);
        let text = screen.update("done\nwell", &["b".to_owned()], 80);
        assert_eq!(text, "\u{1b}[?2026h\r\u{1b}[1A\u{1b}[Jdone\nwell\nb\u{1b}[K\n\u{1b}[J\u{1b}[?2026l");
    }

    #[test]
    fn a_narrower_terminal_has_wrapped_lines() {
        let screen = screen(&[&"x".repeat(30)]);
        assert!(screen.update("", &[], 20).contains("\u{1b}[2A\u{1b}[J"));
    }
}
