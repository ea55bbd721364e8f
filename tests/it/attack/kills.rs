//! `kill -9` of commands that move, store and remove images: the store stays whole, and the command works the next time.
//!
//! Kills of builds are in `kill.rs` and `tests/kill.sh`, those of a step's own processes in `exec/death.rs`.

use std::fs;
use std::time::{Duration, Instant};

use super::{attempt, is_success};
use crate::support::attack::{Chance, Tally, rounds};
use crate::support::program::World;
use crate::support::registry::Registry;

#[test]
fn commands_killed_at_random_moments() {
    let mut chance = Chance::of("kills of commands");
    let mut tally = Tally::of("kills of commands");
    let registry = Registry::start();
    let world = World::new();
    let noise: Vec<u8> = (0..60_000).flat_map(|_| chance.next().to_le_bytes()).collect();
    world
        .file("noise", noise)
        .file("small", "small\n")
        .dockerfile("FROM scratch\nCOPY noise /\nCOPY small /\n");
    let name = format!("{}/app:1", registry.host());
    world.build(["-t", "kept", "-t", &name]).run();
    world.rbuild(["push", "-q", &name]).any_stdout().run();
    let archive = world.path().join("app.tar").to_str().unwrap().to_owned();
    let (saved, out) = (format!("{archive}.saved"), format!("type=tar,dest={archive}.out"));
    world.rbuild(["save", "-o", &archive, &name]).run();
    let pushed = format!("{}/pushed:1", registry.host());
    let commands: [&[&str]; 8] = [
        &["pull", "-q", &name],
        &["push", "-q", &pushed],
        &["load", "-q", "-i", &archive],
        &["save", "-o", &saved, "kept"],
        &["--progress=quiet", "-o", &out, "."],
        &["prune", "--all"],
        &["rmi", &name],
        &["tag", "kept", "another:1"],
    ];
    for round in 0..rounds(3, 60) {
        for words in commands {
            // What is to be pulled, loaded or removed is not there, or is there, as the command wants it.
            attempt(&world, &["tag", "kept", &pushed]).run();
            match words[0] {
                "rmi" => drop(attempt(&world, &["tag", "kept", &name]).run()),
                "pull" | "load" => {
                    attempt(&world, &["rmi", &name]).run();
                    // With no other name the blobs go, too.
                    attempt(&world, &["rmi", "kept", &pushed]).run();
                    attempt(&world, &["prune", "--all"]).run();
                }
                _ => {}
            }
            let longest = Duration::from_millis(60).mul_f64(chance.fraction());
            let told = format!("round {round}: {words:?} killed after {longest:?}");
            let mut child = world.rbuild(words).spawn();
            std::thread::sleep(longest);
            let _ = child.kill();
            let status = child.wait().unwrap();
            tally.count(if status.code() == Some(0) { "done before" } else { "killed" });
            // Nothing half-written bears a name.
            for (file, whole) in [(&saved, "save"), (&format!("{archive}.out"), "tar")] {
                if let Ok(bytes) = fs::read(file) {
                    assert!(
                        tar::Archive::new(bytes.as_slice()).entries().unwrap().all(|e| e.is_ok()),
                        "{told}: {whole}"
                    );
                    fs::remove_file(file).unwrap();
                }
            }
            let report = attempt(&world, &["verify"]).run();
            let harmless = |line: &&str| line.starts_with("index.json:") || line.starts_with("verified ");
            let others: Vec<&str> = report.stdout.lines().filter(|line| !harmless(line)).collect();
            assert!(others.is_empty(), "{told}: {others:?}");
            let again = attempt(&world, words).run();
            let is_gone = words[0] == "rmi" && again.stderr.contains("no image");
            assert!(is_success(&again, &told) || is_gone, "{told}: {}", again.stderr);
            let ran = world.build(["-t", "kept"]).run();
            world.images().image(&ran.digest());
            let own = world.store().join("rbuild");
            for folder in ["tmp", "trash"] {
                let left = fs::read_dir(own.join(folder)).map_or(0, Iterator::count);
                assert_eq!(left, 0, "{told}: rbuild/{folder}");
            }
        }
    }
}

/// The processes of a build, one at a time: the zygote, the init of a step, its command. The build ends with an error.
#[test]
fn any_process_of_a_build_killed() {
    let registry = crate::support::base::busybox_registry();
    let (mut chance, mut tally) = (Chance::of("kills of processes"), Tally::of("kills of processes"));
    for world in crate::process_limits::worlds() {
        let mark = format!("rbuild-victim-{}-{}", std::process::id(), world.account().uid);
        world.dockerfile(&format!(
            "FROM {}/busybox\nRUN : {mark}; usleep 20000; (sleep 900 & wait); echo no >/no\n",
            registry.host()
        ));
        for round in 0..rounds(1, 12) {
            let mut child = world.build(["--no-cache"]).env("RBUILD_TEST_MARK", &mark).spawn();
            let patience = Instant::now() + Duration::from_secs(30);
            let victims = loop {
                let found = descendants(child.id());
                if found.iter().any(|(_, command)| command.starts_with("sleep 900")) {
                    break found;
                }
                assert!(Instant::now() < patience, "the step does not start: {found:?}");
                std::thread::sleep(Duration::from_millis(2));
            };
            let (pid, command) = chance.pick(&victims).clone();
            let told = format!("round {round}: {command} of {victims:?}");
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            // What waits for the end of `sleep` alone goes on and succeeds.
            let patience = Instant::now() + Duration::from_secs(30);
            while child.try_wait().unwrap().is_none() {
                if Instant::now() > patience {
                    let left = descendants(child.id());
                    child.kill().unwrap();
                    panic!("{told}: it hangs with {left:?}");
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            crate::kill::nothing_runs(&mark, &told);
            crate::kill::nothing_is_mounted(world.path(), &told);
            tally.count("ended, and nothing was left");
        }
        world.dockerfile(&format!("FROM {}/busybox\nRUN echo yes >/yes\n", registry.host()));
        world.build(["-t", "next"]).remarks().run();
    }
}

/// The processes below one, as pid and command line.
fn descendants(pid: u32) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    let mut parents = vec![pid.to_string()];
    while let Some(parent) = parents.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                found.push((child.parse().unwrap(), String::from_utf8_lossy(&line).replace('\0', " ")));
                parents.push(child.to_owned());
            }
        }
    }
    found
}
