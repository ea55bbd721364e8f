//! What is kept beside an image: `--sbom`, `rbuild attest`, registries with and without an API for referrers.

mod buildkit;
mod bundles;
mod generator;
mod layouts;
mod liars;
mod policy;
mod provenance;
mod signed;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use rbuild::oci::Platform;
use serde_json::{Value, json};

use crate::support::http::{Received, Reply, Server, forward};
use crate::support::program::World;
use crate::support::registry::Registry;

const STATUS: &str = "Package: one\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0\n";

fn prepare(world: &World) {
    world.file("root/etc/os-release", "ID=debian\nVERSION_ID=12\n");
    world.file("root/var/lib/dpkg/status", STATUS);
    world.dockerfile("FROM scratch\nCOPY root /\n");
}

fn listed(world: &World, image: &str) -> Vec<Value> {
    let ran = world.rbuild(["attest", "ls", "--format=json", image]).any_stdout().run();
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_sbom_is_kept_beside_the_image_whose_digest_stays() {
    let world = World::new();
    prepare(&world);
    let without = world.build(["-t", "app"]).run().digest();
    let with = world.build(["-t", "app", "--sbom"]).run().digest();
    assert_eq!(with, without);
    let entries = listed(&world, "app");
    let types: Vec<&str> = entries.iter().map(|entry| entry["Type"].as_str().unwrap()).collect();
    assert_eq!(types.len(), 2, "{entries:?}");
    assert!(types.contains(&"application/spdx+json") && types.contains(&"application/vnd.in-toto+json"));
    let spdx = world.rbuild(["attest", "get", "app"]).any_stdout().run().stdout;
    assert_eq!(
        spdx,
        world.rbuild(["sbom", "--by-step", "--format=spdx", "app:latest"]).any_stdout().run().stdout
    );
    let statement = world.rbuild(["attest", "get", "--type=in-toto", "app"]).any_stdout().run().stdout;
    let statement: Value = serde_json::from_str(&statement).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], *with.strip_prefix("sha256:").unwrap());
    assert_eq!(statement["predicate"], serde_json::from_str::<Value>(&spdx).unwrap());
    world
        .rbuild(["attest", "verify", "app"])
        .stdout("verified 2 documents; no signature was looked at\n")
        .run();
    // What is listed is as long as what is printed, whose manifest is another.
    let size = entries.iter().find(|entry| entry["Type"] == "application/spdx+json").unwrap()["Size"].clone();
    assert_eq!(size, format!("{:.1} kB", spdx.len() as f64 / 1000.0));
    // Once more changes nothing, and the names are no images.
    world.build(["-t", "app", "--sbom"]).run();
    assert_eq!(listed(&world, "app"), entries);
    let names = world.rbuild(["images", "--format={{.Repository}}:{{.Tag}}"]).any_stdout().run().stdout;
    assert_eq!(names, "app:latest\n");
    world.rbuild(["verify"]).any_stdout().run();
    world.rbuild(["rmi", "app"]).any_stdout().run();
    assert_eq!(world.rbuild(["images", "-a", "-q"]).any_stdout().run().stdout, "");
}

