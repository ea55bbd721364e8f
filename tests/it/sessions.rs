//! Shells in failed steps, at steps, in images; runs; and images made of what was done there.

use std::fs;

use crate::support::accounts::Account;
use crate::support::base::busybox_registry;
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::skip;
use crate::support::terminal::Terminal;

/// Two stages; the last step of the first fails after it has written something.
fn failing(world: &World) -> Registry {
    let registry = busybox_registry();
    world.file("data", "from the context\n").file("token", "hunter2").dockerfile(&format!(
        "FROM {}/busybox AS build\n\
         ENV MODE=test\n\
         WORKDIR /src\n\
         COPY data .\n\
         RUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN --mount=type=cache,target=/cache \
             --mount=type=bind,target=/ctx --mount=type=tmpfs,target=/mem \
             echo half >result; echo kept >/cache/file; exit 3\n\
         FROM build AS last\n\
         USER app\n\
         CMD [\"id\"]\n",
        registry.host()
    ));
    registry
}

/// The id in the help of a build that failed.
fn kept(messages: &str) -> String {
    let at = messages.find(" shell ").expect("the way in is told") + " shell ".len();
    messages[at..at + 6].to_owned()
}

const SECRET: [&str; 2] = ["--secret", "id=token,src=token"];

#[test]
fn a_failed_step_is_entered_as_it_was_left() {
    let world = World::new();
    let _registry = failing(&world);
    let ran = world.build(SECRET).status(1).run();
    let id = kept(&ran.stderr);
    let look = "pwd; cat result data /ctx/data /cache/file; echo $MODE $TOKEN; cat /run/secrets/token; \
        touch /mem/x && ls /mem";
    let shown = "/src\nhalf\nfrom the context\nfrom the context\nkept\ntest hunter2\nhunter2x\n";
    world.rbuild(["shell", &id]).args(SECRET).stdin(look).stdout(shown).run();
    // The value of a secret is nowhere in what is kept, and a mount of it is only there when it is given again.
    let session =
        fs::read_to_string(world.store().join(format!("rbuild/sessions/{id}/session.json"))).unwrap();
    assert!(session.contains("token") && !session.contains("hunter2"), "{session}");
    let ran = world.rbuild(["shell", &id]).stdin("ls /run/secrets; exit 9").any_status().any_stdout().run();
    assert_eq!(ran.status, Some(9));
    assert!(ran.stderr.contains("note: the secret `token` is not there"), "{}", ran.stderr);
    // What was done stays, and the session is one of a list.
    world.rbuild(["shell", &id]).args(SECRET).stdin("touch new; rm data").stdout("").run();
    world.rbuild(["shell", &id[..4]]).args(SECRET).stdin("ls").stdout("new\nresult\n").run();
    let list = world.rbuild(["sessions"]).any_stdout().run().stdout;
    assert!(list.contains(&id) && list.contains("exit code: 3  [build 5/5] RUN"), "{list}");
    world.rbuild(["sessions", "rm", &id]).run();
    world.rbuild(["sessions", "-q"]).stdout("").run();
    let left = fs::read_dir(world.store().join("rbuild/sessions")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn nothing_is_kept_that_is_not_wanted() {
    let world = World::new();
    let registry = failing(&world);
    let ran = world.build(["--on-fail", "remove"]).args(SECRET).status(1).run();
    assert!(!ran.stderr.contains("rbuild shell"), "{}", ran.stderr);
    let busybox = format!("{}/busybox", registry.host());
    world.rbuild(["run", "--rm", &busybox, "touch", "/x"]).run();
    world.rbuild(["shell", "--at", &busybox]).stdin("ls /bin/sh").stdout("/bin/sh\n").run();
    world.rbuild(["sessions", "-q"]).stdout("").run();
    for folder in ["tmp", "trash"] {
        let left = fs::read_dir(world.store().join("rbuild").join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder}");
    }
}

#[test]
fn an_image_of_a_failed_step_has_its_stage_as_configuration() {
    let world = World::new();
    let _registry = failing(&world);
    let id = kept(&world.build(SECRET).status(1).run().stderr);
    world.rbuild(["shell", &id]).args(SECRET).stdin("echo whole >result; rm data").stdout("").run();
    let change =
        ["-m", "by hand", "-a", "somebody", "-c", "CMD [\"cat\", \"result\"]", "-c", "ENV MORE=$MODE"];
    let ran = world.rbuild(["commit"]).args(change).args([id.as_str(), "fixed:1"]).any_stdout().run();
    let image = world.images().image(ran.stdout.trim());
    let files = image.files();
    assert_eq!(files["src/result"].content, b"whole\n");
    assert!(!files.contains_key("src/data") && !files.contains_key("cache/file"), "{:?}", files.keys());
    let config = serde_json::to_value(&image.config).unwrap();
    assert_eq!(config["config"]["Env"][1], "MODE=test");
    assert_eq!(config["config"]["Env"][2], "MORE=test");
    assert_eq!(config["config"]["WorkingDir"], "/src");
    assert_eq!(config["author"], "somebody");
    let history = config["history"].as_array().unwrap();
    let with_layer = history.iter().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), with_layer);
    assert_eq!(history.last().unwrap()["comment"], "by hand");
    world.rbuild(["run", "fixed:1"]).stdout("whole\n").run();
    // Built upon like any other.
    world.file("next/Dockerfile", "FROM fixed:1\nRUN test \"$(cat result)\" = whole\n");
    world.rbuild(["--progress=plain", "next"]).run();
}

