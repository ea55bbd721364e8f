//! Manifests that are wrong about the size of a blob, or too large themselves.

use std::fs;
use std::path::PathBuf;

use rbuild::oci::{Descriptor, Digest, MediaType, Reference};
use rbuild::store::Store;

use crate::support::image::{TestImage, TestLayer};
use crate::support::program::World;

/// An image for this machine whose manifest says of its layer that it has a byte more.
fn wrong() -> (TestImage, Vec<u8>, String) {
    let platform = rbuild::oci::Platform::host().to_string();
    let image = TestImage::new(&platform, vec![TestLayer::files(&[("hello", "hello\n")])]);
    let mut manifest = image.manifest();
    let size = manifest.layers[0].size;
    manifest.layers[0].size += 1;
    let told = format!("{size}");
    (image, serde_json::to_vec(&manifest).unwrap(), told)
}

/// A layout with these blobs, the last of which is the manifest.
fn layout(world: &World, blobs: &[&[u8]]) -> PathBuf {
    let layout = world.path().join("home/layout");
    let folder = layout.join("blobs/sha256");
    fs::create_dir_all(&folder).unwrap();
    for blob in blobs {
        fs::write(folder.join(Digest::of(blob).hex()), blob).unwrap();
    }
    let manifest = blobs.last().unwrap();
    let descriptor = Descriptor::new(MediaType::MANIFEST, Digest::of(manifest), manifest.len() as u64);
    let descriptor = serde_json::to_string(&descriptor).unwrap();
    fs::write(layout.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#))
        .unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layout
}

#[test]
fn are_not_loaded() {
    let (image, manifest, size) = wrong();
    let world = World::new();
    let layout = layout(&world, &[&image.config_bytes(), &image.layers[0].blob, &manifest]);
    let why = format!("has {size} bytes, and what names it says");
    let ran = world.rbuild(["load", "-i"]).arg(&layout).status(1).run();
    assert!(ran.stderr.contains(&why), "{}", ran.stderr);
    world.dockerfile("FROM base\nCOPY --from=base /hello /again\n");
    let base = format!("base=oci-layout://{}", layout.display());
    let ran = world.build(["--build-context", &base]).status(1).run();
    assert!(ran.stderr.contains(&why), "{}", ran.stderr);
}

/// A registry would not take it, and neither `images` nor a build would read it again.
#[test]
fn a_manifest_that_nothing_would_read_again_is_not_loaded() {
    let platform = rbuild::oci::Platform::host().to_string();
    let image = TestImage::new(&platform, vec![TestLayer::files(&[("hello", "hello\n")])]);
    let mut manifest = image.manifest();
    let world = World::new();
    for (padding, is_loaded) in [(3 << 20, true), (4 << 20, false)] {
        manifest.annotations.insert("padding".to_owned(), "x".repeat(padding));
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let layout = layout(&world, &[&image.config_bytes(), &image.layers[0].blob, &bytes]);
        let load = world.rbuild(["load", "-i"]).arg(&layout);
        if is_loaded {
            load.any_stdout().run();
            continue;
        }
        let ran = load.status(1).run();
        let why = format!("has {} bytes, more than the 4194304 that are allowed", bytes.len());
        assert!(ran.stderr.contains(&why), "{}", ran.stderr);
    }
}

#[test]
fn are_not_built_on_and_are_found() {
    let (image, manifest, size) = wrong();
    let world = World::new();
    {
        let store = Store::open(&world.store()).unwrap();
        store.put_blob(&image.config_bytes()).unwrap();
        store.put_blob(&image.layers[0].blob).unwrap();
        let digest = store.put_blob(&manifest).unwrap();
        let target = Descriptor::new(MediaType::MANIFEST, digest, manifest.len() as u64);
        store.set_tag(&"localhost/wrong:1".parse::<Reference>().unwrap(), &target).unwrap();
    }
    world.dockerfile("FROM localhost/wrong:1\nLABEL a=b\n");
    let ran = world.build([""; 0]).status(1).run();
    assert!(ran.stderr.contains(&format!("{size} bytes")), "{}", ran.stderr);
    let ran = world.rbuild(["verify"]).any_status().any_stdout().run();
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!((ran.stdout + &ran.stderr).contains(&format!("(it has {size})")));
}
