//! The command line: what may be typed, and what it prints.

use crate::support::golden;
use crate::support::program::World;

/// A world with an image `app:1`, whose bytes are always the same.
fn built() -> (World, String) {
    let world = World::new();
    world
        .file("run.sh", "#!/bin/sh\n")
        .dockerfile("FROM scratch\nCOPY run.sh /\nVOLUME /data\nCMD [\"/run.sh\"]\n");
    world.set_mtime("run.sh", 1_700_000_000);
    let digest = world.build(["-t", "app:1", "-t", "localhost:5000/team/app"]).run().digest();
    (world, digest)
}

#[test]
fn help() {
    let world = World::new();
    for (name, words) in [
        ("help", vec!["--help"]),
        ("help-build", vec!["build", "--help"]),
        ("help-images", vec!["images", "--help"]),
        ("help-history", vec!["history", "--help"]),
        ("help-inspect", vec!["inspect", "--help"]),
        ("help-prune", vec!["prune", "--help"]),
        ("help-copy", vec!["copy", "--help"]),
    ] {
        let ran = world.rbuild(words).any_stdout().run();
        assert_eq!(ran.stderr, "");
        golden::check(&format!("cli/{name}"), &ran.stdout);
    }
}

#[test]
fn no_words_at_all_show_the_help() {
    let world = World::new();
    let ran = world.rbuild([""; 0]).any_stdout().run();
    assert_eq!(ran.stdout, world.rbuild(["--help"]).any_stdout().run().stdout);
}

#[test]
fn version() {
    let version = World::new().rbuild(["--version"]).any_stdout().run().stdout;
    assert!(version.starts_with(concat!("rbuild ", env!("CARGO_PKG_VERSION"))), "{version}");
}

#[test]
fn build_is_the_default_command() {
    let (world, digest) = built();
    assert_eq!(world.rbuild(["build", "-q", "."]).any_stdout().run().stdout, format!("{digest}\n"));
    assert_eq!(world.rbuild(["-q", "."]).any_stdout().run().stdout, format!("{digest}\n"));
}

#[test]
fn a_folder_named_like_a_command() {
    let world = World::new();
    world.file("images/hello", "").file("images/Dockerfile", "FROM scratch\nCOPY hello /\n");
    let ran = world.rbuild(["--progress=plain", "./images"]).run();
    assert!(ran.stderr.contains("built sha256:"), "{}", ran.stderr);
    // After an option, only a context can follow.
    let ran = world.rbuild(["--progress=plain", "-t", "x", "images"]).run();
    assert!(ran.stderr.contains("built sha256:"), "{}", ran.stderr);
    let listed = world.rbuild(["images"]).any_stdout().run();
    assert!(listed.stdout.starts_with("NAME"), "{}", listed.stdout);
}

#[test]
fn images_history_and_inspect() {
    let (world, digest) = built();
    let images = world.rbuild(["images"]).any_stdout().run().stdout;
    let words: Vec<Vec<&str>> =
        images.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    let short = &digest["sha256:".len()..][..12];
    assert_eq!(
        words,
        [
            vec!["NAME", "TAG", "DIGEST"],
            vec!["app", "1", short],
            vec!["localhost:5000/team/app", "latest", short]
        ]
    );
    world.rbuild(["images", "-q", "--no-trunc"]).stdout(format!("{digest}\n{digest}\n")).run();

    let history = world.rbuild(["history", "app:1"]).any_stdout().run().stdout;
    let made: Vec<&str> = history.lines().map(|line| line.rsplit("  ").next().unwrap()).collect();
    assert_eq!(made, ["CREATED BY", "CMD [\"/run.sh\"]", "VOLUME [/data]", "COPY run.sh /"]);

    let inspected = world.rbuild(["inspect", short]).any_stdout().run().stdout;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let inspected = &inspected[0];
    assert_eq!(inspected["Digest"], digest);
    assert_eq!(inspected["RepoTags"], serde_json::json!(["app:1", "localhost:5000/team/app:latest"]));
    assert_eq!(inspected["Config"]["Cmd"], serde_json::json!(["/run.sh"]));
    assert_eq!(inspected["Manifest"]["layers"].as_array().unwrap().len(), 1);
}

