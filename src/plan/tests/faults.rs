//! Mistakes: what is said, where, and how to go on.

use super::{build, same};

#[test]
fn of_stages() {
    for (text, expected) in [
        (
            "FROM Local/Upper:1",
            "1:6 failed to parse image name `Local/Upper:1`: the repository's name must be lower case",
        ),
        (
            "ARG NOPE\nFROM $NOPE",
            "2:6 base name (`$NOPE`) should not be blank (give it a value: `ARG NOPE=…` above the first FROM, or --build-arg NOPE=…)",
        ),
        (
            "FROM base AS Dev\nFROM Dev",
            "2:6 failed to parse image name `Dev`: the repository's name must be lower case (FROM minds the case of stage names: `dev`)",
        ),
        (
            "FROM --platform=$TARGETPLATFROM base",
            "1:17 empty platform value from expression `$TARGETPLATFROM` (did you mean `TARGETPLATFORM`?)",
        ),
        (
            "FROM --platform=a/b/c/d base",
            "1:17 failed to parse platform: `a/b/c/d` is no platform of the form os/architecture[/variant], such as linux/arm64",
        ),
        (
            "FROM scratch\nCOPY --from=7 /x /x",
            "2:13 invalid stage index 7 (this file has one stage, number 0)",
        ),
        (
            "FROM scratch AS b\nFROM base\nCOPY --from=$S /x /x",
            "3:13 variable expansion is not supported for --from (name a stage for it above: `FROM $S AS …`, with ARG before the first FROM)",
        ),
        (
            "FROM base AS me\nCOPY --from=me /x /x",
            "1:1 circular dependency detected on stage: `me` (stage `me` needs its own files)",
        ),
        (
            "FROM base AS a\nCOPY --from=b /x /x\nFROM base AS b\nCOPY --from=a /x /x",
            "1:1 circular dependency detected on stage: `a` (each needs the next: `a` → `b` → `a`)",
        ),
        (
            "FROM base AS a\nCOPY --from=b /x /x\nFROM base AS b\nFROM a",
            "2:13 cannot copy from stage `b`, it needs to be defined before current stage `a` (move the stage on line 3 up)",
        ),
        (
            "FROM base AS a\nRUN --mount=from=b,target=/b x\nFROM base AS b\nFROM a",
            "2:13 cannot mount from stage `b`, it needs to be defined before current stage `a` (move the stage on line 3 up)",
        ),
    ] {
        same(&build(text).faults(), expected);
    }
}

#[test]
fn of_targets() {
    let text = "FROM base AS build\nFROM base AS test\nFROM scratch";
    same(
        &build(text).target("biuld").faults(),
        "target stage \"biuld\" could not be found (did you mean `build`?)",
    );
    same(
        &build(text).target("0").faults(),
        "target stage \"0\" could not be found (the stages are `build`, `test`)",
    );
    same(&build("FROM scratch").target("x").faults(), "target stage \"x\" could not be found");
}

#[test]
fn several_at_once() {
    let text =
        "FROM scratch\nEXPOSE http\nSTOPSIGNAL nope\nVOLUME \"\"\nCOPY --chmod=99 a /a\nRUN --network=host x";
    same(
        &build(text).faults(),
        "2:8 invalid containerPort `http`: `http` is no number
         3:12 invalid signal: `nope`
         4:8 VOLUME specified can not be an empty string
         5:14 invalid chmod parameter: `99`: it should be octal string and between 0 and 07777, such as `0644` or `0755`
         6:15 network.host is not allowed (allow it with `--allow network.host`)",
    );
    let text = "FROM A\nFROM B\nFROM base\nCOPY --from=9 a /a";
    assert_eq!(build(text).faults().lines().count(), 2);
}

#[test]
fn of_instructions() {
    for (instruction, expected) in [
        ("COPY http://h/x /d", "2:6 source can't be a URL for COPY (ADD takes it)"),
        ("COPY git@h:x /d", "2:6 source can't be a git ref for COPY (ADD takes it)"),
        (
            "ADD --checksum=sha256:12 http://h/x /d",
            "2:16 invalid checksum `sha256:12`: it must be a digest such as sha256:<64 hex digits>",
        ),
        (
            "ADD --checksum=foobar https://h/r.git /d",
            "2:16 invalid checksum `foobar`: it must be a commit in hex digits",
        ),
        ("ADD --checksum=sha256:12 x /d", "2:16 checksum requires HTTP(S) or Git sources"),
        ("ADD --checksum=sha256:12 x y /d/", "2:16 checksum can't be specified for multiple sources"),
        (
            "ENV A=\"${X?please set it}\"",
            "2:7 failed to process `\"${X?please set it}\"`: X: please set it (give it a value: `--build-arg X=…`, or `ARG X=…`)",
        ),
        (
            "RUN --security=insecure x",
            "2:16 security.insecure is not allowed (allow it with `--allow security.insecure`)",
        ),
        ("RUN --mount=target=/ x", "2:13 invalid mount target \"/\" (say where to mount it: `target=/PATH`)"),
        ("RUN --mount=type=ssh,source=x y", "2:13 ssh does not support source"),
        (
            "RUN --mount=typ=cache,target=/c y",
            "2:13 unexpected key `typ` in `typ=cache` (did you mean `type`?)",
        ),
    ] {
        same(&build(&format!("FROM scratch\n{instruction}")).faults(), expected);
    }
}

