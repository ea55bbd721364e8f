//! The plain lines of a build, with the output of each step in a part that CI systems fold: GitHub's groups, GitLab's sections.
//!
//! Such parts cannot overlap, and steps do. So one step is *open*: its lines are written as they come. Lines of others are held back
//! until it has ended; then whole steps follow that have ended meanwhile, and the one that began first is open next. What a step came to
//! stands behind its part, where it is seen. One line is not worth being folded: it waits a while for a second, and a step that has ended
//! without one is plain lines.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::plain::Plain;
use super::{Display, Groups};
use crate::report::{Event, StepNumber};

/// So long a step's only line waits for a second one.
const PATIENCE: Duration = Duration::from_secs(3);

/// Lines of a step that were not written yet.
#[derive(Default)]
struct Held {
    /// The line that names it.
    heading: String,
    /// What came of it so far.
    body: String,
    /// When the first line of that came.
    since: Option<Instant>,
    /// What it came to.
    end: Option<String>,
}

impl Held {
    fn has_several_lines(&self) -> bool {
        self.body.trim_end_matches('\n').contains('\n')
    }

    /// Whether it is time to write of it. Who has said nothing yet needs no part, and who has had one gets no other.
    fn is_due(&self, time: Instant) -> bool {
        let has_waited = |since: Instant| time.saturating_duration_since(since) >= PATIENCE;
        self.heading.is_empty() || self.has_several_lines() || self.since.is_some_and(has_waited)
    }
}

pub(super) struct Grouped {
    plain: Plain,
    style: Groups,
    /// Seconds since 1970 at the beginning; GitLab shows how long a section took.
    began: u64,
    started: Instant,
    open: Option<StepNumber>,
    held: BTreeMap<StepNumber, Held>,
    /// Those that have ended while another was open, in that order.
    ended: Vec<StepNumber>,
    /// What is of no step, for when no part is open.
    between: String,
}

impl Grouped {
    pub(super) fn new(started: Instant, style: Groups) -> Self {
        Self {
            plain: Plain::new(started),
            style,
            began: crate::clock::now_ms() / 1000,
            started,
            open: None,
            held: BTreeMap::new(),
            ended: Vec::new(),
            between: String::new(),
        }
    }

    fn text(&mut self, time: Instant, event: &Event) -> String {
        let is_known = |plain: &Plain| step_of(event).is_some_and(|step| plain.has_begun(step));
        let was_known = is_known(&self.plain);
        let text = self.style.defused(self.plain.text(time, event));
        let is_new = !was_known && is_known(&self.plain);
        let mut out = String::new();
        match step_of(event) {
            None => self.between.push_str(&text),
            Some(step) => self.add(step, (is_new, is_end(event)), &text, time),
        }
        self.write(time, &mut out);
        out
    }

    fn add(&mut self, step: StepNumber, (is_new, is_end): (bool, bool), text: &str, time: Instant) {
        if text.is_empty() {
            return;
        }
        let held = self.held.entry(step).or_default();
        let mut text = text;
        if is_new && let Some((heading, rest)) = text.split_once('\n') {
            held.heading = format!("{heading}\n");
            text = rest;
        }
        if is_end {
            held.end = Some(text.to_owned());
            self.ended.push(step);
        } else if !text.is_empty() {
            held.body.push_str(text);
            held.since.get_or_insert(time);
        }
    }

    /// Writes what may be written now.
    fn write(&mut self, time: Instant, out: &mut String) {
        loop {
            match self.open {
                Some(step) => {
                    let Some(held) = self.held.get_mut(&step) else { return };
                    out.push_str(&std::mem::take(&mut held.body));
                    let Some(end) = held.end.take() else { return };
                    out.push_str(&self.style.end(step, self.seconds(time)));
                    out.push_str(&end);
                    self.held.remove(&step);
                    self.ended.retain(|ended| *ended != step);
                    self.open = None;
                }
                None => {
                    out.push_str(&std::mem::take(&mut self.between));
                    let next = self.ended.first().copied();
                    let due = || self.held.iter().find(|(_, held)| held.is_due(time));
                    let Some(step) = next.or_else(|| due().map(|(step, _)| *step)) else { return };
                    self.begin(step, time, out);
                }
            }
        }
    }

    fn begin(&mut self, step: StepNumber, time: Instant, out: &mut String) {
        let Some(held) = self.held.get_mut(&step) else { return };
        let heading = std::mem::take(&mut held.heading);
        // One that speaks again after its end has had its part, and nothing ends another.
        let is_short = held.end.is_some() && !held.has_several_lines();
        if is_short || heading.is_empty() {
            out.push_str(&heading);
            out.push_str(&held.body);
            out.push_str(held.end.as_deref().unwrap_or_default());
            self.held.remove(&step);
            self.ended.retain(|ended| *ended != step);
            return;
        }
        out.push_str(&self.style.begin(step, self.seconds(time), &heading));
        self.open = Some(step);
    }

