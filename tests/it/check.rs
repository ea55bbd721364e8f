//! Looking at a Dockerfile without building: checks, outline, targets.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::program::World;

/// Two findings and a stage with an unknown base.
const UNTIDY: &str = "\
FROM busybox AS Build
ARG VERSION=1
ENV A=$VERSON B=$FROM_THE_BASE
MAINTAINER me
";

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/checks")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The names of the rules that a check reports.
fn reported(world: &World, arguments: &[&str]) -> Vec<String> {
    let ran = world
        .rbuild([&["--call=check,format=json", "--offline"], arguments, &["."]].concat())
        .any_status()
        .any_stdout()
        .run();
    let result = json(&ran.stdout);
    result["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["ruleName"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn findings_are_shown_with_their_lines() {
    let world = World::new();
    world.dockerfile(UNTIDY);
    let ran = world.rbuild(["--check", "--offline", "."]).any_stdout().run();
    assert_eq!(
        ran.stdout,
        "\
warning: Stage name 'Build' should be lowercase (StageNameCasing)
 --> Dockerfile:1:17
  |
1 | FROM busybox AS Build
  |                 ^^^^^
  |
  = help: write `build`

warning: Usage of undefined variable '$VERSON' (did you mean $VERSION?) (UndefinedVar)
 --> Dockerfile:3:7
  |
3 | ENV A=$VERSON B=$FROM_THE_BASE
  |       ^^^^^^^

warning: Maintainer instruction is deprecated in favor of using label (MaintainerDeprecated)
 --> Dockerfile:4:1
  |
4 | MAINTAINER me
  | ^^^^^^^^^^
  |
  = help: write `LABEL org.opencontainers.image.authors=\"…\"`

Check complete, 3 warnings found.
`rbuild explain NAME` explains the check in parentheses.
"
    );
    assert!(!world.store().exists(), "a check makes no store");
}

#[test]
fn a_tidy_file_says_so() {
    let world = World::new();
    world.dockerfile("FROM scratch\n");
    world.rbuild(["--check", "."]).stdout("Check complete, no warnings found.\n").run();
}

#[test]
fn findings_fail_when_that_is_asked_for() {
    let world = World::new();
    world.dockerfile(UNTIDY);
    for (call, status) in [
        ("--call=check", 0),
        ("--call=check,error=true", 1),
        ("--call=lint,format=json", 0),
        ("--call=check,error=true,format=sarif", 1),
    ] {
        let ran = world.rbuild([call, "--offline", "."]).any_status().any_stdout().run();
        assert_eq!(ran.status, Some(status), "{call}");
    }
    world.dockerfile(&format!("# check=error=true\n{UNTIDY}"));
    assert_eq!(world.rbuild(["--check", "--offline", "."]).any_status().any_stdout().run().status, Some(1));
    world.dockerfile(&format!("# check=skip=all;error=true\n{UNTIDY}"));
    assert_eq!(world.rbuild(["--check", "--offline", "."]).any_status().any_stdout().run().status, Some(0));
    world.dockerfile("# check=error=true\nFROM busybox\nENV A=$FROM_THE_BASE\n");
    assert_eq!(world.rbuild(["--check", "--offline", "."]).any_status().any_stdout().run().status, Some(0));
}

#[test]
fn faults_fail_in_every_format() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPPY a b\n");
    let ran = world.rbuild(["--check", "--offline", "."]).any_status().any_stdout().run();
    assert_eq!(ran.status, Some(1));
    assert!(ran.stdout.contains("help: did you mean `COPY`?"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("Check failed: 1 error.\n"), "{}", ran.stdout);
    let ran = world.rbuild(["--call=check,format=json", "."]).any_status().any_stdout().run();
    let fault = json(&ran.stdout)["buildError"].clone();
    assert_eq!(fault["location"]["ranges"][0]["start"]["line"], 2);
    let ran = world.rbuild(["--call=check,format=sarif", "."]).any_status().any_stdout().run();
    let result = json(&ran.stdout)["runs"][0]["results"][0].clone();
    assert_eq!((&result["level"], ran.status), (&Value::from("error"), Some(1)));
}

#[test]
fn sarif_names_rules_and_places() {
    let world = World::new();
    world.dockerfile(UNTIDY);
    let log = json(&world.rbuild(["--call=check,format=sarif", "--offline", "."]).any_stdout().run().stdout);
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), rbuild::dockerfile::checks::RULES.len());
    let found: Vec<String> = run["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            let place = &result["locations"][0]["physicalLocation"];
            let region = &place["region"];
            format!(
                "{} {} {}:{}-{}",
                result["ruleId"].as_str().unwrap(),
                place["artifactLocation"]["uri"].as_str().unwrap(),
                region["startLine"],
                region["startColumn"],
                region["endColumn"]
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            "StageNameCasing Dockerfile 1:17-22",
            "UndefinedVar Dockerfile 3:7-14",
            "MaintainerDeprecated Dockerfile 4:1-11"
        ]
    );
}

