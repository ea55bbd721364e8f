//! The end of a command's output, for the message when it fails.

use std::collections::VecDeque;

use crate::text::terminal::{last_written, printable};

/// So many lines are shown.
const LINES: usize = 20;
/// A line longer than this is cut.
const LINE_BYTES: usize = 500;

/// The last lines.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    /// Lines were forgotten or cut.
    is_cut: bool,
}

impl Tail {
    /// Adds a line and forgets the oldest.
    pub(super) fn push(&mut self, line: &str) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
            self.is_cut = true;
        }
        self.is_cut |= line.len() > LINE_BYTES;
        let line = last_written(line);
        let mut end = line.len().min(LINE_BYTES);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        self.lines.push_back(printable(&line[..end]).into_owned());
    }

    /// Whether it is the whole output.
    pub(super) fn is_all(&self) -> bool {
        !self.is_cut
    }

    /// The lines, or `None` when there was no output.
    pub(super) fn text(&self) -> Option<String> {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_no_colours_and_what_a_bar_showed_last() {
        let mut tail = Tail::default();
        for line in ["\u{1b}[31mred\u{1b}[0m", "10%\r90%\r100%\r", "", "\ttab \u{1b}]0;title\u{7}end"] {
            tail.push(line);
        }
        assert_eq!(tail.text().as_deref(), Some("red\n100%\n\n\ttab end"));
        assert!(tail.is_all());
    }

    #[test]
    fn keeps_the_end() {
        let mut tail = Tail::default();
        assert!(tail.text().is_none() && tail.is_all());
        for i in 0..30 {
            tail.push(&format!("line {i}"));
        }
        let text = tail.text().unwrap_or_default();
        assert!(!tail.is_all());
        assert!(text.starts_with("line 10\n") && text.ends_with("line 29"), "{text}");
    }
}
