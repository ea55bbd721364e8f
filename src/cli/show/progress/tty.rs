//! Live progress: finished steps scroll up; below them, what runs now and how far the build is, redrawn in place.
//!
//! The moving part is composed as plain lines, each cut to the terminal's width and all of them to its height, so that
//! no line wraps and nothing scrolls away that must be redrawn. indicatif tells how fast transfers are; it does not
//! draw, because it leaves the cursor at the right margin, where an echoed `^C` begins a new line and spoils the count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Display;
use super::frame::{Colors, Line, Paint, Size, shows_unicode};
use super::screen::Screen;
use crate::report::{Event, Outcome, StepHeading, StepNumber};
use crate::text::terminal::{cut, for_people, harmless, last_written, printable};
use crate::text::{duration::seconds, size::bytes};

/// So many lines of output are kept for a running step; fewer are shown when there is no room.
const OUTPUT_LINES: usize = 6;
/// So many transfers of one step are shown at once.
const TRANSFER_LINES: usize = 4;
const BAR_COLUMNS: usize = 24;
const SPINNER: [char; 8] = ['⣾', '⣽', '⣻', '⢿', '⡿', '⣟', '⣯', '⣷'];
/// The same where the terminal shows nothing but ASCII.
const PLAIN_SPINNER: [char; 4] = ['|', '/', '-', '\\'];
const SPINNER_PACE_MS: u128 = 100;
/// So many steps in a row that cost nothing have a line each.
const UNFOLDED: usize = 3;
/// Beyond so many steps nobody is told how many wait for one.
const MOST_STEPS: usize = 2000;

pub(super) struct Tty {
    screen: Screen,
    paint: Paint,
    started: Instant,
    headings: Vec<StepHeading>,
    running: BTreeMap<StepNumber, Running>,
    /// How many steps have ended well.
    done: usize,
    /// Steps that have ended, however.
    ended: BTreeSet<StepNumber>,
    /// Lines of steps that cost nothing, one after the other; many become one line.
    folded: Vec<String>,
}

/// A step that runs.
struct Running {
    since: Instant,
    why: String,
    output: VecDeque<String>,
    /// A line that has not ended.
    so_far: Option<String>,
    /// In the order in which they began; finished ones are dropped.
    transfers: Vec<Transfer>,
}

/// Bytes on their way.
struct Transfer {
    what: String,
    done: u64,
    /// 0 while unknown.
    total: u64,
    /// Shows nothing, but knows the pace.
    pace: ProgressBar,
}

impl Tty {
    pub(super) fn new(started: Instant, color: bool) -> Self {
        Self {
            screen: Screen::default(),
            paint: Paint {
                color,
                unicode: shows_unicode(|name| std::env::var(name).ok()),
                colors: Colors::parse(&std::env::var("BUILDKIT_COLORS").unwrap_or_default()),
            },
            started,
            headings: Vec::new(),
            running: BTreeMap::new(),
            done: 0,
            ended: BTreeSet::new(),
            folded: Vec::new(),
        }
    }

    /// Place and title of a step on one line of at most `columns`.
    fn heading(&self, step: StepNumber, columns: usize) -> String {
        let Some(heading) = self.headings.get(step.0) else { return String::new() };
        let place = cut(&heading.place, columns);
        let left = columns.saturating_sub(place.chars().count() + 1);
        let title = printable(&heading.title).replace('\t', " ");
        match place.is_empty() {
            true => cut(&title, columns).into_owned(),
            false if left == 0 => self.paint.bold(&place),
            false => format!("{} {}", self.paint.bold(&place), cut(&title, left)),
        }
    }

    fn running(&mut self, step: StepNumber, time: Instant) -> &mut Running {
        self.running.entry(step).or_insert_with(|| Running {
            since: time,
            why: String::new(),
            output: VecDeque::new(),
            so_far: None,
            transfers: Vec::new(),
        })
    }

    fn transfer(&mut self, step: StepNumber, time: Instant, what: &str, done: u64, total: u64) {
        let transfers = &mut self.running(step, time).transfers;
        let at = transfers.iter().position(|transfer| transfer.what == what).unwrap_or_else(|| {
            transfers.push(Transfer { what: what.to_owned(), done, total, pace: ProgressBar::hidden() });
            transfers.len() - 1
        });
        (transfers[at].done, transfers[at].total) = (done, total);
        transfers[at].pace.set_position(done);
        transfers.retain(|transfer| transfer.total == 0 || transfer.done < transfer.total);
    }

