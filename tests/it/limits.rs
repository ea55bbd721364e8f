//! Limits of RUN, and the names it asks for.

use crate::support::base::busybox_registry;
use crate::support::is_root;
use crate::support::program::World;

/// Where groups can be divided, as root can nearly everywhere, the step is killed and the reason told; elsewhere the
/// build says why it cannot keep to the limit, and does not run without.
#[test]
fn a_greedy_step_is_killed_and_told_apart() {
    let registry = busybox_registry();
    let world = World::new();
    let greedy = "dd if=/dev/zero of=/dev/null bs=200M count=1";
    world.dockerfile(&format!("FROM {}/busybox\nRUN {greedy}\n", registry.host()));
    let ran = world.build(["--memory", "64m"]).status(1).run();
    if is_root() && !ran.stderr.contains("cannot limit a step") {
        assert!(ran.stderr.contains("killed: out of memory, 6"), "{}", ran.stderr);
    } else {
        assert!(ran.stderr.contains("cannot limit a step: "), "{}", ran.stderr);
    }
    // A limit counts in no key.
    let free = world.build(["-t", "free"]).run();
    assert_eq!(free.outcome("RUN dd").split(' ').next(), Some("DONE"));
}

#[test]
fn names_are_asked_for_where_it_was_said() {
    let registry = busybox_registry();
    let world = World::new();
    let show = "RUN grep -v ^search /etc/resolv.conf >/resolv; grep gateway /etc/hosts >/hosts";
    world.dockerfile(&format!("FROM {}/busybox\n{show}\n", registry.host()));
    let options = ["--dns", "192.0.2.7", "--dns-option", "ndots:3", "--add-host", "gateway:host-gateway"];
    let built = world.build(options).run();
    let files = world.images().image(&built.digest()).files();
    assert_eq!(files["resolv"].content, b"nameserver 192.0.2.7\noptions ndots:3\n");
    assert_eq!(files["hosts"].content, b"127.0.0.1\tgateway\n");
}

/// A core file of a process that knows a secret would be a file of the layer.
#[test]
fn a_step_with_secrets_leaves_no_core_file() {
    let registry = busybox_registry();
    let world = World::new();
    world.file("password", "x");
    let show = "(ulimit -c; ulimit -Hc; ulimit -c 1; ulimit -c)";
    let text = format!(
        "FROM {}/busybox\nRUN {show} >/free 2>/dev/null\nRUN --mount=type=secret,id=pw {show} >/held 2>/dev/null\n\
         RUN --mount=type=secret,id=pw,env=PW {show} >/variable 2>/dev/null\n",
        registry.host()
    );
    world.dockerfile(&text);
    let built = world.build(["--ulimit", "core=51200:102400", "--secret", "id=pw,src=password"]).run();
    let files = world.images().image(&built.digest()).files();
    assert_eq!(files["free"].content, b"100\n200\n1\n");
    for name in ["held", "variable"] {
        assert_eq!(files[name].content, b"0\n0\n0\n");
    }
}

/// What a build's steps are given, commands in images and kept sessions are given, too.
#[test]
fn run_and_shell_take_the_same_options() {
    let registry = busybox_registry();
    let world = World::new();
    let image = format!("{}/busybox", registry.host());
    let options =
        ["--dns", "192.0.2.7", "--add-host", "one:10.1.1.1", "--ulimit", "nofile=99", "--network", "none"];
    let show = "cat /etc/resolv.conf; grep one /etc/hosts; ulimit -n; [ -e /proc/net/route ] && wc -l </proc/net/route";
    let shown = "nameserver 192.0.2.7\n10.1.1.1\tone\n99\n1\n";
    let is_shown = |text: &str| {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("search")).collect();
        assert_eq!(lines.join("\n") + "\n", shown);
    };
    let ran = world.rbuild(["run", "--keep"]).args(options).args([
        &image,
        "sh",
        "-c",
        &format!("touch /x; {show}"),
    ]);
    let ran = ran.any_stdout().remarks().run();
    is_shown(&ran.stdout);
    let id = world.rbuild(["sessions", "-q"]).any_stdout().run().stdout.trim().to_owned();
    let entered = world.rbuild(["shell", &id]).args(options).stdin(format!("{show}\n"));
    is_shown(&entered.any_stdout().remarks().run().stdout);
    let at = world.rbuild(["shell", "--at", &image]).args(options).stdin(format!("{show}\n"));
    is_shown(&at.any_stdout().remarks().run().stdout);
    // What follows the image is the command's, whatever it looks like.
    let own = world.rbuild(["run", "--entrypoint", "echo", &image, "-m", "-c", "--memory"]).any_stdout();
    assert_eq!(own.remarks().run().stdout, "-m -c --memory\n");
    // Limits hold, and what means nothing is refused.
    let many = "for i in $(seq 200); do sleep 100 & done; wait";
    let limited = world.rbuild(["run", "--pids-limit", "60", &image, "sh", "-c", many]).any_status();
    let limited = limited.any_stdout().remarks().run();
    assert!(limited.status == Some(2) && limited.stderr.contains("can't fork"), "{}", limited.stderr);
    for (words, told) in [
        (["shell", "--tag", "x", &id], "`--tag` means nothing to `rbuild shell`"),
        (["shell", "--target", "x", &id], "`--target` means nothing in what is kept"),
    ] {
        let ran = world.rbuild(words).status(2).run();
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }
    let both = ["run", "--network", "pasta", "--add-host", "me:host-gateway", &image];
    let refused = world.rbuild(both).status(2).run();
    assert!(refused.stderr.contains("does not reach this machine"), "{}", refused.stderr);
}
