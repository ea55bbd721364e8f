//! Docker with containerd's image store. Debian's docker has none, so what is said to docker is checked here, and what docker would have
//! containerd do is done by a real one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use super::{lose_large_layer, world};
use crate::support::containerd::Containerd;
use crate::support::fake_docker::{FakeDocker, Reply};
use crate::support::program::World;
use crate::support::{is_root, skip, tools};

/// Answers as docker does, with the images of `containerd`. `pulls` says whether it reaches this machine's loopback.
fn docker(world: &World, containerd: &Arc<Containerd>, pulls: bool) -> FakeDocker {
    // It ends with the test, which the thread that answers does not.
    let containerd = Arc::downgrade(containerd);
    let refused = |text: &str| Reply::Says(500, format!("{{\"message\":\"{text}\"}}"));
    let answer = move |asked: &str, body: &[u8]| {
        let Some(containerd) = containerd.upgrade() else { return Reply::HangsUp };
        let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let ctr = |words: &[&str]| containerd.command("moby", words).output().unwrap();
        match path {
            "GET /info" => Reply::Says(
                200,
                "{\"DriverStatus\":[[\"driver-type\",\"io.containerd.snapshotter.v1\"]]}".to_owned(),
            ),
            "POST /images/create" if !pulls => refused("dial tcp: connection refused"),
            "POST /images/create" => {
                let name = format!("{}:{}", query["fromImage"], query["tag"]);
                let pulled = ctr(&["images", "pull", "--plain-http", &name]);
                assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
                Reply::Says(200, "{\"status\":\"Pulling\"}\n{\"status\":\"Downloaded\"}\n".to_owned())
            }
            "POST /images/load" => {
                if body.is_empty() {
                    return Reply::Says(200, String::new());
                }
                let mut child = containerd
                    .command("moby", &["images", "import", "--all-platforms", "-"])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap();
                child.stdin.take().unwrap().write_all(body).unwrap();
                assert!(child.wait().unwrap().success());
                Reply::Says(200, "{\"stream\":\"Loaded image\"}\n".to_owned())
            }
            _ if path.ends_with("/tag") => {
                let from = path.strip_prefix("POST /images/").unwrap().strip_suffix("/tag").unwrap();
                let tagged =
                    ctr(&["images", "tag", "--force", from, &format!("{}:{}", query["repo"], query["tag"])]);
                assert!(tagged.status.success(), "{}", String::from_utf8_lossy(&tagged.stderr));
                Reply::Says(201, String::new())
            }
            _ if path.starts_with("DELETE /images/") => {
                assert!(
                    ctr(&["images", "rm", path.strip_prefix("DELETE /images/").unwrap()]).status.success()
                );
                Reply::Says(200, "[]".to_owned())
            }
            _ => Reply::Says(404, "{\"message\":\"No such image\"}".to_owned()),
        }
    };
    FakeDocker::new(world.path().join(format!("docker-{pulls}.sock")), answer)
}

#[test]
fn what_it_lacks_is_pulled_from_a_registry_of_ours() {
    if !is_root() || !tools::has("containerd") {
        skip!("no containerd of root here");
    }
    let folder = tempfile::tempdir().unwrap();
    let (containerd, world) = (Arc::new(Containerd::start(folder.path())), world());
    let fake = docker(&world, &containerd, true);
    let build = |words: &[&str]| world.build(words).env("DOCKER_HOST", fake.host()).any_stdout().run();
    let names = || {
        let listed = containerd.ctr("moby", &["images", "ls", "--quiet"]);
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    build(&["--load=docker", "-t", "app:1", "-t", "app:2"]);
    assert_eq!(
        names(),
        ["docker.io/library/app:1", "docker.io/library/app:2"],
        "the name by which it came is gone"
    );
    containerd.check("moby", "docker.io/library/app:1");
    // By the digest of the manifest such a docker knows it, and so it is told.
    world.file("small", "second\n");
    let id = build(&["--load=docker", "-q", "-t", "app:1"]).stdout;
    let digest = world.rbuild(["inspect", "-f", "{{.Id}}", "app:1"]).any_stdout().run().stdout;
    assert_eq!(id, digest);
    let pulls: Vec<String> =
        fake.asked().into_iter().filter(|asked| asked.contains("/images/create")).collect();
    let secrets: Vec<&str> = pulls.iter().map(|asked| asked.split("rbuild-").nth(1).unwrap()).collect();
    assert!(
        secrets.len() == 2 && secrets[0] != secrets[1] && secrets.iter().all(|s| s.len() >= 32),
        "{pulls:?}"
    );
    // It is over: nothing listens there any more.
    let place = pulls[0].split("fromImage=").nth(1).unwrap().split('/').next().unwrap();
    assert!(std::net::TcpStream::connect(place).is_err());
    // What it has is not even read.
    world.file("small", "third\n");
    world.build(["-t", "new"]).run();
    lose_large_layer(&world);
    world.rbuild(["copy", "new", "docker-daemon:new"]).env("DOCKER_HOST", fake.host()).any_stdout().run();
    containerd.check("moby", "docker.io/library/new:latest");
    assert!(!fake.asked().iter().any(|asked| asked.contains("/images/load")));
}

#[test]
fn one_that_does_not_pull_from_here_gets_an_archive() {
    if !is_root() || !tools::has("containerd") {
        skip!("no containerd of root here");
    }
    let folder = tempfile::tempdir().unwrap();
    let (containerd, world) = (Arc::new(Containerd::start(folder.path())), world());
    let fake = docker(&world, &containerd, false);
    world.build(["--load=docker", "-t", "app:1"]).env("DOCKER_HOST", fake.host()).run();
    containerd.check("moby", "docker.io/library/app:1");
    // All platforms, of which a pull would bring one.
    let fake = docker(&world, &containerd, true);
    let platforms = "linux/amd64,linux/arm64";
    world
        .build(["--load=docker", "--platform", platforms, "-t", "many"])
        .env("DOCKER_HOST", fake.host())
        .run();
    let listed = containerd.ctr("moby", &["images", "ls"]);
    let line = listed.lines().find(|line| line.contains("library/many")).unwrap();
    assert!(line.contains("linux/amd64") && line.contains("linux/arm64"), "{line}");
}
