//! RUN on layers that are mounted as images gives what it gives on unpacked ones.

use std::fs;
use std::path::PathBuf;

use crate::process_limits::worlds;
use crate::support::accounts::Account;
use crate::support::base::{DebianRegistry, busybox};
use crate::support::image::{TestImage, TestLayer};
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::{is_root, skip};

/// `RBUILD_LAYERS`
const FORMS: [&str; 2] = ["tree", "erofs"];

/// Busybox with a second layer of what images must get right, and a third one that no image can stand for.
fn base() -> TestImage {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, link: &str, content: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o2750 } else { 0o4640 });
        header.set_uid(1000);
        header.set_gid(5);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    };
    add("opt/d", tar::EntryType::Directory, "", "");
    add("opt/d/file", tar::EntryType::Regular, "", "text");
    add("opt/d/link", tar::EntryType::Link, "opt/d/file", "");
    add("opt/d/sym", tar::EntryType::Symlink, &"long/".repeat(19), "");
    add("opt/d/pipe", tar::EntryType::Fifo, "", "");
    add("opt/empty", tar::EntryType::Regular, "", "");
    add("root/.wh..wh..opq", tar::EntryType::Regular, "", "");
    add("etc/.wh.group", tar::EntryType::Regular, "", "");
    for number in 0..200 {
        add(&format!("opt/many/{number:0>100}"), tar::EntryType::Regular, "", &"x".repeat(number * 7));
    }
    let second = tar.into_inner().unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Link);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    tar.append_link(&mut header, "opt/lower", "opt/d/file").unwrap();
    let third = tar.into_inner().unwrap();
    let mut image = busybox();
    let layers = image.layers.iter().cloned().chain([TestLayer::gzip(&second), TestLayer::gzip(&third)]);
    let mut with_more = TestImage::new("linux/amd64", layers.collect());
    std::mem::swap(&mut with_more.config.created, &mut image.config.created);
    with_more
}

/// With ranges of ids there are no devices in trees; what takes the place of one is there, and so are its other names.
#[test]
fn a_file_in_the_place_of_a_device_has_its_links() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, link: &str, content: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    };
    add("device", tar::EntryType::Char, "", "");
    add("gone", tar::EntryType::Link, "device", "");
    add("device", tar::EntryType::Regular, "", "text");
    add("link", tar::EntryType::Link, "device", "");
    let layer = TestLayer::gzip(&tar.into_inner().unwrap());
    let layers = busybox().layers.into_iter().chain([layer]).collect();
    let registry = Registry::start();
    registry.push(&TestImage::new("linux/amd64", layers), "base", "1");
    for world in worlds() {
        world.dockerfile(&format!(
            "FROM {}/base:1 AS a\nRUN cat /device /link >/seen\nFROM scratch\nCOPY --from=a /seen /\n",
            registry.host()
        ));
        let ran = world.build(["-t", "x"]).env("RBUILD_LAYERS", "tree").remarks().run();
        assert_eq!(world.images().image(&ran.digest()).files()["seen"].content, b"texttext");
    }
}

const STEPS: &str = "
    RUN find / -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -path /etc/hosts -prune -o \
        -path /etc/resolv.conf -prune -o -path /files -prune -o ! -type d -exec stat -c '%n %f %u %g %s %h %Y %N %t %T' {} + | sort >/files
    RUN find / -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -type d \
        -exec stat -c '%n %f %u %g' {} + | sort >/directories
    RUN find /opt /bin -type f | sort | while read f; do sha256sum $f; done >/contents
    RUN chmod 4640 /opt/d/file && touch -d @1700000000 /opt/d/file && rm -r /opt/many && mkdir /opt/many && \
        echo more >>/opt/d/link && mv /opt/empty /opt/moved && ln /opt/lower /opt/other && rm /bin/yes
    RUN --mount=type=bind,from=base,target=/all --mount=type=bind,from=base,source=/opt/d,target=/part,rw \
        --mount=type=cache,target=/seeded,from=base,source=/opt/d,id=images \
        cat /all/opt/lower /part/file /seeded/file >/mounted && echo gone >/part/new && ls /all/opt/many | wc -l >>/mounted
    COPY --from=base /opt/d /copied
    USER app
    RUN id >/tmp/id && cat /opt/many/none 2>/dev/null || true";

#[test]
fn steps_on_images_and_trees_give_the_same_bytes() {
    if !is_root() {
        skip!("only root mounts images");
    }
    let registry = Registry::start();
    registry.push(&base(), "base", "latest");
    let digests = FORMS.map(|form| {
        let world = World::new();
        world.dockerfile(&format!("FROM {0}/base AS base\nFROM {0}/base{STEPS}\n", registry.host()));
        let build = world.build(["-t", "x", "-o", "type=oci,dest=../out,tar=false,rewrite-timestamp=true"]);
        let ran = build.env("SOURCE_DATE_EPOCH", "1735689600").env("RBUILD_LAYERS", form).run();
        let image = crate::support::layout::Layout::at(&world.path().join("out"));
        let files = image.image(&ran.digest()).files();
        assert_eq!(files["mounted"].content, b"texttexttext200\n");
        let count = |flavour: &str| {
            let homes = fs::read_dir(world.store().join("rbuild/trees").join(flavour));
            homes.map_or(0, Iterator::count)
        };
        match form {
            "tree" => assert_eq!(count("erofs"), 0),
            _ => {
                assert_eq!((count("root"), count("erofs") > 1), (1, true), "one layer links to a lower file");
            }
        }
        let of = |name: &str| String::from_utf8(files[name].content.clone()).unwrap();
        (ran.digest(), ["files", "directories", "contents"].map(of))
    });
    let [(_, trees), (_, images)] = &digests;
    for (tree, image) in trees.iter().zip(images) {
        tree.lines().zip(image.lines()).for_each(|(tree, image)| assert_eq!(tree, image));
    }
    assert_eq!(digests[0].0, digests[1].0);
}

