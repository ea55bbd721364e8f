//! The first thing that a user tries: a Debian base from a real registry, a package installed in it.

use crate::support::accounts::Account;
use crate::support::base::DebianRegistry;
use crate::support::layout::{ImageOnDisk, Layout};
use crate::support::program::World;
use crate::support::tools::same_lines;
use crate::support::{is_root, skip, tools};

/// The headline of the README.
const INSTALL: &str = "RUN apt-get update && apt-get install -y vim";

#[test]
fn vim_on_debian() {
    let registry = DebianRegistry::start();
    let debian = registry.debian();
    let (account, missing) = match Account::with_ranges() {
        Ok(account) => (Some(account), None),
        Err(why) => (None, Some(why)),
    };
    let (as_root, as_user) = std::thread::scope(|scope| {
        let root = is_root().then(|| scope.spawn(|| root_builds(&debian)));
        let debian = &debian;
        let user = account.map(|account| scope.spawn(move || user_builds(debian, account)));
        (root.map(|build| build.join().unwrap()), user.map(|build| build.join().unwrap()))
    });
    if let (Some(as_root), Some(as_user)) = (as_root, as_user) {
        assert_same(&as_root, &as_user);
    }
    if let Some(why) = missing {
        skip!("the ordinary user: {why}");
    }
}

/// Builds, builds again from the cache, and lets other tools read the result; gives the listing.
fn root_builds(debian: &str) -> Vec<String> {
    let world = World::large(Account::mine());
    world.dockerfile(&format!("FROM {debian}\n{INSTALL}\n"));
    let first = world.build(["-t", "ubuntu-with-vi"]).run();
    let image = world.images().image(&first.digest());
    has_vim(&image);
    everything_is_cached(&world, &first.digest());
    let archive = world.path().join("image.tar");
    world.build(["-t", "ubuntu-with-vi", "-o", &format!("type=docker,dest={}", archive.display())]).run();
    std::thread::scope(|scope| {
        scope.spawn(|| others_agree(&world, &first.digest(), &image));
        changes_are_built(&world, debian);
    });
    image.listing()
}

/// What follows a changed line runs, and with `--no-cache` everything.
fn changes_are_built(world: &World, debian: &str) {
    // A changed line misses from there on, and says why.
    world.dockerfile(&format!("FROM {debian}\n{INSTALL}\nRUN vim --version >/version\nRUN echo end >/end\n"));
    let longer = world.build(["-t", "longer"]).run();
    assert_eq!(longer.outcome("RUN apt-get"), "CACHED");
    assert_eq!(longer.miss("RUN vim"), Some("not built before"));
    world.dockerfile(&format!(
        "FROM {debian}\n{INSTALL}\nRUN vim --version | head -1 >/version\nRUN echo end >/end\n"
    ));
    let changed = world.build(["-t", "changed"]).run();
    assert_eq!(changed.outcome("RUN apt-get"), "CACHED");
    assert_eq!(changed.miss("RUN vim"), Some("the command changed"));
    assert_eq!(changed.miss("RUN echo end"), Some("the layer below changed"));
    let version = world.images().image(&changed.digest()).files()["version"].content.clone();
    assert!(version.starts_with(b"VIM - Vi IMproved"), "{}", String::from_utf8_lossy(&version));

    // --no-cache runs everything again.
    let again = world.build(["--no-cache", "-t", "again"]).run();
    assert_eq!(again.ran().len(), 3, "{}", again.stderr);
}

fn user_builds(debian: &str, account: Account) -> Vec<String> {
    let world = World::large(account);
    world.dockerfile(&format!("FROM {debian}\n{INSTALL}\n"));
    let first = world.build(["-t", "ubuntu-with-vi"]).run();
    let image = world.images().image(&first.digest());
    has_vim(&image);
    everything_is_cached(&world, &first.digest());
    image.listing()
}

