//! `kill -9` at any moment leaves no process, no mount, and a store that the next build can use.
//!
//! `tests/kill.sh` does the same many more times with the headline build.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::accounts::Account;
use crate::support::attack::{Tally, rounds};
use crate::support::base::busybox_registry;
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::skip;

/// $RBUILD_TEST_KILLS says how many, 10 if it does not, and 60 in the long form.
fn kills() -> u32 {
    let told = std::env::var("RBUILD_TEST_KILLS").ok();
    told.map_or_else(|| rounds(10, 60), |number| number.parse().expect("RBUILD_TEST_KILLS is a number"))
}

#[test]
fn root_at_random_moments() {
    if !crate::support::is_root() {
        skip!("only root can build as root");
    }
    kill_at_random(&World::new(), 1);
}

#[test]
fn an_ordinary_user_at_random_moments() {
    match Account::with_ranges() {
        Ok(account) => kill_at_random(&World::of(account), 2),
        Err(why) => skip!("{why}"),
    }
}

#[test]
fn a_user_with_one_id_at_random_moments() {
    kill_at_random(&World::of(Account::without_ranges()), 3);
}

/// Kills builds at moments that are spread over the length of one, and looks at what is left each time.
fn kill_at_random(world: &World, seed: u64) {
    let registry = busybox_registry();
    let mark = format!("rbuild-kill-{}-{seed}", std::process::id());
    prepare(world, &registry, &mark);
    let started = Instant::now();
    world.build(["-t", "whole"]).run();
    let whole = started.elapsed();
    let mut tally = Tally::of(
        ["", "kills as root", "kills as a user with ranges", "kills as a user with one id"][seed as usize],
    );
    let mut random = seed;
    for kill in 0..kills() {
        // Every other time the base is unpacked and everything stored anew.
        if kill % 2 == 0 {
            empty(world);
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = whole.mul_f64((random >> 33) as f64 / f64::from(1_u32 << 31));
        // Only root has images; for others the word changes nothing.
        let form = if kill % 4 < 2 { "tree" } else { "erofs" };
        let build = world.build(["--no-cache", "-t", "killed"]).env("RBUILD_LAYERS", form);
        let mut child = build.env("RBUILD_TEST_MARK", &mark).spawn();
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let told = format!("kill {kill} after {moment:?} of {whole:?}");
        nothing_runs(&mark, &told);
        nothing_is_mounted(world.path(), &told);
        let ran = world.build(["-t", "next"]).env("RBUILD_LAYERS", form).run();
        let image = world.images().image(&ran.digest());
        assert_eq!(image.files()["result"].content, b"three\n", "{told}");
        nothing_is_left(&world.store(), &told);
        tally.count("nothing left, and the next build right");
    }
}

fn prepare(world: &World, registry: &Registry, mark: &str) {
    world.file("data/file", "data\n".repeat(100_000)).dockerfile(&format!(
        "FROM {}/busybox\n\
         RUN : {mark}; dd if=/dev/zero of=/zeros bs=64k count=100 2>/dev/null; usleep 50000\n\
         COPY data /data/\n\
         RUN : {mark}; usleep 50000 & rm -r /data; wait; echo two >/result\n\
         RUN : {mark}; (sleep 100 &); usleep 20000; echo three >/result\n",
        registry.host()
    ));
}

/// Deletes the store, which only its owner's user namespace can do, or root.
fn empty(world: &World) {
    if crate::support::is_root() {
        fs::remove_dir_all(world.store()).unwrap();
        return;
    }
    let own = ["--user", "--map-root-user", "--map-auto", "rm", "-rf"];
    let status = std::process::Command::new("unshare").args(own).arg(world.store()).status().unwrap();
    assert!(status.success());
}

/// The kernel ends processes in its own time, but soon.
#[track_caller]
pub(crate) fn nothing_runs(mark: &str, told: &str) {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes_with(mark);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < patience, "{told}: still running: {left:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processes with the mark in their environment or on their command line, as `pid command`.
pub(crate) fn processes_with(mark: &str) -> Vec<String> {
    let me = std::process::id().to_string();
    let contains = |bytes: &[u8]| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == me || !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        // A process that is gone by now has nothing to read; one that is ending has no environment any more.
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        if contains(&read("environ")) || contains(&read("cmdline")) {
            found.push(format!("{pid} {}", String::from_utf8_lossy(&read("cmdline")).replace('\0', " ")));
        }
    }
    found
}

/// Neither in this mount namespace nor in any that a process still has. A process that was making a step ready has no
/// mark yet; it, too, ends in the kernel's own time.
#[track_caller]
pub(crate) fn nothing_is_mounted(world: &Path, told: &str) {
    let patience = Instant::now() + Duration::from_secs(10);
    while let Some(left) = mounted_below(world.to_str().unwrap()) {
        assert!(Instant::now() < patience, "{told}: still mounted for {left}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process that sees mounts of the folder, and which.
fn mounted_below(folder: &str) -> Option<String> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(folder)).collect();
        (!left.is_empty()).then(|| format!("{}: {left:#?}", entry.path().display()))
    })
}

/// The next build has cleared away what the killed one was writing.
#[track_caller]
fn nothing_is_left(store: &Path, told: &str) {
    for folder in ["tmp", "trash"] {
        let left: Vec<_> = fs::read_dir(store.join("rbuild").join(folder))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{told}: rbuild/{folder} holds {left:?}");
    }
}
