//! Spans, diagnostics and progress events as values.
//!
//! Nothing here prints: turning these into text is the command line's work.

mod channel;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use channel::{EventReader, Events, Listener, channel};

/// A range of bytes in a [`Source`], `start` inclusive, `end` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The range `start..end`; offsets past 4 GiB are cut, which the size limit of a Dockerfile rules out.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A named text that spans point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What to call it in messages: the path as the user gave it, or `<stdin>`.
    pub name: String,
    /// Its whole text, as read (carriage returns and byte order mark included).
    pub text: String,
}

impl Source {
    /// The 1-based line and column (in characters) of a byte offset.
    pub fn line_column(&self, offset: u32) -> (usize, usize) {
        let mut offset = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        // A display asks this of each instruction.
        let line = memchr::memchr_iter(b'\n', before.as_bytes()).count() + 1;
        let start = memchr::memrchr(b'\n', before.as_bytes()).map_or(0, |i| i + 1);
        (line, before[start..].chars().count() + 1)
    }
}

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The build cannot go on.
    Error,
    /// The build goes on; the user should look.
    Warning,
}

/// A place in a source and what to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// What to underline.
    pub span: Span,
    /// What, in a few words; may be empty.
    pub text: String,
}

/// One message for people: what, where, how to go on.
///
/// Lower case, no full stop, the user's own words in backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The name of the check that speaks, such as `StageNameCasing`; errors have none.
    pub code: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// The text that the labels point into; `None` when the fault is in no file.
    pub source: Option<Arc<Source>>,
    /// Where it is wrong, the main place first.
    pub labels: Vec<Label>,
    /// Facts that explain.
    pub notes: Vec<String>,
    /// Ways to go on.
    pub help: Vec<String>,
    /// What is at fault, for those who only see the exit code.
    pub fault: Fault,
}

/// What is at fault, as far as somebody who runs rbuild may act on it without reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Whatever the words say.
    #[default]
    Told,
    /// A server or a network: the same may succeed a little later.
    Transient,
    /// The image breaks a budget that was set for it.
    Budget,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: None,
            message: message.into(),
            source: None,
            labels: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
            fault: Fault::Told,
        }
    }

    /// A warning of the check `code`.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, code: Some(code), ..Self::error(message) }
    }

    /// Adds a place. The first one added is the main one.
    pub fn at(mut self, source: &Arc<Source>, span: Span, text: impl Into<String>) -> Self {
        self.source = Some(Arc::clone(source));
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a fact.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Says whether the same may succeed a little later.
    pub fn transient(self, is_transient: bool) -> Self {
        Self { fault: if is_transient { Fault::Transient } else { self.fault }, ..self }
    }

    /// Says what is at fault.
    pub fn because(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }

    /// Adds a way to go on.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// A step's number in the plan's list of instructions; the events of one step share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepNumber(pub usize);

/// What the progress display knows of a step before anything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepHeading {
    /// The number that later events name.
    pub number: StepNumber,
    /// Such as `[build 2/5]`: the stage and the place in it; empty for a source that no stage owns.
    pub place: String,
    /// The instruction as the user wrote it, on one line, variables expanded; secrets never are.
    pub title: String,
    /// The platform that it is for, such as `linux/arm64`; none where it is the same on every one.
    pub platform: Option<String>,
    /// The steps whose results it needs, each once.
    pub needs: Vec<StepNumber>,
    /// Which of the builds that are run together it is of, the first of those that have it.
    pub owner: usize,
    /// The first and the last line of its instruction in that one's Dockerfile, counted from 1.
    pub lines: Option<(usize, usize)>,
}

/// What a step came to; of one that changes the configuration only, nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepResult {
    /// Its layer; none where it brought files that no step made.
    pub layer: Option<LayerFacts>,
    /// The key that the cache knows it by, in hexadecimal.
    pub key: Option<String>,
    /// The chain ids of the roots that it read, the one that it stands on first; the empty root has none.
    pub inputs: Vec<String>,
    /// What its command used, if one ran.
    pub usage: Option<ResourceUsage>,
    /// How many files its layer changes, if that was counted when it was made.
    pub files: Option<FileCounts>,
    /// What it waited for.
    pub waited: Waited,
    /// How long it took when it ran, if the cache had it and told.
    pub took_then: Option<Duration>,
}

/// How many files a layer changes; directories do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileCounts {
    /// New ones.
    pub added: u64,
    /// Those that were there, and are other files now, or have other owners or modes.
    pub changed: u64,
    /// Files that are gone; a directory that is gone is one.
    pub removed: u64,
}

