//! Several platforms are one build: what they share is done once, the rest at once, and everything says which one it is of.
//!
//! Commands of `linux/amd64/v2` run wherever those of `linux/amd64` do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::base::busybox_registry;
use crate::support::http::Server;
use crate::support::program::{Ran, World};
use crate::support::registry::Registry;

const TWO: &str = "linux/amd64,linux/amd64/v2";

/// A stage that all platforms share, one of this machine that asks for whom it works, and one of each platform.
fn cross(world: &World) -> Registry {
    let registry = busybox_registry();
    cross_on(world, &registry);
    registry
}

fn cross_on(world: &World, registry: &Registry) {
    let host = registry.host();
    world.file("src/a", "1").file("note", "n").dockerfile(&format!(
        "FROM --platform=$BUILDPLATFORM {host}/busybox AS tools\n\
         COPY src/ /src/\n\
         RUN --mount=type=cache,id=count,target=/count echo ran >>/count/log; cp /count/log /log\n\
         FROM tools AS cross\n\
         ARG TARGETPLATFORM\n\
         RUN echo for $TARGETPLATFORM >/out\n\
         FROM {host}/busybox\n\
         WORKDIR /w\n\
         COPY note .\n\
         COPY --from=tools /log .\n\
         COPY --from=cross /out .\n\
         RUN cat out\n\
         ENV A=1\n"
    ));
}

fn json(ran: &Ran) -> Vec<Value> {
    ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

#[test]
fn what_platforms_share_runs_once() {
    let world = World::new();
    let _registry = cross(&world);
    let ran = world.build(["--platform", TWO]).run();
    assert_eq!(ran.stderr.matches("load build context").count(), 1, "{}", ran.stderr);
    let manifests = world.images().platforms(&ran.digest());
    assert_eq!(manifests.keys().map(String::as_str).collect::<Vec<_>>(), ["linux/amd64", "linux/amd64/v2"]);
    for (platform, manifest) in &manifests {
        let files = world.images().image(manifest).files();
        assert_eq!(files["w/log"].content, b"ran\n", "the command ran once");
        assert_eq!(String::from_utf8_lossy(&files["w/out"].content), format!("for {platform}\n"));
    }
}

#[test]
fn lines_are_counted_through_and_name_their_platform() {
    let world = World::new();
    let registry = cross(&world);
    let ran = world.build(["--platform", "linux/amd64,linux/arm64", "--target", "cross"]).run();
    let mut titles: BTreeMap<usize, String> = BTreeMap::new();
    for line in ran.stderr.lines().filter(|line| line.starts_with('#') && line.contains(" [")) {
        let (number, title) = line[1..].split_once(' ').unwrap();
        let known = titles.insert(number.parse().unwrap(), title.replace(&registry.host(), "HOST"));
        assert_eq!(known, None, "{}", ran.stderr);
    }
    let titles: Vec<&str> = titles.values().map(String::as_str).collect();
    assert_eq!(
        titles,
        [
            "[linux/amd64 tools 1/3] FROM --platform=linux/amd64 HOST/busybox AS tools",
            "[linux/amd64 tools 2/3] COPY src/ /src/",
            "[linux/amd64 tools 3/3] RUN --mount=type=cache,id=count,target=/count echo ran >>/count/log; cp /count/log /log",
            "[linux/amd64 cross 1/3] FROM tools AS cross",
            "[linux/amd64 cross 2/3] ARG TARGETPLATFORM",
            "[linux/amd64 cross 3/3] RUN echo for linux/amd64 >/out",
            "[linux/amd64->arm64 cross 3/3] RUN echo for linux/arm64 >/out",
        ]
    );
    let logged = world.rbuild(["plan", "--platform=linux/arm64", "--target=cross", "."]).any_stdout().run();
    assert!(logged.stdout.contains("[cross 3/3] RUN"), "one platform alone is not named: {}", logged.stdout);
}

#[test]
fn programs_are_told_of_all_steps_at_once() {
    let world = World::new();
    let _registry = cross(&world);
    let ran = world.rbuild(["--progress=json", "--platform", TWO, "."]).run();
    let events = json(&ran);
    let planned = of_kind(&events, "planned");
    assert_eq!(planned.len(), 1);
    let steps = planned[0]["steps"].as_array().unwrap();
    let numbers: Vec<u64> = steps.iter().map(|step| step["step"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=steps.len() as u64).collect::<Vec<_>>());
    let platforms: BTreeSet<&str> = steps.iter().filter_map(|step| step["platform"].as_str()).collect();
    assert_eq!(platforms, BTreeSet::from(["linux/amd64", "linux/amd64/v2"]));
    let context = steps.iter().find(|step| step["title"] == "load build context").unwrap();
    assert_eq!(context["platform"], Value::Null);
    let mut finished: Vec<u64> =
        of_kind(&events, "finished").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    finished.sort_unstable();
    assert_eq!(finished, numbers, "each step ends once");
}

#[test]
fn a_base_that_platforms_share_is_looked_up_once() {
    let registry = busybox_registry();
    let questions = |platforms: &str| {
        let between = Server::between(registry.host(), |_, reply| reply);
        let world = World::new();
        world.dockerfile(&format!(
            "FROM --platform=$BUILDPLATFORM {}/busybox\nARG TARGETARCH\nRUN echo $TARGETARCH >/arch\n",
            between.host()
        ));
        world.build(["--pull", "--platform", platforms]).run();
        between.requests().iter().filter(|request| request.contains("/manifests/")).count()
    };
    assert_eq!(questions("linux/amd64,linux/arm64"), questions("linux/amd64"));
}

/// Each of the two waits until both have begun.
#[test]
fn platforms_are_built_at_once() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!(
        "FROM {}/busybox\nARG TARGETVARIANT\n\
         RUN --mount=type=cache,target=/meet touch /meet/x$TARGETVARIANT; i=0; \
         while [ $(ls /meet | wc -l) -lt 2 ]; do i=$((i+1)); [ $i -lt 6000 ] || exit 1; usleep 10000; done\n",
        registry.host()
    ));
    world.build(["--no-cache", "--platform", TWO]).run();
}

