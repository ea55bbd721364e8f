//! One line per event, for logs of CI: `#4 [build 2/5] RUN make` and what became of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::{Display, Fate, Shown};
use crate::report::{Event, Outcome, StepHeading, StepNumber};
use crate::text::terminal::{for_people, harmless, last_written, printable};
use crate::text::{duration::seconds, size::bytes};

/// A transfer is mentioned again after this much of it.
const BYTES_STEP: u64 = 64 << 20;

/// A step that says nothing is mentioned again after this long: some CI systems end jobs that are silent for ten minutes.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes on their way.
struct Transfer {
    told: u64,
    since: Instant,
    /// What was there when it was first heard of.
    at_first: u64,
}

pub(super) struct Plain {
    started: Instant,
    headings: Vec<StepHeading>,
    transfers: BTreeMap<(StepNumber, String), Transfer>,
    begun: BTreeMap<StepNumber, Instant>,
    /// When each step that is under way was last heard of.
    heard: BTreeMap<StepNumber, Instant>,
    shown: Shown,
}

impl Plain {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            headings: Vec::new(),
            transfers: BTreeMap::new(),
            begun: BTreeMap::new(),
            heard: BTreeMap::new(),
            shown: Shown::default(),
        }
    }

    fn heading(&self, step: StepNumber) -> String {
        match self.headings.get(step.0) {
            Some(h) if h.place.is_empty() => h.title.clone(),
            Some(h) => format!("{} {}", h.place, h.title),
            None => String::new(),
        }
    }

    /// Names the step the first time that it says anything.
    fn introduce(&mut self, out: &mut String, time: Instant, step: StepNumber) {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.begun.entry(step) {
            entry.insert(time);
            line(out, step, &self.heading(step));
        }
    }

    /// Whether the step was named.
    pub(super) fn has_begun(&self, step: StepNumber) -> bool {
        self.begun.contains_key(&step)
    }

    /// Names the steps that were silent for long, with the line for each.
    pub(super) fn signs_of_life(&mut self, time: Instant) -> Vec<(StepNumber, String)> {
        let mut all = Vec::new();
        for (step, heard) in &mut self.heard {
            if time.duration_since(*heard) >= SILENCE {
                *heard = time;
                let since = self.begun.get(step).map_or(Duration::ZERO, |begun| time.duration_since(*begun));
                let mut out = String::new();
                line(&mut out, *step, &format!("still running after {}", seconds(since)));
                all.push((*step, out));
            }
        }
        all
    }

    fn hear(&mut self, time: Instant, event: &Event) {
        match event {
            Event::Started(step)
            | Event::Log { step, .. }
            | Event::Bytes { step, .. }
            | Event::Unpacking { step, done: 0, .. }
            | Event::Unpacked { step, .. } => {
                self.heard.insert(*step, time);
            }
            Event::Finished { step, .. } | Event::Failed { step, .. } | Event::Cancelled { step, .. } => {
                self.heard.remove(step);
            }
            // Nobody sees these here.
            Event::LogSoFar { .. }
            | Event::Unpacking { .. }
            | Event::Planned(_)
            | Event::Missed { .. }
            | Event::Warning(_)
            | Event::Note(_)
            | Event::RunsAs(_)
            | Event::Foreseen(_) => {}
        }
    }

    pub(super) fn text(&mut self, time: Instant, event: &Event) -> String {
        self.hear(time, event);
        let mut out = String::new();
        match event {
            Event::Planned(headings) => self.headings.clone_from(headings),
            Event::Started(step) => self.introduce(&mut out, time, *step),
            Event::Missed { step, why } => {
                self.introduce(&mut out, time, *step);
                if let Some(why) = why {
                    line(&mut out, *step, &format!("not cached: {}", for_people(why)));
                }
            }
            Event::Log { step, line: text, .. } => {
                let since = self.begun.get(step).map_or(0.0, |b| time.duration_since(*b).as_secs_f64());
                match self.shown.line(*step, text) {
                    Fate::Shown => {}
                    Fate::Clipped(note) => {
                        line(&mut out, *step, &note);
                        return out;
                    }
                    Fate::Dropped => return out,
                }
                line(&mut out, *step, &format!("{since:.3} {}", printable(last_written(text))));
            }
            Event::LogSoFar { .. } | Event::Foreseen(_) => {}
            Event::Bytes { step, what, done, total } => {
                self.transfer(&mut out, time, *step, what, (*done, *total));
            }
            Event::Unpacking { step, layer, done: 0, total } => {
                self.introduce(&mut out, time, *step);
                let size = if *total > 0 { format!(", {}", bytes(*total)) } else { String::new() };
                line(&mut out, *step, &format!("unpacking {}{size}", harmless(layer)));
            }
            Event::Unpacking { .. } => {}
            Event::Unpacked { step, took } => {
                self.introduce(&mut out, time, *step);
                line(&mut out, *step, &format!("unpacked in {}", seconds(*took)));
                self.begun.insert(*step, time);
            }
            Event::Finished { step, outcome, took, .. } => {
                self.introduce(&mut out, time, *step);
                let text = match outcome {
                    Outcome::Ran => format!("DONE {}", seconds(*took)),
                    Outcome::Cached => "CACHED".to_owned(),
                    Outcome::ConfigOnly => "DONE (configuration only)".to_owned(),
                };
                line(&mut out, *step, &text);
            }
            // One that said nothing yet is not worth a line.
            Event::Cancelled { step, took } if self.begun.contains_key(step) => {
                line(&mut out, *step, &format!("CANCELLED after {}", seconds(*took)));
            }
            Event::Cancelled { .. } => {}
            Event::Failed { step, took, .. } => {
                line(&mut out, *step, &format!("FAILED after {}", seconds(*took)));
            }
            Event::Warning(diagnostic) => {
                out.push_str(&crate::cli::show::diagnostic::render(diagnostic, false));
            }
            Event::Note(note) | Event::RunsAs(note) => {
                out.push_str(&format!("note: {}\n", for_people(note)));
            }
        }
        out
    }

    fn transfer(
        &mut self,
        out: &mut String,
        time: Instant,
        step: StepNumber,
        what: &str,
        (done, total): (u64, u64),
    ) {
        let first = || Transfer { told: 0, since: time, at_first: done };
        let transfer = self.transfers.entry((step, what.to_owned())).or_insert_with(first);
        if (total > 0 && done >= total && transfer.told < total) || done >= transfer.told + BYTES_STEP {
            transfer.told = done;
            let of = if total > 0 { format!(" / {}", bytes(total)) } else { String::new() };
            // What came at once has no pace worth telling.
            let took = time.duration_since(transfer.since).as_secs_f64();
            let pace = match took > 0.05 {
                true => format!(", {}/s", bytes(((done - transfer.at_first) as f64 / took) as u64)),
                false => String::new(),
            };
            line(out, step, &format!("{} {}{of}{pace}", harmless(what), bytes(done)));
        }
    }
}