    /// Leaves a line above what still moves.
    fn close(&mut self, step: StepNumber, mark: &str, tail: &str) {
        let line = self.closed(step, mark, tail);
        self.print(&line);
    }

    /// The line of a step that has ended.
    fn closed(&mut self, step: StepNumber, mark: &str, tail: &str) -> String {
        self.running.remove(&step);
        self.ended.insert(step);
        let columns = Size::now().columns;
        let left = columns.saturating_sub(2 + tail.chars().count() + 1);
        let line = format!("{mark} {} {}", self.heading(step, left), self.paint.dim(tail));
        self.paint.shown(line.trim_end()).into_owned()
    }

    /// What was folded: a line for each of a few, one for many.
    fn unfold(&mut self) -> Option<String> {
        let lines = std::mem::take(&mut self.folded);
        match lines.len() {
            0 => None,
            1..=UNFOLDED => Some(lines.join("\n")),
            many => {
                let mark = self.paint.green(if self.paint.unicode { "✔" } else { "+" });
                Some(format!(
                    "{mark} {} {}",
                    self.paint.bold(&format!("{many} steps")),
                    self.paint.dim("cached")
                ))
            }
        }
    }

    /// How many steps that have not ended stand on this one, and so wait for it.
    fn waiting_for(&self, step: StepNumber) -> usize {
        if self.headings.len() > MOST_STEPS {
            return 0;
        }
        let mut stands_on = vec![false; self.headings.len()];
        let mut count = 0;
        // What a step needs comes before it.
        for heading in self.headings.iter().skip(step.0 + 1) {
            let is_above = heading
                .needs
                .iter()
                .any(|needed| *needed == step || stands_on.get(needed.0).copied().unwrap_or(false));
            if is_above && let Some(known) = stands_on.get_mut(heading.number.0) {
                *known = true;
                count += usize::from(!self.ended.contains(&heading.number));
            }
        }
        count
    }

    fn print(&mut self, text: &str) {
        let text = match self.unfold() {
            Some(folded) if text.is_empty() => folded,
            Some(folded) => format!("{folded}\n{text}"),
            None => text.to_owned(),
        };
        let text = text.as_str();
        let frame = self.frame(Size::now(), Instant::now());
        self.screen.draw(text, frame);
    }

    fn redraw(&mut self) {
        let frame = self.frame(Size::now(), Instant::now());
        self.screen.draw("", frame);
    }

    /// The moving part.
    fn frame(&self, size: Size, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        let last = self.so_far(size, now);
        let rows = size.rows - usize::from(last.is_some());
        let shown = self.running.len().min(rows);
        let room = (rows - shown) / shown.max(1);
        let held_up = self.holds_up_most();
        for (step, running) in self.running.iter().take(shown) {
            let waiting = held_up.filter(|(most, _)| most == step).map(|(_, count)| count);
            lines.push(self.head(*step, (running, waiting), size.columns, now));
            let transfers: Vec<String> =
                running.transfers.iter().take(TRANSFER_LINES).map(|t| self.bar(t, size.columns)).collect();
            let output = running.output.iter().chain(&running.so_far).map(|line| {
                let text = cut(line, size.columns.saturating_sub(4)).into_owned();
                format!("    {}", self.paint.dim(&text))
            });
            let output: Vec<String> = output.collect();
            let below: Vec<String> = transfers.into_iter().chain(output).collect();
            lines.extend_from_slice(&below[below.len().saturating_sub(room)..]);
        }
        lines.extend(last);
        lines.iter().map(|line| self.paint.shown(line).into_owned()).collect()
    }

    /// Of several steps that run, the one that most others wait for, and how many these are.
    fn holds_up_most(&self) -> Option<(StepNumber, usize)> {
        if self.running.len() < 2 {
            return None;
        }
        let counts = self.running.keys().map(|step| (*step, self.waiting_for(*step)));
        // Of two that are equal the one that has run longest.
        counts
            .filter(|(_, count)| *count > 0)
            .max_by_key(|(step, count)| (*count, std::cmp::Reverse(self.running[step].since)))
    }

