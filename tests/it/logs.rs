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
    // The plain progress has a line once, as a terminal leaves it.
    assert!(ran.stderr.contains(" b\n") && !ran.stderr.contains(" a\n"), "{}", ran.stderr);
}

#[test]
fn a_step_that_had_to_end_with_the_build_did_not_fail() {
    let registry = busybox_registry();
    let cache = "--mount=type=cache,id=c,target=/seen";
    let text = format!(
        "FROM {host}/busybox AS slow\n\
         RUN {cache} echo begun; touch /seen/one; while true; do sleep 1000; done\n\
         FROM {host}/busybox AS wrong\n\
         RUN {cache} while [ ! -e /seen/one ]; do usleep 1000; done; exit 3\n\
         FROM scratch\nCOPY --from=slow / /\nCOPY --from=wrong / /\n",
        host = registry.host()
    );
    for (mode, cancelled, failed) in [
        ("plain", "CANCELLED after ", "FAILED after "),
        ("json", "\"event\":\"cancelled\"", "\"event\":\"failed\""),
    ] {
        let world = World::new();
        world.dockerfile(&text);
        let ran = world.rbuild([&format!("--progress={mode}"), "."]).any_status().run();
        let count = |text: &str| ran.stderr.matches(text).count();
        assert_eq!((ran.status, count(cancelled), count(failed)), (Some(1), 1, 1), "{}", ran.stderr);
        let list = world.rbuild(["logs"]).any_stdout().run().stdout;
        assert!(list.contains("exit code: 3") && !list.contains("cancelled"), "{list}");
    }
}

#[test]
fn a_build_that_prints_nothing_leaves_no_log() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\nRUN true\n", registry.host()));
    world.build([""; 0]).run();
    assert!(!world.store().join("rbuild/logs").exists());
    assert_eq!(world.rbuild(["logs"]).any_stdout().run().stdout.lines().count(), 1);
}
