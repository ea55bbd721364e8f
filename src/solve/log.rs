//! The whole output of every command of a build, on disk.
//!
//! ```text
//! ROOT/rbuild/logs/<id>/build.json    what was built, and when
//! ROOT/rbuild/logs/<id>/steps         one JSON object a line: a step that began, or ended
//! ROOT/rbuild/logs/<id>/<step>.log    its output, both streams as they came
//! ```
//!
//! Nothing is made for a build without output. What cannot be written is no failure of a build.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::{now, now_ms};
use crate::oci::Seconds;
use crate::report::StepNumber;
use crate::store::{self, Folder, Store, write_private};

/// So many builds keep their logs,
const BUILDS: usize = 20;
/// each for two weeks,
const SECONDS: Seconds = 14 * 86_400;
/// as long as all together have no more bytes than this.
const BYTES: u64 = 512 << 20;
/// Of longer output the beginning is kept, of this many bytes,
const HEAD_BYTES: u64 = 16 << 20;
/// and the end, of this many up to twice as many.
const TAIL_BYTES: u64 = 8 << 20;
/// What is written waits no longer than this for more, so that one can follow it.
const PATIENCE: Duration = Duration::from_millis(200);

/// The log of one build.
#[derive(Debug)]
pub struct BuildLog {
    store: Store,
    id: Option<String>,
    folder: OnceLock<Option<PathBuf>>,
}

/// What was built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    /// What `rbuild logs` calls it; the folder's name.
    #[serde(skip)]
    pub id: String,
    /// The Dockerfile.
    pub what: String,
    /// In seconds since 1970.
    pub created: Seconds,
    created_ms: u64,
}

/// A step of which there is output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedStep {
    /// As `#6` in the plain progress.
    pub number: usize,
    /// `[build 2/5] RUN make`
    pub title: String,
    /// The file in the build's folder.
    pub file: String,
    /// `exit code: 2`; `None` while it runs, or when rbuild was killed then.
    pub ended: Option<String>,
}

