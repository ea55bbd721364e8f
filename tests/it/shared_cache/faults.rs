//! A cache that fails, lies and refuses: no build fails by it, and no layer is another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::attack::rounds;
use crate::support::base::busybox_registry;
use crate::support::http::{Ending, Received, Reply, Server, forward};
use crate::support::registry::Registry;

use super::Project;

/// Steps whose bytes do not depend on when they are made: what comes out is the same with and without a cache.
const NO_RUN: &str = "FROM scratch AS one
COPY busybox /bin/busybox
WORKDIR /w
COPY a /w/a
FROM one AS two
COPY --from=one /bin/busybox /bin/sh
COPY <<b /w/
content of b
b
FROM scratch
COPY --from=two / /
WORKDIR /end
COPY a /end/
";

/// What goes wrong with one answer in four.
fn spoilt(request: &Received, reply: Reply, chance: u64) -> Reply {
    // Of the image itself nothing is spoilt: its push may fail.
    if !request.path.contains("/cache/") || !chance.is_multiple_of(4) {
        return reply;
    }
    let half = reply.body.len() / 2;
    match chance / 4 % 8 {
        0 => Reply::new(500, "{}"),
        1 => Reply::new(404, "{}"),
        2 => Reply::new(403, "{}"),
        3 => reply.ending(Ending::CutAfter(half)),
        4 => reply.ending(Ending::NoAnswer),
        5 if half > 0 => {
            let mut other = reply;
            other.body[half] ^= 0x20;
            other
        }
        6 => Reply::new(200, vec![b'x'; 70]),
        _ => Reply { body: Vec::new(), ..reply },
    }
}

/// Numbers that look random, the same each time (splitmix64).
fn chance(seed: u64, number: u64) -> u64 {
    let mut z =
        seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn no_fault_of_a_cache_changes_an_image() {
    let registry = Registry::start();
    let upstream = registry.host();
    static SEED: AtomicU64 = AtomicU64::new(0);
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let server = Server::start(move |request| {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        spoilt(request, forward(&upstream, request), chance(SEED.load(Ordering::SeqCst), number))
    });
    let project = Project::new();
    project.write("Dockerfile", NO_RUN);
    let expected = project.built("none", &[]);
    let cache = format!("{}/cache:main", server.host());
    let (from, to) = (format!("--cache-from={cache}"), format!("--cache-to={cache}"));
    for seed in 0..u64::from(rounds(60, 200)) {
        SEED.store(seed + 1, Ordering::SeqCst);
        NUMBER.store(0, Ordering::SeqCst);
        let machine = format!("machine{seed}");
        let said = project.built(&machine, &[&from, &to]);
        assert_eq!(said.digest(), expected.digest(), "seed {seed}: {}", said.stderr);
        std::fs::remove_dir_all(project.store(&machine)).unwrap();
    }
}

/// As some registries are: no artifacts, no types of layers but images' own, no fields beyond those of an image, and a blob that a
/// manifest names must be there.
fn is_refused(request: &Received) -> bool {
    if request.method != "PUT" || !request.path.contains("/manifests/") {
        return false;
    }
    let manifest: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let known = |object: &serde_json::Value, fields: &[&str]| {
        object.as_object().unwrap().keys().all(|key| fields.contains(&key.as_str()))
    };
    let descriptor = |descriptor: &serde_json::Value, types: &str| {
        let fields = ["mediaType", "digest", "size", "annotations"];
        known(descriptor, &fields) && descriptor["mediaType"].as_str().unwrap().starts_with(types)
    };
    let is_usual = known(&manifest, &["schemaVersion", "mediaType", "config", "layers", "annotations"])
        && descriptor(&manifest["config"], "application/vnd.oci.image.config.v1+json")
        && manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|layer| descriptor(layer, "application/vnd.oci.image.layer.v1.tar"));
    !is_usual
}

#[test]
fn a_registry_that_takes_images_only_takes_a_cache() {
    let registry = busybox_registry();
    let upstream = registry.host();
    let server = Server::start(move |request| match is_refused(request) {
        true => Reply::new(400, r#"{"errors":[{"code":"MANIFEST_INVALID","message":"unknown media type"}]}"#),
        false => forward(&upstream, request),
    });
    let project = Project::new();
    project.write("Dockerfile", format!("FROM {}/busybox\nRUN echo 1 > /1\nCOPY a /a\n", server.host()));
    let cache = format!("{}/cache:main", server.host());
    let said = project.built("one", &[&format!("--cache-to={cache}")]);
    assert!(said.stderr.contains("cached to"), "{}", said.stderr);
    assert_eq!(project.built("two", &[&format!("--cache-from={cache}")]).ran(), 0);
}

#[test]
fn a_repository_that_must_be_made_first_costs_no_build() {
    let registry = busybox_registry();
    let upstream = registry.host();
    let server = Server::start(move |request| match request.path.contains("/cache/") {
        true => Reply::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}"#),
        false => forward(&upstream, request),
    });
    let project = Project::new();
    project.write("Dockerfile", format!("FROM {}/busybox\nCOPY a /a\n", server.host()));
    let cache = format!("{}/cache:main", server.host());
    let said = project.built("one", &[&format!("--cache-from={cache}"), &format!("--cache-to={cache}")]);
    assert!(said.stderr.contains("was not written"), "{}", said.stderr);
    assert!(!said.stderr.contains("cannot be read"), "nothing was ever written there: {}", said.stderr);
}

#[test]
fn a_writer_that_is_killed_leaves_a_cache_that_can_be_used() {
    let registry = Registry::start();
    static STALLS: AtomicBool = AtomicBool::new(false);
    let upstream = registry.host();
    let reached = std::sync::Arc::new(std::sync::Barrier::new(2));
    let at = std::sync::Arc::clone(&reached);
    let server = Server::start(move |request| {
        let is_head = request.method == "PUT" && request.path.ends_with("/manifests/main");
        if is_head && STALLS.swap(false, Ordering::SeqCst) {
            at.wait();
            return Reply::new(200, "").ending(Ending::NoAnswer);
        }
        forward(&upstream, request)
    });
    let project = Project::new();
    project.write("Dockerfile", NO_RUN);
    let cache = format!("{}/cache:main", server.host());
    let (from, to) = (format!("--cache-from={cache}"), format!("--cache-to={cache}"));
    project.built("first", &[&to]);
    // The pack of this one lies beside the head, and the head does not know of it.
    project.write("a", "changed\n");
    STALLS.store(true, Ordering::SeqCst);
    let mut command = project.command("killed", &[&to]);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    reached.wait();
    child.kill().unwrap();
    child.wait().unwrap();
    let second = project.built("second", &[&from]);
    assert_ne!(second.ran(), 0);
    // The next writer finds it.
    project.write("Dockerfile", format!("{NO_RUN}WORKDIR /more\n"));
    project.built("third", &[&from, &to]);
    project.write("Dockerfile", NO_RUN);
    let fourth = project.built("fourth", &[&from]);
    assert_eq!((fourth.ran(), fourth.digest()), (0, second.digest()), "{}", fourth.stderr);
}
