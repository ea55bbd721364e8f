//! RUN in stores where the kernel mounts no overlay, or only another kind of it: a tmpfs, and an overlay as
//! inside of a container.

use crate::support::accounts::Account;
use crate::support::base::{busybox, busybox_registry};
use crate::support::image::TestLayer;
use crate::support::layout::{ImageOnDisk, Layout};
use crate::support::program::{Ran, World};
use crate::support::{is_root, skip};

/// Mounts something at `store` in a mount namespace of its own, then runs the program there.
const ON_TMPFS: &str = "set -e; mkdir -p ../store; mount -t tmpfs none ../store; exec \"$@\"";
/// The same on an overlay; its own directories are on a tmpfs, since most file systems of test machines can be
/// overlays themselves.
const ON_OVERLAY: &str = "set -e; mkdir -p ../store ../layers; mount -t tmpfs none ../layers; \
    mkdir ../layers/lower ../layers/upper ../layers/work; \
    mount -t overlay -o lowerdir=../layers/lower,upperdir=../layers/upper,workdir=../layers/work none ../store; \
    exec \"$@\"";

/// Builds steps that add, change and delete, in a store made by the script; checks the files that they leave.
fn build_on(script: &str, account: Account) -> Ran {
    build_with(script, account, "tree")
}

/// The same with layers in this form, for `RBUILD_LAYERS`.
fn build_with(script: &str, account: Account, form: &str) -> Ran {
    let registry = busybox_registry();
    let world = World::of(account);
    world.dockerfile(&format!(
        "FROM {}/busybox\n\
         RUN mkdir /d && echo 1 >/d/one && echo 2 >/d/two\n\
         RUN rm /d/one && echo more >>/d/two && ln /d/two /d/link && chown 1000 /d\n\
         RUN find /d -type f | sort >/list && rm /etc/group\n",
        registry.host()
    ));
    // What is mounted goes with the namespace: the files are looked at from outside, so they are exported.
    let give_up = format!("setpriv --reuid {} --regid {} --clear-groups --", account.uid, account.gid);
    let script = match account == Account::mine() {
        true => script.to_owned(),
        false => script.replace("exec", &format!("chown {} ../store; exec {give_up}", account.uid)),
    };
    let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let output = ["-t", "x", "-o", "type=oci,dest=../out,tar=false", "."];
    let build = world.through(&wrapper, ["--progress=plain"].iter().chain(&output));
    let ran = build.env("RBUILD_LAYERS", form).remarks().run();
    let image = Layout::at(&world.path().join("out")).image(&ran.digest());
    let files = image.files();
    assert_eq!(files["list"].content, b"/d/link\n/d/two\n");
    assert!(!files.contains_key("d/one") && !files.contains_key("etc/group"), "{:?}", image.listing());
    assert_eq!(files["d"].uid, 1000);
    let second: Vec<String> = image.layers[2].entries.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(
        second,
        ["d/.wh.one", "d", "d/link", "d/two"].map(str::to_owned),
        "only changes are in a layer"
    );
    ran
}

/// The notes of a build: at most one says how it helps itself.
fn notes(ran: &Ran) -> Vec<&str> {
    let is_note = |line: &&str| line.starts_with("note") && !line.starts_with("note: RUN runs ");
    let notes = ran.stderr.lines().filter(is_note);
    notes.filter(|line| !line.starts_with("note: one id: ")).collect()
}

#[test]
fn root_on_a_tmpfs() {
    if !is_root() {
        skip!("only root mounts a tmpfs for the store");
    }
    let ran = build_on(ON_TMPFS, Account::mine());
    assert!(notes(&ran).len() <= 1, "{}", ran.stderr);
}

/// The kernel mounts no image from a file on a tmpfs, but through a loop device.
#[test]
fn root_with_images_on_a_tmpfs() {
    if !is_root() {
        skip!("only root mounts a tmpfs for the store");
    }
    let ran = build_with(ON_TMPFS, Account::mine(), "erofs");
    assert!(notes(&ran).is_empty(), "{}", ran.stderr);
}

