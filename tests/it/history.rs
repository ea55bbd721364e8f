//! Records of builds, and what looks back at them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::base::busybox_registry;
use crate::support::program::World;

/// The files with records of a world's store.
fn files(world: &World) -> Vec<PathBuf> {
    let all = fs::read_dir(world.store().join("rbuild/history")).unwrap();
    all.map(|file| file.unwrap().path()).collect()
}

fn last(world: &World) -> Value {
    world.records().pop().unwrap().1
}

fn stdout(world: &World, words: &[&str]) -> String {
    world.rbuild(words.iter()).any_stdout().run().stdout
}

fn object(world: &World, words: &[&str]) -> Value {
    serde_json::from_str(&stdout(world, words)).unwrap()
}

fn step<'r>(record: &'r Value, title: &str) -> &'r Value {
    let mut steps = record["steps"].as_array().unwrap().iter();
    steps.find(|step| step["title"].as_str().unwrap().contains(title)).expect(title)
}

const SECRET: &str = "sesame-open-7431";
const VALUE: &str = "value-of-an-argument";

#[test]
fn a_build_is_recorded_without_what_must_not_be_seen() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!(
        "FROM {host}/busybox AS a\nARG WHAT\nENV SHOWN=${{WHAT}}\nCOPY Dockerfile /a\n\
         RUN --mount=type=secret,id=word cat /run/secrets/word; echo \\\n  $WHAT > /made; rm /a; ln /made /other\n\
         FROM scratch\nCOPY --from=a /made /other /\n",
        host = registry.host()
    ));
    world.file("word", SECRET);
    let arg = format!("WHAT={VALUE}");
    let words = ["-t", "app:1", "--build-arg", &arg, "--build-arg", "http_proxy=http://u:pass-word@h/"];
    let ran = world.build(words).args(["--secret", "id=word,src=word", "--label", "l=v"]).run();
    let record = last(&world);
    let text = record.to_string();
    for hidden in [SECRET, VALUE, "pass-word"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    assert_eq!((&record["format"], &record["status"]), (&json!("rbuild.build-record"), &json!("completed")));
    assert_eq!(fs::metadata(&files(&world)[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let target = &record["targets"][0];
    assert_eq!(target["arguments"], json!([{"name": "WHAT"}, {"name": "http_proxy"}]));
    assert_eq!(
        (&target["secrets"], &target["labels"]),
        (&json!(["word"]), &json!([{"name": "l", "value": "v"}]))
    );
    assert_eq!(target["made"]["digest"], json!(ran.digest()));
    assert_eq!(target["names"], json!(["docker.io/library/app:1"]));
    assert!(target["dockerfile"]["text"].as_str().unwrap().starts_with("FROM "));
    let base = &record["materials"][0];
    assert_eq!(
        (&base["kind"], base["name"].as_str().unwrap()),
        (&json!("image"), format!("{}/busybox:latest", registry.host()).as_str())
    );
    // As the Dockerfile has it, for its value is not to be seen.
    assert_eq!(step(&record, "ENV")["title"], "ENV SHOWN=${WHAT}");
    let run = step(&record, "RUN");
    assert_eq!((&run["outcome"], &run["lines"]), (&json!("ran"), &json!([5, 6])));
    assert_eq!(run["files"], json!({"added": 2, "changed": 0, "removed": 1}));
    assert!(run["usage"]["peak_memory"].as_u64().unwrap() > 0 && run["layer"]["size"].as_u64().unwrap() > 0);
    let copy = step(&record, "COPY --from=a");
    assert_eq!(copy["files"], json!({"added": 2, "changed": 0, "removed": 0}));
    assert!(copy["needs"].as_array().unwrap().contains(&run["number"]));

    // Once more: all from the cache, which knows what the layers change.
    world.build(words).args(["--secret", "id=word,src=word", "--label", "l=v", "--record-build-args"]).run();
    let record = last(&world);
    assert_eq!(
        record["targets"][0]["arguments"],
        json!([{"name": "WHAT", "value": VALUE}, {"name": "http_proxy"}])
    );
    assert_eq!(
        (&step(&record, "RUN")["outcome"], &step(&record, "RUN")["files"]["removed"]),
        (&json!("cached"), &json!(1))
    );
    assert!(!record.to_string().contains(SECRET) && !record.to_string().contains("pass-word"));
    assert_eq!(world.records().len(), 2);
}

#[test]
fn a_build_that_fails_is_recorded_with_why() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\nRUN echo begun; exit 3\nRUN true\n", registry.host()));
    world.build([""; 0]).status(1).run();
    let told = object(&world, &["history", "inspect", "--format", "json"]);
    assert_eq!((&told["Status"], &told["Error"]["Code"]), (&json!("failed"), &json!(2)));
    assert!(told["Error"]["Message"].as_str().unwrap().contains("exit code: 3"), "{told}");
    assert_eq!(told["Error"]["Logs"], json!(["begun"]));
    let text = stdout(&world, &["history", "inspect"]);
    assert!(text.contains("   2 | >>> RUN echo begun; exit 3\n") && text.contains("\n> begun\n"), "{text}");
    let logs = stdout(&world, &["history", "logs"]);
    assert!(
        logs.contains("RUN echo begun; exit 3\nbegun\n#2 FAILED after") && logs.contains("#3 not ended"),
        "{logs}"
    );
    // What is found wrong before there are steps is recorded, too.
    world.dockerfile("FROM scratch\nCOPPY a b\n");
    world.build([""; 0]).status(1).run();
    assert_eq!((&last(&world)["status"], &last(&world)["steps"]), (&json!("failed"), &json!([])));
}

#[test]
fn builds_are_listed_found_and_forgotten() {
    let world = World::new();
    world.rbuild(["history", "inspect"]).status(1).run();
    for name in ["one", "two"] {
        world.dockerfile(&format!("FROM scratch AS {name}\nCOPY Dockerfile /\n"));
        world.build(["--target", name]).run();
    }
    let refs: Vec<String> =
        stdout(&world, &["history", "ls", "--format", "{{.Ref}}"]).lines().map(str::to_owned).collect();
    assert_eq!(refs.len(), 2);
    let names = |words: &[&str]| {
        let own = ["history", "ls", "--format", "{{.Name}}:{{.Status}}"];
        stdout(&world, &[&own[..], words].concat())
    };
    assert_eq!(names(&[]), "context (two):Completed\ncontext (one):Completed\n");
    assert_eq!(names(&["--filter", &format!("ref={}", refs[1])]), "context (one):Completed\n");
    assert_eq!(names(&["--filter", "status=error"]), "");
    assert_eq!(names(&["--filter", "startedAt>1h", "--filter", "duration<1h"]).lines().count(), 2);
    world.rbuild(["history", "ls", "--filter", "size>1"]).status(2).run();
    world.rbuild(["history", "ls", "--local"]).status(1).run();
    let json: Value =
        serde_json::from_str(stdout(&world, &["history", "ls", "--format", "json"]).lines().next().unwrap())
            .unwrap();
    assert_eq!(
        (&json["ref"], &json["completed_steps"]),
        (&json!(format!("default/default/{}", refs[0])), &json["total_steps"])
    );
    assert!(stdout(&world, &["history", "ls"]).starts_with("BUILD ID  "));
    let target = |word: &str| stdout(&world, &["history", "inspect", word, "--format", "{{.Target}}"]);
    for (word, expected) in [
        ("^0", "two\n"),
        ("^1", "one\n"),
        ("last", "two\n"),
        (&refs[1][..8], "one\n"),
        (format!("b/n/{}", refs[1]).as_str(), "one\n"),
    ] {
        assert_eq!(target(word), expected, "{word}");
    }
    world.rbuild(["history", "inspect", "^2"]).status(1).run();
    world.rbuild(["history", "inspect", "^x"]).status(2).run();
    world.rbuild(["history", "inspect", "zz"]).status(1).run();
    world.rbuild(["history", "rm"]).status(2).run();
    let told = world.rbuild(["history", "rm", &refs[0], "zzzz"]).status(1).run().stderr;
    assert!(told.contains("no build `zzzz`"), "{told}");
    assert_eq!(names(&[]), "context (one):Completed\n");
    world.rbuild(["history", "rm", "--all"]).run();
    assert!(files(&world).is_empty());
    // What was damaged is told of, and hides nothing.
    world.build([""; 0]).run();
    let tree = world.rbuild(["history", "--tree"]).any_stdout().run().stdout;
    let last = tree.lines().last().unwrap();
    assert!(
        tree.contains("COPY Dockerfile /") && last.starts_with("build ") && last.ends_with("B"),
        "{tree}"
    );
    let told = world.rbuild(["history"]).any_stdout().status(2).run().stderr;
    assert!(told.contains("<NAME>"), "{told}");
    fs::write(world.store().join("rbuild/history/1700000000000-abcdef.json"), "{").unwrap();
    let ran = world.rbuild(["history", "ls"]).any_stdout().remarks().run();
    assert!(ran.stdout.contains("Completed") && ran.stderr.contains("`abcdef` is damaged"), "{}", ran.stderr);
    assert!(
        world
            .rbuild(["history", "inspect", "abcdef"])
            .status(1)
            .run()
            .stderr
            .contains("rbuild history rm abcdef")
    );
}

#[test]
fn records_go_to_another_machine_with_their_logs() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\nRUN echo printed\n", registry.host()));
    world.build(["--platform=linux/amd64"]).run();
    world.build(["--platform=linux/amd64", "--no-cache"]).run();
    let bundle = world.path().join("bundle");
    world
        .rbuild([
            "history",
            "export",
            "--all",
            "--finalize",
            "--builder",
            "b",
            "-o",
            bundle.to_str().unwrap(),
        ])
        .run();
    let other = World::new();
    let ids = stdout(&other, &["history", "import", bundle.to_str().unwrap()]);
    assert_eq!(ids.lines().count(), 2);
    let again = stdout(&other, &["history", "import", "-f", bundle.to_str().unwrap()]);
    assert_eq!(again.matches(" was there already\n").count(), 2);
    assert_eq!(
        stdout(&other, &["history", "ls", "--format", "{{.Ref}}"]),
        stdout(&world, &["history", "ls", "--format", "{{.Ref}}"])
    );
    assert!(stdout(&other, &["history", "logs"]).contains("\nprinted\n"));
    for wrong in ["", "text", "\u{1f}\u{8b}"] {
        fs::write(&bundle, wrong).unwrap();
        let told = other.rbuild(["history", "import", bundle.to_str().unwrap()]).status(1).run().stderr;
        assert!(told.contains("is no file of `rbuild history export`"), "{told}");
    }
    // What belongs to the result.
    let provenance = object(&world, &["history", "inspect", "attachment", "--type", "provenance"]);
    assert_eq!(
        provenance["buildDefinition"]["resolvedDependencies"][0]["uri"]
            .as_str()
            .unwrap()
            .split('?')
            .next()
            .unwrap(),
        format!("pkg:docker/{}/busybox@latest", registry.host())
    );
    let manifest =
        object(&world, &["history", "inspect", "attachment", "--type=manifest", "--platform=linux/amd64"]);
    assert_eq!(manifest["schemaVersion"], 2);
    assert!(object(&world, &["history", "inspect", "attachment", "--type=image"]).get("rootfs").is_some());
    let told = world.rbuild(["history", "inspect", "attachment", "--type=sbom"]).status(1).run().stderr;
    assert!(told.contains("has nothing of that kind"), "{told}");
    world.rbuild(["history", "inspect", "attachment"]).status(2).run();
}

#[test]
fn the_metadata_file_names_the_record() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let file = world.path().join("metadata");
    let metadata = |mode: &str| -> Value {
        let words = ["--metadata-file", file.to_str().unwrap()];
        world.build(words).env("BUILDX_METADATA_PROVENANCE", mode).run();
        serde_json::from_slice(&fs::read(&file).unwrap()).unwrap()
    };
    for (mode, has_any, has_all) in [
        ("", true, false),
        ("min", true, false),
        ("max", true, true),
        ("disabled", false, false),
        ("0", false, false),
    ] {
        let metadata = metadata(mode);
        let provenance = &metadata["buildx.build.provenance"];
        assert_eq!(
            (provenance.is_object(), provenance["metadata"].is_object()),
            (has_any, has_all),
            "{mode}: {metadata}"
        );
        let id = metadata["buildx.build.ref"]
            .as_str()
            .unwrap()
            .strip_prefix("default/default/")
            .unwrap()
            .to_owned();
        assert_eq!(stdout(&world, &["history", "inspect", &id, "--format", "{{.Ref}}"]).trim(), id);
        assert_eq!(object(&world, &["history", "inspect", &id, "--format", "raw"])["id"], json!(id));
    }
    let words = ["--platform=linux/amd64,linux/arm64", "--metadata-file", file.to_str().unwrap()];
    world.build(words).run();
    let metadata: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(metadata["buildx.build.provenance/linux/arm64"].is_object(), "{metadata}");
}

