//! `type=local`: a folder between machines.

use std::fs;
use std::path::PathBuf;

use super::Project;

/// `type=local` for reading and for writing.
fn options(project: &Project) -> (String, String) {
    let folder = project.path().join("cache").display().to_string();
    (format!("--cache-from=type=local,src={folder}"), format!("--cache-to=type=local,dest={folder}"))
}

fn blobs(project: &Project) -> Vec<PathBuf> {
    let entries = fs::read_dir(project.path().join("cache/blobs/sha256")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn another_machine_builds_as_if_it_had_built_before() {
    let project = Project::new();
    let (from, to) = options(&project);
    let first = project.built("one", &[&to]);
    assert_eq!(first.ran(), 8, "{}", first.stderr);
    let second = project.built("two", &[&from]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    // What came from elsewhere is the machine's own now; what the result does not need never came.
    fs::remove_dir_all(project.path().join("cache")).unwrap();
    assert_eq!(project.built("two", &[]).ran(), 1);
}

#[test]
fn only_what_changed_runs_and_is_added() {
    let project = Project::new();
    let (from, to) = options(&project);
    project.built("one", &[&to]);
    project.write("a", "changed\n");
    let second = project.built("two", &[&from, &to]);
    assert_eq!(second.ran(), 5, "{}", second.stderr);
    assert!(second.stderr.contains("6 new records"), "{}", second.stderr);
    let third = project.built("three", &[&from, &to]);
    assert_eq!((third.ran(), third.digest()), (0, second.digest()), "{}", third.stderr);
    assert!(third.stderr.contains("has it all"), "{}", third.stderr);
    // The first build's records are still there.
    project.write("a", "a file\n");
    assert_eq!(project.built("four", &[&from]).ran(), 0);
}

#[test]
fn a_cache_that_has_not_what_it_promised_is_a_miss() {
    let project = Project::new();
    let (from, to) = options(&project);
    project.built("one", &[&to]);
    for damage in ["other bytes", ""] {
        for blob in blobs(&project) {
            match damage {
                "" => fs::remove_file(blob).unwrap(),
                bytes => fs::write(blob, bytes).unwrap(),
            }
        }
        let machine = format!("two{}", damage.len());
        let second = project.built(&machine, &[&from]);
        assert!(second.stderr.contains("is made anew"), "{}", second.stderr);
        assert!(second.ran() >= 3, "{}", second.stderr);
        assert_eq!(project.built(&machine, &[]).digest(), second.digest());
    }
}

#[test]
fn what_is_no_cache_is_told_once_and_costs_no_build() {
    let project = Project::new();
    let (from, _) = options(&project);
    fs::create_dir_all(project.path().join("cache/rbuild-cache")).unwrap();
    fs::write(project.path().join("cache/rbuild-cache/latest"), "no pack").unwrap();
    let said = project.built("one", &[&from]);
    assert_eq!(said.stderr.matches("no pack of records").count(), 1, "{}", said.stderr);
}

#[test]
fn the_least_is_what_the_result_needs() {
    let project = Project::new();
    let (from, to) = options(&project);
    project.built("one", &[&format!("{to},mode=min")]);
    let second = project.built("two", &[&from]);
    // The steps of stage `b` are not part of the result; those that it stands on are.
    assert!((1..=5).contains(&second.ran()), "{}", second.stderr);
    assert!(second.stderr.contains("#5 CACHED"), "{}", second.stderr);
}

#[test]
fn writers_at_once_lose_nothing() {
    let project = Project::new();
    let (from, to) = options(&project);
    let machines: Vec<String> = (0..8).map(|number| format!("machine{number}")).collect();
    project.write("Numbered", format!("{}ARG N\nRUN echo $N > /n\n", super::DOCKERFILE));
    // What all stand on.
    project.built("first", &["--file=Numbered", &to]);
    std::thread::scope(|scope| {
        for machine in &machines {
            let argument = format!("--build-arg=N={machine}");
            let (project, from, to) = (&project, &from, &to);
            scope.spawn(move || project.built(machine, &["--file=Numbered", from, to, &argument]));
        }
    });
    for machine in &machines {
        let argument = format!("--build-arg=N={machine}");
        let said = project.built(&format!("{machine}-again"), &["--file=Numbered", &from, &argument]);
        assert_eq!(said.ran(), 0, "{machine}: {}", said.stderr);
    }
}

/// The digest, in hex, of the layer that a build of `machine` made in the step that begins so.
fn layer_of(project: &Project, machine: &str, step: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rbuild"));
    command.current_dir(project.path().join("context")).arg("--root").arg(project.store(machine));
    let output = command.args(["build", "--progress=json", "."]).output().unwrap();
    let events = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut number = None;
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        if event["event"] == "planned" {
            let steps = event["steps"].as_array().unwrap();
            let titled = |s: &&serde_json::Value| s["title"].as_str().unwrap().starts_with(step);
            number = steps.iter().find(titled).map(|s| s["step"].clone());
        }
        if event["event"] == "finished" && Some(&event["step"]) == number.as_ref() {
            return event["layer"]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        }
    }
    panic!("no such step: {events}")
}

const FOUR: &str = "FROM scratch\nCOPY busybox /bin/sh\nRUN echo 1 > /1\nCOPY a /a\nRUN echo 2 > /2\n";

#[test]
fn a_layer_that_is_gone_is_made_and_kept_again() {
    for round in 0..3 {
        let project = Project::new();
        let (from, to) = options(&project);
        project.write("Dockerfile", FOUR);
        project.built("one", &[&to]);
        let gone = layer_of(&project, "one", "RUN echo 1");
        fs::remove_file(project.path().join("cache/blobs/sha256").join(gone)).unwrap();
        // COPY runs, and what stands below it is fetched meanwhile.
        project.write("a", format!("changed {round}\n"));
        let second = project.built("two", &[&from, &to]);
        let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_rbuild"));
        let verify = verify.arg("--root").arg(project.store("two")).arg("verify").output().unwrap();
        assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
        // COPY of the program is there still: what else was to be fetched with it says nothing of it.
        assert!(!second.stderr.contains("#3 not cached"), "{}", second.stderr);
        let third = project.built("three", &[&from, &to]);
        assert_eq!((third.ran(), third.digest()), (0, second.digest()), "{}", third.stderr);
    }
}

#[test]
fn a_head_that_is_damaged_is_written_anew() {
    let project = Project::new();
    let (from, to) = options(&project);
    project.built("one", &[&to]);
    let head = project.path().join("cache/rbuild-cache/latest");
    let mut bytes = fs::read(&head).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&head, bytes).unwrap();
    let said = project.built("one", &[&to, "--file=Dockerfile"]);
    assert!(said.stderr.contains("cached to"), "{}", said.stderr);
    assert_eq!(project.built("two", &[&from]).ran(), 0);
}

#[test]
fn tags_in_one_folder_are_caches_of_their_own() {
    let project = Project::new();
    let (from, to) = options(&project);
    project.built("one", &[&format!("{to},tag=a")]);
    assert_ne!(project.built("two", &[&format!("{from},tag=b")]).ran(), 0);
    project.built("three", &[&format!("{from},tag=a"), &format!("{to},tag=b")]);
    assert_eq!(project.built("four", &[&format!("{from},tag=b")]).ran(), 0);
}

#[test]
fn a_store_that_a_pipeline_keeps_as_files_is_as_good() {
    let project = Project::new();
    let first = project.built("one", &[]);
    let (kept, moved) = (project.store("one"), project.store("two"));
    // As docs/ci.md has it, and through an archive, as inodes and times of change are others then.
    for folder in ["trees", "tmp", "trash", "partial", "statcache", "logs"] {
        let _ = fs::remove_dir_all(kept.join("rbuild").join(folder));
    }
    fs::create_dir(&moved).unwrap();
    let archive = project.path().join("store.tar");
    for arguments in [["-cf", "-C", kept.to_str().unwrap()], ["-xf", "-C", moved.to_str().unwrap()]] {
        let mut tar = std::process::Command::new("tar");
        tar.arg(arguments[0]).arg(&archive).args(&arguments[1..]);
        let status = if arguments[0] == "-cf" { tar.arg(".").status() } else { tar.status() };
        assert!(status.unwrap().success());
    }
    // A record of another boot is believed when its blob was hashed.
    let folders = fs::read_dir(moved.join("rbuild/records")).unwrap().map(|folder| folder.unwrap().path());
    for path in folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|record| record.unwrap().path())
    {
        if let Some(record) = rbuild::cache::Record::parse(&fs::read(&path).unwrap()) {
            let record = rbuild::cache::Record { boot_id: "another".to_owned(), ..record };
            fs::write(path, record.to_bytes()).unwrap();
        }
    }
    let second = project.built("two", &[]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    project.write("a", "changed\n");
    assert_eq!(project.built("two", &[]).ran(), 5);
}

#[test]
fn a_miss_on_a_new_machine_is_explained() {
    let project = Project::new();
    let (from, to) = options(&project);
    project.write(
        "Explained",
        "FROM scratch\nCOPY busybox /bin/sh\nCOPY a /a\nARG VERSION\nRUN echo $VERSION > /v\n",
    );
    project.built("one", &["--file=Explained", "--build-arg=VERSION=1", &to]);
    let argument = project.built("two", &["--file=Explained", "--build-arg=VERSION=2", &from]);
    assert!(argument.stderr.contains("ARG VERSION changed"), "{}", argument.stderr);
    project.write("a", "changed\n");
    let file = project.built("three", &["--file=Explained", "--build-arg=VERSION=1", &from]);
    assert!(file.stderr.contains("files changed"), "{}", file.stderr);
    assert!(!file.stderr.contains("ARG VERSION changed"), "{}", file.stderr);
}
