//! Full disks, a killed process, two who do the same at once.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rbuild::registry::{Error, Progress};
use rbuild::store::Store;

use super::pull::{SIZE, assert_complete, large_image, layer_requests, pull};
use super::push::keep;
use super::{amd64, client, reference, small_image};
use crate::support::http::{Ending, Server, forward};
use crate::support::image::{TestImage, TestLayer};
use crate::support::registry::Registry;
use crate::support::skip;

/// A file system of so many KiB in memory; gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(kib: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k,mode=0755"), "tmpfs"])
            .arg(dir.path())
            .status();
        assert!(status.unwrap().success());
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_under_the_store() {
    if !crate::support::is_root() {
        skip!("only root can mount a small file system");
    }
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    // Five layers of 600 kB do not fit, two do.
    let disk = SmallDisk::new(1700);
    let store = Store::open(&disk.path().join("store")).unwrap();
    let error = pull(&client(), &store, &registry.host()).unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    assert!(error.to_string().contains("space"), "{error}");
    for layer in &image.layers {
        let size = store.intact_blob(&layer.digest()).unwrap();
        assert!(size.is_none_or(|size| size == SIZE as u64));
    }
    // With room again it works.
    let status = Command::new("mount").args(["-o", "remount,size=8m"]).arg(disk.path()).status();
    assert!(status.unwrap().success());
    pull(&client(), &store, &registry.host()).unwrap();
    assert_complete(&store, &image);
}

#[test]
fn a_full_disk_under_the_registry() {
    if !crate::support::is_root() {
        skip!("only root can mount a small file system");
    }
    let disk = SmallDisk::new(1200);
    let registry = Registry::start_in(disk.path());
    let (_dir, store) = super::store();
    let descriptor = keep(&store, &large_image());
    let name = reference(&registry.host(), "app:1");
    let push = || client().push(&store, &descriptor, std::slice::from_ref(&name), &Progress::silent());
    let error = push().unwrap_err();
    assert!(error.to_string().contains("app"), "{error}");
    assert!(error.help().unwrap().contains("its disk may be full"), "{error}: {:?}", error.help());
    let (_dir, fresh) = super::store();
    assert!(client().resolve(&fresh, &name, &amd64()).is_err());
    let status = Command::new("mount").args(["-o", "remount,size=16m"]).arg(disk.path()).status();
    assert!(status.unwrap().success());
    push().unwrap();
}

#[test]
fn two_pushes_of_one_tag_at_once() {
    let registry = Registry::start();
    let images = [1, 2].map(|seed| TestImage::new("linux/amd64", vec![TestLayer::noise(300_000, seed)]));
    let name = reference(&registry.host(), "app:1");
    let digests = std::thread::scope(|scope| {
        let pushes = images.each_ref().map(|image| {
            let name = &name;
            scope.spawn(move || {
                let (_dir, store) = super::store();
                let descriptor = keep(&store, image);
                client().push(&store, &descriptor, std::slice::from_ref(name), &Progress::silent()).unwrap();
                descriptor.digest
            })
        });
        pushes.map(|push| push.join().unwrap())
    });
    let (_dir, fresh) = super::store();
    let resolved = client().resolve(&fresh, &name, &amd64()).unwrap();
    client().pull_layers(&fresh, &name, &resolved.layers, &Progress::silent()).unwrap();
    assert!(digests.contains(&resolved.manifest.digest));
}

/// `rbuild` in a folder with a Dockerfile.
fn start(dir: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
    command.current_dir(dir).arg("--root").arg(dir.join("store")).args(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed_while_pulling_it_goes_on_the_next_time() {
    let registry = Registry::start();
    let image = TestImage::new(
        "linux/amd64",
        vec![TestLayer::gzip(&crate::support::image::tar_of("file", &TestLayer::noise(SIZE, 1).blob))],
    );
    registry.push(&image, "base", "1");
    let stalls = Arc::new(AtomicBool::new(true));
    let its_stalls = Arc::clone(&stalls);
    let server = Server::between(registry.host(), move |_, reply| {
        match reply.body.len() > 100_000 && its_stalls.load(Ordering::SeqCst) {
            true => reply.ending(Ending::StallAfter(200_000)),
            false => reply,
        }
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Dockerfile"), format!("FROM {}/base:1\n", server.host())).unwrap();
    let mut child = start(dir.path(), &["."]);
    let partial = dir.path().join("store/rbuild/partial").join(image.layers[0].digest().hex());
    wait_for("a part arrives", || std::fs::metadata(&partial).is_ok_and(|meta| meta.len() == 200_000));
    child.kill().unwrap();
    child.wait().unwrap();

    stalls.store(false, Ordering::SeqCst);
    assert!(start(dir.path(), &["-o", "files", "."]).wait().unwrap().success());
    let asked: Vec<_> =
        layer_requests(&server).iter().map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(asked.last().unwrap().as_deref(), Some("bytes=200000-"), "{asked:?}");
    assert_eq!(std::fs::metadata(dir.path().join("files/file")).unwrap().len(), SIZE as u64);
}

#[test]
fn killed_while_pushing_it_leaves_no_half_image() {
    let registry = Registry::start();
    let (upstream, hangs) = (registry.host(), Arc::new(AtomicBool::new(true)));
    let its_hangs = Arc::clone(&hangs);
    let server = Server::start(move |request| {
        let reply = forward(&upstream, request);
        // The layer arrives, but its sender never hears of it.
        let hangs = request.method == "PUT" && its_hangs.load(Ordering::SeqCst);
        if hangs { reply.ending(Ending::StallAfter(0)).header("content-length", "9") } else { reply }
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Dockerfile"), "FROM scratch\nCOPY <<x /\ncontent\nx\n").unwrap();
    let name = format!("{}/app:1", server.host());
    let arguments = ["--push", "-t", &name, "."];
    let mut child = start(dir.path(), &arguments);
    wait_for("it sends", || server.requests().iter().any(|request| request.starts_with("PUT")));
    child.kill().unwrap();
    child.wait().unwrap();
    let tag = reference(&registry.host(), "app:1");
    let (_dir, fresh) = super::store();
    assert!(client().resolve(&fresh, &tag, &amd64()).is_err());

    hangs.store(false, Ordering::SeqCst);
    assert!(start(dir.path(), &arguments).wait().unwrap().success());
    client().resolve(&fresh, &tag, &amd64()).unwrap();
}

#[test]
fn an_image_that_others_hold_back_is_no_obstacle() {
    // A store that another process pulls the same image into, and that dies with its part half written.
    let registry = Registry::start();
    let image = small_image();
    registry.push(&image, "base", "1");
    let (_dir, store) = super::store();
    let digest = image.layers[0].digest();
    let writer = store.resume_blob(&digest, &mut |_| ()).unwrap();
    std::thread::scope(|scope| {
        let pulling = scope.spawn(|| pull(&client(), &store, &registry.host()).unwrap());
        wait_for("the others are there", || store.has_blob(&image.layers[1].digest()).is_some());
        assert!(!pulling.is_finished());
        drop(writer);
        pulling.join().unwrap();
    });
    assert_complete(&store, &image);
}
