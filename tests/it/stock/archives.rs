//! `save` and `load`: archives and layouts, also those of other tools.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::world;
use crate::support::image::{TestImage, TestLayer};
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::tools;

/// A store of podman's own.
fn podman(world: &World, args: &[&str]) -> String {
    let root = world.path().join("podman");
    let (graph, run) = (root.join("graph"), root.join("run"));
    let storage =
        ["--root", graph.to_str().unwrap(), "--runroot", run.to_str().unwrap(), "--storage-driver", "vfs"];
    tools::run("podman", [&storage, args].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn file(world: &World, name: &str) -> PathBuf {
    world.path().join(name)
}

/// The identities of an image's layers, which no repacking changes.
fn layers(world: &World, name: &str) -> String {
    world.rbuild(["inspect", "-f", "{{.RootFS.Layers}} {{json .Config}}", name]).any_stdout().run().stdout
}

#[test]
fn what_was_saved_is_loaded() {
    let world = world();
    let digest = world.build(["-t", "app:1", "-t", "localhost:5000/app:2"]).run().digest();
    world.dockerfile("FROM scratch\nCOPY b /\n");
    let other = world.build(["-t", "other"]).run().digest();
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let saved = file(&world, format);
        let words =
            ["save", "--format", format, "-o", text(&saved), "app:1", "localhost:5000/app:2", "other"];
        world.rbuild(words).run();
        let elsewhere = World::new();
        elsewhere
            .rbuild(["load", "-i", text(&saved)])
            .stdout("Loaded image: app:1\nLoaded image: localhost:5000/app:2\nLoaded image: other:latest\n")
            .run();
        let listed = elsewhere.rbuild(["images", "-q", "--no-trunc"]).any_stdout().run().stdout;
        assert_eq!(listed, format!("{digest}\n{digest}\n{other}\n"), "{format}");
        elsewhere.rbuild(["verify"]).any_stdout().run();
    }
    let ran = world.rbuild(["save", "nothing"]).status(1).run();
    assert!(ran.stderr.contains("no image `nothing`"), "{}", ran.stderr);
    world.rbuild(["save", "--format", "oci-dir", "app:1"]).status(2).run();
}

#[test]
fn through_a_pipe_and_compressed() {
    let world = world();
    let digest = world.build(["-t", "app"]).run().digest();
    let archive = file(&world, "app.tar");
    world.rbuild(["save", "-o", text(&archive), "app"]).run();
    let plain = fs::read(&archive).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for bytes in [plain, gzip.finish().unwrap(), zstd] {
        let elsewhere = World::new();
        elsewhere.rbuild(["load", "-q"]).stdin(bytes).stdout(format!("{digest}\n")).run();
        elsewhere.rbuild(["images", "-q", "--no-trunc", "app"]).stdout(format!("{digest}\n")).run();
    }
}

#[test]
fn podman_and_skopeo_read_what_save_writes() {
    let world = world();
    world.build(["-t", "localhost/app:1"]).run();
    world.dockerfile("FROM scratch\nCOPY b /\n");
    world.build(["-t", "localhost/other:1"]).run();
    let archive = file(&world, "both.tar");
    world.rbuild(["save", "-o", text(&archive), "localhost/app:1", "localhost/other:1"]).run();
    let loaded = podman(&world, &["load", "-i", text(&archive)]);
    assert!(loaded.contains("localhost/app:1") && loaded.contains("localhost/other:1"), "{loaded}");
    tools::run("skopeo", ["inspect", &format!("docker-archive:{}:localhost/other:1", archive.display())]);
    let archive = file(&world, "oci.tar");
    world.rbuild(["save", "--format=oci-archive", "-o", text(&archive), "localhost/app:1"]).run();
    tools::run("skopeo", ["inspect", &format!("oci-archive:{}", archive.display())]);
}

#[test]
fn load_reads_what_podman_and_skopeo_save() {
    let world = world();
    world.build(["-t", "localhost/app:1"]).run();
    let wanted = layers(&world, "localhost/app:1");
    let archive = file(&world, "app.tar");
    world.rbuild(["save", "-o", text(&archive), "localhost/app:1"]).run();
    podman(&world, &["load", "-i", text(&archive)]);
    for format in ["docker-archive", "oci-archive"] {
        let saved = file(&world, format);
        podman(&world, &["save", "-q", "--format", format, "-o", text(&saved), "localhost/app:1"]);
        let elsewhere = World::new();
        elsewhere.rbuild(["load", "-i", text(&saved)]).stdout("Loaded image: localhost/app:1\n").run();
        assert_eq!(layers(&elsewhere, "localhost/app:1"), wanted, "{format}");
        elsewhere.rbuild(["verify"]).any_stdout().run();
    }
    let source = format!("oci:{}:localhost/app:1", world.store().display());
    let saved = file(&world, "skopeo.tar");
    tools::run(
        "skopeo",
        ["copy", "-q", &source, &format!("docker-archive:{}:localhost/sk:1", saved.display())],
    );
    world.rbuild(["load", "-i", text(&saved)]).stdout("Loaded image: localhost/sk:1\n").run();
    assert_eq!(layers(&world, "localhost/sk:1"), wanted);
    let saved = file(&world, "skopeo-oci.tar");
    tools::run("skopeo", ["copy", "-q", &source, &format!("oci-archive:{}:latest", saved.display())]);
    let ran = world.rbuild(["load", "-i", text(&saved)]).any_stdout().run();
    assert!(ran.stdout.starts_with("Loaded image ID: sha256:"), "{}", ran.stdout);
}

/// Docker before 25 wrote a folder for each layer, and links where layers repeat.
#[test]
fn load_reads_dockers_old_archives() {
    let world = World::new();
    let image = TestImage::new(
        "linux/amd64",
        vec![TestLayer::files(&[("a", "one")]), TestLayer::files(&[("a", "one")])],
    );
    let config = image.config_bytes();
    let mut plain = Vec::new();
    std::io::Read::read_to_end(
        &mut flate2::read::GzDecoder::new(image.layers[0].blob.as_slice()),
        &mut plain,
    )
    .unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    add("1111/layer.tar", &plain);
    add("c.json", &config);
    let manifest =
        r#"[{"Config":"c.json","RepoTags":["old:1"],"Layers":["1111/layer.tar","2222/layer.tar"]}]"#;
    add("manifest.json", manifest.as_bytes());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "2222/layer.tar", "../1111/layer.tar").unwrap();
    let bytes = tar.into_inner().unwrap();
    world.rbuild(["load"]).stdin(bytes).stdout("Loaded image: old:1\n").run();
    let shown = world
        .rbuild(["inspect", "-f", "{{.RootFS.Layers}} {{.Manifest.config.digest}}", "old:1"])
        .any_stdout()
        .run();
    let diff_id = image.layers[0].diff_id;
    let id = rbuild::oci::Digest::of(&config);
    assert_eq!(shown.stdout, format!("[{diff_id} {diff_id}] {id}\n"));
    tools::run("umoci", ["stat", "--image", &format!("{}:docker.io/library/old:1", world.store().display())]);
    world.rbuild(["verify"]).any_stdout().run();
}

