//! Builds of several targets.

use serde_json::Value;

use crate::support::base::busybox_registry;
use crate::support::program::World;

/// Two targets of one Dockerfile, which share a stage.
fn shared(world: &World, host: &str) {
    world.file("web/Dockerfile", format!(
        "FROM {host}/busybox AS base\nRUN echo shared >/shared\nFROM base AS one\nRUN echo one >/one\nFROM base AS two\nARG WHAT=two\nRUN echo $WHAT >/two\n"
    ));
    world.file(
        "docker-bake.hcl",
        r#"
group "default" { targets = ["one", "two"] }
target "_web" { context = "web" }
target "one" {
  inherits = ["_web"]
  target = "one"
  tags = ["one:1"]
}
target "two" {
  inherits = ["_web"]
  target = "two"
  args = { WHAT = "second" }
  tags = ["two:1", "two:2"]
}
"#,
    );
}

#[test]
fn shared_stages_run_once() {
    let (world, registry) = (World::new(), busybox_registry());
    shared(&world, &registry.host());
    let ran = world.rbuild(["bake", "--progress=plain", "--metadata-file", "metadata.json"]).remarks().run();
    let count = ran.ran().iter().filter(|title| title.contains("echo shared")).count();
    assert_eq!(count, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("[one,two base 2/2] RUN echo shared"), "{}", ran.stderr);
    assert!(ran.stderr.contains("[two two 3/3] RUN echo"), "{}", ran.stderr);
    let text = std::fs::read_to_string(world.context().join("metadata.json")).expect("metadata");
    let metadata: Value = serde_json::from_str(&text).expect("JSON");
    for (name, image, file, content) in
        [("one", "one:1", "one", "one\n"), ("two", "two:1", "two", "second\n")]
    {
        let digest = metadata[name]["containerimage.digest"].as_str().expect("a digest");
        let files = world.images().image(digest).files();
        assert_eq!(files[file].content, content.as_bytes(), "{name}");
        assert_eq!(files["shared"].content, b"shared\n", "{name}");
        let names = metadata[name]["image.name"].as_str().expect("names");
        assert!(names.contains(image), "{names}");
    }
    // Alone it is the same image, and nothing has to run.
    let digest = world.rbuild(["web", "--progress=plain", "--target=one", "-t", "alone"]).run().digest();
    assert_eq!(metadata["one"]["containerimage.digest"], digest);
    let ran = world.rbuild(["bake", "--progress=plain"]).remarks().run();
    assert!(ran.stderr.contains("nothing to do, all from the cache"), "{}", ran.stderr);
}

#[test]
fn targets_are_contexts_of_each_other() {
    let (world, registry) = (World::new(), busybox_registry());
    let host = registry.host();
    world.file(
        "base/Dockerfile",
        format!("FROM {host}/busybox\nENV FROM_BASE=yes\nCOPY data /data\nLABEL l=base\n"),
    );
    world.file("base/data", "of the base");
    world.file("app/Dockerfile", "FROM base AS b\nRUN echo $FROM_BASE >/env\nFROM scratch\nCOPY --from=base /data /copied\nCOPY --from=b /env /env\n");
    world.file("top/Dockerfile", "FROM base\nWORKDIR /top\n");
    world.file(
        "docker-bake.hcl",
        r#"
group "default" { targets = ["app", "top"] }
target "base" { context = "base" }
target "app" {
  context = "app"
  contexts = { base = "target:base" }
  tags = ["app"]
}
target "top" {
  context = "top"
  contexts = { base = "target:base" }
  tags = ["top"]
}
"#,
    );
    world.rbuild(["bake", "--metadata-file", "m"]).remarks().run();
    let metadata: Value =
        serde_json::from_str(&std::fs::read_to_string(world.context().join("m")).expect("m")).expect("JSON");
    let image = |name: &str| {
        let digest = metadata[name]["containerimage.digest"].as_str().expect("a digest");
        world.images().image(digest)
    };
    let files = image("app").files();
    assert_eq!(files["copied"].content, b"of the base");
    assert_eq!(files["env"].content, b"yes\n");
    let top = image("top");
    let config = serde_json::to_value(&top.config).expect("JSON");
    let env = config["config"]["Env"].to_string();
    assert!(env.contains("FROM_BASE=yes") && config["config"]["Labels"]["l"] == "base", "{config}");
    let history: Vec<String> =
        config["history"].as_array().expect("history").iter().map(|h| h["created_by"].to_string()).collect();
    let copies = history.iter().position(|entry| entry.contains("COPY data"));
    let workdir = history.iter().position(|entry| entry.contains("WORKDIR"));
    assert!(copies.is_some() && copies < workdir, "{history:?}");
    // The image of a target that was not asked for has no name, and is in the metadata as with buildx.
    assert!(metadata["base"]["image.name"].is_null(), "{metadata}");
}