/// What a step waited for, once the steps that it needs were done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waited {
    /// Until fewer others were under way (`--jobs`).
    pub slot: Duration,
    /// Until others had let go of its cache mounts.
    pub lock: Duration,
    /// Until what it stands on was fetched and unpacked. This is no part of its time.
    pub transfer: Duration,
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    /// Of its blob: `sha256:…`
    pub digest: String,
    /// Of its tar.
    pub diff_id: String,
    /// Of its blob.
    pub size_bytes: u64,
}

/// What a command used, with all that it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceUsage {
    /// Processor time in its own code.
    pub user_time: Duration,
    /// Processor time in the kernel.
    pub system_time: Duration,
    /// As much memory as it had at once.
    pub peak_memory_bytes: u64,
    /// What it read from disks; what was in memory does not count.
    pub read_bytes: u64,
    /// What it wrote for disks.
    pub written_bytes: u64,
    /// What went over a network of its own; none where it had the machine's, on which nobody tells its bytes from others'.
    pub network: Option<Traffic>,
}

/// Bytes that went over a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// That came.
    pub received: u64,
    /// That went.
    pub sent: u64,
}

/// Which of a step's two outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and made a layer.
    Ran,
    /// Its layer came from the cache.
    Cached,
    /// It changes the configuration only; there was nothing to run.
    ConfigOnly,
}

/// One thing that happened in a build.
#[derive(Debug, Clone)]
pub enum Event {
    /// The steps that this build consists of; sent once, before all others that name steps.
    Planned(Vec<StepHeading>),
    /// A step began.
    Started(StepNumber),
    /// A step is not in the cache, and why: `src/app.py changed`.
    Missed {
        /// The step.
        step: StepNumber,
        /// One short clause; none in the first build, where nothing can be.
        why: Option<String>,
    },
    /// A line of a step's output, without its newline; bytes that are no UTF-8 are replaced.
    Log {
        /// The step.
        step: StepNumber,
        /// Where it was written.
        stream: Stream,
        /// The line.
        line: String,
    },
    /// What a line of a step's output is so far, when it takes its time: told again as [`Event::Log`] when it ends. For
    /// displays that move.
    LogSoFar {
        /// The step.
        step: StepNumber,
        /// What a terminal would show of it.
        line: String,
    },
    /// Bytes of a transfer or a write; `total` is 0 while unknown.
    Bytes {
        /// The step.
        step: StepNumber,
        /// What moves, such as a short layer digest; one bar each.
        what: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A layer that the command of a step stands on is being unpacked; not known `total` is 0. Not a part of the step's time.
    Unpacking {
        /// The step.
        step: StepNumber,
        /// The layer, by its short digest.
        layer: String,
        /// Bytes of its blob so far.
        done: u64,
        /// Bytes of its blob.
        total: u64,
    },
    /// All layers that a step needs are unpacked; its own time begins.
    Unpacked {
        /// The step.
        step: StepNumber,
        /// How long it took.
        took: Duration,
    },
    /// A step ended well.
    Finished {
        /// The step.
        step: StepNumber,
        /// Whether it ran, or what made that unnecessary.
        outcome: Outcome,
        /// How long it took.
        took: Duration,
        /// What it came to.
        result: Box<StepResult>,
    },
    /// A step was ended, or not begun, because the build ends: another step failed, or somebody interrupted it.
    Cancelled {
        /// The step.
        step: StepNumber,
        /// How long it took.
        took: Duration,
    },
    /// A step failed; the error itself is the build's result.
    Failed {
        /// The step.
        step: StepNumber,
        /// How long it took.
        took: Duration,
        /// What its command used, if one ran.
        usage: Option<ResourceUsage>,
    },
    /// A warning about the input or the machine.
    Warning(Diagnostic),
    /// A line worth knowing that belongs to no step, such as which fallback was chosen.
    Note(String),
    /// Who the commands run as; once, before the first of them.
    RunsAs(String),
    /// Where to ask how long steps take; once, of a build that is recorded and takes a while.
    Foreseen(Foresight),
}

/// Tells how long the steps of a build took when they last ran, as far as earlier builds of the same place know: in the order of the
/// steps, once these were told. To ask reads files.
#[derive(Clone)]
pub struct Foresight(Arc<dyn Fn() -> Vec<Option<Duration>> + Send + Sync>);

impl Foresight {
    /// What asks.
    pub fn new(ask: impl Fn() -> Vec<Option<Duration>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Asks.
    pub fn look(&self) -> Vec<Option<Duration>> {
        (self.0)()
    }
}

impl std::fmt::Debug for Foresight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Foresight")
    }
}
