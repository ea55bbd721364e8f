//! `--pull` and `--offline`.

use super::world;
use crate::support::image::{TestImage, TestLayer};
use crate::support::registry::Registry;

fn base(text: &str) -> TestImage {
    TestImage::new("linux/amd64", vec![TestLayer::files(&[("base", text)])])
}

#[test]
fn what_was_fetched_is_used_without_a_registry() {
    let (world, registry) = (world(), Registry::start());
    registry.push(&base("first"), "base", "1");
    let name = format!("{}/base:1", registry.host());
    world.dockerfile(&format!("FROM {name}\nCOPY a /\n"));
    for flag in ["--offline", "--pull=never"] {
        let ran = world.build([flag]).status(1).run();
        let expected = format!("`{name}` is not in the local store, and no registry may be asked");
        assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("`rbuild pull {name}` fetches it")), "{}", ran.stderr);
    }
    let fetched = world.build(["--pull=missing"]).run().digest();
    registry.push(&base("second"), "base", "1");
    for flag in ["--offline", "--pull=never", "--pull=missing"] {
        assert_eq!(world.build([flag]).run().digest(), fetched, "{flag}");
    }
    assert_ne!(world.build([""; 0]).run().digest(), fetched, "without an option the registry is asked");
    drop(registry);
    world.build(["--offline", "--no-cache"]).run();
    world.build([""; 0]).status(75).run();
}

#[test]
fn a_layer_that_is_not_there_is_said_before_anything_runs() {
    let (world, registry) = (world(), Registry::start());
    let image = base("x");
    registry.push(&image, "base", "1");
    let name = format!("{}/base:1", registry.host());
    world.dockerfile(&format!("FROM {name}\nCOPY a /\n"));
    world.build([""; 0]).run();
    std::fs::remove_file(world.store().join("blobs/sha256").join(image.layers[0].digest().hex())).unwrap();
    let ran = world.build(["--offline"]).status(1).run();
    assert!(
        ran.stderr.contains("is known, but not all of its layers are in the local store"),
        "{}",
        ran.stderr
    );
    world.build(["--pull=missing"]).run();
    world.build(["--offline"]).run();
}

#[test]
fn always_asks_also_for_names_of_the_store() {
    let (world, registry) = (world(), Registry::start());
    registry.push(&base("theirs"), "base", "1");
    let name = format!("{}/base:1", registry.host());
    world.build(["-t", &name]).run();
    world.dockerfile(&format!("FROM {name}\nCOPY a /mine\n"));
    let layers = |flag: &[&str]| {
        let digest = world.build(flag).run().digest();
        let words = ["inspect", "-f", "{{len .RootFS.Layers}}", &digest];
        world.rbuild(words).any_stdout().run().stdout
    };
    assert_eq!(layers(&[]), "3\n");
    assert_eq!(layers(&["--pull"]), "2\n");
    assert_eq!(layers(&["--pull=always"]), "2\n");
    let ran = world.build(["--pull=sometimes"]).status(2).run();
    assert!(ran.stderr.contains("it is always, missing or never"), "{}", ran.stderr);
}

#[test]
fn offline_fetches_nothing_at_all() {
    let world = world();
    for (dockerfile, what) in [
        ("FROM scratch\nADD http://u:secret@localhost:1/file /\n", "http://"),
        ("FROM scratch\nADD https://example.org/x.git /\n", "https://example.org/x.git"),
    ] {
        world.dockerfile(dockerfile);
        let ran = world.build(["--offline"]).status(1).run();
        assert!(
            ran.stderr.contains(what) && ran.stderr.contains("`--offline` forbids that"),
            "{}",
            ran.stderr
        );
        assert!(
            !ran.stderr.lines().any(|line| line.starts_with("error") && line.contains("secret")),
            "{}",
            ran.stderr
        );
    }
    for context in ["http://localhost:1/x.tar", "https://example.org/x.git"] {
        let ran = world.rbuild(["--offline", context]).status(1).run();
        assert!(ran.stderr.contains("`--offline` forbids that"), "{}", ran.stderr);
    }
    world.build(["--offline", "--push", "-t", "x"]).status(2).run();
    world.build(["--offline", "-o", "type=registry,name=x"]).status(2).run();
}