    /// `3 of 12 steps done, 14.2s`, while anything runs and where it costs no running step its line.
    fn so_far(&self, size: Size, now: Instant) -> Option<String> {
        let fits = !self.running.is_empty() && self.running.len() < size.rows;
        let (done, steps) = (self.done, self.headings.len());
        let took = elapsed(now.saturating_duration_since(self.started));
        let text = format!("{done} of {steps} steps done, {took}");
        (fits && steps > 0).then(|| self.paint.dim(&cut(&text, size.columns)))
    }

    /// `⣾ [build 2/5] RUN make (src/app.c changed)          12.3s`
    fn head(
        &self,
        step: StepNumber,
        (running, waiting): (&Running, Option<usize>),
        columns: usize,
        now: Instant,
    ) -> String {
        let took = now.saturating_duration_since(running.since);
        let spinner: &[char] = if self.paint.unicode { &SPINNER } else { &PLAIN_SPINNER };
        let spinner = spinner[(took.as_millis() / SPINNER_PACE_MS) as usize % spinner.len()];
        let took = elapsed(took);
        let room = columns.saturating_sub(2 + 1 + took.chars().count());
        let mut line = Line::new(self.heading(step, room));
        if let Some(waiting) = waiting {
            let waiting = format!("({waiting} wait for it)");
            if waiting.len() < room.saturating_sub(line.columns()) {
                line.push(&format!(" {}", self.paint.cyan(&waiting)));
            }
        }
        if !running.why.is_empty() {
            let why = format!("({})", running.why);
            let left = room.saturating_sub(line.columns() + 1);
            // Half a reason helps nobody.
            if why.chars().count() <= left {
                line.push(&format!(" {}", self.paint.dim(&why)));
            }
        }
        line.pad(room);
        format!("{} {} {}", self.paint.cyan(&spinner.to_string()), line.text(), self.paint.dim(&took))
    }

    /// `sha256:abc  ━━━━━━────  12.0 MB / 48.3 MB  9.1 MB/s`
    fn bar(&self, transfer: &Transfer, columns: usize) -> String {
        let Transfer { what, done, total, pace } = transfer;
        let what = harmless(what);
        let what = cut(&what, 22);
        let pace = match pace.per_sec() {
            pace if pace >= 1.0 => format!("  {}/s", bytes(pace as u64)),
            _ => String::new(),
        };
        let text = match total {
            0 => format!("    {what:<16} {}{pace}", bytes(*done)),
            _ => {
                let filled = (*done as f64 / *total as f64 * BAR_COLUMNS as f64) as usize;
                let (full, empty) = if self.paint.unicode { ('━', '─') } else { ('=', '-') };
                let bar: String = (0..BAR_COLUMNS).map(|at| if at < filled { full } else { empty }).collect();
                format!("    {what:<16} {bar} {:>9} / {}{pace}", bytes(*done), bytes(*total))
            }
        };
        self.paint.dim(&cut(&text, columns))
    }

    fn event(&mut self, time: Instant, event: &Event) {
        match event {
            Event::Planned(headings) => self.headings.clone_from(headings),
            Event::Started(step) => drop(self.running(*step, time)),
            Event::Missed { step, why } => {
                self.running(*step, time).why = why.as_deref().map(for_people).unwrap_or_default();
                // Something works from here on.
                if !self.folded.is_empty() {
                    self.print("");
                }
            }
            Event::Log { step, line, .. } => {
                let running = self.running(*step, time);
                running.so_far = None;
                let output = &mut running.output;
                output.push_back(shown(line));
                if output.len() > OUTPUT_LINES {
                    output.pop_front();
                }
            }
            Event::LogSoFar { step, line } => self.running(*step, time).so_far = Some(shown(line)),
            Event::Bytes { step, what, done, total } => self.transfer(*step, time, what, *done, *total),
            Event::Unpacking { step, layer, done, total } => {
                self.transfer(*step, time, &format!("unpacking {layer}"), *done, *total);
            }
            Event::Unpacked { step, took } => {
                let running = self.running(*step, time);
                running.since = time;
                running.transfers.clear();
                let place = self.headings.get(step.0).map_or("", |heading| &heading.place);
                self.print(
                    &self.paint.dim(&format!("{place} unpacked what it stands on in {}", seconds(*took))),
                );
            }
            Event::Finished { step, outcome, took, .. } => {
                let tail = match outcome {
                    Outcome::Ran => seconds(*took),
                    Outcome::Cached => "cached".to_owned(),
                    Outcome::ConfigOnly => String::new(),
                };
                self.done += 1;
                let mark = self.paint.green(if self.paint.unicode { "✔" } else { "+" });
                match outcome {
                    Outcome::Ran => self.close(*step, &mark, &tail),
                    Outcome::Cached | Outcome::ConfigOnly => {
                        let line = self.closed(*step, &mark, &tail);
                        self.folded.push(line);
                    }
                }
            }
            Event::Cancelled { step, .. } => {
                if self.running.contains_key(step) {
                    self.close(*step, " ", "cancelled");
                }
            }
            Event::Failed { step, took, .. } => {
                let mark = if self.paint.unicode { "✘" } else { "x" };
                self.close(*step, &self.paint.red(mark), &seconds(*took));
            }
            Event::Warning(diagnostic) => {
                let text = crate::cli::show::diagnostic::render(diagnostic, self.paint.color);
                self.print(text.trim_end());
            }
            Event::Note(note) | Event::RunsAs(note) => self.print(&self.paint.dim(&for_people(note))),
        }
    }
}

