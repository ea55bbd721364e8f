//! What a step reaches by `--network`.

use std::time::{Duration, Instant};

use crate::process_limits::{children, worlds};
use crate::support::base::{busybox_registry, with_busybox};
use crate::support::program::World;
use crate::support::{is_root, skip};

/// Who answers at the loopback, at the machine's own address, at another machine's, and by name.
///
/// pasta of 2023 may lose the end of a connection, so nothing waits for that.
const ASK: &str = "RUN for a in 127.0.0.1 10.77.0.2 10.77.0.1; do \
    got=$(busybox timeout 2 busybox nc $a 8080 2>/dev/null </dev/null | busybox head -c 7); \
    echo $a ${got:-nobody}; done >/seen; \
    busybox timeout 5 busybox nslookup fixture.test 2>/dev/null | busybox grep -c 'Address: 10.77' >>/seen || true";

#[test]
fn what_is_reached() {
    if !is_root() {
        skip!("only root can make networks with services in them");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/network/world.sh");
    for world in worlds() {
        with_busybox(&world, ASK);
        let seen = |mode: &str| {
            let wrapper = as_account(&world, &["unshare", "--net", "--mount", "sh", script]);
            let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
            let words = ["--progress=plain", "--network", mode, "."];
            let digest = world.through(&wrapper, words).remarks().run().digest();
            let files = world.images().image(&digest).files();
            String::from_utf8(files["seen"].content.clone()).unwrap().replace('\n', "; ")
        };
        let outside = "10.77.0.2 nobody; 10.77.0.1 outside; 1; ";
        assert_eq!(seen("pasta"), format!("127.0.0.1 nobody; {outside}"));
        assert_eq!(seen("host"), format!("127.0.0.1 machine; {outside}"));
        let none = "127.0.0.1 nobody; 10.77.0.2 nobody; 10.77.0.1 nobody; 0; ";
        assert_eq!(seen("none"), none);
        // What went over a network of the step's own was counted; the machine's has others' bytes in it.
        let traffic = |build: &str| {
            let words = ["history", "inspect", "--format", "raw", build];
            let record = world.rbuild(words).any_stdout().run().stdout;
            let record: serde_json::Value = serde_json::from_str(&record).unwrap();
            let steps = record["steps"].as_array().unwrap().clone();
            let usage = steps.into_iter().find(|step| step["usage"].is_object()).unwrap()["usage"].take();
            ["received", "sent"].map(|way| usage["network"][way].as_u64())
        };
        assert!(
            traffic("^2").iter().all(|bytes| bytes.is_some_and(|bytes| bytes > 0)),
            "{:?}",
            traffic("^2")
        );
        assert_eq!((traffic("^1"), traffic("last")), ([None; 2], [Some(0); 2]));
    }
}

/// Wrappers are started as root, and become somebody else themselves.
fn as_account(world: &World, wrapper: &[&str]) -> Vec<String> {
    let account = world.account();
    let mut words: Vec<String> = wrapper.iter().map(|word| (*word).to_owned()).collect();
    if account.uid != 0 {
        let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
        words
            .extend(["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups", "--"].map(str::to_owned));
    }
    words
}

#[test]
fn pasta_ends_with_rbuild() {
    if !is_root() {
        skip!("not every machine lets ordinary users open /dev/net/tun");
    }
    let registry = busybox_registry();
    let world = World::new();
    world.dockerfile(&format!("FROM {}/busybox\nRUN exec sleep 900\n", registry.host()));
    let mut rbuild = world.build(["--network", "pasta"]).spawn();
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_up = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"pasta\0") || line.starts_with(b"sleep\0")
    };
    let of_init = || -> Vec<u32> {
        let inits = children(rbuild.id()).into_iter().flat_map(children);
        inits.flat_map(children).filter(is_up).collect()
    };
    while of_init().len() < 2 {
        assert!(Instant::now() < deadline, "{:?}", of_init());
    }
    let found = of_init();
    rbuild.kill().unwrap();
    rbuild.wait().unwrap();
    for pid in found {
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < deadline, "{pid} is still there");
        }
    }
}

#[test]
fn without_pasta_it_says_what_to_install() {
    let world = World::new();
    with_busybox(&world, "RUN true");
    let folder = tempfile::tempdir().unwrap();
    let ran = world.build(["--network", "pasta"]).env("PATH", folder.path()).status(1).remarks().run();
    assert!(ran.stderr.contains("`pasta` (package `passt`), which is not installed"), "{}", ran.stderr);
}