#[test]
fn a_shell_opens_at_any_place() {
    let world = World::new();
    let _registry = failing(&world);
    let at = |place: &str, script: &str, expected: &str| {
        let shell = world.rbuild(["shell", "--progress=plain", "--at", place, "."]).args(SECRET);
        shell.stdin(script).stdout(expected).run();
    };
    // Before a RUN, with its mounts and nothing that it does.
    at(
        "build:5",
        "ls; ls /ctx; cat /run/secrets/token; touch x; ls /cache",
        "data\nDockerfile\ndata\ntoken\nhunter2",
    );
    at("build:4", "pwd; ls; echo $MODE", "/src\ntest\n");
    at("build:3", "pwd; echo $MODE", "/\ntest\n");
    // Without a stage, the number counts in the last one, which here needs the step that fails.
    let ran = world.rbuild(["shell", "--progress=plain", "--at", "2", "."]).args(SECRET).status(1).run();
    world.rbuild(["shell", &kept(&ran.stderr)]).stdin("cat result").stdout("half\n").remarks().run();
}

#[test]
fn places_that_are_not_there() {
    let world = World::new();
    world.dockerfile("FROM scratch AS build\nLABEL a=b\n");
    for (place, status, told) in [
        ("1", 2, "nothing is there before FROM"),
        ("7", 1, "there is no instruction 7 in the stage `build`: it has 2"),
        ("buidl", 1, "did you mean the stage `build`?"),
        ("build", 1, "there is no `/bin/sh` in stage build"),
    ] {
        let ran = world.rbuild(["shell", "--progress=plain", "--at", place, "."]).any_status().run();
        // A name that is no stage is looked for in a registry, which may not be reached: that may work the next time.
        let is_asked_for = place == "buidl" && ran.status == Some(75);
        assert!(ran.status == Some(status) || is_asked_for, "{place}: {:?}: {}", ran.status, ran.stderr);
        assert!(ran.stderr.contains(told), "{place}: {}", ran.stderr);
    }
    let ran = world.rbuild(["shell", "abc"]).status(1).run();
    assert!(ran.stderr.contains("no session `abc` is kept"), "{}", ran.stderr);
    world.rbuild(["--at", "2", "."]).status(2).run();
    world.rbuild(["commit"]).status(2).run();
    world.rbuild(["commit", "--from-shell", "x"]).status(1).run();
}

#[test]
fn a_shell_can_be_brought_along() {
    let world = World::new();
    world.file("hello", "hi\n").dockerfile("FROM scratch\nCOPY hello /\n");
    let shell = [
        "shell",
        "--progress=plain",
        "--at",
        "2",
        "-v",
        "/bin/busybox:/busybox:ro",
        "--shell",
        "/busybox sh",
    ];
    world.rbuild(shell).arg(".").stdin("/busybox ls /; touch /busybox").any_status().any_stdout().run();
    let ran = world.rbuild(["shell", "--progress=plain", "--at", "stage-0", "."]).status(1).run();
    assert!(ran.stderr.contains("--shell '/busybox sh'"), "{}", ran.stderr);
}