fn multi(registry: &Registry) -> Vec<TestImage> {
    let images: Vec<TestImage> = ["linux/amd64", "linux/arm64"]
        .iter()
        .map(|platform| TestImage::new(platform, vec![TestLayer::files(&[("platform", platform)])]))
        .collect();
    let descriptors =
        images.iter().map(|image| registry.push(image, "multi", &image.config.architecture)).collect();
    registry.push_index(descriptors, "multi", "1");
    images
}

#[test]
fn several_platforms() {
    let (world, registry) = (World::new(), Registry::start());
    let images = multi(&registry);
    let name = format!("{}/multi:1", registry.host());
    world.rbuild(["pull", "-q", "--all-platforms", &name]).any_stdout().run();
    let ran = world.rbuild(["save", "-o", "x.tar", &name]).status(1).run();
    assert!(ran.stderr.contains("has 2") && ran.stderr.contains("--format oci-archive"), "{}", ran.stderr);
    let archive = file(&world, "multi.tar");
    world.rbuild(["save", "--format", "oci-archive", "-o", text(&archive), &name]).run();
    let elsewhere = World::new();
    elsewhere.rbuild(["load", "-i", text(&archive)]).any_stdout().run();
    elsewhere.rbuild(["images", "--format", "{{.Platforms}}"]).stdout("linux/amd64,linux/arm64\n").run();
    let one = World::new();
    one.rbuild(["load", "--platform", "linux/arm64", "-i", text(&archive)]).any_stdout().run();
    one.rbuild(["images", "-q", "--no-trunc"]).stdout(format!("{}\n", images[1].descriptor().digest)).run();
    let ran = one.rbuild(["load", "--platform", "linux/s390x", "-i", text(&archive)]).status(1).run();
    assert!(ran.stderr.contains("it has: linux/amd64, linux/arm64"), "{}", ran.stderr);
    // As docker saves an image of which it has one platform: the index names what is not there.
    let layout = file(&world, "partial");
    world.rbuild(["save", "--format", "oci-dir", "-o", text(&layout), &name]).run();
    fs::remove_file(layout.join("blobs/sha256").join(images[0].descriptor().digest.hex())).unwrap();
    let partial = World::new();
    partial.rbuild(["load", "-i", text(&layout)]).any_stdout().run();
    partial.rbuild(["images", "--format", "{{.Platforms}}"]).stdout("linux/arm64\n").run();
    partial.rbuild(["verify"]).any_stdout().run();
}

#[test]
fn what_is_no_archive_is_refused() {
    let world = world();
    world.build(["-t", "app"]).run();
    let layout = file(&world, "layout");
    world.rbuild(["save", "--format", "oci-dir", "-o", text(&layout), "app"]).run();
    let fails = |words: &[&str], expected: &str| {
        let elsewhere = World::new();
        let ran = elsewhere.rbuild([&["load", "-i"], words].concat()).status(1).run();
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        assert_eq!(elsewhere.rbuild(["images", "-q"]).any_stdout().run().stdout, "");
    };
    fails(&["/nothing/here"], "cannot open `/nothing/here`");
    fails(&[text(&world.context())], "holds no images");
    world.file("garbage", "not a tar at all, and longer than a header block needs to be".repeat(20));
    fails(&[text(&world.context().join("garbage"))], "cannot be read as an archive");
    let blobs = layout.join("blobs/sha256");
    let largest = fs::read_dir(&blobs)
        .unwrap()
        .map(|e| e.unwrap().path())
        .max_by_key(|p| fs::metadata(p).unwrap().len());
    let largest = largest.unwrap();
    let name = largest.file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&largest).unwrap();
    fs::write(&largest, "damaged").unwrap();
    fails(&[text(&layout)], &format!("blobs/sha256/{name}` in"));
    fs::remove_file(&largest).unwrap();
    fails(&[text(&layout)], "it lacks");
}
