//! What is fetched, and what is made here since that is faster.

use std::fs;
use std::time::{Duration, SystemTime};

use rbuild::oci::Digest;
use rbuild::shared_cache::Pack;
use rbuild::store::Store;

use super::{Project, Said};

const SOURCES: &str = "FROM scratch
COPY busybox /bin/sh
COPY busybox /bin/busybox
COPY --chmod=640 --chown=7:8 src /app/src/
RUN echo one > /one
";

fn options(project: &Project) -> (String, String) {
    let folder = project.path().join("cache").display().to_string();
    (format!("--cache-from=type=local,src={folder}"), format!("--cache-to=type=local,dest={folder}"))
}

/// A project of several files that another machine has built.
fn built_elsewhere() -> Project {
    let project = Project::new();
    fs::create_dir_all(project.path().join("context/src/deep")).unwrap();
    for number in 0..20 {
        project.write(&format!("src/{number}"), format!("file {number}\n").repeat(1000));
        project.write(&format!("src/deep/{number}"), format!("{number}"));
    }
    std::os::unix::fs::symlink("deep/1", project.path().join("context/src/link")).unwrap();
    project.write("Dockerfile", SOURCES);
    project.built("one", &[&options(&project).1]);
    project
}

/// As in a fresh clone: the same files, of another time.
fn cloned(project: &Project) {
    for name in ["src/1", "src/deep/2", "busybox"] {
        let file = fs::File::options().append(true).open(project.path().join("context").join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(1000)).unwrap();
    }
}

/// A machine on which the cache is known to give so much in a second.
fn machine_on_a_line_of(project: &Project, bytes: u64, machine: &str) {
    let place = project.path().join("cache").display().to_string();
    let store = Store::open(&project.store(machine)).unwrap();
    let name = format!("{}.rate", Digest::of(place.as_bytes()).hex());
    store.put_record(&name, bytes.to_string().as_bytes()).unwrap();
}

fn on_top(project: &Project, machine: &str) -> Said {
    project.write("Dockerfile", format!("{SOURCES}RUN /bin/busybox cat /app/src/1 > /two\n"));
    project.built(machine, &[&options(project).0])
}

#[test]
fn what_a_command_needs_is_made_of_files_that_are_here() {
    let project = built_elsewhere();
    cloned(&project);
    machine_on_a_line_of(&project, 1000, "slow");
    // Nothing of them can be fetched, so they were made; and they are what the other machine made.
    let pack = Pack::parse(&fs::read(project.path().join("cache/rbuild-cache/latest")).unwrap()).unwrap();
    let folder = project.path().join("cache/blobs/sha256");
    let copied =
        |entry: &&rbuild::shared_cache::Entry| entry.clues.iter().any(|clue| clue.0 == "destination");
    let layers: Vec<_> = pack.entries.values().filter(copied).collect();
    let layers: Vec<_> = layers.iter().map(|entry| entry.record.layer.descriptor.digest.hex()).collect();
    assert!(layers.len() >= 3, "{:?}", pack.entries.values().map(|e| &e.clues).collect::<Vec<_>>());
    layers.iter().for_each(|layer| fs::remove_file(folder.join(layer)).unwrap_or_default());
    let said = on_top(&project, "slow");
    assert_eq!(said.ran(), 1, "{}", said.stderr);
    assert!(said.stderr.contains("4 steps cached (4 remote; "), "{}", said.stderr);
    assert!(said.stderr.contains(", 3 made here), saved "), "{}", said.stderr);
    assert_eq!(project.rbuild("slow", &["verify"]).code, 0);
}

#[test]
fn what_comes_faster_is_fetched() {
    let project = built_elsewhere();
    cloned(&project);
    machine_on_a_line_of(&project, 1 << 40, "fast");
    let said = on_top(&project, "fast");
    assert_eq!(said.ran(), 1, "{}", said.stderr);
    assert!(!said.stderr.contains("made here"), "{}", said.stderr);
}

/// Without the times and owners of the other machine nobody can tell which layer it was.
#[test]
fn what_cannot_be_made_the_same_is_fetched() {
    let project = built_elsewhere();
    machine_on_a_line_of(&project, 1000, "slow");
    let head = project.path().join("cache/rbuild-cache/latest");
    let mut pack = Pack::parse(&fs::read(&head).unwrap()).unwrap();
    pack.indexes.clear();
    fs::write(&head, pack.to_bytes()).unwrap();
    let said = on_top(&project, "slow");
    assert_eq!(said.ran(), 1, "{}", said.stderr);
    assert!(!said.stderr.contains("made here"), "{}", said.stderr);
}