#[test]
fn a_platform_is_what_it_is_alone_whatever_runs_beside() {
    let registry = busybox_registry();
    let built = |args: &[&str]| {
        let world = World::new();
        cross_on(&world, &registry);
        let reproducible = ["--build-arg=SOURCE_DATE_EPOCH=1", "-o", "type=image,rewrite-timestamp=true"];
        let ran = world.build(reproducible).args(args).run();
        (ran.digest(), world)
    };
    let alone = |platform: &str| (platform.to_owned(), built(&["--platform", platform]).0);
    let alone: BTreeMap<String, String> = TWO.split(',').map(alone).collect();
    for jobs in ["1", "2", "16"] {
        let (index, world) = built(&["--platform", TWO, "--jobs", jobs]);
        assert_eq!(world.images().platforms(&index), alone, "{jobs} jobs");
    }
}

#[test]
fn each_platform_knows_why_its_step_runs_again() {
    let world = World::new();
    world.file("note", "n").dockerfile("FROM scratch\nARG TARGETARCH\nWORKDIR /$TARGETARCH\nCOPY note .\n");
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    world.build(platforms).run();
    world.file("note", "changed");
    let ran = world.build(platforms).run();
    for platform in ["amd64", "arm64"] {
        let step = format!("[linux/{platform} 4/4] COPY");
        assert_eq!(ran.miss(&step), Some("note changed"), "{}", ran.stderr);
    }
}

#[test]
fn a_step_that_fails_names_its_platform() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!(
        "FROM {}/busybox\nARG TARGETVARIANT\nENV FOR=x$TARGETVARIANT\nRUN echo made >/made; test $FOR = x\n",
        registry.host()
    ));
    let ran = world.build(["--platform", TWO]).status(1).run();
    let note = "it is step #6, [linux/amd64/v2 4/4] RUN echo made >/made; test xv2 = x";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    assert!(ran.stderr.contains("#6 FAILED"), "{}", ran.stderr);
    // What is kept of it has the configuration of that platform.
    let at = ran.stderr.find(" shell ").unwrap() + " shell ".len();
    let id = &ran.stderr[at..at + 6];
    let list = world.rbuild(["sessions"]).any_stdout().run().stdout;
    assert!(list.contains("[linux/amd64/v2 4/4] RUN"), "{list}");
    let committed = world.rbuild(["commit", id, "kept:1"]).any_stdout().run();
    let image = world.images().image(committed.stdout.trim());
    let config = serde_json::to_value(&image.config).unwrap();
    assert_eq!(config["variant"], "v2");
    assert!(config["config"]["Env"].as_array().unwrap().contains(&Value::from("FOR=xv2")), "{config}");
    assert!(image.files().contains_key("made"));
    let logs = world.rbuild(["logs", "last"]).any_stdout().run().stdout;
    assert!(logs.contains("#6 [linux/amd64/v2 4/4] RUN"), "{logs}");
}

#[test]
fn a_fault_of_one_platform_names_it() {
    let world = World::new();
    world.dockerfile(
        "ARG TARGETARCH\nARG amd64=scratch\nFROM scratch\nARG TARGETARCH\nEXPOSE ${TARGETARCH#amd}\n",
    );
    let ran = world.build(["--platform", "linux/amd64,linux/arm64"]).status(1).run();
    assert!(ran.stderr.contains("this is about the platform linux/arm64"), "{}", ran.stderr);
}

#[test]
fn pushed_with_one_line() {
    let world = World::new();
    let registry = cross(&world);
    let name = format!("{}/app:1", registry.host());
    let ran = world.build(["--push", "-t", &name, "--platform", TWO]).run();
    let lines = ran.stderr.lines().filter(|line| line.ends_with(&format!("push {name}")));
    assert_eq!(lines.count(), 1, "{}", ran.stderr);
    assert!(ran.outcome(&format!("push {name}")).starts_with("DONE"));
}

#[test]
fn layers_are_rewritten_to_one_time_only() {
    let world = World::new();
    world
        .file("a", "1")
        .dockerfile("ARG TARGETARCH\nARG SOURCE_DATE_EPOCH=${TARGETARCH#amd}\nFROM scratch\nCOPY a /\n");
    let of = |output: &str| {
        ["--platform".to_owned(), "linux/amd64,linux/386".to_owned(), "-o".to_owned(), output.to_owned()]
    };
    let ran = world.build(of("type=oci,dest=out.tar,rewrite-timestamp=true")).status(1).run();
    assert!(ran.stderr.contains("build one platform after the other"), "{}", ran.stderr);
    world.build(of("type=oci,dest=out.tar")).run();
}