#[test]
fn debian_looks_the_same_in_images_and_trees() {
    if !is_root() {
        skip!("only root mounts images");
    }
    let registry = DebianRegistry::start();
    let [tree, image] = FORMS.map(|form| {
        let world = World::large(Account::mine());
        world.dockerfile(&format!(
            "FROM {}\n\
             RUN found=$(cd / && find bin boot etc home lib* media mnt opt root run sbin srv tmp usr var \
                 ! -path etc/hosts ! -path etc/resolv.conf -printf '%p %y %m %U %G %T@ %l\\n' \
                 ! -type d -printf '%s %n\\n' -type f -exec sha256sum {{}} + | sort) && \
                 echo \"$found\" >/found\n",
            registry.debian()
        ));
        let build = world.build(["-t", "x", "-o", "type=oci,dest=../out,tar=false,rewrite-timestamp=true"]);
        let ran = build.env("SOURCE_DATE_EPOCH", "1735689600").env("RBUILD_LAYERS", form).run();
        let layout = crate::support::layout::Layout::at(&world.path().join("out"));
        let files = layout.image(&ran.digest()).files();
        String::from_utf8_lossy(&files["found"].content).into_owned()
    });
    assert!(tree.lines().count() > 20_000, "{tree}");
    tree.lines().zip(image.lines()).for_each(|(tree, image)| assert_eq!(tree, image));
    assert_eq!(tree.len(), image.len());
}

/// What a kept session mounts is told by the image's file: where that was mounted is gone with the build.
#[test]
fn a_kept_step_finds_its_mounts_again() {
    if !is_root() {
        skip!("only root mounts images");
    }
    let registry = Registry::start();
    registry.push(&base(), "base", "latest");
    registry.push(&busybox(), "busybox", "latest");
    let world = World::new();
    world.dockerfile(&format!(
        "FROM {0}/busybox\nRUN --mount=from={0}/base,target=/all --mount=from={0}/busybox,target=/one \
         echo half >/result; exit 3\n",
        registry.host()
    ));
    let ran = world.build(["-t", "x"]).env("RBUILD_LAYERS", "erofs").status(1).run();
    let at = ran.stderr.find(" shell ").expect("the way in is told") + " shell ".len();
    let id = &ran.stderr[at..at + 6];
    for form in FORMS {
        let shell = world.rbuild(["shell", id]).env("RBUILD_LAYERS", form);
        shell.stdin("cat /result /all/opt/lower; ls -d /one/bin").stdout("half\ntext/one/bin\n").run();
    }
}

#[test]
fn a_form_that_nobody_knows_is_refused() {
    if !is_root() {
        skip!("only root mounts images");
    }
    let registry = Registry::start();
    registry.push(&busybox(), "busybox", "latest");
    let world = World::new();
    world.dockerfile(&format!("FROM {}/busybox\nRUN true\n", registry.host()));
    let ran = world.build(["-t", "x"]).env("RBUILD_LAYERS", "zip").status(1).run();
    assert!(
        ran.stderr.contains("`RBUILD_LAYERS` is `zip`; it may be `tree`, `auto` or `erofs`"),
        "{}",
        ran.stderr
    );
}

fn image_file(world: &World) -> PathBuf {
    let homes = fs::read_dir(world.store().join("rbuild/trees/erofs")).unwrap();
    homes.map(|home| home.unwrap().path().join("fs")).next().unwrap()
}

#[test]
fn a_damaged_image_is_found_and_made_again() {
    if !is_root() {
        skip!("only root mounts images");
    }
    let registry = Registry::start();
    registry.push(&busybox(), "busybox", "latest");
    let world = World::new();
    world.dockerfile(&format!("FROM {}/busybox\nRUN echo made >/made\n", registry.host()));
    let build = || world.build(["--no-cache", "-t", "x"]).env("RBUILD_LAYERS", "erofs").run();
    build();
    world.rbuild(["verify"]).any_stdout().run();
    let file = image_file(&world);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let found = world.rbuild(["verify"]).status(1).any_stdout().run().stdout;
    assert!(found.contains("its bytes are not those that were written"), "{found}");
    assert!(!file.exists());
    build();
    world.rbuild(["verify"]).any_stdout().run();
    assert!(image_file(&world).is_file());
    // What was begun and never finished is no image.
    let boot = file.with_file_name("boot");
    fs::write(&boot, "another").unwrap();
    fs::write(&file, "short").unwrap();
    build();
    assert!(fs::metadata(&file).unwrap().len() > 4096);
    world.rbuild(["rmi", "x"]).any_stdout().run();
    world.rbuild(["prune", "--all"]).any_stdout().run();
    assert!(!file.exists());
}
