//! How many steps are under way at once, and that none waits for ever.

use crate::support::base::busybox_registry;
use crate::support::program::World;

/// Stages that run `script` each, with `{}` as their number, and a last one that needs them all.
fn stages(host: &str, count: usize, script: &str) -> String {
    let stage =
        |n: usize| format!("FROM {host}/busybox AS s{n}\nRUN {}\n", script.replace("{}", &n.to_string()));
    let copy = |n: usize| format!("COPY --from=s{n} /out{n} /\n");
    let stages: String = (0..count).map(stage).collect();
    let copies: String = (0..count).map(copy).collect();
    format!("{stages}FROM scratch\n{copies}")
}

#[test]
fn a_hundred_stages_at_once_or_one_after_another() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&stages(&registry.host(), 100, "echo {} >/out{}"));
    for jobs in ["100", "1", "0"] {
        let ran = world.build(["--no-cache", "--jobs", jobs]).run();
        let files = world.images().image(&ran.digest()).files();
        assert_eq!(files["out99"].content, b"99\n");
    }
    world.rbuild(["--no-cache", "-q", "."]).env("RBUILD_JOBS", "3").any_stdout().run();
}

/// Each of the four waits until all four have begun.
#[test]
fn independent_stages_run_at_once() {
    let (world, registry) = (World::new(), busybox_registry());
    let script = "--mount=type=cache,target=/meet touch /meet/{}; i=0; \
        while [ $(ls /meet | wc -l) -lt 4 ]; do i=$((i+1)); [ $i -lt 6000 ] || exit 1; usleep 10000; done; \
        touch /out{}";
    world.dockerfile(&stages(&registry.host(), 4, script));
    world.build(["--no-cache"]).run();
}

/// Two steps that lock the same two caches, one in each order; and one that has a cache twice.
#[test]
fn locked_caches_are_never_a_deadlock() {
    let (world, registry) = (World::new(), busybox_registry());
    let mount = |id: &str, target: &str| format!("--mount=type=cache,sharing=locked,id={id},target={target}");
    let host = registry.host();
    let run = |stage: &str, first: &str, second: &str| {
        let steps = |n: usize| format!("RUN {} {} echo {n} >/out\n", mount(first, "/x"), mount(second, "/y"));
        format!("FROM {host}/busybox AS {stage}\n{}", (0..20).map(steps).collect::<String>())
    };
    world.dockerfile(&format!(
        "{}{}{}FROM scratch\nCOPY --from=one /out /1\nCOPY --from=two /out /2\nCOPY --from=same /out /3\n",
        run("one", "a", "b"),
        run("two", "b", "a"),
        run("same", "a", "a"),
    ));
    world.build(["--no-cache"]).run();
}
