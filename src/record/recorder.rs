//! Makes a record while a build runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::format::{
    Dockerfile, FORMAT, Layer, Machine, Made, Material, Message, Outcome, Record, Status, Step, Target,
    Transfer, Usage, VERSION, Waits, image,
};
use super::kept::{self, Begun};
use super::mask::{Hidden, Hide, Mask};
use crate::clock;
use crate::oci::{Digest, Reference};
use crate::report::{
    self, Diagnostic, Event, Events, Foresight, Listener, ResourceUsage, Severity, Source, StepHeading,
    StepNumber, StepResult,
};
use crate::store::Store;
use crate::sync::{lock, processors};
use crate::text::terminal::harmless;
use crate::text::url::without_passwords;

/// Longer Dockerfiles are recorded by their digest alone.
const TEXT_BYTES: usize = 1 << 20;
/// The thread that leaves a word makes no more than a JSON of what was asked for.
const STACK_BYTES: usize = 512 << 10;
/// Titles are cut after so many characters.
const TITLE_CHARS: usize = 300;
/// A build that is over sooner, and ran no command, leaves no word of its beginning.
const SOON: Duration = Duration::from_millis(50);
/// So many notes, warnings, and transfers of a step are recorded; more are no help to anybody.
const MOST: usize = 500;

/// Hears the events of a build, and keeps what is worth it.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    record: Record,
    mask: Mask,
    hidden: Hidden,
    sources: Vec<Option<Arc<Source>>>,
    /// For each step the image that it takes, where its recorded title does not tell.
    images: Vec<Option<String>>,
    /// Where the record is to be kept; nowhere once it is there.
    store: Option<Store>,
    begun: Option<Begun>,
    /// What cannot be written is not tried again with every step.
    has_tried: bool,
}

impl Recorder {
    /// Of a build that begins now, with what was asked for, and the values of build arguments that are not to be seen.
    pub fn new(targets: Vec<Target>, jobs: usize, hidden: impl IntoIterator<Item = String>) -> Self {
        let record = Record {
            format: FORMAT.to_owned(),
            version: VERSION,
            id: kept::new_id(),
            rbuild: env!("CARGO_PKG_VERSION").to_owned(),
            machine: machine(),
            started_ms: clock::now_ms(),
            jobs,
            targets,
            ..Record::default()
        };
        let sources = vec![None; record.targets.len()];
        let state = State { record, mask: Mask::new(hidden), sources, ..State::default() };
        Self { started: Instant::now(), state: Mutex::new(state) }
    }

    /// Has texts pass through `hide` before they are written: what holds a secret comes back without it.
    pub fn hide(&self, hide: Hide) {
        lock(&self.state).hidden.0.push(hide);
    }

    /// What the build is called.
    pub fn id(&self) -> String {
        lock(&self.state).record.id.clone()
    }

    /// What was asked for, and what is known until now.
    pub fn asked(&self) -> Record {
        lock(&self.state).record.clone()
    }

    /// The record is to be kept in `store`. That the build has begun is left there as soon as it runs a command, or has taken a while, so
    /// that one that is killed is seen; most builds are over before, and write once. Whoever shows such a build gets `foresight`.
    pub fn keep_in(self: &Arc<Self>, store: &Store, events: &Events, foresight: Foresight) {
        lock(&self.state).store = Some(store.clone());
        let recorder: Weak<Self> = Arc::downgrade(self);
        let begin = move || {
            lock(&recorder.upgrade()?.state).begin();
            Some(Event::Foreseen(foresight))
        };
        // A thread for this alone would cost more than all else of a record.
        let Err(begin) = events.later(SOON, Box::new(begin)) else { return };
        let later = move || {
            std::thread::sleep(SOON);
            drop(begin());
        };
        let thread = std::thread::Builder::new().name("recorder".to_owned()).stack_size(STACK_BYTES);
        if thread.spawn(later).is_err() {
            lock(&self.state).begin();
        }
    }

    /// What a target is built by: the Dockerfile, and where it is on this machine.
    pub fn read(&self, target: usize, source: &Arc<Source>, path: Option<String>) {
        let mut state = lock(&self.state);
        if let Some(known) = state.record.targets.get_mut(target) {
            known.dockerfile = Dockerfile {
                name: source.name.clone(),
                path,
                digest: Digest::of(source.text.as_bytes()).to_string(),
                text: (source.text.len() <= TEXT_BYTES).then(|| source.text.clone()),
            };
        }
        if let Some(known) = state.sources.get_mut(target) {
            *known = Some(Arc::clone(source));
        }
    }