/// A root that is a copy needs trees.
#[test]
fn root_with_images_on_an_overlay() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    let ran = build_with(ON_OVERLAY, Account::mine(), "erofs");
    assert_eq!(notes(&ran).len(), 1, "{}", ran.stderr);
}

#[test]
fn an_ordinary_user_on_a_tmpfs() {
    if !is_root() {
        skip!("only root mounts a tmpfs for the store");
    }
    let ran = build_on(ON_TMPFS, Account::with_ranges().unwrap());
    assert!(notes(&ran).len() <= 1, "{}", ran.stderr);
}

/// Everything that a layer can say about the ones below it, and a mount that shows it and is written to.
const CHANGES: &str = "\
    RUN mkdir -p /d/e/f /o /deep/a/b && echo 1 >/d/one && echo 2 >/d/two && echo x >/d/e/f/x && echo y >/o/y \\\n\
     && touch /deep/a/b/c /deep/a/d && ln -s one /d/sym && chown -h 7:8 /d/sym && mkfifo /d/pipe && chown 7:9 /d/pipe\n\
    RUN rm /d/one && echo more >>/d/two && ln /d/two /d/link && chown 1000:5 /d && rm -r /d/e && mkdir /d/e \\\n\
     && echo z >/d/e/z && chmod 4755 /o/y && rm -r /deep/a/b && rm /d/pipe && mkdir /d/pipe\n\
    RUN test ! -e /d/one && test ! -e /d/e/f && test ! -e /deep/a/b && find /d | sort >/list \\\n\
     && rm /etc/group && rm -r /o && mkdir /o && echo b >/deep/a/b\n";

/// Gives up being root, if need be.
fn give_up(account: Account) -> String {
    match account == Account::mine() {
        true => String::new(),
        false => format!("setpriv --reuid {} --regid {} --clear-groups --", account.uid, account.gid),
    }
}

/// Builds [`CHANGES`] and more lines behind a script; gives the image and what was told.
fn image_behind(
    script: Option<&str>,
    account: Account,
    (base, lines): (&str, &str),
    memory: Option<&str>,
) -> (ImageOnDisk, Ran) {
    let world = World::of(account);
    world.dockerfile(&format!(
        "FROM {base} AS base\n{CHANGES}FROM base\n\
         RUN --mount=type=bind,from=base,target=/m,rw test ! -e /m/etc/group && test ! -e /m/d/e/f \\\n\
          && find /m/d /m/o /m/deep | sort >/seen && echo x >/m/d/e/new && rm /m/d/two && ls /m/d >>/seen\n{lines}"
    ));
    let own = script.map(|script| {
        script.replace("exec", &format!("chown {} ../store; exec {}", account.uid, give_up(account)))
    });
    let wrapper: Vec<&str> =
        own.iter().flat_map(|script| ["unshare", "--mount", "sh", "-c", script.as_str(), "sh"]).collect();
    let out = "type=oci,dest=../out,tar=false,rewrite-timestamp=true";
    let build = world.through(&wrapper, ["--progress=plain", "-t", "x", "-o", out, "."]);
    let build = build.env("SOURCE_DATE_EPOCH", "1700000000").remarks();
    let ran = memory.into_iter().fold(build, |build, size| build.env("RBUILD_RUN_MEMORY", size)).run();
    let image = Layout::at(&world.path().join("out")).image(&ran.digest());
    (image, ran)
}

