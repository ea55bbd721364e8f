//! `quota` of the configuration.

use std::fs;

use super::world;
use crate::support::program::World;

fn limit(world: &World, quota: &str) {
    let folder = world.path().join("home/.config/rbuild");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), format!("[store]\nquota = '{quota}'\n")).unwrap();
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..800_000).map(|_| next()).collect()
}

#[test]
fn nothing_is_written_beyond_it() {
    let world = world();
    limit(&world, "2m");
    world.file("first", noise(1)).file("second", noise(2)).file("third", noise(3));
    world.dockerfile("FROM scratch\nCOPY first /\n");
    world.build(["-t", "first"]).run();
    world.dockerfile("FROM scratch\nCOPY first /\nCOPY second third /\n");
    let ran = world.build(["-t", "all"]).status(1).run();
    assert!(
        ran.stderr.contains("may take up 2.0 MB") && ran.stderr.contains("rbuild prune --all"),
        "{}",
        ran.stderr
    );
    world.rbuild(["verify"]).any_stdout().run();
    world.rbuild(["rmi", "first"]).any_stdout().run();
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let world = world();
    limit(&world, "2m");
    for (at, name) in ["one", "two", "three", "four"].into_iter().enumerate() {
        world.file(name, noise(at as u64)).dockerfile(&format!("FROM scratch\nCOPY {name} /\n"));
        world.build(["-o", "type=cacheonly"]).run();
        // Times are told apart by seconds.
        if name != "four" {
            super::removal::age(&world.store().join("rbuild/records"), 1);
        }
    }
    let last = world.build(["-o", "type=cacheonly"]).run();
    assert_eq!(last.outcome("COPY four"), "CACHED");
    world.dockerfile("FROM scratch\nCOPY one /\n");
    assert_ne!(world.build(["-o", "type=cacheonly"]).run().outcome("COPY one"), "CACHED");
}
