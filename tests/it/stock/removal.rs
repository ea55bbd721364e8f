//! `rmi`, `prune` and `du`: what goes, what stays, beside others and after a kill.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rbuild::store::Store;

use super::{blobs, world};
use crate::support::accounts::Account;
use crate::support::base::busybox_registry;
use crate::support::image::{TestImage, TestLayer};
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::skip;
use crate::support::tools;

/// Whether skopeo can read every blob of an image in the store.
fn is_whole(world: &World, name: &str) {
    let target = world.path().join("copy");
    let _ = fs::remove_dir_all(&target);
    let source = format!("oci:{}:docker.io/library/{name}", world.store().display());
    tools::run("skopeo", ["copy", "-q", &source, &format!("oci:{}:x", target.display())]);
}

#[test]
fn the_last_name_takes_the_blobs_with_it() {
    let world = world();
    let digest = world.build(["-t", "app:1"]).run().digest();
    world.rbuild(["tag", "app:1", "app:2"]).run();
    world.rbuild(["rmi", "app:1"]).stdout("Untagged: app:1\n").run();
    is_whole(&world, "app:2");
    let ran = world.rbuild(["rmi", "app:2"]).any_stdout().run();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[..2], ["Untagged: app:2", &format!("Deleted: {digest}")]);
    // The layers are those of cached steps.
    assert_eq!((lines.len(), blobs(&world)), (3, 2));
    let again = world.build(["-t", "app:1"]).run();
    assert_eq!((again.digest(), again.outcome("COPY a")), (digest, "CACHED"));
    let ran = world.rbuild(["rmi", "nothing"]).status(1).run();
    assert!(ran.stderr.contains("no image `nothing`"), "{}", ran.stderr);
    world.rbuild(["rmi", "-f", "nothing"]).run();
}

#[test]
fn layers_of_other_images_stay() {
    let (world, registry) = (world(), Registry::start());
    let (shared, own) = (TestLayer::files(&[("s", "s")]), TestLayer::files(&[("o", "o")]));
    registry.push(&TestImage::new("linux/amd64", vec![shared.clone()]), "one", "1");
    registry.push(&TestImage::new("linux/amd64", vec![shared, own]), "two", "1");
    for name in ["one", "two"] {
        world.dockerfile(&format!("FROM {}/{name}:1\n", registry.host()));
        world.build(["-t", name]).run();
    }
    // Neither a step nor a fetched base names them then.
    fs::remove_dir_all(world.store().join("rbuild/fetched")).unwrap();
    world.rbuild(["prune"]).any_stdout().run();
    world.rbuild(["rmi", "two"]).any_stdout().run();
    is_whole(&world, "one:latest");
    world.rbuild(["rmi", "one"]).any_stdout().run();
    assert_eq!(blobs(&world), 0);
}

#[test]
fn a_digest_with_several_names_needs_force() {
    let world = world();
    let digest = world.build(["-t", "app:1", "-t", "app:2"]).run().digest();
    let ran = world.rbuild(["rmi", &digest]).status(1).run();
    assert!(ran.stderr.contains("has several names: app:1, app:2"), "{}", ran.stderr);
    let ran = world.rbuild(["rmi", "-f", &digest]).any_stdout().run();
    assert!(ran.stdout.starts_with("Untagged: app:1\nUntagged: app:2\nDeleted: "), "{}", ran.stdout);
}

#[test]
fn prune_takes_unnamed_images_and_leaves_the_cache() {
    let world = world();
    world.build(["-t", "app"]).run();
    let kept = blobs(&world);
    world.dockerfile("FROM scratch\nCOPY a /\nCOPY b /\nLABEL other=label\n");
    let unnamed = world.build([""; 0]).run().digest();
    let dry = world.rbuild(["prune", "--dry-run"]).any_stdout().run().stdout;
    assert!(dry.contains("unnamed image") && dry.contains("would free"), "{dry}");
    world.images().image(&unnamed);
    world.rbuild(["prune"]).any_stdout().run();
    assert_eq!(blobs(&world), kept);
    let again = world.build([""; 0]).run();
    assert_eq!((again.digest(), again.outcome("COPY b")), (unnamed, "CACHED"));
}

