//! Images of a file or an archive: no network, no privilege, no namespace.

use std::fs;
use std::process::{Command, Stdio};

use rbuild::oci::Digest;

use crate::support::accounts::Account;
use crate::support::http::Server;
use crate::support::image::{TestImage, TestLayer};
use crate::support::is_root;
use crate::support::program::{Ran, Rbuild, World};
use crate::support::registry::Registry;
use crate::support::tools;

/// A world of a user without ranges of ids.
fn world() -> World {
    World::of(Account::without_ranges())
}

/// Runs the program where it has no network, cannot make namespaces, and is nobody. What an ordinary user's
/// own test run cannot take away is left.
fn confined<'w>(world: &'w World, args: &[&str]) -> Rbuild<'w> {
    match is_root() {
        true => without_namespaces(world, "--net", args),
        false => world.through(&["unshare", "--user", "--map-current-user", "--net"], args),
    }
}

/// As nobody who cannot make namespaces; `net` is `--net` for no network, or `--user` for that of the tests. For root only.
fn without_namespaces<'w>(world: &'w World, net: &str, args: &[&str]) -> Rbuild<'w> {
    // The limit holds in this user namespace and all below it, whoever asks. Only those outside can map more
    // than one id without newuidmap: the parent does it when the child has made the namespace. A shell that was started
    // before lost its capabilities; one that is started then has them.
    let inside = "set -e; echo >&3; read -r _ <&4; sh -c 'echo 0 >/proc/sys/user/max_user_namespaces'; \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps -all --bounding-set -all \
                  -- \"$@\" 3>&- 4<&-";
    let outside = "set -e; d=$(mktemp -d); mkfifo $d/made $d/mapped; exec 3<>$d/made 4<>$d/mapped; rm -r $d; \
                   unshare --user @NET@ sh -c \"$0\" sh \"$@\" & \
                   read -r _ <&3; for ids in uid_map gid_map; do echo 0 0 65536 >/proc/$!/$ids; done; \
                   echo >&4; wait $!";
    world.through(&["sh", "-c", &outside.replace("@NET@", net), inside], args)
}

fn build(world: &World) -> Ran {
    confined(world, &["--progress=plain", "-t", "smallest", "."]).run()
}

#[test]
fn the_confinement_of_these_tests_confines() {
    if !is_root() {
        crate::support::skip!("only root can forbid namespaces");
    }
    let world = world();
    world.dockerfile("FROM scratch\nADD rootfs.tar /\nRUN true\n").file("rootfs.tar", rootfs());
    let ran = confined(&world, &["--progress=quiet", "."]).status(1).run();
    assert!(ran.stderr.contains("Dockerfile:3"), "{}", ran.stderr);
    let said = "error: no user namespaces are allowed; `sysctl user.max_user_namespaces=15000` allows them\n";
    assert!(ran.stderr.contains(said), "says what is not allowed: {}", ran.stderr);
}

/// What cannot work is told before it costs anything.
#[test]
fn a_run_is_refused_before_a_layer_is_fetched() {
    if !is_root() {
        crate::support::skip!("only root can forbid namespaces");
    }
    let registry = Registry::start();
    let image = TestImage::new(
        &rbuild::oci::Platform::host().to_string(),
        vec![TestLayer::files(&[("file", "of the base")])],
    );
    registry.push(&image, "base", "1");
    let asked = Server::between(registry.host(), |_, reply| reply);
    let host = asked.host();
    let (world, args) = (world(), ["--progress=plain", "."]);
    let refused = || {
        let ran = without_namespaces(&world, "--user", &args).status(1).run();
        assert!(ran.stderr.contains("Dockerfile:3"), "{}", ran.stderr);
        let least =
            "= help: the least that lets RUN work here: `sudo sysctl -w user.max_user_namespaces=15000`\n";
        assert!(ran.stderr.contains(least), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("= help: a Dockerfile without RUN needs no permission"),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("#1"), "no step was begun: {}", ran.stderr);
    };
    world.dockerfile(&format!("FROM {host}/base:1\nCOPY Dockerfile /\nRUN [\"/file\"]\n"));
    refused();
    assert_eq!(asked.requests(), Vec::<String>::new());
    // Of another stage it is known once there is a plan, for which bases are looked up.
    let another = "FROM scratch\nCOPY --from=a / /\n";
    world.dockerfile(&format!("FROM {host}/base:1 AS a\nCOPY Dockerfile /\nRUN [\"/file\"]\n{another}"));
    refused();
    let layer = Digest::of(&image.layers[0].blob).to_string().replace("sha256:", "");
    assert!(!world.store().join("blobs/sha256").join(&layer).exists(), "the layer was not fetched");
    // What is above it needs the layer, but no permission.
    world.dockerfile(&format!("FROM {host}/base:1\nCOPY Dockerfile /\n"));
    without_namespaces(&world, "--user", &args).run();
    assert!(world.store().join("blobs/sha256").join(&layer).exists());
}