impl BuildLog {
    /// Nothing is written yet.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), id: None, folder: OnceLock::new() }
    }

    /// Of a build that has an id already.
    pub fn named(store: &Store, id: String) -> Self {
        Self { id: Some(id), ..Self::new(store) }
    }

    /// The log of one step of the build of `what`.
    pub(super) fn step(&self, what: &str, number: StepNumber, title: &str) -> StepLog<'_> {
        StepLog {
            build: self,
            what: what.to_owned(),
            step: LoggedStep {
                number: number.0 + 1,
                title: title.to_owned(),
                file: String::new(),
                ended: None,
            },
            output: None,
            lines: 0,
        }
    }

    fn folder(&self, what: &str) -> Option<&Path> {
        self.folder.get_or_init(|| self.make(what).ok()).as_deref()
    }

    fn make(&self, what: &str) -> io::Result<PathBuf> {
        let logs = self.store.private(Folder::Logs);
        expire(&self.store, now());
        let mut named = self.id.clone();
        loop {
            let random = || store::unique().chars().rev().take(6).collect();
            let id: String = named.take().unwrap_or_else(random);
            let folder = logs.join(&id);
            match fs::create_dir(&folder) {
                Ok(()) => {
                    let about = About { id, what: what.to_owned(), created: now(), created_ms: now_ms() };
                    write_private(&folder.join("build.json"), &serde_json::to_vec(&about)?)?;
                    return Ok(folder);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// How a step ended that did what it was to do.
pub const SUCCEEDED: &str = "exit code: 0";
/// How one ended that had to end with the build.
pub const CANCELLED: &str = "cancelled";

/// The log of one step.
pub(super) struct StepLog<'a> {
    build: &'a BuildLog,
    what: String,
    step: LoggedStep,
    /// `None` before the first line, and when it cannot be written.
    output: Option<Output>,
    lines: u64,
}

impl StepLog<'_> {
    /// Adds a line of output.
    pub(super) fn line(&mut self, line: &str) {
        self.lines += 1;
        if self.lines == 1 {
            self.output = self.begin().ok();
        }
        if let Some(output) = &mut self.output
            && output.line(line).is_err()
        {
            self.output = None;
        }
    }

    fn begin(&mut self) -> io::Result<Output> {
        let folder = self.build.folder(&self.what).ok_or(io::ErrorKind::NotFound)?;
        self.step.file = format!("{}.log", self.step.number);
        let output = Output::create(&folder.join(&self.step.file))?;
        note(folder, &self.step);
        Ok(output)
    }

    /// Says how the step ended; gives the number of lines, and the file that has them if there is one.
    pub(super) fn end(mut self, ended: String) -> (u64, Option<PathBuf>) {
        // One that failed is told of, also where it said nothing.
        if self.lines == 0 && ![SUCCEEDED, CANCELLED].contains(&ended.as_str()) {
            self.output = self.begin().ok();
        }
        let Some(output) = self.output.take() else { return (self.lines, None) };
        let path = output.path.clone();
        let finished = output.finish();
        self.step.ended = Some(ended);
        if let Some(folder) = path.parent() {
            note(folder, &self.step);
        }
        (self.lines, finished.is_ok().then_some(path))
    }
}

/// Adds a line to the list of steps.
fn note(folder: &Path, step: &LoggedStep) {
    let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(folder.join("steps"));
    let line = serde_json::to_vec(step).map(|mut line| {
        line.push(b'\n');
        line
    });
    if let (Ok(mut file), Ok(line)) = (file, line) {
        let _ = file.write_all(&line);
    }
}

/// A file of output: the beginning, and beside it, until the end, what may be the end.
struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    flushed: Instant,
    written: u64,
    tail: Option<Tail>,
}

/// The last bytes of a long output, in two files in turn.
struct Tail {
    older: File,
    newer: BufWriter<File>,
    newer_bytes: u64,
    dropped: u64,
}

impl Output {
    fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let file = BufWriter::new(file);
        Ok(Self { path: path.to_owned(), file, flushed: Instant::now(), written: 0, tail: None })
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let bytes = line.len() as u64 + 1;
        if self.written + bytes > HEAD_BYTES {
            return self.tail()?.line(line);
        }
        self.written += bytes;
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")?;
        if self.flushed.elapsed() >= PATIENCE {
            self.file.flush()?;
            self.flushed = Instant::now();
        }
        Ok(())
    }

    fn tail(&mut self) -> io::Result<&mut Tail> {
        if self.tail.is_none() {
            self.written = HEAD_BYTES;
            let folder = self.path.parent().ok_or(io::ErrorKind::NotFound)?;
            let newer = BufWriter::new(nameless(folder)?);
            self.tail = Some(Tail { older: nameless(folder)?, newer, newer_bytes: 0, dropped: 0 });
        }
        self.tail.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn finish(mut self) -> io::Result<()> {
        if let Some(mut tail) = self.tail.take() {
            tail.newer.flush()?;
            if tail.dropped > 0 {
                writeln!(self.file, "[rbuild: {} bytes are left out here]", tail.dropped)?;
            }
            for file in [&mut tail.older, tail.newer.get_mut()] {
                file.rewind()?;
                io::copy(file, &mut self.file)?;
            }
        }
        self.file.flush()
    }
}

impl Tail {
    fn line(&mut self, line: &str) -> io::Result<()> {
        if self.newer_bytes >= TAIL_BYTES {
            self.newer.flush()?;
            self.dropped += self.older.metadata()?.len();
            std::mem::swap(&mut self.older, self.newer.get_mut());
            self.newer.get_mut().set_len(0)?;
            self.newer.get_mut().rewind()?;
            self.newer_bytes = 0;
        }
        self.newer_bytes += line.len() as u64 + 1;
        self.newer.write_all(line.as_bytes())?;
        self.newer.write_all(b"\n")
    }
}

/// A file that is gone when it is closed.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("tail-{}", store::unique()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// The builds of which there is output, the newest first.
pub fn logged_builds(store: &Store) -> Vec<About> {
    let names = fs::read_dir(store.private(Folder::Logs)).into_iter().flatten().flatten();
    let read = |id: String| {
        let bytes =
            crate::rootfs::read_regular(&store.private(Folder::Logs).join(&id).join("build.json")).ok()?;
        let about: About = serde_json::from_slice(&bytes).ok()?;
        Some(About { id, ..about })
    };
    let mut builds: Vec<About> =
        names.filter_map(|entry| read(entry.file_name().into_string().ok()?)).collect();
    builds.sort_by(|a, b| (b.created_ms, &b.id).cmp(&(a.created_ms, &a.id)));
    builds
}

/// The steps of a build of which there is output, by number.
pub fn logged_steps(store: &Store, id: &str) -> Vec<LoggedStep> {
    let text = crate::rootfs::read_regular_text(&store.private(Folder::Logs).join(id).join("steps"))
        .unwrap_or_default();
    let mut steps: Vec<LoggedStep> = Vec::new();
    for step in text.lines().filter_map(|line| serde_json::from_str::<LoggedStep>(line).ok()) {
        // The second time that a step is told of, it has ended.
        match steps.iter_mut().find(|known| known.file == step.file) {
            Some(known) => *known = step,
            None => steps.push(step),
        }
    }
    steps.sort_by_key(|step| step.number);
    steps
}

/// The output of a step.
pub fn log_file(store: &Store, id: &str, step: &LoggedStep) -> PathBuf {
    store.private(Folder::Logs).join(id).join(&step.file)
}

/// Adds the output of a step of a build of another machine, which began then, in milliseconds since 1970. What cannot be written is
/// left out.
pub fn add(store: &Store, id: &str, (what, started_ms): (&str, u64), step: &LoggedStep, text: &str) {
    let folder = store.private(Folder::Logs).join(id);
    let created = Seconds::try_from(started_ms / 1000).unwrap_or(Seconds::MAX);
    let about = About { id: id.to_owned(), what: what.to_owned(), created, created_ms: started_ms };
    if fs::create_dir(&folder).is_ok()
        && let Ok(about) = serde_json::to_vec(&about)
    {
        let _ = write_private(&folder.join("build.json"), &about);
    }
    let step = LoggedStep { file: format!("{}.log", step.number), ..step.clone() };
    if write_private(&folder.join(&step.file), text.as_bytes()).is_ok() {
        note(&folder, &step);
    }
}

/// Removes the output of a build, if there is any.
pub fn forget(store: &Store, id: &str) {
    if id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let _ = store.trash(&store.folder(Folder::Logs).join(id));
    }
}

