//! podman, with a storage of its own.

use std::fs;
use std::process::Command;

use super::{lose_large_layer, world};
use crate::support::program::{Rbuild, World};
use crate::support::{is_root, skip, tools};

struct Podman {
    folder: tempfile::TempDir,
}

impl Podman {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let text = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            at("graph"),
            at("run")
        );
        fs::write(folder.path().join("storage.conf"), text).unwrap();
        Self { folder }
    }

    #[track_caller]
    fn podman(&self, words: &[&str]) -> String {
        let mut command = Command::new("podman");
        command.args(words).env("CONTAINERS_STORAGE_CONF", self.folder.path().join("storage.conf"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "podman {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn with<'w>(&self, rbuild: Rbuild<'w>) -> Rbuild<'w> {
        rbuild.env("CONTAINERS_STORAGE_CONF", self.folder.path().join("storage.conf")).remarks().any_stdout()
    }

    fn build(&self, world: &World, words: &[&str]) -> String {
        self.with(world.build(words)).run().stdout
    }

    /// What the file is in the image.
    #[track_caller]
    fn small(&self, image: &str) -> String {
        let place = self.podman(&["image", "mount", image]);
        let text = fs::read_to_string(format!("{}/small", place.trim())).unwrap();
        self.podman(&["image", "unmount", image]);
        text
    }
}

#[test]
fn podman_gets_what_it_lacks() {
    if !is_root() || !tools::has("podman") {
        skip!("no podman of root here");
    }
    let (podman, world) = (Podman::new(), world());
    podman.build(&world, &["--load=podman", "-t", "app:1", "-t", "registry.example/app:2"]);
    // As podman's own builds name it.
    let listed = podman.podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(listed.contains("localhost/app:1\n") && listed.contains("registry.example/app:2\n"), "{listed}");
    assert_eq!(podman.small("app:1"), "first\n");
    let id = podman.build(&world, &["--load=podman", "-q", "-t", "app:1"]);
    let of =
        |name: &str| format!("sha256:{}", podman.podman(&["image", "inspect", "--format", "{{.Id}}", name]));
    assert_eq!(id, of("app:1"));
    podman.build(&world, &["--load=podman", "-t", "app:3"]);
    assert_eq!(of("app:3"), of("app:1"));
    world.file("small", "second\n");
    // Without a name, and beside it with one.
    let id = podman.build(&world, &["--load=podman", "-q"]);
    assert_eq!(podman.small(id.trim()), "second\n");
    assert!(podman.podman(&["images", "--format", "{{.Repository}}"]).contains("<none>"));
    world.file("small", "third\n");
    world.build(["-t", "new"]).run();
    // What podman has is not even read.
    lose_large_layer(&world);
    podman.with(world.rbuild(["copy", "new", "containers-storage:new"])).run();
    assert_eq!(podman.small("new"), "third\n");
    podman.with(world.rbuild(["copy", "containers-storage:new", "store:back"])).run();
    let config = world.rbuild(["inspect", "-f", "{{.Manifest.config.digest}}", "back"]).any_stdout().run();
    assert_eq!(config.stdout, of("new"));
    let other = World::new();
    other.dockerfile("FROM containers-storage:new\nCOPY --from=base /small /again\n");
    let output =
        ["--build-context", "base=containers-storage:localhost/new:latest", "-o", "type=local,dest=../files"];
    podman.with(other.build(output)).run();
    assert_eq!(fs::read_to_string(other.path().join("files/again")).unwrap(), "third\n");
    let ran = podman.with(world.rbuild(["copy", "containers-storage:missing", "store:x"])).status(1).run();
    assert!(ran.stderr.contains("podman has no image `missing`"), "{}", ran.stderr);
}
