//! `pull`, `push` and `copy`.

use super::{blobs, world};
use crate::support::image::{TestImage, TestLayer};
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::tools;

fn image(platform: &str, text: &str) -> TestImage {
    TestImage::new(platform, vec![TestLayer::files(&[("shared", "s")]), TestLayer::files(&[("own", text)])])
}

/// Pushes an image of two platforms; gives the digests of the index and of both manifests.
fn push_both(registry: &Registry) -> [String; 3] {
    let both = [image("linux/amd64", "amd"), image("linux/arm64", "arm")];
    let entries: Vec<_> =
        both.iter().map(|image| registry.push(image, "multi", &image.config.architecture)).collect();
    let digests = [entries[0].digest.to_string(), entries[1].digest.to_string()];
    let index = registry.push_index(entries, "multi", "1");
    let [amd, arm] = digests;
    [index.to_string(), amd, arm]
}

fn skopeo_digest(place: &str) -> String {
    let args = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", place];
    tools::run("skopeo", args).trim().to_owned()
}

#[test]
fn pull_one_or_all_platforms() {
    let (world, registry) = (World::new(), Registry::start());
    let [index, amd, arm] = push_both(&registry);
    let name = format!("{}/multi:1", registry.host());
    world.rbuild(["pull", "-q", &name]).stdout(format!("{name} {amd}\n")).run();
    tools::skopeo_inspect(&world.store(), &name);
    world.rbuild(["pull", "-q", "--platform", "linux/arm64", &name]).stdout(format!("{name} {arm}\n")).run();
    world.rbuild(["pull", "-q", "--all-platforms", &name]).stdout(format!("{name} {index}\n")).run();
    world.rbuild(["verify"]).any_stdout().run();
    // By its digest it has no tag.
    let by_digest = format!("{}/multi@{arm}", registry.host());
    world.rbuild(["pull", "-q", &by_digest]).stdout(format!("{by_digest} {arm}\n")).run();
    let listed = world.rbuild(["images", "--format", "{{.Repository}}|{{.Tag}}"]).any_stdout().run().stdout;
    assert_eq!(listed, format!("{0}/multi|1\n{0}/multi|<none>\n", registry.host()));
    world.rbuild(["rmi", &by_digest]).any_stdout().run();
    let ran = world.rbuild(["pull", "-q", "--platform", "linux/s390x", &name]).status(1).run();
    assert!(
        ran.stderr.contains("linux/amd64, linux/arm64") && ran.stderr.contains("--platform"),
        "{}",
        ran.stderr
    );
}

#[test]
fn pull_several_at_once() {
    let (world, registry) = (World::new(), Registry::start());
    let names: Vec<String> = (0..6)
        .map(|number| {
            registry.push(&image("linux/amd64", &number.to_string()), &format!("app{number}"), "1");
            format!("{}/app{number}:1", registry.host())
        })
        .collect();
    let words = [vec!["pull".to_owned(), "--progress=plain".to_owned()], names.clone()].concat();
    let ran = world.rbuild(&words).any_stdout().run();
    assert_eq!(ran.stdout.lines().map(|l| l.split(' ').next().unwrap()).collect::<Vec<_>>(), names);
    for (number, name) in names.iter().enumerate() {
        assert!(ran.stderr.contains(&format!("#{} pull {name}", number + 1)), "{}", ran.stderr);
    }
    // One that is not there does not keep the others from coming.
    let elsewhere = World::new();
    let missing = format!("{}/missing:1", registry.host());
    let ran = elsewhere.rbuild(["pull", "-q", &missing, &names[0]]).status(1).run();
    assert!(ran.stderr.contains("missing"), "{}", ran.stderr);
    assert_eq!(elsewhere.rbuild(["images", "-q"]).any_stdout().run().stdout.lines().count(), 1);
}

/// What `rbuild pull` fetched is what a build without a network uses.
#[test]
fn a_pulled_image_is_a_base() {
    let (world, registry) = (world(), Registry::start());
    registry.push(&image("linux/amd64", "x"), "base", "1");
    let name = format!("{}/base:1", registry.host());
    world.dockerfile(&format!("FROM {name}\nCOPY a /\n"));
    world.rbuild(["pull", "-q", &name]).any_stdout().run();
    drop(registry);
    world.build(["--offline"]).run();
    world.build([""; 0]).run();
}