/// Removes what is too old or too much.
fn expire(store: &Store, now: Seconds) {
    let mut sum = 0;
    for (at, build) in logged_builds(store).iter().enumerate() {
        let folder = store.private(Folder::Logs).join(&build.id);
        sum += size(&folder);
        // One more is about to be made.
        if at + 1 >= BUILDS || build.created + SECONDS < now || sum > BYTES {
            let _ = store.trash(&folder);
        }
    }
}

fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s")).unwrap();
        (dir, store)
    }

    fn text(store: &Store, id: &str, step: &LoggedStep) -> String {
        fs::read_to_string(log_file(store, id, step)).unwrap()
    }

    #[test]
    fn every_line_is_there_afterwards() {
        let (_dir, store) = store();
        let build = BuildLog::new(&store);
        let silent = build.step("Dockerfile", StepNumber(0), "[1/3] RUN true");
        assert_eq!(silent.end("exit code: 0".to_owned()), (0, None));
        assert!(logged_builds(&store).is_empty());
        let mut log = build.step("Dockerfile", StepNumber(1), "[2/3] RUN seq 3");
        ["1", "2", "3"].iter().for_each(|line| log.line(line));
        let again = {
            let mut log = build.step("Dockerfile", StepNumber(2), "[3/3] RUN echo other");
            log.line("other");
            log.end("exit code: 0".to_owned())
        };
        assert_eq!(log.end("exit code: 2".to_owned()).0, 3);
        assert!(again.1.unwrap().ends_with("3.log"));
        let builds = logged_builds(&store);
        assert_eq!(builds.len(), 1);
        let steps = logged_steps(&store, &builds[0].id);
        assert_eq!(
            steps.iter().map(|s| s.ended.as_deref().unwrap()).collect::<Vec<_>>(),
            ["exit code: 2", "exit code: 0"]
        );
        assert_eq!(text(&store, &builds[0].id, &steps[0]), "1\n2\n3\n");
    }

    #[test]
    fn of_very_long_output_both_ends_are_kept() {
        let (_dir, store) = store();
        let build = BuildLog::new(&store);
        let mut log = build.step("Dockerfile", StepNumber(0), "RUN yes");
        let filler = "x".repeat(1 << 20);
        log.line("first");
        (0..60).for_each(|_| log.line(&filler));
        log.line("last");
        let (lines, path) = log.end("exit code: 0".to_owned());
        let text = fs::read_to_string(path.unwrap()).unwrap();
        assert_eq!(lines, 62);
        assert!(text.starts_with("first\nxxx") && text.ends_with("xxx\nlast\n"));
        assert!(text.contains("bytes are left out here"));
        assert!(text.len() as u64 <= HEAD_BYTES + 3 * TAIL_BYTES, "{}", text.len());
        let left = fs::read_dir(store.private(Folder::Logs)).unwrap().next().unwrap().unwrap();
        assert_eq!(fs::read_dir(left.path()).unwrap().count(), 3);
    }

    #[test]
    fn old_logs_make_room() {
        let (_dir, store) = store();
        for _ in 0..BUILDS + 5 {
            let build = BuildLog::new(&store);
            let mut log = build.step("Dockerfile", StepNumber(0), "RUN x");
            log.line("x");
            log.end("exit code: 0".to_owned());
        }
        assert_eq!(logged_builds(&store).len(), BUILDS);
        expire(&store, now() + SECONDS + 10);
        assert!(logged_builds(&store).is_empty());
    }
}
