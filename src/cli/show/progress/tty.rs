//! Live progress: finished steps scroll up; below them, what runs now and how far the build is, redrawn in place.
//!
//! The moving part is composed as plain lines, each cut to the terminal's width and all of them to its height, so that
//! no line wraps and nothing scrolls away that must be redrawn. indicatif tells how fast transfers are; it does not
//! draw, because it leaves the cursor at the right margin, where an echoed `^C` begins a new line and spoils the count.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Display;
use super::ahead::{Ahead, Critical};
use super::frame::{Colors, Line, Paint, Size, shows_unicode};
use super::screen::Screen;
use crate::report::{Event, Outcome, StepNumber};
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
/// Of a step that waits as many columns are shown at least, or nothing.
const LEAST_TITLE: usize = 10;
/// Of one that is marked with words, so many.
const MARKED_TITLE: usize = 20;

pub(super) struct Tty {
    screen: Screen,
    paint: Paint,
    started: Instant,
    /// What is still to come.
    ahead: Ahead,
    running: BTreeMap<StepNumber, Running>,
    /// How many steps have ended well.
    done: usize,
    /// Lines of steps that cost nothing, one after the other, and whether the cache had them; many become one line.
    folded: Vec<(String, bool)>,
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
            ahead: Ahead::default(),
            running: BTreeMap::new(),
            done: 0,
            folded: Vec::new(),
        }
    }

    /// Place and title of a step on one line of at most `columns`.
    fn heading(&self, step: StepNumber, columns: usize) -> String {
        let Some(heading) = self.ahead.headings.get(step.0) else { return String::new() };
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
        self.ahead.end(step, Instant::now());
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
            1..=UNFOLDED => Some(lines.into_iter().map(|(line, _)| line).collect::<Vec<_>>().join("\n")),
            many => {
                let mark = self.paint.green(if self.paint.unicode { "✔" } else { "+" });
                let cached = lines.iter().filter(|(_, is_cached)| *is_cached).count();
                // Those that only change the configuration need no cache, and have none.
                let (count, what) = match (cached, many - cached) {
                    (0, rest) => (rest, "configuration only".to_owned()),
                    (cached, 0) => (cached, "cached".to_owned()),
                    (cached, rest) => (cached, format!("cached, {rest} configuration only")),
                };
                let steps = if count == 1 { "1 step".to_owned() } else { format!("{count} steps") };
                Some(format!("{mark} {} {}", self.paint.bold(&steps), self.paint.dim(&what)))
            }
        }
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
        self.ahead.look(self.started.elapsed());
        let frame = self.frame(Size::now(), Instant::now());
        self.screen.draw("", frame);
    }

    /// The moving part.
    fn frame(&self, size: Size, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        let elapsed = |running: &Running| now.saturating_duration_since(running.since);
        let running: Vec<_> = self.running.iter().map(|(step, running)| (*step, elapsed(running))).collect();
        let critical = self.ahead.critical(&running);
        let waiting = self.waiting(size, now);
        let rest = critical.and_then(|critical| critical.rest);
        // Where steps wait for their turn, it is not the longest way alone that counts.
        let left =
            rest.map(|rest| if waiting.is_some() { rest.max(self.ahead.work(&running)) } else { rest });
        let last = self.so_far(size, (left, now));
        let rows = size.rows - usize::from(last.is_some()) - usize::from(waiting.is_some());
        let shown = self.running.len().min(rows);
        let room = (rows - shown) / shown.max(1);
        // One that runs alone needs no mark.
        let marked = critical.filter(|_| self.running.len() > 1);
        for (step, running) in self.running.iter().take(shown) {
            let critical = marked.filter(|critical| critical.step == *step);
            lines.push(self.head(*step, (running, critical), size.columns, now));
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
        lines.extend(waiting);
        lines.extend(last);
        lines.iter().map(|line| self.paint.shown(line).into_owned()).collect()
    }

    /// `  [3/7] RUN make waits for its turn   4.1s`, of the step that has done so longest, where there is room.
    fn waiting(&self, size: Size, now: Instant) -> Option<String> {
        let (step, waited) = self.ahead.longest_waiting(|step| self.running.contains_key(&step), now)?;
        let fits = !self.running.is_empty() && self.running.len() + 2 < size.rows;
        let (words, waited) = (" waits for its turn", elapsed(waited));
        let room = size.columns.saturating_sub(2 + words.len() + 1 + waited.chars().count());
        (fits && room >= LEAST_TITLE).then(|| {
            let mut line = Line::new(self.heading(step, room));
            line.push(&self.paint.dim(words));
            line.pad(room + words.len());
            format!("  {} {}", line.text(), self.paint.dim(&waited))
        })
    }

    /// `3 of 12 steps done, 14.2s, about 40s left`, while anything runs and where it costs no running step its line.
    fn so_far(&self, size: Size, (left, now): (Option<Duration>, Instant)) -> Option<String> {
        let fits = !self.running.is_empty() && self.running.len() < size.rows;
        let (done, steps) = (self.done, self.ahead.headings.len());
        let took = elapsed(now.saturating_duration_since(self.started));
        let left = left.filter(|rest| rest.as_secs() > 0);
        let left = left.map(|rest| match rest.as_secs() {
            few @ 0..60 => format!("{few}s left"),
            many => format!("{} left", seconds(Duration::from_secs(many))),
        });
        let text = match left {
            None => format!("{done} of {steps} steps done, {took}"),
            Some(left) => {
                let whole = format!("{done} of {steps} steps done, {took}, about {left}");
                let is_narrow = whole.len() > size.columns;
                if is_narrow { format!("{done} of {steps} done, {took}, {left}") } else { whole }
            }
        };
        (fits && steps > 0).then(|| self.paint.dim(&cut(&text, size.columns)))
    }

    /// `⣾ [build 2/5] RUN make (src/app.c changed)          12.3s`; of the step that the build waits for, `▸` in place of the first space.
    fn head(
        &self,
        step: StepNumber,
        (running, critical): (&Running, Option<Critical>),
        columns: usize,
        now: Instant,
    ) -> String {
        let took = now.saturating_duration_since(running.since);
        let spinner: &[char] = if self.paint.unicode { &SPINNER } else { &PLAIN_SPINNER };
        let spinner = spinner[(took.as_millis() / SPINNER_PACE_MS) as usize % spinner.len()];
        let took = elapsed(took);
        let room = columns.saturating_sub(2 + 1 + took.chars().count());
        let words = critical.and_then(|critical| critical_words(critical, room));
        let mut line =
            Line::new(self.heading(step, room - words.as_ref().map_or(0, |words| words.len() + 1)));
        if let Some(words) = words {
            line.push(&format!(" {}", self.paint.cyan(&words)));
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
        let mark = match critical {
            None => " ".to_owned(),
            Some(_) => self.paint.cyan(if self.paint.unicode { "▸" } else { ">" }),
        };
        format!("{}{mark}{} {}", self.paint.cyan(&spinner.to_string()), line.text(), self.paint.dim(&took))
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
            Event::Planned(headings) => self.ahead.headings.clone_from(headings),
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
                let place = self.ahead.headings.get(step.0).map_or("", |heading| &heading.place);
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
                        self.folded.push((line, *outcome == Outcome::Cached));
                    }
                }
            }
            Event::Cancelled { step, .. } => {
                if self.running.contains_key(step) {
                    self.close(*step, " ", "cancelled");
                    self.ahead.fail(*step);
                }
            }
            Event::Failed { step, took, .. } => {
                let mark = if self.paint.unicode { "✘" } else { "x" };
                self.close(*step, &self.paint.red(mark), &seconds(*took));
                self.ahead.fail(*step);
            }
            Event::Warning(diagnostic) => {
                let (color, columns) = (self.paint.color, Some(Size::now().columns));
                let text = crate::cli::show::diagnostic::render_within(diagnostic, color, columns);
                self.print(text.trim_end());
            }
            Event::Foreseen(foresight) => self.ahead.foresee(foresight.clone()),
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
        if !is_frequent && !self.screen.rests(Instant::now()) {
            self.redraw();
        }
    }

    fn tick(&mut self) {
        if !self.screen.rests(Instant::now()) {
            self.redraw();
        }
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

/// What is said of the step that the build waits for, where that leaves enough of its title.
fn critical_words(Critical { waiting, rest, .. }: Critical, room: usize) -> Option<String> {
    let long = match (waiting, rest.is_some()) {
        (0, _) => None,
        (waiting, true) => Some(format!("(critical path, {waiting} wait for it)")),
        (waiting, false) => Some(format!("({waiting} wait for it)")),
    };
    let short = rest.map(|_| "(critical path)".to_owned());
    [long, short].into_iter().flatten().find(|words| words.len() + 1 + MARKED_TITLE <= room)
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
mod tests;
