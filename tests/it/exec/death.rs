//! rbuild killed at any moment leaves no process behind.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rbuild::exec::{Config, Executor};

use super::stage::Stage;
use crate::support::copy_program;

const VARIABLE: &str = "RBUILD_TEST_VICTIM";

/// Not a test by itself: with the variable set, this process runs steps until it is killed.
#[test]
fn victim() {
    let Some(program) = std::env::var_os(VARIABLE) else { return };
    let mut stage = Stage::new();
    stage.executor = Executor::new(Config { program: program.into(), ..Config::default() });
    // The processes of the next step are there before it.
    stage.executor.expect(usize::MAX);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let stage = &stage;
            scope.spawn(move || {
                for round in 0.. {
                    let script = "sleep 1000 & setsid sleep 1000 & echo up >&2";
                    let spec = stage.spec(&format!("{number}-{round}"), script);
                    stage.executor.run(&spec, |_, _| {}).unwrap();
                }
            });
        }
        let spec = stage.spec("long", "trap '' TERM HUP INT; sleep 1000 & while true; do sleep 1000; done");
        stage.executor.run(&spec, |_, _| {}).unwrap();
    });
}

#[test]
fn a_killed_rbuild_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    // A program of its own path shows which processes belong to this test, busybox likewise.
    let program = directory.path().join("rbuild");
    copy_program(Path::new(env!("CARGO_BIN_EXE_rbuild")), &program);
    for round in 0..12 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["exec::death::victim", "--exact", "--nocapture"])
            .env(VARIABLE, &program)
            .env("TMPDIR", directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Once its tests have begun, or once there is a step, some milliseconds more.
        let _ = victim.stdout.take().unwrap().read_exact(&mut [0; 12]);
        while round % 2 == 1 && process_of(directory.path()).is_none() {
            assert!(victim.try_wait().unwrap().is_none());
        }
        std::thread::sleep(Duration::from_millis(7 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Some(left) = process_of(directory.path()) {
            assert!(Instant::now() < deadline, "round {round}: {left} is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A process whose program is in the directory: rbuild's copy, or busybox in a root (whose path is seen
/// from outside as one in the overlay, so its root directory is asked as well).
fn process_of(directory: &Path) -> Option<String> {
    let files = fs::read_dir(directory).unwrap().flatten().filter_map(|file| file.metadata().ok());
    let programs: Vec<_> = files.map(|file| (file.dev(), file.ino())).collect();
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let path = entry.path();
        let mounts = fs::read_to_string(path.join("mountinfo")).unwrap_or_default();
        let exe = fs::metadata(path.join("exe")).map(|exe| (exe.dev(), exe.ino())).ok();
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let inside = mounts.lines().any(|line| line.contains(" / / ") && line.contains(" overlay overlay "))
            && String::from_utf8_lossy(&command).contains("sleep\x001000");
        (exe.is_some_and(|exe| programs.contains(&exe)) || inside)
            .then(|| format!("{} {}", path.display(), String::from_utf8_lossy(&command).replace('\0', " ")))
    })
}
