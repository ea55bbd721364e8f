//! What commands print: kept on disk, whole.

use std::fs;

use crate::support::base::busybox_registry;
use crate::support::program::World;

#[test]
fn the_whole_output_of_each_step_is_kept() {
    let (world, registry) = (World::new(), busybox_registry());
    world.rbuild(["logs", "last"]).status(1).run();
    world.dockerfile(&format!(
        "FROM {}/busybox\nRUN printf 'a\\rb\\n'; echo err >&2\nRUN true\nRUN seq 1 500; exit 3\n",
        registry.host()
    ));
    let ran = world.build([""; 0]).status(1).run();
    // The end is shown, and where the rest is.
    assert!(
        ran.stderr.contains("all 500 lines are in ") && ran.stderr.contains("exit code: 3"),
        "{}",
        ran.stderr
    );
    let at = ran.stderr.find("lines are in ").unwrap() + "lines are in ".len();
    let path = ran.stderr[at..].split(":\n").next().unwrap();
    let whole: String = (1..=500).map(|n| format!("{n}\n")).collect();
    assert_eq!(fs::read_to_string(path).unwrap(), whole);
    world.rbuild(["logs", "last", "4"]).stdout(whole).run();
    let all = world.rbuild(["logs", "last"]).any_stdout().run().stdout;
    assert!(all.starts_with("#2 [2/4] RUN printf 'a\\rb\\n'; echo err >&2 (exit code: 0)\n"), "{all}");
    assert!(
        all.contains("\na\rb\n")
            && all.contains("\nerr\n")
            && all.contains("RUN seq 1 500; exit 3 (exit code: 3)")
    );
    let list = world.rbuild(["logs"]).any_stdout().run().stdout;
    assert!(list.contains("exit code: 3") && list.contains("context/Dockerfile"), "{list}");
    let told = world.rbuild(["logs", "last", "3"]).status(1).run().stderr;
    assert!(told.contains("there is output of 2, 4"), "{told}");
    // In the plain progress nothing is lost either.
    assert!(ran.stderr.contains(" a\n") && ran.stderr.contains(" b\n"), "{}", ran.stderr);
}

#[test]
fn a_build_that_prints_nothing_leaves_no_log() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\nRUN true\n", registry.host()));
    world.build([""; 0]).run();
    assert!(!world.store().join("rbuild/logs").exists());
    assert_eq!(world.rbuild(["logs"]).any_stdout().run().stdout.lines().count(), 1);
}