#[test]
fn a_trace_tells_what_was_done_when() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\nCOPY Dockerfile /b\n");
    let file = world.path().join("trace");
    world.build(["--trace", file.to_str().unwrap()]).run();
    let names = |trace: &Value| -> Vec<String> {
        let events = trace["traceEvents"].as_array().unwrap().iter();
        events
            .filter(|event| event["ph"] == "X" && event["cat"] != "thread")
            .map(|event| event["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let trace: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(names(&trace).iter().any(|name| name.ends_with("[3/3] COPY Dockerfile /b")), "{trace}");
    // Threads say what they were busy with, also in a build that fails.
    let work = |trace: &Value, name: &str| {
        let events = trace["traceEvents"].as_array().unwrap().iter();
        events.filter(|event| event["cat"] == "thread" && event["name"] == name).count()
    };
    assert!(work(&trace, "gzip") > 0 && work(&trace, "SHA-256") > 0 && work(&trace, "BLAKE3") > 0, "{trace}");
    let failed = world.path().join("failed");
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\nRUN nothing\n");
    world.build(["--trace", failed.to_str().unwrap()]).status(1).run();
    let failed: Value = serde_json::from_slice(&fs::read(&failed).unwrap()).unwrap();
    assert!(work(&failed, "gzip") > 0, "{failed}");
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\nCOPY Dockerfile /b\n");
    world.build([""; 0]).run();
    let both = object(&world, &["history", "trace", "--compare", "^2"]);
    assert!(names(&both).len() > names(&trace).len());
    // Nothing is recorded if that is configured, but for a trace.
    let config = world.path().join("config.toml");
    fs::write(&config, "[history]\nrecords = false\n").unwrap();
    world.rbuild(["history", "rm", "--all"]).run();
    world.build([""; 0]).env("RBUILD_CONFIG", &config).run();
    assert!(files(&world).is_empty());
    world.build(["--trace", file.to_str().unwrap()]).env("RBUILD_CONFIG", &config).run();
    assert_eq!(world.records().len(), 1);
    // What was built is told, and its metadata written, also where the trace cannot be had, or the record, or the summary.
    let metadata = world.path().join("metadata.json");
    let words = ["--trace", "/no/such/folder/trace", "--metadata-file", metadata.to_str().unwrap()];
    let ran = world.build(words).status(1).run();
    assert!(
        ran.stderr.contains("\nbuilt sha256:") && ran.stderr.contains("/no/such/folder"),
        "{}",
        ran.stderr
    );
    assert!(fs::read_to_string(&metadata).unwrap().contains("containerimage.digest"));
    let history = world.store().join("rbuild/history");
    fs::remove_dir_all(&history).unwrap();
    fs::write(&history, "").unwrap();
    let ran = world.build([""; 0]).env("GITHUB_STEP_SUMMARY", "/no/such/summary").remarks().run();
    for part in
        ["warning: cannot keep the record", "warning: cannot write the summary for GitHub into `/no/such"]
    {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    // Where nothing is built, there is nothing to write.
    world.file("docker-bake.json", r#"{"target": {"default": {}}}"#);
    for words in [
        ["build", "--check", "--trace=x", "."],
        ["bake", "--print", "--report=x", "default"],
        ["bake", "--list=targets", "--advice", "default"],
        ["bake", "--check", "--report=x", "default"],
    ] {
        let ran = world.rbuild(words).status(2).run();
        assert!(ran.stderr.contains("` means nothing to what only looks at "), "{words:?}: {}", ran.stderr);
    }
    for option in ["--report=x", "--trace=x", "--advice"] {
        for command in ["plan", "reproduce"] {
            let ran = world.rbuild([command, option, "."]).status(2).run();
            let expected = format!("`{}` means nothing to `rbuild {command}`", option.trim_end_matches("=x"));
            assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
        }
    }
    assert!(!world.path().join("x").exists());
}

#[test]
fn a_build_that_was_killed_is_seen() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!(
        "FROM {}/busybox\nRUN echo begun; while true; do sleep 1000; done\n",
        registry.host()
    ));
    let mut command = std::process::Command::new(world.program());
    command
        .args(["--root", world.store().to_str().unwrap(), "--progress=plain", "."])
        .current_dir(world.context());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().ends_with(" begun")));
    let status = || stdout(&world, &["history", "ls", "--format", "{{.Status}}"]);
    assert_eq!(status(), "Running\n");
    assert!(world.rbuild(["history", "rm", "last"]).status(1).run().stderr.contains("is under way"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(status(), "Killed\n");
    world.rbuild(["history", "rm", "--all"]).run();
    assert!(files(&world).is_empty());
}