    /// Where a file is that lies in the folder which is a target's context.
    pub fn folder_with(&self, target: usize, file: &Path) -> String {
        let state = lock(&self.state);
        let folder = state.record.targets.get(target).map_or("", |target| &target.context.at);
        Path::new(folder).join(file.file_name().unwrap_or_default()).display().to_string()
    }

    /// The commit of a context that was fetched.
    pub fn fetched(&self, target: usize, commit: &str) {
        if let Some(known) = lock(&self.state).record.targets.get_mut(target) {
            known.context.commit = Some(commit.to_owned());
        }
    }

    /// What was taken from elsewhere, each thing once.
    pub fn took(&self, materials: impl IntoIterator<Item = Material>) {
        let mut state = lock(&self.state);
        state.record.materials.extend(materials);
        state.record.materials.sort();
        state.record.materials.dedup();
    }

    /// The record as it is now, for one who cannot wait for the end: with `materials`, and what the target of this number came to. `values`
    /// are values of build arguments that the record has without.
    pub fn so_far(
        &self,
        materials: impl IntoIterator<Item = Material>,
        (target, made): (usize, Made),
        values: &BTreeMap<String, String>,
    ) -> Record {
        let state = lock(&self.state);
        let mut record = state.record.clone();
        record.took_ms = Some(milliseconds(self.started.elapsed()));
        record.materials.extend(materials);
        record.materials.sort();
        record.materials.dedup();
        name_images(&mut record, &state.images);
        if let Some(target) = record.targets.get_mut(target) {
            target.made = Some(made);
            for argument in &mut target.arguments {
                argument.value = values.get(&argument.name).cloned().or(argument.value.take());
            }
        }
        state.hidden.hide(&mut record);
        record
    }

    /// The build has ended; gives its record, which has no password of a URL, and which the store has from now on, or why it has not.
    /// `made` is what each target came to.
    pub fn finish(
        &self,
        outcome: Result<Vec<(usize, Made)>, &[Diagnostic]>,
        is_stopped: bool,
    ) -> (Arc<Record>, Option<Diagnostic>) {
        let mut state = lock(&self.state);
        let State { record, mask, store, begun, hidden, images, .. } = &mut *state;
        name_images(record, images);
        record.took_ms = Some(milliseconds(self.started.elapsed()));
        match outcome {
            Ok(made) => {
                record.status = Status::Completed;
                for (at, made) in made {
                    if let Some(target) = record.targets.get_mut(at) {
                        target.made = Some(made);
                    }
                }
            }
            Err(diagnostics) => {
                record.status = if is_stopped { Status::Canceled } else { Status::Failed };
                record.errors = diagnostics.iter().take(MOST).map(|told| mask.message(told)).collect();
            }
        }
        hidden.hide(record);
        let kept = kept::clean(record).and_then(|text| match store.take() {
            Some(store) => kept::finish(&store, begun.take(), record, &text),
            None => Ok(()),
        });
        let lost = |error: std::io::Error| Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(format!("cannot keep the record of the build: {error}"))
                .help("`rbuild history` will not know of it")
        };
        (Arc::new(std::mem::take(record)), kept.err().map(lost))
    }

    fn now(&self) -> u64 {
        milliseconds(self.started.elapsed())
    }
}

impl Listener for Recorder {
    fn hear(&self, event: &Event) {
        // There may be very many of these, and logs have them.
        if matches!(event, Event::Log { .. } | Event::LogSoFar { .. } | Event::Foreseen(_)) {
            return;
        }
        let at = self.now();
        lock(&self.state).hear(at, event);
    }
}

impl State {
    /// Leaves in the store that the build has begun, unless that is there, or more. What cannot be written is no failure of a build.
    fn begin(&mut self) {
        let Self { record, hidden, store: Some(store), begun, has_tried: has_tried @ false, .. } = self
        else {
            return;
        };
        *has_tried = true;
        // What was asked for is told; what came of it until now would be half of it.
        let rest = Record {
            steps: std::mem::take(&mut record.steps),
            warnings: std::mem::take(&mut record.warnings),
            notes: std::mem::take(&mut record.notes),
            ..Record::default()
        };
        hidden.hide(record);
        match kept::begin(store, record) {
            Ok(word) => *begun = Some(word),
            // Whether the whole record cannot be kept either is told in the end.
            Err(error) => tracing::debug!(%error, "cannot record that a build has begun"),
        }
        (record.steps, record.warnings, record.notes) = (rest.steps, rest.warnings, rest.notes);
    }

