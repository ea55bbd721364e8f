//! `rbuild explain`, budgets, and what a build says in the end.

use std::fs;

use crate::support::base::busybox_registry;
use crate::support::http::{Ending, Reply, Server};
use crate::support::program::{Ran, World};
use crate::support::registry::Registry;

struct Project {
    world: World,
    registry: Registry,
}

const MEGABYTES: &str = "dd if=/dev/urandom bs=1000000 count=";

impl Project {
    fn new() -> Self {
        Self { world: World::new(), registry: busybox_registry() }
    }

    fn build(&self, steps: &str, more: &[&str]) -> Ran {
        self.world.dockerfile(&format!("FROM {}/busybox\n{steps}\n", self.registry.host()));
        self.world.build(["-t", "app"].iter().chain(more)).remarks().any_status().run()
    }

    fn explain(&self, words: &[&str]) -> String {
        self.world.rbuild(["explain"].iter().chain(words)).any_stdout().run().stdout
    }
}

/// An id has another build each time.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| word.len() == 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split_inclusive([' ', '\n', ':']);
    let word = |word: &str| match is_id(word.trim_end_matches([' ', '\n', ':'])) {
        true => word.replace(word.trim_end_matches([' ', '\n', ':']), "ID"),
        false => word.to_owned(),
    };
    words.map(word).collect()
}

#[test]
fn a_step_is_explained_with_what_changed_and_what_followed() {
    let project = Project::new();
    project.world.file("a", "one");
    let steps = "COPY a /a\nRUN mkdir /made; cat /a >/made/b";
    project.build(steps, &[]);
    let number = |title: &str| {
        let words = ["history", "inspect", "--format", "raw"];
        let record = project.world.rbuild(words).any_stdout().run().stdout;
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let steps = record["steps"].as_array().unwrap();
        let found = steps.iter().find(|step| step["title"].as_str().unwrap().starts_with(title)).unwrap();
        found["number"].to_string()
    };
    let first = project.explain(&[&number("RUN")]);
    assert!(first.contains("RUN mkdir /made") && first.contains("there was no earlier build"), "{first}");
    project.world.file("a", "two");
    project.build(steps, &[]);
    let (copy, run) = (number("COPY"), number("RUN"));
    let told = project.explain(&[&copy]);
    assert!(told.contains("not cached: a changed\n  a: ") && told.contains(" → "), "{told}");
    assert!(told.contains("because of it 1 more ran"), "{told}");
    let told = project.explain(&[&format!("#{run}"), "last"]);
    assert!(told.contains(&format!("it is cached again once #{copy} COPY a /a (line 2) is")), "{told}");
    assert!(
        told.contains("1 added, 0 changed, 0 removed; 3 B of files\n") && told.contains("  /made/"),
        "{told}"
    );
    let told = without_ids(&project.explain(&[]));
    assert!(told.contains("why steps ran\n") && told.contains("with a step that stands on it"), "{told}");
    let failed = project.world.rbuild(["explain", "99"]).status(1).run();
    assert!(failed.stderr.contains("has no step 99"), "{}", failed.stderr);
    // The same again: nothing ran, and there is nothing to say.
    let again = project.build(steps, &[]);
    assert!(!again.stderr.contains("critical path"), "{}", again.stderr);
    assert!(project.explain(&[&copy]).contains("cached: all that it reads was as in an earlier build"));
}

#[test]
fn a_path_is_explained_by_the_instructions_that_touched_it() {
    let project = Project::new();
    project.world.file("a", "12345");
    let steps = "COPY a /d/a\nRUN echo longer text >/d/a; echo x >/d/b\nRUN rm -r /d; echo y >/e";
    let digest = project.build(steps, &[]).digest();
    let told = without_ids(&project.explain(&["/d/a"]));
    assert_eq!(
        told,
        "/d/a in build ID\n  brought by #3 COPY a /d/a (line 2), 5 B\n  replaced by #4 RUN echo longer text >/d/a; echo x >/d/b (line 3), 12 B\n  \
         removed with /d by #5 RUN rm -r /d; echo y >/e (line 4)\n17 B of it ship in lower layers, and are never seen\n"
    );
    let told = project.explain(&["/d", &digest]);
    assert!(told.contains("12 B  1 changed") || told.contains("14 B  1 added, 1 changed"), "{told}");
    assert!(told.contains("1 removed  by #5"), "{told}");
    let failed = project.world.rbuild(["explain", "/ee", "app"]).status(1).run();
    assert!(
        failed.stderr.contains("no layer of app has `/ee`") && failed.stderr.contains("did you mean `/e`?"),
        "{}",
        failed.stderr
    );
    let failed = project.world.rbuild(["explain", "nothing"]).status(1).run();
    assert!(failed.stderr.contains("`nothing` is neither a build nor an image"), "{}", failed.stderr);
    let failed = project.world.rbuild(["explain", "app", "app"]).status(2).run();
    assert!(failed.stderr.contains("`app` is neither a step nor a path"), "{}", failed.stderr);
    // Without the record the image tells what it can.
    project.world.rbuild(["history", "rm", "--all"]).any_stdout().run();
    let told = project.explain(&["/d/a", "app"]);
    assert!(told.contains("brought by COPY a /d/a (line 2), 5 B"), "{told}");
    assert!(project.explain(&["app"]).starts_with("app: there is no record of its build here\n"));
}