fn has_vim(image: &ImageOnDisk) {
    assert_eq!(image.layers.len(), 2);
    let files = image.files();
    assert!(files.contains_key("usr/bin/vim.basic"));
    assert_eq!(files["usr/bin/vim"].link.as_deref(), Some("/etc/alternatives/vim"));
    // The base's files keep their owners and modes through the step.
    assert_eq!((files["usr/bin/passwd"].mode, files["etc/shadow"].gid), (0o4755, 42));
    let stray: Vec<&String> =
        files.keys().filter(|p| p.starts_with("proc/") || p.starts_with("dev/")).collect();
    assert!(stray.is_empty(), "{stray:?}");
}

fn everything_is_cached(world: &World, digest: &str) {
    let ran = world.build(["-t", "ubuntu-with-vi"]).run();
    assert_eq!(ran.digest(), digest);
    assert_eq!(ran.outcome("FROM"), "CACHED");
    assert_eq!(ran.outcome("RUN apt-get"), "CACHED");
    assert!(ran.stderr.contains("nothing to do"), "{}", ran.stderr);
}

/// Both images have the same files with the same owners; sizes differ where logs and caches hold times.
pub(crate) fn assert_same(as_root: &[String], as_user: &[String]) {
    let without_size = |line: &String| {
        let words: Vec<&str> = line.split(' ').collect();
        // Names may hold blanks: the size is the last word, or the one before an arrow.
        let at = words.iter().rposition(|word| *word == "->").map_or(words.len() - 1, |arrow| arrow - 1);
        let is_log = line.starts_with("var/log/")
            || line.starts_with("var/cache/")
            || line.starts_with("var/lib/apt/");
        words
            .iter()
            .enumerate()
            .filter(|(i, _)| !is_log || *i != at)
            .map(|(_, w)| *w)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (a, b): (Vec<_>, Vec<_>) =
        (as_root.iter().map(without_size).collect(), as_user.iter().map(without_size).collect());
    same_lines("the images of root and of an ordinary user", &a, &b);
}

/// skopeo, umoci and podman read the result as rbuild meant it.
fn others_agree(world: &World, digest: &str, image: &ImageOnDisk) {
    let name = "docker.io/library/ubuntu-with-vi:latest";
    let read = tools::skopeo_inspect(&world.store(), name);
    assert_eq!(read["Digest"], digest);
    assert_eq!(read["Layers"].as_array().unwrap().len(), 2);

    let copy = world.path().join("copy");
    let from = format!("oci:{}:{name}", world.store().display());
    tools::run("skopeo", ["--insecure-policy", "copy", "-q", &from, &format!("oci:{}:x", copy.display())]);
    same_lines("skopeo's copy and the image", &Layout::at(&copy).image(digest).listing(), &image.listing());

    let from = format!("{}:{name}", world.store().display());
    let unpack = "umoci unpack --image $1 bundle >&2 && find bundle/rootfs -mindepth 1 -printf '%P\\n'";
    let listed = in_memory(world, unpack, &from);
    let mut unpacked: Vec<String> = listed.lines().map(str::to_owned).collect();
    unpacked.sort();
    let expected: Vec<String> = image.files().into_keys().collect();
    same_lines("umoci's files and those of the image", &unpacked, &expected);

    let load = "podman='podman --root ./root --runroot ./run --storage-driver vfs' && \
        $podman load -q -i $1 >&2 && $podman image inspect --format '{{.Id}}' ubuntu-with-vi";
    let id = in_memory(world, load, world.path().join("image.tar").to_str().unwrap());
    assert_eq!(format!("sha256:{}", id.trim()), image.manifest.config().digest().to_string());
}

/// What a script of the shell prints in a folder that is in memory and goes with it: to write the files of an image to a busy
/// disk, and to delete them, takes a minute.
fn in_memory(world: &World, script: &str, argument: &str) -> String {
    let folder = world.path().join("memory").display().to_string();
    let script = format!("mkdir -p {folder} && mount -t tmpfs none {folder} && cd {folder} && {script}");
    tools::run("unshare", ["--mount", "sh", "-c", &script, "sh", argument])
}
