//! Paths that an image or a Dockerfile shapes lead nowhere on the machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use crate::support::accounts::Account;
use crate::support::is_root;
use crate::support::program::World;

/// Root, a user with ranges of ids, one with a single id; what there is of them here.
fn rungs() -> Vec<World> {
    let ranges = Account::with_ranges().unwrap_or_else(|reason| panic!("{reason}"));
    let mut accounts = vec![ranges, Account::without_ranges()];
    if is_root() {
        accounts.push(Account::mine());
    }
    accounts.into_iter().map(World::of).collect()
}

/// A world whose stage `bb` has busybox and was made by these lines.
fn with_stage(world: &World, lines: &str, rest: &str) {
    world.file("busybox", fs::read("/bin/busybox").expect("needs the package busybox-static"));
    world.set_mode("busybox", 0o755);
    world.dockerfile(&format!(
        "FROM scratch AS bb\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nRUN /bin/busybox --install /bin && {lines}\n{rest}\n"
    ));
}

/// A folder beside the store with somebody's key: on its file system, so that a rename would take it away.
fn host_folder(world: &World) -> std::path::PathBuf {
    let folder = world.path().join("secrets");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("key"), "of the host").unwrap();
    for path in [&folder, &folder.join("key")] {
        chown(path, Some(world.account().uid), Some(world.account().gid)).unwrap();
    }
    folder
}

#[test]
fn a_cache_mount_is_filled_from_inside_the_image() {
    for world in rungs() {
        let folder = host_folder(&world);
        let secrets = folder.display();
        let mount =
            |id: &str| format!("RUN --mount=type=cache,id={id},from=bb,source=/{id},target=/m cat /m/key");
        with_stage(
            &world,
            &format!(
                "mkdir -p {secrets} /d/e && echo of the image >{secrets}/key && ln -s {secrets} /absolute && \
                 ln -s ../../../..{secrets} /d/e/up && ln -s d/e/up /relative && ln -s /proc/self/root{secrets} /magic"
            ),
            &format!(
                "FROM bb AS inside\n{}\n{}\nFROM bb AS outside\nRUN rm -r {secrets}\nFROM bb AS magic\n{}\n",
                mount("absolute"),
                mount("relative"),
                mount("magic")
            ),
        );
        let inside = world.build(["--target", "inside"]).run().stderr;
        assert_eq!(inside.matches("of the image").count(), 3, "once in the title: {inside}");
        let magic = world.build(["--target", "magic"]).status(1).run().stderr;
        assert!(magic.contains("cannot fill a cache mount from `/magic`"), "{magic}");
        assert!(!inside.contains("of the host") && !magic.contains("of the host"), "{inside}{magic}");
        assert_eq!(fs::read_to_string(folder.join("key")).unwrap(), "of the host");
    }
}

#[test]
fn a_cache_mount_is_not_filled_from_the_machine() {
    for world in rungs() {
        let folder = host_folder(&world);
        with_stage(
            &world,
            &format!("ln -s {} /l", folder.display()),
            "FROM bb\nRUN --mount=type=cache,id=x,from=bb,source=/l,target=/m cat /m/key",
        );
        let told = world.build([""; 0]).status(1).run().stderr;
        assert!(told.contains("cannot fill a cache mount from `/l`: No such file or directory"), "{told}");
        assert!(!told.contains("of the host"), "{told}");
        assert_eq!(fs::read_to_string(folder.join("key")).unwrap(), "of the host");
    }
}

/// Programs with set-id bits lie in trees, sessions and caches: nobody else may come near them.
#[test]
fn what_images_bring_into_the_store_is_in_a_private_folder() {
    for world in rungs() {
        with_stage(
            &world,
            "chmod 4755 /bin/sh",
            "FROM bb\nRUN --mount=type=cache,id=x,target=/m cp -p /bin/sh /m/sh && false",
        );
        world.build([""; 0]).status(1).run();
        let own = world.store().join("rbuild");
        assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o7777, 0o700);
        let public =
            walkdir::WalkDir::new(world.store()).into_iter().filter_entry(|entry| entry.path() != own);
        let mode = |entry: walkdir::Result<walkdir::DirEntry>| {
            entry.unwrap().metadata().unwrap().permissions().mode()
        };
        let set_id = public.map(mode).filter(|mode| mode & 0o6000 != 0);
        assert_eq!(set_id.count(), 0);
    }
}

/// A layout is a folder that somebody may have sent: what is no file in it is not read, or reading would never begin or end.
#[test]
fn blobs_of_a_layout_are_files() {
    let world = World::new();
    world.file("file", "text").dockerfile("FROM scratch\nCOPY file /\n");
    world.build(["-o", "type=oci,dest=../layout,tar=false"]).run();
    let blobs: Vec<_> =
        fs::read_dir(world.path().join("layout/blobs/sha256")).unwrap().map(Result::unwrap).collect();
    let layout = world.path().join("layout").display().to_string();
    // Each time into a new store, which has none of the blobs.
    let load = |status: i32| World::new().rbuild(["load", "-i", &layout]).status(status).any_stdout().run();
    for blob in blobs {
        let (path, aside) = (blob.path(), world.path().join(blob.file_name()));
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(load(1).stderr.contains("it is no regular file"));
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(load(1).stderr.contains("it is no regular file"));
        fs::remove_file(&path).unwrap();
        // One that leads to the file is as good.
        std::os::unix::fs::symlink(&aside, &path).unwrap();
    }
    load(0);
}