#[test]
fn a_build_says_what_grew_and_what_ships_for_nothing() {
    let project = Project::new();
    project.build("RUN mkdir /big", &[]);
    let grown = project.build(&format!("RUN mkdir /big; {MEGABYTES}3 of=/big/file\nRUN rm /big/file"), &[]);
    let said: Vec<&str> = grown.stderr.lines().skip_while(|line| !line.starts_with("built ")).collect();
    assert!(said.iter().any(|line| line.starts_with("  +3.0 MB since build ")), "{said:?}");
    assert!(said.contains(&"  3.0 MB removed in #3 ship all the same in #2"), "{said:?}");
    let told = project.explain(&[]);
    for part in [
        "shipped, and never seen\n",
        "3.0 MB  of #2 RUN",
        "removed by #3 RUN rm /big/file (line 3), such as /big/file",
        "what to do\n",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    for quiet in [&["--advice=false", "--no-cache"][..], &["-q", "--no-cache"]] {
        let steps = format!("RUN {MEGABYTES}9 of=/x\nRUN rm /x");
        let ran = project.world.dockerfile(&format!("FROM {}/busybox\n{steps}\n", project.registry.host()));
        let ran = ran.build(quiet).remarks().any_stdout().run();
        assert!(
            !ran.stderr.contains(" since build ") && !ran.stderr.contains("ship all the same"),
            "{}",
            ran.stderr
        );
    }
    let ran =
        project.world.build(["--no-cache", "-t", "advised"]).env("RBUILD_ADVICE", "perhaps").status(2).run();
    assert!(ran.stderr.contains("`RBUILD_ADVICE=perhaps`: it is `true` or `false`"), "{}", ran.stderr);
    let listed = project.world.rbuild(["images"]).any_stdout().run().stdout;
    assert!(!listed.contains("advised"), "nothing was built: {listed}");
}

#[test]
fn sizes_say_what_they_are_of_and_two_builds_are_compared() {
    let project = Project::new();
    let steps: Vec<String> = (0..6).map(|n| format!("RUN echo {n} >/file{n}")).collect();
    project.build("RUN true", &[]);
    project.build(&steps.join("\n"), &[]);
    let told = project.explain(&[]);
    let size = told.lines().find(|line| line.starts_with("size: ")).expect(&told);
    assert!(size.contains(" compressed, ") && size.contains(" uncompressed, in "), "{size}");
    let list: Vec<&str> =
        told.lines().skip_while(|line| *line != "  uncompressed  compressed").skip(1).collect();
    assert!(
        list[0].starts_with("  ") && list[0].contains("B  ") && list[0].contains("  the base: "),
        "{told}"
    );
    assert_eq!(list[5], "  and 2 more", "{told}");
    let compared = told.lines().nth(1).unwrap();
    let is_of_steps = |line: &str| line.contains("s, ") && line.contains(" steps ran instead of ");
    assert!(compared.starts_with("against build ") && is_of_steps(compared), "{told}");
    let told = project.explain(&["--against", "last", "^1"]);
    let compared = told.lines().nth(1).unwrap();
    assert!(is_of_steps(compared) && compared.contains(" instead of 6, "), "{told}");
    // The same build is compared with nothing.
    assert!(!project.explain(&["--against", "last", "last"]).contains("against build"));
}

#[test]
fn who_breaks_a_budget_gets_no_name_and_an_exit_code() {
    let project = Project::new();
    let waste = format!("RUN {MEGABYTES}3 of=/x\nRUN {MEGABYTES}3 of=/x");
    let told = |ran: &Ran, status: i32, words: &str| {
        assert_eq!(ran.status, Some(status), "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    };
    let within = ["--max-size=20MB", "--max-waste=7MB", "--min-efficiency=0.3"];
    let ran = project.build(&waste, &["--max-size=5MB"]);
    told(&ran, 3, "and `--max-size` allows 5.0 MB");
    told(&ran, 3, "it has no name, and was neither written nor pushed; its steps are cached");
    assert!(!project.world.rbuild(["images"]).any_stdout().run().stdout.contains("app"));
    told(&project.build(&waste, &["--max-waste=5%"]), 3, "files in several layers waste 6.0 MB (");
    told(&project.build(&waste, &["--min-efficiency=99%"]), 3, "and `--min-efficiency` asks for 99.0 %");
    let ran = project.build(&waste, &[&within[..], &["--max-growth=1%"]].concat());
    told(&ran, 0, "note: `--max-growth` was not checked: there is nothing to compare with");
    let more = format!("{waste}\nRUN {MEGABYTES}2 of=/y");
    told(&project.build(&more, &["--max-growth=1MB"]), 3, "over budget: +2.0 MB (+");
    told(&project.build(&more, &["--max-growth=3MB"]), 0, "built ");
    told(
        &project.build(&more, &["--max-size=huge"]),
        2,
        "bad value `huge` for --max-size: write it as 400MB",
    );
    project.world.rbuild(["tag", "app", "old"]).run();
    let check = |words: &[&str], status: i32| {
        let ran = project.world.rbuild(["check-image"].iter().chain(words)).any_stdout().any_status().run();
        assert_eq!(ran.status, Some(status), "{}{}", ran.stdout, ran.stderr);
        ran
    };
    let ran = check(&[&["app"], &within[..], &["--max-growth=0%", "--growth-against=old"]].concat(), 0);
    assert!(
        ran.stdout.contains("max-growth      0.0 %    +0 B (+0.0 %) since old  kept\n"),
        "{}",
        ran.stdout
    );
    assert!(check(&["app", "--max-size", "1MB"], 3).stdout.contains("broken"));
    check(&["app"], 2);
    check(&["app", "--max-growth=1%"], 2);
}

/// What is only sent on counts, though the layers of its base are not here.
#[test]
fn budgets_hold_for_what_is_only_pushed() {
    let project = Project::new();
    let host = project.registry.host();
    project.world.dockerfile(&format!("FROM {host}/busybox\nCOPY --link <<x /bin/busybox\ncontent\nx\n"));
    let name = format!("{host}/app:1");
    let push = |more: &[&str]| {
        project.world.build(["--push", "-t", &name].iter().chain(more)).remarks().any_status().run()
    };
    let broken = |ran: Ran, words: &str| {
        assert_eq!(ran.status, Some(3), "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    };
    broken(push(&["--max-size=100kB"]), "and `--max-size` allows 100.0 kB");
    // Of the same size as itself.
    let ran = push(&["--max-size=100MB"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let same = push(&["--max-growth=0%", &format!("--growth-against=docker://{name}")]);
    assert_eq!(same.status, Some(0), "{}", same.stderr);
    broken(push(&["--max-waste=1kB"]), "files in several layers waste ");
    let kept = push(&["--max-waste=100%", "--min-efficiency=0"]);
    assert_eq!(kept.status, Some(0), "{}", kept.stderr);
    assert!(!kept.stderr.contains("was not checked"), "{}", kept.stderr);
}

/// Both sides of a comparison have all of their platforms.
#[test]
fn budgets_are_of_all_platforms_of_an_image_in_a_registry() {
    let project = Project::new();
    for machine in ["amd64", "arm64"] {
        project.world.file(&format!("{machine}/file"), machine.repeat(100));
    }
    project.world.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /\n");
    let name = format!("{}/multi:1", project.registry.host());
    let both = ["--push", "-t", &name, "--platform=linux/amd64,linux/arm64"];
    project.world.build(both).remarks().run();
    let place = format!("docker://{name}");
    let against = format!("--growth-against={place}");
    let same = project.world.build(both.iter().copied().chain(["--max-growth=0%", &against])).remarks();
    same.run();
    let check = ["check-image", &place, "--max-growth=0%", &against];
    let ran = project.world.rbuild(check).any_stdout().remarks().any_status().run();
    assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
    // One that is not of this machine is measured, too.
    let other = if cfg!(target_arch = "x86_64") { "linux/arm64" } else { "linux/amd64" };
    project.world.build(["--push", "-t", &name, "--platform", other]).remarks().run();
    let check = ["check-image", &place, "--max-size=1MB"];
    let ran = project.world.rbuild(check).any_stdout().remarks().any_status().run();
    assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
}

/// What may pass has an exit code of its own, and what does not has not.
#[test]
fn a_registry_that_cannot_now_is_worth_another_try() {
    let world = World::new();
    let status = |name: &str, more: &[&str]| {
        world.dockerfile(&format!("FROM {name}\nRUN true\n"));
        world.build(["--retry=0"].iter().chain(more)).any_status().run()
    };
    let busy = Server::start(|_| Reply::new(503, "later"));
    let gone = {
        let server = Server::start(|_| Reply::new(200, ""));
        server.host()
    };
    let silent = Server::start(|_| Reply::new(200, "").ending(Ending::NoAnswer));
    let unknown = Server::start(|_| Reply::new(404, ""));
    for (host, expected) in [(busy.host(), 75), (gone.clone(), 75), (silent.host(), 75), (unknown.host(), 1)]
    {
        let ran = status(&format!("{host}/x"), &[]);
        assert_eq!(ran.status, Some(expected), "{}", ran.stderr);
    }
    for (host, expected) in [(&gone, 75), (&unknown.host(), 1)] {
        let pulled = world.rbuild(["pull", &format!("{host}/x")]).any_stdout().any_status().run();
        assert_eq!(pulled.status, Some(expected), "{}", pulled.stderr);
    }
    world.dockerfile(&format!("FROM scratch\nADD http://{}/file /\n", busy.host()));
    assert_eq!(world.build([""; 0]).any_status().run().status, Some(75));
    // What is told besides may not pass.
    world.dockerfile("FROM scratch\nCOPY none /\n");
    assert_eq!(world.build([""; 0]).any_status().run().status, Some(1));
    // A push is as good.
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let name = format!("{gone}/x:1");
    let ran = world.build(["--push", "--retry=0", "-t", &name]).remarks().any_status().run();
    assert_eq!(ran.status, Some(75), "{}", ran.stderr);
}

#[test]
fn jobs_get_folded_logs_and_a_summary() {
    let project = Project::new();
    project.world.dockerfile(&format!(
        "FROM {}/busybox\nRUN echo '::warning::x'; echo b\nENV A='|<b>'\n",
        project.registry.host()
    ));
    let summary = project.world.path().join("summary.md");
    fs::write(&summary, "before\n").unwrap();
    let ran = project
        .world
        .build(["-t", "app:1"])
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", &summary)
        .remarks()
        .run();
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("::group::#2 [2/3] RUN echo")).expect(&ran.stderr);
    let end = lines[at..].iter().position(|line| *line == "::endgroup::").expect(&ran.stderr) + at;
    assert!(lines[at..end].iter().any(|line| line.ends_with(" ::warning::x")), "{lines:?}");
    assert!(lines.iter().all(|line| !line.starts_with("::warning")), "{lines:?}");
    assert!(lines[end + 1].starts_with("#2 DONE "), "{lines:?}");
    let text = fs::read_to_string(&summary).unwrap();
    let digest = ran.digest();
    assert!(text.starts_with("before\n### context\n\n"), "{text}");
    for part in [
        &format!("`{digest}` as `"),
        "| `[2/3] RUN echo '::warning::x'; echo b` | ran | ",
        "\\|<b>",
        "` | configuration |",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Nor is it a command where the message repeats it.
    let steps = "RUN echo '##[endgroup]'; echo ' ::error::x'; exit 9";
    project.world.dockerfile(&format!("FROM {}/busybox\n{steps}\n", project.registry.host()));
    let ran = project.world.build(["-t", "app:1"]).env("GITHUB_ACTIONS", "true").remarks().status(1).run();
    assert!(ran.stderr.contains(" : :error::x\n") && !ran.stderr.contains("##["), "{}", ran.stderr);
    assert!(!ran.stderr.lines().any(|line| line.trim_start().starts_with("::error")), "{}", ran.stderr);
    // One that failed has a summary, too; where docker's own action makes one, there is no second.
    let failing = |more: &[(&str, &str)]| {
        fs::write(&summary, "").unwrap();
        let build = project.world.build(["-t", "app:1"]).env("GITHUB_STEP_SUMMARY", &summary);
        more.iter().fold(build, |build, (name, value)| build.env(name, value)).remarks().status(1).run();
        fs::read_to_string(&summary).unwrap()
    };
    let text = failing(&[]);
    for part in ["**Failed** after ", "(`Dockerfile`, line 2)", "RUN echo '##[endgroup]'", "| **failed** | "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let action = ("GITHUB_ACTION_REPOSITORY", "docker/build-push-action");
    assert_eq!(failing(&[action]), "");
    assert!(failing(&[action, ("DOCKER_BUILD_SUMMARY", "false")]).contains("**Failed**"));
    project.world.dockerfile(&format!("FROM {}/busybox\nRUN true; echo b\n", project.registry.host()));
    let ran = project.world.build(["--no-cache"]).env("GITLAB_CI", "true").remarks().run();
    assert!(
        ran.stderr.contains("section_start:") && ran.stderr.contains(":rbuild_2[collapsed=true]\r"),
        "{:?}",
        ran.stderr
    );
}