impl Display for Tty {
    fn show(&mut self, time: Instant, event: &Event) {
        self.event(time, event);
        // A command that prints fast would else have every line of its output drawn: the next tick shows the last.
        let is_frequent = matches!(
            event,
            Event::Log { .. } | Event::LogSoFar { .. } | Event::Bytes { .. } | Event::Unpacking { .. }
        );
        if !is_frequent {
            self.redraw();
        }
    }

    fn tick(&mut self) {
        self.redraw();
    }

    fn finish(&mut self) {
        for step in std::mem::take(&mut self.running).into_keys() {
            self.close(step, " ", "stopped");
        }
        if !self.folded.is_empty() {
            self.print("");
        }
        self.redraw();
    }
}

/// A line of output as it is shown.
fn shown(line: &str) -> String {
    printable(last_written(line)).replace('\t', "    ")
}

/// The time a step takes, with tenths so that one sees it move.
fn elapsed(took: Duration) -> String {
    match took.as_secs() {
        0..60 => format!("{:.1}s", took.as_secs_f64()),
        _ => seconds(took),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::Stream;

    const START: StepNumber = StepNumber(0);

    fn tty() -> (Tty, Instant) {
        let start = Instant::now();
        let mut tty = Tty::new(start, false);
        tty.paint.unicode = true;
        let heading = |number, title: &str| StepHeading {
            number: StepNumber(number),
            place: format!("[{}/3]", number + 1),
            title: title.to_owned(),
            platform: None,
            needs: Vec::new(),
            owner: 0,
            lines: None,
        };
        tty.event(
            start,
            &Event::Planned(vec![
                heading(0, "RUN make all"),
                heading(1, "RUN long title that goes on and on"),
            ]),
        );
        (tty, start)
    }

    fn frame(tty: &Tty, rows: usize, columns: usize, at: Instant) -> String {
        tty.frame(Size { rows, columns }, at).join("\n")
    }

    #[test]
    fn a_running_step_shows_reason_time_and_last_output() {
        let (mut tty, start) = tty();
        tty.event(start, &Event::Started(START));
        tty.event(start, &Event::Missed { step: START, why: Some("a.c changed".to_owned()) });
        for number in 0..9 {
            let line = format!("line\t{number}");
            tty.event(start, &Event::Log { step: START, stream: Stream::Stdout, line });
        }
        tty.event(start, &Event::Bytes { step: START, what: "abc".to_owned(), done: 500, total: 1000 });
        assert_eq!(
            frame(&tty, 5, 50, start + Duration::from_millis(2300)),
            "\
⣷ [1/3] RUN make all (a.c changed)            2.3s
    line    6
    line    7
    line    8
0 of 2 steps done, 2.3s"
        );
        assert!(frame(&tty, 9, 60, start).contains("━━━━────"));
        tty.paint.unicode = false;
        assert!(frame(&tty, 9, 60, start).is_ascii());
    }

    #[test]
    fn a_line_that_has_not_ended_is_shown_in_its_place() {
        let (mut tty, start) = tty();
        tty.event(start, &Event::Started(START));
        let so_far = |line: &str| Event::LogSoFar { step: START, line: line.to_owned() };
        for line in ["10 %", "\r50 %", "\r50 %\r90 %"] {
            tty.event(start, &so_far(line));
        }
        let frame = |tty: &Tty| {
            let lines = tty.frame(Size { rows: 9, columns: 40 }, start);
            lines[1..lines.len() - 1].join("|")
        };
        assert_eq!(frame(&tty), "    90 %");
        let line = "\r50 %\r90 %\rdone\r".to_owned();
        tty.event(start, &Event::Log { step: START, stream: Stream::Stdout, line });
        assert_eq!(frame(&tty), "    done");
        tty.event(start, &so_far("next? "));
        assert_eq!(frame(&tty), "    done|    next? ");
    }

    #[test]
    fn the_last_line_says_how_far_the_build_is() {
        let (mut tty, start) = tty();
        let at = |seconds| start + Duration::from_secs(seconds);
        let last = |tty: &Tty, rows| tty.frame(Size { rows, columns: 40 }, at(75)).pop().unwrap_or_default();
        assert_eq!(last(&tty, 9), "", "nothing runs");
        tty.event(at(1), &Event::Started(START));
        tty.event(at(1), &Event::Started(StepNumber(1)));
        let done = Event::Finished {
            step: START,
            outcome: Outcome::Cached,
            took: Duration::ZERO,
            result: Box::default(),
        };
        tty.event(at(2), &done);
        assert_eq!(last(&tty, 9), "1 of 2 steps done, 1m15s");
        assert!(last(&tty, 1).contains("RUN long title"), "what runs comes first");
        tty.event(at(2), &Event::Failed { step: StepNumber(1), took: Duration::ZERO, usage: None });
        assert_eq!(last(&tty, 9), "", "nothing runs any more");
    }

    #[test]
    fn the_step_that_most_wait_for_is_marked() {
        let start = Instant::now();
        let mut tty = Tty::new(start, false);
        let heading = |number: usize, needs: &[usize]| StepHeading {
            number: StepNumber(number),
            place: String::new(),
            title: format!("RUN {number}"),
            platform: None,
            needs: needs.iter().map(|needed| StepNumber(*needed)).collect(),
            owner: 0,
            lines: None,
        };
        let all =
            vec![heading(0, &[]), heading(1, &[]), heading(2, &[1]), heading(3, &[2]), heading(4, &[0, 3])];
        tty.event(start, &Event::Planned(all));
        tty.event(start, &Event::Started(StepNumber(0)));
        assert!(!frame(&tty, 9, 60, start).contains("wait"), "it is alone");
        tty.event(start, &Event::Started(StepNumber(1)));
        let text = frame(&tty, 9, 60, start);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("RUN 1 (3 wait for it)") && !lines[0].contains("wait"), "{text}");
        assert!(!frame(&tty, 9, 16, start).contains("wait"), "there is no room");
    }

    #[test]
    fn many_steps_that_cost_nothing_are_one_line() {
        for (count, expected) in [
            (2, "✔ [1/3] RUN make all cached\n✔ [2/3] RUN long title that goes on and on cached"),
            (5, "✔ 5 steps cached"),
        ] {
            let (mut tty, start) = tty();
            for number in 0..count {
                let done = Event::Finished {
                    step: StepNumber(number % 2),
                    outcome: Outcome::Cached,
                    took: Duration::ZERO,
                    result: Box::default(),
                };
                tty.event(start, &done);
            }
            assert_eq!(tty.unfold().as_deref(), Some(expected));
            assert_eq!(tty.unfold(), None);
        }
    }

    #[test]
    fn no_line_is_wider_and_no_frame_higher_than_the_terminal() {
        let (mut tty, start) = tty();
        for step in [START, StepNumber(1)] {
            tty.event(start, &Event::Started(step));
            let line = "wide 宽宽宽宽宽宽宽宽宽宽宽宽宽 \u{1b}[31mred\u{1b}[0m ".repeat(9);
            tty.event(start, &Event::Log { step, stream: Stream::Stderr, line });
        }
        for rows in 1..8 {
            for columns in [10, 20, 33, 80] {
                let frame = tty.frame(Size { rows, columns }, start);
                assert!(frame.len() <= rows);
                for line in &frame {
                    assert!(crate::text::terminal::columns(line) <= columns, "{columns}: {line}");
                }
            }
        }
    }
}
