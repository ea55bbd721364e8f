//! Readers of the event channel: a live terminal, plain lines, JSON, or nothing.

mod frame;
pub(in crate::cli) mod json;
mod plain;
mod screen;
mod tty;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cli::args::ProgressMode;
use crate::cli::error::color_of;
use crate::report::text::is_unsafe;
use crate::report::{Event, EventReader, Events, StepNumber, channel};

/// Something that shows events. One value shows one build.
trait Display {
    /// Shows `event`, which happened at `time`.
    fn show(&mut self, time: Instant, event: &Event);
    /// Redraws what moves by itself; called now and then.
    fn tick(&mut self) {}
    /// No more events come.
    fn finish(&mut self) {}
}

/// A running display. [`Progress::finish`] waits until everything was shown.
pub(in crate::cli) struct Progress {
    events: Events,
    reader: JoinHandle<()>,
    abandoned: Arc<AtomicBool>,
}

impl Progress {
    /// Starts to show a build.
    pub(in crate::cli) fn start(mode: ProgressMode) -> Self {
        let (events, receiver) = channel();
        let started = Instant::now();
        let abandoned = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&abandoned);
        let reader = std::thread::spawn(move || match mode.resolved() {
            ProgressMode::Tty => drain(receiver, &gone, tty::Tty::new(color_of(&std::io::stderr()))),
            ProgressMode::Json => drain(receiver, &gone, json::Json::new(started)),
            ProgressMode::Quiet => drain(receiver, &gone, Quiet),
            ProgressMode::Plain | ProgressMode::Auto => drain(receiver, &gone, plain::Plain::new(started)),
        });
        Self { events, reader, abandoned }
    }

    /// Where the build sends its events.
    pub(in crate::cli) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Waits until every event was shown. All other clones of the channel must be gone by then.
    pub(in crate::cli) fn finish(self) {
        drop(self.events);
        // A display that panicked has already said so; the build's result stands.
        let _ = self.reader.join();
    }
}

impl Progress {
    /// Takes the display down though the build may go on sending events.
    pub(in crate::cli) fn abandon(self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.finish();
    }
}

impl ProgressMode {
    /// `auto` decided by where standard error goes.
    pub(in crate::cli) fn resolved(self) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        match self {
            ProgressMode::Auto if std::io::stderr().is_terminal() && !dumb => ProgressMode::Tty,
            ProgressMode::Auto => ProgressMode::Plain,
            decided => decided,
        }
    }
}

fn drain(receiver: EventReader, abandoned: &AtomicBool, mut display: impl Display) {
    while !abandoned.load(Ordering::Relaxed) {
        match receiver.next_within(Duration::from_millis(100)) {
            Ok((time, event)) => display.show(time, &event),
            Err(RecvTimeoutError::Timeout) => display.tick(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Who still has output to show need not wait for somebody to take it.
    drop(receiver);
    display.finish();
}

/// So many bytes of a step's output are shown; a CI system that keeps them all is rare, and `rbuild logs` has both ends of
/// what is longer.
const SHOWN_BYTES: usize = 16 << 20;

/// How much of each step's output was shown.
#[derive(Debug, Default)]
struct Shown(std::collections::BTreeMap<StepNumber, usize>);

/// What becomes of a line of output.
enum Fate {
    Shown,
    /// The first that is not.
    Clipped(String),
    Dropped,
}

impl Shown {
    fn line(&mut self, step: StepNumber, line: &str) -> Fate {
        let shown = self.0.entry(step).or_default();
        if *shown > SHOWN_BYTES {
            return Fate::Dropped;
        }
        *shown += line.len() + 1;
        match *shown > SHOWN_BYTES {
            true => Fate::Clipped(format!(
                "[output clipped, {} MiB are shown of a step; `rbuild logs` has the beginning and the end]",
                SHOWN_BYTES >> 20
            )),
            false => Fate::Shown,
        }
    }
}

/// Shows nothing.
struct Quiet;

impl Display for Quiet {
    fn show(&mut self, _: Instant, _: &Event) {}
}

/// A duration for people: `0.34s`, `12.3s`, `2m05s`.
pub(in crate::cli) fn seconds(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match seconds {
        s if s < 10.0 => format!("{s:.2}s"),
        s if s < 60.0 => format!("{s:.1}s"),
        _ => format!("{}m{:02}s", took.as_secs() / 60, took.as_secs() % 60),
    }
}

/// A number of bytes for people, in powers of 1000 as registries count: `512 B`, `48.3 MB`.
pub(in crate::cli) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// As much of `text`, which has no colours, as fits into `width` columns; when something is left out, the last is `…`.
pub(in crate::cli) fn cut(text: &str, width: usize) -> std::borrow::Cow<'_, str> {
    if columns(text) <= width {
        return text.into();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += columns_of(*c);
        used < width
    };
    let kept: String = text.chars().take_while(fits).collect();
    if width == 0 { "".into() } else { (kept + "…").into() }
}

/// How many columns a terminal needs for `text`; colours need none.
pub(in crate::cli) fn columns(text: &str) -> usize {
    let mut chars = text.chars().peekable();
    let mut sum = 0;
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            c => sum += columns_of(c),
        }
    }
    sum
}

/// East Asian wide characters and emoji take two columns, combining marks none (Unicode, annex 11, by blocks).
fn columns_of(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// How many columns standard output has, if it is a terminal.
pub(in crate::cli) fn width_of_stdout() -> Option<usize> {
    let stdout = std::io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns >= 20)
}

/// `text`, which is one line, without control characters other than tabs and without what turns the direction of writing:
/// a step's output cannot move the cursor.
pub(in crate::cli) fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    // What a terminal would show of `10%\r20%\r30%` is the last piece.
    let last = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(last.len());
    let mut chars = last.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            skip_escape(&mut chars);
        } else if !is_unsafe(c) {
            out.push(c);
        }
    }
    out.into()
}

/// Skips the rest of an ANSI escape sequence whose ESC was just read.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
        Some(']') => while chars.next().is_some_and(|c| c != '\u{7}' && c != '\u{9c}') {},
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_move_the_cursor() {
        assert_eq!(printable("plain\ttext"), "plain\ttext");
        assert_eq!(printable("10%\r20%\r30%\r"), "30%");
        assert_eq!(printable("\u{1b}[2J\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}end"), "red end");
    }

    #[test]
    fn lines_are_cut_by_columns() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("宽宽宽", 5), "宽宽…");
        assert_eq!(cut("宽宽宽", 4), "宽…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(columns("\u{1b}[31mred\u{1b}[0m e\u{301}"), 5);
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(48_250_000), "48.2 MB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(seconds(Duration::from_millis(340)), "0.34s");
        assert_eq!(seconds(Duration::from_secs(125)), "2m05s");
    }
}