#[test]
fn a_file_on_scratch() {
    let world = world();
    world.dockerfile("FROM scratch\nCOPY hello /\nCMD [\"/hello\"]\n").file("hello", "#!/bin/sh\n");
    world.set_mode("hello", 0o755);
    world.set_mtime("hello", 1_700_000_000);
    let ran = build(&world);
    let image = world.images().image(&ran.digest());
    assert_eq!(image.listing(), ["hello file 0755 0:0 10"]);
    assert_eq!(image.files()["hello"].mtime, 1_700_000_000);
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["/hello"]);
    assert_eq!(image.history(), ["COPY hello /", "CMD [\"/hello\"] (empty)"]);
}

#[test]
fn an_archive_on_scratch_however_it_is_compressed() {
    let tar = rootfs();
    let packers: [(&str, &[&str]); 5] = [
        ("rootfs.tar", &["cat"]),
        ("rootfs.tar.gz", &["gzip", "-c"]),
        ("rootfs.tar.bz2", &["bzip2", "-c"]),
        ("rootfs.tar.xz", &["xz", "-c"]),
        ("rootfs.tar.zst", &["zstd", "-q", "-c"]),
    ];
    let mut diff_ids = Vec::new();
    for (name, packer) in packers {
        let world = world();
        world.dockerfile(&format!("FROM scratch\nADD {name} /\nCMD [\"/bin/bash\"]\n"));
        world.file(name, pack(packer, &tar));
        let ran = build(&world);
        let image = world.images().image(&ran.digest());
        assert_eq!(
            image.listing(),
            [
                "bin dir 0755 0:0 0",
                "bin/bash file 4755 0:0 3",
                "bin/sh symlink 0777 0:0 0 -> bash",
                "home dir 0755 0:0 0",
                "home/app dir 0750 1000:1000 0",
                "tmp dir 1777 0:0 0",
            ],
            "{name}"
        );
        assert_eq!(image.files()["bin/bash"].mtime, 1_600_000_000, "{name}");
        diff_ids.push(image.layers[0].diff_id.clone());
    }
    diff_ids.dedup();
    assert_eq!(diff_ids.len(), 1, "the packing does not show in the layer: {diff_ids:?}");
}

#[test]
fn a_cached_run_needs_no_more() {
    let world = world();
    world.dockerfile("FROM scratch\nCOPY hello /\n").file("hello", "hello\n");
    let first = build(&world);
    let second = build(&world);
    assert_eq!(second.digest(), first.digest());
    assert_eq!(second.outcome("COPY hello"), "CACHED");
    assert!(second.stderr.contains("nothing to do"), "{}", second.stderr);
}

#[test]
fn others_read_the_result() {
    let world = world();
    world.dockerfile("FROM scratch\nADD rootfs.tar /\nCMD [\"/bin/bash\"]\n").file("rootfs.tar", rootfs());
    let ran = build(&world);
    let name = "docker.io/library/smallest:latest";
    assert_eq!(tools::skopeo_inspect(&world.store(), name)["Digest"], ran.digest());
    let bundle = world.path().join("bundle");
    let image = format!("{}:{name}", world.store().display());
    let mut umoci = vec!["unpack".to_owned(), "--image".to_owned(), image, bundle.display().to_string()];
    if !is_root() {
        umoci.insert(1, "--rootless".to_owned());
    }
    tools::run("umoci", umoci);
    let listing = tools::listing(&bundle.join("rootfs"));
    assert!(listing.contains(&"bin/bash 4755 hi\n".to_owned()), "{listing:#?}");
    assert!(listing.contains(&"bin/sh -> bash".to_owned()), "{listing:#?}");
}

/// A root file system as an archive.
fn rootfs() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let entries: [(&str, tar::EntryType, u32, u64, &str); 6] = [
        ("./bin/", tar::EntryType::Directory, 0o755, 0, ""),
        ("./bin/bash", tar::EntryType::Regular, 0o4755, 0, "hi\n"),
        ("./bin/sh", tar::EntryType::Symlink, 0o777, 0, "bash"),
        ("./home/", tar::EntryType::Directory, 0o755, 0, ""),
        ("./home/app/", tar::EntryType::Directory, 0o750, 1000, ""),
        ("./tmp/", tar::EntryType::Directory, 0o1777, 0, ""),
    ];
    for (path, kind, mode, owner, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_600_000_000);
        if kind == tar::EntryType::Symlink {
            header.set_size(0);
            tar.append_link(&mut header, path, content).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

/// What a program makes of bytes.
fn pack(packer: &[&str], bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let stdin = Stdio::from(file.reopen().unwrap());
    let output = Command::new(packer[0]).args(&packer[1..]).stdin(stdin).output().unwrap();
    assert!(output.status.success());
    output.stdout
}
