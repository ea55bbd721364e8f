//! Layers as eStargz: what others read in them, and what is built on them. That a reader of the table finds each file is
//! a matter of the writer's own tests.

use std::fs;
use std::io::Read;

use crate::support::base::{busybox, busybox_registry};
use crate::support::image::{TestLayer, tar_of};
use crate::support::is_root;
use crate::support::layout::{Layout, sha256};
use crate::support::program::{Ran, World};
use crate::support::registry::Registry;
use crate::support::tools;

const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// A context with a large file, which has several pieces, and small ones.
fn world() -> World {
    let world = World::new();
    world.file("data/large", "0123456789abcdef".repeat(150_000)).file("data/list", "1\n2\n");
    world.file("run.sh", "#!/bin/sh\n");
    world.set_mode("run.sh", 0o755);
    std::os::unix::fs::symlink("list", world.context().join("data/link")).unwrap();
    world.dockerfile("FROM scratch\nCOPY data /app/data\nCOPY run.sh /app/\n");
    world
}

/// A build with `compression`, named `x`.
fn built(world: &World, compression: &str) -> Ran {
    let output = format!("type=image,compression={compression}");
    world.build(["-t", "x", "-o", &output]).run()
}

/// The table of a layer, by way of its footer.
fn table(blob: &[u8]) -> (Vec<u8>, serde_json::Value) {
    let footer = &blob[blob.len() - 51..];
    assert_eq!(&footer[32..38], b"STARGZ");
    let at = usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&blob[at..]).read_to_end(&mut tar).unwrap();
    let mut json = Vec::new();
    let mut archive = tar::Archive::new(tar.as_slice());
    archive.entries().unwrap().next().unwrap().unwrap().read_to_end(&mut json).unwrap();
    let value = serde_json::from_slice(&json).unwrap();
    (json, value)
}

#[test]
fn the_manifest_vouches_for_the_table() {
    let world = world();
    let image = world.images().image(&built(&world, "estargz").digest());
    for layer in image.manifest.layers() {
        assert_eq!(layer.media_type().to_string(), "application/vnd.oci.image.layer.v1.tar+gzip");
        let path = world.store().join("blobs").join(layer.digest().to_string().replace(':', "/"));
        let blob = fs::read(path).unwrap();
        let mut whole = Vec::new();
        flate2::read::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut whole).unwrap();
        let annotations = layer.annotations().as_ref().unwrap();
        assert_eq!(annotations.len(), 2, "{annotations:?}");
        assert_eq!(annotations[TOC_DIGEST], sha256(&table(&blob).0));
        assert_eq!(annotations[UNCOMPRESSED_SIZE], whole.len().to_string());
    }
    let path = image.manifest.layers()[0].digest().to_string().replace(':', "/");
    let (_, table) = table(&fs::read(world.store().join("blobs").join(path)).unwrap());
    let rows = table["entries"].as_array().unwrap().iter();
    let rows: Vec<_> = rows.map(|row| format!("{} {}", row["type"], row["name"]).replace('"', "")).collect();
    let expected = [
        "dir app/",
        "dir app/data/",
        "reg app/data/large",
        "chunk app/data/large",
        "chunk app/data/large",
        "symlink app/data/link",
        "reg app/data/list",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn who_reads_gzip_finds_the_files_and_nothing_else() {
    let world = world();
    let usual = world.images().image(&built(&world, "gzip").digest()).listing();
    let digest = built(&world, "estargz").digest();
    assert_eq!(world.images().image(&digest).listing(), usual);
    let name = "docker.io/library/x:latest";
    let copy = world.path().join("copy");
    let from = format!("oci:{}:{name}", world.store().display());
    tools::run("skopeo", ["--insecure-policy", "copy", "-q", &from, &format!("oci:{}:x", copy.display())]);
    let copied = Layout::at(&copy).image(&digest);
    assert!(copied.manifest.layers()[0].annotations().as_ref().unwrap().contains_key(TOC_DIGEST));
    let bundle = world.path().join("bundle");
    let image = format!("{}:{name}", world.store().display());
    let mut words = vec!["unpack", "--image", &image, bundle.to_str().unwrap()];
    if !is_root() {
        words.insert(1, "--rootless");
    }
    tools::run("umoci", words);
    let found = tools::listing(&bundle.join("rootfs"));
    let paths: Vec<&str> = found.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(paths, ["app", "app/data", "app/data/large", "app/data/link", "app/data/list", "app/run.sh"]);
    assert!(
        fs::read(bundle.join("rootfs/app/data/large")).unwrap()
            == fs::read(world.context().join("data/large")).unwrap()
    );
    world.rbuild(["verify"]).any_stdout().run();
}

#[test]
fn the_cache_serves_no_layer_in_another_form() {
    let world = world();
    let forms = ["gzip", "estargz", "estargz,compression-level=9", "zstd"];
    let first: Vec<String> = forms.iter().map(|form| built(&world, form).digest()).collect();
    for (number, form) in forms.iter().enumerate() {
        assert!(!first[..number].contains(&first[number]), "{form} has bytes of its own");
        let again = built(&world, form);
        assert_eq!((again.outcome("COPY data"), again.digest()), ("CACHED", first[number].clone()), "{form}");
    }
    // One changed file: nothing is taken from what gzip left.
    world.file("data/list", "1\n2\n3\n");
    let changed = built(&world, "estargz").digest();
    fs::remove_dir_all(world.store()).unwrap();
    assert_eq!(built(&world, "estargz").digest(), changed);
}

/// Both in the store where the layers were written, and where all that is known of them is their blobs.
#[test]
fn a_build_on_such_layers() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\nRUN echo made > /made\nCOPY note /note\n", registry.host()));
    world.file("note", "a note\n");
    let layout = world.path().join("layout");
    let output = format!("type=oci,tar=false,dest={},compression=estargz", layout.display());
    let base = world.build(["-t", "base", "-o", "type=image", "-o", &output]).run().digest();
    let files = Layout::at(&layout).image(&base).files();
    assert_eq!(files["made"].content, b"made\n");
    let (fresh, context) = (World::new(), format!("base=oci-layout://{}", layout.display()));
    for (world, context) in [(&world, &[][..]), (&fresh, &["--build-context", &context])] {
        let read = "RUN ls -a / > /root.txt && cat /made /note > /both";
        world.dockerfile(&format!("FROM base\n{read}\nCOPY --from=base /made /copied\n"));
        let out = world.path().join("out");
        let outputs = ["-o", out.to_str().unwrap(), "-o", "type=image,compression=estargz"];
        world.build(context.iter().chain(&outputs)).run();
        assert_eq!(fs::read_to_string(out.join("both")).unwrap(), "made\na note\n");
        assert_eq!(fs::read_to_string(out.join("copied")).unwrap(), "made\n");
        let root = fs::read_to_string(out.join("root.txt")).unwrap();
        assert!(root.contains("note") && !root.contains("stargz") && !root.contains("landmark"), "{root}");
        assert!(!out.join("stargz.index.json").exists());
    }
}