#[test]
fn the_dockerfile_may_come_from_standard_input() {
    let world = World::new();
    let ran = world.rbuild(["--check", "-f", "-", "."]).stdin("FROM scratch AS A\n").any_stdout().run();
    assert!(ran.stdout.contains("--> <stdin>:1:17"), "{}", ran.stdout);
}

#[test]
fn ignored_files_are_found_by_checks_and_builds() {
    let world = World::new();
    world.file(".dockerignore", "*.log\n").file("a.log", "").file("b", "");
    world.dockerfile("FROM scratch\nCOPY a.log b /d/\n");
    assert_eq!(reported(&world, &[]), ["CopyIgnoredFile"]);
    let ran = world.build([""; 0]).any_status().any_stdout().run();
    assert!(ran.stderr.contains("(CopyIgnoredFile)"), "{}", ran.stderr);
    world.file(".dockerignore", "*.log\n!a.log\n");
    assert!(reported(&world, &[]).is_empty());
}

#[test]
fn targets_and_outline_show_what_a_file_offers() {
    let world = World::new();
    world.dockerfile(
        "\
# VERSION is what to build
ARG VERSION=1.0

# build compiles the program
FROM busybox AS build
ARG VERSION
# FLAGS go to the compiler
ARG FLAGS=-O2
RUN --mount=type=secret,id=token,required=true --mount=type=cache,id=c,target=/c true

FROM scratch
ARG UNSEEN
COPY --from=build / /
",
    );
    let targets = "TARGET     DESCRIPTION\nbuild      compiles the program\n(default)\n";
    world.rbuild(["--call=targets", "."]).stdout(targets).run();
    let outline = "\
TARGET:       build
DESCRIPTION:  compiles the program

BUILD ARG  VALUE  DESCRIPTION
VERSION    2      is what to build
FLAGS      -O2    go to the compiler

SECRET  REQUIRED
token   true

CACHE
c
";
    world.rbuild(["--call=outline", "--target=build", "--build-arg=VERSION=2", "."]).stdout(outline).run();
    let outline = json(&world.rbuild(["--call=outline,format=json", "."]).any_stdout().run().stdout);
    assert_eq!(outline["args"][2]["name"], "UNSEEN");
    assert_eq!(outline["secrets"][0]["required"], true);
}

#[test]
fn failures_of_a_build_are_json_when_progress_is() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY nothing /\n");
    let ran = world.rbuild(["--progress=json", "."]).any_status().any_stdout().run();
    assert_eq!(ran.status, Some(1));
    let events: Vec<Value> = ran.stderr.lines().map(json).collect();
    let told = &events.last().unwrap()["diagnostic"];
    assert_eq!((&told["severity"], &told["labels"][0]["line"]), (&Value::from("error"), &Value::from(2)));
    world.dockerfile("FROM scratch\n");
    let ran = world.rbuild(["--progress=json", "."]).run();
    assert_eq!(json(ran.stderr.lines().last().unwrap())["event"], "built");
}

