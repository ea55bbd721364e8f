//! Layers in gzip, read by programs that look for one member and no more.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use crate::support::image::{TestImage, TestLayer};
use crate::support::is_root;
use crate::support::layout::sha256;
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::tools;

/// A context of 60 files and 12 MB: a layer of more than ten segments.
fn world() -> World {
    let world = World::new();
    for at in 0..60_u32 {
        let numbers = (0..50_000_u32).map(|i| (i ^ (i >> 5)).wrapping_mul(at * 2 + 1) >> 3);
        world.file(&format!("data/{at}"), numbers.flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    }
    world.dockerfile("FROM scratch\nCOPY data /data\n");
    world
}

/// The blob of the only layer.
fn blob(world: &World, digest: &str) -> PathBuf {
    let image = world.images().image(digest);
    let layer = image.manifest.layers()[0].digest().to_string();
    world.store().join("blobs").join(layer.replace(':', "/"))
}

#[test]
fn every_reader_finds_the_end_of_a_layer() {
    let world = world();
    for output in ["type=image", "type=image,compression=gzip,compression-level=6"] {
        let digest = world.build(["-t", "x", "-o", output]).run().digest();
        let image = world.images().image(&digest);
        let path = blob(&world, &digest);
        let path = path.to_str().unwrap();
        let script = "import sys, tarfile; print(len(list(tarfile.open(sys.argv[1], 'r|gz'))))";
        assert_eq!(tools::run("python3", ["-c", script, path]), "61\n", "{output}");
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut tar).unwrap();
        assert_eq!(sha256(&tar), image.layers[0].diff_id, "{output}");
        tools::run("sh", ["-c", "gzip -t <\"$0\"", path]);
        let hashed = tools::run("sh", ["-c", "zcat <\"$0\" | sha256sum", path]);
        assert_eq!(format!("sha256:{}", &hashed[..64]), image.layers[0].diff_id, "{output}");
    }
    let name = "docker.io/library/x:latest";
    let (copy, bundle) = (world.path().join("copy"), world.path().join("bundle"));
    let from = format!("oci:{}:{name}", world.store().display());
    tools::run("skopeo", ["--insecure-policy", "copy", "-q", &from, &format!("oci:{}:x", copy.display())]);
    let image = format!("{}:{name}", world.store().display());
    let mut words = vec!["unpack", "--image", &image, bundle.to_str().unwrap()];
    if !is_root() {
        words.insert(1, "--rootless");
    }
    tools::run("umoci", words);
    for file in ["data/0", "data/59"] {
        let unpacked = fs::read(bundle.join("rootfs").join(file)).unwrap();
        assert!(unpacked == fs::read(world.context().join(file)).unwrap(), "{file}");
    }
}

/// What is taken from the earlier layer is a part of the one member, too.
#[test]
fn a_layer_that_takes_from_an_earlier_one_has_an_end() {
    let world = world();
    world.build(["-t", "x"]).run();
    world.file("data/30", "something else");
    let digest = world.build(["-t", "x"]).run().digest();
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(blob(&world, &digest)).unwrap())
        .read_to_end(&mut tar)
        .unwrap();
    assert_eq!(sha256(&tar), world.images().image(&digest).layers[0].diff_id);
    fs::remove_dir_all(world.store()).unwrap();
    assert_eq!(world.build(["-t", "x"]).run().digest(), digest, "as made at once");
}

/// A base whose layer has several members, as others write it, and rbuild did: all of it is there, and made anew it is one.
#[test]
fn a_base_of_several_members_is_whole() {
    let (world, registry) = (World::new(), Registry::start());
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in [("first", "1\n"), ("last", "2\n")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let mut layer = TestLayer::gzip(&tar);
    layer.blob = tar.chunks(700).flat_map(|piece| TestLayer::gzip(piece).blob).collect();
    registry.push(&TestImage::new("linux/amd64", vec![layer]), "base", "latest");
    world.dockerfile(&format!(
        "FROM {0}/base AS base\nFROM base\nCOPY --from=base /last /copied\n",
        registry.host()
    ));
    let out = world.path().join("out");
    world.build(["-o", out.to_str().unwrap()]).run();
    assert_eq!(fs::read_to_string(out.join("copied")).unwrap(), "2\n");
    assert_eq!(fs::read_to_string(out.join("last")).unwrap(), "2\n");
    let forced = |name: &str, form: &str| {
        let output = format!("type=image,force-compression=true,compression={form}");
        world.build(["-t", name, "-o", &output]).remarks().run().digest()
    };
    let zstd = forced("z", "zstd");
    world.dockerfile("FROM z\n");
    let gzip = forced("g", "gzip");
    let listing = |digest: &str| world.images().image(digest).listing();
    assert_eq!(listing(&gzip), listing(&zstd));
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(blob(&world, &gzip)).unwrap()).read_to_end(&mut tar).unwrap();
    assert_eq!(sha256(&tar), world.images().image(&gzip).layers[0].diff_id);
}
