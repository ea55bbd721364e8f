//! Bombs that are data: manifests, indexes, archives and options.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rbuild::oci::{Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, MediaType, Platform};

use super::{Done, Refused, holds, limited, lines, up_to};
use crate::support::program::World;

/// A layout with these blobs, the last of which it names.
fn layout(path: &Path, media_type: MediaType, blobs: &[Vec<u8>]) {
    let folder = path.join("blobs/sha256");
    fs::create_dir_all(&folder).unwrap();
    for blob in blobs {
        fs::write(folder.join(Digest::of(blob).hex()), blob).unwrap();
    }
    let top = blobs.last().unwrap();
    let mut top = Descriptor::new(media_type, Digest::of(top), top.len() as u64);
    top.annotations.insert("io.containerd.image.name".to_owned(), "localhost/app:1".to_owned());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [top]});
    fs::write(path.join("index.json"), index.to_string()).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Layer, configuration and manifest of an image that has one empty layer so often.
fn image(layers: usize) -> Vec<Vec<u8>> {
    let tar = vec![0; 1024];
    let platform = Platform::host();
    let mut config =
        ImageConfig { architecture: platform.architecture, os: platform.os, ..ImageConfig::default() };
    config.rootfs.diff_ids = vec![DiffId(Digest::of(&tar)); layers];
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::MANIFEST),
        config: Descriptor::new(MediaType::CONFIG, Digest::of(&config), config.len() as u64),
        layers: vec![Descriptor::new(MediaType::LAYER, Digest::of(&tar), 1024); layers],
        annotations: BTreeMap::new(),
    };
    vec![tar, config, serde_json::to_vec(&manifest).unwrap()]
}

/// In the long form about as many as 4 MiB of a manifest can name.
#[test]
fn in_a_manifest() {
    let world = World::new();
    let base = world.path().join("home/base");
    layout(&base, MediaType::MANIFEST, &image(up_to(20_000)));
    let context = format!("--build-context=base=oci-layout://{}", base.display());
    world.dockerfile("FROM base\nLABEL x=1\n");
    holds("layers", &limited(&world, &["build", "--progress=quiet", &context, "-t", "app", "."]), Done);
    holds("layers, listed", &limited(&world, &["history", "app"]), Done);
    holds("layers, read", &limited(&world, &["verify"]), Done);
}

#[test]
fn in_an_index() {
    let count = up_to(15_000);
    for (name, architecture) in [("of one platform", Some(Platform::host().architecture)), ("of many", None)]
    {
        let world = World::new();
        let base = world.path().join("home/base");
        let mut blobs = image(1);
        let manifest = blobs.last().unwrap();
        let manifest = Descriptor::new(MediaType::MANIFEST, Digest::of(manifest), manifest.len() as u64);
        let entry = |at: usize| {
            let architecture = architecture.clone().unwrap_or_else(|| format!("a{at}"));
            let platform = Platform { architecture, ..Platform::host() };
            Descriptor { platform: Some(platform), ..manifest.clone() }
        };
        let manifests = (0..count).map(entry).collect();
        let media_type = Some(MediaType::INDEX);
        let index = Index { schema_version: 2, media_type, manifests, annotations: BTreeMap::new() };
        blobs.push(serde_json::to_vec(&index).unwrap());
        layout(&base, MediaType::INDEX, &blobs);
        let context = format!("--build-context=base=oci-layout://{}", base.display());
        world.dockerfile("FROM base\nLABEL x=1\n");
        let fate = if architecture.is_some() { Done } else { Refused("no match for") };
        holds(name, &limited(&world, &["build", "--progress=quiet", &context, "."]), fate);
        let from = base.display().to_string();
        holds(name, &limited(&world, &["load", "-i", &from]), Done);
        holds(name, &limited(&world, &["inspect", "localhost/app:1"]), Done);
        holds(name, &limited(&world, &["verify"]), Done);
    }
}

