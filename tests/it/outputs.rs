//! What a build leaves: names in the store, archives, directories, the digest's file; or nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::accounts::Account;
use crate::support::base::with_busybox;
use crate::support::is_root;
use crate::support::layout::Layout;
use crate::support::program::World;
use crate::support::tools;

/// A context with a program, a data file and a link.
fn world() -> World {
    let world = World::new();
    world.file("run.sh", "#!/bin/sh\n").file("data/list", "1\n2\n");
    world.set_mode("run.sh", 0o755);
    std::os::unix::fs::symlink("list", world.context().join("data/link")).unwrap();
    world
        .dockerfile("FROM scratch\nCOPY . /app/\nCMD [\"/app/run.sh\"]\n")
        .file(".dockerignore", "*ockerignore\nDockerfile\n");
    world
}

/// What the image of [`world`] holds.
const FILES: [&str; 4] =
    ["app dir 0755", "app/data dir 0755", "app/data/link -> list", "app/data/list 0644 1\n2\n"];

#[track_caller]
fn has_the_files(root: &Path) {
    let listing = tools::listing(root);
    let expected =
        FILES.iter().map(|line| (*line).to_owned()).chain(["app/run.sh 0755 #!/bin/sh\n".to_owned()]);
    assert_eq!(listing, expected.collect::<Vec<_>>());
}

#[test]
fn names() {
    let world = world();
    let names = ["plain", "tagged:1.2", "host:5000/group/name:tag", "localhost/x", "quay.io/a/b"];
    let ran = world.build(names.iter().flat_map(|name| ["-t", *name])).run();
    assert_eq!(
        world.images().names(),
        [
            "docker.io/library/plain:latest",
            "docker.io/library/tagged:1.2",
            "host:5000/group/name:tag",
            "localhost/x:latest",
            "quay.io/a/b:latest",
        ]
    );
    for entry in world.images().index().manifests() {
        assert_eq!(entry.digest().to_string(), ran.digest());
    }
    // A name moves to the newest image that was given it.
    world.dockerfile("FROM scratch\nCOPY run.sh /\n");
    let moved = world.build(["-t", "plain"]).run();
    let digest = |name: &str| tools::skopeo_inspect(&world.store(), name)["Digest"].clone();
    assert_eq!(digest("docker.io/library/plain:latest"), moved.digest());
    assert_eq!(digest("localhost/x:latest"), ran.digest());
}

#[test]
fn a_build_without_a_name_is_found_by_its_digest() {
    let world = world();
    let ran = world.build([""; 0]).run();
    world.images().image(&ran.digest());
    let shown = world.rbuild(["inspect", &ran.digest()]).any_stdout().run();
    assert!(shown.stdout.contains(&ran.digest()));
}

#[test]
fn quiet_prints_the_digest_alone_and_iidfile_holds_it() {
    let world = world();
    let digest = world.build(["-t", "a"]).run().digest();
    let ran = world.rbuild(["-q", "--iidfile", "id", "."]).stdout(format!("{digest}\n")).run();
    assert_eq!(ran.stderr, "");
    assert_eq!(fs::read_to_string(world.context().join("id")).unwrap(), digest);
}

#[test]
fn an_oci_archive_and_an_oci_directory() {
    let world = world();
    let out = world.path().join("out");
    fs::create_dir(&out).unwrap();
    let (file, folder) = (out.join("image.tar"), out.join("layout"));
    let to_file = format!("type=oci,dest={}", file.display());
    let to_folder = format!("type=oci,dest={},tar=false", folder.display());
    let ran = world.build(["-t", "x:1", "-o", &to_file, "-o", &to_folder]).run();
    let inside = Layout::at(&folder).image(&ran.digest());
    assert_eq!(inside.history(), world.images().image(&ran.digest()).history());
    tools::run(
        "tar",
        ["-C", out.to_str().unwrap(), "--one-top-level=unpacked", "-xf", file.to_str().unwrap()],
    );
    assert_eq!(Layout::at(&out.join("unpacked")).image(&ran.digest()).listing(), inside.listing());
    let read = tools::json("skopeo", ["inspect", &format!("oci-archive:{}", file.display())]);
    assert_eq!(read["Digest"], ran.digest());
}

#[test]
fn skopeo_copies_and_umoci_unpacks_the_store() {
    let world = world();
    let ran = world.build(["-t", "x"]).run();
    let image = format!("oci:{}:docker.io/library/x:latest", world.store().display());
    let copy = world.path().join("copy");
    tools::run("skopeo", ["--insecure-policy", "copy", "-q", &image, &format!("oci:{}:x", copy.display())]);
    let copied = Layout::at(&copy).image(&ran.digest());
    assert_eq!(copied.listing(), world.images().image(&ran.digest()).listing());
    let bundle = world.path().join("bundle");
    let image = format!("{}:docker.io/library/x:latest", world.store().display());
    let mut words = vec!["unpack", "--image", &image, bundle.to_str().unwrap()];
    if !is_root() {
        words.insert(1, "--rootless");
    }
    tools::run("umoci", words);
    has_the_files(&bundle.join("rootfs"));
}