#[test]
fn a_name_that_is_not_there() {
    let (world, _) = built();
    for command in ["history", "inspect"] {
        let ran = world.rbuild([command, "apq:1"]).status(1).run();
        assert_eq!(
            ran.stderr.lines().filter(|line| *line != " |").collect::<Vec<_>>(),
            ["error: no image `apq:1` in the local store", " = help: did you mean `app:1`?"]
        );
    }
}

#[test]
fn other_tags_of_a_name_are_told() {
    let (world, _) = built();
    world.rbuild(["tag", "app:1", "app:2"]).run();
    let ran = world.rbuild(["inspect", "app"]).status(1).run();
    assert!(ran.stderr.contains("`app` means `app:latest`; there is `app:1`, `app:2`"), "{}", ran.stderr);
}

#[test]
fn a_store_that_is_not_there_yet_is_empty() {
    World::new().rbuild(["images"]).stdout("NAME  TAG  DIGEST  CREATED  SIZE  SHARED\n").run();
}

#[test]
fn the_store_can_be_named_by_the_environment() {
    let (world, digest) = built();
    let output = std::process::Command::new(world.program())
        .args(["images", "-q", "--no-trunc"])
        .env("RBUILD_ROOT", world.store())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{digest}\n{digest}\n"));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let (world, _) = built();
    let mut text = String::new();
    for words in [
        "--nope .",
        "--no-cach .",
        ".  extra",
        "-t x",
        "--progress=loud .",
        "-t UPPER .",
        "-t a:b:c .",
        "-o type=oic,dest=x .",
        "-o type=oci,dset=x .",
        "--platform what .",
        "--network bridge .",
        "--secret nothing .",
        "--allow everything .",
        "--build-context x .",
        "history",
        "inspect",
        "images --nope",
        "--root",
    ] {
        let ran = world.rbuild(words.split_whitespace()).status(2).run();
        text.push_str(&format!("$ rbuild {words}\n{}\n", ran.messages()));
    }
    golden::check("cli/usage", &text);
}

#[test]
fn progress_plain() {
    let (world, _) = built();
    world.dockerfile("FROM scratch\nCOPY run.sh /other\nCOPY run.sh /again\nCMD [\"/run.sh\"]\n");
    let ran = world.build([""; 0]).run();
    // The base and the context are ready at the same time: their lines come in any order.
    let mut lines: Vec<String> = ran.messages().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "  in TIME: 254 B in 2 layers; 2 steps ran",
            "#1 CACHED",
            "#1 [1/4] FROM scratch",
            "#2 CACHED",
            "#2 load build context",
            "#3 DONE TIME",
            "#3 [2/4] COPY run.sh /other",
            "#3 not cached: the destination changed",
            "#4 DONE TIME",
            "#4 [3/4] COPY run.sh /again",
            "#4 not cached: not built before",
            "#5 DONE (configuration only)",
            "#5 [4/4] CMD [\"/run.sh\"]",
            "built sha256:DIGEST",
        ]
    );
}