/// Other writers leave out the end of the tar before the table, which then is a file of the layer for every reader that
/// does not know better. BuildKit shows it, too.
#[test]
fn a_table_that_is_in_the_tar_is_a_file() {
    let (world, registry) = (World::new(), Registry::start());
    let mut image = busybox();
    // The end of a tar is its last two blocks.
    let landmark = &tar_of(".no.prefetch.landmark", b"\x0f")[..1024];
    let table = tar_of("stargz.index.json", b"{}");
    let mut layer = TestLayer::gzip(&[landmark, &table].concat());
    layer.blob = [TestLayer::gzip(landmark).blob, TestLayer::gzip(&table).blob].concat();
    image.layers.push(layer);
    image.config.rootfs.diff_ids = image.layers.iter().map(|layer| layer.diff_id).collect();
    image.config.history.push(image.config.history[0].clone());
    registry.push(&image, "base", "latest");
    world.dockerfile(&format!("FROM {}/base\nRUN ls -a / > /root.txt\n", registry.host()));
    let out = world.path().join("out");
    world.build(["-o", out.to_str().unwrap()]).run();
    let root = fs::read_to_string(out.join("root.txt")).unwrap();
    assert!(root.contains(".no.prefetch.landmark\n") && root.contains("stargz.index.json\n"), "{root}");
    assert_eq!(fs::read_to_string(out.join("stargz.index.json")).unwrap(), "{}");
}

#[test]
fn what_the_table_cannot_hold_is_told() {
    let world = World::new();
    world.file("stargz.index.json", "{}").dockerfile("FROM scratch\nCOPY stargz.index.json /\n");
    let output = ["-o", "type=image,compression=estargz"];
    let ran = world.build(output).status(1).run();
    assert!(
        ran.stderr.contains("`stargz.index.json` cannot be at the root of an eStargz layer"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("Dockerfile:2"), "{}", ran.stderr);
    world.dockerfile("FROM scratch\nCOPY stargz.index.json /d/\n");
    world.build(output).run();
}