    fn seconds(&self, time: Instant) -> u64 {
        self.began + time.saturating_duration_since(self.started).as_secs()
    }

    fn silent(&mut self, time: Instant) -> String {
        let mut out = String::new();
        for (step, text) in self.plain.signs_of_life(time) {
            self.add(step, (false, false), &text, time);
        }
        self.write(time, &mut out);
        out
    }

    /// All that is left, of a build that ended in the middle.
    fn rest(&mut self, time: Instant) -> String {
        let mut out = String::new();
        for step in self.held.keys().copied().collect::<Vec<_>>() {
            if let Some(held) = self.held.get_mut(&step).filter(|held| held.end.is_none()) {
                held.end = Some(String::new());
                self.ended.push(step);
            }
        }
        self.write(time, &mut out);
        out
    }
}

/// Which step an event is of.
fn step_of(event: &Event) -> Option<StepNumber> {
    match event {
        Event::Started(step)
        | Event::Missed { step, .. }
        | Event::Log { step, .. }
        | Event::LogSoFar { step, .. }
        | Event::Bytes { step, .. }
        | Event::Unpacking { step, .. }
        | Event::Unpacked { step, .. }
        | Event::Finished { step, .. }
        | Event::Failed { step, .. }
        | Event::Cancelled { step, .. } => Some(*step),
        Event::Planned(_) | Event::Warning(_) | Event::Note(_) | Event::RunsAs(_) | Event::Foreseen(_) => {
            None
        }
    }
}

fn is_end(event: &Event) -> bool {
    matches!(event, Event::Finished { .. } | Event::Failed { .. } | Event::Cancelled { .. })
}

impl Groups {
    /// Text in which nothing is a command to who shows it. GitHub's runner takes `##[error]` wherever it stands in a line, and `::error::` at its
    /// beginning, behind spaces too.
    pub(super) fn defused(self, text: String) -> String {
        if self == Groups::GitLab || !(text.contains("##[") || text.contains("::")) {
            return text;
        }
        let line = |line: &str| match line.trim_start().starts_with("::") {
            true => line.replacen("::", ": :", 1),
            false => line.to_owned(),
        };
        text.split_inclusive('\n').map(line).collect::<String>().replace("##[", "## [")
    }

    /// What stands before the lines of a step, its heading in it.
    fn begin(self, step: StepNumber, seconds: u64, heading: &str) -> String {
        match self {
            Groups::GitHub => format!("::group::{}", heading.replace('%', "%25")),
            Groups::GitLab => {
                format!(
                    "\u{1b}[0Ksection_start:{seconds}:rbuild_{}[collapsed=true]\r\u{1b}[0K{heading}",
                    step.0 + 1
                )
            }
        }
    }

    /// What stands behind them.
    fn end(self, step: StepNumber, seconds: u64) -> String {
        match self {
            Groups::GitHub => "::endgroup::\n".to_owned(),
            Groups::GitLab => format!("\u{1b}[0Ksection_end:{seconds}:rbuild_{}\r\u{1b}[0K", step.0 + 1),
        }
    }
}

