//! `--provenance`: what it says, of what, and what it never says.

use std::fs;

use serde_json::{Value, json};

use super::{listed, prepare};
use crate::support::program::World;
use crate::support::registry::Registry;

fn provenance(world: &World, image: &str) -> Value {
    let ran = world.rbuild(["attest", "get", "--type=provenance", image]).any_stdout().run();
    serde_json::from_str(&ran.stdout).unwrap()
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap()
}

#[test]
fn it_is_kept_beside_the_image_whose_digest_stays() {
    let world = World::new();
    prepare(&world);
    let without = world.build(["-t", "app"]).run().digest();
    let with = world.build(["-t", "app", "--provenance", "--label=a=b"]);
    let with = with.run().digest();
    assert_ne!(with, without, "a label is in the image");
    let with = world.build(["-t", "app", "--provenance"]).run().digest();
    assert_eq!(with, without);
    let entries = listed(&world, "app");
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0]["Predicate"], "https://slsa.dev/provenance/v1");
    let statement = provenance(&world, "app");
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], *hex(&with));
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["buildType"], "urn:rbuild:build:v1");
    assert_eq!(definition["externalParameters"]["configSource"], json!({"path": "Dockerfile"}));
    assert_eq!(definition["resolvedDependencies"], json!([]));
    assert!(definition["internalParameters"].get("buildConfig").is_none());
    let details = &statement["predicate"]["runDetails"];
    for time in ["startedOn", "finishedOn"] {
        let time = details["metadata"][time].as_str().unwrap();
        assert!(time.len() > 19 && time.ends_with('Z'), "{time}");
    }
    // The build is known by the id of its record.
    let id = details["metadata"]["invocationId"].as_str().unwrap();
    world.rbuild(["history", "inspect", id]).any_stdout().run();
    world
        .rbuild(["attest", "verify", "app"])
        .stdout("verified 1 document; no signature was looked at\n")
        .run();
}

