//! Pushing what was built, and building on what was pushed.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::base::busybox_registry;
use crate::support::http::{Reply, Server};
use crate::support::layout::Layout;
use crate::support::registry::Registry;

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(dockerfile: &str) -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(bench.dir.path().join("Dockerfile"), dockerfile).unwrap();
        bench
    }

    /// Exit code and standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command.current_dir(self.dir.path()).arg("--root").arg(self.dir.path().join("store"));
        let output = command.args(arguments).output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn build(&self, arguments: &[&str]) -> String {
        let (code, stderr) = self.run(arguments);
        assert_eq!(code, 0, "{stderr}");
        stderr
    }
}

const DOCKERFILE: &str = "FROM scratch\nCOPY <<x /\ncontent\nx\n";

/// Builds on the image in an empty store; its file is in it.
fn can_be_pulled(name: &str) {
    let other = Bench::new(&format!("FROM {name}\n"));
    other.build(&["-o", "files", "."]);
    assert_eq!(fs::read_to_string(other.dir.path().join("files/x")).unwrap(), "content\n");
}

#[test]
fn every_way_to_push() {
    let registry = Registry::start();
    let bench = Bench::new(DOCKERFILE);
    let name = |tag: &str| format!("{}/a/b:{tag}", registry.host());
    let stderr = bench.build(&["--push", "-t", &name("1"), "-t", &name("2"), "."]);
    assert!(stderr.contains(&format!("push {}, {}", name("1"), name("2"))), "{stderr}");
    bench.build(&["-o", "type=registry", "-t", &name("3"), "."]);
    bench.build(&["-o", &format!("type=image,push=true,name={}", name("4")), "."]);
    for tag in ["1", "2", "3", "4"] {
        can_be_pulled(&name(tag));
    }
    bench.build(&["-o", &format!("type=image,name={}", name("5")), "."]);
    let (code, stderr) = Bench::new(&format!("FROM {}\n", name("5"))).run(&["."]);
    assert!(code == 1 && stderr.contains("not found"), "{stderr}");
}

#[test]
fn several_platforms() {
    let registry = Registry::start();
    let bench = Bench::new(DOCKERFILE);
    let name = format!("{}/multi:1", registry.host());
    bench.build(&["--push", "--platform", "linux/amd64,linux/arm64", "-t", &name, "."]);
    can_be_pulled(&name);
}

#[test]
fn what_has_no_name_is_not_pushed() {
    let bench = Bench::new(DOCKERFILE);
    for arguments in [&["--push", "."] as &[&str], &["-o", "type=registry", "."]] {
        let (code, stderr) = bench.run(arguments);
        assert!(code == 2 && stderr.contains("an image without a name cannot be pushed"), "{stderr}");
    }
}

#[test]
fn a_registry_that_refuses_costs_no_build() {
    let registry = Registry::start_with_login();
    let bench = Bench::new(DOCKERFILE);
    let name = format!("{}/a:1", registry.host());
    let (code, stderr) = bench.run(&["--push", "-t", &name, "."]);
    assert!(code == 1 && stderr.contains("does not allow pushing"), "{stderr}");
    assert!(stderr.contains("kept in the local store"), "{stderr}");
    let unreachable = "localhost:1/a:1";
    let (code, stderr) = bench.run(&["--push", "-t", unreachable, "."]);
    assert!(code == 75 && stderr.contains("cannot reach `localhost` on port 1"), "{stderr}");
    assert!(stderr.contains("CACHED"), "{stderr}");
}

#[test]
fn a_finished_layer_is_uploaded_while_later_steps_run() {
    let registry = Registry::start();
    let seen = Arc::new(AtomicBool::new(false));
    let uploaded = Arc::clone(&seen);
    let between = Server::between(registry.host(), move |request, reply| {
        if request.method == "PUT" && request.path.contains("/blobs/uploads/") {
            uploaded.store(true, Ordering::SeqCst);
        }
        reply
    });
    // Its file is there only when the layer of the step before has arrived.
    let late = Server::start(move |_| {
        let patience = Instant::now() + Duration::from_secs(20);
        while !seen.load(Ordering::SeqCst) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = if seen.load(Ordering::SeqCst) { 200 } else { 404 };
        Reply::new(status, "late")
    });
    let bench = Bench::new(&format!("{DOCKERFILE}ADD http://{}/late /late\n", late.host()));
    let name = format!("{}/app:1", between.host());
    bench.build(&["--push", "-t", &name, "."]);
    can_be_pulled(&name);
    let puts = between.requests().iter().filter(|r| r.starts_with("PUT") && r.contains("/blobs/")).count();
    assert_eq!(puts, 3, "two layers and the configuration, each once");
}

/// The names in the store's `index.json`.
fn listed(bench: &Bench) -> Vec<String> {
    Layout::at(&bench.dir.path().join("store")).names()
}

#[test]
fn a_base_that_nobody_reads_is_mounted_and_not_fetched() {
    let registry = busybox_registry();
    let between = Server::between(registry.host(), |_, reply| reply);
    let bench =
        Bench::new(&format!("FROM {}/busybox\nCOPY --link <<x /\ncontent\nx\nENV A=1\n", between.host()));
    let name = format!("{}/app:1", between.host());
    let stderr = bench.build(&["--push", "-t", &name, "."]);
    assert!(!stderr.contains("FAILED"), "{stderr}");
    let gets = |server: &Server| {
        let is_layer = |request: &&String| request.starts_with("GET") && request.contains("/blobs/");
        server.requests().iter().filter(is_layer).count()
    };
    // The base's configuration is all that came.
    assert_eq!(gets(&between), 1, "{:#?}", between.requests());
    can_be_pulled(&format!("{}/app:1", registry.host()));
    assert!(listed(&bench).is_empty(), "an image that is not all here is not for others");
    assert!(bench.run(&["images"]).0 == 0);

    // What is built on it, by its name in the store, fetches what is missing.
    fs::write(bench.dir.path().join("Dockerfile"), format!("FROM {name}\nRUN test -e /x\n")).unwrap();
    bench.build(&["-t", "here", "--pull=missing", "."]);
    assert_eq!(listed(&bench), ["docker.io/library/here:latest".to_owned(), name]);
}

#[test]
fn an_image_that_could_not_be_pushed_is_all_here() {
    let registry = busybox_registry();
    let between = Server::between(registry.host(), |request, reply| match request.path.contains("/app/") {
        true => Reply::new(403, "{}"),
        false => reply,
    });
    let bench = Bench::new(&format!("FROM {}/busybox\nENV A=1\n", between.host()));
    let name = format!("{}/app:1", between.host());
    let (code, stderr) = bench.run(&["--push", "-t", &name, "."]);
    assert!(code == 1 && stderr.contains("is kept in the local store"), "{stderr}");
    assert_eq!(listed(&bench), [name]);
    bench.build(&["--offline", "-o", "files", "."]);
}
