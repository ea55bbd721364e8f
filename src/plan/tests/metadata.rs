//! Instructions that change the configuration only.

use super::{build, dump, same};

/// Configuration (without PATH and the base's CMD where they are as they were) and history of
/// instructions on `base`.
#[track_caller]
fn check(instructions: &str, config: &str, history: &str) {
    let plan = build(&format!("FROM base\n{instructions}")).plan();
    let shown =
        dump::config(&plan).replace(r#""Env":["PATH=/bin"],"#, "").replace(r#""Env":["PATH=/bin"]"#, "");
    assert_eq!(
        shown.replace(r#""Cmd":["sh"],"#, "").replace(r#""Cmd":["sh"]"#, ""),
        config,
        "{instructions}"
    );
    same(&dump::history(&plan), history);
}

#[test]
fn commands() {
    check("CMD [\"a\", \"b c\"]", r#"{"Cmd":["a","b c"],"ArgsEscaped":true}"#, r#"CMD ["a" "b c"]"#);
    check(
        "CMD a \"b\"",
        r#"{"Cmd":["/bin/sh","-c","a \"b\""],"ArgsEscaped":true}"#,
        r#"CMD ["/bin/sh" "-c" "a \"b\""]"#,
    );
    check("CMD", r#"{"Cmd":["/bin/sh","-c",""],"ArgsEscaped":true}"#, r#"CMD ["/bin/sh" "-c" ""]"#);
    check("CMD []", r#"{"ArgsEscaped":true}"#, "CMD []");
    check("ENTRYPOINT [\"e\"]", r#"{"Entrypoint":["e"]}"#, r#"ENTRYPOINT ["e"]"#);
    check("ENTRYPOINT []", "{}", "ENTRYPOINT []");
    check(
        "CMD [\"c\"]\nENTRYPOINT e",
        r#"{"Entrypoint":["/bin/sh","-c","e"],"Cmd":["c"],"ArgsEscaped":true}"#,
        "CMD [\"c\"]\nENTRYPOINT [\"/bin/sh\" \"-c\" \"e\"]",
    );
    check(
        "SHELL [\"/bin/bash\", \"-ec\"]\nCMD x",
        r#"{"Cmd":["/bin/bash","-ec","x"],"ArgsEscaped":true,"Shell":["/bin/bash","-ec"]}"#,
        "SHELL [/bin/bash -ec]\nCMD [\"/bin/bash\" \"-ec\" \"x\"]",
    );
}

#[test]
fn ports() {
    check(
        "EXPOSE 80 443/tcp 53/UDP 7000-7001",
        r#"{"ExposedPorts":{"443/tcp":{},"53/udp":{},"7000/tcp":{},"7001/tcp":{},"80/tcp":{}},}"#,
        "EXPOSE [443/tcp 53/udp 7000/tcp 7001/tcp 80/tcp]",
    );
    check(
        "ARG P=\"8080 9090/udp\"\nEXPOSE $P 127.0.0.1:1:2",
        r#"{"ExposedPorts":{"2/tcp":{},"8080/tcp":{},"9090/udp":{}},}"#,
        "ARG P=8080 9090/udp\nEXPOSE [8080/tcp 9090/udp 2/tcp]",
    );
}

#[test]
fn healthchecks() {
    check(
        "HEALTHCHECK NONE",
        r#"{"Healthcheck":{"Test":["NONE"]}}"#,
        "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
    );
    check(
        "HEALTHCHECK --interval=5m --start-period=1m30s --retries=4 CMD x || y",
        r#"{"Healthcheck":{"Test":["CMD-SHELL","x || y"],"Interval":300000000000,"StartPeriod":90000000000,"Retries":4}}"#,
        "HEALTHCHECK {Test:[CMD-SHELL x || y] Interval:5m0s Timeout:0s StartPeriod:1m30s StartInterval:0s Retries:4}",
    );
    check(
        "HEALTHCHECK CMD [\"a\",\"b\"]",
        r#"{"Healthcheck":{"Test":["CMD","a","b"]}}"#,
        "HEALTHCHECK {Test:[CMD a b] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
    );
}

#[test]
fn the_rest() {
    check(
        "LABEL a=b \"c d\"='e f' g=$NOPE",
        r#"{"Labels":{"a":"b","c d":"e f","g":""}}"#,
        "LABEL a=b c d=e f g=",
    );
    check("LABEL old way here", r#"{"Labels":{"old":"way here"}}"#, "LABEL old=way here");
    check("ARG S=SIGUSR1\nSTOPSIGNAL $S", r#"{"StopSignal":"SIGUSR1"}"#, "ARG S=SIGUSR1\nSTOPSIGNAL SIGUSR1");
    check("ARG U=app\nUSER $U:staff", r#"{"User":"app:staff",}"#, "ARG U=app\nUSER app:staff");
    check(
        "ENV V=/x\nVOLUME $V/y /z",
        r#"{"Env":["PATH=/bin","V=/x"],"Volumes":{"/x/y":{},"/z":{}}}"#,
        "ENV V=/x\nVOLUME [/x/y /z]",
    );
    check("VOLUME [\"/a b\"]", r#"{"Volumes":{"/a b":{}}}"#, "VOLUME [/a b]");
    check("MAINTAINER Some <one@x>", "{}", "MAINTAINER Some <one@x>");
    assert_eq!(build("FROM base\nMAINTAINER me").plan().goal.image.config.author.as_deref(), Some("me"));
}

#[test]
fn labels_of_the_command_line_leave_no_history() {
    let mut build = build("FROM base\nLABEL a=file b=file");
    build.options.labels = vec![("a".to_owned(), "cli".to_owned())];
    let plan = build.plan();
    assert_eq!(plan.goal.image.config.config.labels["a"], "cli");
    same(&dump::history(&plan), "LABEL a=file b=file");
}

#[test]
fn workdirs() {
    let cases = [
        ("WORKDIR /a\nWORKDIR b/../c/", "/a/c"),
        ("WORKDIR //a//b//", "//a//b//"),
        ("WORKDIR rel", "/rel"),
        ("WORKDIR /a\nWORKDIR ..", "/"),
        ("ENV D=/d\nWORKDIR $D/\"x y\"", "/d/x y"),
    ];
    for (instructions, directory) in cases {
        let plan = build(&format!("FROM base\n{instructions}")).plan();
        assert_eq!(plan.goal.image.config.config.working_dir, directory, "{instructions}");
    }
    let plan = build("FROM base\nUSER app\nWORKDIR /a\nWORKDIR /\nRUN x").plan();
    same(
        &dump::steps(&plan),
        r#"0 base base
           1 workdir /a user=`app` on 0
           2 exec ["/bin/sh", "-c", "x"] env=PATH=/bin cwd=/ user=`app` on 1"#,
    );
    same(&dump::history(&plan), "USER app\nWORKDIR /a @1\nWORKDIR /\nRUN /bin/sh -c x # buildkit @2");
    let plan = build("FROM rich\nWORKDIR sub").image("rich", r#"{"WorkingDir":"/srv/app"}"#).plan();
    assert_eq!(plan.goal.image.config.config.working_dir, "/srv/app/sub");
}
