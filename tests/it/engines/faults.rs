//! Engines that are not there, do not want, or end in the middle.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::world;
use crate::support::fake_docker::{FakeDocker, Reply};
use crate::support::program::World;

/// A daemon with nothing in it, but for what `load` says.
fn daemon(world: &World, load: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) -> FakeDocker {
    FakeDocker::new(world.path().join("docker.sock"), move |asked, body| match asked {
        "GET /info" => Reply::Says(200, "{\"DriverStatus\":null}".to_owned()),
        "GET /images/json" => Reply::Says(200, "[]".to_owned()),
        _ if asked.starts_with("POST /images/load") => load(body),
        _ => Reply::Says(404, "{\"message\":\"No such image\"}".to_owned()),
    })
}

#[track_caller]
fn told(world: &World, host: &str, words: &[&str]) -> String {
    world.build(words).env("DOCKER_HOST", host).status(1).run().stderr
}

#[test]
fn a_daemon_that_is_not_there() {
    let world = world();
    let text = told(&world, "unix:///nowhere/docker.sock", &["--load=docker", "-t", "app"]);
    assert!(
        text.contains("there is no docker at `unix:///nowhere/docker.sock`: No such file or directory"),
        "{text}"
    );
    assert!(text.contains("$DOCKER_HOST") && !text.contains("COPY"), "before anything is built: {text}");
    let text = told(&world, "tcp://127.0.0.1:1", &["-o", "type=docker"]);
    assert!(text.contains("there is no docker at `tcp://127.0.0.1:1`: Connection refused"), "{text}");
    let text = told(&world, "npipe:////./pipe/docker", &["--load=docker"]);
    assert!(text.contains("$DOCKER_HOST names no daemon, `npipe:////./pipe/docker`"), "{text}");
    let text = told(&world, "unix:///nowhere", &["-o", "type=docker,context=far"]);
    assert!(text.contains("docker's context names no daemon, `far`: there is no such context"), "{text}");
    // Nothing at all: each place is named.
    let ran = world
        .build(["--load"])
        .env("DOCKER_HOST", "unix:///nowhere")
        .env("CONTAINERD_ADDRESS", "/nowhere/containerd.sock")
        .env("PATH", "/nowhere")
        .status(1)
        .run();
    for part in [
        "nothing to load the image into",
        "docker at `unix:///nowhere`",
        "cannot start `podman`",
        "containerd at `/nowhere/containerd.sock`",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    for (value, part) in [
        ("dokcer", "did you mean `docker`?"),
        ("containerd:-", "is no namespace"),
        ("docker,", "it is docker, podman"),
    ] {
        let ran = world.build([format!("--load={value}")]).status(2).run();
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[test]
fn a_socket_for_others() {
    let world = world();
    let docker = daemon(&world, |_| Reply::HangsUp);
    fs::set_permissions(docker.socket(), fs::Permissions::from_mode(0o000)).unwrap();
    if crate::support::is_root() {
        return;
    }
    let text = told(&world, &docker.host(), &["--load=docker"]);
    assert!(text.contains("members of the group `docker`"), "{text}");
}

/// What a daemon answers to an archive, and a part of what is told.
type Case = (fn() -> Reply, &'static str);

#[test]
fn a_daemon_that_does_not_want() {
    let full: &str = "write /layer.tar: no space left on device";
    let cases: [Case; 4] = [
        // In the middle of the archive, and after it.
        (
            || Reply::Interrupts(500, "{\"message\":\"no images today\"}".to_owned()),
            "did not load the image: no images today",
        ),
        (
            || {
                Reply::Says(200, "{\"errorDetail\":{\"message\":\"write /layer.tar: no space left on device\"},\"error\":\"write /layer.tar: no space left on device\"}\n".to_owned())
            },
            full,
        ),
        (|| Reply::HangsUp, "broke off"),
        (|| Reply::Says(503, "<html>".to_owned()), "did not load the image: <html>"),
    ];
    for (reply, part) in cases {
        let world = world();
        let docker = daemon(&world, move |_| reply());
        let text = told(&world, &docker.host(), &["--load=docker", "-t", "app"]);
        assert!(text.contains(part), "{part}: {text}");
        assert!(text.contains("the image itself was built, and is kept in the local store"), "{text}");
        // Nothing is named there, and it is built here.
        assert!(!docker.asked().iter().any(|asked| asked.contains("/tag?")), "{:?}", docker.asked());
        world.rbuild(["inspect", "app"]).any_stdout().run();
        if part == full {
            assert!(text.contains("its disk is full"), "{text}");
        }
    }
}

#[test]
fn what_answers_is_no_docker() {
    for (body, part) in [
        ("3", "its answer is not understood"),
        ("{\"DriverStatus\":[[\"driver-type\"]]}", "did not list its images"),
    ] {
        let world = world();
        let docker = FakeDocker::new(world.path().join("docker.sock"), move |asked, _| match asked {
            "GET /info" => Reply::Says(200, body.to_owned()),
            _ if asked.starts_with("GET /images/sha256") => Reply::Says(404, String::new()),
            _ => Reply::Says(500, "x".to_owned()),
        });
        let text = told(&world, &docker.host(), &["--load=docker"]);
        assert!(text.contains(part), "{text}");
    }
}

/// It said what it has, and has it no more when the archive comes: then it gets everything.
#[test]
fn layers_that_went_meanwhile() {
    let world = world();
    world.build(["-t", "app"]).run();
    let layers = world.rbuild(["inspect", "-f", "{{json .RootFS.Layers}}", "app"]).any_stdout().run().stdout;
    let known = format!(
        "{{\"Id\":\"sha256:{}\",\"RepoTags\":null,\"RootFS\":{{\"Layers\":{layers}}}}}",
        "0".repeat(64)
    );
    let listed = format!("[{{\"Id\":\"sha256:{}\"}}]", "0".repeat(64));
    let docker = FakeDocker::new(world.path().join("docker.sock"), move |asked, body| match asked {
        "GET /info" => Reply::Says(200, "{}".to_owned()),
        "GET /images/json" => Reply::Says(200, listed.clone()),
        _ if asked.contains(&"0".repeat(64)) => Reply::Says(200, known.clone()),
        _ if asked.starts_with("POST /images/load") && body.len() < super::LARGE => {
            Reply::Says(500, "{\"message\":\"open /blobs/sha256/x: no such file or directory\"}".to_owned())
        }
        _ if asked.starts_with("POST /images/load") => {
            Reply::Says(200, "{\"stream\":\"Loaded image\"}\n".to_owned())
        }
        _ => Reply::Says(404, "{\"message\":\"No such image\"}".to_owned()),
    });
    world.build(["--load=docker"]).env("DOCKER_HOST", docker.host()).run();
    let loads = docker.asked().iter().filter(|asked| asked.starts_with("POST /images/load")).count();
    assert_eq!(loads, 2, "{:?}", docker.asked());
}
