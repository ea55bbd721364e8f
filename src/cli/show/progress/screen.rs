//! The lower part of a terminal, drawn again and again in one place.

use std::io::Write as _;

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
}

impl Screen {
    /// Replaces what is shown by `above`, which stays and scrolls up from then on, and `frame`.
    pub(super) fn draw(&mut self, above: &str, frame: Vec<String>) {
        if above.is_empty() && frame == self.shown {
            return;
        }
        let text = self.update(above, &frame, Size::now().columns + 1);
        self.shown = frame;
        // A terminal that has gone away is no reason to stop a build.
        let _ = std::io::stderr().write_all(text.as_bytes());
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
        for line in frame {
            out.push_str(line);
            out.push_str(ERASE_LINE_REST);
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

    #[test]
    fn a_frame_replaces_the_one_before() {
        let screen = Screen { shown: vec!["a".to_owned(), "b".to_owned()] };
        let text = screen.update("", &["c".to_owned()], 80);
        assert_eq!(text, "\u{1b}[?2026h\r\u{1b}[2Ac\u{1b}[K\n\u{1b}[J\u{1b}[?2026l");
    }

    #[test]
    fn what_stays_goes_above() {
        let screen = Screen { shown: vec!["a".to_owned()] };
        let text = screen.update("done\nwell", &["b".to_owned()], 80);
        assert_eq!(text, "\u{1b}[?2026h\r\u{1b}[1A\u{1b}[Jdone\nwell\nb\u{1b}[K\n\u{1b}[J\u{1b}[?2026l");
    }

    #[test]
    fn a_narrower_terminal_has_wrapped_lines() {
        let screen = Screen { shown: vec!["x".repeat(30)] };
        assert!(screen.update("", &[], 20).contains("\u{1b}[2A\u{1b}[J"));
    }
}