#[test]
fn every_rule_has_a_page_and_every_page_a_rule() {
    let mut pages: Vec<String> = std::fs::read_dir(pages())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .map(|name| format!("docs/checks/{name}"))
        .collect();
    pages.sort();
    let mut rules: Vec<&str> = rbuild::dockerfile::checks::RULES.iter().map(|rule| rule.page).collect();
    rules.sort_unstable();
    assert_eq!(pages, rules);
    let index = std::fs::read_to_string(self::pages().join("README.md")).unwrap();
    for rule in rbuild::dockerfile::checks::RULES {
        assert!(index.contains(&format!("[{0}]({0}.md)", rule.name)), "{} is not in the list", rule.name);
    }
}

/// The examples are true: the rule reports the bad one and says nothing of the good one.
#[test]
fn the_examples_of_every_page_are_true() {
    for rule in rbuild::dockerfile::checks::RULES {
        // It is known only with the base at hand.
        if rule.name == "InvalidBaseImagePlatform" {
            continue;
        }
        let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(rule.page)).unwrap();
        for (title, expected) in [("## Bad", true), ("## Good", false)] {
            let example = example(&page, title);
            let world = World::new();
            if let Some(ignored) = example.lines().find_map(|line| line.split_once(".dockerignore holds: ")) {
                world.file(".dockerignore", ignored.1);
            }
            let switch = if rule.experimental {
                format!("# check=experimental={}\n", rule.name)
            } else {
                String::new()
            };
            world.dockerfile(&format!("{switch}{example}"));
            // This one is about files that build only with an argument.
            let is_argument = rule.name == "InvalidDefaultArgInFrom";
            let reported = reported(&world, if is_argument { &["--build-arg=TAG=1"][..] } else { &[] });
            assert_eq!(reported.iter().any(|name| name == rule.name), expected, "{title} of {}", rule.name);
        }
    }
}

fn example<'p>(page: &'p str, title: &str) -> &'p str {
    let (_, rest) = page.split_once(title).unwrap();
    let (_, rest) = rest.split_once("```dockerfile\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn stages_that_the_target_does_not_need_are_looked_at_unless_there_is_a_target() {
    let world = World::new();
    world.dockerfile("FROM scratch AS Other\nENV A=$NONE\nFROM scratch AS target\nENV B=$NONE\n");
    assert_eq!(reported(&world, &[]), ["StageNameCasing", "UndefinedVar", "UndefinedVar"]);
    assert_eq!(reported(&world, &["--target=target"]), ["StageNameCasing", "UndefinedVar"]);
    world.dockerfile("FROM scratch AS other\nCOPY --from=9 a b\nFROM scratch\n");
    let ran = world.rbuild(["--check", "."]).any_status().any_stdout().run();
    assert_eq!(ran.status, Some(1), "{}", ran.stdout);
}

#[test]
fn findings_before_a_fault_are_told_beside_it() {
    let world = World::new();
    // A fault of the syntax: nothing has been applied yet, and what comes later is not looked at.
    world.dockerfile("FROM scratch as a\nENV A=$NONE\nMAINTAINER me\nCOPPY a b\nMAINTAINER me\n");
    assert_eq!(reported(&world, &[]), ["FromAsCasing", "MaintainerDeprecated"]);
    // A fault of an instruction: the file was read to its end, and instructions were applied up to there.
    world.dockerfile("FROM scratch as a\nENV A=$NONE\nENV B=${X:?gone}\nENV C=$NONE\nMAINTAINER me\n");
    assert_eq!(reported(&world, &[]), ["FromAsCasing", "UndefinedVar", "MaintainerDeprecated"]);
}

#[test]
fn a_base_at_hand_tells_which_variables_it_has() {
    let world = World::new();
    world.dockerfile("FROM scratch\nENV FROM_THE_BASE=1\n");
    world.build(["-t", "base:1"]).run();
    world.dockerfile("FROM base:1 AS a\nFROM a\nENV A=$FROM_THE_BASE B=$FROM_NOWHERE\n");
    assert_eq!(reported(&world, &[]), ["UndefinedVar"]);
    let ran = world.rbuild(["--check", "--offline", "."]).any_stdout().run();
    assert!(ran.stdout.contains("'$FROM_NOWHERE'"), "{}", ran.stdout);
}

