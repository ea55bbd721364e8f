//! Stages, bases, contexts, triggers and platforms.

use super::{ContextSource, build, dump, same, stage_hint};

#[test]
fn only_what_the_target_needs() {
    let text = "FROM base AS bad\nRUN false\nFROM other AS lib\nFROM tool AS t\nFROM base\n\
                COPY --from=lib /l /l\nRUN --mount=from=t,target=/t x";
    let with_images = || build(text).image("other", "{}").image("tool", "{}");
    assert_eq!(with_images().bases(), ["other linux/amd64", "tool linux/amd64", "base linux/amd64"]);
    same(
        &dump::steps(&with_images().plan()),
        r#"0 base other
           1 base tool
           2 base base
           3 copy 0:/l -> /l on 2
           4 exec ["/bin/sh", "-c", "x"] env=PATH=/bin cwd=/ user=`` mount /t bind 1:/ on 3"#,
    );
    same(&dump::steps(&with_images().target("LIB").plan()), "0 base other");
    assert_eq!(with_images().target("bad").bases(), ["base linux/amd64"]);
}

#[test]
fn sources_are_shared() {
    let text = "FROM base AS a\nCOPY x /x\nFROM base\nCOPY --from=a /x /x\nCOPY y z /d/\nADD w /w\n\
                COPY --from=tool:1 /t /t\nRUN --mount=from=tool:1,target=/t --mount=target=/c x\n\
                COPY --from=scratch / /s";
    let plan = build(text).plan();
    same(
        &dump::steps(&plan),
        r#"0 base base
           1 local ``
           2 copy 1:x -> /x on 0
           3 copy 2:/x -> /x on 0
           4 copy 1:y 1:z -> /d/ on 3
           5 add 1:w -> /w on 4
           6 image tool:1 linux/amd64
           7 copy 6:/t -> /t on 5
           8 exec ["/bin/sh", "-c", "x"] env=PATH=/bin cwd=/ user=`` mount /t bind 6:/ mount /c bind 1:/ on 7
           9 scratch
           10 copy 9:/ -> /s on 8"#,
    );
    same(
        &dump::listing(&plan),
        "[a 1/2] FROM base AS a = 0
         load build context = 1
         [a 2/2] COPY x /x = 2
         [stage-1 1/7] FROM base after 0
         [stage-1 2/7] COPY --from=a /x /x = 3
         [stage-1 3/7] COPY y z /d/ = 4
         [stage-1 4/7] ADD w /w = 5
         image tool:1 = 6
         [stage-1 5/7] COPY --from=tool:1 /t /t = 7
         [stage-1 6/7] RUN --mount=from=tool:1,target=/t --mount=target=/c x = 8
         scratch = 9
         [stage-1 7/7] COPY --from=scratch / /s = 10",
    );
    let slots: Vec<&str> = plan.graph.steps.iter().map(|step| step.slot.as_str()).collect();
    assert_eq!(slots[..6], ["base/base", "context/", "a/1", "stage-1/1", "stage-1/2", "stage-1/3"]);
}

#[test]
fn numbers_and_names() {
    let text = "FROM base\nRUN 0\nFROM base AS Build\nRUN 1\nFROM scratch\nCOPY --from=0 /f /zero\n\
                COPY --from=1 /f /one\nCOPY --from=bUILD /f /two";
    let steps = dump::steps(&build(text).plan());
    let copies: Vec<&str> = steps.lines().filter(|line| line.contains("copy")).collect();
    assert_eq!(copies, ["4 copy 1:/f -> /zero on 3", "5 copy 2:/f -> /one on 4", "6 copy 2:/f -> /two on 5"]);
    // A later stage of the same name takes it over; FROM sees only what is above.
    let text = "FROM base AS x\nRUN 1\nFROM x AS x\nRUN 2\nFROM scratch\nCOPY --from=x /f /f";
    assert!(dump::steps(&build(text).plan()).contains("copy 2:/f"));
}