#[test]
fn in_the_options() {
    let count = up_to(20_000);
    let given: Vec<String> = (0..count).map(|at| format!("--build-arg=A{at}=1")).collect();
    let mut words = vec!["plan", "."];
    words.extend(given.iter().map(String::as_str));
    let world = World::new();
    world.dockerfile(&("FROM scratch\n".to_owned() + &lines(count, |at| format!("ARG A{at}"))));
    let fate = if count > 10_000 { Refused("more than 10000 variables") } else { Done };
    holds("arguments", &limited(&world, &words), fate);
    world.dockerfile(&(lines(count, |at| format!("ARG B{at}")) + "FROM scratch\n"));
    holds("arguments that nothing declares", &limited(&world, &words), Done);
}

/// Headers that say more of a file than it has bytes, and very many files.
#[test]
fn in_an_archive() {
    let world = World::new();
    let many = {
        let mut tar = tar::Builder::new(Vec::new());
        for at in 0..up_to(200_000) {
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("d{}/f{at}", at % 100), &[] as &[u8]).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let comments = |length: usize, count: usize| {
        let mut tar = tar::Builder::new(Vec::new());
        let comment = "x".repeat(length);
        for at in 0..count {
            tar.append_pax_extensions([("comment", comment.as_bytes())]).unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("f{at}"), &[] as &[u8]).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let deep = |count: usize, folders: usize| {
        let mut tar = tar::Builder::new(Vec::new());
        for at in 0..count {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            let name = format!("{}/{}f{at}", at % folders, "a/".repeat(2_000));
            tar.append_data(&mut header, name, &[] as &[u8]).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let turns = {
        let mut tar = tar::Builder::new(Vec::new());
        let mut put = |kind: tar::EntryType, name: &str| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o755);
            tar.append_data(&mut header, name, &[] as &[u8]).unwrap();
        };
        (0..up_to(100_000)).for_each(|at| put(tar::EntryType::Regular, &format!("f{at}")));
        for _ in 0..up_to(30_000) {
            put(tar::EntryType::Directory, "d/");
            put(tar::EntryType::Regular, "d/f");
            put(tar::EntryType::Regular, "d");
        }
        tar.into_inner().unwrap()
    };
    // Each link takes the content over from the one before, which goes.
    let passed_on = {
        let mut tar = tar::Builder::new(Vec::new());
        let mut put = |name: &str, target: Option<&str>| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(if target.is_some() {
                tar::EntryType::Link
            } else {
                tar::EntryType::Regular
            });
            header.set_size(0);
            header.set_mode(0o755);
            match target {
                Some(target) => tar.append_link(&mut header, name, target).unwrap(),
                None => tar.append_data(&mut header, name, &[] as &[u8]).unwrap(),
            }
        };
        put("0", None);
        (1..up_to(30_000)).for_each(|at| put(&at.to_string(), Some("0")));
        (0..up_to(30_000)).for_each(|at| put(&at.to_string(), None));
        tar.into_inner().unwrap()
    };
    let longer = {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "s", "a/".repeat(2_000)).unwrap();
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, format!("s/{}/f", "x".repeat(100)), &[] as &[u8]).unwrap();
        tar.into_inner().unwrap()
    };
    for (name, tar, fate) in [
        ("entries", many, Done),
        ("paths that are deep", deep(up_to(10_000), 2), Done),
        // 600 kB of archive; the directories that they stand for have names of 560 MB.
        ("deep paths of their own", deep(140, 140), Refused("more than 536870912 bytes of names")),
        ("a path that a symlink makes longer", longer, Refused("is longer than 4095")),
        ("a directory and a file in turn", turns, Done),
        ("a content that goes from name to name", passed_on, Done),
        ("extended headers", comments(10_000, up_to(10_000)), Done),
        // No archive for other readers, either: it is copied as a file.
        ("a large extended header", comments(2 << 20, 1), Done),
    ] {
        world.file("a.tar", tar);
        world.dockerfile("FROM scratch\nADD a.tar /\n");
        holds(name, &limited(&world, &["build", "--progress=quiet", "."]), fate);
    }
}
