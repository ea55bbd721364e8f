//! `--sbom=generator=IMAGE`: BuildKit's protocol, with a generator that rbuild builds.

use std::fs;

use serde_json::{Value, json};

use super::listed;
use crate::support::base::busybox_registry;
use crate::support::program::World;
use crate::support::registry::Registry;

/// Writes a statement for each thing that it finds, with the files of that.
const SCAN: &str = r#"set -e
test "$1" = all
test "$(id -u):$(pwd)" = 0:/scanner
for target in "$BUILDKIT_SCAN_SOURCE" ${BUILDKIT_SCAN_SOURCE_EXTRAS:+"$BUILDKIT_SCAN_SOURCE_EXTRAS"/*}; do
    name=$(basename "$target")
    files=$(cd "$target" && find . -type f | sort | tr '\n' ' ')
    if touch "$target/x" 2>/dev/null; then exit 3; fi
    touch /tmp/x
    printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"spdxVersion":"SPDX-2.3","name":"%s","files":"%s","level":"%s"}}' \
        "$name" "$files" "$BUILDKIT_SCAN_LEVEL" > "$BUILDKIT_SCAN_DESTINATION/$name.spdx.json"
done
echo scanned
"#;

/// Programs that the base has no names for.
const APPLETS: &str =
    r#"for applet in basename find sort tr truncate; do eval "$applet() { busybox $applet \"\$@\"; }"; done"#;

/// A registry with a generator that runs `script`, and its name.
fn generator(world: &World, script: &str) -> (Registry, String) {
    let registry = busybox_registry();
    let name = format!("{}/scanner:1", registry.host());
    world.file("scan/scan.sh", format!("{APPLETS}\n{script}"));
    let base = format!("{}/busybox", registry.host());
    world.file(
        "scan/Dockerfile",
        format!("FROM {base}\nWORKDIR /scanner\nCOPY scan.sh /\nUSER 1000\nENTRYPOINT [\"/bin/sh\", \"/scan.sh\"]\nCMD [\"all\"]\n"),
    );
    world.rbuild(["--progress=plain", "-t", &name, "--push", "scan"]).remarks().run();
    world.rbuild(["rmi", &name]).any_stdout().run();
    (registry, name)
}

fn spdx(world: &World, id: &str) -> Value {
    let ran = world.rbuild(["attest", "get", "--id", id, "app"]).any_stdout().run();
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn the_image_is_scanned_and_what_the_dockerfile_says() {
    let world = World::new();
    let (_registry, name) = generator(&world, SCAN);
    world.file("src/one", "1");
    world.file("src/two", "2");
    world.file(".dockerignore", "scan\nDockerfile\n");
    world.dockerfile(
        "FROM scratch AS build\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY src/one /made\n\
         FROM scratch AS unused\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY src/two /\n\
         FROM scratch\nARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nCOPY --from=build /made /kept\n",
    );
    let without = world.build(["-t", "app"]).run().digest();
    let asked = format!("--sbom=generator={name},LEVEL=$x y");
    let ran = world.build(["-t", "app", &asked]).remarks().run();
    assert_eq!(ran.digest(), without);
    assert!(ran.stderr.contains(&format!("generating sbom using {name}")), "{}", ran.stderr);
    let entries = listed(&world, "app");
    assert_eq!(entries.len(), 6, "{entries:?}");
    let is_spdx = |entry: &&Value| entry["Type"] == "application/spdx+json";
    let mut documents: Vec<Value> =
        entries.iter().filter(is_spdx).map(|entry| spdx(&world, entry["ID"].as_str().unwrap())).collect();
    documents.sort_by_key(|document| document["name"].as_str().unwrap().to_owned());
    let expected = |name: &str, files: &str| json!({"spdxVersion": "SPDX-2.3", "name": name, "files": files, "level": "$x y"});
    assert_eq!(
        documents,
        [
            expected("sbom", "./kept "),
            expected("sbom-build", "./made "),
            expected("sbom-context", "./.dockerignore ./src/one ./src/two "),
        ]
    );
    // What is about the image itself is what one gets.
    let ran = world.rbuild(["attest", "get", "app"]).any_stdout().run();
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap(), documents[0]);
    let ran = world.rbuild(["attest", "get", "--type=in-toto", "app"]).any_stdout().run();
    let statement: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(statement["subject"][0]["digest"]["sha256"], *without.strip_prefix("sha256:").unwrap());
    world
        .rbuild(["attest", "verify", "app"])
        .stdout("verified 6 documents; no signature was looked at\n")
        .run();
    // The same image is scanned once; and offline, when the generator is here.
    let ran = world.build(["-t", "app", &asked, "--offline"]).remarks().run();
    assert_eq!(ran.digest(), without);
    assert_eq!(listed(&world, "app"), entries);
}

#[test]
fn documents_go_where_others_go() {
    let world = World::new();
    let (_registry, name) = generator(&world, SCAN);
    world.file("one", "1");
    world.dockerfile("FROM scratch\nCOPY one /\n");
    world.build(["-o", "out", &format!("--sbom=generator={name}")]).remarks().run();
    let text = fs::read(world.context().join("out/sbom.spdx.json")).unwrap();
    let statement: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        (&statement["subject"][0]["name"], &statement["predicate"]["name"]),
        (&json!("one"), &json!("sbom"))
    );
    let asked = format!("--attest=type=sbom,layout=buildkit,generator={name}");
    world.build(["-t", "app", &asked, "--platform=linux/amd64,linux/arm64"]).remarks().run();
    let entries = listed(&world, "app");
    let platforms: Vec<&Value> = entries.iter().map(|entry| &entry["Platform"]).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
}

#[test]
fn what_a_generator_does_wrong_is_told() {
    let statement = r#"{"predicateType":"TYPE","predicate":{}}"#;
    for (script, expected) in [
        ("exit 7", "exit code: 7".to_owned()),
        ("true", "it wrote nothing into /run/out/".to_owned()),
        ("echo no > /run/out/a.spdx.json", "`/run/out/a.spdx.json` is no statement of in-toto".to_owned()),
        (
            &format!("echo '{statement}' > /run/out/a.spdx.json"),
            "`/run/out/a.spdx.json` says `TYPE`, and only SPDX is taken".to_owned(),
        ),
        ("ln -s /etc/passwd /run/out/a.spdx.json", "`/run/out/a.spdx.json` cannot be read".to_owned()),
        ("mkdir /run/out/a.spdx.json", "`/run/out/a.spdx.json` is no regular file".to_owned()),
        ("echo > /run/out/a", "`/run/out/a` is not called NAME.spdx.json".to_owned()),
        (
            "truncate -s 42M /run/out/a.spdx.json",
            "`/run/out/a.spdx.json` has more than 41943040 bytes".to_owned(),
        ),
    ] {
        let world = World::new();
        let (_registry, name) = generator(&world, script);
        world.dockerfile("FROM scratch\nCOPY scan /\n");
        let ran = world.build(["-t", "app", &format!("--sbom=generator={name}")]).remarks().status(1).run();
        assert!(ran.stderr.contains(&expected), "{script}: {}", ran.stderr);
        let told = format!("the SBOM generator `{name}` was to look into the image");
        assert!(ran.stderr.contains(&told), "{script}: {}", ran.stderr);
        assert_eq!(world.rbuild(["images", "-q"]).any_stdout().run().stdout, "");
    }
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let ran = world.build(["-t", "app", "--sbom=generator=scratch"]).remarks().status(1).run();
    assert!(ran.stderr.contains("it has neither an entrypoint nor a command"), "{}", ran.stderr);
}