#[test]
fn a_first_build_does_not_say_that_it_was_not_built_before() {
    let world = World::new();
    world.file("a", "").file("b", "").dockerfile("FROM scratch\nCOPY a /\n");
    let ran = world.build([""; 0]).run();
    assert_eq!(ran.miss("COPY a /"), None, "{}", ran.stderr);
    assert!(ran.outcome("COPY a /").starts_with("DONE"), "{}", ran.stderr);
    world.dockerfile("FROM scratch\nCOPY a /\nCOPY b /\n");
    assert_eq!(world.build([""; 0]).run().miss("COPY b /"), Some("not built before"));
    let world = World::new();
    world.file("a", "").dockerfile("FROM scratch\nCOPY a /\n");
    let ran = world.rbuild(["--progress=json", "."]).run();
    assert!(
        ran.stderr.contains(r#""event":"missed""#) && ran.stderr.contains(r#""why":null"#),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_build_tells_its_result_in_lines_of_eighty_columns() {
    let (world, digest) = built();
    let ran = world.build(["-t", "app:2"]).run();
    let told: Vec<&str> = ran.stderr.lines().skip_while(|line| !line.starts_with("built ")).collect();
    assert_eq!(told[0], format!("built {digest}"));
    assert!(told[1].ends_with(": 128 B in 1 layer; nothing to do, all from the cache"), "{told:?}");
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|line| line.len() <= 80), "{told:?}");
}

/// Everywhere an image is as large as its layers are, compressed, each counted once.
#[test]
fn an_image_has_one_size() {
    let world = World::new();
    world
        .file("a", "a")
        .file("b", "b")
        .dockerfile("FROM scratch AS one\nCOPY a /\nFROM one\nCOPY b /\nLABEL size=none\n");
    world.build(["--target=one", "-t", "one"]).run();
    let ran = world.rbuild(["--progress=json", "-t", "two", "."]).run();
    let event = ran.stderr.lines().last().unwrap();
    let built: serde_json::Value = serde_json::from_str(event).unwrap();
    let stdout = |words: &[&str]| world.rbuild(words.iter().copied()).any_stdout().run().stdout;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();

    let layers = lines(&stdout(&["history", "two", "--format", "{{.Size}}"]));
    let layers: Vec<u64> = layers.iter().filter_map(|size| size.strip_suffix(" B")?.parse().ok()).collect();
    let size: u64 = layers.iter().sum();
    assert_eq!(layers.len(), 2);
    assert_eq!(built["size"], size);
    let told = format!("{size} B {} B {} B\n", layers[1], layers[0]);
    let sizes = "{{.Size}} {{.SharedSize}} {{.UniqueSize}}";
    assert_eq!(stdout(&["images", "two", "--format", sizes]), told);
    assert_eq!(stdout(&["inspect", "two", "-f", "{{.Size}}"]), format!("{size}\n"));

    // Both platforms have the same layers: they are there once.
    world.build(["--platform=linux/amd64,linux/arm64", "-t", "both"]).run();
    assert_eq!(stdout(&["images", "both", "--format", "{{.Size}}"]), format!("{size} B\n"));
    let both = stdout(&["inspect", "both", "-f", "{{.Size}} {{range .Platforms}}{{.Size}} {{end}}"]);
    assert_eq!(both, format!("{size} {size} {size} \n"));
}

#[test]
fn progress_json() {
    let (world, _) = built();
    let ran = world.rbuild(["--progress=json", "."]).run();
    let events: Vec<serde_json::Value> =
        ran.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds[0], "planned");
    assert_eq!(kinds.iter().filter(|kind| **kind == "finished").count(), 5, "{kinds:?}");
    let titles: Vec<&str> =
        events[0]["steps"].as_array().unwrap().iter().map(|step| step["title"].as_str().unwrap()).collect();
    assert!(titles.contains(&"COPY run.sh /"), "{titles:?}");
    // A failure is an event, too, and nothing but JSON is printed.
    world.dockerfile("FROM scratch\nCOPY nothing /\n");
    let ran = world.rbuild(["--progress=json", "."]).any_status().run();
    assert_eq!(ran.status, Some(1));
    let last: serde_json::Value =
        serde_json::from_str(ran.stderr.lines().last().unwrap()).expect(&ran.stderr);
    assert_eq!(last["diagnostic"]["labels"][0]["line"], 2, "{last}");
}

