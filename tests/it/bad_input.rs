//! What people get wrong, and what they read then. The messages are in `tests/golden/bad/`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::accounts::Account;
use crate::support::base::{busybox, busybox_registry};
use crate::support::golden;
use crate::support::program::{Ran, World};
use crate::support::registry::Registry;
use crate::support::{is_root, skip};

/// Builds what must fail, compares the message with the golden one, and looks that nothing is left of it.
#[track_caller]
fn fails(name: &str, world: &World) -> Ran {
    fails_with(name, world, &[])
}

/// As [`fails`], for what may work the next time.
#[track_caller]
fn fails_for_now(name: &str, world: &World) -> Ran {
    fails_as(name, world, &[], 75)
}

#[track_caller]
fn fails_with(name: &str, world: &World, words: &[&str]) -> Ran {
    fails_as(name, world, words, 1)
}

#[track_caller]
fn fails_as(name: &str, world: &World, words: &[&str], code: i32) -> Ran {
    let output = "type=oci,dest=../half-written.tar";
    let own = ["--progress=quiet", "-t", "never", "--iidfile", "../id", "-o", output];
    let ran = world.rbuild(own).args(words).arg(".").status(code).run();
    golden::check(&format!("bad/{name}"), &ran.messages());
    nothing_half_written(world);
    ran
}