#[test]
fn what_must_be_allowed_to_be_built_may_be_looked_at() {
    let world = World::new();
    world.dockerfile("FROM scratch\nRUN --network=host true\nRUN --security=insecure true\n");
    assert!(reported(&world, &[]).is_empty());
    world.rbuild(["--call=outline", "."]).any_stdout().run();
}

#[test]
fn a_build_argument_says_which_checks_count() {
    let world = World::new();
    world.dockerfile("# check=skip=all\nFROM scratch as A\n");
    let ran = world.build(["--build-arg=BUILDKIT_DOCKERFILE_CHECK=error=true"]).any_status().run();
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.stderr.contains("lint violation found for rules: FromAsCasing, StageNameCasing"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("BUILDKIT_DOCKERFILE_CHECK"), "{}", ran.stderr);
    let skip = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=FromAsCasing;error=false";
    assert_eq!(reported(&world, &[skip]), ["StageNameCasing"]);
    let ran = world.build(["--build-arg=BUILDKIT_DOCKERFILE_CHECK=skp=a"]).any_status().run();
    assert!(
        ran.stderr.contains("bad value of the build argument `BUILDKIT_DOCKERFILE_CHECK`"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_context_of_which_all_is_ignored_is_told() {
    let world = World::new();
    world.file(".dockerignore", "*\n").file("a", "");
    world.dockerfile("FROM scratch\nCOPY . /\n");
    let ran = world.rbuild(["--check", "-f", "Dockerfile", "."]).any_stdout().run();
    assert!(ran.stdout.contains("Attempting to Copy file \".\" that is excluded"), "{}", ran.stdout);
    world.file(".dockerignore", "a*\n");
    assert!(reported(&world, &[]).is_empty());
}

#[test]
fn a_warning_is_told_once_for_all_platforms() {
    let world = World::new();
    world.dockerfile("FROM scratch as a\nENV B=$NONE\n");
    let ran = world.build(["--platform=linux/amd64,linux/arm64"]).any_stdout().remarks().run();
    assert_eq!(ran.stderr.matches("(FromAsCasing)").count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("(UndefinedVar)").count(), 1, "{}", ran.stderr);
}

#[test]
fn an_outline_lists_what_is_used() {
    let world = World::new();
    world.dockerfile(
        "ARG UNUSED=1\nARG TAG=1\nARG NAME=base:$TAG\nFROM $NAME AS parent\nARG OF_PARENT=2\nFROM parent\nARG OWN\n\
         RUN --mount=type=ssh --mount=type=cache,id=c,target=/c true\n",
    );
    let outline = json(&world.rbuild(["--call=outline,format=json", "."]).any_stdout().run().stdout);
    let names: Vec<&str> =
        outline["args"].as_array().unwrap().iter().map(|arg| arg["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["TAG", "NAME", "OF_PARENT", "OWN"]);
    for (what, line) in [("ssh", 8), ("cache", 8)] {
        assert_eq!(outline[what][0]["location"]["ranges"][0]["start"]["line"], line, "{what}");
    }
}

#[test]
fn a_check_is_explained_without_the_documentation() {
    let world = World::new();
    let page = std::fs::read_to_string(pages().join("WorkdirRelativePath.md")).unwrap();
    assert_eq!(world.rbuild(["explain", "workdirrelativepath"]).any_stdout().run().stdout, page);
    let ran = world.rbuild(["explain", "WorkdirRelativPath"]).status(1).run();
    assert!(ran.stderr.contains("did you mean `WorkdirRelativePath`?"), "{}", ran.stderr);
    let list = world.rbuild(["explain", "--checks"]).any_stdout().run().stdout;
    assert_eq!(list.lines().count(), rbuild::dockerfile::checks::RULES.len());
    assert!(!world.store().exists(), "an explanation makes no store");
}