#[test]
fn progress_quiet_prints_errors_only() {
    let (world, _) = built();
    assert_eq!(world.rbuild(["--progress=quiet", "."]).run().stderr, "");
    world.dockerfile("FROM scratch\nCOPY nothing /\n");
    let ran = world.rbuild(["--progress=quiet", "."]).status(1).run();
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
}

#[test]
fn a_dockerfile_by_name_and_from_standard_input() {
    let (world, digest) = built();
    let text = std::fs::read_to_string(world.context().join("Dockerfile")).unwrap();
    world.file("docker/Other", &text);
    std::fs::remove_file(world.context().join("Dockerfile")).unwrap();
    for words in [["-f", "docker/Other"], ["-f", "-"]] {
        let ran = world.rbuild(["-q", "."]).args(words).stdin(text.clone()).any_stdout().run();
        assert_eq!(ran.stdout, format!("{digest}\n"), "{words:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (world, _) = built();
    let script = format!(
        "set -o pipefail; {} --root {} images | true",
        world.program().display(),
        world.store().display()
    );
    let status = std::process::Command::new("bash").args(["-c", &script]).status().unwrap();
    assert!(status.success());
}

#[test]
fn words_of_docker_are_answered() {
    let world = World::new();
    for (word, help) in [
        ("ps", "podman or docker run containers"),
        ("compose", "runs no services"),
        ("system", "`rbuild du`, `rbuild prune` and `rbuild doctor`"),
        ("help", "`rbuild --help`"),
    ] {
        let ran = world.rbuild([word]).status(2).run();
        assert!(ran.stderr.starts_with(&format!("error: rbuild has no command `{word}`")), "{}", ran.stderr);
        assert!(ran.stderr.contains(help) && !ran.stderr.contains("did you mean"), "{}", ran.stderr);
    }
    // A folder of that name is built.
    world.file("compose/Dockerfile", "FROM scratch\n");
    world.rbuild(["compose"]).any_stdout().remarks().run();
    let ran = world.rbuild(["run", "-d", "app"]).status(2).run();
    assert!(
        ran.stderr.contains("unexpected argument '-d'") && ran.stderr.contains("podman or docker"),
        "{}",
        ran.stderr
    );
}

#[test]
fn empty_variables_are_as_none() {
    let world = World::new();
    world.dockerfile("FROM scratch\n");
    let empty =
        ["RBUILD_ROOT", "RBUILD_JOBS", "BUILDKIT_PROGRESS", "DOCKER_DEFAULT_PLATFORM", "SOURCE_DATE_EPOCH"];
    empty.iter().fold(world.build([""; 0]), |build, name| build.env(name, "")).run();
    let ran = world.build([""; 0]).env("RBUILD_JOBS", "many").status(2).run();
    assert!(ran.stderr.contains("invalid value 'many' for '--jobs <N>'"), "{}", ran.stderr);
}

#[test]
fn variables_of_docker_count() {
    let world = World::new();
    world.dockerfile("FROM scratch\n");
    let ran = world.rbuild(["."]).env("BUILDKIT_PROGRESS", "rawjson").any_stdout().remarks().run();
    assert!(ran.stderr.starts_with('{'), "{}", ran.stderr);
    let ran = world.rbuild(["."]).env("BUILDKIT_PROGRESS", "loud").status(2).run();
    assert!(ran.stderr.contains("bad value `loud` for $BUILDKIT_PROGRESS"), "{}", ran.stderr);
    world.build(["-t", "a"]).env("DOCKER_DEFAULT_PLATFORM", "linux/arm64").run();
    world.rbuild(["inspect", "-f", "{{.Architecture}}", "a"]).stdout("arm64\n").run();
    world.build(["-t", "a", "--platform=linux/amd64"]).env("DOCKER_DEFAULT_PLATFORM", "linux/arm64").run();
    world.rbuild(["inspect", "-f", "{{.Architecture}}", "a"]).stdout("amd64\n").run();
}