#[test]
fn values_of_arguments_are_told_if_asked_for_and_those_of_secrets_never() {
    let world = World::new();
    world.file("secret", "hunter2-hunter2");
    world.dockerfile(
        "# hunter2-hunter2\nFROM scratch\nARG TOKEN\nARG HTTP_PROXY\nLABEL a=1\nCOPY Dockerfile /\n",
    );
    let arguments = [
        "-t",
        "app",
        "--build-arg=TOKEN=sesame-open",
        "--build-arg=HTTP_PROXY=http://me:my-login@proxy",
        "--secret=id=pass,src=secret",
        "--label=l=hunter2-hunter2",
        "--tripwire=warn",
    ];
    for (how, values) in [("min", false), ("max", true)] {
        world.build(arguments).arg(format!("--provenance=mode={how}")).remarks().run();
        let statement = provenance(&world, "app");
        let text = statement.to_string();
        assert_eq!(text.contains("sesame-open"), values, "{text}");
        assert!(!text.contains("hunter2") && !text.contains("my-login"), "{text}");
        let request = &statement["predicate"]["buildDefinition"]["externalParameters"]["request"];
        assert_eq!(request["secrets"].is_array(), values, "{request}");
        let metadata = &statement["predicate"]["runDetails"]["metadata"];
        let source = &metadata["buildkit_metadata"]["source"]["infos"][0];
        assert_eq!(source.is_object(), values);
        if values {
            // In the place of the secret is its name.
            use base64::Engine as _;
            let data =
                base64::engine::general_purpose::STANDARD.decode(source["data"].as_str().unwrap()).unwrap();
            assert!(String::from_utf8(data).unwrap().starts_with("# [the secret `pass`]\nFROM scratch"));
            let steps =
                &statement["predicate"]["buildDefinition"]["internalParameters"]["buildConfig"]["steps"];
            let copy = |step: &&Value| step["instruction"].as_str().unwrap().contains("COPY Dockerfile /");
            assert_eq!(steps.as_array().unwrap().iter().find(copy).unwrap()["lines"], json!([6, 6]));
            assert!(!steps.to_string().contains("push"), "{steps}");
        }
    }
    // The record of the build has the values no more than before.
    let records = world.store().join("rbuild/history");
    for record in fs::read_dir(records).unwrap() {
        let text = fs::read_to_string(record.unwrap().path()).unwrap();
        assert!(!text.contains("sesame-open") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_secret_in_a_document_stops_the_build_before_anything_has_a_name() {
    let world = World::new();
    prepare(&world);
    world.file("secret", "hunter2-hunter2");
    let told = ["-t", "app", "--secret=id=pass,src=secret"];
    let ran = world.build(told).arg("--provenance=builder-id=https://h/hunter2-hunter2").status(1).run();
    assert!(
        ran.stderr.contains("the attestation `provenance.json` holds the secret `pass`"),
        "{}",
        ran.stderr
    );
    assert_eq!(world.rbuild(["images", "-q"]).any_stdout().run().stdout, "");
}

#[test]
fn the_older_version_is_there_on_request_and_without_a_record() {
    let world = World::new();
    prepare(&world);
    let home = world.path().join("home/.config/rbuild");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("config.toml"), "[history]\nrecords = false\n").unwrap();
    world
        .build([
            "-t",
            "app",
            "--attest=type=provenance,version=v0.2,builder-id=https://ci/7,reproducible=true",
        ])
        .run();
    let statement = provenance(&world, "app");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v0.2");
    let predicate = &statement["predicate"];
    assert_eq!(predicate["builder"], json!({"id": "https://ci/7"}));
    assert_eq!(predicate["invocation"]["configSource"], json!({"entryPoint": "Dockerfile"}));
    assert_eq!(predicate["metadata"]["reproducible"], true);
    assert!(!world.store().join("rbuild/history").exists());
}

#[test]
fn materials_are_what_was_fetched_and_each_platform_and_the_index_are_subjects() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    let base = format!("{}/base:1", registry.host());
    let base_digest =
        world.build(["-t", &base, "--push", "--platform=linux/amd64,linux/arm64"]).remarks().run().digest();
    world.rbuild(["rmi", &base]).any_stdout().run();
    world.dockerfile(&format!("FROM {base}\nCOPY Dockerfile /\n"));
    let name = format!("{}/app:1", registry.host());
    let line = ["-t", &name, "--provenance=mode=max", "--push", "--platform=linux/amd64,linux/arm64"];
    let digest = world.build(line).remarks().run().digest();
    let remote = format!("docker://{name}");
    // About each platform, and of each about the index.
    let entries = listed(&world, &remote);
    assert_eq!(entries.len(), 4, "{entries:?}");
    for platform in ["linux/amd64", "linux/arm64"] {
        let ran = world
            .rbuild(["attest", "get", "--type=provenance", "--platform", platform, &remote])
            .any_stdout()
            .run();
        let statement: Value = serde_json::from_str(&ran.stdout).unwrap();
        let subjects = statement["subject"].as_array().unwrap();
        assert_eq!(subjects.len(), 2);
        assert_eq!(subjects[1]["digest"]["sha256"], *hex(&digest));
        let materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
        let uri = format!("pkg:docker/{}@1?platform=linux%2F", base.strip_suffix(":1").unwrap());
        assert_eq!(materials.len(), 2, "{materials:?}");
        for material in materials {
            assert!(material["uri"].as_str().unwrap().starts_with(&uri), "{material}");
            assert_eq!(material["digest"]["sha256"], *hex(&base_digest));
        }
    }
    world
        .rbuild(["attest", "verify", &remote])
        .stdout("verified 4 documents; no signature was looked at\n")
        .run();
}

#[test]
fn several_targets_have_each_their_own() {
    let world = World::new();
    prepare(&world);
    world.file(
        "docker-bake.json",
        r#"{"group": {"default": {"targets": ["one", "two"]}}, "target": {
            "one": {"tags": ["one"], "labels": {"n": "1"}, "attest": ["type=provenance,mode=max"], "args": {"A": "first"}},
            "two": {"tags": ["two"], "labels": {"n": "2"}, "attest": [{"type": "provenance", "version": "v0.2"}, "type=sbom"], "args": {"A": "second"}}
        }}"#,
    );
    world.rbuild(["bake", "--progress=plain"]).any_stdout().remarks().run();
    assert_eq!((listed(&world, "one").len(), listed(&world, "two").len()), (1, 3));
    let one = provenance(&world, "one");
    assert_eq!(
        one["predicate"]["buildDefinition"]["externalParameters"]["request"]["args"]["build-arg:A"],
        "first"
    );
    assert!(!one.to_string().contains("second"));
    let two = provenance(&world, "two");
    assert_eq!(two["predicateType"], "https://slsa.dev/provenance/v0.2");
    assert!(!two.to_string().contains("second"));
    world
        .rbuild(["bake", "--progress=plain", "--provenance=false", "--set=*.tags=three", "one"])
        .any_stdout()
        .remarks()
        .run();
    assert!(listed(&world, "three").iter().all(|entry| entry["Type"] != "-"));
}

#[test]
fn each_target_has_its_own_materials() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    for name in ["low", "high"] {
        world
            .build(["-t", &format!("{}/{name}:1", registry.host()), "--push", &format!("--label=n={name}")])
            .remarks()
            .run();
    }
    let dockerfile = |name: &str| format!("FROM {}/{name}:1\\nCOPY Dockerfile /\\n", registry.host());
    world.file(
        "docker-bake.json",
        format!(
            r#"{{"group": {{"default": {{"targets": ["low", "high"]}}}}, "target": {{
                "low": {{"tags": ["low"], "dockerfile-inline": "{}", "attest": ["type=provenance"]}},
                "high": {{"tags": ["high"], "dockerfile-inline": "{}", "attest": ["type=provenance"]}}
            }}}}"#,
            dockerfile("low"),
            dockerfile("high")
        ),
    );
    world.rbuild(["bake", "--progress=plain"]).any_stdout().remarks().run();
    for name in ["low", "high"] {
        let said = provenance(&world, name);
        let materials =
            said["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap().clone();
        assert_eq!(materials.len(), 1, "{materials:?}");
        assert!(materials[0]["uri"].as_str().unwrap().contains(&format!("/{name}@1")), "{materials:?}");
    }
}

#[test]
fn all_materials_are_wanted_and_a_folder_is_none() {
    let world = World::new();
    prepare(&world);
    let ran = world.build(["-t", "app", "--provenance=complete-materials=true"]).status(1).run();
    assert!(ran.stderr.contains("not all materials of the build are known"), "{}", ran.stderr);
    let ran = world.build(["-t", "app", "--provenance=mode=most"]).status(2).run();
    assert!(ran.stderr.contains("`mode` is min or max"), "{}", ran.stderr);
}