#[test]
fn push_names_and_tags() {
    let (world, registry) = (world(), Registry::start());
    let names = [1, 2].map(|tag| format!("{}/team/app:{tag}", registry.host()));
    let other = format!("{}/other:1", registry.host());
    let digest = world.build(["-t", &names[0], "-t", &names[1], "-t", &other]).run().digest();
    world.rbuild(["push", "-q", &names[0]]).stdout(format!("{} {digest}\n", names[0])).run();
    assert_eq!(skopeo_digest(&format!("docker://{}", names[0])), digest);
    let repository = format!("{}/team/app", registry.host());
    world.rbuild(["push", "-q", "--all-tags", &repository, &other]).status(2).run();
    let ran = world.rbuild(["push", "-q", "--all-tags", &repository]).any_stdout().run();
    assert_eq!(ran.stdout.lines().count(), 2);
    assert_eq!(skopeo_digest(&format!("docker://{}", names[1])), digest);
    world.rbuild(["push", "-q", &other, &names[0]]).any_stdout().run();
    assert_eq!(skopeo_digest(&format!("docker://{other}")), digest);
    let ran = world.rbuild(["push", "-q", "nothing"]).status(1).run();
    assert!(ran.stderr.contains("no image `nothing"), "{}", ran.stderr);
}

#[test]
fn copy_between_all_places() {
    let (world, registry) = (World::new(), Registry::start());
    let [index, amd, arm] = push_both(&registry);
    let place = |name: &str| format!("{name}:{}", world.path().join(name).display());
    let source = format!("docker://{}/multi:1", registry.host());
    let target = format!("docker://{}/copied:1", registry.host());
    // The last is the store, from which no blob may go.
    let chain =
        [source, place("oci") + ":a", place("oci-archive"), target.clone(), "store:kept:1".to_owned()];
    for pair in chain.windows(2) {
        world.rbuild(["copy", "-q", "--all", &pair[0], &pair[1]]).stdout(format!("{index}\n")).run();
        assert_eq!(blobs(&world) > 0, pair[1].starts_with("store:"), "{pair:?}");
    }
    for read in [place("oci") + ":a", place("oci-archive"), target] {
        let raw = tools::run("skopeo", ["inspect", "--raw", "--tls-verify=false", &read]);
        assert_eq!(rbuild::oci::Digest::of(raw.as_bytes()).to_string(), index, "{read}");
    }
    world
        .rbuild(["copy", "-q", "kept:1", &(place("docker-archive") + ":x:1")])
        .stdout(format!("{amd}\n"))
        .run();
    tools::run("skopeo", ["inspect", &(place("docker-archive") + ":x:1")]);
    let one = format!("docker://{}/one:arm", registry.host());
    world
        .rbuild(["copy", "-q", "--platform", "linux/arm64", "kept:1", &one])
        .stdout(format!("{arm}\n"))
        .run();
    assert_eq!(skopeo_digest(&one), arm);
    world.rbuild(["verify"]).any_stdout().run();
}

#[test]
fn copy_says_what_it_cannot() {
    let world = world();
    world.build(["-t", "app"]).run();
    for (words, status, expected) in [
        (["copy", "nothing", "oci:x"], 1, "no image `nothing`"),
        (["copy", "app", "dir:x"], 2, "use `oci:DIR`"),
        (["copy", "app", "oci-archiv:x"], 2, "did you mean `oci-archive:`?"),
        (["copy", "oci:nothing", "app:2"], 1, "cannot open `nothing`"),
        (["copy", "app", "store:"], 2, "bad name"),
    ] {
        let ran = world.rbuild(words).any_status().run();
        assert!(
            ran.status == Some(status) && ran.stderr.contains(expected),
            "{words:?}: {:?} {}",
            ran.status,
            ran.stderr
        );
    }
    world.rbuild(["copy", "-q", "app", "oci:layout:one"]).any_stdout().run();
    world.rbuild(["copy", "-q", "app", "oci:layout:two"]).any_stdout().run();
    let ran = world.rbuild(["copy", "-q", "oci:layout:three", "x"]).status(1).run();
    assert!(ran.stderr.contains("does not have `three`; it has one"), "{}", ran.stderr);
}