#[test]
fn a_stage_carries_configuration_and_history() {
    let text =
        "FROM base AS a\nENV A=1\nRUN a\nUSER app\nCMD [\"a\"]\nFROM a AS b\nFROM b\nENTRYPOINT [\"e\"]";
    let plan = build(text).plan();
    same(
        &dump::history(&plan),
        r#"ENV A=1
           RUN /bin/sh -c a # buildkit @1
           USER app
           CMD ["a"]
           ENTRYPOINT ["e"]"#,
    );
    // The parent's CMD is inherited, so ENTRYPOINT clears it; ArgsEscaped stays.
    same(
        &dump::config(&plan),
        r#"{"User":"app","Env":["PATH=/bin","A=1"],"Entrypoint":["e"],"ArgsEscaped":true}"#,
    );
    assert_eq!(plan.goal.image.history.len(), 6);
}

#[test]
fn scratch_has_a_path_and_a_root() {
    let plan = build("FROM scratch\nLABEL a=b").plan();
    same(
        &dump::config(&plan),
        r#"{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/","Labels":{"a":"b"}}"#,
    );
    same(&dump::steps(&plan), "0 scratch");
    let plan = build("FROM bare\nRUN x").image("bare", "{}").plan();
    same(
        &dump::config(&plan),
        r#"{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}"#,
    );
}

