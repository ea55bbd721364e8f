//! What strangers wrote reaches a terminal only as text, and no password reaches anything.

use std::fs;

use rbuild::text::terminal::is_unsafe;

use crate::support::base::with_busybox;
use crate::support::http::{Reply, Server};
use crate::support::program::World;
use crate::support::terminal::Terminal;

const PASSWORD: &str = "geheim-7f3a";

#[test]
fn a_password_in_a_url_is_shown_nowhere() {
    let server = Server::start(|_| Reply::new(404, "no"));
    let url = format!("http://me:{PASSWORD}@{}/x", server.host());
    let world = World::new();
    world.dockerfile(&format!("FROM scratch\nLABEL from={url}\nADD {url} /\n"));
    for words in [
        &["build", "--progress=plain", "."] as &[&str],
        &["build", "--progress=json", "."],
        &["build", "--progress=quiet", "."],
        &["plan", "."],
        &["plan", "--format=json", "."],
        &["build", "--check", "."],
        &["logs"],
    ] {
        let ran = world.rbuild(words).any_status().any_stdout().run();
        let said = ran.stdout + &ran.stderr;
        assert!(!said.contains(PASSWORD), "{words:?}: {said}");
    }
    // Nor is it in files: of a build that fails, with its message, and of one that goes well.
    let file = |name: &str| world.path().join(name);
    let (report, trace, summary) = (file("r.html"), file("t.json"), file("s.md"));
    let written = |dockerfile: &str, status| {
        world.dockerfile(dockerfile);
        let words = ["--report", report.to_str().unwrap(), "--trace", trace.to_str().unwrap()];
        world.build(words).env("GITHUB_STEP_SUMMARY", &summary).status(status).run();
        for path in [&report, &trace, &summary] {
            let text = fs::read_to_string(path).unwrap();
            assert!(!text.contains(PASSWORD) && text.contains("://xxxxx"), "{}: {text}", path.display());
            fs::remove_file(path).unwrap();
        }
    };
    let failing = format!("FROM scratch\nLABEL from={url}\nADD {url} /\n");
    written(&failing, 1);
    written(&format!("FROM scratch\nLABEL from={url}\nCOPY Dockerfile /\n"), 0);
    world.dockerfile(&failing);
    let ran = world.build([""; 0]).status(1).run();
    assert!(ran.stderr.contains("3 | ADD http://xxxxx@"), "{}", ran.stderr);
    assert!(ran.stderr.contains("ADD http://xxxxx:xxxxx@"), "{}", ran.stderr);
    world.dockerfile(&format!("FROM scratch\nLABEL from={url}\n"));
    world.build(["-t", "app"]).run();
    let ran = world.rbuild(["history", "--no-trunc", "app"]).any_stdout().run();
    assert!(ran.stdout.contains("http://xxxxx:xxxxx@"), "{}", ran.stdout);
}

#[test]
fn nothing_acts_on_the_terminal() {
    let evil = "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2066}";
    let world = World::new();
    world.file(&format!("f{evil}"), "");
    for dockerfile in [
        format!("FROM scratch\nLABEL a=\"{evil}\" {evil}=b\nCOPY f* /\n"),
        format!("FROM scratch\nCOPY {evil} /\n"),
        format!("FROM scratch\n{evil} x\n"),
        format!("FROM {evil}\n"),
        format!("FROM scratch\nCOPY --from={evil} / /\n"),
        format!("FROM scratch\nUSER ${{x:?{evil}}}\n"),
        format!("FROM scratch\n# check=skip={evil}\nLABEL $a{evil}=1\n"),
    ] {
        world.dockerfile(&dockerfile);
        for words in [
            &["build", "-t", "app", "--progress=plain", "."] as &[&str],
            &["build", "-t", "app", "--progress=json", "."],
            &["plan", "."],
            &["plan", "--format=json", "."],
            &["build", "--check", "."],
        ] {
            let ran = world.rbuild(words).any_status().any_stdout().run();
            let said = ran.stdout + &ran.stderr;
            assert!(!said.contains(is_unsafe), "{words:?}: {said:?}");
        }
    }
    for words in [
        &["history", "app"] as &[&str],
        &["history", "--format=json", "app"],
        &["inspect", "app"],
        &["images"],
    ] {
        let ran = world.rbuild(words).any_stdout().run();
        assert!(!ran.stdout.contains(is_unsafe), "{words:?}: {:?}", ran.stdout);
    }
    // The image itself has what was written.
    let ran = world.rbuild(["inspect", "app"]).any_stdout().run();
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(told[0]["Config"]["Labels"].to_string().contains('\u{9b}'), "{told}");
    assert!(fs::read_dir(world.context()).unwrap().count() > 1);
}