/// In memory, in memory that is too small for one step, and as copies of everything: each gives what a native overlay gives.
fn gives_the_same_image_on_an_overlay(account: Account) {
    let registry = busybox_registry();
    let base = format!("{}/busybox", registry.host());
    // One says that there was no room and leaves none of it behind, one keeps silent.
    let large = "RUN dd if=/dev/zero of=/large bs=1M count=24 || { rm /large; exit 1; }\n\
        RUN dd if=/dev/zero of=/more bs=1M count=24 2>/dev/null || true\n";
    let (native, first) = image_behind(None, account, (&base, large), None);
    assert_eq!(notes(&first), Vec::<&str>::new(), "{}", first.stderr);
    let seen = String::from_utf8(native.files()["seen"].content.clone()).unwrap();
    assert!(seen.contains("/m/deep/a/b\n") && seen.ends_with("e\nlink\npipe\nsym\n"), "{seen}");
    let (in_memory, small) = ("keeping what RUN changes in memory", "does not fit into 16 MiB of memory");
    for (memory, told) in [
        (None, vec![in_memory]),
        (Some("16m"), vec![in_memory, small, small]),
        (Some("0"), vec!["copying the root file system for every RUN"]),
    ] {
        let (image, ran) = image_behind(Some(ON_OVERLAY), account, (&base, large), memory);
        let notes = notes(&ran);
        let is_told = notes.iter().zip(&told).all(|(note, told)| note.contains(told));
        assert!(notes.len() == told.len() && is_told, "{memory:?}: {}", ran.stderr);
        if memory == Some("0") {
            // A copy does not tell a folder that was emptied from one that was made anew.
            assert_eq!(image.listing(), native.listing());
            continue;
        }
        for (number, (here, there)) in image.layers.iter().zip(&native.layers).enumerate() {
            assert_eq!(here.listing(), there.listing(), "{memory:?}: layer {number}");
        }
        assert_eq!(ran.digest(), first.digest(), "{memory:?}");
    }
}

#[test]
fn root_on_an_overlay_gets_the_same_image() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    gives_the_same_image_on_an_overlay(Account::mine());
}

#[test]
fn a_user_with_ranges_on_an_overlay_gets_the_same_image() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    gives_the_same_image_on_an_overlay(Account::with_ranges().unwrap());
}

#[test]
fn a_user_with_one_id_on_an_overlay_gets_the_same_image() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    gives_the_same_image_on_an_overlay(Account::without_ranges());
}

/// What is in memory is gone with rbuild; what is kept is not.
fn is_kept_on_an_overlay(account: Account) {
    let registry = busybox_registry();
    let world = World::of(account);
    let base = format!("{}/busybox", registry.host());
    world.dockerfile("FROM kept:1\n");
    let change = "echo made >/made; rm /etc/group; rm -r /root; mkdir /root; ln -s x /link; chown -h 7:8 /link; \
        mkdir /d; chown 7 /d; exit 3";
    let look = "cat /made; ls /root; test ! -e /etc/group && echo gone; stat -c %u:%g /link /d; echo more >/more; rm /made";
    let again = "cat /more; ls /made 2>/dev/null; stat -c %u:%g /link /d";
    let script = ON_OVERLAY.replace(
        "exec",
        &format!(
            "chown {} ../store; program=$1; store=$3; set +e; unset SOURCE_DATE_EPOCH
            r() {{ {} \"$program\" --root \"$store\" \"$@\"; }}
            r run --name mine {base} sh -c '{change}' >&2; test $? = 3 || echo run: $? >&2
            echo '{look}' | r shell mine >>../seen
            echo '{again}' | r shell mine >>../seen
            r prune --force >&2
            r commit mine kept:1 >&2
            exec {}",
            account.uid,
            give_up(account),
            give_up(account)
        ),
    );
    let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let out = ["--progress=plain", "-o", "type=oci,dest=../out,tar=false", "-t", "x", "."];
    let ran = world.through(&wrapper, out).remarks().run();
    let seen = std::fs::read_to_string(world.path().join("seen")).unwrap();
    assert_eq!(seen, "made\ngone\n7:8\n7:0\nmore\n7:8\n7:0\n", "{}", ran.stderr);
    let image = Layout::at(&world.path().join("out")).image(&ran.digest());
    let files = image.files();
    assert!(!files.contains_key("made") && !files.contains_key("etc/group"), "{:?}", image.listing());
    assert_eq!(files["more"].content, b"more\n");
    assert_eq!(["link", "d"].map(|path| (files[path].uid, files[path].gid)), [(7, 8), (7, 0)]);
}

#[test]
fn what_root_keeps_on_an_overlay_is_there_again() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    is_kept_on_an_overlay(Account::mine());
}

#[test]
fn what_a_user_with_ranges_keeps_on_an_overlay_is_there_again() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    is_kept_on_an_overlay(Account::with_ranges().unwrap());
}

