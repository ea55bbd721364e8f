//! RUN in stores where the kernel mounts no overlay, or only another kind of it: a tmpfs, and an overlay as
//! inside of a container.

use crate::support::accounts::Account;
use crate::support::base::busybox_registry;
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
    let image = crate::support::layout::Layout::at(&world.path().join("out")).image(&ran.digest());
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
    ran.stderr.lines().filter(|line| line.starts_with("note")).collect()
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