#[test]
fn run_passes_everything_through() {
    let (world, registry) = (World::new(), busybox_registry());
    let image = format!("{}/busybox", registry.host());
    world.file("shared/file", "shared\n").dockerfile(&format!(
        "FROM {image}\nENV A=1 B=2\nWORKDIR /srv\nUSER app\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"pwd; id -un; echo $A\"]\n"
    ));
    world.build(["-t", "app"]).run();
    world.rbuild(["run", "app"]).stdout("/srv\napp\n1\n").run();
    world.rbuild(["run", "--rm", "app", "echo $B"]).stdout("2\n").run();
    let options =
        ["run", "-e", "A=x", "-e", "C", "-w", "/tmp", "-u", "0:7", "--entrypoint", "sh", "--hostname", "box"];
    let script = "pwd; id -u; id -g; echo $A$B$C; cat /proc/sys/kernel/hostname";
    let ran = world.rbuild(options).args(["app", "-c", script]).env("C", "c");
    ran.stdout("/tmp\n0\n7\nx2c\nbox\n").run();
    world.rbuild(["run", "-i", &image, "sort"]).stdin("b\na\n").stdout("a\nb\n").run();
    // Without -i standard input is not the command's.
    world.rbuild(["run", &image, "cat"]).stdin("unseen").stdout("").run();
    let volume = ["run", "-v", "./shared:/here", &image, "sh", "-c", "cat /here/file; echo new >/here/new"];
    world.rbuild(volume).stdout("shared\n").run();
    assert_eq!(fs::read_to_string(world.context().join("shared/new")).unwrap(), "new\n");
    let readonly = ["run", "-v", "./shared:/here:ro", &image, "sh", "-c", "echo >/here/no"];
    assert_eq!(world.rbuild(readonly).any_status().run().status, Some(1));
    assert!(!world.context().join("shared/no").exists());
}

#[test]
fn run_gives_the_exit_code_of_the_command() {
    let (world, registry) = (World::new(), busybox_registry());
    let image = format!("{}/busybox", registry.host());
    let code = |words: &[&str]| {
        let ran = world.rbuild(["run"]).args(words).any_status().any_stdout().run();
        (ran.status.unwrap(), ran.stderr)
    };
    world.rbuild(["run", &image, "true"]).run();
    assert_eq!(code(&[&image, "sh", "-c", "exit 7"]), (7, String::new()));
    assert_eq!(code(&[&image, "nonesuch"]).0, 127);
    assert_eq!(code(&[&image, "/etc/passwd"]).0, 126);
    let missing = format!("{}/nonesuch", registry.host());
    assert_eq!(code(&[&missing, "sh"]).0, 125);
    let (status, told) = code(&["-it", &image, "sh"]);
    assert!(status == 2 && told.contains("no terminal"), "{status} {told}");
    for wrong in
        [["-v", "name:/x"], ["-v", "/nonesuch:/x"], ["-w", "rel"], ["--network", "x"], ["--ulimit", "x"]]
    {
        assert_eq!(code(&[wrong[0], wrong[1], &image, "true"]).0, 2, "{wrong:?}");
    }
}

#[test]
fn a_run_with_a_name_is_kept_and_becomes_an_image() {
    let (world, registry) = (World::new(), busybox_registry());
    let image = format!("{}/busybox", registry.host());
    world.rbuild(["run", "--name", "mine", &image, "sh", "-c", "echo made >/made; rm /etc/group"]).run();
    let again = world.rbuild(["run", "--name", "mine", &image, "true"]).any_status().run();
    assert!(again.status == Some(125) && again.stderr.contains("already"), "{}", again.stderr);
    world.rbuild(["run", "--rm", "--name", "x", &image]).status(2).run();
    let ran = world.rbuild(["commit", "--from-shell", "mine:1"]).any_stdout().run();
    let made = world.images().image(ran.stdout.trim());
    assert_eq!(made.files()["made"].content, b"made\n");
    assert!(!made.files().contains_key("etc/group"));
    assert_eq!(made.history(), ["busybox", "sh -c echo made >/made; rm /etc/group"]);
    world.rbuild(["shell", "mine"]).stdin("cat /made").stdout("made\n").run();
    for wrong in ["RUN x", "NONSENSE", "CMD a\nCMD b"] {
        let ran = world.rbuild(["commit", "-c", wrong, "mine", "x"]).status(1).run();
        assert!(ran.stderr.contains("for --change"), "{}", ran.stderr);
    }
}

