//! The commands about what the store holds.

mod archives;
mod images;
mod login;
mod moving;
mod policy;
mod quota;
mod removal;
mod verify;

use crate::support::program::World;

/// A world with a Dockerfile of two layers from two files.
fn world() -> World {
    let world = World::new();
    world
        .file("a", "one")
        .file("b", "two")
        .dockerfile("FROM scratch\nCOPY a /\nCOPY b /\nLABEL x.y=z\nCMD [\"/a\"]\n");
    world
}

/// How many blobs the store has.
fn blobs(world: &World) -> usize {
    std::fs::read_dir(world.store().join("blobs/sha256")).unwrap().count()
}