#[test]
fn triggers_of_a_base_come_first_and_once() {
    let image =
        r#"{"Env":["PATH=/bin"],"OnBuild":["ENV T=yes","COPY trig.txt /t","RUN echo $T","LABEL t=on"]}"#;
    let plan = build("FROM trig AS a\nRUN mine\nFROM a\nRUN more").image("trig", image).plan();
    same(
        &dump::history(&plan),
        "ENV T=yes
         COPY trig.txt /t # buildkit @2
         RUN /bin/sh -c echo $T # buildkit @3
         LABEL t=on
         RUN /bin/sh -c mine # buildkit @4
         RUN /bin/sh -c more # buildkit @5",
    );
    same(&dump::config(&plan), r#"{"Env":["PATH=/bin","T=yes"],"Labels":{"t":"on"}}"#);
    assert!(dump::listing(&plan).contains("[a 4/6] ONBUILD RUN echo yes = 3"), "{}", dump::listing(&plan));
    assert!(plan.graph.steps[2].span.is_some_and(|span| (span.start, span.end) == (0, 14)));
}

#[test]
fn triggers_of_a_stage_skip_the_grandchild() {
    let text = "FROM base AS a\nONBUILD RUN x\nRUN own\nFROM a AS b\nFROM b\nRUN end";
    let plan = build(text).plan();
    same(
        &dump::history(&plan),
        "RUN /bin/sh -c own # buildkit @1
         RUN /bin/sh -c x # buildkit @2
         RUN /bin/sh -c end # buildkit @3",
    );
    let text = "FROM base\nONBUILD RUN x\nonbuild env X=\"y z\"";
    let plan = build(text).plan();
    same(&dump::config(&plan), r#"{"Env":["PATH=/bin"],"Cmd":["sh"],"OnBuild":["RUN x","env X=\"y z\""]}"#);
    same(&dump::history(&plan), "");
}

#[test]
fn a_trigger_can_need_further_stages() {
    let image = r#"{"OnBuild":["COPY --from=donor /gift /gift"]}"#;
    let text = "FROM far AS donor\nRUN gift\nFROM trig";
    let build = build(text).image("trig", image).image("far", "{}");
    assert_eq!(build.bases(), ["trig linux/amd64"]);
    let steps = dump::steps(&build.plan());
    assert!(steps.contains("copy 1:/gift -> /gift on 2"), "{steps}");
}

#[test]
fn contexts_replace_stages_and_images() {
    let dir = || ContextSource::Dir("/x".into());
    let text = "FROM base AS lib\nRUN x\nFROM scratch\nCOPY --from=lib /f /f\nCOPY --from=extra /e /e";
    let plan = build(text).context("lib", dir()).context("extra", dir()).plan();
    same(
        &dump::steps(&plan),
        "0 scratch
         1 local `lib`
         2 copy 1:/f -> /f on 0
         3 local `extra`
         4 copy 3:/e -> /e on 2",
    );
    let tiny = || ContextSource::Image("tiny:1".parse().unwrap());
    let replaced =
        build("FROM what/ever:tag\nCOPY a /a").context("what/ever:tag", tiny()).image("tiny:1", "{}");
    assert!(dump::steps(&replaced.plan()).starts_with("0 base what/ever:tag\n"));
    let replaced =
        build("FROM scratch\nCOPY --from=docker.io/library/debian:latest a /a").context("debian", tiny());
    assert!(dump::steps(&replaced.plan()).contains("image tiny:1 linux/amd64"));
    let layout = ContextSource::Layout { path: "./lay".to_owned(), selector: String::new() };
    let from_layout = build("FROM scratch\nCOPY --from=l a /a").context("l", layout).image("./lay", "{}");
    assert!(dump::steps(&from_layout.plan()).contains("1 base l\n"));
    // For one platform only.
    let text = "FROM base\nCOPY --from=base2 a /a";
    let plan = build(text).context("base2::linux/arm64", dir()).plan();
    assert!(dump::steps(&plan).contains("image base2:latest"));
}

#[test]
fn a_context_can_be_built_on() {
    let plan = build("FROM extra\nCOPY a /a").context("extra", ContextSource::Dir("/x".into())).plan();
    same(
        &dump::steps(&plan),
        "0 local `extra`
         1 scratch
         2 copy 0:/ -> / unpack=false on 1
         3 local ``
         4 copy 3:a -> /a on 2",
    );
    same(&dump::history(&plan), "COPY / / # buildkit @2\nCOPY a /a # buildkit @4");
    let git = ContextSource::Git("https://h/r.git#main".to_owned());
    let plan = build("FROM scratch\nCOPY --from=src a /a").context("src", git).plan();
    assert!(dump::steps(&plan).contains("add git https://h/r.git#main -> / unpack=false"));
}

#[test]
fn platforms() {
    let text = "FROM --platform=$BUILDPLATFORM base AS b\nFROM base\nCOPY --from=b /o /o";
    let plan = build(text).platform("linux/arm64");
    assert_eq!(plan.bases(), ["base linux/amd64", "base linux/arm64"]);
    // What the base says counts only when nobody named a platform.
    let text = "FROM --platform=linux/arm64 base\nCOPY a /a";
    assert_eq!(build(text).plan().goal.image.config.architecture, "amd64");
    assert_eq!(
        build("FROM base").platform("linux/arm/v7").plan().goal.image.config.platform().to_string(),
        "linux/arm/v7"
    );
    assert_eq!(build("FROM scratch").plan().goal.image.config.platform().to_string(), "linux/amd64");
    let plan = build("FROM scratch\nCOPY --from=multi /a /a").platform("linux/arm64").plan();
    assert!(dump::steps(&plan).contains("image multi:latest linux/arm64"));
}

#[test]
fn history_of_a_base_is_made_to_fit_its_layers() {
    for (layers, expected) in
        [(0, "base layer-"), (1, "base layer+"), (3, "base layer+ layer of base+ layer of base+")]
    {
        let mut build = build("FROM base");
        build.images[0].2 = layers;
        let entries: Vec<String> = build
            .plan()
            .goal
            .image
            .history
            .iter()
            .map(|entry| match entry {
                super::graph::HistoryPlan::Inherited(history) => {
                    let mark = if history.empty_layer { "-" } else { "+" };
                    format!("{}{mark}", history.created_by.clone().unwrap_or_default())
                }
                super::graph::HistoryPlan::Made { .. } => "made".to_owned(),
            })
            .collect();
        assert_eq!(entries.join(" "), expected);
    }
}

#[test]
fn a_hint_for_images_that_are_not_found() {
    let file = build("FROM base\nFROM base AS build\nCOPY --from=biuld /a /a").file().unwrap();
    assert_eq!(stage_hint(&file, "biuld").as_deref(), Some("did you mean `build`, defined on line 2?"));
    assert_eq!(stage_hint(&file, "debian"), None);
}