    fn hear(&mut self, at: u64, event: &Event) {
        match event {
            Event::Planned(headings) => {
                self.record.steps = headings.iter().map(|heading| self.step(heading)).collect();
                let told = headings.iter().zip(&self.record.steps);
                self.images = told.map(|(heading, step)| untold(&heading.title, &step.title)).collect();
            }
            Event::Started(step) => self.change(*step, |step| step.started_ms = Some(at)),
            Event::Missed { step, why } => {
                let why = why.as_ref().map(|why| self.mask.text(why));
                self.change(*step, |step| step.missed = why);
                if self.record.steps.get(step.0).is_some_and(|step| step.title.starts_with("RUN ")) {
                    self.begin();
                }
            }
            Event::Log { .. } | Event::LogSoFar { .. } | Event::Foreseen(_) => {}
            Event::Bytes { step, what, done, .. } => self.moved(*step, what, *done, at),
            Event::Unpacking { step, layer, done, .. } => {
                self.moved(*step, &format!("unpack {layer}"), *done, at);
            }
            Event::Unpacked { .. } => {}
            Event::Finished { step, outcome, took, result } => {
                let outcome = match outcome {
                    report::Outcome::Ran => Outcome::Ran,
                    report::Outcome::Cached => Outcome::Cached,
                    report::Outcome::ConfigOnly => Outcome::ConfigOnly,
                };
                self.ended(*step, outcome, *took, at);
                self.change(*step, |step| finish(step, result));
            }
            Event::Cancelled { step, took } => self.ended(*step, Outcome::Cancelled, *took, at),
            Event::Failed { step, took, usage } => {
                self.ended(*step, Outcome::Failed, *took, at);
                self.change(*step, |step| step.usage = usage.as_ref().map(used));
            }
            Event::Warning(diagnostic) => {
                let message: Message = self.mask.message(diagnostic);
                push(&mut self.record.warnings, message);
            }
            Event::Note(text) => {
                let text = self.mask.text(text);
                push(&mut self.record.notes, text);
            }
            Event::RunsAs(text) => self.record.runs_as = Some(text.clone()),
        }
    }

    fn step(&self, heading: &StepHeading) -> Step {
        let StepHeading { number, place, title, platform, needs, owner, lines } = heading;
        Step {
            number: number.0 + 1,
            target: owner + 1,
            place: place.clone(),
            title: self.title(title, *owner, *lines),
            lines: *lines,
            platform: platform.clone(),
            needs: needs.iter().map(|step| step.0 + 1).collect(),
            ..Step::default()
        }
    }

    /// The title; where it has values of build arguments, as the Dockerfile has the instruction.
    fn title(&self, title: &str, owner: usize, lines: Option<(usize, usize)>) -> String {
        let cut = |text: &str| text.chars().take(TITLE_CHARS).collect::<String>();
        if !self.mask.is_in(title) {
            return cut(title);
        }
        // What a base image has done is in no line.
        let source =
            self.sources.get(owner).and_then(Option::as_ref).filter(|_| !title.starts_with("ONBUILD "));
        match source.zip(lines) {
            Some((source, (first, last))) => {
                let lines = source.text.lines().skip(first - 1).take(last + 1 - first);
                let words = lines.flat_map(|line| line.trim_end().trim_end_matches('\\').split_whitespace());
                // Titles have no password of a URL; what is written has.
                cut(&harmless(&without_passwords(&words.collect::<Vec<_>>().join(" "))))
            }
            None => cut(&self.mask.text(title)),
        }
    }

    fn change(&mut self, step: StepNumber, change: impl FnOnce(&mut Step)) {
        if let Some(step) = self.record.steps.get_mut(step.0) {
            change(step);
        }
    }

    fn ended(&mut self, step: StepNumber, outcome: Outcome, took: Duration, at: u64) {
        self.change(step, |step| {
            step.outcome = Some(outcome);
            step.ended_ms = Some(at);
            // What was never told to begin was done at once.
            step.started_ms.get_or_insert(at);
            step.took_ms = Some(milliseconds(took));
        });
    }