#[test]
fn what_a_session_stands_on_stays_as_long_as_it() {
    let (world, registry) = (World::new(), busybox_registry());
    let image = format!("{}/busybox", registry.host());
    world.file("data", "d").dockerfile(&format!("FROM {image}\nCOPY data /\n"));
    world.build(["-t", "base"]).run();
    world.rbuild(["run", "--name", "mine", "base", "touch", "/new"]).remarks().run();
    world.rbuild(["run", "--keep", "base", "touch", "/other"]).remarks().run();
    world.rbuild(["rmi", "base"]).any_stdout().remarks().run();
    world.rbuild(["prune", "--all"]).any_stdout().remarks().run();
    // The one without a name went, and the layers of the other are there.
    assert_eq!(world.rbuild(["sessions", "-q"]).any_stdout().run().stdout.lines().count(), 1);
    drop(registry);
    let ran = world.rbuild(["commit", "mine", "again"]).any_stdout().remarks().run();
    let files = world.images().image(ran.stdout.trim()).files();
    assert!(files.contains_key("data") && files.contains_key("new"));
    world.rbuild(["sessions", "rm", "mine"]).run();
}

/// What somebody sees who sits at a terminal while a step fails.
fn shell_on_failure(world: &World) {
    let _registry = failing(world);
    let mut terminal = Terminal::start(world, &["--on-fail=shell", SECRET[0], SECRET[1], "."]);
    terminal.wait_for("exit code: 3");
    terminal.wait_for("comes back");
    terminal.keys("pwd; tty; stty size || echo no stty\n");
    terminal.wait_for("\n/src\r\n");
    assert!(!terminal.is_usual(), "keys are the step's");
    // Ctrl-C ends what runs in the shell, and neither the shell nor rbuild.
    terminal.keys("sh -c \"echo go''ing; exec sleep 1000\"\n");
    terminal.wait_for("\ngoing");
    terminal.keys("\u{3}");
    terminal.keys("echo still $((6*7)); cat /run/secrets/token\n");
    terminal.wait_for("still 42");
    terminal.wait_for("hunter2");
    // Job control: Ctrl-Z stops what runs.
    terminal.keys("sh -c \"echo go''ne to sleep; exec sleep 1000\"\n");
    terminal.wait_for("\ngone to sleep");
    terminal.keys("\u{1a}");
    terminal.wait_for("Stopped");
    terminal.keys("kill -9 %1; wait; echo $((5*5)) after\n");
    terminal.wait_for("25 after");
    terminal.resize(30, 100);
    terminal.keys("i=0; while [ \"$(ls -C -w0 >/dev/null; stty size)\" != '30 100' ]; do i=$((i+1)); [ $i -lt 200 ] || break; \
        usleep 10000; done; echo size $((i<200))\n");
    terminal.wait_for("size 1");
    terminal.keys("exit 0\n");
    terminal.wait_for("kept as");
    assert_eq!(terminal.end(), Some(1));
    assert!(terminal.is_usual());
}

#[test]
fn on_fail_shell_as_root() {
    if !crate::support::is_root() {
        skip!("only root can build as root");
    }
    shell_on_failure(&World::new());
}

#[test]
fn on_fail_shell_as_an_ordinary_user() {
    match Account::with_ranges() {
        Ok(account) => shell_on_failure(&World::of(account)),
        Err(why) => skip!("{why}"),
    }
}

#[test]
fn on_fail_shell_with_a_single_id() {
    shell_on_failure(&World::of(Account::without_ranges()));
}