impl Display for Grouped {
    fn show(&mut self, time: Instant, event: &Event) {
        let text = self.text(time.max(self.started), event);
        // Nobody may be reading any more; the build goes on.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn tick(&mut self) {
        let text = self.silent(Instant::now().max(self.started));
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn finish(&mut self) {
        let text = self.rest(Instant::now().max(self.started));
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Outcome, StepHeading, Stream};

    fn heading(number: usize) -> StepHeading {
        StepHeading {
            number: StepNumber(number),
            place: String::new(),
            title: format!("RUN {}", number + 1),
            platform: None,
            needs: Vec::new(),
            owner: 0,
            lines: None,
        }
    }

    fn log(step: usize, line: &str) -> Event {
        Event::Log { step: StepNumber(step), stream: Stream::Stdout, line: line.to_owned() }
    }

    fn done(step: usize, outcome: Outcome) -> Event {
        let took = Duration::from_secs(1);
        Event::Finished { step: StepNumber(step), outcome, took, result: Box::default() }
    }

    fn shown(style: Groups, events: &[Event]) -> String {
        let start = Instant::now();
        let mut grouped = Grouped::new(start, style);
        grouped.began = 1_800_000_000;
        let mut text: String = events.iter().map(|event| grouped.text(start, event)).collect();
        text.push_str(&grouped.rest(start));
        text
    }

    #[test]
    fn parts_do_not_overlap_though_steps_do() {
        let text = shown(
            Groups::GitHub,
            &[
                Event::Planned((0..5).map(heading).collect()),
                done(0, Outcome::Cached),
                Event::Started(StepNumber(1)),
                Event::Started(StepNumber(2)),
                log(1, "a"),
                log(2, "b"),
                log(1, "::stop-commands::x"),
                Event::Note("of no step".to_owned()),
                log(2, "bb"),
                done(2, Outcome::Ran),
                Event::Started(StepNumber(3)),
                log(3, "c"),
                done(1, Outcome::Ran),
                log(3, "d"),
                Event::Started(StepNumber(4)),
                log(4, "e"),
                done(4, Outcome::Ran),
            ],
        );
        let expected = "#1 RUN 1\n#1 CACHED\n\
            ::group::#2 RUN 2\n#2 0.000 a\n#2 0.000 ::stop-commands::x\n::endgroup::\n#2 DONE 1.00s\n\
            note: of no step\n\
            ::group::#3 RUN 3\n#3 0.000 b\n#3 0.000 bb\n::endgroup::\n#3 DONE 1.00s\n\
            ::group::#4 RUN 4\n#4 0.000 c\n#4 0.000 d\n::endgroup::\n\
            #5 RUN 5\n#5 0.000 e\n#5 DONE 1.00s\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn output_commands_no_runner() {
        let mut planned = heading(0);
        planned.title = "RUN date +%0A##[error]x".to_owned();
        let events = [
            Event::Planned(vec![planned, heading(1)]),
            Event::Started(StepNumber(0)),
            log(0, "##[endgroup]"),
            log(0, "a ##[add-mask]b"),
            log(0, "::error::c"),
            done(0, Outcome::Ran),
        ];
        let expected = "::group::#1 RUN date +%250A## [error]x\n#1 0.000 ## [endgroup]\n#1 0.000 a ## [add-mask]b\n\
            #1 0.000 ::error::c\n::endgroup::\n#1 DONE 1.00s\n";
        assert_eq!(shown(Groups::GitHub, &events), expected);
        // The last output of what failed stands in a message without numbers.
        let message = "  = note: its last output:\n          ::error::a::b\n\t::x\nc::d\n";
        let expected = "  = note: its last output:\n          : :error::a::b\n\t: :x\nc::d\n";
        assert_eq!(Groups::GitHub.defused(message.to_owned()), expected);
        assert_eq!(Groups::GitLab.defused(message.to_owned()), message);
    }

    #[test]
    fn who_speaks_after_the_end_holds_nobody_back() {
        let events = [
            Event::Planned(vec![heading(0), heading(1)]),
            Event::Started(StepNumber(0)),
            log(0, "a"),
            log(0, "b"),
            done(0, Outcome::Ran),
            log(0, "late"),
            Event::Started(StepNumber(1)),
            log(1, "c"),
            log(1, "d"),
        ];
        let expected = "::group::#1 RUN 1\n#1 0.000 a\n#1 0.000 b\n::endgroup::\n#1 DONE 1.00s\n#1 0.000 late\n\
            ::group::#2 RUN 2\n#2 0.000 c\n#2 0.000 d\n::endgroup::\n";
        assert_eq!(shown(Groups::GitHub, &events), expected);
    }

    #[test]
    fn gitlabs_sections_have_times_and_names() {
        let text = shown(
            Groups::GitLab,
            &[
                Event::Planned(vec![heading(0)]),
                Event::Started(StepNumber(0)),
                log(0, "a"),
                log(0, "b"),
                done(0, Outcome::Ran),
            ],
        );
        let expected = "\u{1b}[0Ksection_start:1800000000:rbuild_1[collapsed=true]\r\u{1b}[0K#1 RUN 1\n#1 0.000 a\n#1 0.000 b\n\
            \u{1b}[0Ksection_end:1800000000:rbuild_1\r\u{1b}[0K#1 DONE 1.00s\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_silent_step_is_told_of_in_its_own_part() {
        let start = Instant::now();
        let mut grouped = Grouped::new(start, Groups::GitHub);
        let planned = Event::Planned(vec![heading(0)]);
        assert_eq!(grouped.text(start, &planned) + &grouped.text(start, &Event::Started(StepNumber(0))), "");
        let minute = start + Duration::from_secs(60);
        let silent = |grouped: &mut Grouped, waited| grouped.silent(minute + waited);
        assert_eq!(silent(&mut grouped, Duration::ZERO) + &silent(&mut grouped, PATIENCE / 2), "");
        let text = silent(&mut grouped, PATIENCE);
        assert_eq!(text, "::group::#1 RUN 1\n#1 still running after 1m00s\n");
    }
}