    fn moved(&mut self, step: StepNumber, what: &str, done: u64, at: u64) {
        self.change(step, |step| {
            let known = step.transfers.iter_mut().rev().find(|transfer| transfer.what == what);
            match known {
                Some(known) => (known.bytes, known.ended_ms) = (done, at),
                None => push(
                    &mut step.transfers,
                    Transfer { what: what.to_owned(), bytes: done, started_ms: at, ended_ms: at },
                ),
            }
        });
    }
}

/// The whole name of the image that a step takes, if what is recorded of its title names another, or none.
fn untold(title: &str, recorded: &str) -> Option<String> {
    let full = |title| Some(image(title)?.parse::<Reference>().ok()?.with_default_tag().full());
    full(title).filter(|name| full(recorded).as_ref() != Some(name))
}

/// Says which images steps took, of those that are among the materials: what else an argument named is nobody's to see.
fn name_images(record: &mut Record, images: &[Option<String>]) {
    let Record { steps, materials, .. } = record;
    for (step, name) in steps.iter_mut().zip(images) {
        step.image = name.clone().filter(|name| materials.iter().any(|known| known.name == *name));
    }
}

fn finish(step: &mut Step, result: &StepResult) {
    let StepResult { layer, key, inputs, usage, files, waited, took_then } = result;
    step.layer = layer.as_ref().map(|layer| Layer {
        digest: layer.digest.clone(),
        diff_id: layer.diff_id.clone(),
        size: layer.size_bytes,
    });
    step.key.clone_from(key);
    step.inputs.clone_from(inputs);
    step.usage = usage.as_ref().map(used);
    step.files = *files;
    step.took_then_ms = took_then.map(milliseconds);
    step.waited = Waits {
        slot_ms: milliseconds(waited.slot),
        lock_ms: milliseconds(waited.lock),
        transfer_ms: milliseconds(waited.transfer),
    };
}

fn used(usage: &ResourceUsage) -> Usage {
    let ResourceUsage { user_time, system_time, peak_memory_bytes, read_bytes, written_bytes, network } =
        *usage;
    Usage {
        user_ms: milliseconds(user_time),
        system_ms: milliseconds(system_time),
        peak_memory: peak_memory_bytes,
        read: read_bytes,
        written: written_bytes,
        network,
    }
}

