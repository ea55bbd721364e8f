//! Build checks that need expansion, and unused build arguments.

use super::{build, messages, same};

#[track_caller]
fn check(text: &str, expected: &str) {
    same(&messages(&build(text).plan().warnings), expected);
}

#[test]
fn of_variables() {
    check(
        "FROM base\nENV A=$NOPE\nENV B=$PATHH",
        "2:7 warning: UndefinedVar: Usage of undefined variable '$NOPE'
        3:7 warning: UndefinedVar: Usage of undefined variable '$PATHH' (did you mean $PATH?)",
    );
    check("FROM base\nARG A\nENV B=$A", "");
    check("FROM base\nRUN echo $NOPE", "");
    check("FROM base\n# check=skip=UndefinedVar\nENV A=$NOPE", "");
    check("# check=skip=all\nFROM base\nENV A=$NOPE", "");
    // Stages that are not needed are not looked at.
    check("FROM base\nENV A=$NOPE\nFROM base", "");
}

#[test]
fn of_from() {
    check(
        "ARG TAGG=1\nFROM base$TAG",
        "2:6 warning: UndefinedArgInFrom: FROM argument 'TAG' is not declared (did you mean TAGG?)",
    );
    check(
        "FROM --platform=linux/amd64 base",
        "1:17 warning: FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\"",
    );
    check("FROM --platform=linux/amd64 base AS amd64", "");
    check(
        "FROM --platform=$TARGETPLATFORM base",
        "1:17 warning: RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    );
    let plan = build("ARG IMG\nFROM $IMG").arg("IMG", "base").plan();
    same(
        &messages(&plan.warnings),
        "2:6 warning: InvalidDefaultArgInFrom: Default value for ARG $IMG results in empty or invalid base image name",
    );
    let plan = build("FROM base\nRUN x").platform("linux/arm64").plan();
    same(
        &messages(&plan.warnings),
        "1:6 warning: InvalidBaseImagePlatform: Base image base was pulled with platform \"linux/amd64\", expected \"linux/arm64\" for current build",
    );
}

#[test]
fn of_expanded_words() {
    check(
        "FROM base\nARG D=rel\nWORKDIR $D\nWORKDIR sub",
        "3:9 warning: WorkdirRelativePath: Relative workdir \"rel\" can have unexpected results if the base image changes",
    );
    check(
        "FROM base\nARG P=80/TCP\nEXPOSE $P",
        "3:8 warning: ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
    );
    check("FROM base\nEXPOSE 1:80/TCP", "2:8 warning: ExposeProtoCasing: Defined protocol '1:80/TCP' in EXPOSE instruction should be lowercase
        2:8 warning: ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1:80/TCP'");
}

#[test]
fn a_shell_that_the_base_chose_needs_no_json() {
    check(
        "FROM base\nCMD x",
        "2:1 warning: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    );
    let plan = build("FROM shelly\nCMD x").image("shelly", r#"{"Shell":["/bin/sh","-ec"]}"#).plan();
    same(&messages(&plan.warnings), "");
}

#[test]
fn of_triggers_stand_at_from() {
    let plan = build("FROM scratch AS x\nFROM trig").image("trig", r#"{"OnBuild":["ENV A=$NOPE"]}"#).plan();
    same(
        &messages(&plan.warnings),
        "2:1 warning: UndefinedVar: Usage of undefined variable '$NOPE' (in the ONBUILD trigger `ENV A=$NOPE` of the base image)",
    );
}

#[test]
fn that_fail_the_build() {
    same(
        &build("# check=error=true\nFROM base\nWORKDIR rel").faults(),
        "3:9 warning: WorkdirRelativePath: Relative workdir \"rel\" can have unexpected results if the base image changes
         1:1 lint violation found for rules: WorkdirRelativePath",
    );
}

#[test]
fn of_unused_build_arguments() {
    let text = "ARG GLOBAL\nFROM base\nARG VERSION";
    let plan = build(text)
        .arg("VERSOIN", "1")
        .arg("GLOBAL", "1")
        .arg("http_proxy", "x")
        .arg("TARGETARCH", "x")
        .plan();
    same(
        &messages(&plan.warnings),
        "warning: build argument `VERSOIN` is not used: no ARG declares it (did you mean `VERSION`?)",
    );
    let plan = build(text).arg("X1", "1").arg("Y2", "1").plan();
    same(&messages(&plan.warnings), "warning: build arguments `X1`, `Y2` are not used: no ARG declares them");
}
