//! A base's layers are unpacked while those above them still arrive.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::base::busybox;
use crate::support::http::{Server, forward};
use crate::support::image::TestLayer;
use crate::support::registry::Registry;

/// Whether the store has an unpacked layer.
fn has_tree(store: &Path) -> bool {
    let kinds = std::fs::read_dir(store.join("rbuild/trees")).into_iter().flatten().flatten();
    let mut trees = kinds.flat_map(|kind| std::fs::read_dir(kind.path()).into_iter().flatten().flatten());
    trees.any(|tree| !tree.file_name().to_string_lossy().starts_with('.'))
}

#[test]
fn the_first_layer_is_unpacked_before_the_last_has_come() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let mut base = busybox();
    let last = TestLayer::files(&[("etc/last", "has come")]);
    let held_back = format!("/blobs/{}", last.digest());
    base.config.history.clear();
    base.config.rootfs.diff_ids.push(last.diff_id);
    base.layers.push(last);
    registry.push(&base, "base", "latest");
    let (upstream, store) = (registry.host(), dir.path().join("store"));
    let server = {
        let store = store.clone();
        Server::start(move |request| {
            let patience = Instant::now() + Duration::from_secs(60);
            while request.path.ends_with(&held_back) && !has_tree(&store) {
                assert!(Instant::now() < patience, "nothing is unpacked");
                std::thread::sleep(Duration::from_millis(2));
            }
            forward(&upstream, request)
        })
    };
    let dockerfile = format!("FROM {}/base\nRUN grep -q 'has come' /etc/last\n", server.host());
    std::fs::write(dir.path().join("Dockerfile"), dockerfile).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
    let output = command.current_dir(&dir).arg("--root").arg(&store).arg(".").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