fn push<T>(all: &mut Vec<T>, one: T) {
    if all.len() < MOST {
        all.push(one);
    }
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

fn machine() -> Machine {
    let system = rustix::system::sysinfo();
    Machine {
        platform: crate::oci::Platform::host().to_string(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        processors: processors(),
        memory_bytes: system.totalram as u64 * u64::from(system.mem_unit),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::format::{MaterialKind, Pair};
    use super::*;

    fn heading(title: &str, lines: Option<(usize, usize)>) -> StepHeading {
        StepHeading {
            number: StepNumber(0),
            place: "[1/1]".to_owned(),
            title: title.to_owned(),
            platform: None,
            needs: Vec::new(),
            owner: 0,
            lines,
        }
    }

    fn recorded(title: &str, lines: Option<(usize, usize)>) -> String {
        let recorder = Recorder::new(vec![Target::default()], 1, ["sesame".to_owned(), "7".to_owned()]);
        let text = "FROM a:$V\nENV A=${TOKEN} \\\n    B=c\nADD https://me:tok@h/$V.tgz /\n".to_owned();
        recorder.read(0, &Arc::new(Source { name: "Dockerfile".to_owned(), text }), None);
        recorder.hear(&Event::Planned(vec![heading(title, lines)]));
        let (record, _) = recorder.finish(Ok(Vec::new()), false);
        record.steps[0].title.clone()
    }

    #[test]
    fn values_of_arguments_are_in_no_title() {
        assert_eq!(recorded("ENV A=sesame B=c", Some((2, 3))), "ENV A=${TOKEN} B=c");
        assert_eq!(recorded("FROM a:7", Some((1, 1))), "FROM a:$V");
        assert_eq!(recorded("ONBUILD ENV A=sesame", Some((1, 1))), "ONBUILD ENV A=…");
        assert_eq!(recorded("RUN x", Some((2, 2))), "RUN x");
        // Nor is the password of a URL that stands in the line.
        let title = "ADD https://xxxxx:xxxxx@h/7.tgz /";
        assert_eq!(recorded(title, Some((4, 4))), "ADD https://xxxxx:xxxxx@h/$V.tgz /");
        assert_eq!(recorded("image a:7", None), "image a:7");
    }

    /// The title has the argument; which material it is, and nothing else, is told beside it.
    #[test]
    fn the_image_behind_an_argument_is_told_if_it_was_taken() {
        let taken = |name: &str| {
            let recorder = Recorder::new(vec![Target::default()], 1, ["tools:12".to_owned()]);
            let text = "ARG BASE\nFROM $BASE AS x\n".to_owned();
            recorder.read(0, &Arc::new(Source { name: "Dockerfile".to_owned(), text }), None);
            let lines = Some((2, 2));
            let others = [heading("image tools:12", None), heading("FROM debian", Some((2, 2)))];
            let headings = [heading("FROM tools:12 AS x", lines)].into_iter().chain(others);
            recorder.hear(&Event::Planned(headings.collect()));
            let kind = MaterialKind::Image;
            recorder.took([Material { kind, name: name.to_owned(), digest: None, platform: None }]);
            let (record, _) = recorder.finish(Ok(Vec::new()), false);
            assert_eq!(record.steps[0].title, "FROM $BASE AS x");
            record.steps.iter().map(|step| step.image.clone()).collect::<Vec<_>>()
        };
        let tools = "docker.io/library/tools:12";
        assert_eq!(taken(tools), [Some(tools.to_owned()), Some(tools.to_owned()), None]);
        assert_eq!(taken("docker.io/library/debian:latest"), [None, None, None]);
    }

    #[test]
    fn secrets_are_in_no_text() {
        let text = "FROM a\nRUN echo sesame\n".to_owned();
        let label = Pair { name: "l".to_owned(), value: "a sesame".to_owned() };
        let target = Target { labels: vec![label], ..Target::default() };
        let recorder = Recorder::new(vec![target], 1, []);
        recorder.hide(Box::new(|text| text.contains("sesame").then(|| text.replace("sesame", "[s]"))));
        recorder.read(0, &Arc::new(Source { name: "Dockerfile".to_owned(), text }), None);
        recorder.hear(&Event::Planned(vec![heading("RUN echo sesame", Some((2, 2)))]));
        recorder.hear(&Event::Note("sesame".to_owned()));
        let (record, _) = recorder.finish(Err(&[Diagnostic::error("no sesame")]), false);
        let text = serde_json::to_string(&*record).unwrap();
        assert!(!text.contains("sesame") && text.matches("[s]").count() == 5, "{text}");
    }

    #[test]
    fn steps_are_recorded_with_what_came_of_them() {
        let recorder = Recorder::new(vec![Target::default()], 1, []);
        let step = StepNumber(0);
        let took = Duration::from_millis(1500);
        recorder.hear(&Event::Planned(vec![heading("RUN x", Some((2, 2)))]));
        recorder.hear(&Event::Started(step));
        recorder.hear(&Event::Missed { step, why: Some("x changed".to_owned()) });
        for done in [1, 5] {
            recorder.hear(&Event::Bytes { step, what: "ab12".to_owned(), done, total: 5 });
        }
        let result = StepResult { key: Some("k".to_owned()), ..StepResult::default() };
        recorder.hear(&Event::Finished {
            step,
            outcome: report::Outcome::Ran,
            took,
            result: Box::new(result),
        });
        // One that nobody planned is no reason to fall over.
        recorder.hear(&Event::Started(StepNumber(9)));
        recorder.hear(&Event::Warning(Diagnostic::warning("StageNameCasing", "a")));
        let errors = [Diagnostic::error("b")];
        let (record, _) = recorder.finish(Err(&errors), true);
        let step = &record.steps[0];
        assert_eq!(
            (step.outcome, step.took_ms, step.missed.as_deref()),
            (Some(Outcome::Ran), Some(1500), Some("x changed"))
        );
        assert_eq!((step.transfers.len(), step.transfers[0].bytes, step.key.as_deref()), (1, 5, Some("k")));
        assert_eq!((record.status, record.error(), record.warnings.len()), (Status::Canceled, Some("b"), 1));
        let text = serde_json::to_string(&*record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), *record);
    }
}
