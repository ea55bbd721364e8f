//! `rbuild plan`: what a build would do, and that the build then does it.

use serde_json::Value;

use crate::support::program::World;

const DOCKERFILE: &str = "\
FROM scratch AS build
COPY src/ /src/
WORKDIR /made
COPY note.txt /made/

FROM scratch
COPY --from=build /src /src
ENV A=1
";

fn world() -> World {
    let world = World::new();
    world.file("src/a", "1").file("note.txt", "n").dockerfile(DOCKERFILE);
    world
}

fn plan(world: &World, args: &[&str]) -> String {
    world.rbuild(["plan"]).args(args).arg(".").any_stdout().run().stdout
}

#[test]
fn nothing_is_cached_at_first() {
    let text = plan(&world(), &[]);
    assert_eq!(
        text,
        "  \
  #1 here   [build 1/4] FROM scratch AS build
  #2 here   load build context
  #3 run    [build 2/4] COPY src/ /src/
            reads #2; not built before
  #4 run    [build 3/4] WORKDIR /made
            #3 would run
  #5 run    [build 4/4] COPY note.txt /made/
            reads #2; #4 would run
  #6 config [stage-1 1/3] FROM scratch
  #7 run    [stage-1 2/3] COPY --from=build /src /src
            reads #5; #5 would run
  #8 config [stage-1 3/3] ENV A=1
0 steps cached, 4 would run
"
    );
}

#[test]
fn a_plan_tells_what_the_build_then_does() {
    let world = world();
    world.build([""; 0]).run();
    assert!(plan(&world, &[]).ends_with("4 steps cached, 0 would run\n"));
    world.file("note.txt", "changed");
    let text = plan(&world, &[]);
    assert!(
        text.contains("#5 run    [build 4/4] COPY note.txt /made/\n            reads #2; note.txt changed\n"),
        "{text}"
    );
    assert!(text.ends_with("2 steps cached, 2 would run\n"), "{text}");
    // A plan changes nothing: it says the same again, and so does the build.
    assert_eq!(plan(&world, &[]), text);
    let ran = world.build([""; 0]).run();
    assert_eq!(ran.miss("COPY note.txt"), Some("note.txt changed"));
    assert_eq!(ran.outcome("WORKDIR"), "CACHED");
}

#[test]
fn the_options_of_a_build_count() {
    let world = world();
    world.build([""; 0]).run();
    assert!(plan(&world, &["--no-cache"]).contains("reads #2; --no-cache\n"));
    let text = plan(&world, &["--target=build", "-t", "ignored"]);
    assert!(text.ends_with("3 steps cached, 0 would run\n"), "{text}");
}

#[test]
fn json_and_dot_say_the_same() {
    let world = world();
    world.build([""; 0]).run();
    world.file("src/a", "2");
    let json = plan(&world, &["--format=json"]);
    let parsed: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["platforms"].as_array().map(Vec::len), Some(1));
    let steps = parsed["steps"].as_array().unwrap();
    assert_eq!(steps[2]["outlook"], "run");
    assert_eq!(steps[2]["why"], "src/a changed");
    assert_eq!(steps[6]["reads"], serde_json::json!([5]));
    assert_eq!(steps[7]["outlook"], "config-only");
    let dot = plan(&world, &["--format=dot"]);
    assert!(dot.starts_with("digraph plan {\n") && dot.ends_with("}\n"));
    assert!(dot.contains("s3 [label=\"COPY src/ /src/\\nsrc/a changed\", fillcolor=lightsalmon];"), "{dot}");
    assert!(dot.contains("s5 -> s7;"), "{dot}");
}

#[test]
fn a_plan_of_a_faulty_file_is_its_error() {
    let world = world();
    world.dockerfile("FROM scratch\nCOPY nothing /\n");
    let ran = world.rbuild(["plan", "."]).status(1).run();
    assert!(ran.stderr.contains("`/nothing` not found"), "{}", ran.stderr);
}

#[test]
fn several_platforms_are_one_plan() {
    let world = world();
    world.dockerfile(&format!("{DOCKERFILE}ARG TARGETARCH\nWORKDIR /$TARGETARCH\n"));
    let platforms = "--platform=linux/amd64,linux/arm64";
    let text = plan(&world, &[platforms]);
    let end = "  \
  #8 config [stage-1 3/5] ENV A=1
  #9 config [stage-1 4/5] ARG TARGETARCH
 #10 run    [linux/amd64 stage-1 5/5] WORKDIR /amd64
            #7 would run
 #11 run    [linux/arm64 stage-1 5/5] WORKDIR /arm64
            #7 would run
0 steps cached, 6 would run
";
    assert!(text.ends_with(end), "{text}");
    assert_eq!(text.matches("COPY src/ /src/").count(), 1, "{text}");
    let parsed: Value = serde_json::from_str(&plan(&world, &[platforms, "--format=json"])).unwrap();
    assert_eq!(parsed["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    assert_eq!(parsed["steps"][2]["platform"], Value::Null);
    assert_eq!(parsed["steps"][10]["platform"], "linux/arm64");
    let dot = plan(&world, &[platforms, "--format=dot"]);
    assert!(dot.contains("label=\"linux/arm64 stage-1\";"), "{dot}");
    world.build([platforms]).run();
    assert!(plan(&world, &[platforms]).ends_with("6 steps cached, 0 would run\n"));
}
