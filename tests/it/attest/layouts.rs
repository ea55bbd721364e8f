//! What is kept beside an image in layouts and archives, and goes along with it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{listed, prepare};
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::tools;

const BOTH: [&str; 2] = ["--sbom", "--provenance"];

fn index(layout: &Path) -> Vec<Value> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

fn blob(layout: &Path, digest: &Value) -> Value {
    let path = digest.as_str().unwrap().replace(':', "/");
    serde_json::from_slice(&fs::read(layout.join("blobs").join(path)).unwrap()).unwrap()
}

/// Holds a layout to the image-spec: artifacts with their subject, and the index under the referrers tag.
fn check(layout: &Path, digest: &str, artifacts: usize) {
    let entries = index(layout);
    let listed: Vec<&Value> = entries.iter().filter(|entry| entry["artifactType"].is_string()).collect();
    assert_eq!(listed.len(), artifacts, "{entries:?}");
    for entry in &listed {
        let manifest = blob(layout, &entry["digest"]);
        assert_eq!(
            (&manifest["subject"]["digest"], &manifest["artifactType"]),
            (&digest.into(), &entry["artifactType"])
        );
        blob(layout, &manifest["layers"][0]["digest"]);
    }
    let tag = digest.replace(':', "-");
    let of_tag = entries
        .iter()
        .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag.as_str());
    let tagged = blob(layout, &of_tag.unwrap()["digest"]);
    assert_eq!(tagged["manifests"].as_array().unwrap().len(), artifacts, "{tagged}");
}

#[test]
fn a_build_writes_them_into_layouts_that_others_read() {
    let world = World::new();
    prepare(&world);
    let layout = world.path().join("layout");
    let to = format!("-o=type=oci,tar=false,dest={}", layout.display());
    let digest = world.build([&to, "-t", "app:1"]).args(BOTH).run().digest();
    check(&layout, &digest, 3);
    // As often as it is written, the image is there once; others read it by its name.
    world.build([&to, "-t", "app:1", "--sbom"]).run();
    let at = |label: &str| format!("oci:{}:{label}", layout.display());
    let there = tools::json("skopeo", ["inspect", &at("1")]);
    assert_eq!(there["Digest"], *digest);
    let stat = tools::run("umoci", ["stat", "--image", &format!("{}:1", layout.display())]);
    assert!(stat.contains("COPY root /"), "{stat}");
    // And without a name, in an archive.
    let tar = world.path().join("out.tar").display().to_string();
    let ran = world.build([&format!("-o=type=oci,dest={tar}")]).args(BOTH).run();
    let read = world.path().join("read");
    fs::create_dir(&read).unwrap();
    tools::run("tar", ["-xf", &tar, "-C", &read.display().to_string()]);
    check(&read, &ran.digest(), 3);
}

#[test]
fn save_and_load_take_them_along_if_asked() {
    let world = World::new();
    prepare(&world);
    let digest = world.build(["-t", "app:1"]).args(BOTH).run().digest();
    let entries = listed(&world, "app:1");
    assert_eq!(entries.len(), 3);
    let (tar, dir) = (world.path().join("a.tar"), world.path().join("dir"));
    let (tar, dir) = (tar.display().to_string(), dir.display().to_string());
    world.rbuild(["save", "--format=oci-archive", "-o", &tar, "--with-attestations", "app:1"]).run();
    world.rbuild(["save", "--format=oci-dir", "-o", &dir, "--with-attestations", "app:1"]).run();
    check(Path::new(&dir), &digest, 3);
    let ran = world.rbuild(["save", "-o", "x.tar", "--with-attestations", "app:1"]).status(1).run();
    assert!(ran.stderr.contains("docker's archives and engines have no place for them"), "{}", ran.stderr);
    for from in [&tar, &dir] {
        for (flag, count) in [(None, 0), (Some("--with-attestations"), 3)] {
            world.rbuild(["rmi", "app:1"]).any_stdout().run();
            let ran = world.rbuild(["load", "-i", from]).args(flag).any_stdout().run();
            assert_eq!(ran.stdout, "Loaded image: app:1\n");
            assert_eq!(listed(&world, "app:1").len(), count, "{from}");
        }
        assert_eq!(listed(&world, "app:1"), entries);
        world.rbuild(["attest", "verify", "app:1"]).any_stdout().run();
    }
}

#[test]
fn pull_and_copy_take_them_along_if_asked() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    let name = format!("{}/app:1", registry.host());
    world.build(["-t", &name, "--push"]).args(BOTH).remarks().run();
    let entries = listed(&world, &name);
    world.rbuild(["rmi", &name]).any_stdout().run();
    world.rbuild(["pull", "-q", &name]).any_stdout().run();
    assert_eq!(listed(&world, &name).len(), 0);
    world.rbuild(["pull", "-q", "--with-attestations", &name]).any_stdout().run();
    assert_eq!(listed(&world, &name), entries);
    // From registry to layout to registry to store, through a store that keeps nothing of it.
    let layout = world.path().join("layout");
    let layout = format!("oci:{}:x", layout.display());
    let other = format!("docker://{}/other:2", registry.host());
    world.rbuild(["rmi", &name]).any_stdout().run();
    world.rbuild(["prune", "-f", "--all"]).any_stdout().run();
    let from = format!("docker://{name}");
    for (from, to) in [(&from, &layout), (&layout, &other)] {
        world.rbuild(["copy", "-q", "--with-attestations", from, to]).any_stdout().run();
    }
    assert_eq!(listed(&world, &other), entries);
    assert_eq!(world.rbuild(["images", "-a", "-q"]).any_stdout().run().stdout, "");
    world.rbuild(["copy", "-q", "--with-attestations", &layout, "store:third"]).any_stdout().run();
    assert_eq!(listed(&world, "third"), entries);
    world.rbuild(["copy", "-q", &other, "store:fourth"]).any_stdout().run();
    // The store lists them whatever the repository.
    assert_eq!(listed(&world, "fourth"), entries);
    let ran =
        world.rbuild(["copy", "-q", "--with-attestations", "third", "docker-archive:x.tar"]).status(1).run();
    assert!(ran.stderr.contains("3 documents are kept beside the image"), "{}", ran.stderr);
}

/// A layout that lists what it does not have, and what is something else.
#[test]
fn layouts_that_lie_are_found_out() {
    let world = World::new();
    prepare(&world);
    let dir = world.path().join("dir");
    let digest = world
        .build([&format!("-o=type=oci,tar=false,dest={}", dir.display()), "-t", "app:1", "--sbom"])
        .run()
        .digest();
    world.rbuild(["rmi", "app:1"]).any_stdout().run();
    world.rbuild(["prune", "-f", "--all"]).any_stdout().run();
    let entries = index(&dir);
    let document = entries.iter().find(|entry| entry["artifactType"] == "application/spdx+json").unwrap();
    let path = dir.join("blobs").join(document["digest"].as_str().unwrap().replace(':', "/"));
    let manifest = fs::read(&path).unwrap();
    let load =
        || world.rbuild(["load", "--with-attestations", "-i"]).arg(&dir).any_stdout().status(1).run().stderr;
    fs::remove_file(&path).unwrap();
    fs::write(&path, [&manifest[..], b" "].concat()).unwrap();
    let told = load();
    assert!(told.contains(&format!("what lies beside {digest} cannot be taken")), "{told}");
    fs::remove_file(&path).unwrap();
    let told = load();
    assert!(told.contains("cannot be taken") && told.contains("the images themselves were loaded"), "{told}");
}
