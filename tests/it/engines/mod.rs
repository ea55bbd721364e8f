//! Images go into the engines that run them, and come out of these: with real daemons.

mod containerd;
mod containerd_store;
mod docker;
mod faults;
mod podman;

use std::fs;

use crate::support::program::World;

/// What the larger layer has.
const LARGE: usize = 8 << 20;
/// What a load may send that has nothing of it to send.
const LITTLE: u64 = 256 << 10;

/// An image of a large layer, a program, and a small file on top.
fn world() -> World {
    let world = World::new();
    world.dockerfile(
        "FROM scratch\nCOPY large /\nCOPY busybox /\nCOPY small /\nCMD [\"/busybox\", \"cat\", \"/small\"]\n",
    );
    let mut noise = vec![0; LARGE];
    let mut state = 88_172_645_463_325_252_u64;
    for bytes in noise.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.copy_from_slice(&state.to_ne_bytes());
    }
    world.file("large", noise).file("small", "first\n").file("busybox", fs::read("/bin/busybox").unwrap());
    world.set_mode("busybox", 0o755);
    world
}

/// Takes away the blob of the large layer: who still reads it fails.
fn lose_large_layer(world: &World) {
    let blobs = fs::read_dir(world.store().join("blobs/sha256")).unwrap().map(|entry| entry.unwrap());
    let large: Vec<_> = blobs.filter(|blob| blob.metadata().unwrap().len() > (LARGE as u64) / 2).collect();
    assert_eq!(large.len(), 1);
    fs::remove_file(large[0].path()).unwrap();
}
