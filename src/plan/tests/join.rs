//! Plans of several platforms as one graph.

use super::*;
use crate::plan::graph::{Goal, Graph, StepId};

fn joined(text: &str, platforms: &[&str]) -> (Graph, Vec<Goal>) {
    join(platforms.iter().map(|platform| build(text).platform(platform).plan()).collect())
}

const CROSS: &str = "\
FROM --platform=$BUILDPLATFORM base AS b
COPY . /
RUN one
ARG TARGETARCH
RUN two
FROM base
COPY --from=b /o /o
ENV A=1";

#[test]
fn what_is_the_same_for_all_platforms_is_there_once() {
    let (graph, goals) = joined(CROSS, &["linux/amd64", "linux/arm64"]);
    same(
        &dump::lines(&graph),
        "\
[linux/amd64 b 1/5] FROM --platform=linux/amd64 base AS b = 0
 load build context = 1
[linux/amd64 b 2/5] COPY . / = 2
[linux/amd64 b 3/5] RUN one = 3
[linux/amd64 b 4/5] ARG TARGETARCH after 3
[linux/amd64 b 5/5] RUN two = 4
[linux/amd64 stage-1 1/3] FROM base after 0
[linux/amd64 stage-1 2/3] COPY --from=b /o /o = 5
[linux/amd64 stage-1 3/3] ENV A=1 after 5
[linux/amd64->arm64 b 5/5] RUN two = 6
[linux/arm64 stage-1 1/3] FROM base = 7
[linux/arm64 stage-1 2/3] COPY --from=b /o /o = 8
[linux/arm64 stage-1 3/3] ENV A=1 after 8",
    );
    let results: Vec<StepId> = goals.iter().map(|goal| goal.image.result).collect();
    assert_eq!(results, [StepId(5), StepId(8)]);
    let numbers: Vec<usize> = graph.steps.iter().map(|step| step.number.0).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 5, 7, 9, 10, 11], "each its line");
}

#[test]
fn the_order_of_platforms_does_not_matter_to_what_is_remembered() {
    let slots = |platforms: &[&str]| {
        let mut slots: Vec<String> =
            joined(CROSS, platforms).0.steps.into_iter().map(|step| step.slot).collect();
        slots.sort();
        slots
    };
    let expected = [
        "b/1",
        "b/2",
        "b/3",
        "b/3 linux/arm64",
        "base/base",
        "base/base",
        "context/",
        "stage-1/1",
        "stage-1/1 linux/arm64",
    ];
    assert_eq!(slots(&["linux/amd64", "linux/arm64"]), expected);
    assert_eq!(slots(&["linux/arm64", "linux/amd64"]), expected);
    let alone: Vec<String> =
        joined(CROSS, &["linux/arm64"]).0.steps.into_iter().map(|step| step.slot).collect();
    assert!(expected.contains(&alone[4].as_str()) && alone[4].ends_with("arm64"), "{alone:?}");
}

#[test]
fn one_platform_is_not_named() {
    let plan = build(CROSS).platform("linux/arm64").plan();
    let lines = dump::listing(&plan);
    assert!(lines.contains("[b 5/5] RUN two = 4\n"), "{lines}");
    let (graph, goals) = join(vec![plan]);
    assert_eq!(dump::lines(&graph), lines);
    assert_eq!(goals.len(), 1);
}

/// Nothing in these stages asks which platform they are for.
#[test]
fn an_image_of_files_alone_is_the_same_everywhere() {
    let (graph, goals) = joined("FROM scratch\nCOPY a /\nENV B=1", &["linux/arm64", "linux/riscv64"]);
    let lines = "[1/3] FROM scratch = 0\n load build context = 1\n[2/3] COPY a / = 2\n[3/3] ENV B=1 after 2";
    same(&dump::lines(&graph), lines);
    assert_eq!(goals[0].image.result, goals[1].image.result);
    let platforms: Vec<String> = goals.iter().map(|goal| goal.image.config.platform().to_string()).collect();
    assert_eq!(platforms, ["linux/arm64", "linux/riscv64"]);
}

/// One base is named by different instructions first.
#[test]
fn a_line_stays_where_its_source_was_named_before() {
    let text = "FROM base AS a\nFROM --platform=$BUILDPLATFORM base AS b\nRUN x\nFROM a\nCOPY --from=b / /b";
    let (graph, _) = joined(text, &["linux/amd64", "linux/arm64"]);
    same(
        &dump::lines(&graph),
        "\
[linux/amd64 a 1/1] FROM base AS a = 0
[linux/amd64 b 1/2] FROM --platform=linux/amd64 base AS b after 0
[linux/amd64 b 2/2] RUN x = 1
[linux/amd64 stage-2 1/2] FROM a after 0
[linux/amd64 stage-2 2/2] COPY --from=b / /b = 2
[linux/arm64 a 1/1] FROM base AS a = 3
[linux/arm64 stage-2 1/2] FROM a after 3
[linux/arm64 stage-2 2/2] COPY --from=b / /b = 4",
    );
}

#[test]
fn images_that_are_copied_from_name_their_platform() {
    let (graph, _) = joined("FROM scratch\nCOPY --from=busy /a /", &["linux/amd64", "linux/arm/v7"]);
    let lines = dump::lines(&graph);
    for line in ["[linux/amd64] image busy:latest = 1\n", "[linux/arm/v7] image busy:latest = 3\n"] {
        assert!(lines.contains(line), "{lines}");
    }
}

#[test]
fn a_variant_alone_makes_another_platform() {
    let (graph, _) = joined(CROSS, &["linux/amd64", "linux/amd64/v2"]);
    let lines = dump::lines(&graph);
    assert!(lines.contains("[linux/amd64/v2 stage-1 2/3] COPY"), "{lines}");
    assert_eq!(lines.matches("RUN two").count(), 1, "TARGETARCH is the same: {lines}");
}

#[test]
fn an_image_that_is_taken_for_all_platforms_is_one_base() {
    let plan = |platform: &str| {
        build("FROM single\nCOPY a /\nRUN x\nENV A=1").image("single", "{}").platform(platform).plan()
    };
    let (graph, _) = join(vec![plan("linux/amd64"), plan("linux/amd64/v2")]);
    same(
        &dump::lines(&graph),
        "\
[1/4] FROM single = 0
 load build context = 1
[2/4] COPY a / = 2
[linux/amd64 3/4] RUN x = 3
[linux/amd64 4/4] ENV A=1 after 3
[linux/amd64/v2 3/4] RUN x = 4
[linux/amd64/v2 4/4] ENV A=1 after 4",
    );
}
