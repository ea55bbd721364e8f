//! Indexes that are made in a registry, as CI with a runner for each architecture needs them.

use std::fs;

use serde_json::Value;

use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::tools;

fn world() -> World {
    let world = World::new();
    world.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n");
    world
}

/// One job: builds for a platform, and pushes without a tag; gives the digest.
fn job(registry: &Registry, platform: &str) -> String {
    let world = world();
    let name = format!("{}/team/app", registry.host());
    let output = "type=image,push-by-digest=true,name-canonical=true,push=true";
    let words = ["-t", &name, "-o", output, "--platform", platform, "--metadata-file=m"];
    let digest = world.build(words).run().digest();
    let metadata: Value = serde_json::from_slice(&fs::read(world.context().join("m")).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.digest"], digest);
    digest
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

/// Platforms and digests of an index, by another reader.
fn read(name: &str) -> Value {
    tools::json("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
}

fn platforms(index: &Value) -> Vec<String> {
    let of = |entry: &Value| entry["platform"]["architecture"].as_str().unwrap().to_owned();
    index["manifests"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn two_jobs_make_one_image() {
    let registry = Registry::start();
    let (amd64, arm64) = (job(&registry, "linux/amd64"), job(&registry, "linux/arm64"));
    let world = world();
    let app = format!("{}/team/app", registry.host());
    let name = format!("{app}:1");
    let at = |digest: &str| format!("{app}@{digest}");
    let words =
        ["index", "create", &name, &at(&amd64), &at(&arm64), "--annotation", "a=b", "--metadata-file=m"];
    let told = world.rbuild(words).any_stdout().run().stdout;
    let index = read(&name);
    assert_eq!(platforms(&index), ["amd64", "arm64"]);
    assert_eq!(
        (&index["annotations"]["a"], &index["manifests"][0]["digest"]),
        (&Value::from("b"), &Value::from(amd64.clone()))
    );
    let metadata = json(&fs::read_to_string(world.context().join("m")).unwrap());
    let digest = metadata["containerimage.descriptor"]["digest"].as_str().unwrap();
    assert_eq!(told, format!("{name}\n  {digest}\n"));
    // Others, and rbuild, run it.
    world.rbuild(["pull", "--all-platforms", &name]).any_stdout().run();
    let words = ["inspect", "-f", "{{range .Platforms}}{{.Platform}} {{end}}", &name];
    world.rbuild(words).stdout("linux/amd64 linux/arm64 \n").run();
    // Digests alone are of the repository that something else names.
    let words = ["index", "create", "-t", &name, "-t", &format!("{app}:latest"), &amd64, &arm64];
    world.rbuild(words).any_stdout().run();
    assert_eq!(platforms(&read(&format!("{app}:latest"))), ["amd64", "arm64"]);
}

#[test]
fn what_is_there_is_kept_chosen_and_annotated() {
    let registry = Registry::start();
    let world = world();
    let app = format!("{}/team/app", registry.host());
    for (tag, platform) in [("1", "linux/amd64"), ("arm", "linux/arm64"), ("z", "linux/s390x")] {
        world.build(["--push", "-t", &format!("{app}:{tag}"), "--platform", platform]).run();
    }
    let name = format!("{app}:1");
    let create = |words: &[&str]| world.rbuild(["index", "create"]).args(words);
    create(&["--append", &name, &format!("{app}:arm")]).any_stdout().run();
    assert_eq!(platforms(&read(&name)), ["amd64", "arm64"]);
    let entry = "manifest-descriptor[linux/s390x]:k=v";
    create(&["--append", "--annotation", entry, &name, &format!("{app}:z")]).any_stdout().run();
    let index = read(&name);
    assert_eq!(platforms(&index), ["amd64", "arm64", "s390x"]);
    assert_eq!(index["manifests"][2]["annotations"], serde_json::json!({"k": "v"}));
    // A dry run prints it, and changes nothing.
    let dry = create(&["--dry-run", "-p", "linux/arm64", "-t", &format!("{app}:none"), &name])
        .any_stdout()
        .run()
        .stdout;
    assert_eq!(platforms(&json(&dry)), ["arm64"]);
    create(&["--dry-run", &format!("{app}:x"), &format!("{app}:none")]).status(1).run();
    // One image is an index of one, unless it shall not be; an index stays what it is.
    create(&[&format!("{app}:one"), &format!("{app}:arm")]).any_stdout().run();
    assert_eq!(platforms(&read(&format!("{app}:one"))), ["arm64"]);
    create(&["--prefer-index=false", &format!("{app}:same"), &format!("{app}:arm")]).any_stdout().run();
    assert!(read(&format!("{app}:same")).get("manifests").is_none());
    create(&[&format!("{app}:copy"), &name]).any_stdout().run();
    assert_eq!(read(&format!("{app}:copy")), index);
    // A descriptor says of which platform it is.
    let digest = index["manifests"][1]["digest"].as_str().unwrap();
    let described = format!(
        r#"{{"digest":"{digest}","mediaType":"{}","size":1,"platform":{{"os":"linux","architecture":"riscv64"}}}}"#,
        index["manifests"][1]["mediaType"].as_str().unwrap()
    );
    world.file("d.json", &described);
    create(&["-t", &format!("{app}:d"), "-f", "d.json"]).any_stdout().run();
    assert_eq!(platforms(&read(&format!("{app}:d"))), ["riscv64"]);
    for (words, told) in [
        (vec![&name[..]], "the index has no sources"),
        (
            vec!["-t", &name, "--annotation", "manifest:a=b", &name],
            "an annotation of the manifest is not possible here",
        ),
        (vec!["-t", &name, "-p", "linux/mips64le", &name], "none of the images is for linux/mips64le"),
        (vec!["-t", &name, "{\"digest\":3}"], "it is no descriptor"),
        (vec!["-t", "UPPER", &name], "must be lower case"),
    ] {
        let ran = create(&words).any_status().run();
        assert!(ran.status != Some(0) && ran.stderr.contains(told), "{words:?}: {}", ran.stderr);
    }
}

#[test]
fn layers_are_mounted_and_never_moved() {
    let (registry, other) = (Registry::start(), Registry::start());
    let world = world();
    let from = format!("{}/team/app:1", registry.host());
    world.build(["--push", "-t", &from, "--platform=linux/amd64,linux/arm64"]).run();
    let to = format!("{}/elsewhere/app:2", registry.host());
    world.rbuild(["index", "create", &to, &from]).any_stdout().run();
    assert_eq!(read(&to), read(&from));
    let elsewhere = World::new();
    elsewhere.rbuild(["pull", "--all-platforms", &to]).any_stdout().run();
    let far = format!("{}/team/app:1", other.host());
    let ran = world.rbuild(["index", "create", &far, &from]).status(1).run();
    assert!(
        ran.stderr.contains("without moving them") && ran.stderr.contains("rbuild copy --all"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_a_registry_has_is_shown() {
    let registry = Registry::start();
    let world = world();
    let name = format!("{}/team/app:1", registry.host());
    let digest = world.build(["--push", "-t", &name, "--platform=linux/amd64,linux/arm64"]).run().digest();
    let other = World::new();
    let shown = |words: &[&str]| other.rbuild(words).any_stdout().run().stdout;
    let text = shown(&["index", "inspect", &name]);
    assert!(
        text.starts_with(&format!("Name:      {name}\nMediaType: "))
            && text.contains(&format!("Digest:    {digest}\n")),
        "{text}"
    );
    assert!(text.contains("  Platform:    linux/arm64\n"), "{text}");
    let remote = format!("docker://{name}");
    assert_eq!(shown(&["inspect", &remote]), text);
    let raw = shown(&["inspect", "--raw", &remote]);
    assert_eq!(json(&raw), read(&name));
    assert_eq!(world.rbuild(["inspect", "--raw", &name]).any_stdout().run().stdout, raw);
    assert_eq!(shown(&["index", "inspect", "-f", "{{.Manifest.digest}}", &name]), format!("{digest}\n"));
    let images = json(&shown(&["inspect", "-f", "{{json .Image}}", &remote]));
    assert_eq!(images["linux/arm64"]["architecture"], "arm64");
    // Nothing of it came here.
    assert!(!other.store().exists());
    let ran = other.rbuild(["index", "inspect", &format!("{}/none:1", registry.host())]).status(1).run();
    assert!(ran.stderr.contains("its registry does not have"), "{}", ran.stderr);
}