/// Whatever a template asks for, a terminal gets text; a pipe gets what is there.
#[test]
fn a_terminal_is_shown_no_escape_of_a_template() {
    let evil = "\u{1b}]0;x\u{7}\u{9b}31m\u{202e}";
    let world = World::new();
    world.dockerfile(&format!("FROM scratch\nLABEL a=\"<{evil}>\"\n"));
    world.build(["-t", "app"]).run();
    world.file(&format!("f{evil}"), "");
    let template = "{{.Config.Labels.a}} end";
    let mut terminal = Terminal::start(&world, &["inspect", "-f", template, "app"]);
    assert_eq!(terminal.end(), Some(0));
    let shown = terminal.shown.replace('\r', "");
    assert!(!shown.contains(is_unsafe) && shown.contains("> end"), "{shown:?}");
    let ran = world.rbuild(["inspect", "-f", template, "app"]).any_stdout().run();
    assert_eq!(ran.stdout, format!("<{evil}> end\n"));
    for words in [&["context", "."] as &[&str], &["context", "--why", &format!("f{evil}"), "."]] {
        let ran = world.rbuild(words).any_stdout().run();
        assert!(!ran.stdout.contains(is_unsafe) && ran.stdout.contains("f\u{fffd}"), "{:?}", ran.stdout);
    }
}

#[test]
fn a_log_is_shown_without_escapes_and_piped_as_it_is() {
    let registry = crate::support::base::busybox_registry();
    let world = World::new();
    world.dockerfile(&format!(
        "FROM {}/busybox\nRUN printf 'a\\033[2Jb\\n\\342\\200\\256c\\n10%%\\rdone\\n'\n",
        registry.host()
    ));
    world.build([""; 0]).run();
    let ran = world.rbuild(["logs", "last"]).any_stdout().run();
    assert!(ran.stdout.ends_with("a\u{1b}[2Jb\n\u{202e}c\n10%\rdone\n"), "{:?}", ran.stdout);
    let mut terminal = Terminal::start(&world, &["logs", "last"]);
    assert_eq!(terminal.end(), Some(0));
    assert!(terminal.shown.ends_with("ab\r\nc\r\ndone\r\n"), "{:?}", terminal.shown);
}

/// What a command stands on is unpacked once, before it: with lines of its own, and not as a part of its time.
#[test]
fn unpacking_is_told_and_takes_no_time_of_the_command() {
    let world = World::new();
    let noise: Vec<u8> =
        (0..20_000_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    world.file("noise", noise);
    with_busybox(&world, "COPY noise /\nRUN echo said\n");
    let events = |words: &[&str]| -> Vec<serde_json::Value> {
        let ran = world.rbuild([&["--progress=json"], words, &["."]].concat()).any_stdout().run();
        ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let told = events(&[]);
    let log = told.iter().position(|event| event["event"] == "log").unwrap();
    let step = told[log]["step"].clone();
    let of_step: Vec<&serde_json::Value> = told.iter().filter(|event| event["step"] == step).collect();
    let mut kinds: Vec<&str> = of_step.iter().map(|event| event["event"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds.retain(|kind| *kind != "missed");
    assert_eq!(kinds, ["started", "unpacking", "unpacked", "log", "finished"]);
    let of_kind = |kind: &str| of_step.iter().filter(move |event| event["event"] == kind).collect::<Vec<_>>();
    let (first, last) = (of_kind("unpacking")[0], *of_kind("unpacking").last().unwrap());
    assert_eq!((first["done"].as_u64(), &last["done"]), (Some(0), &last["total"]), "{first} {last}");
    let number = |event: &serde_json::Value, name: &str| event[name].as_u64().unwrap();
    let (started, unpacked, finished) =
        (of_kind("started")[0], of_kind("unpacked")[0], of_kind("finished")[0]);
    let (apart, in_all) = (
        number(unpacked, "took_ms") + number(finished, "took_ms"),
        number(finished, "at_ms") - number(started, "at_ms"),
    );
    // Milliseconds are cut off.
    assert!(apart <= in_all + 2, "{unpacked} {finished} {in_all}");
    assert!(events(&["--no-cache"]).iter().all(|event| event["event"] != "unpacking"), "the trees are there");
}