#[test]
fn of_triggers() {
    let bad = build("FROM scratch AS x\nFROM trig").image("trig", r#"{"OnBuild":["FROM scratch"]}"#);
    same(
        &bad.faults(),
        "1:1 FROM isn't allowed as an ONBUILD trigger (this is an ONBUILD trigger of the base image `trig` on line 2)",
    );
    let bad = build("FROM trig").image("trig", r#"{"OnBuild":["STOPSIGNAL nope"]}"#);
    same(
        &bad.faults(),
        "1:12 invalid signal: `nope` (this is an ONBUILD trigger of the base image `trig`, fired by line 1)",
    );
}

#[test]
fn of_the_epoch() {
    same(
        &build("FROM scratch").arg("SOURCE_DATE_EPOCH", "yesterday").faults(),
        "invalid SOURCE_DATE_EPOCH `yesterday`: it must be seconds since 1970, `context`, or the name of a context or stage",
    );
    same(
        &build("ARG SOURCE_DATE_EPOCH=x\nFROM scratch").faults(),
        "1:5 invalid SOURCE_DATE_EPOCH `x`: it must be seconds since 1970, `context`, or the name of a context or stage",
    );
}

#[test]
fn a_long_way_of_stages_is_no_danger() {
    let mut text = String::new();
    for number in 0..5_000 {
        text.push_str(&format!("FROM scratch AS s{number}\nCOPY --from=s{} a /a\n", number + 1));
    }
    text.push_str("FROM scratch AS s5000\nCOPY --from=s0 a /a\n");
    assert!(build(&text).faults().starts_with("1:1 circular dependency detected on stage: `s0`"));
}

#[test]
fn of_files_that_would_need_too_much_memory() {
    let variables = (0..=10_000).map(|n| format!("ENV v{n}=x\n"));
    let text = format!("FROM base\n{}RUN true", variables.collect::<String>());
    same(&build(&text).faults(), "10001:1 more than 10000 variables in one stage");
    // A thousand commands with a thousand ARGs each have them all in their line of the history.
    let value = "x".repeat(1000);
    let pairs = (0..1_000).map(|n| format!(" v{n}={value}"));
    let text = format!("FROM base\nARG{}\n{}", pairs.collect::<String>(), "RUN true\n".repeat(1_000));
    let expected = "the variables of all RUN instructions up to here are too many to carry along";
    let faults = build(&text).faults();
    assert!(faults.contains(expected), "{faults}");
}

/// Of what many stages take over there is a copy each, whether they begin with a base image or continue a stage.
#[test]
fn of_copies_that_would_need_too_much_memory() {
    let large = format!(r#"{{"Labels":{{"a":"{}"}}}}"#, "x".repeat(8 << 20));
    let needed = (0..100).map(|n| format!("COPY --from=s{n} / /\n")).collect::<String>();
    for (first, continued) in [("", "large"), ("FROM large AS first\n", "first")] {
        let stages = (0..100).map(|n| format!("FROM {continued} AS s{n}\n")).collect::<String>();
        let text = format!("{first}{stages}FROM scratch\n{needed}");
        let faults = build(&text).image("large", &large).faults();
        let expected = "6 the configurations of all stages up to here are too large to carry along";
        assert!(faults.lines().all(|fault| fault.ends_with(expected)), "{continued}: {faults}");
        // 64 of them are 512 MiB, and labels are not all that they have.
        let line: usize = faults.split(':').next().unwrap().parse().unwrap();
        assert_eq!(line, 64, "{continued}: {faults}");
    }
}

#[test]
fn of_triggers_that_would_take_minutes_together() {
    let needed = |stages: usize| (0..stages).map(|n| format!("COPY --from=s{n} / /\n")).collect::<String>();
    let stages = |count: usize| (0..count).map(|n| format!("FROM a AS s{n}\n")).collect::<String>();
    let file = |count| {
        let triggers = "ONBUILD LABEL a=1\n".repeat(1_000);
        format!("FROM scratch AS a\n{triggers}{}FROM scratch\n{}", stages(count), needed(count))
    };
    build(&file(100)).plan();
    same(&build(&file(101)).faults(), "1102:6 more than 100000 triggers in all stages up to here");
    let base = format!(r#"{{"OnBuild":[{}"LABEL a=1"]}}"#, r#""LABEL a=1","#.repeat(999));
    let text = format!("{}FROM scratch\n{}", stages(101), needed(101));
    let faults = build(&text).image("a", &base).faults();
    same(&faults, "101:6 more than 100000 triggers in all stages up to here");
}

#[test]
fn of_words_that_would_take_minutes_together() {
    // What is looked up counts by its length: as cheap to reach as the bound can be.
    let value = "x".repeat(1_000_000);
    let text = format!("FROM base\nARG v={value}\n{}", "LABEL a=${v:+}\n".repeat(1_100));
    let expected = "the substitutions up to here are too costly together";
    let faults = build(&text).faults();
    assert!(faults.contains(expected), "{faults}");
}
