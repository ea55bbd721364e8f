//! Ctrl-C: every step is asked to end, then made to, and the store is as good as before.

use crate::kill::{nothing_is_mounted, nothing_runs};
use crate::support::accounts::Account;
use crate::support::base::busybox_registry;
use crate::support::program::World;
use crate::support::skip;
use crate::support::terminal::Terminal;

/// Two steps at once: one that tidies up when it is asked to end, one that does not want to.
fn interrupted(world: &World) {
    let registry = busybox_registry();
    let mark = format!("rbuild-interrupt-{}-{}", std::process::id(), world.account().uid);
    let cache = "--mount=type=cache,target=/seen";
    world.dockerfile(&format!(
        "FROM {host}/busybox AS polite\n\
         RUN {cache} : {mark}; trap 'echo asked >/seen/asked; exit 1' TERM; touch /seen/one; \
             while true; do sleep 0.05; done\n\
         FROM {host}/busybox AS stubborn\n\
         RUN {cache} : {mark}; trap '' TERM INT HUP; setsid sleep 1000 & \
             while [ ! -e /seen/one ]; do usleep 1000; done; echo both u''p; while true; do sleep 1000; done\n\
         FROM scratch\n\
         COPY --from=polite / /\n\
         COPY --from=stubborn / /\n",
        host = registry.host()
    ));
    let mut terminal = Terminal::start(world, &["--progress=plain", "."]);
    terminal.wait_for(" both up");
    terminal.keys("\u{3}");
    assert_eq!(terminal.end(), Some(130));
    assert!(terminal.shown.contains("interrupted"), "{}", terminal.shown);
    nothing_runs(&mark, "Ctrl-C");
    nothing_is_mounted(world.path(), "Ctrl-C");
    world.rbuild(["sessions", "-q"]).stdout("").run();
    world.dockerfile(&format!("FROM {}/busybox\nRUN {cache} cat /seen/asked >/asked\n", registry.host()));
    let ran = world.build([""; 0]).run();
    assert_eq!(world.images().image(&ran.digest()).files()["asked"].content, b"asked\n");
}

#[test]
fn root_presses_ctrl_c() {
    if !crate::support::is_root() {
        skip!("only root can build as root");
    }
    interrupted(&World::new());
}

#[test]
fn an_ordinary_user_presses_ctrl_c() {
    match Account::with_ranges() {
        Ok(account) => interrupted(&World::of(account)),
        Err(why) => skip!("{why}"),
    }
}

#[test]
fn a_user_with_a_single_id_presses_ctrl_c() {
    interrupted(&World::of(Account::without_ranges()));
}

/// A step that waits for a cache mount that another build has.
#[test]
fn waiting_for_a_cache_can_be_interrupted() {
    let (world, registry) = (World::new(), busybox_registry());
    let run = "RUN --mount=type=cache,sharing=locked,target=/c echo ha''s it; sleep 1000";
    world.dockerfile(&format!("FROM {}/busybox\n{run}\n", registry.host()));
    let mut first = Terminal::start(&world, &["--progress=plain", "."]);
    first.wait_for(" has it");
    let mut second = Terminal::start(&world, &["--progress=plain", "."]);
    // A first build does not say that it was not built before.
    second.wait_for("RUN --mount=type=cache");
    second.keys("\u{3}");
    assert_eq!(second.end(), Some(130));
    first.keys("\u{3}");
    assert_eq!(first.end(), Some(130));
}

#[test]
fn sigterm_ends_a_build_with_its_own_code() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // Nobody answers, so the build is under way until it is stopped.
    let url = format!("http://{}/", listener.local_addr().unwrap());
    for (signal, code) in [(rustix::process::Signal::TERM, 143), (rustix::process::Signal::INT, 130)] {
        let mut child = world.rbuild([&url]).spawn();
        let _asked = listener.accept().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}