#[test]
fn several_platforms_and_outputs() {
    let world = World::new();
    world.file("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY file-$TARGETARCH /file\n");
    world.file("file-amd64", "a").file("file-arm64", "b");
    world.file("docker-bake.json", r#"{"target": {
        "default": {"platforms": ["linux/amd64", "linux/arm64"], "output": ["type=oci,dest=both.tar"], "tags": ["both"]},
        "files": {"output": ["type=local,dest=out"], "platforms": ["linux/arm64"]},
        "inline": {"dockerfile-inline": "FROM scratch\nCOPY file-amd64 /$${X}inline\n", "output": ["type=local,dest=inline"]}
    }}"#);
    world.rbuild(["bake", "default", "files", "inline"]).remarks().run();
    let read = |name: &str| std::fs::read_to_string(world.context().join(name)).unwrap_or_default();
    assert_eq!(read("out/file"), "b");
    assert_eq!(read("inline/inline"), "a");
    assert!(world.context().join("both.tar").exists());
}

/// Nothing has a name if one of them fails.
#[test]
fn all_or_nothing() {
    let (world, registry) = (World::new(), busybox_registry());
    world.file("Dockerfile", format!("FROM {}/busybox\nARG CODE=0\nRUN exit $CODE\n", registry.host()));
    world.file("docker-bake.hcl", "group \"default\" { targets = [\"good\", \"bad\"] }\ntarget \"good\" { tags = [\"good\"] }\ntarget \"bad\" { args = { CODE = 3 } }\n");
    let ran = world.rbuild(["bake", "--progress=plain"]).status(1).remarks().run();
    assert!(ran.stderr.contains("exit code: 3"), "{}", ran.stderr);
    let images = world.rbuild(["images"]).any_stdout().run().stdout;
    assert!(!images.contains("good"), "{images}");
}

/// As compose calls the plugin: `pkg/compose/build_bake.go`.
#[test]
fn the_call_of_compose() {
    let world = World::new();
    world.file("web/Dockerfile", "FROM scratch\nARG A\nCOPY file /\nLABEL a=$A\n").file("web/file", "w");
    world.file("db/Dockerfile", "FROM scratch\nCOPY file /\n").file("db/file", "d");
    let (web, db) = (world.context().join("web"), world.context().join("db"));
    let definition = serde_json::json!({
        "group": {"default": {"targets": ["web", "db"]}},
        "target": {
            "web": {
                "context": web, "dockerfile": web.join("Dockerfile"), "args": {"A": "1 $${B}"},
                "labels": {"com.docker.compose.project": "p"}, "tags": ["p-web"], "network": "default",
                "output": ["type=docker"],
            },
            "db": {"context": db, "contexts": {"w": "target:web"}, "tags": ["p-db"], "output": ["type=docker"]},
        },
    });
    let (web, db) = (format!("fs.read={}", web.display()), format!("fs.read={}", db.display()));
    let args = [
        "bake",
        "--file",
        "-",
        "--progress",
        "rawjson",
        "--metadata-file",
        "metadata.json",
        "--allow",
        &web,
        "--allow",
        &db,
        "--provenance=false",
        "--builder",
        "default",
    ];
    let ran = world.rbuild(args).stdin(definition.to_string()).remarks().run();
    for line in ran.stderr.lines() {
        let status: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(status.is_object(), "{line}");
    }
    let text = std::fs::read_to_string(world.context().join("metadata.json")).expect("metadata");
    let metadata: Value = serde_json::from_str(&text).expect("JSON");
    for name in ["web", "db"] {
        assert!(
            metadata[name]["containerimage.digest"]
                .as_str()
                .is_some_and(|digest| digest.starts_with("sha256:"))
        );
        assert_eq!(metadata[name]["image.name"], format!("docker.io/library/p-{name}:latest"));
    }
    let digest = metadata["web"]["containerimage.digest"].as_str().expect("a digest");
    let config = serde_json::to_value(&world.images().image(digest).config).expect("JSON");
    assert_eq!(config["config"]["Labels"]["a"], "1 ${B}");
    // It is docker's plugin by its name, and compose leaves the word `buildx` out.
    let plugin = world.path().join("docker-buildx");
    std::os::unix::fs::symlink(world.program(), &plugin).expect("a link");
    let mut child = std::process::Command::new(plugin)
        .args(args)
        .current_dir(world.context())
        .env("RBUILD_ROOT", world.store())
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the plugin");
    let written = std::io::Write::write_all(
        &mut child.stdin.take().expect("a pipe"),
        definition.to_string().as_bytes(),
    );
    written.expect("the definition");
    let output = child.wait_with_output().expect("the plugin");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again = std::fs::read_to_string(world.context().join("metadata.json")).expect("metadata");
    let again: Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!(again["web"]["containerimage.digest"], metadata["web"]["containerimage.digest"]);
    // The last of several counts.
    let args = ["bake", "--file", "-", "--progress", "rawjson", "--progress=quiet"];
    let ran = world.rbuild(args).stdin(definition.to_string()).remarks().run();
    assert_eq!(ran.stderr, "");
    // What is wrong is told in lines that are no statuses.
    let args = ["bake", "--file", "-", "--progress", "rawjson"];
    let ran = world.rbuild(args).stdin("{\"target\": {\"a\": {\"tags\": 3}}}").status(1).run();
    assert!(
        ran.stderr.contains("tags") && ran.stderr.lines().all(|line| !line.starts_with('{')),
        "{}",
        ran.stderr
    );
}