#[track_caller]
fn nothing_half_written(world: &World) {
    let left: Vec<_> = fs::read_dir(world.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    let known = ["context", "home", "store", "rbuild"];
    assert!(left.iter().all(|name| known.iter().any(|known| name == known)), "{left:?}");
    if world.store().join("index.json").exists() {
        assert!(world.images().names().is_empty());
    }
    for folder in ["tmp", "trash"] {
        let folder = world.store().join("rbuild").join(folder);
        let left = fs::read_dir(&folder).map(|e| e.map(|e| e.unwrap().path()).collect::<Vec<_>>());
        assert!(left.as_ref().map_or(true, Vec::is_empty), "{left:?}");
    }
}

/// A world with a Dockerfile and a file `hello`.
fn world(dockerfile: &str) -> World {
    let world = World::new();
    world.file("hello", "hello\n").dockerfile(dockerfile);
    world
}

#[test]
fn mistakes_in_the_dockerfile() {
    for (name, dockerfile) in [
        ("unknown-instruction", "FROM scratch\nCOPPY hello /\n"),
        ("unknown-flag", "FROM scratch\nCOPY --chmid=755 hello /\n"),
        ("missing-argument", "FROM scratch\nCOPY hello\n"),
        ("no-argument-at-all", "FROM scratch\nWORKDIR\n"),
        ("no-from", "# Nothing but a comment.\n"),
        ("before-from", "RUN true\nFROM scratch\n"),
        ("bad-json", "FROM scratch\nCOPY [\"hello\", /]\n"),
        ("open-heredoc", "FROM scratch\nCOPY <<EOF /x\nhello\n"),
        ("unknown-stage-later", "FROM scratch AS a\nCOPY --from=b /x /\nFROM a AS b\n"),
        ("bad-variable", "FROM scratch\nCOPY ${x:?must be given} /\n"),
        ("several", "FROM scratch\nCOPPY a /\nEXPOSE what\nRUNN x\n"),
    ] {
        fails(name, &world(dockerfile));
    }
}

#[test]
fn unknown_stages() {
    let stages = "FROM scratch AS build\nCOPY hello /\nFROM scratch AS test\nCOPY hello /\n";
    fails_with("unknown-target", &world(stages), &["--target", "biuld"]);
    // Any other name is an image's: its registry says that it has none.
    let registry = Registry::start();
    let name = format!("{}/biuld", registry.host());
    fails(
        "unknown-source-image",
        &world(&format!("FROM scratch AS build\nFROM scratch\nCOPY --from={name} /a /\n")),
    );
}

#[test]
fn sources_that_are_not_there() {
    fails("missing-source", &world("FROM scratch\nCOPY hallo /\n"));
    fails("missing-folder", &world("FROM scratch\nCOPY hello nowhere/ /x/\n"));
    fails("outside-the-context", &world("FROM scratch\nCOPY ../../etc/passwd /\n"));
    let ignored = world("FROM scratch\nCOPY sub/app.log /\n");
    ignored.file("sub/app.log", "").file(".dockerignore", "# logs\n\n**/*.log\n");
    fails("ignored-source", &ignored);
    let linked = world("FROM scratch\nCOPY link /\n");
    std::os::unix::fs::symlink("/etc/hostname", linked.context().join("link")).unwrap();
    fails("link-out-of-the-context", &linked);
    let several = world("FROM scratch\nCOPY a hello b c \\\n  d */x e f /x/\n");
    fails("missing-sources", &several);
    let socket = world("FROM scratch\nCOPY app.sock /\n");
    let _socket = std::os::unix::net::UnixListener::bind(socket.context().join("app.sock")).unwrap();
    fails("socket", &socket);
}

/// As with BuildKit, only COPY and `--target` know numbers.
#[test]
fn a_mount_from_the_number_of_a_stage() {
    let mount = "RUN --mount=from=0,target=/x true\n";
    for (name, stages) in [
        ("number-of-a-named-stage", "FROM scratch AS a\nFROM scratch\n"),
        ("number-of-a-stage", "FROM scratch\n"),
    ] {
        fails_with(name, &world(&format!("{stages}{mount}")), &["--offline"]);
    }
}

#[test]
fn contexts_that_are_wrong() {
    let world = world("FROM scratch\nCOPY hello /\n");
    fails_with("unknown-named-context", &world, &["--build-context", "assets=../assets"]);
    fails_with("named-context-that-is-a-file", &world, &["--build-context", "assets=hello"]);
    for given in ["assets", "=../assets", "assets="] {
        let ran = world.build(["--build-context", given]).status(2).run();
        assert!(
            ran.stderr.contains("NAME=WHERE") && ran.stderr.contains("docker-image://"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn an_owner_whom_the_image_does_not_know_is_root_with_a_warning() {
    let world = world("FROM scratch\nCOPY --chown=ghost:spooks hello /\n");
    let ran = world.build([""; 0]).remarks().run();
    let told: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    let expected = [
        "warning: --chown=ghost:spooks: the image has no user `ghost`, so root is the owner",
        "warning: --chown=ghost:spooks: the image has no group `spooks`, so the user's own is taken",
    ];
    assert_eq!(told, expected);
    world.dockerfile("FROM scratch\nCOPY --chown=7:root hello /\n");
    assert!(!world.build([""; 0]).run().stderr.contains("warning"));
}

#[test]
fn a_dockerfile_or_context_that_is_not_there() {
    let empty = World::new();
    empty.file("Containerfile", "FROM scratch\n");
    fails("no-dockerfile", &empty);
    let ran = empty.rbuild(["--progress=quiet", "nowhere"]).status(1).run();
    golden::check("bad/no-context", &ran.messages());
    empty.file("Dockerfile", b"FROM scratch\nLABEL a=\xff\n");
    fails("not-text", &empty);
}

#[test]
fn bases_that_cannot_be_had() {
    // A port that was free a moment ago; nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fails_for_now("unreachable-registry", &world(&format!("FROM localhost:{port}/debian\nCOPY hello /\n")));
    let registry = busybox_registry();
    let host = registry.host();
    fails("unknown-image", &world(&format!("FROM {host}/busybos\nCOPY hello /\n")));
    fails("unknown-tag", &world(&format!("FROM {host}/busybox:1.99\nCOPY hello /\n")));
    let digest = "sha256:".to_owned() + &"0".repeat(64);
    fails("unknown-digest", &world(&format!("FROM {host}/busybox@{digest}\nCOPY hello /\n")));
    fails("bad-reference", &world("FROM localhost:5000/UPPER\nCOPY hello /\n"));
}

#[test]
fn a_base_for_other_platforms_only() {
    let registry = Registry::start();
    let image = registry.push(&busybox(), "several", "amd64");
    let image = rbuild::oci::Descriptor { platform: busybox().descriptor().platform, ..image };
    registry.push_index(vec![image], "several", "latest");
    let world = world(&format!("FROM {}/several\nCOPY hello /\n", registry.host()));
    let ran = fails_with("other-platform", &world, &["--platform", "linux/arm64"]);
    assert!(ran.stderr.contains("no match for linux/arm64; this image has: linux/amd64"), "{}", ran.stderr);
}

#[test]
fn a_command_that_fails() {
    let registry = busybox_registry();
    let run = |steps: &str| world(&format!("FROM {}/busybox\n{steps}", registry.host()));
    fails("failing-run", &run("RUN true\nRUN seq 1 100; echo to stderr >&2; exit 42\nRUN never\n"));
    fails("no-such-command", &run("RUN nosuchcommand --version\n"));
    fails("no-such-program", &run("RUN [\"/nosuchprogram\"]\n"));
    fails("killed-run", &run("RUN sh -c 'kill -9 $$'; exit $?\n"));
    fails("unknown-user", &run("USER nobody-here\nRUN true\n"));
    fails("failing-run-without-a-secret", &run("RUN --mount=type=secret,id=token cat /run/secrets/token\n"));
    fails("run-on-scratch", &world("FROM scratch\nRUN true\n"));
    fails("missing-shell", &run("SHELL [\"/bin/bash\", \"-c\"]\nUSER 7\nRUN true\n"));
    let stages = "AS base\nSHELL [\"bash\", \"-c\"]\nFROM base\nRUN true\n";
    fails("missing-shell-of-a-stage", &world(&format!("FROM {}/busybox {stages}", registry.host())));
    // It is the program that is missing here.
    let exec = run("SHELL [\"/bin/bash\", \"-c\"]\nRUN [\"/nosuchprogram\"]\n");
    assert!(!fails("no-such-program-beside-a-shell", &exec).stderr.contains("SHELL names"));
}

#[test]
fn a_file_that_cannot_be_read() {
    // Root reads everything.
    let world = World::of(Account::without_ranges());
    world.dockerfile("FROM scratch\nCOPY . /\n").file("data/secret", "x");
    world.set_mode("data/secret", 0o000);
    fails("unreadable-file", &world);
    world.set_mode("data/secret", 0o644);
    world.set_mode("data", 0o000);
    fails("unreadable-folder", &world);
    world.set_mode("data", 0o755);
}

#[test]
fn a_store_of_a_newer_version() {
    let world = world("FROM scratch\nCOPY hello /\n");
    world.build([""; 0]).run();
    let version = world.store().join("rbuild/version");
    fs::write(&version, "2\n").unwrap();
    fails("newer-store", &world);
    for command in ["images", "history x", "inspect x"] {
        let ran = world.rbuild(command.split(' ')).status(1).run();
        assert!(ran.stderr.contains("format version 2"), "{}", ran.stderr);
    }
    assert_eq!(fs::read_to_string(&version).unwrap(), "2\n");
}

#[test]
fn a_store_that_is_something_else() {
    let world = world("FROM scratch\nCOPY hello /\n");
    fs::create_dir(world.store()).unwrap();
    fs::write(world.store().join("letter.txt"), "").unwrap();
    fails("no-store", &world);
    let mine = World::of(Account::without_ranges());
    mine.file("hello", "").dockerfile("FROM scratch\nCOPY hello /\n");
    if is_root() {
        fs::create_dir(mine.store()).unwrap();
        fs::set_permissions(mine.store(), fs::Permissions::from_mode(0o700)).unwrap();
        fails("foreign-store", &mine);
    }
}

#[test]
fn a_full_disk() {
    if !is_root() {
        skip!("only root can mount a small disk");
    }
    let registry = busybox_registry();
    let copy = world("FROM scratch\nCOPY noise /\n");
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    copy.file("noise", noise.take(3_000_000).collect::<Vec<u8>>());
    let pull = world(&format!("FROM {}/busybox\nCOPY hello /\n", registry.host()));
    let run = world(&format!("FROM {}/busybox\nRUN dd if=/dev/zero of=/x bs=1M count=9\n", registry.host()));
    for (name, world, size) in [("copy", copy, "1m"), ("pull", pull, "1m"), ("run", run, "6m")] {
        // The names in the store, and what is left in tmp, are printed: nothing may be there. Small files fit again.
        let script = format!(
            "set -e; mkdir ../store; mount -t tmpfs -o size={size} none ../store; code=0; \"$@\" || code=$?; \
             find ../store/rbuild/tags ../store/rbuild/tmp -mindepth 1 2>/dev/null || true; exit $code"
        );
        let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        let words = ["--progress=quiet", "-t", "never", "."];
        let ran = world.through(&wrapper, words).remarks().status(1).run();
        let text: String = ran.messages().lines().map(|line| without_sizes(line) + "\n").collect();
        golden::check(&format!("bad/full-disk-{name}"), &text);
    }
}

/// On a real disk the step fails, nothing of it is in the store, and there is room for the next one.
#[test]
fn a_disk_filled_by_a_step() {
    if !is_root() {
        skip!("only root can mount a small disk");
    }
    let registry = busybox_registry();
    let from = format!("FROM {}/busybox\n", registry.host());
    let world = world(&format!(
        "{from}RUN dd if=/dev/zero of=/x bs=1M count=90 || dd if=/dev/zero of=/x bs=1M count=90\n"
    ));
    world.file("Small", format!("{from}RUN dd if=/dev/zero of=/x bs=1M count=9\n"));
    let script = "set -e; mkdir ../store; truncate -s 32M ../disk; mkfs.ext4 -q ../disk; \
        mount -o loop ../disk ../store; code=0; \"$@\" || code=$?; \
        find ../store/rbuild/tags ../store/rbuild/tmp ../store/rbuild/trees -mindepth 1 -name x; \
        \"$@\" -f Small; \"$1\" \"$2\" \"$3\" verify >/dev/null; exit $code";
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let ran = world.through(&wrapper, ["--progress=quiet", "-t", "never", "."]).remarks().status(1).run();
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    let store = world.store();
    let full = format!("the file system of `{}` is full: ", store.display());
    assert!(ran.stderr.contains(&full) && ran.stderr.contains("`rbuild prune --all`"), "{}", ran.stderr);
}

/// Without how much is free, and without names of temporary files.
fn without_sizes(line: &str) -> String {
    let words = line.split(' ').map(|word| match word {
        _ if word.contains("/store/rbuild/tmp/") => "`TEMPORARY`",
        _ if word.starts_with('(') && word[1..].starts_with(|c: char| c.is_ascii_digit()) => "(SOME",
        _ if word.parse::<u32>().is_ok() && line.contains(" MiB free") => "SOME",
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_dockerfile_of_standard_input_has_no_files() {
    let world = World::new();
    let ran = world.rbuild(["-"]).stdin("FROM scratch\nCOPY app /\n").status(1).run();
    assert!(ran.stderr.contains("`rbuild -f - DIR` takes them from DIR"), "{}", ran.stderr);
}

#[test]
fn a_folder_or_file_in_the_place_of_the_other_is_named() {
    let world = World::new();
    world.dockerfile("FROM scratch\n").file("docker/Dockerfile", "FROM scratch\n");
    let ran = world.rbuild(["-f", "docker", "."]).status(1).run();
    assert!(ran.stderr.contains("`-f docker/Dockerfile`"), "{}", ran.stderr);
    let ran = world.rbuild(["Dockerfile"]).status(1).run();
    assert!(ran.stderr.contains("`rbuild -f Dockerfile .`"), "{}", ran.stderr);
}

/// Whatever comes first: the build fails at once for what can be known before.
#[test]
fn a_required_secret_without_a_value_fails_before_anything_runs() {
    let world = World::new();
    world
        .dockerfile("FROM scratch\nRUN [\"/none\"]\nRUN --mount=type=secret,id=token,required [\"/none\"]\n");
    let ran = world.build(["--secret", "id=token,env=RBUILD_TEST_UNSET"]).status(1).run();
    assert!(
        ran.stderr.contains("secret token: the variable `RBUILD_TEST_UNSET` is not set"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("Dockerfile:3"), "{}", ran.stderr);
    assert!(ran.stderr.contains("help: set and export `RBUILD_TEST_UNSET`"), "{}", ran.stderr);
    let ran = world.build([""; 0]).status(1).run();
    assert!(ran.stderr.contains("secret token: not found"), "{}", ran.stderr);
    // One that is not required, too, where its file was named and is not there.
    world.dockerfile("FROM scratch\nRUN [\"/none\"]\nRUN --mount=type=secret,id=token [\"/none\"]\n");
    let ran = world.build(["--secret", "id=token,src=nowhere"]).status(1).run();
    assert!(ran.stderr.contains("cannot use the secret `token` from `nowhere`"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("FAILED"), "{}", ran.stderr);
}

#[test]
fn words_that_podman_has_for_mounts_are_answered() {
    let world = World::new();
    for (mount, help) in [
        ("type=bind,target=/x,z", "sets no SELinux labels"),
        ("type=bind,target=/x,relabel=shared", "sets no SELinux labels"),
        ("type=tmpfs,target=/x,tmpcopyup", "a tmpfs is empty"),
        ("type=bind,target=/x,bind-propagation=rslave", "nothing is passed on"),
        ("type=cach,target=/x", "did you mean `cache`?"),
    ] {
        world.dockerfile(&format!("FROM scratch\nRUN --mount={mount} true\n"));
        let ran = world.build([""; 0]).status(1).run();
        assert!(ran.stderr.contains(help), "{mount}: {}", ran.stderr);
    }
}

#[test]
fn a_list_of_nothing_makes_no_store() {
    let world = World::new();
    let ran = world.rbuild(["images"]).any_stdout().run();
    assert_eq!(ran.stdout, "NAME  TAG  DIGEST  CREATED  SIZE  SHARED\n");
    assert!(!world.store().exists());
}
