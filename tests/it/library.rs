//! Builds by the library itself: what a program that uses it is told and can ask for, beyond the command line.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rbuild::exec::Stop;
use rbuild::oci::Digest;
use rbuild::pipeline::{self, Built, Request};
use rbuild::report::{Event, EventReader, Events, Outcome, StepHeading, StepNumber, StepResult, channel};
use rbuild::store::Store;

/// A context of two files, and a Dockerfile whose result needs nothing of the layer that it copies from.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        project
            .write("Dockerfile", "FROM scratch AS one\nCOPY a /a\n\nFROM scratch\nCOPY --from=one /a /b\n");
        project.write("a", "a file\n");
        project.write("c", "another\n");
        project
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn store(&self, name: &str) -> PathBuf {
        self.0.path().join("stores").join(name)
    }

    /// A build in the store `name` that may take layers of `others`.
    fn request(&self, name: &str, others: &[&str]) -> Request {
        self.write(".dockerignore", "stores\n");
        std::fs::create_dir_all(self.0.path().join("stores")).unwrap();
        Request {
            other_stores: others.iter().map(|other| self.store(other)).collect(),
            offline: true,
            ..Request::new(self.store(name), self.0.path().to_owned())
        }
    }

    fn build(&self, name: &str, others: &[&str]) -> Built {
        let request = self.request(name, others);
        pipeline::run(&request, &Events::silent(), &Stop::default()).unwrap()
    }
}

fn all(reader: &EventReader) -> Vec<Event> {
    let next = || reader.next_within(Duration::from_secs(60)).ok();
    std::iter::from_fn(next).map(|(_, event)| event).collect()
}

fn blobs(store: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store.join("blobs/sha256")).unwrap();
    let mut blobs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    blobs.sort();
    blobs
}

/// The layers of a build's steps, in the order of the steps.
fn layers(project: &Project, name: &str) -> Vec<Digest> {
    let (events, reader) = channel();
    let request = project.request(name, &[]);
    pipeline::run(&request, &events, &Stop::default()).unwrap();
    drop(events);
    let mut made: Vec<(StepNumber, Digest)> = Vec::new();
    for event in all(&reader) {
        if let Event::Finished { step, result, .. } = event {
            made.extend(result.layer.map(|layer| (step, layer.digest.parse().unwrap())));
        }
    }
    made.sort();
    made.into_iter().map(|(_, digest)| digest).collect()
}

#[test]
fn a_step_that_is_done_tells_what_it_came_to() {
    let project = Project::new();
    let (events, reader) = channel();
    pipeline::run(&project.request("own", &[]), &events, &Stop::default()).unwrap();
    drop(events);
    let told = all(&reader);
    let headings = told.iter().find_map(|event| match event {
        Event::Planned(headings) => Some(headings.clone()),
        _ => None,
    });
    let needs = |step: StepHeading| (step.title, step.needs);
    let needs: Vec<_> = headings.unwrap().into_iter().map(needs).collect();
    let copies: Vec<_> = needs.iter().filter(|(title, _)| title.starts_with("COPY")).collect();
    let first = told.iter().find_map(|event| match event {
        Event::Finished { step, outcome: Outcome::Ran, result, .. } if result.inputs.is_empty() => {
            Some(*step)
        }
        _ => None,
    });
    assert!(copies[1].1.contains(&first.unwrap()), "{needs:?}");
    let results: Vec<StepResult> = told
        .into_iter()
        .filter_map(|event| match event {
            Event::Finished { outcome: Outcome::Ran, result, .. } => Some(*result),
            _ => None,
        })
        .collect();
    let [one, two] = results.as_slice() else { panic!("{results:?}") };
    let layer = one.layer.as_ref().unwrap();
    let chain_of_one = vec![layer.diff_id.clone()];
    assert_eq!(two.inputs, chain_of_one, "the second reads what the first left");
    assert!(layer.size_bytes > 0 && one.key.is_some() && one.key != two.key);
    assert_eq!((one.usage, two.usage), (None, None), "no command ran");
}

#[test]
fn a_layer_of_another_store_is_taken_when_it_is_needed() {
    let project = Project::new();
    let made = project.build("theirs", &[]);
    let [below, top] = layers(&project, "theirs")[..] else { panic!("two layers") };
    assert_eq!((made.ran, made.cached), (2, 0));
    let taken = project.build("own", &["theirs"]);
    assert_eq!((taken.ran, taken.cached, taken.digest), (0, 2, made.digest));
    let store = Store::open(&project.store("own")).unwrap();
    assert!(store.has_blob(&top).is_some(), "the image is of it");
    assert_eq!(store.has_blob(&below), None, "nothing needs its bytes");
    drop(store);
    project.write("Dockerfile", "FROM scratch AS one\nCOPY a /a\nCOPY c /c\n");
    let further = project.build("own", &["theirs"]);
    assert_eq!((further.ran, further.cached), (1, 1));
    let store = Store::open(&project.store("own")).unwrap();
    assert!(store.has_blob(&below).is_some(), "a later step stands on it");
    drop(store);
    let alone = project.build("own", &[]);
    assert_eq!((alone.ran, alone.cached, alone.digest), (0, 2, further.digest), "it is known here by now");
}

#[test]
fn another_store_is_only_read() {
    let project = Project::new();
    project.build("theirs", &[]);
    let before = blobs(&project.store("theirs"));
    // The folder of a build goes with the last of its threads.
    let folders = project.store("theirs").join("rbuild/tmp");
    let patience = Instant::now() + Duration::from_secs(30);
    while std::fs::read_dir(&folders).unwrap().next().is_some() {
        assert!(Instant::now() < patience, "{} is not empty", folders.display());
        std::thread::yield_now();
    }
    let tree = |name: &str| {
        let mut find = std::process::Command::new("find");
        let found = find.arg(project.store(name)).args(["-printf", "%p %T@ %i\n"]).output().unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    let told = tree("theirs");
    project.build("own", &["theirs"]);
    assert_eq!((blobs(&project.store("theirs")), tree("theirs")), (before, told));
}

#[test]
fn a_blob_that_is_not_what_another_store_promised_is_made_anew() {
    let project = Project::new();
    project.build("theirs", &[]);
    let top = layers(&project, "theirs")[1];
    let path = project.store("theirs").join("blobs/sha256").join(top.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let request = project.request("own", &["theirs"]);
    let (events, reader) = channel();
    let built = pipeline::run(&request, &events, &Stop::default()).unwrap();
    drop(events);
    assert_eq!(built.ran, 1);
    let is_told = |event: &Event| {
        let Event::Note(note) = event else { return false };
        note.starts_with(&format!("the layer {top} was to come from"))
    };
    assert_eq!(all(&reader).iter().filter(|event| is_told(event)).count(), 1);
    assert!(Store::open(&project.store("own")).unwrap().has_blob(&top).is_some());
}