#[test]
fn prune_all_leaves_what_is_named() {
    let world = world();
    world.build(["-t", "app"]).run();
    world.dockerfile("FROM scratch\nCOPY b /\n");
    world.build([""; 0]).run();
    world.rbuild(["prune", "--all", "--force"]).any_stdout().run();
    assert_eq!(blobs(&world), 4, "manifest, configuration and two layers");
    is_whole(&world, "app:latest");
    for folder in ["records", "indexes", "statcache"] {
        let left = tools::listing(&world.store().join("rbuild").join(folder));
        assert!(left.iter().all(|line| line.contains(" dir ")), "{folder}: {left:?}");
    }
    assert_ne!(world.build([""; 0]).run().outcome("COPY b"), "CACHED");
    world.rbuild(["verify"]).any_stdout().run();
}

/// A base is fetched again only when somebody said so.
#[test]
fn prune_leaves_fetched_bases() {
    let (world, registry) = (world(), Registry::start());
    registry.push(&TestImage::new("linux/amd64", vec![TestLayer::files(&[("s", "s")])]), "base", "1");
    world.dockerfile(&format!("FROM {}/base:1\nCOPY a /\n", registry.host()));
    world.build(["-t", "app"]).run();
    world.rbuild(["rmi", "app"]).any_stdout().run();
    world.rbuild(["prune"]).any_stdout().run();
    drop(registry);
    world.build(["--offline"]).run();
    world.rbuild(["prune", "--all"]).any_stdout().run();
    assert_eq!(blobs(&world), 0);
    world.build(["--offline"]).status(1).run();
}

/// As if a record had been used last so many days ago.
pub(super) fn age(folder: &Path, days: u64) {
    let time = SystemTime::now() - Duration::from_secs(days * 86_400);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path, days);
        } else {
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
    }
}

#[test]
fn prune_by_age_and_by_size() {
    let world = world();
    world.file("big", vec![7; 300_000]).dockerfile("FROM scratch\nCOPY big /\n");
    world.build(["-o", "type=cacheonly"]).run();
    age(&world.store().join("rbuild/records"), 10);
    world.dockerfile("FROM scratch\nCOPY a /\n");
    world.build(["-o", "type=cacheonly"]).run();
    world.rbuild(["prune", "--max-age", "30d"]).any_stdout().run();
    let outcome = |world: &World, line: &str| world.build([""; 0]).run().outcome(line).to_owned();
    let first = world.rbuild(["prune", "--filter", "until=24h", "--dry-run"]).any_stdout().run().stdout;
    assert!(first.contains("cached step") && first.contains("10 days ago"), "{first}");
    world.rbuild(["prune", "--max-age", "7d"]).any_stdout().run();
    assert_eq!(outcome(&world, "COPY a"), "CACHED");
    world.dockerfile("FROM scratch\nCOPY big /\n");
    assert_ne!(outcome(&world, "COPY big"), "CACHED");
    age(&world.store().join("rbuild/records"), 1);
    world.dockerfile("FROM scratch\nCOPY a /\n");
    assert_eq!(outcome(&world, "COPY a"), "CACHED");
    let used = disk_usage(&world.store());
    world.rbuild(["prune", "--keep-storage", &format!("{}", used - 2048)]).any_stdout().run();
    assert_eq!(outcome(&world, "COPY a"), "CACHED", "what was used last goes last");
    let ran = world.rbuild(["prune", "--keep-storage", "lots"]).status(2).run();
    assert!(ran.stderr.contains("lots"), "{}", ran.stderr);
}

