//! `layout=buildkit`: what docker's programs look for in an index, and documents beside files.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{listed, prepare};
use crate::support::layout::sha256;
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::tools;

fn blob(layout: &Path, digest: &Value) -> Value {
    let digest = digest.as_str().unwrap();
    let bytes = fs::read(layout.join("blobs").join(digest.replace(':', "/"))).unwrap();
    assert_eq!(sha256(&bytes), digest);
    serde_json::from_slice(&bytes).unwrap()
}

/// Holds an index of a layout to BuildKit's `attestation-storage.md`; gives the statements about each of its images.
fn attested(layout: &Path, index: &Value, names: &[&str]) -> Vec<Vec<Value>> {
    let entries = index["manifests"].as_array().unwrap();
    let is_image = |entry: &&Value| entry["platform"]["os"] != "unknown";
    let images: Vec<&Value> = entries.iter().filter(is_image).collect();
    let attesting = &entries[images.len()..];
    assert_eq!(attesting.len(), images.len(), "attestations stand behind the images: {index}");
    let mut all = Vec::new();
    for (image, entry) in images.iter().zip(attesting) {
        assert_eq!(entry["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(entry["platform"], json!({"architecture": "unknown", "os": "unknown"}));
        let annotations = json!({
            "vnd.docker.reference.digest": image["digest"], "vnd.docker.reference.type": "attestation-manifest",
        });
        assert_eq!(entry["annotations"], annotations);
        let manifest = blob(layout, &entry["digest"]);
        assert_eq!(manifest["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
        assert_eq!(manifest["subject"]["digest"], image["digest"]);
        let mut statements = Vec::new();
        for layer in manifest["layers"].as_array().unwrap() {
            assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
            let statement = blob(layout, &layer["digest"]);
            assert_eq!(layer["annotations"]["in-toto.io/predicate-type"], statement["predicateType"]);
            let digest = image["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let os = image["platform"]["os"].as_str().unwrap();
            let platform = format!("{os}%2F{}", image["platform"]["architecture"].as_str().unwrap());
            let subject = |name: &&str| {
                let name = if *name == "_" {
                    "_".to_owned()
                } else {
                    format!("pkg:docker/{name}?platform={platform}")
                };
                json!({"name": name, "digest": {"sha256": digest}})
            };
            assert_eq!(statement["subject"], names.iter().map(subject).collect::<Value>());
            statements.push(statement);
        }
        all.push(statements);
    }
    all
}

const ASKED: &str = "--attest=type=sbom,layout=buildkit --attest=type=provenance,layout=buildkit";

#[test]
fn an_index_names_what_attests_each_image() {
    let world = World::new();
    prepare(&world);
    let plain = world.build(["-t", "plain", "--platform=linux/amd64,linux/arm64"]).run().digest();
    let plain = blob(&world.store(), &json!(plain));
    let digest = world
        .build(["-t", "app:1", "--platform=linux/amd64,linux/arm64"])
        .args(ASKED.split(' '))
        .run()
        .digest();
    let index = blob(&world.store(), &json!(digest));
    assert_eq!(index["manifests"].as_array().unwrap()[..2], plain["manifests"].as_array().unwrap()[..]);
    let all = attested(&world.store(), &index, &["app@1"]);
    assert_eq!(all.len(), 2);
    for statements in all {
        let types: Vec<&Value> = statements.iter().map(|statement| &statement["predicateType"]).collect();
        assert_eq!(types, ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]);
    }
    // Nothing else is kept; what the index has is found, and is about what it hangs on.
    let entries = listed(&world, "app:1");
    assert_eq!(entries.len(), 4, "{entries:?}");
    world
        .rbuild(["attest", "verify", "app:1"])
        .stdout("verified 4 documents; no signature was looked at\n")
        .run();
    let spdx = world.rbuild(["attest", "get", "--platform=linux/arm64", "app:1"]).any_stdout().run().stdout;
    let spdx: Value = serde_json::from_str(&spdx).unwrap();
    assert_eq!(spdx["packages"][0]["comment"], "an image for linux/arm64");
    world.rbuild(["verify"]).any_stdout().run();
}

#[test]
fn one_platform_has_an_index_too_and_is_pushed_and_taken_as_an_image() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    let name = format!("{}/app:1", registry.host());
    let ran = world.build(["-t", &name, "--push", "--provenance=layout=buildkit"]).remarks().run();
    assert!(!ran.stderr.contains("referrers"), "{}", ran.stderr);
    let index = blob(&world.store(), &json!(ran.digest()));
    let purl = format!("{}/app@1", registry.host());
    attested(&world.store(), &index, &[&purl]);
    let remote = format!("docker://{name}");
    assert_eq!(listed(&world, &remote).len(), 1);
    let there = tools::run("skopeo", ["inspect", "--raw", "--tls-verify=false", &remote]);
    assert_eq!(serde_json::from_str::<Value>(&there).unwrap(), index);
    // Others take the image, and a build stands on it.
    let layout = world.path().join("copied").display().to_string();
    tools::run("skopeo", ["copy", "--src-tls-verify=false", &remote, &format!("oci:{layout}:x")]);
    world.rbuild(["rmi", &name]).any_stdout().run();
    world.dockerfile(&format!("FROM {name}\nLABEL a=b\n"));
    world.build(["-t", "upon"]).run();
    world.rbuild(["pull", "-q", "--all-platforms", &name]).any_stdout().run();
    assert_eq!(listed(&world, &name).len(), 1);
}

#[test]
fn archives_have_it() {
    let world = World::new();
    prepare(&world);
    for kind in ["oci", "docker"] {
        let output = format!("-o=type={kind},dest=out.tar");
        world.build([&output, "--sbom=layout=buildkit"]).run();
        let layout = world.path().join(kind);
        fs::create_dir(&layout).unwrap();
        let tar = world.context().join("out.tar").display().to_string();
        tools::run("tar", ["-xf", &tar, "-C", &layout.display().to_string()]);
        fs::remove_file(tar).unwrap();
        let top: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let index = blob(&layout, &top["manifests"][0]["digest"]);
        let statements = attested(&layout, &index, &["_"]);
        assert_eq!(statements[0][0]["predicate"]["spdxVersion"], "SPDX-2.3");
        let manifest: Value =
            serde_json::from_slice(&fs::read(layout.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 1, "docker gets the image: {manifest}");
    }
    // What readers of before 2026 took for an image.
    let layout = world.path().join("old").display().to_string();
    world
        .build([&format!("-o=type=oci,tar=false,oci-artifact=false,dest={layout}"), "--sbom=layout=buildkit"])
        .run();
    let layout = Path::new(&layout);
    let top: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let index = blob(layout, &top["manifests"][0]["digest"]);
    let manifest = blob(layout, &index["manifests"][1]["digest"]);
    assert!(manifest.get("subject").is_none() && manifest.get("artifactType").is_none());
    assert_eq!(
        blob(layout, &manifest["config"]["digest"])["rootfs"]["diff_ids"][0],
        manifest["layers"][0]["digest"]
    );
    let ran = world
        .build(["-o=type=oci,dest=x.tar,oci-mediatypes=false", "--sbom=layout=buildkit"])
        .status(1)
        .run();
    assert!(ran.stderr.contains("docker's media types have no place for attestations"), "{}", ran.stderr);
}

#[test]
fn documents_lie_beside_files() {
    let world = World::new();
    world.file("a", "one");
    world.file("provenance.json", "of the image");
    world.dockerfile("FROM scratch\nCOPY a provenance.json /\nCOPY a /sub/b\n");
    let line = ["--sbom", "--provenance", "-o", "out"];
    world.build(line).run();
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(world.context().join(path)).unwrap()).unwrap()
    };
    let of = |text: &str| json!({"sha256": sha256(text.as_bytes()).strip_prefix("sha256:")});
    let subjects = json!([
        {"name": "a", "digest": of("one")},
        {"name": "provenance.json", "digest": of("of the image")},
        {"name": "sub/b", "digest": of("one")},
    ]);
    let sbom = read("out/sbom.spdx.json");
    assert_eq!((&sbom["subject"], &sbom["predicateType"]), (&subjects, &json!("https://spdx.dev/Document")));
    let provenance = read("out/provenance.json");
    assert_eq!(provenance["subject"], subjects);
    assert_eq!(provenance["predicate"]["buildDefinition"]["buildType"], "urn:rbuild:build:v1");
    // In a tar, with a prefix; of several platforms, and what is for images alone.
    world.build(["--sbom", "-o", "type=tar,dest=files.tar,attestation-prefix=x-"]).run();
    let tar = world.context().join("files.tar").display().to_string();
    assert_eq!(tools::run("tar", ["-tf", &tar]), "a\nprovenance.json\nsub/\nsub/b\nx-sbom.spdx.json\n");
    world
        .build([
            "--sbom",
            "--provenance=inline-only=true",
            "--platform=linux/amd64,linux/arm64",
            "-o",
            "both",
        ])
        .run();
    for platform in ["linux_amd64", "linux_arm64"] {
        let folder = world.context().join("both").join(platform);
        assert!(folder.join("sbom.spdx.json").exists());
        assert_eq!(fs::read_to_string(folder.join("provenance.json")).unwrap(), "of the image");
    }
    world.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n");
    world
        .build([
            "--sbom",
            "--platform=linux/amd64,linux/arm64",
            "-o",
            "type=local,dest=flat,platform-split=false",
        ])
        .run();
    for file in ["amd64", "arm64", "sbom.spdx.linux_amd64.json", "sbom.spdx.linux_arm64.json"] {
        assert!(world.context().join("flat").join(file).exists(), "{file}");
    }
}
