//! The storage that podman, buildah and CRI-O share (`containers-storage`), through podman: who runs rbuild has their own.
//!
//! podman reads a layout, and of that the blobs that its storage lacks. It gets one that has this image alone, whose blobs
//! are those of the store.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::picked::{self, Picked};
use super::{Error, Load, Loaded, program};
use crate::export::{self, Engine};
use crate::import;
use crate::oci::{Descriptor, Digest, Reference};
use crate::store::Store;

/// Loads an image.
pub(super) fn load(load: &Load<'_>) -> Result<Loaded, Error> {
    let image = picked::one(load)?;
    let id = image.manifest.config.digest;
    let notes = image.chosen.iter().map(|platform| {
        format!("podman's storage keeps images of one platform, and has got that for {platform}")
    });
    let names: Vec<String> = load.tags().iter().map(local_name).collect();
    let known = names_of(&id)?;
    let tag = |names: &[&String]| match names.is_empty() {
        true => Ok(()),
        false => {
            let mut command = podman();
            command.arg("tag").arg(id.hex()).args(names);
            program::run(&mut command, "podman", "did not name the image").map(drop)
        }
    };
    let sent = match known {
        Some(known) => {
            let missing: Vec<&String> = names.iter().filter(|name| !known.contains(*name)).collect();
            tag(&missing).map(|()| 0)?
        }
        None => {
            let (passing, sent) = pull(load, &image)?;
            let named = tag(&names.iter().collect::<Vec<_>>());
            let mut command = podman();
            command.arg("untag").args([id.hex(), passing]);
            // The name by which it came goes in any case.
            program::run(&mut command, "podman", "did not forget a name").and(named.map(|()| sent))?
        }
    };
    Ok(Loaded { engine: Engine::Podman, id, sent_bytes: sent, notes: notes.collect() })
}

/// As podman's own builds name what has no registry in its name.
fn local_name(name: &Reference) -> String {
    let tag = name.tag().unwrap_or("latest");
    match name.is_short() {
        true => format!("localhost/{}:{tag}", name.short_name()),
        false => name.full(),
    }
}

/// The names of an image, if it is there.
fn names_of(id: &Digest) -> Result<Option<BTreeSet<String>>, Error> {
    let mut command = podman();
    command.args(["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]);
    let listed = program::run(&mut command, "podman", "did not list its images")?;
    let lines = listed.lines().filter_map(|line| line.split_once(' '));
    let id = id.to_string();
    let names: BTreeSet<String> =
        lines.filter(|(known, _)| *known == id).map(|(_, name)| name.to_owned()).collect();
    Ok((!names.is_empty()).then_some(names))
}

/// Has podman take the image from a layout; gives the name that it has then, and about how many bytes podman read. What is promised elsewhere
/// podman may have: only if it then misses something, that is brought.
fn pull(load: &Load<'_>, image: &Picked) -> Result<(String, u64), Error> {
    let layers = &image.manifest.layers;
    let is_here = |layer: &&Descriptor| load.store.has_blob(&layer.digest).is_some();
    let are_here = layers.iter().all(|layer| is_here(&layer));
    let folder = load.store.scratch_dir()?;
    // The image gets the name of the folder, as it is written; nobody has one of this name.
    let name = format!("rbuild-{}", crate::store::unique());
    let path = folder.path().join(&name);
    let index = export::index(vec![image.descriptor.clone()], Default::default());
    let made = std::fs::create_dir(&path)
        .and_then(|()| std::fs::write(path.join("oci-layout"), export::LAYOUT))
        .and_then(|()| std::fs::write(path.join("index.json"), index))
        .and_then(|()| symlink(load.store.root().join("blobs"), path.join("blobs")));
    made.map_err(|source| Error::System { action: "make a layout for podman", source })?;
    let take = || {
        let mut command = podman();
        command.current_dir(folder.path()).args(["pull", "--quiet"]).arg(format!("oci:{name}"));
        program::run(&mut command, "podman", "did not load the image").map(drop)
    };
    let first = if are_here { load.bring(layers).and_then(|()| take()) } else { take() };
    match first {
        Err(Error::Refused { .. }) if !are_here => load.bring(layers).and_then(|()| take()),
        outcome => outcome,
    }?;
    // What it read of these it does not tell.
    let sent =
        image.manifest.config.size + layers.iter().filter(is_here).map(|layer| layer.size).sum::<u64>();
    Ok((format!("localhost/{name}:latest"), sent))
}

/// Takes an image out.
pub(super) fn save(store: &Store, id: &Digest) -> Result<import::Archive, Error> {
    let folder = store.scratch_dir()?;
    let file = folder.path().join("image.tar");
    let mut command = podman();
    command.args(["save", "--quiet", "--format", "oci-archive", "--output"]).arg(&file).arg(id.hex());
    program::run(&mut command, "podman", "did not give the image")?;
    let open = std::fs::File::open(&file)
        .map_err(|source| Error::System { action: "read podman's archive", source })?;
    Ok(import::Archive::read(store, open, &format!("containers-storage:{id}"))?)
}

/// By what podman knows it.
pub(super) fn id_of(name: &str) -> Result<Digest, Error> {
    let mut command = podman();
    command.args(["image", "inspect", "--format", "{{.Id}}", "--", name]);
    let output = program::output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let no_image = || Error::NoImage { engine: "podman", name: name.to_owned() };
    match output.status.success() {
        true => format!("sha256:{}", text.trim()).parse().map_err(|_| no_image()),
        false => Err(no_image()),
    }
}

fn podman() -> Command {
    Command::new("podman")
}
