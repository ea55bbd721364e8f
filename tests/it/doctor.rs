//! `rbuild doctor` says what a build would find.

use std::process::Command;

use crate::support::accounts::Account;
use crate::support::base::with_busybox;
use crate::support::program::World;
use crate::support::{is_root, skip};

#[track_caller]
fn examined(world: &World, status: i32) -> serde_json::Value {
    let ran = world.rbuild(["doctor", "--format", "json"]).status(status).any_stdout().run();
    serde_json::from_str(&ran.stdout).unwrap()
}

fn finding<'v>(found: &'v serde_json::Value, name: &str) -> &'v serde_json::Value {
    let findings = found["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["name"] == name).unwrap()
}

#[test]
fn every_rung_is_told() {
    let mut worlds = vec![(World::of(Account::without_ranges()), 3)];
    if let Ok(account) = Account::with_ranges() {
        worlds.push((World::of(account), 2));
    }
    if is_root() {
        worlds.push((World::new(), 1));
    }
    for (world, rung) in worlds {
        let found = examined(&world, 0);
        assert_eq!((&found["works"], &found["rung"]), (&true.into(), &rung.into()), "{found:#}");
        assert_eq!(finding(&found, "mounts")["state"], "works");
        if rung == 3 {
            let ranges = finding(&found, "ranges of ids");
            assert_eq!(ranges["state"], "blocked");
            assert!(ranges["remedies"][0].as_str().unwrap().starts_with("sudo "), "{ranges}");
        }
        assert!(!world.store().exists(), "nothing is made to find this out");
        let text = world.rbuild(["doctor"]).any_stdout().run().stdout;
        assert!(text.starts_with(&format!(
            "RUN works here, {} (rung {rung} of 4)\n",
            ["as root", "with ranges of ids", "with one id"][rung - 1]
        )));
    }
}

/// A range that two users have would make the files of one the other's.
#[test]
fn a_range_that_nobody_has_is_proposed() {
    if !is_root() {
        skip!("only root can put another /etc/subuid in the place of the machine's");
    }
    let world = World::of(Account::without_ranges());
    let account = world.account();
    // The wrapper's program is on a file system that the mounts below do not hide.
    let script = "printf 'somebody:100000:65536\nelse:231072:65536\n' >../subuid; \
        printf 'somebody:165536:65536\n' >../subgid; \
        mount --bind ../subuid /etc/subuid && mount --bind ../subgid /etc/subgid && u=$1 g=$2 && shift 2 && \
        exec setpriv --reuid $u --regid $g --clear-groups \"$@\"";
    let ids = [account.uid.to_string(), account.gid.to_string()];
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh", &ids[0], &ids[1]];
    let ran = world.through(&wrapper, ["doctor", "--format", "json"]).any_stdout().run();
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let ranges = finding(&found, "ranges of ids");
    let free = "sudo usermod --add-subuids 296608-362143 --add-subgids 296608-362143 nobody";
    assert_eq!(ranges["remedies"], serde_json::json!([free]));
    assert_eq!(ranges["detail"], "there is no range for `nobody` in /etc/subuid and /etc/subgid");
    world.dockerfile("FROM scratch\nRUN [\"/none\"]\n");
    let ran = world.through(&wrapper, ["--progress=plain", "."]).status(1).any_stdout().run();
    assert!(ran.stderr.contains(&format!("`{free}` adds one")), "{}", ran.stderr);
}

/// As in a container, whose runtime mounts something over parts of /proc.
#[test]
fn a_masked_proc_is_told() {
    if !is_root() {
        return;
    }
    let world = World::of(Account::without_ranges());
    let account = world.account();
    let script = "mount -t tmpfs none /proc/acpi 2>/dev/null || mount -t tmpfs none /proc/fs && exec \
        setpriv --reuid $1 --regid $2 --clear-groups \"$3\" --root \"$4\" doctor";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([account.uid.to_string(), account.gid.to_string()])
        .args([world.program(), &world.store()])
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("RUN works here, with one id"), "{text}");
    assert!(text.contains("limited  mounts") && text.contains("something is mounted on /proc/"), "{text}");
}

