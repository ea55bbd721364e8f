//! Fork bombs, and limits of processes.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::accounts::Account;
use crate::support::base::busybox_registry;
use crate::support::is_root;
use crate::support::program::World;
use crate::support::skip;

/// Has as many processes as it can get, and never ends by itself.
const GREEDY: &str = "r() { (r); sleep 900; }; r";
/// The classic one; with its shell, all of it ends. On a busy machine it can be quicker than the shell that starts it, which
/// is therefore another.
const BOMB: &str = "b() { b | b & }; (b); true";
/// Fails when the shell cannot start the last ones.
const MANY: &str = "for i in $(seq 200); do sleep 100 & done; wait";

/// Of root, of a user with ranges of ids, and of one without.
pub(crate) fn worlds() -> Vec<World> {
    let accounts = || [Account::with_ranges().unwrap(), Account::without_ranges()];
    let other = is_root().then(|| accounts().map(World::of));
    std::iter::once(World::new()).chain(other.into_iter().flatten()).collect()
}

#[test]
fn a_step_that_wants_too_many_processes_fails_and_says_why() {
    let registry = busybox_registry();
    for world in worlds() {
        world.dockerfile(&format!("FROM {}/busybox\nRUN {MANY}\n", registry.host()));
        let ran = world.build(["--pids-limit", "60"]).status(1).remarks().run();
        assert!(ran.stderr.contains("its limit of 60 processes"), "{}", ran.stderr);
        assert!(ran.stderr.contains("`--pids-limit N` sets another limit"), "{}", ran.stderr);
        // A limit counts in no key, and there is room for what is usual.
        world.dockerfile(&format!("FROM {}/busybox\nRUN {}\n", registry.host(), MANY.replace("100", "0")));
        world.build(["-t", "free"]).remarks().run();
        let again = world.build(["--pids-limit", "-1"]).remarks().run();
        assert_eq!(again.outcome("RUN for"), "CACHED");
    }
}

#[test]
fn a_step_that_is_stuck_at_its_limit_is_ended() {
    let registry = busybox_registry();
    for world in worlds() {
        world.dockerfile(&format!("FROM {}/busybox\nRUN {GREEDY}\n", registry.host()));
        let ran = world.build(["--pids-limit", "60"]).status(1).remarks().run();
        let told = "exit code: 137: killed: the step reached its limit of 60 processes";
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert_eq!(processes_with(world.path()), Vec::<String>::new());
        world.dockerfile(&format!("FROM {}/busybox\nRUN {BOMB}\n", registry.host()));
        world.build(["--pids-limit", "60"]).remarks().run();
        assert_eq!(processes_with(world.path()), Vec::<String>::new());
    }
}

/// Without being asked, a step is held to a quarter of what the machine can have, where the kernel can do that for
/// a namespace.
#[test]
fn there_is_a_limit_without_asking() {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut version = text.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    if (version.next(), version.next()) < (Some(6), Some(14)) {
        skip!("pid namespaces have limits since Linux 6.14");
    }
    if !is_root() {
        skip!("only root looks into the namespaces of others");
    }
    let registry = busybox_registry();
    let number = |path: &str| std::fs::read_to_string(path).unwrap().trim().parse::<u64>().unwrap();
    let machine = number("/proc/sys/kernel/pid_max").min(number("/proc/sys/kernel/threads-max"));
    // Its numbers are in the init's namespace, which the machine's /proc shows.
    for world in worlds() {
        world.dockerfile(&format!("FROM {}/busybox\nRUN exec sleep 900\n", registry.host()));
        let mut child = world.build(["-t", "never"]).spawn();
        let init = init_of(child.id());
        let show = "mount -t proc none /proc && cat /proc/sys/kernel/pid_max";
        let out = std::process::Command::new("nsenter")
            .args(["-t", &init.to_string(), "-p"])
            .args(["unshare", "-m", "sh", "-c", show])
            .output()
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let shown = String::from_utf8_lossy(&out.stdout).trim().parse::<u64>();
        assert_eq!(shown, Ok((machine / 4).min(32_768) + 300), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

/// The init of the step that an rbuild runs: its grandchild, once that has a child that sleeps.
fn init_of(rbuild: u32) -> u32 {
    let command = |pid: u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let inits = children(rbuild).into_iter().flat_map(children);
        for init in inits {
            if children(init).into_iter().any(|pid| command(pid) == b"sleep\x00900\0") {
                return init;
            }
        }
        std::thread::yield_now();
    }
    panic!("the step does not run");
}

pub(crate) fn children(of: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let texts = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    texts.flat_map(|text| text.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Command lines of processes of programs below `folder`, or that speak of it.
fn processes_with(folder: &Path) -> Vec<String> {
    let wanted = folder.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        let line = String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).into_owned();
        let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        (line.contains(wanted) || mounts.contains(wanted)).then_some(line)
    });
    lines.collect()
}
