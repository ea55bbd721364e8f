//! `verify` finds what was damaged, and repairs what can be repaired.

use std::fs;
use std::path::PathBuf;

use super::world;
use crate::support::base::busybox_registry;
use crate::support::program::World;
use crate::support::skip;

fn only_file(folder: PathBuf) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.remove(0)
}

#[track_caller]
fn finds(world: &World, expected: &str) {
    let dry = world.rbuild(["verify", "--dry-run"]).status(1).any_stdout().run();
    assert!(dry.stdout.contains(expected), "{}", dry.stdout);
    let ran = world.rbuild(["verify"]).status(1).any_stdout().run();
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
}

#[test]
fn a_store_without_faults() {
    let world = world();
    world.build(["-t", "app"]).run();
    let ran = world.rbuild(["verify"]).any_stdout().run();
    assert!(
        ran.stdout.starts_with("verified 4 blobs (") && ran.stdout.contains("1 names, 2 cache records"),
        "{}",
        ran.stdout
    );
    let json = world.rbuild(["verify", "--format", "json"]).any_stdout().run().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["blobs"].as_u64(), json["faults"].as_array().map(Vec::len)), (Some(4), Some(0)));
}

#[test]
fn each_kind_of_damage() {
    let world = world();
    let digest = world.build(["-t", "app"]).run().digest();
    let own = world.store().join("rbuild");
    let layer = world.rbuild(["history", "-q", "--no-trunc", "app"]).any_stdout().run().stdout;
    let layer = layer.lines().next().unwrap().to_owned();
    let blob = world.store().join("blobs/sha256").join(&layer["sha256:".len()..]);

    fs::write(&blob, "garbage").unwrap();
    finds(&world, &format!("blob {layer}: its bytes are not those of its digest"));
    // The image lacks it, the record has gone with it.
    finds(
        &world,
        &format!("image app:latest: the store lacks {layer}; `rbuild pull app:latest` fetches it again"),
    );
    assert_eq!(world.build(["-t", "app"]).run().digest(), digest);
    world.rbuild(["verify"]).any_stdout().run();

    let record = only_file(only_file(own.join("records")));
    fs::write(&record, "{").unwrap();
    if record.extension().is_none() {
        finds(&world, "cache record");
    }
    fs::write(world.store().join("index.json"), "{}").unwrap();
    finds(&world, "index.json: it does not list the names that there are");
    fs::write(only_file(own.join("indexes")), "nonsense").unwrap();
    finds(&world, "index of layer");
    fs::write(world.store().join("blobs/sha256/stray"), "x").unwrap();
    finds(&world, "file blobs/sha256/stray: it is no blob");
    fs::write(only_file(own.join("tags")), "{").unwrap();
    finds(&world, "name in `");
    world.rbuild(["verify"]).any_stdout().run();
    assert_eq!(world.build(["-t", "app"]).run().digest(), digest);
}

#[test]
fn a_tree_that_lacks_a_file_is_unpacked_again() {
    if !crate::support::is_root() {
        skip!("files of a rootless tree belong to others");
    }
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\nRUN echo made > /made\n", registry.host()));
    world.build(["-t", "app"]).run();
    world.rbuild(["verify"]).any_stdout().run();
    let trees = only_file(world.store().join("rbuild/trees"));
    let base =
        fs::read_dir(trees).unwrap().map(|e| e.unwrap().path().join("fs")).find(|fs| fs.join("bin").exists());
    fs::remove_dir_all(base.unwrap().join("bin")).unwrap();
    finds(&world, "unpacked layer");
    world.rbuild(["verify"]).any_stdout().run();
    world.build(["--no-cache", "-t", "app"]).run();
}
