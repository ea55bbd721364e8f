//! Live progress: a line per step, bars for transfers, the running steps' last output lines.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Display, printable, seconds};
use crate::report::{Event, Outcome, StepHeading, StepNumber};

/// So many lines of output are shown below a running step.
const OUTPUT_LINES: usize = 5;

const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const RESET: &str = "\u{1b}[0m";

pub(super) struct Tty {
    screen: MultiProgress,
    headings: Vec<StepHeading>,
    running: BTreeMap<StepNumber, Running>,
}

/// A step on the screen: its own line, one for each line of output, a bar for each transfer.
struct Running {
    line: ProgressBar,
    output: VecDeque<String>,
    output_lines: Vec<ProgressBar>,
    transfers: BTreeMap<String, ProgressBar>,
}

impl Tty {
    pub(super) fn new() -> Self {
        Self {
            screen: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15)),
            headings: Vec::new(),
            running: BTreeMap::new(),
        }
    }

    fn heading(&self, step: StepNumber) -> String {
        match self.headings.get(step.0) {
            Some(h) if h.place.is_empty() => printable(&h.title).into_owned(),
            Some(h) => format!("{BOLD}{}{RESET} {}", h.place, printable(&h.title)),
            None => String::new(),
        }
    }

    fn running(&mut self, step: StepNumber) -> &mut Running {
        let heading = self.heading(step);
        let screen = &self.screen;
        self.running.entry(step).or_insert_with(|| {
            let line = screen.add(ProgressBar::new_spinner());
            line.set_style(style("{spinner:.cyan} {wide_msg} {elapsed:.dim}"));
            line.set_message(heading);
            line.enable_steady_tick(Duration::from_millis(120));
            Running { line, output: VecDeque::new(), output_lines: Vec::new(), transfers: BTreeMap::new() }
        })
    }

    fn log(&mut self, step: StepNumber, text: &str) {
        let screen = self.screen.clone();
        let running = self.running(step);
        running.output.push_back(printable(text).into_owned());
        if running.output.len() > OUTPUT_LINES {
            running.output.pop_front();
        } else {
            let above = running.output_lines.last().unwrap_or(&running.line);
            let bar = screen.insert_after(above, ProgressBar::new_spinner());
            bar.set_style(style("    {wide_msg:.dim}"));
            running.output_lines.push(bar);
        }
        for (bar, text) in running.output_lines.iter().zip(&running.output) {
            bar.set_message(text.clone());
        }
    }

    fn transfer(&mut self, step: StepNumber, what: &str, done: u64, total: u64) {
        let screen = self.screen.clone();
        let running = self.running(step);
        let bar = running.transfers.entry(what.to_owned()).or_insert_with(|| {
            let bar = screen.insert_after(&running.line, ProgressBar::new(total.max(1)));
            bar.set_style(style("    {prefix:.dim} {bar:30.cyan/dim} {decimal_bytes:>9} / {decimal_total_bytes:9} {decimal_bytes_per_sec:.dim}"));
            bar.set_prefix(what.to_owned());
            bar
        });
        bar.set_length(total.max(done));
        bar.set_position(done);
    }

    /// Takes the step's lines off the screen and leaves one above what still moves.
    fn close(&mut self, step: StepNumber, mark: &str, tail: &str) {
        if let Some(running) = self.running.remove(&step) {
            for bar in running.transfers.values().chain(&running.output_lines) {
                bar.finish_and_clear();
                self.screen.remove(bar);
            }
            running.line.finish_and_clear();
            self.screen.remove(&running.line);
        }
        self.print(&format!("{mark} {} {DIM}{tail}{RESET}", self.heading(step)));
    }

    fn print(&self, text: &str) {
        // A terminal that has gone away is no reason to stop a build.
        let _ = self.screen.println(text);
    }
}

impl Display for Tty {
    fn show(&mut self, _: Instant, event: &Event) {
        match event {
            Event::Planned(headings) => self.headings.clone_from(headings),
            Event::Started(step) => self.running(*step).line.tick(),
            Event::Missed { step, why } => {
                let heading = self.heading(*step);
                self.running(*step).line.set_message(format!("{heading} {DIM}({why}){RESET}"));
            }
            Event::Log { step, line, .. } => self.log(*step, line),
            Event::Bytes { step, what, done, total } => self.transfer(*step, what, *done, *total),
            Event::Finished { step, outcome, took } => {
                let tail = match outcome {
                    Outcome::Ran => seconds(*took),
                    Outcome::Cached => "cached".to_owned(),
                    Outcome::ConfigOnly => String::new(),
                };
                self.close(*step, &format!("{GREEN}✔{RESET}"), &tail);
            }
            Event::Failed { step, took } => self.close(*step, &format!("{RED}✘{RESET}"), &seconds(*took)),
            Event::Warning(diagnostic) => {
                self.print(crate::cli::diagnostic::render(diagnostic, true).trim_end());
            }
            Event::Note(note) => self.print(&format!("{DIM}{note}{RESET}")),
        }
    }

    fn finish(&mut self) {
        for step in std::mem::take(&mut self.running).into_keys() {
            self.close(step, " ", "stopped");
        }
        let _ = self.screen.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
