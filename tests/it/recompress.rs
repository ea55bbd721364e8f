//! `force-compression=true`: every layer of an image in one form, bases included.

use std::collections::BTreeMap;
use std::fs;

use crate::support::base::busybox_registry;
use crate::support::is_root;
use crate::support::layout::{ImageOnDisk, Layout};
use crate::support::program::{Ran, World};
use crate::support::tools;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A build whose image is named `NAME`; `form` is what the output says beside its type.
fn built(world: &World, name: &str, form: &str) -> Ran {
    world.build(["-t", name, "-o", &format!("type=image,{form}")]).remarks().run()
}

fn media_types(image: &ImageOnDisk) -> Vec<String> {
    let short = |text: String| text.strip_prefix(TAR).map(str::to_owned).unwrap_or(text);
    image.manifest.layers().iter().map(|layer| short(layer.media_type().to_string())).collect()
}

fn diff_ids(image: &ImageOnDisk) -> Vec<String> {
    image.layers.iter().map(|layer| layer.diff_id.clone()).collect()
}

/// The blobs of the store, and the inode of each: a blob that is written again has another one.
fn blobs(world: &World) -> BTreeMap<String, i64> {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(world.store().join("blobs/sha256")).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().ino() as i64)).collect()
}

#[test]
fn all_layers_get_the_form_and_keep_their_diff_ids() {
    let (world, registry) = (World::new(), busybox_registry());
    world.file("note", "a note\n");
    world.dockerfile(&format!(
        "FROM {}/busybox AS base\nRUN echo 1 > /one\nFROM base\nCOPY note /\n",
        registry.host()
    ));
    let usual = world.images().image(&built(&world, "usual", "compression=gzip").digest());
    assert_eq!(media_types(&usual), ["+gzip", "+gzip", "+gzip"]);
    for (form, expected) in [("zstd", "+zstd"), ("uncompressed", "")] {
        let plain = world.images().image(&built(&world, "plain", &format!("compression={form}")).digest());
        assert_eq!(media_types(&plain), ["+gzip", expected, expected]);
        let form = format!("compression={form},force-compression=true");
        let first = built(&world, "forced", &form);
        assert!(first.stderr.contains("anew, for force-compression=true"), "{}", first.stderr);
        let image = world.images().image(&first.digest());
        assert_eq!(media_types(&image), [expected; 3]);
        assert_eq!(diff_ids(&image), diff_ids(&plain));
        assert_eq!((image.listing(), image.history()), (plain.listing(), plain.history()));
        assert!(image.config == plain.config, "only blobs differ");
        let before = blobs(&world);
        let again = built(&world, "forced", &form);
        assert_eq!(again.digest(), first.digest());
        assert!(!again.stderr.contains("anew"), "{}", again.stderr);
        assert!(blobs(&world) == before, "nothing is written again");
    }
    // What has the form stays, whatever its level.
    let kept = built(&world, "kept", "force-compression=true");
    assert_eq!(kept.digest(), {
        let usual = built(&world, "usual", "compression=gzip");
        usual.digest()
    });
    let high = built(&world, "high", "compression-level=9,force-compression=true").digest();
    let high = world.images().image(&high);
    assert_eq!(high.manifest.layers()[0], usual.manifest.layers()[0]);
    world.rbuild(["verify"]).any_stdout().run();
}

#[test]
fn a_base_in_zstd_becomes_gzip_and_others_read_it() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\nRUN echo made > /made\n", registry.host()));
    let zstd = built(&world, "base", "compression=zstd,force-compression=true").digest();
    world.dockerfile("FROM base\nRUN cat /made /made > /twice\n");
    let archive = world.path().join("x.tar");
    let output = format!("type=oci,dest={},force-compression=true", archive.display());
    let name = format!("{}/out:1", registry.host());
    let digest = world
        .build(["-t", &name, "-o", &output, "-o", "type=registry", "-o", "type=image"])
        .remarks()
        .run()
        .digest();
    let image = world.images().image(&digest);
    assert_eq!(media_types(&image), ["+gzip"; 3]);
    assert_eq!(diff_ids(&image)[..2], diff_ids(&world.images().image(&zstd)));
    let copy = world.path().join("copy");
    let copy_to = format!("oci:{}:x", copy.display());
    for from in [format!("oci-archive:{}", archive.display()), format!("docker://{name}")] {
        let words = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", &from, &copy_to];
        tools::run("skopeo", words);
        assert_eq!(media_types(&Layout::at(&copy).image(&digest)), ["+gzip"; 3]);
    }
    let bundle = world.path().join("bundle");
    let source = format!("{}:x", copy.display());
    let mut words = vec!["unpack", "--image", &source, bundle.to_str().unwrap()];
    if !is_root() {
        words.insert(1, "--rootless");
    }
    tools::run("umoci", words);
    assert_eq!(fs::read_to_string(bundle.join("rootfs/twice")).unwrap(), "made\nmade\n");
}