fn line(out: &mut String, step: StepNumber, text: &str) {
    out.push_str(&format!("#{} {text}\n", step.0 + 1));
}

impl Display for Plain {
    fn show(&mut self, time: Instant, event: &Event) {
        let text = self.text(time.max(self.started), event);
        // Nobody may be reading any more; the build goes on.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn tick(&mut self) {
        let told = self.signs_of_life(Instant::now().max(self.started));
        let text: String = told.into_iter().map(|(_, line)| line).collect();
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Stream;
    use std::time::Duration;

    #[test]
    fn a_silent_step_shows_that_it_is_alive() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut plain = Plain::new(start);
        let step = StepNumber(3);
        plain.text(at(0), &Event::Started(step));
        let signs = |plain: &mut Plain, seconds| -> String {
            plain.signs_of_life(at(seconds)).into_iter().map(|(_, line)| line).collect()
        };
        assert_eq!(signs(&mut plain, 59), "");
        assert_eq!(signs(&mut plain, 60), "#4 still running after 1m00s\n");
        assert_eq!(signs(&mut plain, 61), "", "once a minute");
        plain.text(at(100), &Event::Log { step, stream: Stream::Stdout, line: "cc".to_owned() });
        assert_eq!(signs(&mut plain, 159), "", "it was heard of");
        assert_eq!(signs(&mut plain, 160), "#4 still running after 2m40s\n");
        let failed = Event::Failed { step, took: Duration::from_secs(161), usage: None };
        plain.text(at(161), &failed);
        assert_eq!(signs(&mut plain, 999), "", "it is over");
    }

    #[test]
    fn unpacking_is_told_and_is_no_part_of_the_time() {
        let start = Instant::now();
        let mut plain = Plain::new(start);
        let step = StepNumber(1);
        let unpacking =
            |done| Event::Unpacking { step, layer: "0123abcd".to_owned(), done, total: 60_300_000 };
        let events = [
            (0, Event::Started(step)),
            (0, unpacking(0)),
            (500, unpacking(30_000_000)),
            (1000, unpacking(60_300_000)),
            (1000, Event::Unpacked { step, took: Duration::from_secs(1) }),
            (1200, Event::Log { step, stream: Stream::Stdout, line: "cc".to_owned() }),
        ];
        let text: String =
            events.iter().map(|(ms, e)| plain.text(start + Duration::from_millis(*ms), e)).collect();
        assert_eq!(text, "#2 \n#2 unpacking 0123abcd, 60.3 MB\n#2 unpacked in 1.00s\n#2 0.200 cc\n");
    }

    #[test]
    fn a_build_reads_as_numbered_lines() {
        let start = Instant::now();
        let mut plain = Plain::new(start);
        let step = StepNumber(0);
        let heading = StepHeading {
            number: step,
            place: "[2/3]".to_owned(),
            title: "RUN make".to_owned(),
            platform: None,
            needs: Vec::new(),
            owner: 0,
            lines: None,
        };
        let events = [
            (0, Event::Planned(vec![heading])),
            (0, Event::Started(step)),
            (0, Event::Missed { step, why: Some("src/app.py changed".to_owned()) }),
            (1500, Event::Log { step, stream: Stream::Stdout, line: "cc \u{1b}[1mx.c".to_owned() }),
            (1600, Event::Log { step, stream: Stream::Stderr, line: "10%\r20%\r".to_owned() }),
            (
                2000,
                Event::Finished {
                    step,
                    outcome: Outcome::Ran,
                    took: Duration::from_secs(2),
                    result: Box::default(),
                },
            ),
        ];
        let text: String =
            events.iter().map(|(ms, e)| plain.text(start + Duration::from_millis(*ms), e)).collect();
        assert_eq!(
            text,
            "#1 [2/3] RUN make\n#1 not cached: src/app.py changed\n#1 1.500 cc x.c\n#1 1.600 20%\n#1 DONE 2.00s\n"
        );
    }
}