#[test]
fn calls_look_at_every_target() {
    let world = World::new();
    world.file("Dockerfile", "FROM scratch as a\nCOPY file /\n").file("file", "");
    world.file("docker-bake.hcl", "target \"default\" { description = \"the only one\" }\n");
    let ran = world.rbuild(["bake", "--check"]).any_stdout().run();
    assert!(
        ran.stdout.starts_with("default\nthe only one\n\n") && ran.stdout.contains("FromAsCasing"),
        "{}",
        ran.stdout
    );
    let ran = world.rbuild(["bake", "--call=targets,format=json"]).any_stdout().run();
    let json: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(json["target"]["default"]["targets"]["targets"][0]["name"], "a", "{json}");
    assert_eq!(json["target"]["default"]["build"]["context"], ".");
}

/// As `docker compose build --check` does it, which looks for every target in the file.
#[test]
fn targets_that_are_only_looked_at_are_in_the_metadata() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n").file("docker-bake.hcl", "target \"default\" {}\n");
    let file = world.path().join("metadata");
    let words = ["bake", "--check", "--metadata-file", file.to_str().expect("text")];
    world.rbuild(words).any_stdout().run();
    let metadata: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).expect("it is there")).expect("JSON");
    assert_eq!(metadata["default"]["result.statuscode"], "0", "{metadata}");
}

/// Each target has its own limits, though one graph is built. Where no group can be made, the one that wants it is refused.
#[test]
fn targets_with_other_limits_are_built_together() {
    let (world, registry) = (World::new(), busybox_registry());
    let greedy = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null && echo done >/done";
    world.file("Dockerfile", format!("FROM {}/busybox\nARG NAME\nRUN {greedy} # $NAME\n", registry.host()));
    let target =
        |name: &str, more: &str| format!("target \"{name}\" {{\n args = {{ NAME = \"{name}\" }}\n{more}}}\n");
    let limit = "resources = { memory = \"64m\" }\n";
    let groups = "group \"default\" { targets = [\"small\", \"large\"] }\n";
    world.file("docker-bake.hcl", format!("{groups}{}{}", target("small", limit), target("large", "")));
    let ran = world.rbuild(["bake", "--progress=plain"]).remarks().status(1).run();
    let is_told =
        ran.stderr.contains("killed: out of memory, 6") || ran.stderr.contains("cannot limit a step: ");
    assert!(is_told, "{}", ran.stderr);
    world.rbuild(["bake", "--progress=plain", "large"]).remarks().run();
}