#[test]
fn run_in_a_terminal() {
    let (world, registry) = (World::new(), busybox_registry());
    let image = format!("{}/busybox", registry.host());
    let mut terminal = Terminal::start(&world, &["run", "--rm", "-it", &image]);
    let _ = terminal.end();
    let mut terminal = Terminal::start(&world, &["run", "--rm", "-it", "-e", "X=1", &image, "sh"]);
    terminal.keys("echo $TERM $X $((1+1)); exit 5\n");
    terminal.wait_for("xterm 1 2");
    assert_eq!(terminal.end(), Some(5));
    assert!(terminal.is_usual());
}

/// SIGTERM, which Ctrl-C is to rbuild's own process, ends what does not want to.
#[test]
fn an_interrupted_run_ends_though_its_command_does_not_want_to() {
    let (world, registry) = (World::new(), busybox_registry());
    let image = format!("{}/busybox", registry.host());
    world.rbuild(["run", &image, "true"]).run();
    let script = "trap '' TERM INT; sleep 1000 & echo up; while true; do sleep 1000; done";
    let mut terminal = Terminal::start(&world, &["run", "-t", &image, "sh", "-c", script]);
    terminal.wait_for("up");
    // Without -i the terminal is rbuild's own, and so is its Ctrl-C.
    terminal.keys("\u{3}");
    assert_eq!(terminal.end(), Some(130));
    world.rbuild(["run", &image, "true"]).run();
}

/// `kill -9` of rbuild while somebody is in a shell.
fn killed(world: &World) {
    let registry = busybox_registry();
    let mark = format!("rbuild-shell-{}-{}", std::process::id(), world.account().uid);
    world.dockerfile(&format!("FROM {}/busybox\nRUN exit 1\n", registry.host()));
    let id = kept(&world.build([""; 0]).status(1).run().stderr);
    for words in [vec!["shell", &id], vec!["shell", "--at", "2", "."]] {
        let mut terminal = Terminal::start(world, &words);
        terminal.wait_for("comes back");
        terminal.keys(&format!("(exec sleep 1000) & : {mark}; MARK={mark} setsid sleep 1000 & echo u''p\n"));
        terminal.wait_for("\nup");
        let rbuild = crate::kill::processes_with(&world.store().display().to_string());
        let pid =
            rbuild.iter().find(|line| line.contains(" shell ") && !line.contains("setsid")).expect("it runs");
        let pid: i32 = pid.split(' ').next().unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        terminal.end();
        crate::kill::nothing_runs(&mark, "a killed shell");
        crate::kill::nothing_is_mounted(world.path(), "a killed shell");
    }
    // The session is there as it was, and nobody is in it.
    world.rbuild(["shell", &id]).stdin("echo fine").stdout("fine\n").run();
}

#[test]
fn a_killed_shell_leaves_nothing() {
    if !crate::support::is_root() {
        skip!("only root can build as root");
    }
    killed(&World::new());
}

#[test]
fn a_killed_shell_of_an_ordinary_user_leaves_nothing() {
    match Account::with_ranges() {
        Ok(account) => killed(&World::of(account)),
        Err(why) => skip!("{why}"),
    }
}

#[test]
fn options_behind_the_image_are_told_where_they_belong() {
    let world = World::new();
    let registry = busybox_registry();
    let image = format!("{}/busybox", registry.host());
    let told = "options of rbuild go before the image";
    for (words, right) in [("-it", "rbuild run -it"), ("--rm -it sh", "rbuild run --rm -it")] {
        let ran = world.rbuild(["run", &image]).args(words.split(' ')).status(127).run();
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("`{right} {image} …`")), "{}", ran.stderr);
    }
    // Here they are what the entrypoint is given, or another program is missing.
    let ran = world.rbuild(["run", &image, "nosuchprogram", "-it"]).status(127).run();
    assert!(!ran.stderr.contains(told), "{}", ran.stderr);
    world.rbuild(["run", "--entrypoint", "echo", &image, "-it"]).stdout("-it\n").run();
    let ran = world.rbuild(["run", "--entrypoint", "/nosuchprogram", &image, "-it"]).status(127).run();
    assert!(!ran.stderr.contains(told), "{}", ran.stderr);
}
