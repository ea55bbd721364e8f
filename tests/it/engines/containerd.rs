//! containerd, by its own `ctr`.

use super::{LARGE, LITTLE, world};
use crate::support::containerd::Containerd;
use crate::support::tap::Tap;
use crate::support::{is_root, skip, tools};

#[test]
fn containerd_gets_what_it_lacks() {
    if !is_root() || !tools::has("containerd") || !tools::has("ctr") {
        skip!("no containerd of root here");
    }
    let folder = tempfile::tempdir().unwrap();
    let (containerd, world) = (Containerd::start(folder.path()), world());
    let tap = Tap::new(folder.path().join("tap.sock"), containerd.socket());
    let build = |words: &[&str]| {
        world.build(words).env("CONTAINERD_ADDRESS", tap.socket()).remarks().any_stdout().run();
        tap.sent()
    };
    let load = "--load=containerd:k8s.io";
    assert!(build(&[load, "-t", "app:1", "-t", "registry.example/app:2"]) > LARGE as u64);
    containerd.check("k8s.io", "docker.io/library/app:1");
    containerd.check("k8s.io", "registry.example/app:2");
    assert!(build(&[load, "-t", "app:1"]) < LITTLE);
    world.file("small", "second\n");
    assert!(build(&[load, "-t", "app:1"]) < LITTLE);
    containerd.check("k8s.io", "docker.io/library/app:1");
    // Another namespace has nothing of it.
    assert!(build(&["--load=containerd", "-t", "app:1"]) > LARGE as u64);
    containerd.check("default", "docker.io/library/app:1");
    // All platforms, of which each is unpacked.
    build(&[load, "--platform", "linux/amd64,linux/arm64", "-t", "many"]);
    let listed = containerd.ctr("k8s.io", &["images", "ls"]);
    let line = listed.lines().find(|line| line.contains("library/many")).unwrap();
    assert!(line.contains("linux/amd64") && line.contains("linux/arm64"), "{line}");
    let ran = world.build([load]).env("CONTAINERD_ADDRESS", tap.socket()).status(1).run();
    assert!(ran.stderr.contains("containerd keeps images by their names"), "{}", ran.stderr);
}