/// What every RUN needs is tried before anything is unpacked for one.
#[test]
fn a_run_that_cannot_start_has_nothing_unpacked() {
    if !is_root() {
        skip!("only root can take devices away");
    }
    let world = World::of(Account::without_ranges());
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n").build(["-t", "base"]).run();
    let account = world.account();
    let script = "mount -t tmpfs none /proc/acpi 2>/dev/null || mount -t tmpfs none /proc/fs && \
        mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && u=$1 g=$2 && \
        shift 2 && exec setpriv --reuid $u --regid $g --clear-groups \"$@\"";
    let ids = [account.uid.to_string(), account.gid.to_string()];
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh", &ids[0], &ids[1]];
    world.dockerfile("FROM base\nENV A=b\nRUN [\"/none\"]\n");
    let ran = world.through(&wrapper, ["--progress=plain", "."]).status(1).any_stdout().run();
    assert!(ran.stderr.contains("no RUN works here: cannot make /dev/zero"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Dockerfile:3"), "{}", ran.stderr);
    assert!(ran.stderr.contains("help: `rbuild doctor` tries"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("#1"), "no step was begun: {}", ran.stderr);
    let trees = world.store().join("rbuild/trees");
    assert!(!trees.exists() || std::fs::read_dir(&trees).unwrap().next().is_none(), "nothing is unpacked");
    // What needs no RUN is not in the way.
    world.dockerfile("FROM base\nCOPY Dockerfile /again\n");
    world.through(&wrapper, ["--progress=plain", "."]).any_stdout().run();
}

/// Where nothing lets a step have a /proc of its own, it has the machine's: its own processes are right in it, and nothing of
/// others but that they run.
#[test]
fn a_run_works_where_parts_of_proc_are_masked() {
    if !is_root() {
        skip!("only root can mask parts of /proc");
    }
    let mut accounts = vec![Account::without_ranges()];
    accounts.extend(Account::with_ranges());
    for account in accounts {
        let world = World::of(account);
        let lines = "RUN [\"/bin/sh\", \"-c\", \"\
            busybox grep -q '^Name:.busybox' /proc/self/status && busybox test -e /proc/self/fd/0 && \
            busybox chown 7:8 /bin/true && busybox stat -c '%u:%g %n' /bin/true && \
            busybox mkdir /d && cd /d && busybox touch f && busybox mv f g && busybox ls /d && \
            if busybox grep -a OF_THE_JOB /proc/[0-9]*/environ /proc/[0-9]*/root/nothing 2>/dev/null; then echo leaked; fi; \
            if busybox ls /proc/1/root/ 2>/dev/null; then echo looked; fi\"]";
        with_busybox(&world, lines);
        let script = "mount -t tmpfs none /proc/acpi 2>/dev/null || mount -t tmpfs none /proc/fs && u=$1 g=$2 && \
            shift 2 && exec setpriv --reuid $u --regid $g --clear-groups \"$@\"";
        let ids = [account.uid.to_string(), account.gid.to_string()];
        let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh", &ids[0], &ids[1]];
        let ran = world.through(&wrapper, ["--progress=plain", "."]).env("OF_THE_JOB", "1").remarks().run();
        let said = ["so RUN has this machine's /proc: it lists all processes", " 7:8 /bin/true\n", " g\n"];
        for text in said {
            assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
        }
        let told = ran.stderr.lines().filter(|line| line.starts_with('#') && line.contains("s "));
        assert!(
            !told.clone().any(|line| line.ends_with("leaked") || line.ends_with("looked")),
            "{}",
            ran.stderr
        );
        // What would have a way to others is refused.
        world.dockerfile("FROM scratch\nRUN --security=insecure [\"/bin/sh\"]\n");
        let words = ["--progress=plain", "--allow", "security.insecure", "."];
        let ran = world.through(&wrapper, words).status(1).remarks().run();
        assert!(ran.stderr.contains("among processes of others"), "{}", ran.stderr);
    }
}

/// Each sees that the other runs, and nothing of what it knows.
#[test]
fn steps_that_share_a_proc_do_not_read_each_other() {
    if !is_root() {
        skip!("only root can mask parts of /proc");
    }
    let world = World::of(Account::without_ranges());
    if finding(&examined(&world, 0), "abstract sockets")["state"] != "works" {
        skip!("the kernel has no Landlock scopes (Linux 6.12)");
    }
    world.file("busybox", std::fs::read("/bin/busybox").unwrap());
    world.set_mode("busybox", 0o755);
    let wait = |file: &str| format!("until [ -e /c/{file} ]; do busybox usleep 10000; done");
    world.dockerfile(&format!(
        "FROM scratch AS base\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n\
         FROM base AS a\nENV OF_A=hidden\n\
         RUN --mount=type=cache,target=/c busybox touch /c/up; {}; busybox touch /a\n\
         FROM base AS b\n\
         RUN --mount=type=cache,target=/c {}; busybox grep -la 'OF_A=' /proc/[0-9]*/environ 2>/dev/null; \
         busybox cat /proc/[0-9]*/comm | busybox sort -u; busybox touch /c/done /b\n\
         FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        wait("done"),
        wait("up")
    ));
    let script = "mount -t tmpfs none /proc/acpi 2>/dev/null || mount -t tmpfs none /proc/fs && u=$1 g=$2 && \
        shift 2 && exec setpriv --reuid $u --regid $g --clear-groups \"$@\"";
    let account = world.account();
    let ids = [account.uid.to_string(), account.gid.to_string()];
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh", &ids[0], &ids[1]];
    let ran = world.through(&wrapper, ["--progress=plain", "."]).remarks().run();
    assert!(ran.stderr.contains(" rbuild\n"), "others are seen to run: {}", ran.stderr);
    assert!(!ran.stderr.contains("/environ\n"), "{}", ran.stderr);
}

/// As agents run what they are told to.
#[test]
fn run_works_in_a_bubble() {
    if !crate::support::tools::has("bwrap") {
        skip!("no bubblewrap here");
    }
    let world = World::of(Account::without_ranges());
    with_busybox(
        &world,
        "RUN [\"/bin/sh\", \"-c\", \"busybox grep -q Name: /proc/self/status && echo said\"]",
    );
    let account = world.account();
    let ids = [account.uid.to_string(), account.gid.to_string()];
    let bubble =
        ["bwrap", "--unshare-user", "--unshare-pid", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc"];
    let become_user = ["setpriv", "--reuid", &ids[0], "--regid", &ids[1], "--clear-groups"];
    for (masks, mounts) in [(&[][..], "works"), (&["--tmpfs", "/proc/fs"], "limited")] {
        let bubble = bubble.iter().chain(masks).copied();
        let wrapper: Vec<&str> = match is_root() {
            true => become_user.into_iter().chain(bubble).collect(),
            false => bubble.collect(),
        };
        let ran = world.through(&wrapper, ["doctor", "--format", "json"]).any_stdout().run();
        let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((&found["works"], &found["rung"]), (&true.into(), &3.into()), "{found:#}");
        assert_eq!(finding(&found, "mounts")["state"], mounts, "{found:#}");
        let ran = world.through(&wrapper, ["--progress=plain", "--no-cache", "."]).remarks().run();
        let shares = ran.stderr.contains("RUN has this machine's /proc");
        assert!(
            ran.stderr.contains(" said\n") && shares == (mounts == "limited"),
            "{masks:?}: {}",
            ran.stderr
        );
    }
}

/// As in a plain container of Docker's whose filter is off: all ids are there and can be mapped, so the user namespace looks
/// like the machine's, but marks of the machine's root cannot be made in it.
#[test]
fn root_without_sys_admin_has_writable_roots() {
    if !is_root() {
        skip!("only root can give up a capability of root's");
    }
    let world = World::new();
    let words = ["doctor", "--format", "json"];
    let ran = world.through(&["setpriv", "--bounding-set", "-sys_admin"], words).any_stdout().run();
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&found["works"], &found["rung"]), (&true.into(), &2.into()), "{found:#}");
    assert_eq!(finding(&found, "writable roots")["state"], "works", "{found:#}");
}

/// As with `--cap-drop ALL`: only another user can have a user namespace.
#[test]
fn root_without_capabilities_is_told_to_be_somebody_else() {
    if !is_root() {
        skip!("only root can give up capabilities of root's");
    }
    let world = World::new();
    let words = ["doctor", "--format", "json"];
    let through = world.through(&["setpriv", "--bounding-set", "-all"], words);
    let ran = through.env("KUBERNETES_SERVICE_HOST", "10.0.0.1").any_status().any_stdout().run();
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.status, &found["works"]), (Some(1), &false.into()), "{found:#}");
    let single = finding(&found, "one id");
    let remedy = single["remedies"][0].as_str().unwrap();
    assert!(remedy.contains("runAsUser: 1000"), "{single}");
    assert!(single["detail"].as_str().unwrap().starts_with("root without CAP_SETFCAP"), "{single}");
}

/// In a container the store is mostly on the container's own overlay.
#[test]
fn a_store_on_an_overlay_is_told() {
    if !is_root() {
        skip!("only root mounts an overlay for the store");
    }
    let world = World::new();
    let script = "set -e; mkdir -p ../store ../layers; mount -t tmpfs none ../layers; cd ../layers; \
        mkdir lower upper work; \
        mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none ../store; cd ../store; exec \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let told = |size: &str| {
        let words = ["doctor", "--format", "json"];
        let ran = world.through(&wrapper, words).env("RBUILD_RUN_MEMORY", size).any_stdout().run();
        let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(finding(&found, "writable roots")["state"], "limited");
        finding(&found, "writable roots")["detail"].as_str().unwrap().to_owned()
    };
    let detail = told("1g");
    assert!(detail.starts_with("what a RUN changes is kept in memory, 1024 MiB at most: "), "{detail}");
    let detail = told("0");
    assert!(detail.starts_with("every RUN copies its whole root (`RBUILD_RUN_MEMORY` is 0): "), "{detail}");
}