#[test]
fn each_platform_and_the_index_have_theirs() {
    let world = World::new();
    prepare(&world);
    world.build(["-t", "app", "--sbom", "--platform=linux/amd64,linux/arm64"]).run();
    let entries = listed(&world, "app");
    // Two documents for two platforms, about the platform's manifest and about the index.
    assert_eq!(entries.len(), 8, "{entries:?}");
    let subjects: std::collections::BTreeSet<String> =
        entries.iter().map(|e| e["Subject"].to_string()).collect();
    assert_eq!(subjects.len(), 3);
    world
        .rbuild(["attest", "verify", "app"])
        .stdout("verified 8 documents; no signature was looked at\n")
        .run();
    let of = |platform: &str| {
        let ran = world.rbuild(["attest", "get", "--platform", platform, "app"]).any_stdout().run();
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["packages"][0]["comment"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(of("linux/arm64"), "an image for linux/arm64");
    assert_eq!(of("linux/amd64"), "an image for linux/amd64");
}

/// Which of several it is that is printed, nobody has to guess.
#[test]
fn of_several_platforms_this_machines_is_printed_or_none() {
    let world = World::new();
    prepare(&world);
    let host = Platform::host().to_string();
    world.build(["-t", "app", "--sbom", &format!("--platform=linux/s390x,{host}")]).run();
    let ran = world.rbuild(["attest", "get", "app"]).any_stdout().remarks().run();
    let spdx: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(spdx["packages"][0]["comment"], format!("an image for {host}"));
    assert!(ran.stderr.contains(&format!("note: this is of {host}; `--platform`")), "{}", ran.stderr);
    world.build(["-t", "others", "--sbom", "--platform=linux/s390x,linux/riscv64"]).run();
    let ran = world.rbuild(["attest", "get", "others"]).status(1).run();
    assert!(ran.stderr.contains(&format!("none for {host}")), "{}", ran.stderr);
    assert!(ran.stderr.contains("`--platform`: linux/riscv64, linux/s390x"), "{}", ran.stderr);
    // Of one there is nothing to choose.
    world.build(["-t", "one", "--sbom", "--platform=linux/s390x"]).run();
    world.rbuild(["attest", "get", "one"]).any_stdout().run();
}

#[test]
fn what_cannot_be_done_is_said() {
    let world = World::new();
    prepare(&world);
    let ran = world.build(["--sbom"]).remarks().run();
    assert!(ran.stderr.contains("nothing is kept beside an image without a name"), "{}", ran.stderr);
    let ran = world
        .build(["-t", "app", "--sbom=FORMAT=x", "--provenance=capture-usage=1,disabled=true"])
        .remarks()
        .run();
    assert!(ran.stderr.contains("`FORMAT` of --sbom changes nothing"), "{}", ran.stderr);
    world.build(["-t", "app", "--label=a=b"]).run();
    let ran = world.rbuild(["attest", "get", "app"]).status(1).run();
    assert!(ran.stderr.contains("nothing is kept beside `app`"), "{}", ran.stderr);
    world.rbuild(["attest", "verify", "app"]).status(1).run();
}

/// A registry as Debian packs it has no API for referrers.
#[test]
fn a_registry_without_an_api_gets_the_referrers_tag() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    let name = format!("{}/app:1", registry.host());
    let ran = world.build(["-t", &name, "--sbom", "--push"]).remarks().run();
    assert!(
        ran.stderr.contains("has no API for referrers: attestations are found by the tag sha256-"),
        "{}",
        ran.stderr
    );
    let remote = format!("docker://{name}");
    assert_eq!(listed(&world, &remote), listed(&world, &name));
    world
        .rbuild(["attest", "verify", &remote])
        .stdout("verified 2 documents; no signature was looked at\n")
        .run();
    let spdx = world.rbuild(["attest", "get", &name]).any_stdout().run().stdout;
    world.rbuild(["attest", "get", &remote]).stdout(spdx).run();
    // An image that was pushed without, and another repository.
    let other = format!("{}/other:1", registry.host());
    world.rbuild(["tag", &name, &other]).any_stdout().run();
    world.rbuild(["push", "-q", &other]).any_stdout().run();
    assert_eq!(listed(&world, &format!("docker://{other}")), Vec::<Value>::new());
    world.rbuild(["push", "-q", "--with-attestations", &other]).any_stdout().run();
    assert_eq!(listed(&world, &format!("docker://{other}")).len(), 2);
}

/// What a registry with the API keeps: for each subject the manifests that named it.
type Referrers = Arc<Mutex<BTreeMap<String, Vec<Value>>>>;

/// Stands before a registry, and has the API that it lacks; `lists` says whether it tells the truth.
fn with_api(upstream: String, lists: bool) -> (Server, Referrers) {
    let known: Referrers = Arc::default();
    let kept = Arc::clone(&known);
    let server = Server::start(move |request: &Received| {
        let path = request.path.split('?').next().unwrap_or_default();
        if let Some((_, subject)) = path.split_once("/referrers/") {
            let manifests = kept.lock().unwrap().get(subject).cloned().filter(|_| lists).unwrap_or_default();
            let index = json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
            });
            return Reply::new(200, index.to_string())
                .header("content-type", "application/vnd.oci.image.index.v1+json");
        }
        let reply = forward(&upstream, request);
        if request.method == "PUT" && path.contains("/manifests/") {
            let manifest: Value = serde_json::from_slice(&request.body).unwrap();
            if let Some(subject) = manifest["subject"]["digest"].as_str() {
                let digest = rbuild::oci::Digest::of(&request.body).to_string();
                let entry = json!({
                    "mediaType": manifest["mediaType"], "digest": digest, "size": request.body.len(),
                    "artifactType": manifest["artifactType"], "annotations": manifest["annotations"],
                });
                kept.lock().unwrap().entry(subject.to_owned()).or_default().push(entry);
                return reply.header("oci-subject", subject);
            }
        }
        reply
    });
    (server, known)
}

#[test]
fn a_registry_with_the_api_gets_no_tag_and_one_that_lies_does() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    for (lists, tags) in [(true, 0), (false, 1)] {
        let (server, known) = with_api(registry.host(), lists);
        let name = format!("{}/{}:1", server.host(), if lists { "honest" } else { "liar" });
        world.build(["-t", &name, "--sbom", "--push"]).remarks().run();
        assert_eq!(known.lock().unwrap().values().map(Vec::len).collect::<Vec<_>>(), [2]);
        let puts = server.requests();
        let puts = puts.iter().filter(|line| line.starts_with("PUT") && line.contains("/manifests/sha256-"));
        assert_eq!(puts.count(), tags, "{:?}", server.requests());
        let remote = format!("docker://{name}");
        world
            .rbuild(["attest", "verify", &remote])
            .stdout("verified 2 documents; no signature was looked at\n")
            .run();
        assert_eq!(listed(&world, &remote).len(), 2);
    }
}

/// A document that hangs on another image than it is about.
#[test]
fn a_document_of_another_image_is_found_out() {
    let world = World::new();
    prepare(&world);
    let one = world.build(["-t", "one", "--sbom"]).run().digest();
    world.file("root/more", "more\n");
    let two = world.build(["-t", "two", "--sbom"]).run().digest();
    // The name of what is beside `two` gets what is beside `one`.
    let tag = |digest: &str| digest.replace(':', "-");
    let one_index = format!("docker.io/library/one:{}", tag(&one));
    world.rbuild(["tag", &one_index, &format!("docker.io/library/two:{}", tag(&two))]).any_stdout().run();
    let ran = world.rbuild(["attest", "verify", "two"]).status(1).run();
    assert!(ran.stderr.contains(&format!("is not about {two}: its subject is {one}")), "{}", ran.stderr);
    fs::metadata(world.store()).unwrap();
}
