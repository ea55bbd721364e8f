//! Contexts on file systems that are made again, or changed while they are not mounted, with the same times.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::attack::{Tally, rounds};
use crate::support::mounts::Mount;
use crate::support::program::World;
use crate::support::{is_root, skip, tools};

/// An image large enough for each of them.
const IMAGE_BYTES: u64 = 4 << 20;
const UUID: &str = "00000000-0000-0000-0000-000000000001";

/// How an image is made from a folder.
type Make = fn(folder: &str, image: &str);

fn squashfs(folder: &str, image: &str) {
    let times = ["-all-time", "1000", "-mkfs-time", "1000"];
    tools::run("mksquashfs", [folder, image, "-noappend", "-quiet", "-no-progress"].iter().chain(&times));
}

fn erofs(folder: &str, image: &str) {
    tools::run("mkfs.erofs", ["-T1000", "-U", UUID, image, folder]);
}

fn ext4(folder: &str, image: &str) {
    File::create_new(image).unwrap().set_len(IMAGE_BYTES).unwrap();
    let seed = format!("hash_seed={UUID}");
    tools::run("mkfs.ext4", ["-q", "-F", "-O", "^has_journal", "-U", UUID, "-E", &seed, "-d", folder, image]);
    for field in ["ctime", "mtime", "atime", "crtime", "ctime_extra", "mtime_extra", "atime_extra"] {
        let value = if field.ends_with("extra") { "0" } else { "@1000" };
        tools::run("debugfs", ["-w", "-R", &format!("set_inode_field /file {field} {value}"), image]);
    }
}

/// One loop device, so that what it holds has one device number.
struct Loop(String);

impl Loop {
    fn of(image: &Path) -> Self {
        Self(tools::run("losetup", ["--find", "--show", image.to_str().unwrap()]).trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// Makes an image again and again with another text of the same length, mounts it at the same place, and builds.
fn build_from(kind: &str, make: Make) {
    if !is_root() {
        skip!("only root can mount an image");
    }
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY --from=image file /\n");
    let [folder, image, fresh, at] =
        ["folder", "image", "fresh", "mounted"].map(|name| world.path().join(name));
    fs::create_dir(&folder).unwrap();
    File::create_new(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
    let device = Loop::of(&image);
    let mut tally = Tally::of(&format!("{kind} made again with the same times"));
    let mut identities = Vec::new();
    for round in 0..rounds(3, 30) {
        let text = format!("text {round:02}\n");
        fs::write(folder.join("file"), &text).unwrap();
        make(folder.to_str().unwrap(), fresh.to_str().unwrap());
        // Into the file that the device is made of.
        let bytes = fs::read(&fresh).unwrap();
        fs::remove_file(&fresh).unwrap();
        File::options().write(true).open(&image).unwrap().write_all_at(&bytes, 0).unwrap();
        let mount = mounted(&device, &at, &text);
        identities.push(identity(&at.join("file")));
        // Twice: what the first build remembers serves the second one.
        for _ in 0..2 {
            let found = built(&world, &at);
            tally.count(if found == text { "right" } else { "stale" });
            assert_eq!(found, text, "round {round}");
        }
        drop(mount);
    }
    assert!(identities.windows(2).all(|two| two[0] == two[1]), "this attack forges nothing: {identities:?}");
}

/// Mounts the device so that the machine itself reads `text` there. Another process that made a mount namespace meanwhile may
/// have the last mount still, and with it what the kernel has cached of the image.
fn mounted(device: &Loop, at: &Path, text: &str) -> Mount {
    for _ in 0..1000 {
        tools::run("blockdev", ["--flushbufs", &device.0]);
        let mount = Mount::new(&["-o", "ro", &device.0], at);
        if fs::read_to_string(at.join("file")).is_ok_and(|found| found == text) {
            return mount;
        }
    }
    panic!("somebody keeps what was mounted at {}", at.display());
}

/// The file that a build from the context at `image` copies.
fn built(world: &World, image: &Path) -> String {
    let out = world.path().join("out");
    let named = format!("image={}", image.display());
    world.build(["--build-context", &named, "-o", out.to_str().unwrap()]).run();
    let text = fs::read_to_string(out.join("file")).unwrap();
    fs::remove_dir_all(out).unwrap();
    text
}

/// Everything by which a file could be told from the one that was in its place before.
fn identity(file: &Path) -> String {
    tools::run("stat", ["--format=%d %i %s %.9Y %.9Z", file.to_str().unwrap()])
}

#[test]
fn a_squashfs_made_again_is_read_again() {
    build_from("squashfs", squashfs);
}

#[test]
fn an_erofs_made_again_is_read_again() {
    build_from("EROFS", erofs);
}

#[test]
fn an_ext4_changed_while_it_was_not_mounted_is_read_again() {
    build_from("ext4", ext4);
}