fn disk_usage(folder: &Path) -> u64 {
    let text = tools::run("du", ["-s", "--block-size=1", folder.to_str().unwrap()]);
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn du_agrees_with_du() {
    let world = world();
    world.file("big", vec![7; 3_000_000]).dockerfile("FROM scratch\nCOPY big /\nCOPY a /\n");
    let layout = world.path().join("context/layout");
    world.build(["-t", "app", "-o", &format!("type=oci,tar=false,dest={}", layout.display())]).run();
    let lines = world.rbuild(["du", "--format", "{{.Type}}={{.Bytes}}"]).any_stdout().run().stdout;
    let sizes: Vec<(&str, u64)> =
        lines.lines().map(|l| l.split_once('=').unwrap()).map(|(t, b)| (t, b.parse().unwrap())).collect();
    let total = sizes.last().unwrap().1;
    assert_eq!(total, disk_usage(&world.store()));
    assert_eq!(sizes[..sizes.len() - 1].iter().map(|(_, bytes)| bytes).sum::<u64>(), total, "{sizes:?}");
    let text = world.rbuild(["du"]).any_stdout().run().stdout;
    assert!(text.contains("shared with layouts elsewhere") && text.contains("named images"), "{text}");
    // What prune says is what du says.
    let before = disk_usage(&world.store());
    let freed = world.rbuild(["prune", "--all"]).any_stdout().run().stdout;
    let after = disk_usage(&world.store());
    assert!(before > after && freed.contains("freed "), "{before} {after} {freed}");
}

/// What is in an unpacked layer never changes, so nobody looks: a file that is put there is not seen.
#[test]
fn du_looks_into_no_unpacked_layer() {
    let (world, registry) = (world(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\nRUN mkdir /x && echo y > /x/y\n", registry.host()));
    world.build(["-t", "app"]).run();
    let total = || -> u64 {
        let lines = world.rbuild(["du", "--format", "{{.Type}}={{.Bytes}}"]).any_stdout().run().stdout;
        lines.lines().find_map(|line| line.strip_prefix("total=")).unwrap().parse().unwrap()
    };
    let trees = || {
        let kinds = fs::read_dir(world.store().join("rbuild/trees")).unwrap().map(|e| e.unwrap().path());
        kinds.flat_map(|kind| fs::read_dir(kind).unwrap()).map(|e| e.unwrap().path()).collect::<Vec<_>>()
    };
    assert_eq!((trees().len(), total()), (2, disk_usage(&world.store())));
    trees().iter().for_each(|tree| fs::write(tree.join("fs/unseen"), vec![7; 1_000_000]).unwrap());
    let seen = total();
    assert!(disk_usage(&world.store()) >= seen + 2_000_000);
    // As earlier versions left them, and as a crash may.
    fs::remove_file(trees()[0].join("size")).unwrap();
    fs::write(trees()[1].join("size"), "000").unwrap();
    for _ in 0..2 {
        assert_eq!(total(), disk_usage(&world.store()));
    }
}

#[test]
fn nothing_goes_beside_somebody_who_uses_the_store() {
    let world = world();
    world.build(["-t", "app"]).run();
    world.dockerfile("FROM scratch\nCOPY b /\n");
    world.build([""; 0]).run();
    let before = blobs(&world);
    let other = Store::open(&world.store()).unwrap();
    let ran = world.rbuild(["rmi", "app"]).stdout("Untagged: app:latest\n").remarks().run();
    assert!(ran.stderr.contains("the blobs stay until `rbuild prune`"), "{}", ran.stderr);
    assert_eq!(blobs(&world), before);
    let ran = world.rbuild(["prune", "--all"]).status(1).run();
    assert!(
        ran.stderr.contains("is in use by another rbuild") && ran.stderr.contains("--wait"),
        "{}",
        ran.stderr
    );
    assert_eq!(blobs(&world), before);
    let waiting = world.rbuild(["prune", "--all", "--wait"]).spawn();
    drop(other);
    assert!(waiting.wait_with_output().unwrap().status.success());
    assert_eq!(blobs(&world), 0);
}

/// Who waits for the store alone closes its door: what begins meanwhile waits behind it, so that builds that follow each
/// other cannot keep it out for ever.
#[test]
fn a_waiting_prune_has_its_turn() {
    let world = world();
    let first = Store::open(&world.store()).unwrap();
    let door = fs::File::open(world.store().join("rbuild/door")).unwrap();
    let mut waiting = world.rbuild(["prune", "--all", "--wait"]).spawn();
    let is_closed = || {
        let closed = rustix::fs::flock(&door, rustix::fs::FlockOperation::NonBlockingLockShared).is_err();
        if !closed {
            rustix::fs::flock(&door, rustix::fs::FlockOperation::Unlock).unwrap();
        }
        closed
    };
    while !is_closed() {
        assert!(
            waiting.try_wait().unwrap().is_none(),
            "the prune ended while another one had the store open"
        );
        std::thread::yield_now();
    }
    let mut next = world.rbuild(["images"]).spawn();
    let has_open = |name: &str| {
        let files = fs::read_dir(format!("/proc/{}/fd", next.id())).unwrap();
        let leads_to = |entry: fs::DirEntry| fs::read_link(entry.path());
        files.flatten().filter_map(|entry| leads_to(entry).ok()).any(|path| path.ends_with(name))
    };
    while !has_open("rbuild/door") {
        std::thread::yield_now();
    }
    assert!(!has_open("rbuild/lock"));
    drop(first);
    assert!(waiting.wait().unwrap().success());
    assert!(next.wait().unwrap().success());
}

/// A build that begins while everything is pruned, again and again, never fails and never gives an incomplete image.
#[test]
fn builds_and_prunes_side_by_side() {
    let world = world();
    let pruning: Vec<_> = (0..8).map(|_| world.rbuild(["prune", "--all", "--wait"]).spawn()).collect();
    for round in 0..8 {
        world.file("a", format!("{round}"));
        world.build(["-t", &format!("app:{round}")]).run();
    }
    pruning.into_iter().for_each(|child| assert!(child.wait_with_output().unwrap().status.success()));
    for round in 0..8 {
        is_whole(&world, &format!("app:{round}"));
    }
    world.rbuild(["verify"]).any_stdout().run();
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_store() {
    let world = world();
    let mut random: u64 = 7;
    for kill in 0..24 {
        world.file("a", format!("{kill}"));
        world.build(["-t", "kept", "-t", &format!("goes:{kill}")]).run();
        world.file("a", format!("{kill}, not kept"));
        world.build(["-t", &format!("goes:{kill}")]).run();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros((random >> 33) % 12_000);
        let name = format!("goes:{kill}");
        let words: &[&str] = if kill % 2 == 0 { &["prune", "--all"] } else { &["rmi", &name] };
        let mut child = world.rbuild(words).spawn();
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        is_whole(&world, "kept:latest");
        let report = world.rbuild(["verify"]).any_status().any_stdout().run();
        let harmless = |line: &&str| line.starts_with("index.json:") || line.starts_with("verified ");
        let others: Vec<&str> = report.stdout.lines().filter(|line| !harmless(line)).collect();
        assert!(others.is_empty(), "kill {kill} after {moment:?}: {others:?}");
    }
    world.rbuild(["prune", "--all"]).any_stdout().run();
    assert_eq!(fs::read_dir(world.store().join("rbuild/trash")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(world.store().join("rbuild/tmp")).unwrap().count(), 0);
}

/// Files in an ordinary user's trees belong to ids that only a user namespace can touch.
#[test]
fn trees_of_an_ordinary_user_go_too() {
    let account = match Account::with_ranges() {
        Ok(account) => account,
        Err(why) => skip!("{why}"),
    };
    let (world, registry) = (World::of(account), busybox_registry());
    world.dockerfile(&format!(
        "FROM {}/busybox\nRUN mkdir /x && echo y > /x/y && chown -R 1000:1000 /x && chmod 700 /x\n",
        registry.host()
    ));
    world.build(["-t", "app"]).run();
    let trees = || fs::read_dir(world.store().join("rbuild/trees")).unwrap().map(|e| e.unwrap().path());
    let count = || trees().map(|flavour| fs::read_dir(flavour).unwrap().count()).sum::<usize>();
    assert_eq!(count(), 2);
    world.rbuild(["verify"]).any_stdout().run();
    let text = world.rbuild(["du"]).any_stdout().run().stdout;
    assert!(text.contains("unpacked layers"), "{text}");
    world.rbuild(["prune", "--all"]).any_stdout().run();
    assert_eq!((count(), fs::read_dir(world.store().join("rbuild/trash")).unwrap().count()), (0, 0));
    let ran = world.rbuild(["rmi", "app"]).any_stdout().run();
    assert!(ran.stdout.contains("Deleted: "), "{}", ran.stdout);
    assert_eq!(blobs(&world), 0);
}
