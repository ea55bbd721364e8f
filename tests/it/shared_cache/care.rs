//! `rbuild cache inspect|prune|rm`.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::base::busybox_registry;

use super::Project;

/// A command's standard output; it must have gone well.
fn said(project: &Project, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = tried(project, arguments);
    assert_eq!(code, 0, "{stdout}{stderr}");
    stdout
}

fn tried(project: &Project, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
    let output = command.current_dir(project.path()).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn blobs(folder: &Path) -> usize {
    fs::read_dir(folder.join("blobs/sha256")).unwrap().count()
}

#[test]
fn a_folder_is_looked_into_made_smaller_and_removed() {
    let project = Project::new();
    let cache = format!("type=local,src={}", project.path().join("cache").display());
    let (code, _, stderr) = tried(&project, &["cache", "inspect", &cache]);
    assert!(code == 1 && stderr.contains("there is no cache at"), "{stderr}");

    let to = format!("--cache-to=type=local,dest={}", project.path().join("cache").display());
    let pipeline = [("GITHUB_REPOSITORY", "some/project"), ("GITHUB_REF_NAME", "main")];
    project.built_in("one", &pipeline, &[&to]);
    let listed = said(&project, &["cache", "inspect", &cache]);
    assert!(listed.starts_with("STEP") && listed.contains("some/project@main"), "{listed}");
    assert!(listed.contains("\n9 steps, ") && listed.contains("indexes of layers"), "{listed}");
    let json = said(&project, &["cache", "inspect", "--format=json", &cache]);
    let rows: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 9);
    assert!(rows.iter().all(|row| row["Writer"] == "some/project@main" && row["Bytes"].as_u64() > Some(0)));

    let (code, _, stderr) = tried(&project, &["cache", "prune", &cache]);
    assert!(code == 2 && stderr.contains("--max-size"), "{stderr}");
    let kept = said(&project, &["cache", "prune", "--max-age=1d", &cache]);
    assert_eq!(kept, "0 steps dropped, 9 kept\n");
    let folder = project.path().join("cache");
    for blob in fs::read_dir(folder.join("blobs/sha256")).unwrap() {
        let file = File::options().append(true).open(blob.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    }
    let before = blobs(&folder);
    // The two layers with a program are larger than that.
    let pruned = said(&project, &["cache", "prune", "--max-size=100k", &cache]);
    assert!(pruned.contains(" freed") && !pruned.starts_with("0 steps"), "{pruned}");
    assert!(blobs(&folder) < before);
    // What is left is as good as before.
    let from = format!("--cache-from={cache}");
    let again = project.built("two", &[&from]);
    assert!((1..8).contains(&again.ran()), "{}", again.stderr);

    said(&project, &["cache", "rm", &cache]);
    assert_eq!(blobs(&folder), 0);
    assert_eq!(tried(&project, &["cache", "rm", &cache]).0, 1);
    assert_eq!(project.built("three", &[&from]).ran(), 8);
}

#[test]
fn cache_mounts_are_listed_and_bounded() {
    let project = Project::new();
    let folder = project.path().join("cache");
    let cache = format!("type=local,src={}", folder.display());
    let keep = |name: &str| {
        format!("RUN --mount=type=cache,target=/{name} head -c 2000000 /dev/urandom > /{name}/f\n")
    };
    let busybox = "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/head\n";
    project.write("Dockerfile", format!("{busybox}{}{}", keep("one"), keep("two")));
    project.built("one", &[&format!("--cache-to=type=local,dest={}", folder.display())]);
    let listed = said(&project, &["cache", "inspect", &cache]);
    assert!(listed.contains("\nCACHE MOUNT ") && listed.matches(" 2.0 MB ").count() >= 2, "{listed}");
    let json = said(&project, &["cache", "inspect", "--format=json", &cache]);
    let mounts = |json: &str| {
        let rows = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        rows.filter(|row| row["FileBytes"] == 2_000_000 && row["Files"] == 1 && row["Mount"].is_string())
            .count()
    };
    assert_eq!(mounts(&json), 2, "{json}");
    let pruned = said(&project, &["cache", "prune", "--mounts-max-size=3m", &cache]);
    assert!(pruned.starts_with("0 steps dropped, 4 kept; 1 cache mounts dropped, 1 kept"), "{pruned}");
    assert_eq!(mounts(&said(&project, &["cache", "inspect", "--format=json", &cache])), 1);
}

#[test]
fn a_tag_of_a_registry_is_looked_into_made_smaller_and_removed() {
    let registry = busybox_registry();
    let project = Project::new();
    let cache = format!("{}/app:cache", registry.host());
    project.built(
        "one",
        &[&format!("--cache-to={cache}"), "--push", "-t", &format!("{}/app:1", registry.host())],
    );
    let listed = said(&project, &["cache", "inspect", &cache]);
    assert!(listed.contains("\n9 steps, ") && listed.contains("pushed with it: "), "{listed}");
    let pruned = said(&project, &["cache", "prune", "--max-size=100k", &cache]);
    assert!(pruned.contains("when the server collects garbage"), "{pruned}");
    let left = said(&project, &["cache", "inspect", "--format={{.Key}}", &cache]).lines().count();
    assert!((1..9).contains(&left), "{left}");
    said(&project, &["cache", "rm", &cache]);
    assert_eq!(tried(&project, &["cache", "inspect", &cache]).0, 1);
    // Images are no caches.
    let image = format!("{}/app:1", registry.host());
    let (code, _, stderr) = tried(&project, &["cache", "rm", &image]);
    assert!(code == 1 && stderr.contains("it is an image and no cache"), "{stderr}");
}