#[test]
fn what_a_user_with_one_id_keeps_on_an_overlay_is_there_again() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    is_kept_on_an_overlay(Account::without_ranges());
}

#[test]
fn root_on_an_overlay_says_once_how_it_helps_itself() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    let ran = build_on(ON_OVERLAY, Account::mine());
    assert_eq!(notes(&ran).len(), 1, "{}", ran.stderr);
}

#[test]
fn an_ordinary_user_on_an_overlay_says_once_how_it_helps_itself() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    let ran = build_on(ON_OVERLAY, Account::with_ranges().unwrap());
    assert_eq!(notes(&ran).len(), 1, "{}", ran.stderr);
}

/// overlayfs stacks 500.
const MANY: usize = 522;

/// More layers than overlayfs stacks, some of which take away what others brought, and steps on top of them.
fn build_on_many_layers(script: Option<&str>, account: Account) -> Ran {
    let registry = busybox_registry();
    let mut base = busybox();
    for number in 0..MANY {
        let text = number.to_string();
        let gone = format!("d/.wh.{}", number - number.min(1));
        let own = format!("d/{number}");
        let mut files = vec![(own.as_str(), text.as_str())];
        if number % 3 == 1 {
            files.push((gone.as_str(), ""));
        }
        let layer = TestLayer::files(&files);
        base.config.rootfs.diff_ids.push(layer.diff_id);
        base.layers.push(layer);
    }
    registry.push(&base, "many", "latest");
    let world = World::of(account);
    let lines: String = (0..5)
        .map(|number| format!("RUN rm /d/{} && echo new >/d/200 && ls /d >/list\n", number * 120 + 2))
        .collect();
    world.dockerfile(&format!(
        "FROM {0}/many AS many\n{lines}FROM many\nRUN --mount=from=many,source=/d,target=/m ls /m | wc -l >/mounted\n",
        registry.host()
    ));
    let own = script.map(|script| {
        script.replace("exec", &format!("chown {} ../store; exec {}", account.uid, give_up(account)))
    });
    let wrapper: Vec<&str> =
        own.iter().flat_map(|script| ["unshare", "--mount", "sh", "-c", script.as_str(), "sh"]).collect();
    let build =
        world.through(&wrapper, ["--progress=plain", "-t", "x", "-o", "type=oci,dest=../out,tar=false", "."]);
    let ran = build.remarks().run();
    let files = Layout::at(&world.path().join("out")).image(&ran.digest()).files();
    let text = |name: &str| String::from_utf8(files[name].content.clone()).unwrap();
    let left = (0..MANY).filter(|number| number % 3 != 0 && ![2, 122, 242, 362, 482].contains(number));
    let mut left: Vec<String> = left.map(|number| number.to_string()).collect();
    left.sort_unstable();
    assert_eq!(text("list").lines().collect::<Vec<_>>(), left);
    assert_eq!(text("mounted"), "343\n");
    assert!(ran.stderr.contains("the image has 529 layers, and docker's overlay2 takes"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("copying the root"), "{}", ran.stderr);
    ran
}

/// What overlayfs cannot stack is merged, with no other kind of root than before.
#[test]
fn many_layers_are_merged() {
    if !is_root() {
        skip!("only root builds as others");
    }
    for account in [Account::mine(), Account::with_ranges().unwrap()] {
        let ran = build_on_many_layers(None, account);
        assert_eq!(notes(&ran).len(), 1, "{}", ran.stderr);
    }
}

#[test]
fn many_layers_are_merged_on_an_overlay() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    let ran = build_on_many_layers(Some(ON_OVERLAY), Account::mine());
    assert_eq!(notes(&ran).len(), 2, "{}", ran.stderr);
}