#[test]
fn podman_loads_an_archive_of_either_type() {
    let world = world();
    for kind in ["oci", "docker"] {
        let file = world.path().join(format!("{kind}.tar"));
        let output = format!("type={kind},dest={}", file.display());
        let ran = world.build(["-t", "x:1", "-o", &output]).run();
        let (root, runroot) = (world.path().join("podman"), world.path().join("podman-run"));
        let podman = |words: &[&str]| {
            let own = ["--root", root.to_str().unwrap(), "--runroot", runroot.to_str().unwrap()];
            tools::run("podman", own.iter().chain(&["--storage-driver", "vfs"]).chain(words))
        };
        let loaded = podman(&["load", "-q", "-i", file.to_str().unwrap()]);
        assert!(loaded.contains("docker.io/library/x:1"), "{kind}: {loaded}");
        let config =
            podman(&["image", "inspect", "--format", "{{.Id}} {{.Config.Cmd}} {{.RootFS.Layers}}", "x:1"]);
        let image = world.images().image(&ran.digest());
        let id = image.manifest.config().digest().to_string();
        assert_eq!(
            config.trim(),
            format!("{} [/app/run.sh] [{}]", id.trim_start_matches("sha256:"), image.layers[0].diff_id),
            "{kind}"
        );
    }
}

#[test]
fn the_plain_files_in_a_directory() {
    let world = world();
    world.build(["-o", "../files"]).run();
    has_the_files(&world.path().join("files"));
    world.build(["-o", "type=local,dest=../again"]).run();
    has_the_files(&world.path().join("again"));
}

/// Set-id programs, capabilities and devices of an image are for whoever exports it, and for nobody else.
#[test]
fn the_plain_files_give_no_rights_to_others() {
    let accounts =
        if is_root() { vec![Account::mine(), Account::without_ranges()] } else { vec![Account::mine()] };
    for account in accounts {
        let (world, is_root) = (World::of(account), account.uid == 0);
        world.file("run.sh", "#!/bin/sh\n").file("capable", "program");
        let device = if is_root {
            "\nRUN [\"/bin/busybox\", \"mknod\", \"-m\", \"666\", \"/device\", \"c\", \"1\", \"3\"]"
        } else {
            ""
        };
        if is_root {
            // cap_net_bind_service+ep, as vfs_cap_data of revision 2.
            let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let path = world.context().join("capable");
            rustix::fs::setxattr(path, "security.capability", &value, rustix::fs::XattrFlags::empty())
                .unwrap();
        }
        let Account { uid, gid } = account;
        with_busybox(
            &world,
            &format!("COPY capable /\nCOPY --chmod=6755 --chown={uid}:{gid} run.sh /su{device}"),
        );
        let mode = |path: &Path| fs::metadata(path).map(|meta| meta.permissions().mode() & 0o7777).ok();
        let capable = |path: &Path| rustix::fs::getxattr(path, "security.capability", &mut [0; 64]).is_ok();
        for (name, before, after) in [
            ("new/folder", None, 0o700),
            ("closed", Some(0o700), 0o700),
            ("open", Some(0o755), 0o755),
            ("group", Some(0o710), 0o710),
        ] {
            let folder = world.path().join(name);
            if let Some(before) = before {
                fs::create_dir(&folder).unwrap();
                std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
                fs::set_permissions(&folder, fs::Permissions::from_mode(before)).unwrap();
            }
            // Others may enter it, or not; and then that the image is written over what was there.
            for output in [format!("type=local,dest={}", folder.display()), folder.display().to_string()] {
                let told = world.build(["-o", &output]).remarks().run().stderr;
                let is_private = after == 0o700;
                assert_eq!(mode(&folder), Some(after), "{name}");
                assert_eq!(mode(&folder.join("su")), Some(if is_private { 0o6755 } else { 0o755 }), "{name}");
                assert_eq!(mode(&folder.join("device")), (is_root && is_private).then_some(0o666), "{name}");
                assert_eq!(capable(&folder.join("capable")), is_root && is_private, "{name}");
                assert_eq!(told.contains("others may enter"), !is_private, "{name}: {told}");
            }
        }
        let elsewhere = world.path().join("new");
        assert_eq!(mode(&elsewhere), Some(0o700), "as the folder in it");
    }
}

#[test]
fn the_plain_files_as_a_tar_on_standard_output() {
    let world = world();
    let ran = world.build(["-o", "-"]).any_stdout().run();
    let mut archive = tar::Archive::new(ran.stdout.as_bytes());
    let names: Vec<String> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert!(names.iter().any(|name| name.trim_end_matches('/') == "app/data/list"), "{names:?}");
}

#[test]
fn a_failed_output_leaves_no_name_and_nothing_half_written() {
    let world = world();
    fs::create_dir(world.path().join("taken")).unwrap();
    let bad =
        ["type=oci,dest=../missing/image.tar", "type=oci,dest=../taken", "type=local,dest=/proc/nothing"];
    for output in bad {
        let ran = world.build(["-t", "never", "--iidfile", "id", "-o", output]).status(1).run();
        assert!(!world.context().join("id").exists(), "{output}");
        assert!(!world.path().join("missing").exists(), "{output}");
        let names =
            if world.store().join("index.json").exists() { world.images().names() } else { Vec::new() };
        assert!(names.is_empty(), "{output}: {names:?}");
        assert!(ran.stderr.contains("error: "), "{}", ran.stderr);
    }
    assert_eq!(fs::read_dir(world.path().join("taken")).unwrap().count(), 0);
}

#[test]
fn a_digest_file_that_cannot_be_written_leaves_no_name() {
    let world = world();
    let ran = world.build(["-t", "never", "--iidfile", "missing/id"]).status(1).run();
    assert!(ran.stderr.contains("`missing/id`"), "{}", ran.stderr);
    let names = world.images().names();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn an_output_that_fails_leaves_an_old_file_as_it_was() {
    if is_root() {
        // Root may write anywhere; a full disk is another test's.
        return;
    }
    let world = world();
    let folder = world.path().join("readonly");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("image.tar"), "old").unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    world.build(["-o", "type=oci,dest=../readonly/image.tar"]).status(1).run();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read_to_string(folder.join("image.tar")).unwrap(), "old");
}