#[test]
fn pruning_keeps_what_the_image_needs_and_a_lost_blob_is_made_again() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\n", registry.host()));
    let form = "compression=zstd,force-compression=true";
    let digest = built(&world, "x", form).digest();
    let layer = world.images().image(&digest).manifest.layers()[0].digest().to_string();
    world.rbuild(["prune"]).any_stdout().run();
    world.rbuild(["prune", "--all", "--force"]).any_stdout().run();
    world.rbuild(["verify"]).any_stdout().run();
    assert_eq!(world.images().image(&digest).layers.len(), 1);
    assert_eq!(built(&world, "x", form).digest(), digest);
    fs::remove_file(world.store().join("blobs").join(layer.replace(':', "/"))).unwrap();
    let again = built(&world, "x", form);
    assert!(again.stderr.contains("anew"), "{}", again.stderr);
    assert_eq!(again.digest(), digest);
    assert_eq!(world.images().image(&digest).layers.len(), 1);
}

#[test]
fn threads_and_machines_do_not_matter() {
    let registry = busybox_registry();
    let digests = ["1", "3"].map(|threads| {
        let world = World::new();
        world.dockerfile(&format!("FROM {}/busybox\n", registry.host()));
        let words = ["-t", "x", "-o", "type=image,compression=zstd,force-compression=true"];
        world.build(words).env("RAYON_NUM_THREADS", threads).remarks().run().digest()
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn estargz_is_forced_where_no_base_has_another_form() {
    let (world, registry) = (World::new(), busybox_registry());
    world.file("note", "a note\n");
    let form = "compression=estargz,force-compression=true";
    world.dockerfile("FROM scratch\nCOPY note /\n");
    let lazy = built(&world, "lazy", form).digest();
    assert_eq!(lazy, built(&world, "plain", "compression=estargz").digest());
    world.dockerfile("FROM lazy\nCOPY note /again\n");
    let image = world.images().image(&built(&world, "more", form).digest());
    assert!(image.manifest.layers().iter().all(|layer| layer.annotations().is_some()));
    // The table stays in the tar, but nobody is told of it.
    let image = world.images().image(&built(&world, "gzip", "force-compression=true").digest());
    assert!(image.manifest.layers().iter().all(|layer| layer.annotations().is_none()));
    world.dockerfile(&format!("FROM {}/busybox\nRUN touch /x\n", registry.host()));
    let output = format!("type=image,{form}");
    let ran = world.build(["-o", &output]).status(1).run();
    assert!(ran.stderr.contains("layers of the base image are not eStargz"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("Dockerfile:1") && ran.stderr.contains("compression=estargz"),
        "{}",
        ran.stderr
    );
    world.dockerfile(&format!(
        "FROM {}/busybox AS other\nFROM lazy\nCOPY --from=other /etc /etc\n",
        registry.host()
    ));
    built(&world, "other", form);
}

#[test]
fn each_platform_gets_the_form() {
    let world = World::new();
    world.file("note", "a note\n").dockerfile("FROM scratch\nCOPY note /\n");
    let both = ["--platform", "linux/amd64,linux/arm64"];
    world.build(both.iter().chain(&["-t", "base"])).run();
    world.dockerfile("FROM base\nCOPY note /again\n");
    let output = ["-t", "x", "-o", "type=image,compression=zstd,force-compression=true"];
    let digest = world.build(both.iter().chain(&output)).remarks().run().digest();
    let index = fs::read(world.store().join("blobs").join(digest.replace(':', "/"))).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2);
    for manifest in manifests {
        let image = world.images().image(manifest["digest"].as_str().unwrap());
        assert_eq!(media_types(&image), ["+zstd"; 2]);
    }
}
