//! containerd, through its `ctr`: `$CONTAINERD_ADDRESS` and `$CONTAINERD_NAMESPACE` say which one, as `ctr` has them.
//!
//! It keeps blobs by digest, and says which; it gets an archive without the layers among them.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::Archive;
use super::{Error, Load, Loaded, picked, program};
use crate::export::Engine;
use crate::http::Environment;
use crate::oci::{Digest, Reference};

/// Where it listens when nothing else is said.
const USUAL: &str = "/run/containerd/containerd.sock";

/// Whether something listens, and there is a program that speaks to it.
pub(super) fn probe(environment: &Environment) -> Result<(), Error> {
    let place = place(environment);
    UnixStream::connect(&place).map_err(|source| not_there(&place, source))?;
    program::find("ctr", environment)
}

fn place(environment: &Environment) -> PathBuf {
    let place = environment.get("CONTAINERD_ADDRESS").map(|place| place.to_string_lossy());
    // As `ctr` takes it.
    place.map_or_else(|| PathBuf::from(USUAL), |place| PathBuf::from(place.trim_start_matches("unix://")))
}

fn not_there(place: &Path, source: io::Error) -> Error {
    Error::NotThere { engine: "containerd", place: place.display().to_string(), source }
}

/// Loads an image.
pub(super) fn load(load: &Load<'_>, namespace: Option<&str>) -> Result<Loaded, Error> {
    let names = load.tags();
    if names.is_empty() {
        return Err(Error::Nameless { engine: "containerd" });
    }
    let engine = Engine::Containerd { namespace: namespace.map(str::to_owned) };
    let loaded = |sent_bytes| Loaded { engine, id: load.target.digest, sent_bytes, notes: Vec::new() };
    let image = picked::whole(load)?;
    let ctr = |words: &[&str]| {
        let mut command = Command::new("ctr");
        if let Some(namespace) = namespace {
            command.args(["--namespace", namespace]);
        }
        command.args(words);
        command
    };
    let list = |words: &[&str], what| program::run(&mut ctr(words), "containerd", what);
    let known = list(&["images", "ls"], "did not list its images")?;
    let blobs = list(&["content", "ls", "--quiet"], "did not list its blobs")?;
    let blobs: BTreeSet<Digest> = blobs.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let is_whole = image.layers.iter().all(|layer| blobs.contains(&layer.digest));
    if is_whole && names.iter().all(|name| is_named(&known, name, &load.target.digest)) {
        return Ok(loaded(0));
    }
    let send = |there: &BTreeSet<Digest>| {
        load.bring(image.layers.iter().filter(|layer| !there.contains(&layer.digest)))?;
        let archive = Archive::layout(load.store, &image, &names, there);
        let mut words = vec!["images", "import"];
        // Without it only what is for that machine is looked at.
        if image.is_foreign || image.count > 1 {
            words.push("--all-platforms");
        }
        words.push("-");
        program::feed(&mut ctr(&words), &archive, load.hear, ("containerd", "did not load the image"))?;
        Ok(archive.content())
    };
    match send(&blobs) {
        // What nothing refers to may have been collected meanwhile.
        Err(Error::Refused { reason, .. })
            if image.layers.iter().any(|layer| blobs.contains(&layer.digest)) =>
        {
            tracing::debug!(%reason, "containerd does not have the blobs that it had");
            send(&BTreeSet::new()).map(loaded)
        }
        outcome => outcome.map(loaded),
    }
}

/// In a table of `REF TYPE DIGEST …`.
fn is_named(table: &str, name: &Reference, digest: &Digest) -> bool {
    let (name, digest) = (name.full(), digest.to_string());
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(name.as_str()) && words.nth(1) == Some(digest.as_str())
    })
}
