//! ARG and ENV: who sees what.

use super::{Build, ContextSource, EpochSource, build, dump, epoch_source, same};

/// What a RUN at the end sees of ARG and ENV, without PATH.
fn seen(text: &str, arguments: &[(&str, &str)]) -> String {
    let text = format!("{text}\nRUN true");
    let build = arguments.iter().fold(build(&text), |build, (name, value)| build.arg(name, value));
    let plan = build.plan();
    let Some(super::graph::Op::Exec { op: exec, .. }) = plan.graph.steps.last().map(|step| step.op.clone())
    else {
        panic!("no RUN")
    };
    let pairs = exec.env.iter().filter(|(name, _)| name != "PATH");
    pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn scopes() {
    for (text, arguments, expected) in [
        // A global ARG must be declared again.
        ("ARG G=glob\nFROM base", &[] as &[(&str, &str)], ""),
        ("ARG G=glob\nFROM base\nARG G", &[], "G=glob"),
        ("ARG G=glob\nFROM base\nARG G=stage", &[], "G=stage"),
        ("ARG G=glob\nFROM base\nARG G=stage", &[("G", "cli")], "G=cli"),
        ("ARG G\nFROM base\nARG G", &[], ""),
        ("FROM base\nARG A=d", &[("A", "")], "A="),
        ("FROM base\nARG A", &[], ""),
        ("FROM base", &[("A", "1")], ""),
        ("FROM base\nARG A=1 B=${A}x", &[], "A=1 B=1x"),
        ("FROM base\nARG Q=\"two words\"\nARG E=es\\ caped", &[], "Q=two words E=es caped"),
        // The last writer wins, whichever instruction it is.
        ("FROM base\nENV A=env\nARG A=arg", &[], "A=arg"),
        ("FROM base\nARG A=arg\nENV A=env", &[], "A=env"),
        ("FROM base\nARG V=1\nENV V=${V:-9}\nENV L=v$V", &[("V", "7")], "V=7 L=v7"),
        // A pair sees the environment before its line.
        ("FROM base\nENV A=1\nENV A=2 B=$A", &[], "A=2 B=1"),
        // ARG goes along into a stage built on its own.
        ("FROM base AS a\nARG A=1\nFROM a", &[], "A=1"),
        ("FROM base AS a\nENV A=env\nARG A=arg\nFROM a", &[], "A=env"),
        ("FROM base AS a\nARG A=1\nFROM base", &[], ""),
        ("FROM base\nARG TARGETARCH", &[], "TARGETARCH=amd64"),
        (
            "FROM base\nARG TARGETARCH=mine\nARG TARGETOS",
            &[("TARGETOS", "plan9")],
            "TARGETARCH=mine TARGETOS=plan9",
        ),
        ("FROM base AS Final\nARG TARGETSTAGE", &[], "TARGETSTAGE=final"),
        ("FROM base\nARG TARGETSTAGE", &[], "TARGETSTAGE=default"),
        ("FROM base\nARG BUILDKIT_SBOM_SCAN_STAGE=true", &[], ""),
    ] {
        assert_eq!(seen(text, arguments), expected, "{text} {arguments:?}");
    }
}

#[test]
fn platform_arguments() {
    let text = "FROM base\nARG TARGETPLATFORM TARGETVARIANT BUILDPLATFORM\nRUN true";
    same(
        &dump::history(&build(text).platform("linux/arm/v7").plan()),
        "ARG TARGETPLATFORM=linux/arm/v7 TARGETVARIANT=v7 BUILDPLATFORM=linux/amd64
         RUN |3 TARGETPLATFORM=linux/arm/v7 TARGETVARIANT=v7 BUILDPLATFORM=linux/amd64 /bin/sh -c true # buildkit @1",
    );
}

#[test]
fn history_names_arguments_and_the_configuration_only_env() {
    let plan = build("FROM base\nENV A=env\nARG A=arg D\nRUN x\nARG A=later\nENV A=now\nRUN y").plan();
    same(
        &dump::history(&plan),
        "ENV A=env
         ARG A=arg D
         RUN |2 A=arg D= /bin/sh -c x # buildkit @1
         ARG A=later
         ENV A=now
         RUN |2 A=now D= /bin/sh -c y # buildkit @2",
    );
    same(&dump::config(&plan), r#"{"Env":["PATH=/bin","A=now"],"Cmd":["sh"]}"#);
}

#[test]
fn proxies_need_no_arg_and_leave_no_trace() {
    let text = "FROM base\nRUN x";
    let plan = build(text).arg("HTTP_PROXY", "http://p").arg("no_proxy", "x").plan();
    same(
        &dump::steps(&plan),
        r#"0 base base
           1 exec ["/bin/sh", "-c", "x"] env=PATH=/bin proxy=HTTP_PROXY=http://p,http_proxy=http://p,NO_PROXY=x,no_proxy=x cwd=/ user=`` on 0"#,
    );
    same(&dump::history(&plan), "RUN /bin/sh -c x # buildkit @1");
    assert!(plan.warnings.is_empty());

    let plan = build("FROM base\nARG HTTP_PROXY\nRUN x").arg("HTTP_PROXY", "http://p").plan();
    same(
        &dump::history(&plan),
        "ARG HTTP_PROXY=http://p
         RUN |1 HTTP_PROXY=http://p /bin/sh -c x # buildkit @1",
    );
    assert!(dump::steps(&plan).contains("proxy=http_proxy=http://p "), "{}", dump::steps(&plan));
}

#[test]
fn epoch() {
    let text = "ARG SOURCE_DATE_EPOCH=5\nFROM scratch\nWORKDIR /w\nCOPY a /a";
    for (build, epoch) in [
        (build(text), Some(5)),
        (build(text).arg("SOURCE_DATE_EPOCH", "7"), Some(7)),
        (build(text).arg("SOURCE_DATE_EPOCH", ""), None),
        (build("FROM scratch").arg("SOURCE_DATE_EPOCH", "-1"), Some(-1)),
        (build("FROM scratch"), None),
    ] {
        assert_eq!(build.plan().goal.epoch, epoch);
    }
    let mut from_environment = build("ARG SOURCE_DATE_EPOCH=5\nFROM base\nARG SOURCE_DATE_EPOCH\nRUN x");
    from_environment.options.epoch = Some("9".to_owned());
    assert_eq!(from_environment.plan().goal.epoch, Some(9));
    assert!(dump::history(&from_environment.plan()).contains("|1 SOURCE_DATE_EPOCH=9 "));
    assert_eq!(from_environment.arg("SOURCE_DATE_EPOCH", "").plan().goal.epoch, None);
    same(
        &dump::steps(&build(text).plan()),
        "0 scratch
         1 workdir /w user=`` epoch=5 on 0
         2 local ``
         3 copy 2:a -> /a epoch=5 on 1",
    );
}

#[test]
fn an_epoch_by_name() {
    let source = |build: &Build| epoch_source(&build.file().unwrap(), &build.options).unwrap();
    let named = |build: Build, name: &str| build.arg("SOURCE_DATE_EPOCH", name);
    let remote = |url: &str, checksum: Option<&str>| {
        Some(EpochSource::Remote { url: url.to_owned(), checksum: checksum.map(str::to_owned) })
    };
    assert_eq!(source(&build("FROM base")), None);
    assert_eq!(source(&named(build("FROM base"), "7")), None);
    assert_eq!(source(&named(build("FROM base"), "context")), Some(EpochSource::Context));
    assert_eq!(source(&build("ARG SOURCE_DATE_EPOCH=context\nFROM base")), Some(EpochSource::Context));
    let git = ContextSource::Git("https://h/r.git".to_owned());
    let with_context = build("FROM scratch AS lib\nADD https://h/a /").context("lib", git.clone());
    assert_eq!(source(&named(with_context, "lib")), Some(EpochSource::Named(git)));
    let stage = "ARG V=1\nFROM scratch AS Src\nARG W=2\nADD https://h/a-$V-$W /\nFROM base";
    assert_eq!(source(&named(build(stage), "src")), remote("https://h/a-1-2", None));
    let stage = "FROM scratch AS src\nADD --checksum=abc https://h/r.git#main /\nFROM base";
    assert_eq!(source(&named(build(stage), "src")), remote("https://h/r.git#main", Some("abc")));
    for (stage, fault) in [
        ("FROM base AS src\nADD https://h/a /", "FROM scratch"),
        ("FROM scratch AS src\nADD a /", "exactly one ADD, of one URL"),
        ("FROM scratch AS src\nADD https://h/a https://h/b /", "exactly one ADD"),
        ("FROM scratch AS src\nADD https://h/a /\nADD https://h/b /", "exactly one ADD"),
        ("FROM scratch AS src", "exactly one ADD"),
        ("FROM scratch AS src\nRUN x", "has no RUN, only ADD and ARG"),
    ] {
        let faults = named(build(stage), "src").faults();
        assert!(faults.contains(fault), "{stage}: {faults}");
    }
}

#[test]
fn an_epoch_that_was_looked_up_is_as_if_it_had_been_given() {
    let text = "ARG SOURCE_DATE_EPOCH=context\nFROM base\nARG SOURCE_DATE_EPOCH\nRUN x";
    for mut build in [build(text), build(text).arg("SOURCE_DATE_EPOCH", "context")] {
        assert_eq!(build.plan().goal.epoch, None, "what has no time leaves it unset");
        assert!(!dump::history(&build.plan()).contains("=context"));
        build.options.epoch_of_source = Some(9);
        assert_eq!(build.plan().goal.epoch, Some(9));
        assert!(dump::history(&build.plan()).contains("|1 SOURCE_DATE_EPOCH=9 "));
    }
}
