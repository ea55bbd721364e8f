//! Readers of the event channel: a live terminal, plain lines, JSON, or nothing.

mod ahead;
mod frame;
mod groups;
pub(in crate::cli) mod json;
mod plain;
pub(in crate::cli) mod rawjson;
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
        let started = Instant::now();
        Self::show(move || vec![display(mode, started)])
    }

    /// Starts to show a build on several displays; each is told every event, one after the other.
    fn show(displays: impl FnOnce() -> Vec<Box<dyn Display>> + Send + 'static) -> Self {
        let (events, receiver) = channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&abandoned);
        let reader = std::thread::spawn(move || drain(receiver, &gone, displays()));
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

fn display(mode: ProgressMode, started: Instant) -> Box<dyn Display> {
    match mode.resolved() {
        ProgressMode::Tty => Box::new(tty::Tty::new(started, color_of(&std::io::stderr()))),
        ProgressMode::Json => Box::new(json::Json::new(started)),
        ProgressMode::RawJson => Box::new(rawjson::RawJson::new(started)),
        ProgressMode::Quiet | ProgressMode::None => Box::new(Quiet),
        ProgressMode::Plain | ProgressMode::Auto => match Groups::wanted(&|name| std::env::var(name).ok()) {
            Some(style) => Box::new(groups::Grouped::new(started, style)),
            None => Box::new(plain::Plain::new(started)),
        },
    }
}

/// Text for a log in which nothing that strangers wrote is a command to the CI system that shows it.
pub(in crate::cli) fn defused(text: String) -> String {
    match Groups::wanted(&|name| std::env::var(name).ok()) {
        Some(style) => style.defused(text),
        None => text,
    }
}

/// How a CI system is told which lines of a log belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Groups {
    /// `::group::` and `::endgroup::`, which GitHub, Gitea and Forgejo know.
    GitHub,
    /// `section_start` and `section_end`.
    GitLab,
}

impl Groups {
    /// What `$RBUILD_LOG_GROUPS` says, else what the variables of CI systems do.
    fn wanted(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let is_set = |name| variable(name).is_some_and(|value| value == "true");
        match variable("RBUILD_LOG_GROUPS").filter(|value| !value.is_empty()).as_deref() {
            Some("github") => Some(Groups::GitHub),
            Some("gitlab") => Some(Groups::GitLab),
            // Whatever else it says, nobody asked for a kind that is known.
            Some(_) => None,
            None if is_set("GITHUB_ACTIONS") => Some(Groups::GitHub),
            None if is_set("GITLAB_CI") => Some(Groups::GitLab),
            None => None,
        }
    }
}

fn drain(receiver: EventReader, abandoned: &AtomicBool, mut displays: Vec<Box<dyn Display>>) {
    while !abandoned.load(Ordering::Relaxed) {
        match receiver.next_within(Duration::from_millis(100)) {
            Ok((time, event)) => displays.iter_mut().for_each(|display| display.show(time, &event)),
            Err(RecvTimeoutError::Timeout) => displays.iter_mut().for_each(|display| display.tick()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Who still has output to show need not wait for somebody to take it.
    drop(receiver);
    displays.iter_mut().for_each(|display| display.finish());
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

/// How many columns standard output has, if it is a terminal.
pub(in crate::cli) fn width_of_stdout() -> Option<usize> {
    let stdout = std::io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns >= 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says under its own name what it was shown.
    struct Noted(&'static str, std::sync::mpsc::Sender<String>);

    impl Display for Noted {
        fn show(&mut self, _: Instant, event: &Event) {
            if let Event::Note(text) = event {
                let _ = self.1.send(format!("{}: {text}", self.0));
            }
        }

        fn finish(&mut self) {
            let _ = self.1.send(format!("{} is over", self.0));
        }
    }

    #[test]
    fn ci_systems_are_known_by_their_variables() {
        let wanted = |set: &[(&str, &str)]| {
            Groups::wanted(&|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(wanted(&[]), None);
        assert_eq!(wanted(&[("GITHUB_ACTIONS", "true")]), Some(Groups::GitHub));
        assert_eq!(wanted(&[("GITLAB_CI", "true")]), Some(Groups::GitLab));
        assert_eq!(wanted(&[("GITLAB_CI", "true"), ("RBUILD_LOG_GROUPS", "none")]), None);
        assert_eq!(wanted(&[("RBUILD_LOG_GROUPS", "gitlab")]), Some(Groups::GitLab));
    }

    #[test]
    fn several_displays_see_every_event() {
        let (sender, shown) = std::sync::mpsc::channel();
        let progress = Progress::show(move || -> Vec<Box<dyn Display>> {
            vec![Box::new(Noted("one", sender.clone())), Box::new(Noted("two", sender))]
        });
        for text in ["a", "b"] {
            progress.events().send(Event::Note(text.to_owned()));
        }
        progress.finish();
        let expected = ["one: a", "two: a", "one: b", "two: b", "one is over", "two is over"];
        assert_eq!(shown.iter().collect::<Vec<_>>(), expected);
    }
}
